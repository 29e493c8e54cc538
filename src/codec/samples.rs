//! Weights for tests.

/// Weights of a few exponents, and, as often as `wild` of 4096 says, any.
pub(super) fn weights(n: u64, wild: u64) -> Vec<u16> {
    let mut state = n;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = (state >> 40) as u16;
        let exponent = 120 + (state >> 33 & 3) as u16;
        if state >> 52 < wild { bits } else { bits & 0x807F | exponent << 7 }
    };
    (0..n).map(|_| next()).collect()
}

/// Gaussian weights: what training leaves.
pub(super) fn trained(n: u64) -> Vec<u16> {
    let mut state = n;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let mut gaussian = || (0..6).map(|_| uniform()).sum::<f32>() - 3.0;
    (0..n).map(|_| ((gaussian() * 0.03).to_bits() >> 16) as u16).collect()
}
