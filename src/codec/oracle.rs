//! A second reader of homes and pieces, written to be read beside docs/FORMAT.md: slow, strict, and with nothing in common with the
//! kernels.

use thiserror::Error;

use super::constants::{BLOCK, GROUP_BLOCKS, HEADER_BYTES, LONGEST_ROW};
use super::{Encoding, PieceLayout, Shape, weight_at};

/// What is wrong with a home or a piece.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PieceError {
    #[error("the home has {found} bytes, not one for each weight of its pieces' rows")]
    Home { found: u64 },
    #[error("rows of {0} weights are longer than the format allows")]
    RowLength(u64),
    #[error("a piece ends inside a segment, and is not the last")]
    Rows,
    #[error("the piece has {found} bytes, {needed} are needed")]
    Length { found: u64, needed: u64 },
    #[error("the piece's header contradicts the index, or another piece's")]
    Header,
    #[error("reserved bytes, or bytes that fill a region up, are not zero")]
    Padding,
    #[error(
        "the escapes of segment {segment} of the piece begin at {found}, which its neighbours contradict"
    )]
    SegmentStart { segment: u64, found: u64 },
    #[error(
        "an escape of segment {0} of the piece lies beyond its weights, where another is, or on a code that is not 0"
    )]
    Escape(u64),
    #[error("places that fill segment {0} of the piece up have codes that are not 0")]
    Fill(u64),
}

/// The weights of a tensor with rows of `k` weights, from its home and its pieces: each with the number of its rows.
///
/// # Errors
/// Whatever a strict reader must reject.
pub fn decode(
    home: &[u8],
    pieces: &[(u64, &[u8])],
    encoding: Encoding,
    k: u64,
) -> Result<Vec<u16>, PieceError> {
    read(home, pieces, encoding, k, true)
}

/// As [`decode`], but whatever follows the headers: what a reader computes that checks no escape and only stays inside.
///
/// # Errors
/// If a header or a length is wrong.
pub fn decode_anything(
    home: &[u8],
    pieces: &[(u64, &[u8])],
    encoding: Encoding,
    k: u64,
) -> Result<Vec<u16>, PieceError> {
    read(home, pieces, encoding, k, false)
}

fn read(
    home: &[u8],
    pieces: &[(u64, &[u8])],
    encoding: Encoding,
    k: u64,
    strict: bool,
) -> Result<Vec<u16>, PieceError> {
    if k > LONGEST_ROW {
        return Err(PieceError::RowLength(k));
    }
    let mut left = home;
    let mut opened = Vec::new();
    for (i, &(rows, bytes)) in pieces.iter().enumerate() {
        let shape = Shape { k, rows };
        if i + 1 < pieces.len() && !rows.is_multiple_of(shape.segment_rows()) {
            return Err(PieceError::Rows);
        }
        let length = shape.weights().and_then(|weights| usize::try_from(weights).ok());
        let (low, behind) = length
            .and_then(|length| left.split_at_checked(length))
            .ok_or(PieceError::Home { found: home.len() as u64 })?;
        left = behind;
        opened.push(Piece::open(low, bytes, encoding, shape, strict)?);
    }
    if !left.is_empty() {
        return Err(PieceError::Home { found: home.len() as u64 });
    }
    if opened.iter().any(|piece| piece.shift() != opened[0].shift()) {
        return Err(PieceError::Header);
    }
    let mut weights = Vec::new();
    for piece in opened {
        for segment in 0..piece.shape.segments() {
            piece.read_segment(segment, &mut weights)?;
        }
    }
    Ok(weights)
}

struct Piece<'a> {
    /// Of the piece's rows, k each.
    low: &'a [u8],
    bytes: &'a [u8],
    layout: PieceLayout,
    encoding: Encoding,
    shape: Shape,
    escapes: u64,
    strict: bool,
}

