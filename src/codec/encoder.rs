use std::borrow::Cow;

use super::analysis::Palette;
use super::blob::{BlobLayout, Encoding, Shape};
use super::constants::{BLOCK, GROUP_BLOCKS, HEADER_BYTES};
use super::{Analysis, weight_at};

const PLACES: usize = BLOCK as usize;
/// The farthest that an escape can be from the one before it.
const FARTHEST: usize = 255;
/// Among codes: there is none.
const UNCODED: u8 = 0xFF;

/// Codes one tensor, some segments at a time, in any order and on any number of threads.
#[derive(Debug)]
pub struct Encoder {
    pub encoding: Encoding,
    pub shape: Shape,
    shift: u8,
    palette: Vec<u8>,
    layout: BlobLayout,
}

/// The coded form of some segments: what goes into each region of the blob.
#[derive(Debug, Default)]
pub struct Chunk {
    low: Vec<u8>,
    codes: Vec<u8>,
    /// Per segment, its first escape, counted from the chunk's.
    starts: Vec<u64>,
    escapes: Vec<u8>,
    segment: Segment,
}

impl Chunk {
    /// Escapes in the chunk.
    pub fn escapes(&self) -> u64 {
        self.escapes.len() as u64 / 2
    }
}

/// A segment being coded; kept from one to the next for its memory.
#[derive(Debug, Default)]
struct Segment {
    high: Vec<u8>,
    codes: Vec<u8>,
}

impl Encoder {
    /// `None` where no encoding makes the tensor smaller.
    pub fn new(analysis: &Analysis, shape: Shape) -> Option<Self> {
        Self::with(analysis.best(shape)?, shape)
    }

    /// As [`Encoder::new`], but in an encoding of the caller's choice, whether it saves bytes or not.
    pub fn forced(analysis: &Analysis, shape: Shape, encoding: Encoding) -> Option<Self> {
        Self::with(analysis.palette(encoding), shape)
    }

    fn with(Palette { encoding, shift, high, .. }: Palette, shape: Shape) -> Option<Self> {
        let layout = BlobLayout::new(encoding, shape, 0)?;
        Some(Self { encoding, shape, shift, palette: high, layout })
    }

    /// Length of the blob, given the number of escapes; `None` beyond 64 bits.
    pub fn blob_len(&self, escapes: u64) -> Option<u64> {
        BlobLayout::new(self.encoding, self.shape, escapes).map(|layout| layout.len)
    }

    /// The header of a blob with so many escapes.
    pub fn header(&self, escapes: u64) -> [u8; HEADER_BYTES as usize] {
        let mut header = [0; HEADER_BYTES as usize];
        header[0..8].copy_from_slice(&self.shape.k.to_le_bytes());
        header[8..16].copy_from_slice(&self.shape.rows.to_le_bytes());
        header[16..24].copy_from_slice(&escapes.to_le_bytes());
        header[24] = self.encoding.code_bits();
        header[25] = self.shift;
        header[32..32 + self.palette.len()].copy_from_slice(&self.palette);
        header
    }

    /// Rows that one chunk may have: whole segments, about `bytes` of weights.
    pub fn rows_for(&self, bytes: u64) -> u64 {
        let segment = self.shape.segment_rows();
        (bytes / (2 * self.shape.k).max(1) / segment).max(1) * segment
    }

