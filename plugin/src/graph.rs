//! Computing a graph: ours are turned into custom operations, and the CPU backend runs the whole.

use std::ffi::{c_int, c_void};

use unweight::kernel::{Order, prepared_bytes};

use crate::buffer;
use crate::device::{self, Source};
use crate::experts;
use crate::ggml::*;
use crate::host::{self, text};
use crate::job::{Job, Scratch, Task};
use crate::log;
use crate::matmul::{Multiply, Prepare, Shared};
use crate::pool::Weight;
use crate::rows::GetRows;
use crate::view::View;

/// One backend, as ggml's scheduler holds it: used by one thread at a time.
pub struct Backend {
    cpu: ggml_backend_t,
    prepared: Scratch,
}

impl Backend {
    /// `None` if the program has no CPU backend.
    pub fn new() -> Option<Self> {
        let device = host::cpu();
        if device.is_null() {
            return None;
        }
        // SAFETY: a device of ggml's; no parameters.
        let cpu = unsafe { ggml_backend_dev_init(device, std::ptr::null()) };
        (!cpu.is_null()).then(|| Self { cpu, prepared: Scratch::default() })
    }

    pub fn set_threads(&mut self, threads: c_int) {
        // SAFETY: this is the type of the function of this name, by ggml-backend.h.
        let set: ggml_backend_set_n_threads_t =
            unsafe { std::mem::transmute(host::cpu_function(c"ggml_backend_set_n_threads")) };
        if let Some(set) = set {
            // SAFETY: `cpu` is a CPU backend.
            unsafe { set(self.cpu, threads) }
        }
    }

    pub fn set_abort_callback(&mut self, callback: ggml_abort_callback, data: *mut c_void) {
        // SAFETY: this is the type of the function of this name, by ggml-backend.h.
        let set: ggml_backend_set_abort_callback_t =
            unsafe { std::mem::transmute(host::cpu_function(c"ggml_backend_set_abort_callback")) };
        if let Some(set) = set {
            // SAFETY: `cpu` is a CPU backend.
            unsafe { set(self.cpu, callback, data) }
        }
    }

    /// Computes the graph; its nodes are the same before and after.
    ///
    /// # Safety
    /// The graph must be ready for computation, all its tensors alive, and used by nobody else meanwhile.
    pub unsafe fn compute(&mut self, graph: &ggml_cgraph) -> ggml_status {
        // SAFETY: a graph has as many nodes as it says, and they are alive.
        let nodes = unsafe { std::slice::from_raw_parts(graph.nodes, graph.n_nodes as usize) };
        // SAFETY: as above.
        let plan = unsafe { Plan::of(nodes, &mut self.prepared) };
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
        let status = unsafe { ggml_backend_graph_compute(self.cpu, &mut view) };
        if status == GGML_STATUS_SUCCESS && plan.jobs.iter().any(|job| job.failed()) {
            log::error("a graph asks for rows or experts that the model does not have");
            return GGML_STATUS_FAILED;
        }
        status
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: made in `new`, freed once.
        unsafe { ggml_backend_free(self.cpu) }
    }
}

/// A graph with our nodes turned into custom operations; when it is dropped they are as before.
struct Plan<'a> {
    nodes: Vec<*mut ggml_tensor>,
    /// Boxed: the nodes hold pointers to them.
    #[allow(clippy::vec_box)]
    jobs: Vec<Box<Job<'a>>>,
    /// Nodes that the original does not have.
    #[allow(clippy::vec_box)]
    added: Vec<Box<ggml_tensor>>,
    changed: Vec<Changed>,
}

struct Changed {
    node: *mut ggml_tensor,
    op: ggml_op,
    params: [i32; 16],
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        for &Changed { node, op, params } in &self.changed {
            // SAFETY: the node is alive as long as the graph.
            unsafe {
                (*node).op = op;
                (*node).op_params = params;
            }
        }
    }
}

impl<'a> Plan<'a> {
    /// # Safety
    /// The nodes must be alive and used by nobody else, and `prepared` stay where it is, while the plan is.
    unsafe fn of(nodes: &[*mut ggml_tensor], prepared: &mut Scratch) -> Result<Self, String> {
        // SAFETY: nodes are alive.
        let most = nodes.iter().map(|&node| unsafe { prepared_for(&*node) }).max().unwrap_or(0);
        let shared = Shared::new(prepared.bytes(most));
        let mut plan = Self {
            nodes: Vec::with_capacity(nodes.len() + nodes.len() / 4),
            jobs: Vec::new(),
            added: Vec::new(),
            changed: Vec::new(),
        };
        // The vectors that stand in `prepared` at this point of the graph.
        let mut standing = None;
        for &node in nodes {
            // SAFETY: nodes are alive.
            match unsafe { carrier(&*node) } {
                Carrier::None => plan.nodes.push(node),
                Carrier::Copied(name) => {
                    return Err(format!(
                        "tensor {name:?} is compressed and can only be used where it is mapped: load the model with mmap \
                         (its default; -lm mmap or mmap+mlock)"
                    ));
                }
                // SAFETY: as above.
                Carrier::Mapped(weight) => unsafe { plan.take(node, weight, shared, &mut standing)? },
            }
        }
        Ok(plan)
    }

