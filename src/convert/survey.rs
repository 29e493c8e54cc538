//! The first reading of an original: checksums, exponent counts, and the bytes between tensors.

use std::io::Write;

use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::error::{In, Result};
use super::progress::{Progress, Stage};
use super::source::{Source, WINDOW};
use crate::codec::{Analysis, Encoder};
use crate::container::gguf::{Gguf, TensorInfo};
use crate::container::layout::Need;
use crate::container::parts::{Part, parts};
use crate::container::shape;
use crate::selection::Selection;

/// What one reading of a file tells.
pub struct Survey {
    pub blake3: blake3::Hash,
    /// xxh3 of each tensor, in the order of the tensor infos.
    pub xxh3: Vec<u64>,
    /// How each tensor is best coded, and what it needs; `None` for one that stays plain.
    pub encoders: Vec<Option<(Encoder, Need)>>,
    /// True if there are tensors that might have been compressed, whether they get smaller or not.
    pub had_candidates: bool,
    /// True if tensors that may be left out were left plain for want of space.
    pub optional_are_plain: bool,
    /// A zstd frame of the bytes that belong to nothing else; empty where they are all zero.
    pub remainder: Vec<u8>,
}

impl Survey {
    pub fn take(
        source: &Source,
        gguf: &Gguf,
        selection: &Selection,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut xxh3 = vec![xxh3_64(&[]); gguf.tensors.len()];
        let mut analyses: Vec<_> =
            gguf.tensors.iter().map(|tensor| Some(Analysis::new(selection.takes(tensor)?))).collect();
        let mut whole = blake3::Hasher::new();
        let mut remainder = Remainder::new().in_file(&source.path)?;
        let extents: Vec<_> = gguf.tensors.iter().map(|tensor| (tensor.offset, tensor.len)).collect();
        let mut buffer = vec![0; WINDOW as usize];
        progress.begin(Stage::Reading, source.len());
        let parts = parts(gguf.header_len, gguf.alignment, &extents, source.len()).in_file(&source.path)?;
        for (part, range) in parts {
            let mut checksum = Xxh3::new();
            let mut analysis = match part {
                Part::Tensor(i) => analyses[i].take(),
                _ => None,
            };
            let mut at = range.start;
            while at < range.end {
                let now = (range.end - at).min(WINDOW);
                let bytes = &mut buffer[..now as usize];
                source.read(at, bytes)?;
                let bytes = &*bytes;
                let (_, kept) = rayon::join(
                    || whole.update_rayon(bytes),
                    || match part {
                        Part::Tensor(_) => {
                            let count = || analysis.iter_mut().for_each(|analysis| count(analysis, bytes));
                            rayon::join(|| checksum.update(bytes), count);
                            Ok(())
                        }
                        Part::Gap => remainder.add(bytes),
                        Part::Header => Ok(()),
                    },
                );
                kept.in_file(&source.path)?;
                at += now;
                progress.advance(now);
            }
            if let Part::Tensor(i) = part {
                xxh3[i] = checksum.digest();
                analyses[i] = analysis;
            }
        }
        let encoder =
            |(tensor, analysis): (_, &Option<Analysis>)| encoder(tensor, analysis.as_ref()?, selection);
        Ok(Self {
            blake3: whole.finalize(),
            xxh3,
            encoders: gguf.tensors.iter().zip(&analyses).map(encoder).collect(),
            optional_are_plain: false,
            had_candidates: analyses.iter().any(Option::is_some),
            remainder: remainder.finish().in_file(&source.path)?,
        })
    }
}

impl Survey {
    /// Leaves tensors plain that llama.cpp may leave out. False if there are none.
    pub fn drop_optional(&mut self) -> bool {
        let is_optional =
            |slot: &&mut Option<(Encoder, Need)>| slot.as_ref().is_some_and(|(_, need)| need.optional);
        self.optional_are_plain = self.encoders.iter_mut().filter(is_optional).map(Option::take).count() > 0;
        self.optional_are_plain
    }
}

fn encoder(tensor: &TensorInfo, analysis: &Analysis, selection: &Selection) -> Option<(Encoder, Need)> {
    let encoder = Encoder::new(analysis, shape(&tensor.dims)?)?;
    let need = Need {
        rest: encoder.expected_rest(),
        segments: encoder.shape.segments(),
        optional: selection.is_optional(tensor.name),
    };
    Some((encoder, need))
}

/// Counts on all cores.
pub fn count(analysis: &mut Analysis, bytes: &[u8]) {
    let original = analysis.original();
    let parts: Vec<_> = bytes.par_chunks(1 << 21).map(|part| Analysis::of(original, part)).collect();
    parts.iter().for_each(|part| analysis.add(part));
}

/// The bytes that belong to nothing else, as they are read.
struct Remainder {
    frame: zstd::Encoder<'static, Vec<u8>>,
    is_zero: bool,
}

impl Remainder {
    fn new() -> std::io::Result<Self> {
        let mut frame = zstd::Encoder::new(Vec::new(), 3)?;
        frame.include_checksum(true)?;
        Ok(Self { frame, is_zero: true })
    }

    fn add(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.is_zero &= bytes.iter().all(|&byte| byte == 0);
        self.frame.write_all(bytes)
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        let frame = self.frame.finish()?;
        Ok(if self.is_zero { Vec::new() } else { frame })
    }
}
