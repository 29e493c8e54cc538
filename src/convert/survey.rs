//! The first reading of an original: checksums, exponent counts, and the bytes between tensors.

use std::io::Write;

use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::error::{Cause, Error, In, Refusal, Result, TensorCause};
use super::gaps::most_unpacked;
use super::original::{Original, each_window, parts, window};
use super::progress::{Progress, Stage};
use super::windows::Windows;
use crate::codec::{Analysis, Encoder, Number};
use crate::container::gguf::{Gguf, TensorInfo};
use crate::container::layout::Need;
use crate::container::parts::Part;
use crate::container::{number, shape};
use crate::selection::Selection;

/// Smaller tensors, in bytes, are not counted: there is nothing to gain.
const LEAST_COUNTED: u64 = 256;

/// What one reading of a file tells.
pub struct Reading {
    pub blake3: blake3::Hash,
    /// xxh3 of each tensor, in the order of the tensor infos.
    pub xxh3: Vec<u64>,
    /// Of the tensors that were to be counted, but for the smallest: an analysis takes four kilobytes, and a file may have a great many.
    pub analyses: Vec<Option<Box<Analysis>>>,
    /// A zstd frame of the bytes that belong to nothing else; empty where they are all zero.
    pub remainder: Vec<u8>,
}

impl Reading {
    /// Reads all, and counts the tensors that `kind` says are such weights.
    ///
    /// # Errors
    /// If it cannot be read, or is not what its file says.
    pub fn take(
        original: &dyn Original,
        gguf: &Gguf,
        kind: impl Fn(&TensorInfo) -> Option<Number>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut xxh3 = vec![xxh3_64(&[]); gguf.tensors.len()];
        let mut analyses: Vec<_> = gguf.tensors.iter().map(|_| None).collect();
        let mut whole = blake3::Hasher::new();
        let mut remainder = Remainder::new().in_file(original.path())?;
        let mut windows = Windows::default();
        progress.begin(Stage::Reading, original.len());
        for (part, range) in parts(original, gguf)? {
            let mut checksum = Xxh3::new();
            let mut analysis = match part {
                Part::Tensor(i) if gguf.tensors[i].len >= LEAST_COUNTED => kind(&gguf.tensors[i]),
                _ => None,
            }
            .map(|number| Box::new(Analysis::new(number)));
            each_window(original, &mut windows, range, window(original, part), |_, bytes| {
                let (analysis, checksum, remainder) = (&mut analysis, &mut checksum, &mut remainder);
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
                progress.advance(bytes.len() as u64);
                kept.in_file(original.path())
            })?;
            if let Part::Tensor(i) = part {
                xxh3[i] = checksum.digest();
                analyses[i] = analysis;
                if original.xxh3(i).is_some_and(|known| known != xxh3[i]) {
                    let name = gguf.tensors[i].name;
                    return Err(Error::tensor(original.path(), name, TensorCause::Damaged));
                }
            }
        }
        let blake3 = whole.finalize();
        if original.blake3().is_some_and(|known| known != *blake3.as_bytes()) {
            return Err(Error::new(original.path(), Cause::Blake3));
        }
        let between = remainder.len;
        let remainder = remainder.finish().in_file(original.path())?;
        if !remainder.is_empty() && between > most_unpacked(remainder.len() as u64) {
            return Err(Error::new(original.path(), Refusal::Between(between)));
        }
        Ok(Self { blake3, xxh3, analyses, remainder })
    }
}

/// How an original is to become a converted file.
pub struct Survey {
    pub reading: Reading,
    /// How each tensor is best coded, and what it needs; `None` for one that stays plain.
    pub encoders: Vec<Option<(Encoder, Need)>>,
    /// True if there are tensors that might have been compressed, whether they get smaller or not.
    pub had_candidates: bool,
    /// True if tensors that may be left out were left plain for want of space.
    pub optional_are_plain: bool,
}

impl Survey {
    /// # Errors
    /// If the original cannot be read.
    pub fn take(
        original: &dyn Original,
        gguf: &Gguf,
        selection: &Selection,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let reading = Reading::take(original, gguf, |tensor| selection.takes(tensor), progress)?;
        let encoder =
            |(tensor, analysis): (_, &Option<Box<Analysis>>)| encoder(tensor, analysis.as_ref()?, selection);
        Ok(Self {
            encoders: gguf.tensors.iter().zip(&reading.analyses).map(encoder).collect(),
            optional_are_plain: false,
            had_candidates: gguf.tensors.iter().any(|tensor| selection.takes(tensor).is_some()),
            reading,
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

/// Counts a tensor by its place in the header; `None` where it is not of full precision.
///
/// # Errors
/// If it cannot be read.
pub fn analyse(original: &dyn Original, gguf: &Gguf, tensor: usize) -> Result<Option<Analysis>> {
    let info = &gguf.tensors[tensor];
    let Some(number) = number(info.ty) else { return Ok(None) };
    let mut analysis = Analysis::new(number);
    let (start, window) = (gguf.position(info), window(original, Part::Tensor(tensor)));
    each_window(original, &mut Windows::default(), start..start + info.len, window, |_, bytes| {
        count(&mut analysis, bytes);
        Ok(())
    })?;
    Ok(Some(analysis))
}

/// Counts on all cores.
fn count(analysis: &mut Analysis, bytes: &[u8]) {
    let original = analysis.original();
    let parts: Vec<_> = bytes.par_chunks(1 << 21).map(|part| Analysis::of(original, part)).collect();
    parts.iter().for_each(|part| analysis.add(part));
}

/// The bytes that belong to nothing else, as they are read.
struct Remainder {
    frame: zstd::Encoder<'static, Vec<u8>>,
    is_zero: bool,
    /// Bytes in all.
    len: u64,
}

impl Remainder {
    fn new() -> std::io::Result<Self> {
        let mut frame = zstd::Encoder::new(Vec::new(), 3)?;
        frame.include_checksum(true)?;
        Ok(Self { frame, is_zero: true, len: 0 })
    }

    fn add(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.len += bytes.len() as u64;
        self.is_zero &= bytes.iter().all(|&byte| byte == 0);
        self.frame.write_all(bytes)
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        let frame = self.frame.finish()?;
        Ok(if self.is_zero { Vec::new() } else { frame })
    }
}
