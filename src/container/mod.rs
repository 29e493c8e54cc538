//! GGUF in and out, and the rooms of an Unweight file inside it. No I/O: everything here works on bytes that the caller has mapped or read.

pub mod archive;
pub mod carriers;
pub mod converted;
mod cursor;
pub mod gguf;
pub mod layout;
pub mod parts;
pub mod records;
pub mod restored;
pub mod rooms;

use crate::codec::{Number, Shape};

/// A tensor of these dimensions as rows; `None` beyond 64 bits.
pub fn shape(dims: &gguf::Dims) -> Option<Shape> {
    Some(Shape { k: dims.row(), rows: dims.rows()? })
}

/// What the weights of a tensor of this type are; `None` where they are not of full precision.
pub fn number(ty: gguf::TensorType) -> Option<Number> {
    match ty {
        gguf::TensorType::BF16 => Some(Number::Bf16),
        gguf::TensorType::F16 => Some(Number::F16),
        gguf::TensorType::F32 => Some(Number::F32),
        _ => None,
    }
}

/// Rounds `n` up to a multiple of `to` (not zero); `None` beyond 64 bits.
pub fn align(n: u64, to: u64) -> Option<u64> {
    n.checked_next_multiple_of(to)
}