    /// Where the bytes of a chunk go in the blob: `row` is its first row, `before` the number of escapes that precede it.
    pub fn regions<'a>(&self, row: u64, before: u64, chunk: &'a Chunk) -> [(u64, Cow<'a, [u8]>); 4] {
        let block = row * self.shape.blocks();
        let starts = chunk.starts.iter().flat_map(|&start| ((before + start) as u32).to_le_bytes());
        [
            (self.layout.low + block * BLOCK, Cow::from(&chunk.low)),
            (self.layout.codes + block * self.encoding.code_bytes(), Cow::from(&chunk.codes)),
            (
                self.layout.starts + row / self.shape.segment_rows() * 4,
                Cow::from(starts.collect::<Vec<u8>>()),
            ),
            (self.layout.escapes + 2 * before, Cow::from(&chunk.escapes)),
        ]
    }

    /// Codes whole rows; the first must be the first of a segment.
    pub fn encode(&self, weights: &[u16]) -> Chunk {
        let mut chunk = Chunk::default();
        self.encode_into(weights, &mut chunk);
        chunk
    }

    /// As [`Encoder::encode`], in the memory of an earlier chunk.
    pub fn encode_into(&self, weights: &[u16], chunk: &mut Chunk) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has AVX2.
            return unsafe { self.encode_avx2(weights, chunk) };
        }
        self.encode_portable(weights, chunk);
    }

    /// The same code, compiled for wider vectors.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn encode_avx2(&self, weights: &[u16], chunk: &mut Chunk) {
        self.encode_portable(weights, chunk);
    }

    #[inline(always)]
    fn encode_portable(&self, weights: &[u16], chunk: &mut Chunk) {
        let k = self.shape.k as usize;
        let segment_rows = self.shape.segment_rows() as usize;
        let Chunk { low, codes, starts, escapes, segment } = chunk;
        low.clear();
        codes.clear();
        starts.clear();
        escapes.clear();
        for rows in weights.chunks((segment_rows * k).max(1)) {
            starts.push(escapes.len() as u64 / 2);
            segment.high.clear();
            segment.codes.clear();
            for row in rows.chunks_exact(k) {
                let (full, rest) = row.as_chunks::<PLACES>();
                for block in full {
                    self.split_block(block, PLACES, low, segment);
                }
                if !rest.is_empty() {
                    let mut block = [0; PLACES];
                    block[..rest.len()].copy_from_slice(rest);
                    self.split_block(&block, rest.len(), low, segment);
                }
            }
            segment.take_escapes(escapes);
            match self.encoding {
                Encoding::Bf16Palette8 => pack3(&segment.codes, codes),
                Encoding::Bf16Palette16 => pack4(&segment.codes, codes),
            }
        }
    }

    /// Low bytes, high bytes and codes of a block. `used`: weights that are in the row; the other places hold low byte 0 and code 0.
    #[inline(always)]
    fn split_block(&self, block: &[u16; PLACES], used: usize, low: &mut Vec<u8>, segment: &mut Segment) {
        let mut placed = [0u16; PLACES];
        for place in (0..PLACES).step_by(8) {
            let weight = weight_at(place);
            placed[place..place + 8].copy_from_slice(&block[weight..weight + 8]);
        }
        let added = u16::from(self.shift) << 7;
        let stored = placed.map(|weight| weight.wrapping_add(added));
        let mut lows = stored.map(|stored| stored as u8);
        let mut highs = stored.map(|stored| (stored >> 8) as u8);
        let mut codes = [UNCODED; PLACES];
        // All places against one high byte after the other: compilers turn that into vector instructions, a table they do not.
        for (code, &high) in self.palette.iter().enumerate() {
            for (place, &found) in codes.iter_mut().zip(&highs) {
                *place = if found == high { code as u8 } else { *place };
            }
        }
        if used < PLACES {
            for place in (0..PLACES).filter(|&place| weight_at(place) >= used) {
                (lows[place], highs[place], codes[place]) =
                    (0, self.palette.first().copied().unwrap_or(0), 0);
            }
        }
        low.extend_from_slice(&lows);
        segment.high.extend_from_slice(&highs);
        segment.codes.extend_from_slice(&codes);
    }

    /// Codes a whole tensor at once, in memory.
    pub fn blob(&self, weights: &[u16]) -> Vec<u8> {
        let chunk = self.encode(weights);
        let len = self.blob_len(chunk.escapes()).expect("weights in memory have a length");
        let mut blob = vec![0; len as usize];
        let mut put =
            |at: u64, bytes: &[u8]| blob[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        put(0, &self.header(chunk.escapes()));
        for (at, bytes) in self.regions(0, 0, &chunk) {
            put(at, &bytes);
        }
        blob
    }
}

