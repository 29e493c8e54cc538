//! GGUF in and out, and the rooms of an Unweight file inside it. No I/O: everything here works on bytes that the caller has mapped or read.

pub mod carriers;
pub mod converted;
mod cursor;
pub mod gguf;
pub mod layout;
pub mod parts;
pub mod restored;
pub mod rooms;

use crate::codec::Shape;

/// A tensor of these dimensions as rows; `None` beyond 64 bits.
pub fn shape(dims: &gguf::Dims) -> Option<Shape> {
    Some(Shape { k: dims.row(), rows: dims.rows()? })
}

/// Rounds `n` up to a multiple of `to` (not zero); `None` beyond 64 bits.
pub fn align(n: u64, to: u64) -> Option<u64> {
    n.checked_next_multiple_of(to)
}
