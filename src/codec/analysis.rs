use super::constants::LONGEST_ROW;
use super::number::{f16_is_bf16, f32_is_bf16, f32_is_f16, f32_of_f16};
use super::segment::FARTHEST;
use super::{Encoding, Number, PieceLayout, Shape};

/// Signs and exponents of F32 and BF16: the upper 9 bits. Every kind of number is counted by those of the same value as F32.
const VALUES: usize = 512;
/// Signs and exponents of F16.
const F16_VALUES: usize = 64;
/// Weights that are looked at together, so that they are near when they are looked at again.
const BATCH: usize = 1024;

/// How often each sign and exponent occur together in a tensor, and what its numbers are besides. Analyses of parts add up, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    original: Number,
    counts: [u64; VALUES],
    /// True if all weights are numbers of this kind, and come back from it with the same bits.
    all_bf16: bool,
    all_f16: bool,
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
    /// Of no weights, which are such numbers.
    pub fn new(original: Number) -> Self {
        Self { original, counts: [0; VALUES], all_bf16: true, all_f16: original != Number::Bf16 }
    }

    /// Of weights as they stand in the original.
    ///
    /// # Panics
    /// If the last is not whole.
    pub fn of(original: Number, bytes: &[u8]) -> Self {
        assert!((bytes.len() as u64).is_multiple_of(original.bytes()), "whole numbers");
        let mut analysis = Self::new(original);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has AVX2.
            unsafe { analysis.count_avx2(bytes) };
            return analysis;
        }
        analysis.count_portable(bytes);
        analysis
    }

    /// The same code, compiled for wider vectors.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn count_avx2(&mut self, bytes: &[u8]) {
        self.count_portable(bytes);
    }

    #[inline(always)]
    fn count_portable(&mut self, bytes: &[u8]) {
        match self.original {
            Number::Bf16 => self.count(bytes, |bf16| u16::from_le_bytes(bf16) >> 7, |_| true, |_| false),
            Number::F16 => self.count(
                bytes,
                |half| (f32_of_f16(u16::from_le_bytes(half)) >> 23) as u16,
                |half| f16_is_bf16(u16::from_le_bytes(half)),
                |_| true,
            ),
            Number::F32 => self.count(
                bytes,
                |single| (u32::from_le_bytes(single) >> 23) as u16,
                |single| f32_is_bf16(u32::from_le_bytes(single)),
                |single| f32_is_f16(u32::from_le_bytes(single)),
            ),
        }
    }

    /// `value`: sign and exponent of a number as F32.
    #[inline(always)]
    fn count<const BYTES: usize>(
        &mut self,
        bytes: &[u8],
        value: impl Fn([u8; BYTES]) -> u16,
        is_bf16: impl Fn([u8; BYTES]) -> bool,
        is_f16: impl Fn([u8; BYTES]) -> bool,
    ) {
        // Four tables, so that a run of equal values does not wait for its own last increment.
        let mut tables = [[0u32; VALUES]; 4];
        for part in bytes.as_chunks::<BYTES>().0.chunks(1 << 30) {
            for batch in part.chunks(BATCH) {
                let mut values = [0; BATCH];
                for (found, &number) in values.iter_mut().zip(batch) {
                    *found = value(number);
                }
                let (quads, rest) = values[..batch.len()].as_chunks::<4>();
                for quad in quads {
                    for (table, &value) in tables.iter_mut().zip(quad) {
                        table[usize::from(value) % VALUES] += 1;
                    }
                }
                for &value in rest {
                    tables[0][usize::from(value) % VALUES] += 1;
                }
                self.all_bf16 =
                    self.all_bf16 && batch.iter().fold(true, |all, &number| all & is_bf16(number));
                self.all_f16 = self.all_f16 && batch.iter().fold(true, |all, &number| all & is_f16(number));
            }
            for table in &mut tables {
                for (sum, count) in self.counts.iter_mut().zip(table.iter_mut()) {
                    *sum += u64::from(std::mem::take(count));
                }
            }
        }
    }

    /// # Panics
    /// If the other is of other numbers.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.original, other.original, "parts of one tensor");
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        self.all_bf16 &= other.all_bf16;
        self.all_f16 &= other.all_f16;
    }

    pub fn original(&self) -> Number {
        self.original
    }

    /// Weights counted.
    pub fn weights(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// True if the weights can be stored as such numbers and come back with the same bits.
    pub fn fits(&self, stored: Number) -> bool {
        match stored {
            Number::Bf16 => self.all_bf16,
            Number::F16 => self.all_f16,
            Number::F32 => self.original == Number::F32,
        }
    }

    /// The narrowest kind of numbers that all weights are.
    pub fn narrowest(&self) -> Number {
        Number::ALL.into_iter().find(|&number| self.fits(number)).unwrap_or(self.original)
    }

    /// How often each exponent occurs, as those of F32.
    pub fn exponents(&self) -> [u64; VALUES / 2] {
        std::array::from_fn(|exponent| self.counts[exponent] + self.counts[VALUES / 2 + exponent])
    }

    /// Shannon entropy of the exponents, in bits per weight: what no code that takes them one by one can beat.
    pub fn entropy(&self) -> f64 {
        let total = self.weights() as f64;
        let bits = |count: u64| -(count as f64 / total).log2() * count as f64 / total;
        self.exponents().into_iter().filter(|&count| count > 0).map(bits).fold(0.0, |sum, part| sum + part)
    }

    /// How often each sign and exponent occur in the weights as they are stored.
    fn stored(&self, stored: Number) -> Vec<u64> {
        if stored != Number::F16 {
            return self.counts.to_vec();
        }
        let mut counts = vec![0; F16_VALUES];
        for (value, count) in self.counts.iter().enumerate() {
            let (sign, exponent) = (value / (VALUES / 2), value % (VALUES / 2));
            // What is too small is subnormal there, and has exponent 0.
            let exponent = exponent.saturating_sub(127 - 15).min(31);
            counts[sign * F16_VALUES / 2 + exponent] += count;
        }
        counts
    }

    fn shifted(&self, encoding: Encoding, shift: u8) -> Palette {
        let values = self.stored(encoding.stored());
        // Two neighbouring exponents are one symbol: the upper bits of a high byte, or all of them.
        let mut counts = vec![0; values.len() / 2];
        for (value, count) in values.iter().enumerate() {
            counts[(value + usize::from(shift)) % values.len() / 2] += count;
        }
        let mut symbols: Vec<usize> = (0..counts.len()).filter(|&symbol| counts[symbol] > 0).collect();
        symbols.sort_by_key(|&symbol| (std::cmp::Reverse(counts[symbol]), symbol));
        symbols.truncate(encoding.palette_len());
        let coded: u64 = symbols.iter().map(|&symbol| counts[symbol]).sum();
        let high = symbols.iter().map(|symbol| (symbol * 256 / counts.len()) as u8).collect();
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
            .filter(|encoding| self.fits(encoding.stored()))
            .filter_map(|encoding| {
                let palette = self.palette(encoding);
                // Far from another escape, one stands for a weight that has a code: at most so many.
                let most = palette.uncoded.checked_add(home / FARTHEST as u64)?;
                let len = home.checked_add(PieceLayout::new(encoding, shape, most)?.len)?;
                (len < self.original.bytes() * self.weights()).then_some((len, palette))
            })
            .min_by_key(|&(len, _)| len)
            .map(|(_, palette)| palette)
    }
}
