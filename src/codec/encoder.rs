use super::analysis::Palette;
use super::constants::HEADER_BYTES;
use super::number::{bf16_of_f16, f16_of_f32};
use super::segment::{Segment, UNCODED, pack3, pack4, pack6};
use super::{
    Analysis, Chunk, Encoding, Number, PLACES, PieceBuilder, PieceLayout, Shape, fillers, weight_at,
};

/// Codes one tensor, some segments at a time, in any order and on any number of threads.
#[derive(Debug)]
pub struct Encoder {
    pub encoding: Encoding,
    pub original: Number,
    pub shape: Shape,
    shift: u8,
    palette: Vec<u8>,
    expected_rest: u64,
}

impl Encoder {
    /// `None` where no encoding makes the tensor smaller.
    pub fn new(analysis: &Analysis, shape: Shape) -> Option<Self> {
        Self::with(analysis.original(), analysis.best(shape)?, shape)
    }

    /// As [`Encoder::new`], but in an encoding of the caller's choice, whether it saves bytes or not. `None` where the weights are not
    /// such numbers as it stores.
    pub fn forced(analysis: &Analysis, shape: Shape, encoding: Encoding) -> Option<Self> {
        let palette = || analysis.palette(encoding);
        Self::with(analysis.original(), analysis.fits(encoding.stored()).then(palette)?, shape)
    }

    fn with(original: Number, palette: Palette, shape: Shape) -> Option<Self> {
        let Palette { encoding, shift, high, uncoded } = palette;
        let escapes = uncoded.checked_add(fillers::expected(shape, uncoded))?;
        let expected_rest = PieceLayout::new(encoding, shape, escapes)?.len;
        Some(Self { encoding, original, shape, shift, palette: high, expected_rest })
    }

    /// Bytes to expect of all that is not home, as one piece.
    ///
    /// An estimate, as a rule within a fraction of a per mille: how many weights have no code is known, but not how they lie, and
    /// where they are far apart, weights between them become escapes too. A writer must cope with more.
    pub fn expected_rest(&self) -> u64 {
        self.expected_rest
    }

    /// The header of a piece of so many rows and escapes.
    pub(super) fn header(&self, rows: u64, escapes: u64) -> [u8; HEADER_BYTES as usize] {
        let mut header = [0; HEADER_BYTES as usize];
        header[0..8].copy_from_slice(&self.shape.k.to_le_bytes());
        header[8..16].copy_from_slice(&rows.to_le_bytes());
        header[16..24].copy_from_slice(&escapes.to_le_bytes());
        header[24] = self.encoding.code_bits();
        header[25] = self.shift;
        header[26] = self.encoding.stored() as u8;
        header[32..32 + self.palette.len()].copy_from_slice(&self.palette);
        header
    }

    /// Rows that one chunk may have: whole segments, about `bytes` of the original.
    pub fn rows_for(&self, bytes: u64) -> u64 {
        let segment = self.shape.segment_rows();
        (bytes / self.row_bytes().max(1) / segment).max(1) * segment
    }

    /// Bytes of a row in the original.
    pub fn row_bytes(&self) -> u64 {
        self.original.bytes() * self.shape.k
    }

    /// Codes whole rows of the original; the first must be the first of a segment. Weights that the analysis did not have, and that are
    /// no such numbers as are stored, give some code: what is written is proved by reading it back.
    pub fn encode(&self, rows: &[u8]) -> Chunk {
        let mut chunk = Chunk::default();
        self.encode_into(rows, &mut chunk);
        chunk
    }

