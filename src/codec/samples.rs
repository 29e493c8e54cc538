//! Weights for tests, as they stand in an original.

use super::number::{f16_is_bf16, f32_of_f16};
use super::{Encoding, Number};

/// Every encoding with every kind of original that it takes.
pub(super) fn ways() -> impl Iterator<Item = (Encoding, Number)> {
    let originals =
        |encoding: Encoding| Number::ALL.into_iter().filter(move |&number| encoding.takes(number));
    Encoding::ALL
        .into_iter()
        .flat_map(move |encoding| originals(encoding).map(move |number| (encoding, number)))
}

fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state
    }
}

/// Zeros, the least and the largest subnormal and normal numbers, infinities, NaNs quiet and signalling: bits of F32 and of F16.
const EDGES32: [u32; 9] =
    [0, 1, 0x007F_FFFF, 0x0080_0000, 0x7F7F_FFFF, 0x7F80_0000, 0x7FC0_0001, 0x7F80_0001, 0x7FFF_FFFF];
const EDGES16: [u16; 9] = [0, 1, 0x03FF, 0x0400, 0x7BFF, 0x7C00, 0x7E01, 0x7C01, 0x7FFF];

/// Weights of an original that can be stored as `stored`: of a few exponents, and, as often as `wild` of 4096 says, any, or one of those at
/// the edges.
pub(super) fn numbers(original: Number, stored: Number, n: u64, wild: u64) -> Vec<u8> {
    let mut next = random(n);
    let mut number = || -> Vec<u8> {
        let bits = next();
        let (is_wild, is_edge) = (bits >> 52 < wild, bits >> 32 & 7 == 0);
        let edge = (bits >> 36) as usize % 9;
        let (single, exponent) = ((bits >> 8) as u32, (bits >> 48 & 3) as u32);
        let half = (bits >> 16) as u16;
        let single = match (is_wild, is_edge) {
            (true, true) => EDGES32[edge] | single & 0x8000_0000,
            (true, false) => single,
            _ => single & 0x807F_FFFF | (120 + exponent) << 23,
        };
        let half = match (is_wild, is_edge) {
            (true, true) => EDGES16[edge] | half & 0x8000,
            (true, false) => half,
            _ => half & 0x83FF | (9 + exponent as u16) << 10,
        };
        // Without the bits that what it is stored as has not; NaN becomes infinity.
        let finite = if half & 0x7FFF > 0x7C00 { half & 0xFC00 } else { half };
        let short = (0..=10).map(|bits| finite >> bits << bits).find(|&half| f16_is_bf16(half)).unwrap_or(0);
        match (original, stored) {
            (Number::Bf16, _) => ((single >> 16) as u16).to_le_bytes().into(),
            (Number::F16, Number::Bf16) => short.to_le_bytes().into(),
            (Number::F16, _) => half.to_le_bytes().into(),
            (Number::F32, Number::Bf16) => (single >> 16 << 16).to_le_bytes().into(),
            (Number::F32, Number::F16) => f32_of_f16(finite).to_le_bytes().into(),
            (Number::F32, Number::F32) => single.to_le_bytes().into(),
        }
    };
    (0..n).flat_map(|_| number()).collect()
}

/// BF16 weights.
pub(super) fn weights(n: u64, wild: u64) -> Vec<u8> {
    numbers(Number::Bf16, Number::Bf16, n, wild)
}

/// Gaussian weights: what training leaves.
pub(super) fn trained(original: Number, n: u64) -> Vec<u8> {
    let mut next = random(n);
    let mut uniform = || (next() >> 40) as f32 / (1 << 24) as f32;
    let mut gaussian = || ((0..6).map(|_| uniform()).sum::<f32>() - 3.0) * 0.03;
    let mut number = || -> Vec<u8> {
        let single = gaussian();
        match original {
            Number::Bf16 => ((single.to_bits() >> 16) as u16).to_le_bytes().into(),
            Number::F16 => half::f16::from_f32(single).to_le_bytes().into(),
            Number::F32 => single.to_le_bytes().into(),
        }
    };
    (0..n).flat_map(|_| number()).collect()
}
