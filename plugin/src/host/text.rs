use std::borrow::Cow;
use std::ffi::{CStr, c_char};

use super::api::ggml_op_name;
use super::ggml::{ggml_op, ggml_tensor};

/// # Safety
/// `text` must be null or end in NUL, and stay as it is while the result is used.
pub unsafe fn text<'a>(text: *const c_char) -> Cow<'a, str> {
    if text.is_null() {
        return Cow::Borrowed("");
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}

/// The name of a tensor.
pub fn name(tensor: &ggml_tensor) -> String {
    let bytes = tensor.name.map(|byte| byte as u8);
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The name of an operation of a graph.
pub fn op_name(op: ggml_op) -> Cow<'static, str> {
    // SAFETY: ggml made the operation, so that it has a name, which is a constant string.
    unsafe { text(ggml_op_name(op)) }
}