    /// As [`Encoder::encode`], in the memory of an earlier chunk.
    pub fn encode_into(&self, rows: &[u8], chunk: &mut Chunk) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has AVX2.
            return unsafe { self.encode_avx2(rows, chunk) };
        }
        self.encode_portable(rows, chunk);
    }

    /// The same code, compiled for wider vectors.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn encode_avx2(&self, rows: &[u8], chunk: &mut Chunk) {
        self.encode_portable(rows, chunk);
    }

    #[inline(always)]
    fn encode_portable(&self, rows: &[u8], chunk: &mut Chunk) {
        match (self.original, self.encoding.stored()) {
            (Number::F32, Number::F16) => {
                self.encode_as(rows, chunk, |single| f16_of_f32(u32::from_le_bytes(single)));
            }
            (Number::F32, _) => {
                self.encode_as(rows, chunk, |[_, _, low, high]| u16::from_le_bytes([low, high]))
            }
            (Number::F16, Number::Bf16) => {
                self.encode_as(rows, chunk, |half| bf16_of_f16(u16::from_le_bytes(half)));
            }
            _ => self.encode_as(rows, chunk, u16::from_le_bytes),
        }
    }

    /// `word`: what is stored of a weight, its exponent not yet shifted; of F32 the upper half.
    #[inline(always)]
    fn encode_as<const BYTES: usize>(
        &self,
        bytes: &[u8],
        chunk: &mut Chunk,
        word: impl Fn([u8; BYTES]) -> u16 + Copy,
    ) {
        let k = self.shape.k as usize;
        let segment_rows = self.shape.segment_rows() as usize;
        let weights = bytes.as_chunks::<BYTES>().0;
        let Chunk { rows, low, codes, starts, escapes, segment } = chunk;
        *rows = (weights.len() / k.max(1)) as u64;
        low.clear();
        codes.clear();
        starts.clear();
        escapes.clear();
        for rows in weights.chunks((segment_rows * k).max(1)) {
            starts.push(escapes.len() / 2);
            segment.clear();
            for row in rows.chunks_exact(k) {
                let (full, rest) = row.as_chunks::<PLACES>();
                for block in full {
                    self.split(&placed(&block.map(word)), PLACES, low, segment);
                }
                if !rest.is_empty() {
                    let mut block = [0; PLACES];
                    for (place, &weight) in block.iter_mut().zip(rest) {
                        *place = word(weight);
                    }
                    self.split(&block, rest.len(), low, segment);
                }
            }
            segment.fill_up();
            segment.take_escapes(escapes);
            match self.encoding {
                Encoding::Bf16Palette8 | Encoding::F32Palette8 => pack3(&segment.codes, codes),
                Encoding::Bf16Palette16 | Encoding::F32Palette16 => pack4(&segment.codes, codes),
                Encoding::F16Palette8 => pack6(&segment.codes, codes),
            }
            if self.encoding.word_bytes() > 0 {
                codes.extend(rows.iter().flat_map(|weight| [weight[0], weight[1]]));
            }
        }
    }

    /// Low bytes, high bytes and codes of the first `used` weights, which stand at their places.
    #[inline(always)]
    fn split(&self, placed: &[u16; PLACES], used: usize, low: &mut Vec<u8>, segment: &mut Segment) {
        let added = u16::from(self.shift) * self.encoding.exponent_step();
        let stored = placed.map(|weight| weight.wrapping_add(added));
        let lows = stored.map(|stored| stored as u8);
        let highs = stored.map(|stored| (stored >> 8) as u8);
        let coded = self.encoding.coded_bits();
        let mut codes = [UNCODED; PLACES];
        // All places against one high byte after the other: compilers turn that into vector instructions, a table they do not.
        for (code, &high) in self.palette.iter().enumerate() {
            for (place, &found) in codes.iter_mut().zip(&highs) {
                // What is not coded of a high byte stands beside its code, a half byte higher.
                let beside = (found & !coded) << 4;
                *place = if found & coded == high { code as u8 | beside } else { *place };
            }
        }
        low.extend_from_slice(&lows[..used]);
        segment.high.extend_from_slice(&highs[..used]);
        segment.codes.extend_from_slice(&codes[..used]);
    }

    /// Codes a tensor, or whole segments of it, at once and in memory: low bytes, and one piece.
    pub fn whole(&self, rows: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let chunk = self.encode(rows);
        let mut builder = PieceBuilder::new(self);
        let (at, codes) = builder.take(&chunk, 0..chunk.segments());
        let finished = builder.finish();
        let mut piece = vec![0; finished.len as usize];
        let mut put =
            |at: u64, bytes: &[u8]| piece[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        put(at, codes);
        for (at, bytes) in &finished.parts {
            put(*at, bytes);
        }
        (chunk.low, piece)
    }
}

