use super::analysis::Palette;
use super::constants::HEADER_BYTES;
use super::segment::{Segment, UNCODED, pack3, pack4};
use super::{Analysis, Chunk, Encoding, PLACES, PieceBuilder, PieceLayout, Shape, fillers, weight_at};

/// Codes one tensor, some segments at a time, in any order and on any number of threads.
#[derive(Debug)]
pub struct Encoder {
    pub encoding: Encoding,
    pub shape: Shape,
    shift: u8,
    palette: Vec<u8>,
    expected_rest: u64,
}

impl Encoder {
    /// `None` where no encoding makes the tensor smaller.
    pub fn new(analysis: &Analysis, shape: Shape) -> Option<Self> {
        Self::with(analysis.best(shape)?, shape)
    }

    /// As [`Encoder::new`], but in an encoding of the caller's choice, whether it saves bytes or not.
    pub fn forced(analysis: &Analysis, shape: Shape, encoding: Encoding) -> Option<Self> {
        Self::with(analysis.palette(encoding), shape)
    }

    fn with(Palette { encoding, shift, high, uncoded }: Palette, shape: Shape) -> Option<Self> {
        let escapes = uncoded.checked_add(fillers::expected(shape, uncoded))?;
        let expected_rest = PieceLayout::new(encoding, shape, escapes)?.len;
        Some(Self { encoding, shape, shift, palette: high, expected_rest })
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
        header[32..32 + self.palette.len()].copy_from_slice(&self.palette);
        header
    }

    /// Rows that one chunk may have: whole segments, about `bytes` of weights.
    pub fn rows_for(&self, bytes: u64) -> u64 {
        let segment = self.shape.segment_rows();
        (bytes / (2 * self.shape.k).max(1) / segment).max(1) * segment
    }

    /// Codes whole rows; the first must be the first of a segment.
    pub fn encode(&self, weights: &[u16]) -> Chunk {
        let mut chunk = Chunk::default();
        self.encode_into(weights, &mut chunk);
        chunk
    }

