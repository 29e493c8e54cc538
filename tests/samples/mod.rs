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

/// Bytes as the 16-bit numbers that they are.
fn words(bytes: Vec<u8>) -> Vec<u16> {
    bytes.as_chunks().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect()
}

/// A tensor's home and pieces.
#[derive(Clone)]
pub struct Coded {
    pub encoding: Encoding,
    pub k: u64,
    pub home: Vec<u8>,
    /// Each with the number of its rows.
    pub pieces: Vec<(u64, Vec<u8>)>,
}

impl Coded {
    /// `cuts`: how many segments each piece has; what is left is one more.
    pub fn new(weights: &[u16], k: u64, encoding: Encoding, cuts: &[u64]) -> Self {
        let shape = Shape { k, rows: weights.len() as u64 / k };
        let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let encoder = Encoder::forced(&Analysis::of(Number::Bf16, &bytes), shape, encoding).unwrap();
        let mut coded = Self { encoding, k, home: Vec::new(), pieces: Vec::new() };
        let cuts = cuts.iter().map(|&segments| segments * shape.segment_rows()).chain([shape.rows]);
        for rows in cuts {
            let left = &bytes[2 * coded.home.len()..];
            let rows = rows.min(left.len() as u64 / (2 * k));
            if rows > 0 {
                let (low, piece) = encoder.whole(&left[..(2 * rows * k) as usize]);
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
        Tensor::open(self.encoding.id(), &self.home, self.k, &self.pieces()).unwrap()
    }

    pub fn decode(&self) -> Result<Vec<u16>, PieceError> {
        oracle::decode(&self.home, &self.pieces(), self.encoding, Number::Bf16, self.k).map(words)
    }

    pub fn decode_anything(&self) -> Vec<u16> {
        words(
            oracle::decode_anything(&self.home, &self.pieces(), self.encoding, Number::Bf16, self.k).unwrap(),
        )
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
