//! How often symbols come: as levels, which are what is stored, and as shares of all slots.

use crate::codec::constants;

use super::binary::{Chance, Coder};
use super::error::{Error, Result};

/// Slots of a table, as a power of two.
pub(super) const SLOT_BITS: u32 = constants::SLOT_BITS as u32;
pub(super) const SLOTS: u32 = 1 << SLOT_BITS;
/// The highest level: all slots.
pub(super) const TOP: usize = 105;
/// Weights of all levels of a table are about this.
const SUM: u64 = 1 << 16;

/// What a level is worth: eight steps to the double, half a slot at least.
fn weight(level: usize) -> u32 {
    match level {
        0 => 0,
        level => (8 + (level as u32 - 1) % 8) << ((level as u32 - 1) / 8),
    }
}

/// The level that is nearest to `count` of `all`; 0 below a quarter of a slot.
pub(super) fn level(count: u64, all: u64) -> usize {
    let share = (u128::from(count) * u128::from(SUM) / u128::from(all.max(1))) as u32;
    match share {
        0..4 => 0,
        4..8 => 1,
        share => {
            let double = share.ilog2() - 3;
            // Rounded: the ninth step is the next double's first.
            let step = ((share >> double) - 8) as usize;
            let above = share - ((share >> double) << double);
            1 + 8 * double as usize + step + usize::from(double > 0 && above >> (double - 1) & 1 == 1)
        }
    }
    .min(TOP)
}

/// Slots of each symbol: all of them in the end, one at least to each symbol that has a level. None if there are no levels.
pub(super) fn shares(levels: &[u8]) -> Option<Vec<u16>> {
    let all: u32 = levels.iter().map(|&level| weight(level.into())).sum();
    if all == 0 {
        return None;
    }
    let share = |&level: &u8| match u64::from(weight(level.into())) {
        0 => 0,
        weight => ((weight * u64::from(SLOTS) + u64::from(all) / 2) / u64::from(all)).max(1) as i32,
    };
    let mut shares: Vec<i32> = levels.iter().map(share).collect();
    let mut left = SLOTS as i32 - shares.iter().sum::<i32>();
    // The first of the largest has what is left, or gives what is missing, by and by.
    while left != 0 {
        let largest = *shares.iter().max()?;
        let at = shares.iter().position(|&share| share == largest)?;
        let more = if left > 0 { left } else { -1 };
        shares[at] += more;
        left -= more;
    }
    Some(shares.into_iter().map(|share| share as u16).collect())
}

/// The probabilities of levels, for all tables of a model.
pub(super) struct LevelCoder {
    equal: [[Chance; 3]; 2],
    more: [[Chance; 3]; 2],
    further: [[Chance; 16]; 2],
}

impl LevelCoder {
    pub fn new() -> Self {
        Self { equal: [[Chance::EVEN; 3]; 2], more: [[Chance::EVEN; 3]; 2], further: [[Chance::EVEN; 16]; 2] }
    }

    /// A table's levels, in place: each by what it differs from that of the table before, or of the symbol before.
    pub fn code(&mut self, coder: &mut impl Coder, before: Option<&[u8]>, levels: &mut [u8]) -> Result<()> {
        let kind = usize::from(before.is_some());
        // What the last difference was: 0, more or less.
        let (mut last, mut left) = (0, 0u8);
        for at in 0..levels.len() {
            let expected = usize::from(before.map_or(left, |before| before[at]));
            let level = usize::from(levels[at]);
            let found = if coder.bit(&mut self.equal[kind][last], level == expected) {
                last = 0;
                expected
            } else {
                let more = coder.bit(&mut self.more[kind][last], level > expected);
                let most = if more { TOP.saturating_sub(expected) } else { expected };
                let mut distance = 1;
                while distance <= most {
                    let chance = &mut self.further[kind][(distance - 1).min(15)];
                    if !coder.bit(chance, level.abs_diff(expected) > distance) {
                        break;
                    }
                    distance += 1;
                }
                if distance > most {
                    return Err(Error::Range("a level"));
                }
                last = 1 + usize::from(!more);
                if more { expected + distance } else { expected - distance }
            };
            left = found as u8;
            levels[at] = left;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_nearest() {
        for share in 8..=SUM {
            let at = level(share, SUM);
            let off = |level: usize| u64::from(weight(level)).abs_diff(share);
            assert!(off(at) <= off(at - 1) && (at == TOP || off(at) <= off(at + 1)), "{share}: {at}");
        }
        assert_eq!((level(3, SUM), level(4, SUM), level(SUM, SUM)), (0, 1, TOP));
        assert_eq!(u64::from(weight(TOP)), SUM);
    }

    #[test]
    fn shares_fill_all_slots() {
        for levels in [&[0, 105][..], &[1; 256], &[1, 105, 1, 1, 40], &[3], &[90, 90, 90], &[105; 64]] {
            let shares = shares(levels).unwrap();
            assert_eq!(shares.iter().map(|&share| u32::from(share)).sum::<u32>(), SLOTS);
            assert!(shares.iter().zip(levels).all(|(&share, &level)| (share > 0) == (level > 0)));
        }
        assert_eq!(shares(&[0; 64]), None);
    }
}
