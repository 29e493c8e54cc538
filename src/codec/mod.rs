//! Tensor bytes to Unweight blobs and back.
//!
//! [`Analysis`] counts a tensor's signs and exponents; [`Encoder`] says how it is best coded and codes it, some rows at a time;
//! [`oracle`] reads a blob back slowly and strictly. Fast reading is the [`crate::kernel`]'s.

mod analysis;
mod blob;
pub mod constants;
mod encoder;
pub mod oracle;

pub use analysis::Analysis;
pub use blob::{BlobLayout, Encoding, Shape};
pub use encoder::{Chunk, Encoder};

/// The weight that stands at each place of a block: two vectors of bytes, interleaved, then give natural order.
const fn weight_at(place: usize) -> usize {
    let eighth = place / 8;
    (eighth / 2 + eighth % 2 * 4) * 8 + place % 8
}
