use std::borrow::Cow;

use super::blob::{BlobLayout, Encoding, Shape};
use super::constants::{BLOCK, GROUP, HEADER_BYTES};
use super::{Analysis, exponent, rotated, weight_at};

const PLACES: usize = BLOCK as usize;

/// Codes one tensor, some groups of rows at a time, in any order and on any number of threads.
#[derive(Debug)]
pub struct Encoder {
    pub encoding: Encoding,
    pub shape: Shape,
    pub layout: BlobLayout,
    escapes: u64,
    palette: Vec<u8>,
}

/// The coded form of some rows: what goes into each region of the blob. Row starts count from the chunk's first escape.
#[derive(Debug, Default)]
pub struct Chunk {
    pub sign_mantissa: Vec<u8>,
    pub codes: Vec<u8>,
    /// Per group of rows, where its escapes begin.
    pub coarse: Vec<u64>,
    /// Little-endian u16 per row.
    pub fine: Vec<u8>,
    pub escapes: Vec<u8>,
}

impl Encoder {
    /// `None` where no encoding makes the tensor smaller.
    pub fn new(analysis: &Analysis, shape: Shape) -> Option<Self> {
        let (encoding, layout) = analysis.best(shape)?;
        Some(Self::with(analysis, shape, encoding, layout))
    }

    fn with(analysis: &Analysis, shape: Shape, encoding: Encoding, layout: BlobLayout) -> Self {
        let palette = analysis.palette(encoding);
        Self { encoding, shape, layout, escapes: analysis.escapes(encoding), palette }
    }

    /// Escapes in the whole tensor.
    pub fn escapes(&self) -> u64 {
        self.escapes
    }

    pub fn header(&self) -> [u8; HEADER_BYTES as usize] {
        let mut header = [0; HEADER_BYTES as usize];
        header[0..8].copy_from_slice(&self.shape.k.to_le_bytes());
        header[8..16].copy_from_slice(&self.shape.rows.to_le_bytes());
        header[16..24].copy_from_slice(&self.escapes.to_le_bytes());
        header[24] = self.encoding.code_bits();
        for (place, &exponent) in header[32..48].iter_mut().zip(&self.palette) {
            *place = rotated(exponent);
        }
        header
    }

    /// Rows that one chunk may have: a multiple of the group, about `bytes` of weights.
    pub fn rows_for(&self, bytes: u64) -> u64 {
        (bytes / (2 * self.shape.k).max(1) / GROUP).max(1) * GROUP
    }

