//! Tensors to homes and pieces, and back.
//!
//! [`Analysis`] counts a tensor's signs and exponents, and finds out what kind of [`Number`] they really are; [`Encoder`] says
//! how it is best coded and codes it, some rows at a time; [`PieceBuilder`] makes pieces of what it coded; [`oracle`] reads them
//! back slowly and strictly. Fast reading is the [`crate::kernel`]'s.

mod analysis;
pub mod cast;
mod chunk;
pub mod constants;
mod encoder;
mod encoding;
mod fillers;
pub mod number;
pub mod oracle;
mod piece_builder;
mod piece_layout;
#[cfg(test)]
mod samples;
mod segment;
mod shape;

pub use analysis::Analysis;
pub use chunk::Chunk;
pub use encoder::Encoder;
pub use encoding::Encoding;
pub use number::Number;
pub use piece_builder::{Finished, PieceBuilder};
pub use piece_layout::PieceLayout;
pub use shape::Shape;

/// Places, or weights, in a block.
const PLACES: usize = constants::BLOCK as usize;

/// The weight that stands at each place of a block: two vectors of bytes, interleaved, then give natural order.
const fn weight_at(place: usize) -> usize {
    let eighth = place / 8;
    (eighth / 2 + eighth % 2 * 4) * 8 + place % 8
}
