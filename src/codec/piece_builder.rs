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

    /// Takes segments of a chunk. Returns their codes and words, and where in the piece these are to be written.
    ///
    /// # Panics
    /// If the chunk has no such segments, or the piece already has the tensor's last segment, and that is not whole.
    pub fn take<'c>(&mut self, chunk: &'c Chunk, segments: Range<usize>) -> (u64, &'c [u8]) {
        let shape = self.encoder.shape;
        assert!(self.rows.is_multiple_of(shape.segment_rows()), "a segment behind the last");
        let whole = PieceLayout::segment_bytes(self.encoder.encoding, shape);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use proptest::sample::select;

    use super::*;
    use crate::codec::samples::{numbers, ways, weights};
    use crate::codec::{Analysis, Encoding, Number};

    /// A piece as it is written: codes as they are taken, the parts in the end.
    struct Written<'a> {
        builder: PieceBuilder<'a>,
        bytes: Vec<u8>,
    }

    impl<'a> Written<'a> {
        fn new(encoder: &'a Encoder) -> Self {
            Self { builder: PieceBuilder::new(encoder), bytes: Vec::new() }
        }

        fn take(&mut self, chunk: &Chunk, segments: Range<usize>) {
            let (at, codes) = self.builder.take(chunk, segments);
            put(&mut self.bytes, at, codes);
        }

        fn finish(mut self) -> (u64, Vec<u8>) {
            let finished = self.builder.finish();
            for (at, part) in &finished.parts {
                put(&mut self.bytes, *at, part);
            }
            assert!(self.bytes.len() as u64 <= finished.len);
            self.bytes.resize(finished.len as usize, 0);
            (finished.rows, self.bytes)
        }
    }

    fn put(bytes: &mut Vec<u8>, at: u64, part: &[u8]) {
        let end = at as usize + part.len();
        bytes.resize(end.max(bytes.len()), 0);
        bytes[at as usize..end].copy_from_slice(part);
    }

    #[test]
    fn no_space_fits_nothing() {
        let weights = weights(64 * 32, 0);
        let shape = Shape { k: 64, rows: 32 };
        let encoder =
            Encoder::forced(&Analysis::of(Number::Bf16, &weights), shape, Encoding::Bf16Palette8).unwrap();
        let (chunk, builder) = (encoder.encode(&weights), PieceBuilder::new(&encoder));
        // A header, 16 blocks of codes, and a segment start.
        let one = 64 + 16 * 24 + 64;
        for (space, segments) in
            [(0, 0), (64, 0), (one - 1, 0), (one, 1), (one + 16 * 24 - 1, 1), (one + 16 * 24, 2)]
        {
            assert_eq!(builder.fits(&chunk, 0, space), segments, "in {space} bytes");
        }
        assert_eq!(builder.fits(&chunk, 1, u64::MAX), 1);
        assert_eq!(builder.fits(&chunk, 2, u64::MAX), 0);
    }

    #[test]
    #[should_panic(expected = "a segment behind the last")]
    fn nothing_follows_a_segment_of_fewer_rows() {
        let weights = weights(64 * 17, 0);
        let shape = Shape { k: 64, rows: 17 };
        let encoder =
            Encoder::forced(&Analysis::of(Number::Bf16, &weights), shape, Encoding::Bf16Palette8).unwrap();
        let chunk = encoder.encode(&weights);
        let mut builder = PieceBuilder::new(&encoder);
        builder.take(&chunk, 1..2);
        builder.take(&chunk, 0..1);
    }

    proptest! {
        #[test]
        fn pieces_take_what_fits(
            k in 1u64..300, rows in 1u64..200, wild in 0u64..6, chunk_segments in 1u64..6,
            (encoding, original) in select(ways().collect::<Vec<_>>()),
            spaces in prop::collection::vec(0u64..20_000, 1..5),
        ) {
            let weights = numbers(original, encoding.stored(), k * rows, 256 * wild);
            let shape = Shape { k, rows };
            let encoder = Encoder::forced(&Analysis::of(original, &weights), shape, encoding).unwrap();
            let of_rows = |first: u64, n: u64| &weights[(first * encoder.row_bytes()) as usize..][..(n * encoder.row_bytes()) as usize];
            let mut spaces = spaces.into_iter().chain(std::iter::repeat(u64::MAX));
            let mut space = spaces.next().unwrap();
            let (mut home, mut pieces) = (Vec::new(), Vec::new());
            let mut piece = Written::new(&encoder);
            for part in weights.chunks((chunk_segments * shape.segment_rows() * encoder.row_bytes()) as usize) {
                let chunk = encoder.encode(part);
                prop_assert_eq!((chunk.low().len() as u64) * original.bytes(), part.len() as u64);
                home.extend_from_slice(chunk.low());
                let mut from = 0;
                while from < chunk.segments() {
                    let n = piece.builder.fits(&chunk, from, space);
                    piece.take(&chunk, from..from + n);
                    from += n;
                    if from < chunk.segments() {
                        let (full, bytes) = std::mem::replace(&mut piece, Written::new(&encoder)).finish();
                        let first: u64 = pieces.iter().map(|(rows, _)| rows).sum();
                        let more = (full + shape.segment_rows()).min(rows - first);
                        let longer = encoder.whole(of_rows(first, more)).1;
                        prop_assert!(longer.len() as u64 > space);
                        if full > 0 {
                            prop_assert!(bytes.len() as u64 <= space);
                            pieces.push((full, bytes));
                        }
                        space = spaces.next().unwrap();
                    }
                }
            }
            pieces.push(piece.finish());
            let mut first = 0;
            for (rows, bytes) in &pieces {
                let (low, whole) = encoder.whole(of_rows(first, *rows));
                prop_assert!(whole == *bytes);
                prop_assert!(home[(first * k) as usize..][..low.len()] == low);
                first += rows;
            }
            prop_assert_eq!((first, home.len() as u64), (rows, rows * k));
        }
    }
}
