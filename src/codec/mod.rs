//! Tensor bytes to Unweight blobs and back.
//!
//! [`Analysis`] counts a tensor's exponents; [`Encoder`] says how it is best coded and codes it, some rows at a time;
//! [`oracle`] reads a blob back slowly and strictly. Fast reading is the [`crate::kernel`]'s.

mod analysis;
mod blob;
pub mod constants;
mod encoder;
pub mod oracle;

pub use analysis::Analysis;
pub use blob::{BlobLayout, Encoding, Shape};
pub use encoder::{Chunk, Encoder};

/// Bits of a BF16 exponent, rotated right by one: the form of palettes and escapes.
fn rotated(exponent: u8) -> u8 {
    exponent.rotate_right(1)
}

/// The exponent of a BF16 weight.
fn exponent(weight: u16) -> u8 {
    (weight >> 7) as u8
}

/// The weight that stands at each place of a block: two vectors of bytes, interleaved, then give natural order.
const fn weight_at(place: usize) -> usize {
    let eighth = place / 8;
    (eighth / 2 + eighth % 2 * 4) * 8 + place % 8
}
