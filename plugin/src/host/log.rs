//! Messages, by way of ggml's log, so that the program shows or hides them as all others.

use std::ffi::CString;
use std::io::Write;

use super::api;
use super::ggml::{GGML_LOG_LEVEL_ERROR, GGML_LOG_LEVEL_WARN, ggml_log_level};

pub fn error(message: &str) {
    write(GGML_LOG_LEVEL_ERROR, message);
}

pub fn warn(message: &str) {
    write(GGML_LOG_LEVEL_WARN, message);
}

/// To standard error, past a log that may be hidden or not there yet: without this line a program would die later on without a reason.
pub fn refused(message: &str) {
    // Where nobody reads it, nothing can be said.
    let _ = writeln!(std::io::stderr(), "unweight: {message}");
}

fn write(level: ggml_log_level, message: &str) {
    let line = CString::new(format!("unweight: {}\n", message.replace('\0', "?"))).unwrap_or_default();
    api::log(level, &line);
}
