//! What came with one load of a model, from its first buffer until one of them is freed.
//!
//! Without mmap, llama.cpp asks once for a buffer for a whole list of tensors. With mmap it passes the ranges of the file one after the
//! other on one thread, and then places tensors in them. So ranges belong together until the first tensor is placed. When all data are
//! there is said by nobody; but then the same thread makes a context, or a thread lays out a graph with the weights.
//! (docs/LOADER.md has the places in llama.cpp.)

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use super::bind::bind;
use super::kinds;
use super::weight::Bound;
use crate::host::ggml::{ggml_backend_buffer_t, ggml_tensor};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoadId(u64);

struct Load {
    /// Loads, and knows by itself when it has loaded all.
    thread: ThreadId,
    /// More ranges may follow.
    open: bool,
    buffers: Vec<ggml_backend_buffer_t>,
    tensors: Vec<*mut ggml_tensor>,
    state: State,
}

enum State {
    Unsettled,
    /// What the `extra` of compressed tensors points to; empty if none are.
    Settled(Box<[Bound]>),
    Refused(String),
}

// SAFETY: buffers and tensors are touched under the lock, while the buffers are not freed.
unsafe impl Send for Load {}

struct Loads {
    next: u64,
    all: BTreeMap<LoadId, Load>,
}

static LOADS: Mutex<Loads> = Mutex::new(Loads { next: 0, all: BTreeMap::new() });
/// Loads with compressed weights: what is asked for every operation, so without a lock.
static COMPRESSED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OPEN: Cell<Option<LoadId>> = const { Cell::new(None) };
}

fn loads() -> MutexGuard<'static, Loads> {
    LOADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True if compressed weights are ready for use in this process.
pub fn any_compressed() -> bool {
    COMPRESSED.load(Ordering::Acquire) > 0
}

/// True if there are compressed weights, or there may be: a load by another thread is settled only when they are used.
pub fn may_be_compressed() -> bool {
    let unsettled = |load: &Load| matches!(load.state, State::Unsettled) && !load.tensors.is_empty();
    any_compressed() || loads().all.values().any(unsettled)
}

/// The load that a mapped range belongs to.
pub fn of_range() -> LoadId {
    let mut loads = loads();
    if let Some(id) = OPEN.get()
        && loads.all.get(&id).is_some_and(|load| load.open)
    {
        return id;
    }
    let id = loads.begin(true);
    OPEN.set(Some(id));
    id
}

/// A load of its own.
pub fn of_list() -> LoadId {
    loads().begin(false)
}

impl Loads {
    fn begin(&mut self, open: bool) -> LoadId {
        let id = LoadId(self.next);
        self.next += 1;
        let thread = std::thread::current().id();
        let load = Load { thread, open, buffers: Vec::new(), tensors: Vec::new(), state: State::Unsettled };
        self.all.insert(id, load);
        id
    }
}

pub fn add_buffer(id: LoadId, buffer: ggml_backend_buffer_t) {
    if let Some(load) = loads().all.get_mut(&id) {
        load.buffers.push(buffer);
    }
}

/// A tensor has been placed in a buffer of this load.
pub fn add_tensor(id: LoadId, tensor: *mut ggml_tensor) {
    if let Some(load) = loads().all.get_mut(&id) {
        load.open = false;
        load.tensors.push(tensor);
    }
}

/// A buffer of this load is being freed: all of it is going. llama.cpp frees all buffers of a model in one go, when nobody uses it any more,
/// so nobody looks at what the tensors in the others are bound to.
pub fn end(id: LoadId) {
    if let Some(load) = loads().all.remove(&id)
        && load.is_compressed()
    {
        COMPRESSED.fetch_sub(1, Ordering::Release);
    }
}

/// Finds out what is compressed of a load whose data are all there.
///
/// # Errors
/// If it cannot be used, with the reason.
pub fn settle(id: LoadId) -> Result<(), String> {
    loads().all.get_mut(&id).map_or(Ok(()), Load::settle)
}

/// Settles what this thread has loaded; the reasons for what is refused of it, each once.
pub fn settle_own() -> Vec<String> {
    let own = std::thread::current().id();
    let mut loads = loads();
    let unsettled = |load: &&mut Load| load.thread == own && matches!(load.state, State::Unsettled);
    loads.all.values_mut().filter(unsettled).filter_map(|load| load.settle().err()).collect()
}

impl Load {
    fn is_compressed(&self) -> bool {
        matches!(&self.state, State::Settled(bound) if !bound.is_empty())
    }

    fn settle(&mut self) -> Result<(), String> {
        match &self.state {
            State::Settled(_) => return Ok(()),
            State::Refused(reason) => return Err(reason.clone()),
            State::Unsettled => {}
        }
        self.open = false;
        // SAFETY: the buffers are not freed, so the tensors are alive; the data are there, and a model's weights do not change.
        match unsafe { bind(&self.tensors) } {
            Ok(bound) => {
                let kind = if bound.is_empty() { kinds::numbers() } else { kinds::compressed() };
                for &buffer in &self.buffers {
                    // SAFETY: the buffers are not freed, and nobody computes on them yet.
                    unsafe { kinds::set(buffer, kind) };
                }
                self.state = State::Settled(bound);
                if self.is_compressed() {
                    COMPRESSED.fetch_add(1, Ordering::Release);
                }
                Ok(())
            }
            Err(reason) => {
                self.state = State::Refused(reason.clone());
                Err(reason)
            }
        }
    }
}
