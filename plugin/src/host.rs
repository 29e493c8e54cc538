//! The ggml that this library finds itself in: its version, and how its CPU backend forms sums.

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use crate::ggml::{
    GGML_BACKEND_DEVICE_TYPE_CPU, GGML_OP_CUSTOM, GGML_OP_FLASH_ATTN_EXT, GGML_OP_GET_ROWS, GGML_OP_MUL_MAT,
    GGML_OP_MUL_MAT_ID, ggml_backend_dev_backend_reg, ggml_backend_dev_by_type, ggml_backend_dev_t,
    ggml_backend_feature, ggml_backend_get_features_t, ggml_backend_reg_get_proc_address, ggml_backend_reg_t,
    ggml_op_name, ggml_version,
};
use crate::orders::Orders;

/// Structures of ggml's inner headers have changed between versions without notice.
const BUILT_FOR: &str = "0.28.";

/// # Errors
/// If ggml is of another version than the bindings, or numbers its operations differently.
pub fn check_version() -> Result<(), String> {
    // SAFETY: no precondition; the result is a constant string.
    let version = unsafe { text(ggml_version()) };
    if !version.starts_with(BUILT_FOR) {
        return Err(format!("built for ggml {BUILT_FOR}x, this program has ggml {version}: not loaded"));
    }
    let names = [
        (GGML_OP_MUL_MAT, "MUL_MAT"),
        (GGML_OP_MUL_MAT_ID, "MUL_MAT_ID"),
        (GGML_OP_GET_ROWS, "GET_ROWS"),
        (GGML_OP_FLASH_ATTN_EXT, "FLASH_ATTN_EXT"),
        (GGML_OP_CUSTOM, "CUSTOM"),
    ];
    for (op, name) in names {
        // SAFETY: the operations exist since long before this version; the result is a constant string.
        if unsafe { text(ggml_op_name(op)) } != name {
            return Err(format!("this ggml {version} numbers its operations in another way: not loaded"));
        }
    }
    Ok(())
}

/// The CPU device; null if the program has registered none.
pub fn cpu() -> ggml_backend_dev_t {
    // SAFETY: no precondition.
    unsafe { ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) }
}

/// A function that the CPU backend offers by name; null if it has none of that name.
pub fn cpu_function(name: &CStr) -> *mut std::ffi::c_void {
    let cpu = cpu();
    if cpu.is_null() {
        return std::ptr::null_mut();
    }
    // SAFETY: `cpu` is a device, and devices have a registration.
    unsafe { ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), name.as_ptr()) }
}

/// The orders of sums of the CPU backend in this program.
pub fn orders() -> Orders {
    static ORDERS: OnceLock<Orders> = OnceLock::new();
    *ORDERS.get_or_init(|| Orders::from_features(&features()))
}

/// Names of what the CPU backend was built with and the machine has.
fn features() -> Vec<String> {
    let function = cpu_function(c"ggml_backend_get_features");
    // SAFETY: this is the type of the function of this name, by ggml-backend.h; a null pointer becomes `None`.
    let get: ggml_backend_get_features_t = unsafe { std::mem::transmute(function) };
    let Some(get) = get else { return Vec::new() };
    let mut names = Vec::new();
    // SAFETY: the CPU device exists, since it offers the function; the list ends with a null name.
    unsafe {
        let registration: ggml_backend_reg_t = ggml_backend_dev_backend_reg(cpu());
        let mut feature: *const ggml_backend_feature = get(registration);
        while !feature.is_null() && !(*feature).name.is_null() {
            if text((*feature).value) == "1" {
                names.push(text((*feature).name).into_owned());
            }
            feature = feature.add(1);
        }
    }
    names
}

/// # Safety
/// `text` must be null or end in NUL, and stay as it is while the result is used.
pub unsafe fn text<'a>(text: *const c_char) -> std::borrow::Cow<'a, str> {
    if text.is_null() {
        return std::borrow::Cow::Borrowed("");
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}