impl<'a> Piece<'a> {
    fn open(
        low: &'a [u8],
        bytes: &'a [u8],
        encoding: Encoding,
        shape: Shape,
        strict: bool,
    ) -> Result<Self, PieceError> {
        let short = PieceError::Length { found: bytes.len() as u64, needed: HEADER_BYTES };
        let header = bytes.get(..HEADER_BYTES as usize).ok_or(short)?;
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let escapes = u64_at(16);
        let layout = PieceLayout::new(encoding, shape, escapes).ok_or(PieceError::Header)?;
        let named = [u64_at(0), u64_at(8), u64::from(header[24])];
        if named != [shape.k, shape.rows, u64::from(encoding.code_bits())] || header[25] > 1 {
            return Err(PieceError::Header);
        }
        if bytes.len() as u64 != layout.len {
            return Err(PieceError::Length { found: bytes.len() as u64, needed: layout.len });
        }
        let code_bytes = shape.blocks().map_or(0, |blocks| blocks * encoding.code_bytes());
        let zero = |from: u64, to: u64| bytes[from as usize..to as usize].iter().all(|&byte| byte == 0);
        let reserved = zero(26, 32) && zero(32 + encoding.palette_len() as u64, HEADER_BYTES);
        let padding = zero(layout.codes + code_bytes, layout.starts)
            && zero(layout.starts + 4 * shape.segments(), layout.escapes)
            && zero(layout.escapes + 2 * escapes, layout.len);
        if !reserved || strict && !padding {
            return Err(PieceError::Padding);
        }
        Ok(Self { low, bytes, layout, encoding, shape, escapes, strict })
    }

    fn palette(&self) -> &[u8] {
        &self.bytes[32..32 + self.encoding.palette_len()]
    }

    fn shift(&self) -> u8 {
        self.bytes[25]
    }

    /// Appends the weights of a segment.
    fn read_segment(&self, segment: u64, weights: &mut Vec<u16>) -> Result<(), PieceError> {
        let (k, first) = (self.shape.k, segment * self.shape.segment_rows());
        let rows = self.shape.segment_rows().min(self.shape.rows - first);
        let codes = self.codes(segment, self.shape.segment_blocks(rows));
        let (used, fill) = codes.split_at((rows * k) as usize);
        if self.strict && fill.iter().any(|&code| code != 0) {
            return Err(PieceError::Fill(segment));
        }
        let high = self.high_bytes(segment, used)?;
        let low = &self.low[(first * k) as usize..][..used.len()];
        for row in 0..rows {
            let from = weights.len();
            weights.resize(from + k as usize, 0);
            for place in 0..k {
                let at = (row * k + place) as usize;
                let stored = u16::from(high[at]) << 8 | u16::from(low[at]);
                weights[from + weight_in_row(place, k)] = stored.wrapping_sub(u16::from(self.shift()) * 128);
            }
        }
        Ok(())
    }

    fn segment_start(&self, segment: u64) -> u64 {
        if segment == self.shape.segments() {
            return self.escapes;
        }
        let at = (self.layout.starts + 4 * segment) as usize;
        u64::from(u32::from_le_bytes(std::array::from_fn(|i| self.bytes[at + i])))
    }

    /// One for each place of a segment of `blocks` blocks.
    fn codes(&self, segment: u64, blocks: u64) -> Vec<u8> {
        let before = segment * self.shape.segment_blocks(self.shape.segment_rows());
        let start = self.layout.codes + before * self.encoding.code_bytes();
        (0..blocks * BLOCK).map(|place| self.code(start as usize, blocks, place)).collect()
    }

    /// One for each place of a segment that belongs to a weight; `codes` are theirs.
    fn high_bytes(&self, segment: u64, codes: &[u8]) -> Result<Vec<u8>, PieceError> {
        let mut high: Vec<u8> = codes.iter().map(|&code| self.palette()[usize::from(code)]).collect();
        let (from, to) = (self.segment_start(segment), self.segment_start(segment + 1));
        if self.strict && (from > to || to > self.escapes || segment == 0 && from != 0) {
            return Err(PieceError::SegmentStart { segment, found: from });
        }
        let mut place = 0;
        for escape in from..to.min(self.escapes) {
            let at = (self.layout.escapes + 2 * escape) as usize;
            let (distance, byte) = (usize::from(self.bytes[at]), self.bytes[at + 1]);
            place += distance;
            let repeated = distance == 0 && escape > from;
            if self.strict && (repeated || codes.get(place) != Some(&0)) {
                return Err(PieceError::Escape(segment));
            }
            if place < high.len() {
                high[place] = byte;
            }
        }
        Ok(high)
    }

