//! A second reader of homes and pieces, written to be read beside docs/FORMAT.md: slow, strict, and with nothing in common with the
//! kernels.

use thiserror::Error;

use super::constants::{BLOCK, GROUP_BLOCKS, GROUP6_BLOCKS, HEADER_BYTES, LONGEST_ROW};
use super::number::{f16_is_bf16, f16_of_bf16, f32_is_f16, f32_of_f16};
use super::{Encoding, Number, PieceLayout, Shape, weight_at};

/// What is wrong with a home or a piece.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PieceError {
    #[error("the home has {found} bytes, not one for each weight of its pieces' rows")]
    Home { found: u64 },
    #[error("no tensor of such numbers has this encoding")]
    Original,
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
    #[error("a weight of segment {0} of the piece is no such number as the original has")]
    Number(u64),
}

/// The original bytes of a tensor with rows of `k` weights, from its home and its pieces: each with the number of its rows.
///
/// # Errors
/// Whatever a strict reader must reject.
pub fn decode(
    home: &[u8],
    pieces: &[(u64, &[u8])],
    encoding: Encoding,
    original: Number,
    k: u64,
) -> Result<Vec<u8>, PieceError> {
    read(home, pieces, encoding, original, k, true)
}

/// As [`decode`], but whatever follows the headers: what a reader computes that checks no escape and only stays inside. A weight that is
/// no such number as the original has becomes the nearest.
///
/// # Errors
/// If a header or a length is wrong.
pub fn decode_anything(
    home: &[u8],
    pieces: &[(u64, &[u8])],
    encoding: Encoding,
    original: Number,
    k: u64,
) -> Result<Vec<u8>, PieceError> {
    read(home, pieces, encoding, original, k, false)
}

fn read(
    home: &[u8],
    pieces: &[(u64, &[u8])],
    encoding: Encoding,
    original: Number,
    k: u64,
    strict: bool,
) -> Result<Vec<u8>, PieceError> {
    if !encoding.takes(original) {
        return Err(PieceError::Original);
    }
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
        opened.push(Piece::open(low, bytes, encoding, original, shape, strict)?);
    }
    if !left.is_empty() {
        return Err(PieceError::Home { found: home.len() as u64 });
    }
    if opened.iter().any(|piece| piece.shift() != opened[0].shift()) {
        return Err(PieceError::Header);
    }
    let mut out = Vec::new();
    for piece in opened {
        for segment in 0..piece.shape.segments() {
            piece.read_segment(segment, &mut out)?;
        }
    }
    Ok(out)
}

struct Piece<'a> {
    /// Of the piece's rows, k each.
    low: &'a [u8],
    bytes: &'a [u8],
    layout: PieceLayout,
    encoding: Encoding,
    original: Number,
    shape: Shape,
    escapes: u64,
    strict: bool,
}

impl<'a> Piece<'a> {
    fn open(
        low: &'a [u8],
        bytes: &'a [u8],
        encoding: Encoding,
        original: Number,
        shape: Shape,
        strict: bool,
    ) -> Result<Self, PieceError> {
        let short = PieceError::Length { found: bytes.len() as u64, needed: HEADER_BYTES };
        let header = bytes.get(..HEADER_BYTES as usize).ok_or(short)?;
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let escapes = u64_at(16);
        let layout = PieceLayout::new(encoding, shape, escapes).ok_or(PieceError::Header)?;
        let named = [u64_at(0), u64_at(8), u64::from(header[24]), u64::from(header[26])];
        let code_bits = u64::from(encoding.code_bits());
        if named != [shape.k, shape.rows, code_bits, encoding.stored() as u64] || header[25] > 1 {
            return Err(PieceError::Header);
        }
        if bytes.len() as u64 != layout.len {
            return Err(PieceError::Length { found: bytes.len() as u64, needed: layout.len });
        }
        let code_bytes = shape.blocks().map_or(0, |blocks| blocks * encoding.code_bytes())
            + low.len() as u64 * encoding.word_bytes();
        let zero = |from: u64, to: u64| bytes[from as usize..to as usize].iter().all(|&byte| byte == 0);
        let reserved = zero(27, 32) && zero(32 + encoding.palette_len() as u64, HEADER_BYTES);
        let padding = zero(layout.codes + code_bytes, layout.starts)
            && zero(layout.starts + 4 * shape.segments(), layout.escapes)
            && zero(layout.escapes + 2 * escapes, layout.len);
        if !reserved || strict && !padding {
            return Err(PieceError::Padding);
        }
        let piece = Self { low, bytes, layout, encoding, original, shape, escapes, strict };
        if strict && piece.palette().iter().any(|high| high & !encoding.coded_bits() != 0) {
            return Err(PieceError::Header);
        }
        Ok(piece)
    }