/// A whole block's weights at their places.
#[inline(always)]
fn placed(block: &[u16; PLACES]) -> [u16; PLACES] {
    let mut placed = [0; PLACES];
    for place in (0..PLACES).step_by(8) {
        let weight = weight_at(place);
        placed[place..place + 8].copy_from_slice(&block[weight..weight + 8]);
    }
    placed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::codec::constants::LONGEST_ROW;
    use crate::codec::oracle;
    use crate::codec::samples::{numbers, trained, ways, weights};

    const BF16: Number = Number::Bf16;

    #[test]
    fn escapes_that_are_far_apart_have_others_between() {
        // One rare high byte at the end of a segment of 4096 places.
        let shape = Shape { k: 4096, rows: 1 };
        let mut rare = vec![0x3F80u16; 4096];
        rare[4095] = 0x7F80;
        let common = [0x3E80, 0x3D80, 0x3C80, 0x3B80, 0x3A80, 0x3980, 0x3880];
        for (i, weight) in rare[..70].iter_mut().enumerate() {
            *weight = common[i % 7];
        }
        let rare: Vec<u8> = rare.into_iter().flat_map(u16::to_le_bytes).collect();
        let encoder = Encoder::forced(&Analysis::of(BF16, &rare), shape, Encoding::Bf16Palette8).unwrap();
        let chunk = encoder.encode(&rare);
        assert_eq!(chunk.escapes(), 17);
        let between = [255, 0x3F];
        assert_eq!(chunk.escapes[..32].as_chunks::<2>().0, [between; 16]);
        assert_eq!(chunk.escapes[32..], [(4095 - 16 * 255) as u8, 0x7F]);
        let (home, piece) = encoder.whole(&rare);
        assert_eq!(oracle::decode(&home, &[(1, &piece)], encoder.encoding, BF16, 4096).unwrap(), rare);
    }

    #[test]
    fn rows_longer_than_the_format_allows_stay_plain() {
        let analysis = Analysis::of(BF16, &weights(LONGEST_ROW + 1, 0));
        assert!(Encoder::new(&analysis, Shape { k: LONGEST_ROW + 1, rows: 1 }).is_none());
        assert!(Encoder::new(&analysis, Shape { k: LONGEST_ROW, rows: 1 }).is_some());
    }

    #[test]
    fn nothing_has_no_encoding() {
        for shape in [Shape { k: 0, rows: 0 }, Shape { k: 0, rows: 9 }, Shape { k: 9, rows: 0 }] {
            for original in Number::ALL {
                assert!(Encoder::new(&Analysis::new(original), shape).is_none());
            }
        }
    }

    #[test]
    fn rows_that_fill_no_block_save_as_much() {
        for k in [96, 160] {
            for (original, bits) in [(BF16, 11.6), (Number::F16, 14.6), (Number::F32, 27.6)] {
                let weights = trained(original, k * 1000);
                let shape = Shape { k, rows: 1000 };
                let encoder = Encoder::new(&Analysis::of(original, &weights), shape).unwrap();
                let (home, piece) = encoder.whole(&weights);
                let found = 8.0 * (home.len() + piece.len()) as f64 / (k * 1000) as f64;
                assert!(found < bits, "rows of {k}, {original:?}: {found} bits a weight");
            }
        }
    }

    /// Each tensor is stored as the narrowest kind of numbers that it can be.
    #[test]
    fn disguises_are_seen_through() {
        let shape = Shape { k: 256, rows: 64 };
        for (encoding, original) in ways() {
            let weights = numbers(original, encoding.stored(), 256 * 64, 64);
            let encoder = Encoder::new(&Analysis::of(original, &weights), shape).unwrap();
            assert_eq!(encoder.encoding.stored(), encoding.stored(), "{original:?}");
        }
    }

    /// One weight of a tensor decides what it can be.
    #[test]
    fn one_weight_is_enough_to_be_no_other_number() {
        let analysis = |original, weights: &[u8]| {
            let analysis = Analysis::of(original, weights);
            [Number::Bf16, Number::F16, Number::F32].map(|stored| analysis.fits(stored))
        };
        let (f16, f32) = (Number::F16, Number::F32);
        for at in [0, 1, 777, 4999] {
            let mut halves = vec![0x3C00u16; 5000];
            let mut singles = vec![0x3F80_0000u32; 5000];
            let mut with_half = |half| {
                halves[at] = half;
                analysis(f16, &halves.iter().flat_map(|half: &u16| half.to_le_bytes()).collect::<Vec<_>>())
            };
            assert_eq!(with_half(0xBC08), [true, true, false]);
            for half in [0x3C01, 0x3C04, 0x00FF + 2, 0x7C01, 0x7E00, 0xFFF8] {
                assert_eq!(with_half(half), [false, true, false], "{half:04X}");
            }
            for half in [0x0001, 0x00FF, 0x8000, 0x7C00, 0xFC00, 0x7BF8] {
                assert_eq!(with_half(half), [true, true, false], "{half:04X}");
            }
            let mut with_single = |single| {
                singles[at] = single;
                analysis(
                    f32,
                    &singles.iter().flat_map(|single: &u32| single.to_le_bytes()).collect::<Vec<_>>(),
                )
            };
            for (single, fits) in [
                (0x8000_0000, [true, true, true]),
                (0x7F80_0000, [true, true, true]),
                (0x3380_0000, [true, true, true]),
                (0x3300_0000, [true, false, true]),
                (0x477F_E000, [false, true, true]),
                (0x477F_0000, [true, true, true]),
                (0x4780_0000, [true, false, true]),
                (0x7F81_0000, [true, false, true]),
                (0xFFC0_0000, [true, false, true]),
                (0x7FC0_2000, [false, false, true]),
                (0x3F80_2000, [false, true, true]),
                (0x3F80_1000, [false, false, true]),
                (0x0000_0001, [false, false, true]),
            ] {
                assert_eq!(with_single(single), fits, "{single:08X}");
            }
        }
    }

    #[test]
    fn the_rest_is_as_long_as_expected() {
        for (k, rows) in [(2048, 512), (96, 10_000), (4096 + 32, 250)] {
            // From none to many, the fillers of some of which outnumber the others.
            for wild in [0, 1, 4, 16, 64, 256, 1024] {
                // Those of F32 are those of BF16.
                for encoding in [Encoding::Bf16Palette8, Encoding::Bf16Palette16, Encoding::F16Palette8] {
                    let original = encoding.stored();
                    let weights = numbers(original, original, k * rows, wild);
                    let analysis = Analysis::of(original, &weights);
                    let encoder = Encoder::forced(&analysis, Shape { k, rows }, encoding).unwrap();
                    let (found, expected) =
                        (encoder.whole(&weights).1.len() as f64, encoder.expected_rest() as f64);
                    assert!(
                        (found / expected - 1.0).abs() < 0.001,
                        "k {k}, {wild} wild, {}: {found}, not {expected}",
                        encoding.name()
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn weights_come_back(
            k in 1u64..150, rows in 1u64..100, wild in 0u64..6,
            (encoding, original) in select(ways().collect::<Vec<_>>()),
        ) {
            let weights = numbers(original, encoding.stored(), k * rows, 256 * wild);
            let mut analysis = Analysis::new(original);
            for part in weights.chunks(7 * original.bytes() as usize) {
                analysis.add(&Analysis::of(original, part));
            }
            prop_assert_eq!(&analysis, &Analysis::of(original, &weights));
            let encoder = Encoder::forced(&analysis, Shape { k, rows }, encoding).unwrap();
            let (home, piece) = encoder.whole(&weights);
            prop_assert_eq!(oracle::decode(&home, &[(rows, &piece)], encoding, original, k).unwrap(), weights);
        }

        #[test]
        fn the_smallest_is_chosen(
            k in 1u64..150, rows in 1u64..30, wild in 0u64..17,
            (stored, original) in select(ways().map(|(encoding, original)| (encoding.stored(), original)).collect::<Vec<_>>()),
        ) {
            let (weights, shape) = (numbers(original, stored, k * rows, 256 * wild), Shape { k, rows });
            let analysis = Analysis::of(original, &weights);
            let len = |encoder: &Encoder| {
                let (home, piece) = encoder.whole(&weights);
                home.len() + piece.len()
            };
            let forced: Vec<_> = Encoding::ALL
                .into_iter()
                .filter_map(|encoding| Some(len(&Encoder::forced(&analysis, shape, encoding)?)))
                .collect();
            // Escapes between escapes are not foreseen to the byte.
            let unforeseen = 2 * (k * rows) as usize / 255 + 64;
            match Encoder::new(&analysis, shape) {
                Some(encoder) => {
                    let len = len(&encoder);
                    prop_assert!(len < weights.len());
                    prop_assert!(forced.into_iter().all(|other| len <= other + unforeseen));
                }
                None => prop_assert!(forced.into_iter().all(|len| len + unforeseen >= weights.len())),
            }
        }
    }
}
