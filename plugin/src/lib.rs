//! The ggml backend: llama.cpp maps a converted file, and this computes on the blobs where they lie.
//!
//! It is a device of the ACCEL kind, so llama.cpp asks it first where weights may go. It takes the carriers only, as one mapped range
//! that begins with the pool ([`pool`], [`buffer`]). When a graph is computed, it takes every operation that the CPU backend can do
//! and hands the whole graph to an inner CPU backend, with the products and look-ups on carriers turned into custom operations that
//! run our kernels on ggml's own threads ([`graph`], [`matmul`], [`experts`], [`rows`]).

mod buffer;
mod chunks;
mod device;
mod experts;
mod ggml;
mod graph;
mod host;
mod job;
mod log;
mod matmul;
mod orders;
mod pool;
mod rows;
mod view;

use std::ffi::c_int;

use ggml::ggml_backend_reg_t;

/// What `GGML_BACKEND_PATH` loads; null, and a message, if the program's ggml is not one that this was built for.
#[unsafe(no_mangle)]
pub extern "C" fn ggml_backend_init() -> ggml_backend_reg_t {
    ggml_backend_unweight_reg()
}

/// The same, for programs that link this library (include/ggml-unweight.h).
#[unsafe(no_mangle)]
pub extern "C" fn ggml_backend_unweight_reg() -> ggml_backend_reg_t {
    match host::check_version() {
        Ok(()) => device::registration(),
        Err(cause) => {
            log::error(&cause);
            std::ptr::null_mut()
        }
    }
}

/// How good this build is for the machine; any machine that runs ggml will do.
#[unsafe(no_mangle)]
pub extern "C" fn ggml_backend_score() -> c_int {
    1
}