    /// As [`Encoder::encode`], in the memory of an earlier chunk.
    pub fn encode_into(&self, weights: &[u16], chunk: &mut Chunk) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has AVX2.
            return unsafe { self.encode_avx2(weights, chunk) };
        }
        self.encode_portable(weights, chunk);
    }

    /// The same code, compiled for wider vectors.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn encode_avx2(&self, weights: &[u16], chunk: &mut Chunk) {
        self.encode_portable(weights, chunk);
    }

    #[inline(always)]
    fn encode_portable(&self, weights: &[u16], chunk: &mut Chunk) {
        let k = self.shape.k as usize;
        let segment_rows = self.shape.segment_rows() as usize;
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
                    self.split(&placed(block), PLACES, low, segment);
                }
                if !rest.is_empty() {
                    let mut block = [0; PLACES];
                    block[..rest.len()].copy_from_slice(rest);
                    self.split(&block, rest.len(), low, segment);
                }
            }
            segment.fill_up();
            segment.take_escapes(escapes);
            match self.encoding {
                Encoding::Bf16Palette8 => pack3(&segment.codes, codes),
                Encoding::Bf16Palette16 => pack4(&segment.codes, codes),
            }
        }
    }

    /// Low bytes, high bytes and codes of the first `used` weights, which stand at their places.
    #[inline(always)]
    fn split(&self, placed: &[u16; PLACES], used: usize, low: &mut Vec<u8>, segment: &mut Segment) {
        let added = u16::from(self.shift) << 7;
        let stored = placed.map(|weight| weight.wrapping_add(added));
        let lows = stored.map(|stored| stored as u8);
        let highs = stored.map(|stored| (stored >> 8) as u8);
        let mut codes = [UNCODED; PLACES];
        // All places against one high byte after the other: compilers turn that into vector instructions, a table they do not.
        for (code, &high) in self.palette.iter().enumerate() {
            for (place, &found) in codes.iter_mut().zip(&highs) {
                *place = if found == high { code as u8 } else { *place };
            }
        }
        low.extend_from_slice(&lows[..used]);
        segment.high.extend_from_slice(&highs[..used]);
        segment.codes.extend_from_slice(&codes[..used]);
    }

    /// Codes a tensor, or whole segments of it, at once and in memory: low bytes, and one piece.
    pub fn whole(&self, weights: &[u16]) -> (Vec<u8>, Vec<u8>) {
        let chunk = self.encode(weights);
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

    use super::*;
    use crate::codec::constants::LONGEST_ROW;
    use crate::codec::oracle;
    use crate::codec::samples::{trained, weights};

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
        let encoder = Encoder::forced(&Analysis::of(&rare), shape, Encoding::Bf16Palette8).unwrap();
        let chunk = encoder.encode(&rare);
        assert_eq!(chunk.escapes(), 17);
        let between = [255, 0x3F];
        assert_eq!(chunk.escapes[..32].as_chunks::<2>().0, [between; 16]);
        assert_eq!(chunk.escapes[32..], [(4095 - 16 * 255) as u8, 0x7F]);
        let (home, piece) = encoder.whole(&rare);
        assert_eq!(oracle::decode(&home, &[(1, &piece)], encoder.encoding, 4096).unwrap(), rare);
    }

    #[test]
    fn rows_longer_than_the_format_allows_stay_plain() {
        let analysis = Analysis::of(&weights(LONGEST_ROW + 1, 0));
        assert!(Encoder::new(&analysis, Shape { k: LONGEST_ROW + 1, rows: 1 }).is_none());
        assert!(Encoder::new(&analysis, Shape { k: LONGEST_ROW, rows: 1 }).is_some());
    }

    #[test]
    fn nothing_has_no_encoding() {
        for shape in [Shape { k: 0, rows: 0 }, Shape { k: 0, rows: 9 }, Shape { k: 9, rows: 0 }] {
            assert!(Encoder::new(&Analysis::default(), shape).is_none());
        }
    }

    #[test]
    fn rows_that_fill_no_block_save_as_much() {
        for k in [96, 160] {
            let weights = trained(k * 1000);
            let encoder = Encoder::new(&Analysis::of(&weights), Shape { k, rows: 1000 }).unwrap();
            let (home, piece) = encoder.whole(&weights);
            let share = (home.len() + piece.len()) as f64 / (2 * weights.len()) as f64;
            assert!(share < 0.73, "rows of {k}: {share}");
        }
    }

    #[test]
    fn the_rest_is_as_long_as_expected() {
        for (k, rows) in [(2048, 512), (96, 10_000), (4096 + 32, 250)] {
            // From none to many, the fillers of some of which outnumber the others.
            for wild in [0, 1, 4, 16, 64, 256, 1024] {
                let weights = weights(k * rows, wild);
                let analysis = Analysis::of(&weights);
                for encoding in Encoding::ALL {
                    let encoder = Encoder::forced(&analysis, Shape { k, rows }, encoding).unwrap();
                    let (found, expected) =
                        (encoder.whole(&weights).1.len() as f64, encoder.expected_rest() as f64);
                    assert!(
                        (found / expected - 1.0).abs() < 0.001,
                        "k {k}, {wild} wild: {found}, not {expected}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn weights_come_back(
            k in 1u64..150, rows in 1u64..100, wild in 0u64..6, four in any::<bool>(),
        ) {
            let encoding = Encoding::ALL[usize::from(four)];
            let weights = weights(k * rows, 256 * wild);
            let mut analysis = Analysis::default();
            for part in weights.chunks(7) {
                analysis.add(&Analysis::of(part));
            }
            prop_assert_eq!(&analysis, &Analysis::of(&weights));
            let encoder = Encoder::forced(&analysis, Shape { k, rows }, encoding).unwrap();
            let (home, piece) = encoder.whole(&weights);
            prop_assert_eq!(oracle::decode(&home, &[(rows, &piece)], encoding, k).unwrap(), weights);
        }

        #[test]
        fn the_smallest_is_chosen(k in 1u64..150, rows in 1u64..30, wild in 0u64..17) {
            let (weights, shape) = (weights(k * rows, 256 * wild), Shape { k, rows });
            let analysis = Analysis::of(&weights);
            let len = |encoder: &Encoder| {
                let (home, piece) = encoder.whole(&weights);
                home.len() + piece.len()
            };
            let forced = Encoding::ALL.map(|encoding| len(&Encoder::forced(&analysis, shape, encoding).unwrap()));
            // Escapes between escapes are not foreseen to the byte.
            let unforeseen = 2 * weights.len() / 255 + 64;
            match Encoder::new(&analysis, shape) {
                Some(encoder) => {
                    let len = len(&encoder);
                    prop_assert!(len < 2 * weights.len());
                    prop_assert!(forced.into_iter().all(|other| len <= other + unforeseen));
                }
                None => prop_assert!(forced.into_iter().all(|len| len + unforeseen >= 2 * weights.len())),
            }
        }
    }
}
