//! The CPU backend that a scheduler has beside one of ours. What llama.cpp insists on computing there (attention, norms of small batches)
//! goes back and forth between the two many times a token, so they share their threads: it hands its graphs to the CPU backend within
//! ours. Only where ggml would start threads for every graph, and only while there are compressed weights.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::cpu::{self, Cpu};
use super::ggml::*;
use super::pool::Pool;

type Init = unsafe extern "C" fn(ggml_backend_dev_t, *const c_char) -> ggml_backend_t;
type Free = unsafe extern "C" fn(ggml_backend_t);

struct Neighbour {
    cpu: Arc<Mutex<Cpu>>,
    free: Free,
}

thread_local! {
    static AWAITED: RefCell<Weak<Mutex<Cpu>>> = const { RefCell::new(Weak::new()) };
}

/// What the CPU device has made backends with before [`share_with_next`] was called.
static INIT: OnceLock<Init> = OnceLock::new();

/// By the address of the backend.
fn neighbours() -> &'static Mutex<HashMap<usize, Neighbour>> {
    static NEIGHBOURS: OnceLock<Mutex<HashMap<usize, Neighbour>>> = OnceLock::new();
    NEIGHBOURS.get_or_init(Mutex::default)
}

/// The next CPU backend that this thread makes will compute on `cpu`: llama.cpp makes it right after ours.
pub fn share_with_next(cpu: &Arc<Mutex<Cpu>>) {
    if Pool::is_needed() && watch_device() {
        AWAITED.replace(Arc::downgrade(cpu));
    }
}

/// Makes a CPU backend that is nobody's neighbour.
pub fn make_alone<T>(make: impl FnOnce() -> T) -> T {
    let awaited = AWAITED.take();
    let made = make();
    AWAITED.replace(awaited);
    made
}

/// From now on the CPU device makes backends by way of [`init`]. False if it cannot.
fn watch_device() -> bool {
    static WATCHED: OnceLock<bool> = OnceLock::new();
    *WATCHED.get_or_init(|| {
        let device = cpu::device();
        // SAFETY: a device lives for ever; what it makes backends with is a word.
        let slot: &AtomicPtr<c_void> =
            unsafe { AtomicPtr::from_ptr((&raw mut (*device).iface.init_backend).cast()) };
        // SAFETY: what the slot holds is a function of this type, or null.
        let found: Option<Init> = unsafe { std::mem::transmute(slot.load(Ordering::Acquire)) };
        let Some(found) = found else { return false };
        // Whatever unloads this library would leave the device with a function that is gone.
        #[cfg(unix)]
        if !super::loader::pin() {
            return false;
        }
        INIT.set(found).is_ok() && {
            slot.store(init as *mut c_void, Ordering::Release);
            true
        }
    })
}

unsafe extern "C" fn init(device: ggml_backend_dev_t, params: *const c_char) -> ggml_backend_t {
    let Some(original) = INIT.get() else { return std::ptr::null_mut() };
    // SAFETY: ggml's own call, handed on.
    let backend = unsafe { original(device, params) };
    if let Some(cpu) = AWAITED.take().upgrade()
        && !backend.is_null()
    {
        // SAFETY: just made, and used by nobody yet.
        unsafe { adopt(backend, cpu) };
    }
    backend
}

/// # Safety
/// `backend` must be a CPU backend that nobody else uses.
unsafe fn adopt(backend: ggml_backend_t, cpu: Arc<Mutex<Cpu>>) {
    // SAFETY: the caller's promise.
    let iface = unsafe { &mut (*backend).iface };
    if let (Some(free), Some(_)) = (iface.free, iface.graph_compute) {
        let neighbour = Neighbour { cpu, free };
        neighbours().lock().unwrap_or_else(PoisonError::into_inner).insert(backend as usize, neighbour);
        iface.graph_compute = Some(compute);
        iface.free = Some(leave);
    }
}

unsafe extern "C" fn compute(backend: ggml_backend_t, graph: *mut ggml_cgraph) -> ggml_status {
    let run = || {
        let neighbours = neighbours().lock().unwrap_or_else(PoisonError::into_inner);
        let cpu = neighbours.get(&(backend as usize)).map(|neighbour| neighbour.cpu.clone());
        drop(neighbours);
        let cpu = cpu?;
        let mut cpu = cpu.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: ggml calls this with a graph that is ready.
        Some(unsafe { cpu.compute(&mut *graph) })
    };
    catch_unwind(AssertUnwindSafe(run)).ok().flatten().unwrap_or(GGML_STATUS_FAILED)
}

unsafe extern "C" fn leave(backend: ggml_backend_t) {
    let mut neighbours = neighbours().lock().unwrap_or_else(PoisonError::into_inner);
    let neighbour = neighbours.remove(&(backend as usize));
    drop(neighbours);
    if let Some(neighbour) = neighbour {
        // SAFETY: ggml's own call, handed on.
        unsafe { (neighbour.free)(backend) };
    }
}
