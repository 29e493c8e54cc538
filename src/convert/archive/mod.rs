//! The archive form of a file: writing it, and reading what it holds.

mod reader;
mod writer;

pub use reader::Archive;
pub(super) use writer::{Writer, Written};
