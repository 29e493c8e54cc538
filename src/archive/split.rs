//! A number's symbol, and the raw bits beside it.

use crate::codec::Number;
use crate::kernel::archive::{RAW_GROUP, raw_bits};

use super::error::{Error, Result};

/// The symbol that stands for all values outside the window.
pub(super) const ESCAPE: u8 = 63;

/// How numbers are split: the exponent and some bits of the mantissa behind it are the symbol's value, sign and other bits are raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    pub number: Number,
    /// Bits of the mantissa in a symbol.
    pub fine: u32,
    /// The lowest bytes are not among the raw bits.
    pub is_lowest_coded: bool,
}

impl Split {
    pub const FINEST: u32 = 2;

    /// Values that a symbol may have.
    pub fn values(self) -> usize {
        let exponent = if self.number == Number::F16 { 5 } else { 8 };
        1 << (exponent + self.fine)
    }

    fn raw_bits(self) -> u32 {
        raw_bits(self.number, self.fine) as u32
    }

    /// The value of a word's symbol.
    #[inline(always)]
    pub fn value(self, word: u32) -> u16 {
        (word >> (self.raw_bits() - 1)) as u16 & (self.values() - 1) as u16
    }

    /// The word of a symbol's value and raw bits.
    pub fn word(self, value: u16, raw: u32) -> u32 {
        let (low, sign) = (self.raw_bits() - 1, 8 * self.number.bytes() as u32 - 1);
        raw >> low << sign | u32::from(value) << low | raw & ((1 << low) - 1)
    }

    /// Bytes that stand whole among the raw bits of a weight, from which on, and bits beside them.
    pub fn layout(self) -> (usize, u32, usize) {
        let skipped = usize::from(self.is_lowest_coded);
        (self.raw_bits() as usize / 8 - skipped, 8 * skipped as u32, self.raw_bits() as usize % 8)
    }

    /// Calls `each` with every word.
    #[inline(always)]
    pub fn words(self, bytes: &[u8], mut each: impl FnMut(usize, u32)) {
        if self.number == Number::F32 {
            bytes.as_chunks().0.iter().enumerate().for_each(|(i, &word)| each(i, u32::from_le_bytes(word)));
        } else {
            let words = bytes.as_chunks().0.iter();
            words.enumerate().for_each(|(i, &word)| each(i, u16::from_le_bytes(word).into()));
        }
    }

    /// Symbols of the window of values from `base` on.
    pub fn symbols(self, base: u16, bytes: &[u8], out: &mut [u8]) {
        let split = |word| (self.value(word).wrapping_sub(base)).min(ESCAPE.into()) as u8;
        if self.number == Number::F32 {
            for (out, &word) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = split(u32::from_le_bytes(word));
            }
        } else {
            for (out, &word) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = split(u16::from_le_bytes(word).into());
            }
        }
    }

    /// The raw bits of each weight, one after the other, without the lowest bytes where these are coded. Bits that fill a plane up are 0.
    pub fn read_raw(self, n: usize, mut bytes: &[u8]) -> Result<Vec<u32>> {
        let (whole, from, planes) = self.layout();
        let mut all = Vec::new();
        while all.len() < n {
            let here = (n - all.len()).min(RAW_GROUP);
            let width = here.div_ceil(8);
            let (group, rest) =
                bytes.split_at_checked(width * planes + whole * here).ok_or(Error::Short("raw bits"))?;
            let (bits, low) = group.split_at(width * planes);
            let bit = |plane: usize, i: usize| u32::from(bits[plane * width + i % width] >> (i / width) & 1);
            if (here..8 * width).any(|i| (0..planes).any(|plane| bit(plane, i) != 0)) {
                return Err(Error::Range("what fills a bit-plane up"));
            }
            for i in 0..here {
                let high: u32 = (0..planes).map(|plane| bit(plane, i) << plane).sum();
                let low = (0..whole).map(|byte| u32::from(low[whole * i + byte]) << (8 * byte)).sum::<u32>();
                all.push(high << (from as usize + 8 * whole) | low << from);
            }
            bytes = rest;
        }
        if bytes.is_empty() { Ok(all) } else { Err(Error::Long(bytes.len())) }
    }
}
