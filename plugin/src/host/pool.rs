//! Threads that stay. Where ggml is built without OpenMP, its CPU backend starts threads for every graph and ends them with it, unless it
//! is given some; and a graph that is cut into two hundred pieces for a token is two hundred graphs.

use std::ffi::{c_int, c_void};

use super::api::ggml_threadpool_params_init;
use super::cpu;
use super::ggml::ggml_backend_t;

/// `ggml_threadpool`, which nobody may look into.
type Threadpool = *mut c_void;

/// `ggml_threadpool_params`, which ggml fills in by itself: twice as much space as it takes, in case that it grows.
type Params = [u64; 136];

/// So many threads for a CPU backend.
pub struct Pool {
    pool: Threadpool,
    pub threads: c_int,
}

// SAFETY: ggml's pools may be used from any thread, by one at a time.
unsafe impl Send for Pool {}

impl Pool {
    /// True if ggml would start threads for every graph.
    pub fn is_needed() -> bool {
        !cpu::has("OPENMP")
    }

    /// `None` if ggml gives none.
    pub fn new(threads: c_int) -> Option<Self> {
        // SAFETY: this is the type of the function of this name, by ggml-cpu.h.
        let new: Option<unsafe extern "C" fn(*mut c_void) -> Threadpool> =
            unsafe { std::mem::transmute(cpu::function(c"ggml_threadpool_new")) };
        let mut params: Params = [0; 136];
        let params = (&raw mut params).cast();
        // SAFETY: there is enough space for what ggml fills in, and copies.
        let pool = unsafe {
            ggml_threadpool_params_init(params, threads);
            new?(params)
        };
        (!pool.is_null()).then_some(Self { pool, threads })
    }

    /// Gives the threads to a CPU backend.
    ///
    /// # Safety
    /// `backend` must be a CPU backend, and not used any more, or given other threads, before this is dropped.
    pub unsafe fn give_to(&self, backend: ggml_backend_t) {
        // SAFETY: this is the type of the function of this name, by ggml-cpu.h.
        let set: Option<unsafe extern "C" fn(ggml_backend_t, Threadpool)> =
            unsafe { std::mem::transmute(cpu::function(c"ggml_backend_cpu_set_threadpool")) };
        if let Some(set) = set {
            // SAFETY: the caller's promise.
            unsafe { set(backend, self.pool) }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: this is the type of the function of this name, by ggml-cpu.h.
        let free: Option<unsafe extern "C" fn(Threadpool)> =
            unsafe { std::mem::transmute(cpu::function(c"ggml_threadpool_free")) };
        if let Some(free) = free {
            // SAFETY: made in `new`, freed once; no graph is computed on it.
            unsafe { free(self.pool) }
        }
    }
}
