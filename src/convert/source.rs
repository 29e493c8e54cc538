use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use memmap2::Mmap;
use rayon::prelude::*;
use xxhash_rust::xxh3::Xxh3;

use super::error::{Cause, Error, In, Refusal, Result};
use super::original::Original;
use super::output::Stamp;
use super::windows::{WINDOW, Windows};
use crate::container::gguf::Gguf;

/// The mappings that there are: where, how long, and of which file.
static MAPPED: Mutex<Vec<(usize, usize, PathBuf)>> = Mutex::new(Vec::new());

/// The file that is mapped at an address: for handlers of the signal that a read of it gives when the file has become shorter meanwhile, or
/// its disk fails. Takes a lock that is never held while a mapping is read.
pub fn mapped_at(address: usize) -> Option<PathBuf> {
    let mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_in = |(start, len, _): &&(usize, usize, PathBuf)| (*start..start + len).contains(&address);
    mapped.iter().find(is_in).map(|(.., path)| path.clone())
}

/// What the system says where a file system cannot map.
const ENODEV: i32 = 19;

/// A file that is read: mapped for its header and what is decoded, read in windows otherwise.
pub struct Source {
    pub path: PathBuf,
    file: File,
    contents: Contents,
    stamp: Stamp,
}

enum Contents {
    Mapped(Mmap),
    /// Where the file system cannot map: then the memory has to hold it.
    Read(Vec<u8>),
}

impl Source {
    /// # Errors
    /// If there is no regular file of that name, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        // Asked before it is opened: to open a pipe waits for its writer.
        if !std::fs::metadata(path).in_file(path)?.is_file() {
            return Err(Error::new(path, Refusal::NotRegular));
        }
        let file = File::open(path).in_file(path)?;
        // SAFETY: a mapping is undefined if someone else shrinks or changes the file meanwhile. Only headers, indexes, homes and pieces
        // are read through it, all lengths are checked against the mapping, and results are proved by checksums.
        let contents = match unsafe { Mmap::map(&file) } {
            Ok(map) => {
                let entry = (map.as_ptr() as usize, map.len(), path.to_owned());
                MAPPED.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                Contents::Mapped(map)
            }
            Err(error) if error.raw_os_error() == Some(ENODEV) => {
                Contents::Read(read_all(&file).in_file(path)?)
            }
            Err(error) => return Err(Error::new(path, error)),
        };
        let stamp = Stamp::new(&file.metadata().in_file(path)?);
        Ok(Self { path: path.to_owned(), file, contents, stamp })
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.contents {
            Contents::Mapped(map) => map,
            Contents::Read(bytes) => bytes,
        }
    }

    /// Checksum of the bytes of a range.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn xxh3(&self, range: Range<u64>) -> Result<u64> {
        let mut checksum = Xxh3::new();
        Windows::default().each(
            range,
            WINDOW,
            |at, buffer| self.read(at, buffer),
            |_, bytes| {
                checksum.update(bytes);
                Ok(())
            },
        )?;
        Ok(checksum.digest())
    }

    /// Where bytes of this file begin in it; `None` for bytes of another.
    pub fn position_of(&self, bytes: &[u8]) -> Option<u64> {
        let offset = (bytes.as_ptr() as usize).checked_sub(self.bytes().as_ptr() as usize)?;
        let end = offset.checked_add(bytes.len())?;
        (end <= self.bytes().len()).then_some(offset as u64)
    }

    /// Tells the system that the pages of some bytes of this file need not stay in this process's memory.
    pub fn release(&self, bytes: &[u8]) {
        const PAGE: u64 = 4096;
        let (Contents::Mapped(map), Some(start)) = (&self.contents, self.position_of(bytes)) else { return };
        let end = (start + bytes.len() as u64) / PAGE * PAGE;
        let start = start.next_multiple_of(PAGE);
        if start < end {
            let (start, len) = (start as usize, (end - start) as usize);
            // SAFETY: the mapping is a read-only view of a file, so dropped pages come back unchanged. Failure only costs memory.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
        }
    }
}

impl Original for Source {
    fn path(&self) -> &Path {
        &self.path
    }

    fn stamp(&self) -> Stamp {
        self.stamp
    }

    fn len(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn gguf(&self) -> Result<Gguf<'_>> {
        Gguf::parse(self.bytes()).in_file(&self.path)
    }

    fn read(&self, position: u64, buffer: &mut [u8]) -> Result<()> {
        let piece = (buffer.len() / rayon::current_num_threads()).max(1 << 20);
        buffer
            .par_chunks_mut(piece)
            .enumerate()
            .try_for_each(|(i, part)| self.file.read_exact_at(part, position + (i * piece) as u64))
            .map_err(|error| Cause::Doing { doing: "reading", error })
            .in_file(&self.path)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Contents::Mapped(map) = &self.contents {
            let start = map.as_ptr() as usize;
            MAPPED.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, ..)| *other != start);
        }
    }
}

fn read_all(mut file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