    /// Where the bytes of a chunk go in the blob: `row` is its first row, `before` the number of escapes that precede it.
    pub fn regions<'a>(&self, row: u64, before: u64, chunk: &'a Chunk) -> [(u64, Cow<'a, [u8]>); 5] {
        let block = row * self.shape.blocks();
        let coarse = chunk.coarse.iter().flat_map(|&start| ((before + start) as u32).to_le_bytes());
        [
            (self.layout.sign_mantissa + block * BLOCK, Cow::from(&chunk.sign_mantissa)),
            (self.layout.codes + block * self.encoding.code_bytes(), Cow::from(&chunk.codes)),
            (self.layout.coarse + row / GROUP * 4, Cow::from(coarse.collect::<Vec<u8>>())),
            (self.layout.fine + row * 2, Cow::from(&chunk.fine)),
            (self.layout.escapes + before, Cow::from(&chunk.escapes)),
        ]
    }

    /// Codes whole rows; the first must be the first of a group. `None` if a group has more escapes than its row starts can say:
    /// such a tensor stays plain.
    pub fn encode(&self, weights: &[u16]) -> Option<Chunk> {
        let k = self.shape.k as usize;
        let rows = weights.len() / k;
        let blocks = rows * self.shape.blocks() as usize;
        let mut chunk = Chunk {
            sign_mantissa: Vec::with_capacity(blocks * PLACES),
            codes: Vec::with_capacity(blocks * self.encoding.code_bytes() as usize),
            fine: Vec::with_capacity(rows * 2),
            ..Chunk::default()
        };
        for (number, row) in weights.chunks_exact(k).enumerate() {
            if (number as u64).is_multiple_of(GROUP) {
                chunk.coarse.push(chunk.escapes.len() as u64);
            }
            let group = *chunk.coarse.last()?;
            let start = (chunk.escapes.len() as u64 - group) as u16;
            chunk.fine.extend_from_slice(&start.to_le_bytes());
            let (full, rest) = row.as_chunks::<PLACES>();
            for block in full {
                self.encode_block(block, PLACES, &mut chunk);
            }
            if !rest.is_empty() {
                let mut block = [0; PLACES];
                block[..rest.len()].copy_from_slice(rest);
                self.encode_block(&block, rest.len(), &mut chunk);
            }
            if chunk.escapes.len() as u64 - group > u64::from(u16::MAX) {
                return None;
            }
        }
        Some(chunk)
    }

    /// `used`: weights of the block that are in the row; the other places hold sign/mantissa 0 and code 0.
    fn encode_block(&self, block: &[u16; PLACES], used: usize, chunk: &mut Chunk) {
        let mut placed = [0u16; PLACES];
        for place in (0..PLACES).step_by(8) {
            let weight = weight_at(place);
            placed[place..place + 8].copy_from_slice(&block[weight..weight + 8]);
        }
        let exponents = placed.map(exponent);
        let escape = self.encoding.palette_len() as u8;
        let mut codes = [escape; PLACES];
        // All places against one exponent after the other: compilers turn that into vector instructions, a table they do not.
        for (code, &exponent) in self.palette.iter().enumerate() {
            for (place, &found) in codes.iter_mut().zip(&exponents) {
                *place = if found == exponent { code as u8 } else { *place };
            }
        }
        if used < PLACES {
            for (place, code) in codes.iter_mut().enumerate().filter(|(place, _)| weight_at(*place) >= used) {
                debug_assert_eq!(placed[place], 0);
                *code = 0;
            }
        }
        chunk
            .sign_mantissa
            .extend_from_slice(&placed.map(|weight| (weight >> 8 & 0x80) as u8 | (weight & 0x7F) as u8));
        match self.encoding {
            Encoding::Bf16Palette7 => pack3(&codes, &mut chunk.codes),
            Encoding::Bf16Palette15 => pack4(&codes, &mut chunk.codes),
        }
        for (eighth, eight) in codes.as_chunks::<8>().0.iter().enumerate() {
            let mut escaped = bytes_equal(u64::from_le_bytes(*eight), escape);
            while escaped != 0 {
                let place = 8 * eighth + escaped.trailing_zeros() as usize / 8;
                chunk.escapes.push(rotated(exponents[place]));
                escaped &= escaped - 1;
            }
        }
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// Bit 0 of each byte of `bytes` (all below 16) that equals `byte`.
fn bytes_equal(bytes: u64, byte: u8) -> u64 {
    let difference = bytes ^ (ONES * u64::from(byte));
    let nonzero = difference | difference >> 1 | difference >> 2 | difference >> 3;
    !nonzero & ONES
}

fn pack3(codes: &[u8; PLACES], out: &mut Vec<u8>) {
    let low: [u8; 16] = std::array::from_fn(|l| {
        (codes[l] & 3) | (codes[16 + l] & 3) << 2 | (codes[32 + l] & 3) << 4 | (codes[48 + l] & 3) << 6
    });
    // Bit 2 of eight bytes at a time, each eight one bit further up.
    let high = codes
        .as_chunks::<8>()
        .0
        .iter()
        .enumerate()
        .fold(0, |high, (b, eight)| high | (u64::from_le_bytes(*eight) >> 2 & ONES) << b);
    out.extend_from_slice(&low);
    out.extend_from_slice(&high.to_le_bytes());
}

fn pack4(codes: &[u8; PLACES], out: &mut Vec<u8>) {
    let both: [u8; 32] = std::array::from_fn(|l| codes[l] | codes[32 + l] << 4);
    out.extend_from_slice(&both);
}

/// A whole blob in memory, for tensors that are small.
impl Encoder {
    /// Codes a whole tensor at once; `None` as for [`Encoder::encode`].
    pub fn blob(&self, weights: &[u16]) -> Option<Vec<u8>> {
        let chunk = self.encode(weights)?;
        let mut blob = vec![0; self.layout.len as usize];
        let mut put =
            |at: u64, bytes: &[u8]| blob[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        put(0, &self.header());
        for (at, bytes) in self.regions(0, 0, &chunk) {
            put(at, &bytes);
        }
        Some(blob)
    }

    /// As [`Encoder::new`], but in an encoding of the caller's choice, whether it saves bytes or not.
    pub fn forced(analysis: &Analysis, shape: Shape, encoding: Encoding) -> Option<Self> {
        let layout = BlobLayout::new(encoding, shape, analysis.escapes(encoding))?;
        Some(Self::with(analysis, shape, encoding, layout))
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
    fn too_many_escapes_in_a_group_are_refused() {
        let shape = Shape { k: 5000, rows: 16 };
        let weights: Vec<u16> = (0..shape.k * shape.rows).map(|i| (i % 256) as u16 * 128).collect();
        let encoder = |weights: &[u16], shape| {
            Encoder::forced(&Analysis::of(weights), shape, Encoding::Bf16Palette7).unwrap()
        };
        assert!(encoder(&weights, shape).blob(&weights).is_none());
        // The last row of a group has no row after it to notice.
        let one = Shape { k: shape.k * shape.rows, rows: 1 };
        assert!(encoder(&weights, one).blob(&weights).is_none());
        let fewer = Shape { k: 4000, rows: 16 };
        assert!(encoder(&weights[..64_000], fewer).blob(&weights[..64_000]).is_some());
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
            k in 1u64..150, rows in 1u64..100, wild in 0u64..6, groups in 1u64..4, four in any::<bool>(),
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
            blob.resize(encoder.layout.len as usize, 0);
            blob[..64].copy_from_slice(&encoder.header());
            let (mut row, mut before) = (0, 0);
            for part in weights.chunks((groups * GROUP * k) as usize) {
                let chunk = encoder.encode(part).unwrap();
                for (at, bytes) in encoder.regions(row, before, &chunk) {
                    blob[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
                }
                row += part.len() as u64 / k;
                before += chunk.escapes.len() as u64;
            }
            prop_assert_eq!(before, encoder.escapes());
            prop_assert!(encoder.blob(&weights).unwrap() == blob);
            prop_assert_eq!(oracle::decode(&blob, encoding, Shape { k, rows }).unwrap(), weights);
        }

        #[test]
        fn the_smallest_blob_is_chosen(k in 1u64..150, rows in 1u64..30, wild in 0u64..17) {
            let (weights, shape) = (weights(k * rows, wild), Shape { k, rows });
            let analysis = Analysis::of(&weights);
            let forced = Encoding::ALL.map(|e| Encoder::forced(&analysis, shape, e).unwrap().layout.len);
            let least = forced.into_iter().min().filter(|&len| len < 2 * k * rows);
            prop_assert_eq!(Encoder::new(&analysis, shape).map(|encoder| encoder.layout.len), least);
        }
    }
}
