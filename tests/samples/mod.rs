//! Numbers and coded tensors that several tests draw.
#![allow(dead_code)] // not every test uses all of it

use unweight::codec::oracle::{self, PieceError};
use unweight::codec::{Analysis, Encoder, Encoding, Number, Shape};
use unweight::kernel::Tensor;

/// Numbers drawn from a seed, the same on every machine.
pub fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// Weights as they stand in an original that can be stored as `stored`: they look trained, but for `wild` of 256, which may be anything;
/// NaN only where none has to become a number of another kind.
pub fn weights(original: Number, stored: Number, n: usize, wild: u32, seed: u64) -> Vec<u8> {
    let mut next = random(seed);
    let mut weight = || {
        let bits = next();
        let is_wild = (bits >> 40) as u32 % 256 < wild;
        // The highest exponent is odd or even, so that either shift comes out.
        let below = (bits >> 20 & 0xFFFF).trailing_ones().min(15);
        let single = match is_wild {
            true => (bits >> 3) as u32,
            false => (bits as u32 & 0x807F_FFFF) | (121 + seed as u32 % 2 - below) << 23,
        };
        let half = match is_wild {
            true => bits as u16,
            false => (bits as u16 & 0x83FF) | (13 + seed as u16 % 2 - below.min(12) as u16) << 10,
        };
        let number = half::f16::from_bits(if half & 0x7FFF > 0x7C00 { half & 0xFC00 } else { half });
        // The nearest F16 that is a BF16, too: rounding to 8 bits of precision, none of which is below the least subnormal.
        let short = half::f16::from_f32(half::bf16::from_f32(number.to_f32()).to_f32());
        match (original, stored) {
            (Number::Bf16, _) => (single >> 16).to_le_bytes()[..2].to_vec(),
            (Number::F16, Number::Bf16) => short.to_le_bytes().to_vec(),
            (Number::F16, _) => half.to_le_bytes().to_vec(),
            (Number::F32, Number::Bf16) => (single & 0xFFFF_0000).to_le_bytes().to_vec(),
            (Number::F32, Number::F16) => number.to_f32().to_le_bytes().to_vec(),
            (Number::F32, Number::F32) => single.to_le_bytes().to_vec(),
        }
    };
    (0..n).flat_map(|_| weight()).collect()
}

/// What they are worth.
pub fn values(original: Number, bytes: &[u8]) -> Vec<f32> {
    let pairs = || bytes.as_chunks().0.iter().copied();
    match original {
        Number::Bf16 => pairs().map(|pair| half::bf16::from_le_bytes(pair).to_f32()).collect(),
        Number::F16 => pairs().map(|pair| half::f16::from_le_bytes(pair).to_f32()).collect(),
        Number::F32 => bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
    }
}

/// Every encoding with every kind of original that it takes.
pub fn ways() -> impl Iterator<Item = (Encoding, Number)> {
    let originals =
        |encoding: Encoding| Number::ALL.into_iter().filter(move |&number| encoding.takes(number));
    Encoding::ALL
        .into_iter()
        .flat_map(move |encoding| originals(encoding).map(move |number| (encoding, number)))
}

/// A tensor's home and pieces.
#[derive(Clone)]
pub struct Coded {
    pub encoding: Encoding,
    pub original: Number,
    pub k: u64,
    pub home: Vec<u8>,
    /// Each with the number of its rows.
    pub pieces: Vec<(u64, Vec<u8>)>,
}

impl Coded {
    /// `weights`: as they are in the original. `cuts`: how many segments each piece has; what is left is one more.
    pub fn new(original: Number, weights: &[u8], k: u64, encoding: Encoding, cuts: &[u64]) -> Self {
        let row_bytes = k * original.bytes();
        let shape = Shape { k, rows: weights.len() as u64 / row_bytes };
        let encoder = Encoder::forced(&Analysis::of(original, weights), shape, encoding).unwrap();
        let mut coded = Self { encoding, original, k, home: Vec::new(), pieces: Vec::new() };
        let cuts = cuts.iter().map(|&segments| segments * shape.segment_rows()).chain([shape.rows]);
        for rows in cuts {
            let left = &weights[coded.home.len() * original.bytes() as usize..];
            let rows = rows.min(left.len() as u64 / row_bytes);
            if rows > 0 {
                let (low, piece) = encoder.whole(&left[..(rows * row_bytes) as usize]);
                coded.home.extend(low);
                coded.pieces.push((rows, piece));
            }
        }
        coded
    }

    pub fn pieces(&self) -> Vec<(u64, &[u8])> {
        self.pieces.iter().map(|(rows, bytes)| (*rows, &bytes[..])).collect()
    }

    pub fn tensor(&self) -> Tensor<'_> {
        Tensor::open(self.encoding.id(), self.original, &self.home, self.k, &self.pieces()).unwrap()
    }

    pub fn decode(&self) -> Result<Vec<u8>, PieceError> {
        oracle::decode(&self.home, &self.pieces(), self.encoding, self.original, self.k)
    }

    pub fn decode_anything(&self) -> Vec<u8> {
        oracle::decode_anything(&self.home, &self.pieces(), self.encoding, self.original, self.k).unwrap()
    }

    /// Leaves nothing but the headers as they were: segments begin anywhere, escapes are where they should not be.
    pub fn corrupt(&mut self, seed: u64) {
        let mut next = random(seed ^ 0xC0DE);
        self.home.fill_with(|| next() as u8);
        for (rows, bytes) in &mut self.pieces {
            let segments = Shape { k: self.k, rows: *rows }.segments();
            let escapes = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
            let end = bytes.len() - (2 * escapes as usize).next_multiple_of(64);
            let starts = end - (4 * segments as usize).next_multiple_of(64);
            bytes[64..starts].fill_with(|| next() as u8);
            for (i, start) in (0..).zip(bytes[starts..end].chunks_exact_mut(4)) {
                let value = match next() % 8 {
                    0 => u32::MAX,
                    1 => escapes as u32 + 1,
                    2 => 0,
                    _ => (escapes * i / segments.max(1) + next() % 5) as u32,
                };
                start.copy_from_slice(&value.to_le_bytes());
            }
            let distances = [256, 8, 100, 40][seed as usize % 4];
            for pair in bytes[end..].chunks_exact_mut(2) {
                pair.copy_from_slice(&[(next() % distances) as u8, next() as u8]);
            }
        }
    }
}
