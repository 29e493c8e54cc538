//! A custom operation: what ggml's threads run in place of one node of the graph.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use super::chunks::{Chunks, Thread};
use super::experts::{MultiplyExperts, PrepareExperts};
use super::matmul::{Multiply, Prepare};
use super::rows::GetRows;
use super::scratch::Scratch;
use super::spell::Spell;
use super::view::OutOfRange;
use crate::host::ggml::{GGML_N_TASKS_MAX, GGML_OP_CUSTOM, ggml_custom_op_t, ggml_tensor};

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
        let params = CustomOp {
            fun: Some(run),
            n_tasks: GGML_N_TASKS_MAX,
            userdata: std::ptr::from_ref(self).cast_mut().cast(),
        };
        node.op = GGML_OP_CUSTOM;
        const { assert!(size_of::<CustomOp>() <= size_of::<[i32; 16]>()) };
        // SAFETY: the parameters fit, as checked above; the bytes need no alignment.
        unsafe { node.op_params.as_mut_ptr().cast::<CustomOp>().write_unaligned(params) };
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
