//! The bytes of an original, in whatever form they are on the disk.

use std::ops::Range;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::error::{Cause, Error, In, Result, TensorCause};
use super::gaps::Gaps;
use super::output::Stamp;
use super::progress::Progress;
use super::windows::{WINDOW, Windows, window_of};
use crate::container::gguf::Gguf;
use crate::container::parts::{Part, parts_of};

/// An original: a file that is read, or what a converted file gives back.
#[allow(clippy::len_without_is_empty)] // no GGUF is
pub trait Original: Sync {
    /// The file that it is in, for messages.
    fn path(&self) -> &Path;

    /// Which file that is, and in which state it was opened.
    fn stamp(&self) -> Stamp;

    /// Bytes of the original.
    fn len(&self) -> u64;

    /// Its header.
    ///
    /// # Errors
    /// If it is no GGUF.
    fn gguf(&self) -> Result<Gguf<'_>>;

    /// Fills `buffer` with the bytes from `position` of the original. They must lie in one of its parts.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read(&self, position: u64, buffer: &mut [u8]) -> Result<()>;

    /// Bytes of a tensor that are best read together, by its place in the header.
    fn unit(&self, _tensor: usize) -> u64 {
        1
    }

    /// The checksum that a tensor must have, by its place in the header; `None` where none is known.
    fn xxh3(&self, _tensor: usize) -> Option<u64> {
        None
    }

    /// Tensors of it that are in no file here.
    fn missing(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Checks what of its file is not read when the original is.
    ///
    /// # Errors
    /// If that is damaged.
    fn check_rest(&self) -> Result<()> {
        Ok(())
    }

    /// The BLAKE3 that the whole must have; `None` where none is known.
    fn blake3(&self) -> Option<[u8; 32]> {
        None
    }
}

/// The parts of an original, in file order, each with its extent from the start of the file.
///
/// # Errors
/// If the tensors leave the file, or there is more between them than any model has.
pub fn parts(original: &dyn Original, gguf: &Gguf) -> Result<Vec<(Part, Range<u64>)>> {
    parts_of(gguf, original.len()).in_file(original.path())
}

/// Gives the bytes of a range to `sink`, in order, so many at a time; with each window where it begins.
///
/// # Errors
/// If they cannot be read, or `sink` fails.
pub fn each_window(
    original: &dyn Original,
    windows: &mut Windows,
    range: Range<u64>,
    window: u64,
    sink: impl FnMut(u64, &[u8]) -> Result<()> + Send,
) -> Result<()> {
    windows.each(range, window, |at, buffer| original.read(at, buffer), sink)
}

/// Fills `buffer` with the bytes from `position`, which lie in one of these parts; `tensor` fills one with those from a place of a tensor.
///
/// # Errors
/// If `tensor` fails.
pub fn read_part(
    header: &[u8],
    parts: &[(Part, Range<u64>)],
    gaps: &Gaps,
    position: u64,
    buffer: &mut [u8],
    tensor: impl FnOnce(usize, u64, &mut [u8]) -> Result<()>,
) -> Result<()> {
    let (part, range) = &parts[parts.partition_point(|(_, range)| range.end <= position)];
    let at = position - range.start;
    match *part {
        Part::Header => buffer.copy_from_slice(&header[at as usize..][..buffer.len()]),
        Part::Gap => gaps.read(range.start, at, buffer),
        Part::Tensor(i) => tensor(i, at, buffer)?,
    }
    Ok(())
}

/// How many bytes of a part are best read at a time.
pub fn window(original: &dyn Original, part: Part) -> u64 {
    match part {
        Part::Tensor(i) => window_of(original.unit(i)),
        Part::Header | Part::Gap => WINDOW,
    }
}

/// Some bytes of an original.
pub struct Piece<'a> {
    /// From the start of the file.
    pub position: u64,
    pub bytes: &'a [u8],
    /// The tensor that they belong to.
    pub tensor: Option<&'a str>,
}

/// Gives every byte to `sink`, in order, and proves each tensor by its checksum and the whole by BLAKE3, as far as they are known.
///
/// Says what the BLAKE3 of the whole is.
///
/// # Errors
/// If the file is damaged; what `sink` got before is then worth nothing.
pub fn stream(
    original: &dyn Original,
    progress: &dyn Progress,
    mut sink: impl FnMut(Piece) -> Result<()> + Send,
) -> Result<blake3::Hash> {
    let gguf = original.gguf()?;
    let mut whole = blake3::Hasher::new();
    let mut windows = Windows::default();
    for (part, range) in parts(original, &gguf)? {
        let tensor = match part {
            Part::Tensor(i) => Some((i, gguf.tensors[i].name)),
            _ => None,
        };
        let mut checksum = Xxh3::new();
        each_window(original, &mut windows, range, window(original, part), |position, bytes| {
            let piece = Piece { position, bytes, tensor: tensor.map(|(_, name)| name) };
            let (_, (_, sunk)) = rayon::join(
                || whole.update_rayon(bytes),
                || rayon::join(|| checksum.update(bytes), || sink(piece)),
            );
            progress.advance(bytes.len() as u64);
            sunk
        })?;
        if let Some((i, name)) = tensor
            && original.xxh3(i).is_some_and(|xxh3| xxh3 != checksum.digest())
        {
            return Err(Error::tensor(original.path(), name, TensorCause::Damaged));
        }
    }
    let whole = whole.finalize();
    match original.blake3() {
        Some(blake3) if *whole.as_bytes() != blake3 => Err(Error::new(original.path(), Cause::Blake3)),
        _ => Ok(whole),
    }
}