    /// # Safety
    /// As for [`Plan::of`]; `node` is a product or look-up on `weight`.
    unsafe fn take(
        &mut self,
        node: *mut ggml_tensor,
        weight: &'a Weight,
        shared: Shared,
        standing: &mut Option<(*mut ggml_tensor, Order)>,
    ) -> Result<(), String> {
        // SAFETY: nodes and their sources are alive.
        let (op, sources, view) = unsafe { ((*node).op, (*node).src, View::of(&*node)) };
        // SAFETY: as above; these operations have two sources.
        let [matrix, second] = unsafe { [View::of(&*sources[0]), View::of(&*sources[1])] };
        let (before, task) = match op {
            GGML_OP_GET_ROWS => (None, GetRows::new(weight, &matrix, second, view).map(Task::GetRows)),
            GGML_OP_MUL_MAT => {
                let order = host::orders().product(matrix.ne[1], second.ne[1]);
                let several = second.ne[1] > 1;
                let fresh = several && *standing != Some((sources[1], order));
                if fresh {
                    *standing = Some((sources[1], order));
                }
                let before = fresh.then_some(Task::Prepare(Prepare { order, x: second, prepared: shared }));
                let multiply = Multiply::new(weight, &matrix, second, view, order, several.then_some(shared));
                (before, multiply.map(Task::Multiply))
            }
            GGML_OP_MUL_MAT_ID => {
                *standing = None;
                // SAFETY: this operation has three sources.
                let ids = unsafe { View::of(&*sources[2]) };
                let steps =
                    experts::steps(weight, &matrix, [second, ids, view], host::orders().experts(), shared);
                steps.map_or((None, None), |(prepare, multiply)| {
                    (Some(Task::PrepareExperts(prepare)), Some(Task::MultiplyExperts(multiply)))
                })
            }
            _ => (None, None),
        };
        // SAFETY: names end in NUL.
        let task = task.ok_or_else(|| {
            format!("node {:?}: its shapes do not fit", unsafe { text((*node).name.as_ptr()) })
        })?;
        if let Some(before) = before {
            // SAFETY: the node is alive; its copy differs in what it runs.
            let mut added = Box::new(unsafe { *node });
            self.install(before, &mut added);
            self.nodes.push(&mut *added);
            self.added.push(added);
        }
        // SAFETY: the node is alive and ours to change until the plan is dropped.
        let node = unsafe { &mut *node };
        self.changed.push(Changed { node, op: node.op, params: node.op_params });
        self.install(task, node);
        self.nodes.push(node);
        Ok(())
    }

    fn install(&mut self, task: Task<'a>, node: &mut ggml_tensor) {
        let job = Box::new(Job::new(task));
        job.install(node);
        self.jobs.push(job);
    }
}

/// What a node computes on.
enum Carrier<'a> {
    None,
    /// A carrier that was not mapped; its name.
    Copied(String),
    Mapped(&'a Weight),
}

/// # Safety
/// `node` and its sources must be alive.
unsafe fn carrier<'a>(node: &ggml_tensor) -> Carrier<'a> {
    if ![GGML_OP_MUL_MAT, GGML_OP_MUL_MAT_ID, GGML_OP_GET_ROWS].contains(&node.op) || node.ne.contains(&0) {
        return Carrier::None;
    }
    // SAFETY: sources are alive.
    let Some(matrix) = (unsafe { node.src[0].as_ref() }) else { return Carrier::None };
    match device::source(matrix) {
        Source::Mapped | Source::Copied if device::is_carrier(matrix.type_) => {
            // SAFETY: the tensor is alive, and its buffer longer than the graph.
            match unsafe { buffer::weight(matrix) } {
                Some(weight) => Carrier::Mapped(weight),
                // SAFETY: names end in NUL.
                None => Carrier::Copied(unsafe { text(matrix.name.as_ptr()) }.into_owned()),
            }
        }
        _ => Carrier::None,
    }
}

/// Bytes of prepared vectors that a node needs.
///
/// # Safety
/// `node` and its sources must be alive.
unsafe fn prepared_for(node: &ggml_tensor) -> usize {
    // SAFETY: the caller's promise; these operations have two sources.
    let x = || unsafe { View::of(&*node.src[1]) };
    match unsafe { carrier(node) } {
        Carrier::Mapped(_) if node.op == GGML_OP_MUL_MAT => {
            x().columns() as usize * prepared_bytes(x().ne[0])
        }
        Carrier::Mapped(_) if node.op == GGML_OP_MUL_MAT_ID => {
            View::of(node).columns() as usize * prepared_bytes(x().ne[0])
        }
        _ => 0,
    }
}
