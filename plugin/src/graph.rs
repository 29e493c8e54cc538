//! Computing a graph: what touches compressed weights is turned into custom operations, and the CPU backend runs the whole.

use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use unweight::kernel::{Numbers, Order, prepared_bytes};

use crate::host::cpu::{self, Cpu};
use crate::host::ggml::*;
use crate::host::orders::Product;
use crate::host::text::name;
use crate::host::{log, measured, neighbour};
use crate::ops::experts;
use crate::ops::job::{Job, Task};
use crate::ops::matmul::{Multiply, Prepare};
use crate::ops::prepared::Shared;
use crate::ops::rows::GetRows;
use crate::ops::scratch::Scratch;
use crate::ops::spell::{Spell, spelled, spelled_bytes};
use crate::ops::view::View;
use crate::ops::way::{Way, is_view, way};
use crate::weights::{Rows, clear_refusal, root, shown};

/// Where what is spelled out of one source begins in the room for all.
const SPELLED_ALIGNMENT: usize = 64;

/// One backend, as ggml's scheduler holds it: used by one thread at a time.
pub struct Backend {
    cpu: Arc<Mutex<Cpu>>,
    /// That of `cpu`, for what need not wait until it has computed.
    inner: ggml_backend_t,
    prepared: Scratch,
    spelled: Scratch,
}

impl Backend {
    /// `None` if the program has no CPU backend.
    pub fn new() -> Option<Self> {
        let cpu = Cpu::new()?;
        Some(Self {
            inner: cpu.backend(),
            cpu: Arc::new(Mutex::new(cpu)),
            prepared: Scratch::default(),
            spelled: Scratch::default(),
        })
    }

    pub fn set_threads(&mut self, threads: c_int) {
        self.cpu().set_threads(threads);
    }

    pub fn set_abort_callback(&mut self, callback: ggml_abort_callback, data: *mut c_void) {
        // SAFETY: a CPU backend, alive as long as `cpu` is.
        unsafe { cpu::set_abort_callback(self.inner, callback, data) }
    }

    /// Has the CPU backend that this thread makes next share the threads of this one.
    pub fn share_threads_with_next(&self) {
        neighbour::share_with_next(&self.cpu);
    }

    fn cpu(&self) -> MutexGuard<'_, Cpu> {
        self.cpu.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes the graph; its nodes are the same before and after.
    ///
    /// # Safety
    /// The graph must be ready for computation, all its tensors alive, and used by nobody else meanwhile.
    pub unsafe fn compute(&mut self, graph: &ggml_cgraph) -> ggml_status {
        // What was refused on this thread was another graph.
        clear_refusal();
        let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a graph has as many nodes as it says, and they are alive.
        let nodes = unsafe { std::slice::from_raw_parts(graph.nodes, graph.n_nodes as usize) };
        // SAFETY: as above.
        let plan = unsafe { Plan::of(nodes, &mut self.prepared, &mut self.spelled) };
        let mut plan = match plan {
            Ok(plan) => plan,
            Err(cause) => {
                log::error(&cause);
                return GGML_STATUS_FAILED;
            }
        };
        // As ggml_graph_view() makes it: what fused operations look up is still the original's.
        let mut view = ggml_cgraph {
            size: 0,
            n_nodes: plan.nodes.len() as c_int,
            n_leafs: 0,
            nodes: plan.nodes.as_mut_ptr(),
            leafs: std::ptr::null_mut(),
            uid: 0,
            ..*graph
        };
        // SAFETY: every node of the view is alive, and so are the jobs until the plan is dropped.
        let status = unsafe { cpu.compute(&mut view) };
        if status == GGML_STATUS_SUCCESS && plan.jobs.iter().any(|job| job.failed()) {
            log::error("a graph asks for rows or experts that the model does not have");
            return GGML_STATUS_FAILED;
        }
        status
    }
}

/// A graph with our nodes turned into custom operations; when it is dropped they are as before.
struct Plan<'a> {
    nodes: Vec<*mut ggml_tensor>,
    /// Boxed: the nodes hold pointers to them.
    #[allow(clippy::vec_box)]
    jobs: Vec<Box<Job<'a>>>,
    /// Nodes and sources that the original does not have.
    #[allow(clippy::vec_box)]
    added: Vec<Box<ggml_tensor>>,
    changed: Vec<Changed>,
    /// The vectors that stand prepared at this point of the graph.
    standing: Option<Standing>,
}