    fn palette(&self) -> &[u8] {
        &self.bytes[32..32 + self.encoding.palette_len()]
    }

    fn shift(&self) -> u8 {
        self.bytes[25]
    }

    /// Appends the original bytes of a segment.
    fn read_segment(&self, segment: u64, out: &mut Vec<u8>) -> Result<(), PieceError> {
        let (k, first) = (self.shape.k, segment * self.shape.segment_rows());
        let rows = self.shape.segment_rows().min(self.shape.rows - first);
        let blocks = self.shape.segment_blocks(rows);
        let codes = self.codes(segment, blocks);
        let (used, fill) = codes.split_at((rows * k) as usize);
        if self.strict && fill.iter().any(|&code| code != 0) {
            return Err(PieceError::Fill(segment));
        }
        let high = self.high_bytes(segment, used)?;
        let low = &self.low[(first * k) as usize..][..used.len()];
        let words = self.segment(segment) + (blocks * self.encoding.code_bytes()) as usize;
        let shift = u16::from(self.shift()) * self.encoding.exponent_step();
        for row in 0..rows {
            let mut stored = vec![0; k as usize];
            for place in 0..k {
                let at = (row * k + place) as usize;
                let word = u16::from(high[at]) << 8 | u16::from(low[at]);
                stored[weight_in_row(place, k)] = word.wrapping_sub(shift);
            }
            for (i, &word) in (row * k..).zip(&stored) {
                let at = words + 2 * i as usize;
                let behind = || u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]);
                let number = self.number(word, behind).ok_or(PieceError::Number(segment))?;
                out.extend_from_slice(&number.to_le_bytes()[..self.original.bytes() as usize]);
            }
        }
        Ok(())
    }

    /// The bits of a weight in the original, from its word; `behind`: for F32 proper, its lower half. `None` if it is no such number.
    fn number(&self, word: u16, behind: impl Fn() -> u16) -> Option<u32> {
        let (number, is_one) = match (self.original, self.encoding.stored()) {
            (Number::Bf16, _) | (Number::F16, Number::F16) => (u32::from(word), true),
            (Number::F16, _) => {
                let half = f16_of_bf16(word);
                (u32::from(half), f16_is_bf16(half) && f32_of_f16(half) == u32::from(word) << 16)
            }
            (Number::F32, Number::Bf16) => (u32::from(word) << 16, true),
            (Number::F32, Number::F16) => (f32_of_f16(word), f32_is_f16(f32_of_f16(word))),
            (Number::F32, Number::F32) => (u32::from(word) << 16 | u32::from(behind()), true),
        };
        (is_one || !self.strict).then_some(number)
    }

    fn segment_start(&self, segment: u64) -> u64 {
        if segment == self.shape.segments() {
            return self.escapes;
        }
        let at = (self.layout.starts + 4 * segment) as usize;
        u64::from(u32::from_le_bytes(std::array::from_fn(|i| self.bytes[at + i])))
    }

    /// Where the codes of a segment begin, behind which its words stand. All before it are whole.
    fn segment(&self, segment: u64) -> usize {
        let rows = self.shape.segment_rows();
        let codes = self.shape.segment_blocks(rows) * self.encoding.code_bytes();
        let words = rows * self.shape.k * self.encoding.word_bytes();
        (self.layout.codes + segment * (codes + words)) as usize
    }

    /// One for each place of a segment of `blocks` blocks. Bits that stand beside a code are 16 times as high as they are worth.
    fn codes(&self, segment: u64, blocks: u64) -> Vec<u8> {
        let start = self.segment(segment);
        (0..blocks * BLOCK).map(|place| self.code(start, blocks, place)).collect()
    }

    /// One for each place of a segment that belongs to a weight; `codes` are theirs.
    fn high_bytes(&self, segment: u64, codes: &[u8]) -> Result<Vec<u8>, PieceError> {
        let high = |&code: &u8| match self.encoding.stored() {
            Number::F16 => self.palette()[usize::from(code & 15)] | code >> 4,
            _ => self.palette()[usize::from(code)],
        };
        let mut high: Vec<u8> = codes.iter().map(high).collect();
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
        let (block, within) = (place / BLOCK, place % BLOCK);
        match self.encoding {
            Encoding::Bf16Palette16 | Encoding::F32Palette16 => {
                let byte = self.bytes[start + (32 * block + within % 32) as usize];
                byte >> (4 * (within / 32)) & 15
            }
            Encoding::Bf16Palette8 | Encoding::F32Palette8 => {
                let group = Group::of(block, blocks, GROUP_BLOCKS);
                let width = 8 * group.blocks;
                let at = (block - group.first) * BLOCK + within;
                let part =
                    |part: u64| self.bytes[start + (24 * group.first + part * width + at % width) as usize];
                match at / width {
                    v @ 0..6 => part(v / 2) >> (4 * (v % 2)) & 7,
                    v => {
                        let bit = |third: u64| part(third) >> (if v == 6 { 3 } else { 7 }) & 1;
                        bit(0) | bit(1) << 1 | bit(2) << 2
                    }
                }
            }
            Encoding::F16Palette8 => {
                let group = Group::of(block, blocks, GROUP6_BLOCKS);
                let width = 16 * group.blocks;
                let at = (block - group.first) * BLOCK + within;
                let part =
                    |part: u64| self.bytes[start + (48 * group.first + part * width + at % width) as usize];
                match at / width {
                    v @ 0..3 => part(v) & 0x77,
                    _ => {
                        let bit = |third: u64, at: u8| (part(third) >> at & 1) << third;
                        let bits = |at: u8| bit(0, at) | bit(1, at) | bit(2, at);
                        bits(3) | bits(7) << 4
                    }
                }
            }
        }
    }
}