impl Segment {
    /// Lists the weights without a code as escapes, and gives them code 0.
    #[inline(always)]
    fn take_escapes(&mut self, escapes: &mut Vec<u8>) {
        const TOPS: u64 = 0x8080_8080_8080_8080;
        let Self { high, codes } = self;
        let mut last = 0;
        let mut escape = |place: usize, code: &mut u8, last: usize| {
            escapes.extend_from_slice(&[(place - last) as u8, high[place]]);
            *code = 0;
        };
        for eighth in 0..codes.len() / 8 {
            let eight: &[u8; 8] = codes[8 * eighth..].first_chunk().expect("whole blocks");
            // Codes are below 128.
            let mut uncoded = u64::from_le_bytes(*eight) & TOPS;
            while uncoded != 0 {
                let place = 8 * eighth + uncoded.trailing_zeros() as usize / 8;
                // Too far for one distance: weights on the way are escapes too, though they have a code.
                while place - last > FARTHEST {
                    let between = last + FARTHEST;
                    escape(between, &mut codes[between], last);
                    last = between;
                }
                escape(place, &mut codes[place], last);
                last = place;
                uncoded &= uncoded - 1;
            }
        }
    }
}

/// Codes of whole blocks: groups of 8 blocks, then of 4, 2 and 1 as the number is made up of them.
#[inline(always)]
fn pack3(codes: &[u8], out: &mut Vec<u8>) {
    let (groups, mut rest) = codes.as_chunks::<{ GROUP_BLOCKS as usize * PLACES }>();
    for group in groups {
        pack3_group::<{ GROUP_BLOCKS as usize * 8 }>(group, out);
    }
    for blocks in [4, 2, 1] {
        if (rest.len() / PLACES) & blocks != 0 {
            let (group, after) = rest.split_at(blocks * PLACES);
            match blocks {
                4 => pack3_group::<32>(group, out),
                2 => pack3_group::<16>(group, out),
                _ => pack3_group::<8>(group, out),
            }
            rest = after;
        }
    }
}

/// 8 W codes in 3 W bytes.
#[inline(always)]
fn pack3_group<const W: usize>(codes: &[u8], out: &mut Vec<u8>) {
    let vectors = codes.as_chunks::<W>().0;
    for third in 0..3 {
        let byte = |i: usize| {
            let spread = (vectors[6][i] >> third & 1) << 3 | (vectors[7][i] >> third & 1) << 7;
            vectors[2 * third][i] | vectors[2 * third + 1][i] << 4 | spread
        };
        out.extend_from_slice(&std::array::from_fn::<u8, W, _>(byte));
    }
}

