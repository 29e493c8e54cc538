use super::blob::{BlobLayout, Encoding, Shape};
use super::constants::LONGEST_ROW;
use super::exponent;

/// How often each exponent occurs in a tensor. Analyses of parts add up, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    counts: [u64; 256],
}

impl Default for Analysis {
    fn default() -> Self {
        Self { counts: [0; 256] }
    }
}

impl Analysis {
    pub fn of(weights: &[u16]) -> Self {
        // Four tables, so that a run of equal exponents does not wait for its own last increment.
        let mut tables = [[0u32; 256]; 4];
        let mut analysis = Self::default();
        for part in weights.chunks(1 << 30) {
            let (quads, rest) = part.as_chunks::<4>();
            for quad in quads {
                for (table, &weight) in tables.iter_mut().zip(quad) {
                    table[usize::from(exponent(weight))] += 1;
                }
            }
            for &weight in rest {
                tables[0][usize::from(exponent(weight))] += 1;
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
        self.counts
            .iter()
            .filter(|&&count| count > 0)
            .map(|&count| bits(count))
            .fold(0.0, |sum, part| sum + part)
    }

    /// The exponents that get a code, most frequent first, the lower first where two are as frequent.
    pub(super) fn palette(&self, encoding: Encoding) -> Vec<u8> {
        let mut exponents: Vec<u8> = (0..=255).filter(|&e| self.counts[usize::from(e)] > 0).collect();
        exponents.sort_by_key(|&e| (std::cmp::Reverse(self.counts[usize::from(e)]), e));
        exponents.truncate(encoding.palette_len());
        exponents
    }

    /// Weights whose exponent gets none.
    pub fn escapes(&self, encoding: Encoding) -> u64 {
        let coded: u64 = self.palette(encoding).iter().map(|&e| self.counts[usize::from(e)]).sum();
        self.weights() - coded
    }

    /// The encoding with the smallest blob, and its length; `None` where none is smaller than the tensor or may be used.
    pub fn best(&self, shape: Shape) -> Option<(Encoding, BlobLayout)> {
        if shape.k > LONGEST_ROW {
            return None;
        }
        Encoding::ALL
            .into_iter()
            .filter(|&encoding| self.escapes(encoding) <= u64::from(u32::MAX))
            .filter_map(|encoding| {
                Some((encoding, BlobLayout::new(encoding, shape, self.escapes(encoding))?))
            })
            .min_by_key(|(_, layout)| layout.len)
            .filter(|(_, layout)| layout.len < 2 * self.weights())
    }
}
