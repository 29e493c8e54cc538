//! Kinds of numbers, and the ways from one to another.

/// What a weight is: in the original, and as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Number {
    Bf16 = 0,
    F16 = 1,
    F32 = 2,
}

impl Number {
    pub const ALL: [Self; 3] = [Self::Bf16, Self::F16, Self::F32];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F32 => "F32",
        }
    }

    /// True if numbers of kind `original` can all be of this kind, too.
    pub fn may_be(self, original: Self) -> bool {
        match self {
            Self::Bf16 => true,
            Self::F16 => original != Self::Bf16,
            Self::F32 => original == Self::F32,
        }
    }

    pub fn bytes(self) -> u64 {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

// What follows has no branches, so that compilers make vector instructions of it. Where a value has to be rounded, it is to nearest, ties
// to even; a NaN becomes quiet and keeps the upper bits of its payload: what the instructions of all processors do.

/// Bits of an F32 infinity, and of the sign.
const INFINITE: u32 = 0x7F80_0000;
const SIGN: u32 = 0x8000_0000;
/// An exponent of F16 that stands for another is so much higher in F32.
const REBIASED: u32 = (127 - 15) << 23;
/// The least normal F16, as F32, and the first F32 that is too large for F16, but for rounding.
const LEAST_NORMAL: u32 = (127 - 14) << 23;
const TOO_LARGE: u32 = (127 + 16) << 23;

#[inline(always)]
fn select<T>(condition: bool, yes: T, no: T) -> T {
    if condition { yes } else { no }
}

/// The F32 of the same value.
#[inline(always)]
pub fn f32_of_f16(half: u16) -> u32 {
    let sign = u32::from(half) << 16 & SIGN;
    let rest = u32::from(half & 0x7FFF) << 13;
    let normal = rest + REBIASED;
    // Those have no implied one: it is added with the exponent of the least normal number, and taken away again.
    let subnormal = f32::from_bits(rest + LEAST_NORMAL) - f32::from_bits(LEAST_NORMAL);
    let quiet = select(half & 0x3FF == 0, 0, 0x0040_0000);
    let finite = select(half & 0x7C00 == 0, subnormal.to_bits(), normal);
    sign | select(half & 0x7C00 == 0x7C00, rest | INFINITE | quiet, finite)
}

/// The F16 of the same value, where there is one, or nearest to it.
#[inline(always)]
pub fn f16_of_f32(single: u32) -> u16 {
    let sign = (single >> 16) as u16 & 0x8000;
    let rest = single & !SIGN;
    let odd = rest >> 13 & 1;
    let normal = rest.wrapping_sub(REBIASED).wrapping_add(0xFFF + odd) >> 13;
    // The last bit of a half is that of a subnormal F16, so that this rounds as it should.
    let subnormal = (f32::from_bits(rest) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let nan = 0x7E00 | rest >> 13 & 0x3FF;
    let finite = select(rest < LEAST_NORMAL, subnormal, normal);
    let large = select(rest > INFINITE, nan, 0x7C00);
    sign | select(rest >= TOO_LARGE, large, finite) as u16
}

/// The BF16 of the same value, where there is one.
#[inline(always)]
pub fn bf16_of_f16(half: u16) -> u16 {
    (f32_of_f16(half) >> 16) as u16
}

/// The F16 of the same value, where there is one, or nearest to it.
#[inline(always)]
pub fn f16_of_bf16(word: u16) -> u16 {
    f16_of_f32(u32::from(word) << 16)
}

/// True if an F32 is a BF16 number: the upper half says all.
#[inline(always)]
pub fn f32_is_bf16(single: u32) -> bool {
    single & 0xFFFF == 0
}

/// True if an F32 is an F16 number, and comes back from it with the same bits. A NaN is none.
#[inline(always)]
pub fn f32_is_f16(single: u32) -> bool {
    (single & !SIGN <= INFINITE) & (f32_of_f16(f16_of_f32(single)) == single)
}

/// True if an F16 is a BF16 number, and comes back from it with the same bits. A NaN is none.
#[inline(always)]
pub fn f16_is_bf16(half: u16) -> bool {
    (half & 0x7FFF <= 0x7C00) & f32_is_bf16(f32_of_f16(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an F16 is worth, as the standard has it.
    fn value(half: u16) -> f64 {
        let (exponent, mantissa) = (i32::from(half >> 10 & 31), f64::from(half & 0x3FF));
        let magnitude = match exponent {
            0 => mantissa * 2f64.powi(-24),
            31 if mantissa == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
        };
        if half >> 15 == 1 { -magnitude } else { magnitude }
    }

    fn is_nan(half: u16) -> bool {
        half & 0x7FFF > 0x7C00
    }

    #[test]
    fn every_f16_has_the_same_value_as_f32() {
        for half in 0..=u16::MAX {
            let single = f32::from_bits(f32_of_f16(half));
            assert_eq!(f32_of_f16(half) >> 31, u32::from(half >> 15), "sign of {half:04X}");
            if is_nan(half) {
                assert!(single.is_nan() && !f32_is_f16(f32_of_f16(half)), "{half:04X}");
                assert_eq!(f32_of_f16(half), half::f16::from_bits(half).to_f32().to_bits());
                assert_eq!(f16_of_f32(f32_of_f16(half)), half | 0x200, "made quiet");
            } else {
                assert_eq!(f64::from(single), value(half), "{half:04X}");
                assert_eq!(f16_of_f32(f32_of_f16(half)), half, "and back");
                assert!(f32_is_f16(f32_of_f16(half)), "{half:04X}");
            }
        }
    }

    /// Of the values between two neighbouring F16, and at their ends.
    #[test]
    fn every_f32_is_rounded_to_the_nearest_f16() {
        for half in 0..0x7C00u16 {
            // Beyond the last one stands what would be next, where infinity is.
            let next = if half == 0x7BFF { 65536.0 } else { value(half + 1) };
            let middle = ((value(half) + next) / 2.0) as f32;
            let even = half + (half & 1);
            for sign in [0, 0x8000] {
                let f16 = |bits: u32| f16_of_f32(bits | u32::from(sign) << 16);
                assert_eq!(f16(middle.to_bits()), sign | even, "between {half:04X} and the next");
                assert_eq!(f16(middle.to_bits() - 1), sign | half, "below");
                assert_eq!(f16(middle.to_bits() + 1), sign | (half + 1), "above");
                for bits in [middle.to_bits() - 1, middle.to_bits(), middle.to_bits() + 1] {
                    assert!(!f32_is_f16(bits | u32::from(sign) << 16), "{bits:08X} is none");
                }
            }
        }
        for (single, half) in [
            (f32::MAX.to_bits(), 0x7C00),
            (f32::INFINITY.to_bits(), 0x7C00),
            (f32::NEG_INFINITY.to_bits(), 0xFC00),
            (f32::MIN_POSITIVE.to_bits(), 0),
            (1, 0),
            (SIGN | 1, 0x8000),
            (0x7F80_0001, 0x7E00),
            (0xFFC0_2000, 0xFE01),
        ] {
            assert_eq!(f16_of_f32(single), half, "{single:08X}");
            assert!(!f32_is_f16(single) || single << 1 == INFINITE << 1, "{single:08X}");
        }
    }

    #[test]
    fn every_bf16_as_f16() {
        for word in 0..=u16::MAX {
            let value = half::bf16::from_bits(word).to_f64();
            let half = half::f16::from_f32(half::bf16::from_bits(word).to_f32());
            assert_eq!(f16_of_bf16(word), half.to_bits(), "{word:04X}");
            let is_same = half.to_f64() == value;
            assert_eq!(is_same, f32_is_f16(u32::from(word) << 16), "{word:04X}");
            if is_same {
                assert!(f16_is_bf16(half.to_bits()), "{word:04X}");
                assert_eq!(bf16_of_f16(half.to_bits()), word);
            }
        }
    }

    #[test]
    fn what_is_said_to_be_bf16_comes_back() {
        let mut found = 0;
        for half in 0..=u16::MAX {
            let is_bf16 = f16_is_bf16(half);
            let has_bits = half::bf16::from_f64(value(half)).to_f64() == value(half);
            assert_eq!(is_bf16, !is_nan(half) && has_bits, "{half:04X}");
            if is_bf16 {
                assert_eq!(f16_of_bf16(bf16_of_f16(half)), half);
                found += 1;
            }
        }
        // Signs; exponents and upper 7 bits of normal numbers; subnormals of 7 bits at 3 places and fewer; zero, infinity.
        assert_eq!(found, 2 * (30 * 128 + 3 * 128 + 127 + 1 + 1));
        assert!(f32_is_bf16(0x7F81_0000) && f32_is_bf16(SIGN) && !f32_is_bf16(1) && !f32_is_bf16(0x8000));
    }
}
