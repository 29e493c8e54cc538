use super::constants::HEADER_BYTES;
use super::{Encoding, Shape};

/// Where the regions of a piece begin, in bytes from its start, where its header stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceLayout {
    /// Segment after segment, each followed by its words where the encoding has them.
    pub codes: u64,
    pub starts: u64,
    pub escapes: u64,
    /// Length of the piece.
    pub len: u64,
}

impl PieceLayout {
    /// Codes follow the header.
    pub(super) const CODES: u64 = HEADER_BYTES;

    /// Only `len` depends on the number of escapes. `None` if a size is beyond 64 bits.
    ///
    /// `shape`: that of the piece.
    pub fn new(encoding: Encoding, shape: Shape, escapes: u64) -> Option<Self> {
        let mut end = Self::CODES;
        let mut region = |bytes: u64| {
            let start = end;
            end = (start.checked_add(bytes)?).checked_next_multiple_of(64)?;
            Some(start)
        };
        let words = shape.weights()?.checked_mul(encoding.word_bytes())?;
        Some(Self {
            codes: region(shape.blocks()?.checked_mul(encoding.code_bytes())?.checked_add(words)?)?,
            starts: region(shape.segments().checked_mul(4)?)?,
            escapes: region(escapes.checked_mul(2)?)?,
            len: end,
        })
    }

    /// Bytes of a whole segment's codes and words: what lies between the beginnings of two.
    pub(super) fn segment_bytes(encoding: Encoding, shape: Shape) -> u64 {
        let rows = shape.segment_rows();
        shape.segment_blocks(rows) * encoding.code_bytes() + rows * shape.k * encoding.word_bytes()
    }
}
