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
#[cfg(unix)]
use std::ffi::c_void;
use std::panic::{UnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use host::binding::{self, Linked};
use host::ggml::ggml_backend_reg_t;
use host::log;

/// What ggml calls that has loaded this library; null, and a message, if it cannot be worked with. Hands the address that it will return to
/// on: whoever calls is the ggml that is meant.
#[cfg(all(unix, target_arch = "x86_64"))]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn ggml_backend_init() -> ggml_backend_reg_t {
    std::arch::naked_asm!("mov rdi, [rsp]", "jmp {}", sym loaded_by)
}

/// As above.
#[cfg(all(unix, target_arch = "aarch64"))]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn ggml_backend_init() -> ggml_backend_reg_t {
    std::arch::naked_asm!("mov x0, x30", "b {}", sym loaded_by)
}

/// As above, where it is not known how to find out who calls.
#[cfg(all(unix, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[unsafe(no_mangle)]
pub extern "C" fn ggml_backend_init() -> ggml_backend_reg_t {
    loaded_by(std::ptr::null())
}

#[cfg(unix)]
extern "C" fn loaded_by(caller: *const c_void) -> ggml_backend_reg_t {
    or_null(registration(|| binding::to_caller(caller)))
}

/// The same for programs that link this library: include/ggml-unweight.h hands their ggml's functions over.
///
/// # Safety
/// `count` functions must be at `functions`, each ggml's of its name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_unweight_reg_linked(
    functions: *const Linked,
    count: usize,
) -> ggml_backend_reg_t {
    // SAFETY: the caller's promise.
    or_null(registration(|| unsafe { binding::to_linked(std::slice::from_raw_parts(functions, count)) }))
}

/// For Rust programs: registers the backend with the ggml that the program is linked with, before a model is loaded, for the whole process.
/// Does nothing the second time.
///
/// # Errors
/// If this ggml cannot be worked with, with the reason.
#[cfg(feature = "linked")]
pub fn register() -> Result<(), String> {
    unsafe extern "C" {
        fn ggml_backend_register(registration: ggml_backend_reg_t);
    }
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !*done {
        let registration = registration(binding::to_own)?;
        // SAFETY: ggml keeps the pointer, and it stays good.
        unsafe { ggml_backend_register(registration) };
        *done = true;
    }
    Ok(())
}

fn or_null(registration: Result<ggml_backend_reg_t, String>) -> ggml_backend_reg_t {
    registration.unwrap_or_else(|cause| {
        log::refused(&cause);
        std::ptr::null_mut()
    })
}

fn registration(
    bind: impl FnOnce() -> Result<(), String> + UnwindSafe,
) -> Result<ggml_backend_reg_t, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    catch_unwind(|| bind().and_then(|()| device::checked_registration()))
        .unwrap_or_else(|_| Err("a defect while ggml was looked at: not loaded".to_owned()))
}

/// How good this build is for the machine; any machine that runs ggml will do.
#[unsafe(no_mangle)]
pub extern "C" fn ggml_backend_score() -> c_int {
    1
}
