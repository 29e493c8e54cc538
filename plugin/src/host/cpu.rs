//! The CPU backend of this program: what it can do, how it forms sums, and one of our own to hand graphs to.

use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;

use super::api::*;
use super::ggml::*;
use super::neighbour;
use super::orders::Orders;
use super::pool::Pool;
use super::text::text;

/// The CPU device; null if the program has registered none.
pub fn device() -> ggml_backend_dev_t {
    // SAFETY: no precondition.
    unsafe { ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) }
}

/// True if the CPU can compute the operation.
pub fn supports(op: &ggml_tensor) -> bool {
    let cpu = device();
    // SAFETY: a device, and a live operation.
    !cpu.is_null() && unsafe { ggml_backend_dev_supports_op(cpu, op) }
}

/// The type of ordinary memory.
pub fn buffer_type() -> ggml_backend_buffer_type_t {
    // SAFETY: no precondition.
    unsafe { ggml_backend_cpu_buffer_type() }
}

/// A function that the CPU backend offers by name; null if it has none of that name.
pub fn function(name: &CStr) -> *mut c_void {
    let cpu = device();
    if cpu.is_null() {
        return std::ptr::null_mut();
    }
    // SAFETY: `cpu` is a device, and devices have a registration.
    unsafe { ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), name.as_ptr()) }
}

/// The orders of sums of the CPU backend in this program.
pub fn orders() -> Orders {
    static ORDERS: OnceLock<Orders> = OnceLock::new();
    *ORDERS.get_or_init(|| Orders::from_features(features()))
}

/// True if the CPU backend was built with this, or the machine has it.
pub fn has(feature: &str) -> bool {
    features().iter().any(|name| name == feature)
}

/// Names of what the CPU backend was built with and the machine has.
fn features() -> &'static [String] {
    static FEATURES: OnceLock<Vec<String>> = OnceLock::new();
    FEATURES.get_or_init(ask_for_features)
}

fn ask_for_features() -> Vec<String> {
    // SAFETY: this is the type of the function of this name, by ggml-backend.h; a null pointer becomes `None`.
    let get: ggml_backend_get_features_t =
        unsafe { std::mem::transmute(function(c"ggml_backend_get_features")) };
    let Some(get) = get else { return Vec::new() };
    let mut names = Vec::new();
    // SAFETY: the CPU device exists, since it offers the function; the list ends with a null name.
    unsafe {
        let mut feature: *const ggml_backend_feature = get(ggml_backend_dev_backend_reg(device()));
        while !feature.is_null() && !(*feature).name.is_null() {
            if text((*feature).value) == "1" {
                names.push(text((*feature).name).into_owned());
            }
            feature = feature.add(1);
        }
    }
    names
}

/// A CPU backend of our own.
pub struct Cpu {
    backend: ggml_backend_t,
    threads: c_int,
    /// Where ggml's own threads would not last: one for each number of threads that was asked for, the last one in use. Made when there is
    /// work: new threads look for some, and are in the way of others.
    pools: Vec<Pool>,
}

// SAFETY: ggml's backends may be used from any thread, by one at a time.
unsafe impl Send for Cpu {}

impl Cpu {
    /// `None` if the program has no CPU backend, or it does not start.
    pub fn new() -> Option<Self> {
        let device = device();
        if device.is_null() {
            return None;
        }
        // SAFETY: a device of ggml's; no parameters.
        let backend = neighbour::make_alone(|| unsafe { ggml_backend_dev_init(device, std::ptr::null()) });
        (!backend.is_null()).then_some(Self { backend, threads: 1, pools: Vec::new() })
    }

    pub fn set_threads(&mut self, threads: c_int) {
        // SAFETY: this is the type of the function of this name, by ggml-backend.h.
        let set: ggml_backend_set_n_threads_t =
            unsafe { std::mem::transmute(function(c"ggml_backend_set_n_threads")) };
        if let Some(set) = set {
            // SAFETY: a CPU backend.
            unsafe { set(self.backend, threads) }
        }
        self.threads = threads;
    }

    fn keep_threads(&mut self) {
        let fits = |pool: &Pool| pool.threads == self.threads;
        if self.threads < 2 || self.pools.last().is_some_and(fits) || !Pool::is_needed() {
            return;
        }
        let pool = match self.pools.iter().position(fits) {
            Some(at) => Some(self.pools.remove(at)),
            None => Pool::new(self.threads),
        };
        if let Some(pool) = pool {
            // SAFETY: a CPU backend, which is freed before its pools. ggml lets the threads of the other one sleep.
            unsafe { pool.give_to(self.backend) };
            self.pools.push(pool);
        }
    }

    pub fn backend(&self) -> ggml_backend_t {
        self.backend
    }

    /// # Safety
    /// The graph must be ready for computation, and all its tensors alive and used by nobody else meanwhile.
    pub unsafe fn compute(&mut self, graph: &mut ggml_cgraph) -> ggml_status {
        self.keep_threads();
        // SAFETY: the caller's promise.
        unsafe { ggml_backend_graph_compute(self.backend, graph) }
    }
}

/// Has a CPU backend ask whether to go on: at any time, also while it computes.
///
/// # Safety
/// `backend` must be a CPU backend.
pub unsafe fn set_abort_callback(backend: ggml_backend_t, callback: ggml_abort_callback, data: *mut c_void) {
    // SAFETY: this is the type of the function of this name, by ggml-backend.h.
    let set: ggml_backend_set_abort_callback_t =
        unsafe { std::mem::transmute(function(c"ggml_backend_set_abort_callback")) };
    if let Some(set) = set {
        // SAFETY: the caller's promise.
        unsafe { set(backend, callback, data) }
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        // SAFETY: made in `new`, freed once.
        unsafe { ggml_backend_free(self.backend) }
    }
}
