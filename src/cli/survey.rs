//! The first reading of an original: checksums, exponent counts, and the bytes between tensors.

use std::io::Write;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use rayon::prelude::*;
use unweight::codec::{Analysis, Encoder, Shape};
use unweight::container::gguf::Gguf;
use unweight::selection::is_candidate;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::input::{Input, WINDOW};
use super::parts::{Part, parts};

/// What one reading of a file tells.
pub struct Survey {
    pub blake3: blake3::Hash,
    /// xxh3 of each tensor, in the order of the tensor infos.
    pub xxh3: Vec<u64>,
    /// Exponent counts of each tensor that may be compressed.
    pub analyses: Vec<Option<Analysis>>,
    /// A zstd frame of the bytes that belong to nothing else; empty where they are all zero.
    pub remainder: Vec<u8>,
}

impl Survey {
    pub fn take(input: &Input, gguf: &Gguf, progress: &ProgressBar) -> Result<Self> {
        let mut xxh3 = vec![xxh3_64(&[]); gguf.tensors.len()];
        let mut analyses: Vec<_> =
            gguf.tensors.iter().map(|tensor| is_candidate(tensor).then(Analysis::default)).collect();
        let mut whole = blake3::Hasher::new();
        let mut remainder = zstd::Encoder::new(Vec::new(), 3)?;
        remainder.include_checksum(true)?;
        let mut remainder_is_zero = true;
        let name = || input.path.display().to_string();
        let extents: Vec<_> = gguf.tensors.iter().map(|tensor| (tensor.offset, tensor.len)).collect();
        let mut buffer = vec![0u16; WINDOW as usize / 2];
        for (part, range) in
            parts(gguf.header_len, gguf.alignment, &extents, input.len()).with_context(name)?
        {
            let mut checksum = Xxh3::new();
            let mut analysis = match part {
                Part::Tensor(i) => analyses[i].take(),
                _ => None,
            };
            let mut at = range.start;
            while at < range.end {
                let now = (range.end - at).min(WINDOW);
                let words = &mut buffer[..now.div_ceil(2) as usize];
                input.read(at, &mut bytemuck::cast_slice_mut(words)[..now as usize])?;
                let bytes: &[u8] = &bytemuck::cast_slice(words)[..now as usize];
                rayon::join(
                    || whole.update_rayon(bytes),
                    || match part {
                        Part::Tensor(_) => {
                            let count = || analysis.iter_mut().for_each(|analysis| count(analysis, words));
                            rayon::join(|| checksum.update(bytes), count);
                        }
                        Part::Gap => remainder_is_zero &= bytes.iter().all(|&byte| byte == 0),
                        Part::Header => {}
                    },
                );
                if let Part::Gap = part {
                    remainder.write_all(bytes)?;
                }
                at += now;
                progress.inc(now);
            }
            if let Part::Tensor(i) = part {
                xxh3[i] = checksum.digest();
                analyses[i] = analysis;
            }
        }
        let frame = remainder.finish()?;
        let remainder = if remainder_is_zero { Vec::new() } else { frame };
        Ok(Self { blake3: whole.finalize(), xxh3, analyses, remainder })
    }
}

impl Survey {
    /// How each tensor is best coded; `None` for one that stays plain.
    pub fn encoders(&self, gguf: &Gguf) -> Vec<Option<Encoder>> {
        let encoder =
            |(analysis, shape): (&Option<Analysis>, Option<Shape>)| Encoder::new(analysis.as_ref()?, shape?);
        self.analyses
            .iter()
            .zip(gguf.tensors.iter().map(|tensor| Shape::of(&tensor.dims)))
            .map(encoder)
            .collect()
    }
}

/// Counts on all cores.
pub fn count(analysis: &mut Analysis, words: &[u16]) {
    let parts: Vec<_> = words.par_chunks(1 << 20).map(Analysis::of).collect();
    parts.iter().for_each(|part| analysis.add(part));
}
