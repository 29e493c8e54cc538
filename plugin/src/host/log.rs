//! Messages, by way of ggml's log, so that the program shows or hides them as all others.

use std::ffi::CString;

use super::ggml::{GGML_LOG_LEVEL_ERROR, ggml_log_internal};

pub fn error(message: &str) {
    let text = CString::new(format!("unweight: {}\n", message.replace('\0', "?"))).unwrap_or_default();
    // SAFETY: both strings end in NUL, and the format takes the one argument.
    unsafe { ggml_log_internal(GGML_LOG_LEVEL_ERROR, c"%s".as_ptr(), text.as_ptr()) }
}
