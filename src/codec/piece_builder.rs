use std::ops::Range;

use super::{Chunk, Encoder, PieceLayout, Shape};

/// A piece being made of segments, in the order of their rows: takes as many as there is space for.
///
/// Segment starts and escapes, whose regions begin where all codes end, are kept until [`PieceBuilder::finish`]; codes are not.
#[derive(Debug)]
pub struct PieceBuilder<'a> {
    encoder: &'a Encoder,
    rows: u64,
    starts: Vec<u8>,
    escapes: Vec<u8>,
}

/// What is left to write of a piece: bytes that are in none of the parts, and are no codes, are zero.
#[derive(Debug)]
pub struct Finished {
    pub rows: u64,
    /// Bytes of the piece.
    pub len: u64,
    /// Header, segment starts and escapes, each with its offset in the piece.
    pub parts: [(u64, Vec<u8>); 3],
}

impl<'a> PieceBuilder<'a> {
    pub fn new(encoder: &'a Encoder) -> Self {
        Self { encoder, rows: 0, starts: Vec::new(), escapes: Vec::new() }
    }

    /// How many segments of a chunk, from segment `from` of it on, can be taken without the finished piece being longer than
    /// `space` bytes.
    pub fn fits(&self, chunk: &Chunk, from: usize, space: u64) -> usize {
        let fits = |to: &usize| {
            let segments = from..*to;
            let escapes = (self.escapes.len() / 2 + chunk.escapes_of(&segments).len()) as u64;
            let layout = self.layout(self.rows + self.rows_of(chunk, &segments), escapes);
            u32::try_from(escapes).is_ok() && layout.is_some_and(|layout| layout.len <= space)
        };
        (from + 1..=chunk.segments()).take_while(fits).count()
    }

    /// Takes segments of a chunk. Returns their codes, and where in the piece these are to be written.
    ///
    /// # Panics
    /// If the chunk has no such segments, or the piece already has the tensor's last segment, and that is not whole.
    pub fn take<'c>(&mut self, chunk: &'c Chunk, segments: Range<usize>) -> (u64, &'c [u8]) {
        let shape = self.encoder.shape;
        assert!(self.rows.is_multiple_of(shape.segment_rows()), "a segment behind the last");
        let whole = shape.segment_blocks(shape.segment_rows()) * self.encoder.encoding.code_bytes();
        let at = |segment: usize| chunk.codes.len().min(segment * whole as usize);
        let codes = &chunk.codes[at(segments.start)..at(segments.end)];
        let offset = PieceLayout::CODES + self.rows / shape.segment_rows() * whole;

        let (before, escapes) = (self.escapes.len() / 2, chunk.escapes_of(&segments));
        for start in &chunk.starts[segments.clone()] {
            let start = (before + start - escapes.start) as u32;
            self.starts.extend_from_slice(&start.to_le_bytes());
        }
        self.escapes.extend_from_slice(&chunk.escapes[2 * escapes.start..2 * escapes.end]);
        self.rows += self.rows_of(chunk, &segments);
        (offset, codes)
    }

    /// What is to be written besides the codes.
    pub fn finish(self) -> Finished {
        let escapes = self.escapes.len() as u64 / 2;
        let layout = self.layout(self.rows, escapes).expect("pieces in memory have a length");
        let header = self.encoder.header(self.rows, escapes).to_vec();
        Finished {
            rows: self.rows,
            len: layout.len,
            parts: [(0, header), (layout.starts, self.starts), (layout.escapes, self.escapes)],
        }
    }

    fn layout(&self, rows: u64, escapes: u64) -> Option<PieceLayout> {
        PieceLayout::new(self.encoder.encoding, Shape { rows, ..self.encoder.shape }, escapes)
    }

    /// Rows of some segments of a chunk.
    fn rows_of(&self, chunk: &Chunk, segments: &Range<usize>) -> u64 {
        let row = |segment: usize| chunk.rows.min(segment as u64 * self.encoder.shape.segment_rows());
        row(segments.end) - row(segments.start)
    }
}