/// Vectors, and what they are prepared for.
type Standing = (*mut ggml_tensor, Order, Numbers);

/// What of a node is changed, as it was.
struct Changed {
    node: *mut ggml_tensor,
    op: ggml_op,
    params: [i32; 16],
    src: [*mut ggml_tensor; 10],
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        for &Changed { node, op, params, src } in &self.changed {
            // SAFETY: the node is alive as long as the graph.
            unsafe {
                (*node).op = op;
                (*node).op_params = params;
                (*node).src = src;
            }
        }
    }
}

impl<'a> Plan<'a> {
    /// # Safety
    /// The nodes must be alive and used by nobody else, and the scratch areas stay where they are, while the plan is.
    unsafe fn of(
        nodes: &[*mut ggml_tensor],
        prepared: &mut Scratch,
        spelled: &mut Scratch,
    ) -> Result<Self, String> {
        // SAFETY: nodes are alive.
        let ways = || nodes.iter().map(|&node| unsafe { way(&*node) }.map(|way| (node, way)));
        let (mut most_prepared, mut most_spelled) = (0, 0);
        for item in ways() {
            // SAFETY: as above.
            let (node, way) = item.map(|(node, way)| (unsafe { &*node }, way))?;
            most_prepared = most_prepared.max(prepared_for(node, &way));
            most_spelled =
                most_spelled.max(spelled_for(node, &way).ok_or("a weight too large to be spelled out")?);
        }
        let shared = Shared::new(prepared.bytes(most_prepared));
        let room =
            spelled.try_bytes(most_spelled).ok_or("no memory for weights that have to be spelled out")?;
        let mut plan = Self {
            nodes: Vec::with_capacity(nodes.len() + nodes.len() / 4),
            jobs: Vec::new(),
            added: Vec::new(),
            changed: Vec::new(),
            standing: None,
        };
        for item in ways() {
            match item? {
                (node, Way::Cpu) => {
                    // SAFETY: as above.
                    unsafe { plan.forget_written(&*node) };
                    plan.nodes.push(node);
                }
                // SAFETY: as above; these are the node's weights.
                (node, Way::Kernel(rows)) => unsafe { plan.take(node, rows, shared)? },
                // SAFETY: as above.
                (node, Way::Spelled) => unsafe { plan.spell_out(node, room) },
            }
        }
        Ok(plan)
    }

    /// Vectors that a node of the CPU's writes over no longer stand prepared.
    ///
    /// # Safety
    /// The standing vectors must be alive.
    unsafe fn forget_written(&mut self, node: &ggml_tensor) {
        // SAFETY: the caller's promise.
        let writes = |standing: *mut ggml_tensor| unsafe { std::ptr::eq(root(&*standing), root(node)) };
        if !is_view(node.op) && self.standing.is_some_and(|(standing, ..)| writes(standing)) {
            self.standing = None;
        }
    }

    /// A node for our kernels.
    ///
    /// # Safety
    /// As for [`Plan::of`]; `node` is a product or look-up on `rows`.
    unsafe fn take(&mut self, node: *mut ggml_tensor, rows: Rows<'a>, shared: Shared) -> Result<(), String> {
        // SAFETY: nodes and their sources are alive.
        let (op, sources, view) = unsafe { ((*node).op, (*node).src, View::of(&*node)) };
        // SAFETY: as above; these operations have two sources.
        let second = unsafe { View::of(&*sources[1]) };
        let (before, task) = match op {
            GGML_OP_GET_ROWS => (None, GetRows::new(rows, second, view).map(Task::GetRows)),
            GGML_OP_MUL_MAT => {
                let numbers = rows.weight.numbers();
                let order = measured::product(Product {
                    weights: numbers.original,
                    k: rows.weight.k(),
                    rows: rows.extents[0],
                    columns: second.ne[1],
                    is_contiguous: second.is_contiguous(),
                });
                let several = second.ne[1] > 1;
                let wanted = Some((sources[1], order, numbers));
                let fresh = several && self.standing != wanted;
                if fresh {
                    self.standing = wanted;
                }
                let before =
                    fresh.then_some(Task::Prepare(Prepare { order, numbers, x: second, prepared: shared }));
                let multiply = Multiply::new(rows, second, view, order, several.then_some(shared));
                (before, multiply.map(Task::Multiply))
            }
            GGML_OP_MUL_MAT_ID => {
                self.standing = None;
                // SAFETY: this operation has three sources.
                let ids = unsafe { View::of(&*sources[2]) };
                let steps = experts::steps(
                    rows,
                    [second, ids, view],
                    measured::experts(rows.weight.numbers().original, rows.weight.k(), second.ne[2]),
                    shared,
                );
                steps.map_or((None, None), |(prepare, multiply)| {
                    (Some(Task::PrepareExperts(prepare)), Some(Task::MultiplyExperts(multiply)))
                })
            }
            _ => (None, None),
        };
        // SAFETY: the node is alive.
        let task =
            task.ok_or_else(|| format!("node {:?}: its shapes do not fit", name(unsafe { &*node })))?;
        if let Some(before) = before {
            // SAFETY: as above.
            self.insert(before, unsafe { &*node });
        }
        // SAFETY: as above; it is ours to change until the plan is dropped.
        let node = unsafe { self.change(node) };
        self.install(task, node);
        self.nodes.push(node);
        Ok(())
    }

