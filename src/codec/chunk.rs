use std::ops::Range;

use super::segment::Segment;

/// The coded form of some segments, made by an [`Encoder`](super::Encoder). The low bytes go to the tensor's home, the rest into a
/// piece, by way of a [`PieceBuilder`](super::PieceBuilder).
#[derive(Debug, Default)]
pub struct Chunk {
    pub(super) rows: u64,
    pub(super) low: Vec<u8>,
    pub(super) codes: Vec<u8>,
    /// Per segment, its first escape, counted from the chunk's.
    pub(super) starts: Vec<usize>,
    pub(super) escapes: Vec<u8>,
    /// The one being coded; kept from one to the next for its memory.
    pub(super) segment: Segment,
}

impl Chunk {
    /// The low bytes of its rows: they stand in the home from its first row on, k bytes a row.
    pub fn low(&self) -> &[u8] {
        &self.low
    }

    pub fn segments(&self) -> usize {
        self.starts.len()
    }

    /// Escapes in the chunk.
    pub fn escapes(&self) -> u64 {
        self.escapes.len() as u64 / 2
    }

    /// The bounds of the escapes of some segments, counted from the chunk's first.
    pub(super) fn escapes_of(&self, segments: &Range<usize>) -> Range<usize> {
        let start = |segment: usize| self.starts.get(segment).copied().unwrap_or(self.escapes.len() / 2);
        start(segments.start)..start(segments.end)
    }
}
