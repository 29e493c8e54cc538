use super::constants::LONGEST_ROW;
use super::segment::FARTHEST;
use super::{Encoding, PieceLayout, Shape};

/// Signs and exponents: the upper 9 bits of a weight.
const VALUES: usize = 512;

/// How often each sign and exponent occur together in a tensor. Analyses of parts add up, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    counts: [u64; VALUES],
}

impl Default for Analysis {
    fn default() -> Self {
        Self { counts: [0; VALUES] }
    }
}

/// High bytes that get a code, and how many weights they leave without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Palette {
    pub encoding: Encoding,
    /// 1 if exponents are stored one too high: high bytes hold pairs of exponents, and this chooses the pairs.
    pub shift: u8,
    /// Most frequent first, the lower first where two are as frequent.
    pub high: Vec<u8>,
    pub uncoded: u64,
}

impl Analysis {
    pub fn of(weights: &[u16]) -> Self {
        // Four tables, so that a run of equal values does not wait for its own last increment.
        let mut tables = [[0u32; VALUES]; 4];
        let mut analysis = Self::default();
        for part in weights.chunks(1 << 30) {
            let (quads, rest) = part.as_chunks::<4>();
            for quad in quads {
                for (table, &weight) in tables.iter_mut().zip(quad) {
                    table[usize::from(weight >> 7)] += 1;
                }
            }
            for &weight in rest {
                tables[0][usize::from(weight >> 7)] += 1;
            }
            for table in &mut tables {
                for (sum, count) in analysis.counts.iter_mut().zip(table.iter_mut()) {
                    *sum += u64::from(std::mem::take(count));
                }
            }
        }
        analysis
    }

    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
    }

    /// Weights counted.
    pub fn weights(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Shannon entropy of the exponents, in bits per weight: what no code that takes them one by one can beat.
    pub fn entropy(&self) -> f64 {
        let total = self.weights() as f64;
        let bits = |count: u64| -(count as f64 / total).log2() * count as f64 / total;
        let (positive, negative) = self.counts.split_at(VALUES / 2);
        let exponents = positive.iter().zip(negative).map(|(a, b)| a + b);
        exponents.filter(|&count| count > 0).map(bits).fold(0.0, |sum, part| sum + part)
    }

    fn shifted(&self, encoding: Encoding, shift: u8) -> Palette {
        let mut counts = [0; 256];
        for (value, count) in self.counts.iter().enumerate() {
            counts[(value + usize::from(shift)) % VALUES / 2] += count;
        }
        let mut high: Vec<u8> = (0..=255).filter(|&high| counts[usize::from(high)] > 0).collect();
        high.sort_by_key(|&high| (std::cmp::Reverse(counts[usize::from(high)]), high));
        high.truncate(encoding.palette_len());
        let coded: u64 = high.iter().map(|&high| counts[usize::from(high)]).sum();
        Palette { encoding, shift, high, uncoded: self.weights() - coded }
    }

    /// The palette that leaves the fewest weights without a code.
    pub(super) fn palette(&self, encoding: Encoding) -> Palette {
        let [plain, shifted] = [0, 1].map(|shift| self.shifted(encoding, shift));
        if shifted.uncoded < plain.uncoded { shifted } else { plain }
    }

    /// What makes home and piece smallest; `None` where none would surely make them smaller than the tensor, or none may be used.
    pub(super) fn best(&self, shape: Shape) -> Option<Palette> {
        if shape.k > LONGEST_ROW {
            return None;
        }
        let home = shape.weights()?;
        Encoding::ALL
            .into_iter()
            .filter_map(|encoding| {
                let palette = self.palette(encoding);
                // Far from another escape, one stands for a weight that has a code: at most so many.
                let most = palette.uncoded.checked_add(home / FARTHEST as u64)?;
                let len = home.checked_add(PieceLayout::new(encoding, shape, most)?.len)?;
                (len < 2 * self.weights()).then_some((len, palette))
            })
            .min_by_key(|&(len, _)| len)
            .map(|(_, palette)| palette)
    }
}