#[inline(always)]
fn pack4(codes: &[u8], out: &mut Vec<u8>) {
    for block in codes.as_chunks::<PLACES>().0 {
        out.extend_from_slice(&std::array::from_fn::<u8, 32, _>(|l| block[l] | block[32 + l] << 4));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::constants::LONGEST_ROW;
    use crate::codec::oracle;

    /// Weights of a few exponents, and, as often as `wild` of 16 says, any.
    pub fn weights(n: u64, wild: u64) -> Vec<u16> {
        let mut state = n;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = (state >> 40) as u16;
            let exponent = 120 + (state >> 33 & 3) as u16;
            if state >> 60 < wild { bits } else { bits & 0x807F | exponent << 7 }
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn escapes_that_are_far_apart_have_others_between() {
        // One rare high byte at the end of a segment of 4096 places.
        let shape = Shape { k: 4096, rows: 1 };
        let mut rare = vec![0x3F80u16; 4096];
        rare[4095] = 0x7F80;
        let common = [0x3E80, 0x3D80, 0x3C80, 0x3B80, 0x3A80, 0x3980, 0x3880];
        for (i, weight) in rare[..70].iter_mut().enumerate() {
            *weight = common[i % 7];
        }
        let encoder = Encoder::forced(&Analysis::of(&rare), shape, Encoding::Bf16Palette8).unwrap();
        let chunk = encoder.encode(&rare);
        assert_eq!(chunk.escapes(), 17);
        let between = [255, 0x3F];
        assert_eq!(chunk.escapes[..32].as_chunks::<2>().0, [between; 16]);
        assert_eq!(chunk.escapes[32..], [(4095 - 16 * 255) as u8, 0x7F]);
        assert_eq!(oracle::decode(&encoder.blob(&rare), encoder.encoding, shape).unwrap(), rare);
    }

    #[test]
    fn rows_longer_than_the_format_allows_stay_plain() {
        let analysis = Analysis::of(&weights(LONGEST_ROW + 1, 0));
        assert!(Encoder::new(&analysis, Shape { k: LONGEST_ROW + 1, rows: 1 }).is_none());
        assert!(Encoder::new(&analysis, Shape { k: LONGEST_ROW, rows: 1 }).is_some());
    }

    #[test]
    fn nothing_has_no_encoding() {
        for shape in [Shape { k: 0, rows: 0 }, Shape { k: 0, rows: 9 }, Shape { k: 9, rows: 0 }] {
            assert!(Encoder::new(&Analysis::default(), shape).is_none());
        }
    }

    proptest! {
        #[test]
        fn chunks_give_the_blob_of_the_whole(
            k in 1u64..150, rows in 1u64..100, wild in 0u64..6, segments in 1u64..4, four in any::<bool>(),
        ) {
            let encoding = Encoding::ALL[usize::from(four)];
            let weights = weights(k * rows, wild);
            let mut analysis = Analysis::default();
            let mut blob = Vec::new();
            for part in weights.chunks(7) {
                analysis.add(&Analysis::of(part));
            }
            prop_assert_eq!(&analysis, &Analysis::of(&weights));
            let encoder = Encoder::forced(&analysis, Shape { k, rows }, encoding).unwrap();
            let whole = encoder.blob(&weights);
            blob.resize(whole.len(), 0);
            let (mut row, mut before) = (0, 0);
            for part in weights.chunks((segments * encoder.shape.segment_rows() * k) as usize) {
                let chunk = encoder.encode(part);
                for (at, bytes) in encoder.regions(row, before, &chunk) {
                    blob[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
                }
                row += part.len() as u64 / k;
                before += chunk.escapes();
            }
            blob[..64].copy_from_slice(&encoder.header(before));
            prop_assert!(whole == blob);
            prop_assert_eq!(oracle::decode(&blob, encoding, Shape { k, rows }).unwrap(), weights);
        }

        #[test]
        fn the_smallest_blob_is_chosen(k in 1u64..150, rows in 1u64..30, wild in 0u64..17) {
            let (weights, shape) = (weights(k * rows, wild), Shape { k, rows });
            let analysis = Analysis::of(&weights);
            let forced = Encoding::ALL.map(|e| Encoder::forced(&analysis, shape, e).unwrap().blob(&weights).len());
            // Escapes between escapes are not foreseen to the byte.
            let unforeseen = 2 * (64 * shape.blocks() * rows / 255) as usize + 64;
            match Encoder::new(&analysis, shape) {
                Some(encoder) => {
                    let len = encoder.blob(&weights).len();
                    prop_assert!(len < 2 * weights.len());
                    prop_assert!(forced.into_iter().all(|other| len <= other + unforeseen));
                }
                None => prop_assert!(forced.into_iter().all(|len| len + unforeseen >= 2 * weights.len())),
            }
        }
    }
}
