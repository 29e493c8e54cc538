//! What symbols will cost, in whole numbers: what decides on bytes must come out alike on every machine.

use super::frequencies::SLOT_BITS;

/// Parts of a bit that costs are counted in, as a power of two.
pub(super) const PART_BITS: u32 = 12;

const STEPS: usize = 256;

/// Logarithms of 1 + i / 256, in parts of a bit.
const LOGARITHMS: [u32; STEPS + 1] = {
    let mut logarithms = [0; STEPS + 1];
    let mut i = 0;
    while i <= STEPS {
        // By squaring: each time the number passes 2, a bit of the logarithm is one.
        let mut number = ((STEPS + i) as u64) << 22;
        let mut bit = 0;
        while bit <= PART_BITS {
            let carry = (number >> 31) as u32;
            logarithms[i] += carry << (PART_BITS - bit);
            number >>= carry;
            number = (number * number) >> 30;
            bit += 1;
        }
        i += 1;
    }
    logarithms
};

/// The binary logarithm of `number`, in parts of a bit; of 0, that of 1.
pub(super) fn log2(number: u64) -> u64 {
    let number = number.max(1);
    let whole = number.ilog2();
    let aligned = u128::from(number) << 64 >> whole;
    let (step, rest) = ((aligned >> 56) as usize & 0xFF, (aligned >> 40) as u64 & 0xFFFF);
    let (low, high) = (u64::from(LOGARITHMS[step]), u64::from(LOGARITHMS[step + 1]));
    (u64::from(whole) << PART_BITS) + low + (((high - low) * rest) >> 16)
}

/// Whether a symbol is worth a slot: otherwise an escape is cheaper.
pub(super) fn is_rare(count: u64, all: u64) -> bool {
    count << (SLOT_BITS + 2) < all
}

/// Bits, in parts, of symbols that came so often, the last being the escape, whose symbol costs 16 more. With what their table costs.
pub(super) fn of_table(counts: &[u32]) -> u64 {
    const ESCAPED: u64 = 16 << PART_BITS;
    /// Bits of a level.
    const LEVEL: u64 = 5 << (PART_BITS - 1);
    let all: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let (whole, mut cost, mut escaped) = (log2(all), 0, u64::from(counts[counts.len() - 1]));
    for &count in &counts[..counts.len() - 1] {
        let count = u64::from(count);
        if is_rare(count, all) {
            escaped += count;
        } else {
            cost += count * (whole - log2(count)) + LEVEL;
        }
    }
    cost + escaped * (whole - log2(escaped).min(whole) + ESCAPED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right() {
        for number in (1..70_000).chain([u64::from(u32::MAX), u64::MAX, 1 << 40, (1 << 40) + (1 << 39)]) {
            let exact = (number as f64).log2() * f64::from(1 << PART_BITS);
            assert!((log2(number) as f64 - exact).abs() < 2.5, "{number}: {} {exact}", log2(number));
        }
    }
}
