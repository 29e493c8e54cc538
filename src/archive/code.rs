//! Tables: slots, given out to symbols so that few look-ups find whose a slot is, and what the coder needs to get there.

use std::collections::VecDeque;

use crate::kernel::archive::Coding;

use super::frequencies::{SLOT_BITS, SLOTS};

/// As many buckets as symbols: each has slots of its own symbol, from its first, and of one other.
pub(super) struct Buckets {
    /// Slots of the bucket's own symbol.
    pub threshold: Vec<u16>,
    pub other: Vec<u8>,
    /// A slot's place in its bucket, and this, is its place among those of the other symbol.
    pub offset: Vec<u16>,
}

impl Buckets {
    /// `shares` are the slots of each symbol, a power of two of symbols.
    pub fn new(shares: &[u16]) -> Self {
        let size = SLOTS as u16 / shares.len() as u16;
        let mut left = shares.to_vec();
        let mut buckets = Self {
            threshold: vec![size; shares.len()],
            other: (0..=255).take(shares.len()).collect(),
            offset: vec![0; shares.len()],
        };
        let mut small: VecDeque<usize> = (0..shares.len()).filter(|&i| left[i] < size).collect();
        let mut large: VecDeque<usize> = (0..shares.len()).filter(|&i| left[i] > size).collect();
        while let (Some(bucket), Some(&giver)) = (small.pop_front(), large.front()) {
            left[giver] -= size - left[bucket];
            buckets.threshold[bucket] = left[bucket];
            buckets.other[bucket] = giver as u8;
            buckets.offset[bucket] = left[giver].wrapping_sub(left[bucket]);
            if left[giver] <= size {
                large.pop_front();
            }
            if left[giver] < size {
                small.push_back(giver);
            }
        }
        buckets
    }

    /// Slots in their order, in runs of one symbol.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        let size = SLOTS as u16 / self.threshold.len() as u16;
        self.threshold.iter().enumerate().flat_map(move |(bucket, &threshold)| {
            let (slot, place) = (bucket as u16 * size, threshold.wrapping_add(self.offset[bucket]));
            let own = Run { symbol: bucket as u8, slot, place: 0, len: threshold };
            let other =
                Run { symbol: self.other[bucket], slot: slot + threshold, place, len: size - threshold };
            [own, other].into_iter().filter(|run| run.len > 0)
        })
    }

    /// Symbol and place of every slot.
    pub fn slots(&self) -> impl Iterator<Item = (u8, u16)> {
        self.runs().flat_map(|run| (0..run.len).map(move |i| (run.symbol, run.place + i)))
    }
}

/// Slots of a symbol that stand side by side.
pub(super) struct Run {
    symbol: u8,
    slot: u16,
    /// Of the first, among the symbol's slots.
    place: u16,
    len: u16,
}

/// What the coder needs of a symbol.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Step {
    /// 2^44 divided by the frequency, rounded up: quotients are exact for every state that may be coded.
    reciprocal: u64,
    /// States above this are too large.
    most: u32,
    frequency: u16,
    /// Where the symbol's slots begin in [`Steps::slots`].
    first: u16,
}

/// A table for coding.
pub(super) struct Steps<const SYMBOLS: usize> {
    steps: [Step; SYMBOLS],
    slots: Box<[u16; SLOTS as usize]>,
}

impl<const SYMBOLS: usize> Steps<SYMBOLS> {
    pub fn new(shares: &[u16]) -> Self {
        let mut steps = [Step::default(); SYMBOLS];
        let mut first = 0;
        for (step, &frequency) in steps.iter_mut().zip(shares).filter(|(_, share)| **share > 0) {
            let reciprocal = (1u64 << 44).div_ceil(frequency.into());
            let most = ((u64::from(frequency) << (32 - SLOT_BITS)) - 1) as u32;
            *step = Step { reciprocal, most, frequency, first };
            first += frequency;
        }
        let mut slots = Box::new([0; SLOTS as usize]);
        for Run { symbol, slot, place, len } in Buckets::new(shares).runs() {
            let first = usize::from(steps[usize::from(symbol)].first + place);
            slots[first..][..usize::from(len)].iter_mut().zip(slot..).for_each(|(place, slot)| *place = slot);
        }
        Self { steps, slots }
    }

    /// The same for the kernels.
    pub fn coding(shares: &[u16]) -> Coding {
        *Coding::new(shares, &Self::new(shares).slots)
    }

    pub fn can(&self, symbol: u8) -> bool {
        self.steps[usize::from(symbol) % SYMBOLS].frequency > 0
    }

    /// The state with `symbol` in it; a word, and 1 if it has to be written or else 0.
    #[inline(always)]
    pub fn push(&self, state: &mut u32, symbol: u8) -> (u16, usize) {
        let step = &self.steps[usize::from(symbol) % SYMBOLS];
        let is_large = *state > step.most;
        let word = *state as u16;
        let small = if is_large { *state >> 16 } else { *state };
        let quotient = (u64::from(small).wrapping_mul(step.reciprocal) >> 44) as u32;
        let place = small.wrapping_sub(quotient.wrapping_mul(step.frequency.into()));
        let slot = self.slots[(usize::from(step.first) + place as usize) % SLOTS as usize];
        *state = quotient << SLOT_BITS | u32::from(slot);
        (word, usize::from(is_large))
    }
}

#[cfg(test)]
mod tests {
    use super::super::frequencies::shares;
    use super::*;

    #[test]
    fn every_slot_is_a_place_of_its_symbol() {
        for levels in [vec![1; 64], (0..64).collect(), vec![105; 256], [vec![0; 255], vec![9]].concat()] {
            let shares = shares(&levels).unwrap();
            let mut slots: Vec<(u8, u16)> = Buckets::new(&shares).slots().collect();
            slots.sort_unstable();
            let expected: Vec<(u8, u16)> = (0..=255u8)
                .zip(&shares)
                .flat_map(|(symbol, &share)| (0..share).map(move |place| (symbol, place)))
                .collect();
            assert_eq!(slots, expected);
        }
    }

    #[test]
    fn quotients_are_exact() {
        for frequency in 1..=SLOTS {
            let reciprocal = (1u64 << 44).div_ceil(frequency.into());
            let most = (u64::from(frequency) << 20) - 1;
            for state in [1, 2, frequency as u64, most / 2, most - 1, most]
                .into_iter()
                .chain((1..64).map(|i| most / 64 * i / u64::from(frequency) * u64::from(frequency)))
                .flat_map(|state| [state.saturating_sub(1), state])
            {
                assert_eq!(
                    state.wrapping_mul(reciprocal) >> 44,
                    state / u64::from(frequency),
                    "{state} / {frequency}"
                );
            }
        }
    }
}