    /// A node for the CPU, with its weights spelled out in `room`.
    ///
    /// # Safety
    /// As for [`Plan::of`].
    unsafe fn spell_out(&mut self, node: *mut ggml_tensor, room: &mut [u8]) {
        // SAFETY: the node is alive and ours to change until the plan is dropped.
        let node = unsafe { self.change(node) };
        let mut room = room;
        for place in 0..node.src.len() {
            // SAFETY: sources are null or alive.
            let Some(source) = (unsafe { node.src[place].as_ref() }) else { continue };
            let Some(shown) = shown(source) else { continue };
            let bytes = spelled_bytes(&shown).map_or(0, |bytes| bytes.next_multiple_of(SPELLED_ALIGNMENT));
            let (own, rest) = room.split_at_mut(bytes);
            room = rest;
            let mut source = Box::new(spelled(source, &shown, own.as_mut_ptr()));
            self.insert(Task::Spell(Spell::new(&shown, own)), node);
            node.src[place] = &mut *source;
            self.added.push(source);
        }
        self.nodes.push(node);
    }

    /// Puts a task before `node`.
    fn insert(&mut self, task: Task<'a>, node: &ggml_tensor) {
        // A copy differs in what it runs.
        let mut added = Box::new(*node);
        self.install(task, &mut added);
        self.nodes.push(&mut *added);
        self.added.push(added);
    }

    /// Notes how a node is before it is changed.
    ///
    /// # Safety
    /// As for [`Plan::of`].
    unsafe fn change(&mut self, node: *mut ggml_tensor) -> &'a mut ggml_tensor {
        // SAFETY: the caller's promise.
        let node = unsafe { &mut *node };
        self.changed.push(Changed { node, op: node.op, params: node.op_params, src: node.src });
        node
    }

    fn install(&mut self, task: Task<'a>, node: &mut ggml_tensor) {
        let job = Box::new(Job::new(task));
        job.install(node);
        self.jobs.push(job);
    }
}

/// Bytes of prepared vectors that a node needs.
fn prepared_for(node: &ggml_tensor, way: &Way) -> usize {
    if !matches!(way, Way::Kernel(_)) {
        return 0;
    }
    // SAFETY: what our kernels compute has two sources, which are alive.
    let x = unsafe { View::of(&*node.src[1]) };
    match node.op {
        GGML_OP_MUL_MAT => x.columns() as usize * prepared_bytes(x.ne[0]),
        GGML_OP_MUL_MAT_ID => View::of(node).columns() as usize * prepared_bytes(x.ne[0]),
        _ => 0,
    }
}

/// Bytes of weights that have to be spelled out for a node; `None` if there are too many.
fn spelled_for(node: &ggml_tensor, way: &Way) -> Option<usize> {
    if !matches!(way, Way::Spelled) {
        return Some(0);
    }
    // SAFETY: sources are null or alive.
    let sources = node.src.iter().filter_map(|&source| unsafe { source.as_ref() });
    sources.filter_map(shown).try_fold(0usize, |sum, shown| {
        sum.checked_add(spelled_bytes(&shown)?.checked_next_multiple_of(SPELLED_ALIGNMENT)?)
    })
}