/// Blocks of a segment whose codes are packed together.
struct Group {
    first: u64,
    blocks: u64,
}

impl Group {
    /// The group that a block is in, of a segment of `blocks` blocks: `most` as long as there are so many, then half of that, and so on.
    fn of(block: u64, blocks: u64, most: u64) -> Self {
        let mut group = Self { first: 0, blocks: most };
        loop {
            if group.first + group.blocks > blocks {
                group.blocks /= 2;
            } else if block >= group.first + group.blocks {
                group.first += group.blocks;
            } else {
                return group;
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
    use crate::codec::samples::ways;
    use crate::codec::{Analysis, Encoder};

    const K: u64 = 70;
    /// Rows of two segments, of which the second has two rows.
    const ROWS: u64 = 18;
    const EIGHT: Encoding = Encoding::Bf16Palette8;

    /// A tensor with 18 high bytes, all of them in any two rows.
    struct Sample {
        encoding: Encoding,
        original: Number,
        weights: Vec<u8>,
        home: Vec<u8>,
        pieces: Vec<(u64, Vec<u8>)>,
    }

    impl Sample {
        /// In pieces of so many rows.
        fn new(encoding: Encoding, rows: &[u64]) -> Self {
            Self::of(encoding, encoding.stored(), rows)
        }

        fn of(encoding: Encoding, original: Number, rows: &[u64]) -> Self {
            let is_f16 = [original, encoding.stored()].contains(&Number::F16);
            let high = |i: u16| match (is_f16, i.is_multiple_of(7)) {
                (true, true) => i / 7 % 12 * 8,
                (true, false) => 0x80 + (i % 3 + i / 3 % 2 * 3) * 8,
                (false, true) => 0x64 + i / 7 % 12,
                (false, false) => 0x3C + i % 3 + i / 3 % 2 * 0x80,
            };
            // The last 3 bits of an F16 are 0 where it has to be a BF16.
            let low = |i: u16| if original == Number::F16 { (i * 8) & 0xF8 } else { (i * 51) & 0xFF };
            let weight = |i: u16| -> Vec<u8> {
                let word = high(i) << 8 | low(i);
                match (original, encoding.stored()) {
                    (Number::F32, Number::F16) => f32_of_f16(word).to_le_bytes().into(),
                    (Number::F32, Number::F32) => {
                        [i.wrapping_mul(77).to_le_bytes(), word.to_le_bytes()].concat()
                    }
                    (Number::F32, Number::Bf16) => [[0, 0], word.to_le_bytes()].concat(),
                    _ => word.to_le_bytes().into(),
                }
            };
            let weights: Vec<u8> = (0..(K * ROWS) as u16).flat_map(weight).collect();
            let analysis = Analysis::of(original, &weights);
            let encoder = Encoder::forced(&analysis, Shape { k: K, rows: ROWS }, encoding).unwrap();
            let (mut left, mut home, mut pieces) = (&weights[..], Vec::new(), Vec::new());
            for &rows in rows {
                let (these, behind) = left.split_at((encoder.row_bytes() * rows) as usize);
                let (low, piece) = encoder.whole(these);
                home.extend(low);
                pieces.push((rows, piece));
                left = behind;
            }
            Self { encoding, original, weights, home, pieces }
        }

        fn pieces(&self) -> Vec<(u64, &[u8])> {
            self.pieces.iter().map(|(rows, bytes)| (*rows, &bytes[..])).collect()
        }

        fn decode(&self) -> Result<Vec<u8>, PieceError> {
            decode(&self.home, &self.pieces(), self.encoding, self.original, K)
        }

        fn decode_anything(&self) -> Result<Vec<u8>, PieceError> {
            decode_anything(&self.home, &self.pieces(), self.encoding, self.original, K)
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
        for (encoding, original) in ways() {
            let mut sample = Sample::of(encoding, original, &[16, 2]);
            assert_eq!(sample.decode().as_ref(), Ok(&sample.weights));
            // F32 and disguises change little of how bytes are read: some of the bits are enough.
            let step = if original == encoding.stored() && original != Number::F32 { 1 } else { 13 };
            for part in 0..=2 {
                let length = if part == 0 { sample.home.len() } else { sample.pieces[part - 1].1.len() };
                for bit in (0..8 * length).step_by(step) {
                    let flip = |sample: &mut Sample| {
                        let bytes = match part {
                            0 => &mut sample.home,
                            _ => &mut sample.pieces[part - 1].1,
                        };
                        bytes[bit / 8] ^= 1 << (bit % 8);
                    };
                    flip(&mut sample);
                    assert!(
                        sample.decode().as_ref() != Ok(&sample.weights),
                        "bit {bit} of part {part}, {original:?} as {}",
                        encoding.name()
                    );
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
        for at in [0, 8, 24, 26] {
            assert_eq!(refusal(|piece, _| piece[at] ^= 1), PieceError::Header);
        }
        assert_eq!(refusal(|piece, _| piece[25] = 2), PieceError::Header);
        assert_eq!(refusal(|piece, _| piece[16..24].fill(0xFF)), PieceError::Header);
        let Sample { home, pieces, .. } = Sample::new(EIGHT, &[ROWS]);
        let piece = &pieces[0].1;
        for (k, rows) in [(63, 20), (18, 70), (0, u64::MAX)] {
            let home = &home[..(k * rows) as usize];
            let decoded = decode(home, &[(rows, piece)], EIGHT, Number::Bf16, k);
            assert_eq!(decoded, Err(PieceError::Header));
        }
        for (other, original) in ways().filter(|&(encoding, _)| encoding != EIGHT) {
            let decoded = decode(&home, &[(ROWS, piece)], other, original, K);
            assert_eq!(decoded, Err(PieceError::Header));
        }
    }

    #[test]
    fn rows_that_are_too_long() {
        let k = LONGEST_ROW + 1;
        let encoder = Encoder::forced(&Analysis::new(Number::Bf16), Shape { k, rows: 1 }, EIGHT).unwrap();
        let (home, piece) = encoder.whole(&vec![0; 2 * k as usize]);
        let decoded = decode(&home, &[(1, &piece)], EIGHT, Number::Bf16, k);
        assert_eq!(decoded, Err(PieceError::RowLength(k)));
    }

    #[test]
    fn padding() {
        for at in [27, 31, 40, 48, 63] {
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
        assert_eq!(changed, [2 * 16 * K as usize - 1]);
    }

    /// The same in groups of 6 bits, with the bits beside the codes.
    #[test]
    fn places_that_fill_up_have_nothing_beside_their_codes() {
        // The last 2 of 18 blocks are a group of 128 places, 32 in each of its vectors: place 96 is v 3, byte 0.
        let codes = 64 + 16 * 48;
        for bit in [8, 128] {
            for third in 0..3 {
                let mut sample = Sample::new(Encoding::F16Palette8, &[ROWS]);
                sample.pieces[0].1[codes + 32 * third] ^= bit;
                assert_eq!(sample.decode(), Err(PieceError::Fill(0)));
            }
        }
        // Place 95 belongs to a weight: v 2, byte 31.
        let mut sample = Sample::new(Encoding::F16Palette8, &[ROWS]);
        sample.pieces[0].1[codes + 95] ^= 16;
        let decoded = sample.decode().unwrap();
        let changed: Vec<usize> = (0..decoded.len()).filter(|&i| decoded[i] != sample.weights[i]).collect();
        assert_eq!(changed, [2 * 16 * K as usize - 1]);
    }

    #[test]
    fn bits_beside_the_code_of_an_escape() {
        let mut sample = Sample::new(Encoding::F16Palette8, &[ROWS]);
        let piece = &mut sample.pieces[0].1;
        let shape = Shape { k: K, rows: ROWS };
        let layout = PieceLayout::new(sample.encoding, shape, u64::from(piece[16])).unwrap();
        // The first escape is among the first 64 places: vector 0 of the first group.
        let code = 64 + usize::from(piece[layout.escapes as usize]);
        assert!(code < 128 && piece[code] & 0x77 == 0);
        piece[code] |= 16;
        assert_eq!(sample.decode(), Err(PieceError::Escape(0)));
    }

    #[test]
    fn palettes_of_f16_name_the_upper_5_bits() {
        for bit in 0..3 {
            let mut sample = Sample::new(Encoding::F16Palette8, &[ROWS]);
            sample.pieces[0].1[32] |= 1 << bit;
            assert_eq!(sample.decode(), Err(PieceError::Header));
        }
    }

    #[test]
    fn originals_that_an_encoding_does_not_take() {
        for encoding in Encoding::ALL {
            let mut sample = Sample::new(encoding, &[ROWS]);
            for original in Number::ALL.into_iter().filter(|&original| !encoding.takes(original)) {
                sample.original = original;
                assert_eq!(sample.decode(), Err(PieceError::Original));
                assert_eq!(sample.decode_anything(), Err(PieceError::Original));
            }
        }
    }

    #[test]
    fn words_that_are_no_such_numbers() {
        for (encoding, original, low, high, nearest) in [
            // Too large, too small, and between two F16.
            (EIGHT, Number::F16, 0x80, 0x47, 0x7C00u32),
            (EIGHT, Number::F16, 0x00, 0x33, 0x0000),
            (EIGHT, Number::F16, 0xC0, 0x33, 0x0002),
            // NaN.
            (EIGHT, Number::F16, 0x81, 0x7F, 0x7E08),
            (Encoding::F16Palette8, Number::F32, 0x01, 0x7C, 0x7FC0_2000),
        ] {
            let word = u16::from_le_bytes([low, high]);
            // Coded as what any number may be, and taken for another.
            let plain = [word.to_le_bytes(); 8].concat();
            let stored = encoding.stored();
            let shape = Shape { k: 8, rows: 1 };
            let (home, piece) =
                Encoder::forced(&Analysis::of(stored, &plain), shape, encoding).unwrap().whole(&plain);
            let pieces = [(1, &piece[..])];
            assert_eq!(decode(&home, &pieces, encoding, stored, 8).unwrap(), plain);
            let decoded = decode(&home, &pieces, encoding, original, 8);
            assert_eq!(decoded, Err(PieceError::Number(0)), "{word:04X}");
            let expected = [&nearest.to_le_bytes()[..original.bytes() as usize]; 8].concat();
            assert_eq!(decode_anything(&home, &pieces, encoding, original, 8).unwrap(), expected);
        }
    }

    #[test]
    fn anything_after_the_header_is_read_somehow() {
        for (encoding, original) in ways() {
            let mut sample = Sample::of(encoding, original, &[16, 2]);
            assert_eq!(sample.decode_anything().as_ref(), Ok(&sample.weights));
            for fill in [0, 0x55, 0xFF] {
                sample.pieces.iter_mut().for_each(|(_, bytes)| bytes[64..].fill(fill));
                assert_eq!(sample.decode_anything().unwrap().len(), sample.weights.len());
            }
        }
    }
}