    /// The code at a place of the segment of `blocks` blocks whose codes begin at `start`.
    fn code(&self, start: usize, blocks: u64, place: u64) -> u8 {
        let (mut block, within) = (place / BLOCK, place % BLOCK);
        if self.encoding == Encoding::Bf16Palette16 {
            let byte = self.bytes[start + (32 * block + within % 32) as usize];
            return byte >> (4 * (within / 32)) & 15;
        }
        // The group that the block is in: 8 blocks as long as there are 8, then 4, 2, 1.
        let (mut before, mut left, mut size) = (0, blocks, GROUP_BLOCKS);
        while size > left || block >= size {
            if size > left {
                size /= 2;
            } else {
                (before, left, block) = (before + size, left - size, block - size);
            }
        }
        let width = 8 * size;
        let (vector, byte) = ((block * BLOCK + within) / width, (block * BLOCK + within) % width);
        let bits = |third: u64| self.bytes[start + (24 * before + third * width + byte) as usize];
        match vector {
            0..6 => bits(vector / 2) >> (4 * (vector % 2)) & 7,
            _ => {
                let bit = |third: u64| bits(third) >> (if vector == 6 { 3 } else { 7 }) & 1;
                bit(0) | bit(1) << 1 | bit(2) << 2
            }
        }
    }
}

