//! The ggml backend: llama.cpp loads a converted file, and this computes on the compressed weights where they lie.
//!
//! It is a device of the ACCEL kind, so llama.cpp asks it first where weights may go. It takes what may be carriers, and finds out which
//! are by the index that came with the same load ([`weights`]). When a graph is computed, it takes every operation that the CPU backend
//! can do ([`support`]) and hands the whole graph to an inner CPU backend, with what touches compressed weights turned into custom
//! operations that run our kernels on ggml's own threads ([`graph`], [`ops`]). In a process without compressed weights it takes nothing.
//!
//! Each of these uses only those before it: [`host`], [`weights`], [`ops`], [`graph`] and [`support`], [`device`].
//! docs/LOADER.md says which behaviour of llama.cpp this rests on.

mod device;
mod graph;
mod host;
mod ops;
mod support;
mod weights;

use std::ffi::c_int;

use host::ggml::ggml_backend_reg_t;

/// What `GGML_BACKEND_PATH` loads; null, and a message, if the program's ggml is not one that this was built for.
#[unsafe(no_mangle)]
pub extern "C" fn ggml_backend_init() -> ggml_backend_reg_t {
    ggml_backend_unweight_reg()
}

/// The same, for programs that link this library (include/ggml-unweight.h).
#[unsafe(no_mangle)]
pub extern "C" fn ggml_backend_unweight_reg() -> ggml_backend_reg_t {
    match host::version::check() {
        Ok(()) => device::registration(),
        Err(cause) => {
            host::log::error(&cause);
            std::ptr::null_mut()
        }
    }
}

/// How good this build is for the machine; any machine that runs ggml will do.
#[unsafe(no_mangle)]
pub extern "C" fn ggml_backend_score() -> c_int {
    1
}
