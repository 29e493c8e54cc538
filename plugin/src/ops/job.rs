//! A custom operation: what ggml's threads run in place of one node of the graph.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::chunks::{Chunks, Thread};
use super::experts::{MultiplyExperts, PrepareExperts};
use super::matmul::{Multiply, Prepare};
use super::rows::GetRows;
use super::scratch::Scratch;
use super::spell::Spell;
use super::view::OutOfRange;
use crate::host::cpu::Cpu;
use crate::host::ggml::{
    GGML_N_TASKS_MAX, GGML_STATUS_SUCCESS, GGML_TYPE_F32, ggml_cgraph, ggml_custom_op_t, ggml_tensor,
};
use crate::host::layout::layout;

pub enum Task<'a> {
    Prepare(Prepare),
    Multiply(Multiply<'a>),
    PrepareExperts(PrepareExperts),
    MultiplyExperts(MultiplyExperts<'a>),
    GetRows(GetRows<'a>),
    Spell(Spell<'a>),
}

pub struct Job<'a> {
    task: Task<'a>,
    chunks: Chunks,
    failed: AtomicBool,
}

impl<'a> Job<'a> {
    pub fn new(task: Task<'a>) -> Self {
        Self { task, chunks: Chunks::default(), failed: AtomicBool::new(false) }
    }

    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Makes `node` run this job, which must stay where it is until the graph has been computed.
    pub fn install(&self, node: &mut ggml_tensor) {
        set_custom(node, run, std::ptr::from_ref(self).cast_mut().cast());
    }

    fn run(&self, thread: Thread) -> Result<(), OutOfRange> {
        SCRATCH.with_borrow_mut(|scratch| {
            match &self.task {
                Task::Prepare(task) => task.run(thread),
                Task::Multiply(task) => task.run(thread, &self.chunks, scratch),
                Task::PrepareExperts(task) => task.run(thread)?,
                Task::MultiplyExperts(task) => task.run(thread, &self.chunks, scratch)?,
                Task::GetRows(task) => task.run(thread, &self.chunks)?,
                Task::Spell(task) => task.run(thread, &self.chunks),
            }
            Ok(())
        })
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// `ggml_custom_op_params` of ggml-impl.h.
#[repr(C)]
struct CustomOp {
    fun: ggml_custom_op_t,
    n_tasks: c_int,
    userdata: *mut c_void,
}

/// Makes `node` call a function, on all threads.
fn set_custom(
    node: &mut ggml_tensor,
    fun: unsafe extern "C" fn(*mut ggml_tensor, c_int, c_int, *mut c_void),
    userdata: *mut c_void,
) {
    let params = CustomOp { fun: Some(fun), n_tasks: GGML_N_TASKS_MAX, userdata };
    node.op = layout().custom;
    const { assert!(size_of::<CustomOp>() <= size_of::<[i32; 16]>()) };
    // SAFETY: the parameters fit, as checked above; the bytes need no alignment.
    unsafe { node.op_params.as_mut_ptr().cast::<CustomOp>().write_unaligned(params) };
}

/// `GGML_TENSOR_FLAG_COMPUTE`, without which later versions pass a node by; earlier ones have no such flag.
const TO_BE_COMPUTED: i32 = 16;

/// True if the CPU backend of this program calls the function of a custom operation, once. Tried until it has.
pub fn custom_operations_run() -> bool {
    static RUN: AtomicBool = AtomicBool::new(false);
    if !RUN.load(Ordering::Relaxed) {
        RUN.store(Cpu::new().is_some_and(|mut cpu| runs_custom_operation(&mut cpu)), Ordering::Relaxed);
    }
    RUN.load(Ordering::Relaxed)
}

fn runs_custom_operation(cpu: &mut Cpu) -> bool {
    unsafe extern "C" fn count(_: *mut ggml_tensor, _: c_int, _: c_int, calls: *mut c_void) {
        // SAFETY: what `set_custom` was given, which outlives the computation.
        unsafe { &*calls.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
    }
    let (calls, mut result) = (AtomicUsize::new(0), 0f32);
    let mut node = ggml_tensor {
        type_: GGML_TYPE_F32,
        ne: [1; 4],
        nb: [size_of::<f32>(); 4],
        flags: TO_BE_COMPUTED,
        data: (&raw mut result).cast(),
        ..Default::default()
    };
    set_custom(&mut node, count, std::ptr::from_ref(&calls).cast_mut().cast());
    let mut nodes = [&raw mut node];
    let mut graph = ggml_cgraph { n_nodes: 1, nodes: nodes.as_mut_ptr(), ..Default::default() };
    cpu.set_threads(1);
    // SAFETY: the node and what it points to are alive.
    let status = unsafe { cpu.compute(&mut graph) };
    status == GGML_STATUS_SUCCESS && calls.into_inner() == 1
}

unsafe extern "C" fn run(_: *mut ggml_tensor, index: c_int, count: c_int, job: *mut c_void) {
    // SAFETY: `install` put a job there that outlives the computation.
    let job = unsafe { &*job.cast::<Job>() };
    let thread = Thread { index: index as u64, count: count as u64 };
    // A panic must not cross into C, and the other threads must go on: they wait for this one.
    let done = catch_unwind(AssertUnwindSafe(|| job.run(thread)));
    if !matches!(done, Ok(Ok(()))) {
        job.failed.store(true, Ordering::Relaxed);
    }
}
