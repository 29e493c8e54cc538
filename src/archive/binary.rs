//! A binary arithmetic coder whose probabilities adapt: for what stands beside the symbols, a few thousand decisions.

use std::hint;

use super::error::{Error, Result};

/// The probability of a one in 65536ths, as far as it is known.
#[derive(Clone, Copy)]
pub(super) struct Chance(u16);

impl Chance {
    pub const EVEN: Self = Self(1 << 15);

    fn update(&mut self, bit: bool) {
        let more = self.0 + ((u16::MAX - self.0) >> 4);
        let less = self.0 - (self.0 >> 4);
        self.0 = hint::select_unpredictable(bit, more, less);
    }

    /// The last value of the lower part of a range, which belongs to ones.
    fn middle(self, range: &Range) -> u32 {
        range.low + ((range.high - range.low) >> 12) * u32::from(self.0 >> 4)
    }
}

/// Codes or decodes a decision: what is written and what is read go the same way.
pub(super) trait Coder {
    /// The decision that is coded: `bit` when writing, and whatever comes when reading.
    fn bit(&mut self, chance: &mut Chance, bit: bool) -> bool;

    /// A number of `chances.len()`, a power of two, values, highest bit first: each bit has a chance for all the bits before it.
    fn symbol(&mut self, chances: &mut [Chance], symbol: usize) -> usize {
        let bits = chances.len().trailing_zeros();
        let mut node = 1;
        for place in (0..bits).rev() {
            let bit = self.bit(&mut chances[node], symbol >> place & 1 == 1);
            node = node << 1 | usize::from(bit);
        }
        node - chances.len()
    }
}

/// What is left of all numbers after some decisions: those that stand for them.
struct Range {
    low: u32,
    high: u32,
}

impl Range {
    const ALL: Self = Self { low: 0, high: u32::MAX };

    /// Keeps the part of a decision, of which the lower one ends with `middle`.
    fn keep(&mut self, middle: u32, bit: bool) {
        if bit { self.high = middle } else { self.low = middle + 1 }
    }

    /// The byte that all numbers of it begin with, which is taken off; `None` if they begin with several.
    fn settled(&mut self) -> Option<u8> {
        let settled = ((self.low ^ self.high) >> 24 == 0).then_some((self.high >> 24) as u8);
        if settled.is_some() {
            self.low <<= 8;
            self.high = self.high << 8 | 0xFF;
        }
        settled
    }
}

pub(super) struct Writer {
    range: Range,
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self { range: Range::ALL, bytes: Vec::new() }
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend(last(self.range.low));
        self.bytes
    }
}

/// The byte that ends a range which begins at `low`: with zeros behind it, it lies inside. None is needed where zeros do.
fn last(low: u32) -> Option<u8> {
    // The first bytes of the ends of the range differ, so that the next one is in it.
    (low > 0).then(|| (low >> 24) as u8 + 1)
}

impl Coder for Writer {
    fn bit(&mut self, chance: &mut Chance, bit: bool) -> bool {
        self.range.keep(chance.middle(&self.range), bit);
        chance.update(bit);
        while let Some(byte) = self.range.settled() {
            self.bytes.push(byte);
        }
        bit
    }
}

pub(super) struct Reader<'a> {
    range: Range,
    value: u32,
    bytes: &'a [u8],
    /// Bytes that have left the range.
    left: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let value = (0..4).fold(0, |value, at| value << 8 | u32::from(*bytes.get(at).unwrap_or(&0)));
        Self { range: Range::ALL, value, bytes, left: 0 }
    }

    /// The bytes must end as [`Writer`] ends them.
    pub fn finish(self, what: &'static str) -> Result<()> {
        if self.bytes.get(self.left..) == Some(last(self.range.low).as_slice()) {
            Ok(())
        } else {
            Err(Error::End(what))
        }
    }
}

impl Coder for Reader<'_> {
    fn bit(&mut self, chance: &mut Chance, _: bool) -> bool {
        let middle = chance.middle(&self.range);
        let bit = self.value <= middle;
        self.range.keep(middle, bit);
        chance.update(bit);
        while self.range.settled().is_some() {
            self.left += 1;
            self.value = self.value << 8 | u32::from(*self.bytes.get(self.left + 3).unwrap_or(&0));
        }
        bit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn symbols_come_back(symbols in prop::collection::vec((0usize..32).prop_map(|s| s * s / 31), 0..400)) {
            let mut writer = Writer::new();
            let mut chances = [Chance::EVEN; 32];
            for &symbol in &symbols {
                writer.symbol(&mut chances, symbol);
            }
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            let mut chances = [Chance::EVEN; 32];
            for &symbol in &symbols {
                prop_assert_eq!(reader.symbol(&mut chances, 0), symbol);
            }
            prop_assert_eq!(reader.finish("symbols"), Ok(()));
        }
    }
}
