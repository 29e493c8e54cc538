use super::constants::HEADER_BYTES;
use super::{Encoding, Shape};

/// Where the regions of a piece begin, in bytes from its start, where its header stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceLayout {
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
        Some(Self {
            codes: region(shape.blocks()?.checked_mul(encoding.code_bytes())?)?,
            starts: region(shape.segments().checked_mul(4)?)?,
            escapes: region(escapes.checked_mul(2)?)?,
            len: end,
        })
    }
}