/// The weight of a row whose bytes stand at a place of it: the last weights, too few for a block, are in natural order.
fn weight_in_row(place: u64, k: u64) -> usize {
    let block = place / BLOCK * BLOCK;
    let within = (place - block) as usize;
    block as usize + if block + BLOCK <= k { weight_at(within) } else { within }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Analysis, Encoder};

    const K: u64 = 70;
    /// Rows of two segments, of which the second has two rows.
    const ROWS: u64 = 18;
    const EIGHT: Encoding = Encoding::Bf16Palette8;

    /// A tensor with 18 high bytes, all of them in any two rows.
    struct Sample {
        encoding: Encoding,
        weights: Vec<u16>,
        home: Vec<u8>,
        pieces: Vec<(u64, Vec<u8>)>,
    }

    impl Sample {
        /// In pieces of so many rows.
        fn new(encoding: Encoding, rows: &[u64]) -> Self {
            let high = |i: u16| {
                if i.is_multiple_of(7) { 0x64 + i / 7 % 12 } else { 0x3C + i % 3 + i / 3 % 2 * 0x80 }
            };
            let weights: Vec<u16> =
                (0..(K * ROWS) as u16).map(|i| high(i) << 8 | ((i * 51) & 0xFF)).collect();
            let encoder =
                Encoder::forced(&Analysis::of(&weights), Shape { k: K, rows: ROWS }, encoding).unwrap();
            let (mut home, mut pieces) = (Vec::new(), Vec::new());
            for &rows in rows {
                let (low, piece) = encoder.whole(&weights[home.len()..home.len() + (K * rows) as usize]);
                home.extend(low);
                pieces.push((rows, piece));
            }
            Self { encoding, weights, home, pieces }
        }

        fn pieces(&self) -> Vec<(u64, &[u8])> {
            self.pieces.iter().map(|(rows, bytes)| (*rows, &bytes[..])).collect()
        }

        fn decode(&self) -> Result<Vec<u16>, PieceError> {
            decode(&self.home, &self.pieces(), self.encoding, K)
        }

        fn decode_anything(&self) -> Result<Vec<u16>, PieceError> {
            decode_anything(&self.home, &self.pieces(), self.encoding, K)
        }
    }

    /// What is said of a tensor of one piece after a change to that.
    fn refusal(change: impl FnOnce(&mut Vec<u8>, &PieceLayout)) -> PieceError {
        let mut sample = Sample::new(EIGHT, &[ROWS]);
        let piece = &mut sample.pieces[0].1;
        let shape = Shape { k: K, rows: ROWS };
        let layout = PieceLayout::new(EIGHT, shape, u64::from(piece[16])).unwrap();
        change(piece, &layout);
        sample.decode().unwrap_err()
    }

    /// The same for a tensor of two pieces, after any change.
    fn refusal_of_two(change: impl FnOnce(&mut Sample)) -> PieceError {
        let mut sample = Sample::new(EIGHT, &[16, 2]);
        change(&mut sample);
        sample.decode().unwrap_err()
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        for encoding in Encoding::ALL {
            let mut sample = Sample::new(encoding, &[16, 2]);
            assert_eq!(sample.decode().as_ref(), Ok(&sample.weights));
            for part in 0..=2 {
                let length = if part == 0 { sample.home.len() } else { sample.pieces[part - 1].1.len() };
                for bit in 0..8 * length {
                    let flip = |sample: &mut Sample| {
                        let bytes = match part {
                            0 => &mut sample.home,
                            _ => &mut sample.pieces[part - 1].1,
                        };
                        bytes[bit / 8] ^= 1 << (bit % 8);
                    };
                    flip(&mut sample);
                    assert!(sample.decode().as_ref() != Ok(&sample.weights), "bit {bit} of part {part}");
                    flip(&mut sample);
                }
            }
        }
    }

    #[test]
    fn lengths() {
        let len = Sample::new(EIGHT, &[ROWS]).pieces[0].1.len() as u64;
        let wrong = |found| PieceError::Length { found, needed: len };
        assert_eq!(refusal(|piece, _| piece.push(0)), wrong(len + 1));
        assert_eq!(refusal(|piece, _| piece.truncate(piece.len() - 1)), wrong(len - 1));
        assert_eq!(refusal(|piece, _| piece.truncate(63)), PieceError::Length { found: 63, needed: 64 });
    }

    #[test]
    fn homes() {
        let found = |found| PieceError::Home { found };
        assert_eq!(refusal_of_two(|sample| sample.home.push(0)), found(1261));
        assert_eq!(refusal_of_two(|sample| sample.home.truncate(1259)), found(1259));
        assert_eq!(refusal_of_two(|sample| drop(sample.pieces.pop())), found(1260));
        assert_eq!(refusal_of_two(|sample| sample.pieces[1].0 = u64::MAX), found(1260));
    }

    #[test]
    fn pieces_of_one_tensor() {
        assert_eq!(refusal_of_two(|sample| sample.pieces.swap(0, 1)), PieceError::Rows);
        assert_eq!(refusal_of_two(|sample| sample.pieces[0].0 = 15), PieceError::Rows);
        assert_eq!(refusal_of_two(|sample| sample.pieces[1].0 = 1), PieceError::Header);
        assert_eq!(refusal_of_two(|sample| sample.pieces[1].1[25] ^= 1), PieceError::Header);
    }

    #[test]
    fn headers() {
        for at in [0, 8, 24] {
            assert_eq!(refusal(|piece, _| piece[at] ^= 1), PieceError::Header);
        }
        assert_eq!(refusal(|piece, _| piece[25] = 2), PieceError::Header);
        assert_eq!(refusal(|piece, _| piece[16..24].fill(0xFF)), PieceError::Header);
        let Sample { home, pieces, .. } = Sample::new(EIGHT, &[ROWS]);
        let piece = &pieces[0].1;
        for (k, rows) in [(63, 20), (18, 70), (0, u64::MAX)] {
            let home = &home[..(k * rows) as usize];
            assert_eq!(decode(home, &[(rows, piece)], EIGHT, k), Err(PieceError::Header));
        }
        let other = decode(&home, &[(ROWS, piece)], Encoding::Bf16Palette16, K);
        assert_eq!(other, Err(PieceError::Header));
    }

    #[test]
    fn rows_that_are_too_long() {
        let k = LONGEST_ROW + 1;
        let encoder = Encoder::forced(&Analysis::default(), Shape { k, rows: 1 }, EIGHT).unwrap();
        let (home, piece) = encoder.whole(&vec![0; k as usize]);
        assert_eq!(decode(&home, &[(1, &piece)], EIGHT, k), Err(PieceError::RowLength(k)));
    }

    #[test]
    fn padding() {
        for at in [26, 31, 40, 48, 63] {
            assert_eq!(refusal(|piece, _| piece[at] = 1), PieceError::Padding, "byte {at}");
        }
        for end in [|l: &PieceLayout| l.starts, |l: &PieceLayout| l.escapes, |l: &PieceLayout| l.len] {
            assert_eq!(refusal(|piece, layout| piece[end(layout) as usize - 1] = 1), PieceError::Padding);
        }
    }

    #[test]
    fn segment_starts() {
        let escapes = Sample::new(EIGHT, &[ROWS]).pieces[0].1[16];
        let first = refusal(|piece, layout| piece[layout.starts as usize] = 1);
        assert_eq!(first, PieceError::SegmentStart { segment: 0, found: 1 });
        let beyond = refusal(|piece, layout| piece[layout.starts as usize + 4] = escapes + 1);
        assert_eq!(beyond, PieceError::SegmentStart { segment: 0, found: 0 });
        // One escape of the second segment given to the first, whose places go back and forth then.
        let one_more = refusal(|piece, layout| piece[layout.starts as usize + 4] += 1);
        assert_eq!(one_more, PieceError::Escape(0));
    }

    #[test]
    fn escapes() {
        assert_eq!(refusal(|piece, _| piece[16] -= 1), PieceError::Padding);
        // One more escape, at distance 0 of the last.
        assert_eq!(refusal(|piece, _| piece[16] += 1), PieceError::Escape(1));
        let repeated = refusal(|piece, layout| piece[layout.escapes as usize + 2] = 0);
        assert_eq!(repeated, PieceError::Escape(0));
        // The last one moved to the first place that belongs to no weight.
        let beyond = refusal(|piece, layout| {
            let from = layout.escapes as usize + 2 * usize::from(piece[layout.starts as usize + 4]);
            let last = layout.escapes as usize + 2 * (usize::from(piece[16]) - 1);
            let before: u8 = piece[from..last].iter().step_by(2).sum();
            piece[last] = 2 * K as u8 - before;
        });
        assert_eq!(beyond, PieceError::Escape(1));
    }

    #[test]
    fn places_that_fill_up() {
        // The first segment has 1120 weights and 1152 places. The last 128 are a group: its place 96 is where v is 6, byte 0.
        let change = |piece: &mut Vec<u8>, layout: &PieceLayout| piece[layout.codes as usize + 16 * 24] ^= 8;
        assert_eq!(refusal(change), PieceError::Fill(0));
        // Place 95 belongs to a weight: v 5, byte 15 of the third part.
        let mut sample = Sample::new(EIGHT, &[ROWS]);
        sample.pieces[0].1[64 + 16 * 24 + 47] ^= 16;
        let decoded = sample.decode().unwrap();
        let changed: Vec<usize> = (0..decoded.len()).filter(|&i| decoded[i] != sample.weights[i]).collect();
        assert_eq!(changed, [16 * K as usize - 1]);
    }

    #[test]
    fn anything_after_the_header_is_read_somehow() {
        for encoding in Encoding::ALL {
            let mut sample = Sample::new(encoding, &[16, 2]);
            assert_eq!(sample.decode_anything().as_ref(), Ok(&sample.weights));
            for fill in [0, 0x55, 0xFF] {
                sample.pieces.iter_mut().for_each(|(_, bytes)| bytes[64..].fill(fill));
                assert_eq!(sample.decode_anything().map(|weights| weights.len()), Ok(70 * 18));
            }
        }
    }
}
