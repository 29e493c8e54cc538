//! Binding to the ggml of this program, once for the process.

use std::ffi::{CStr, c_char, c_void};

use super::{api, layout};

/// A function of ggml's in a program that links this library (include/ggml-unweight.h).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Linked {
    name: *const c_char,
    function: *mut c_void,
}

/// Binds to the ggml that the code at `caller` belongs to.
///
/// # Errors
/// If there is none, or not one that can be worked with, with the reason.
#[cfg(unix)]
pub fn to_caller(caller: *const c_void) -> Result<(), String> {
    let ggml = super::loader::Ggml::of(caller)
        .ok_or("no ggml with loadable backends is in this process: not loaded")?;
    // SAFETY: these are ggml's own; they stay where they are, since the library is kept.
    let bound = unsafe { to(&|name| ggml.function(name)) };
    ggml.stay();
    bound
}

/// Binds to what was linked together with this library.
///
/// # Errors
/// As for [`to_caller`].
///
/// # Safety
/// Names must be strings, and functions ggml's of these names.
pub unsafe fn to_linked(functions: &[Linked]) -> Result<(), String> {
    // SAFETY: the caller's promise.
    let named =
        |wanted: &CStr| functions.iter().find(|linked| unsafe { CStr::from_ptr(linked.name) } == wanted);
    let find = |name: &CStr| named(name).map_or(std::ptr::null_mut(), |linked| linked.function);
    // SAFETY: the caller's promise.
    unsafe { to(&find) }
}

/// Binds to the ggml that this Rust program is linked with.
///
/// # Errors
/// As for [`to_caller`].
#[cfg(feature = "linked")]
pub fn to_own() -> Result<(), String> {
    // SAFETY: the linker has found them, by these names.
    unsafe { to(&api::linked) }
}

/// # Safety
/// As for [`api::bind`].
unsafe fn to(find: &dyn Fn(&CStr) -> *mut c_void) -> Result<(), String> {
    if !api::is_bound_to(find) {
        return Err("the plugin belongs to another ggml of this process already: not loaded".to_owned());
    }
    // SAFETY: the caller's promise.
    unsafe { api::bind(find) }
        .map_err(|cause| format!("this ggml cannot be worked with, {cause}: not loaded"))?;
    layout::probe().map_err(|cause| {
        let version = layout::version();
        api::unbind();
        format!("ggml {version} of this program cannot be worked with, {cause}: not loaded")
    })
}
