//! A file that is read: mapped for its header, read in pieces for its data.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use memmap2::Mmap;
use rayon::prelude::*;
use unweight::container::gguf::Gguf;
use xxhash_rust::xxh3::Xxh3;

/// Bytes read, hashed and coded at a time: enough to keep all cores busy, little against the memory limit.
pub const WINDOW: u64 = 4 << 20;

/// An input file.
pub struct Input {
    pub path: PathBuf,
    file: File,
    map: Mmap,
}

impl Input {
    pub fn open(path: &Path) -> Result<Self> {
        let name = || path.display().to_string();
        // Asked before it is opened: to open a pipe waits for its writer.
        if !std::fs::metadata(path).with_context(name)?.is_file() {
            bail!("{}: not a regular file", path.display());
        }
        let file = File::open(path).with_context(name)?;
        // SAFETY: a mapping is undefined if someone else shrinks or changes the file meanwhile. Only headers, indices and blobs are
        // read through it, all lengths are checked against the mapping, and results are proved by checksums.
        let map = unsafe { Mmap::map(&file) }.with_context(name)?;
        Ok(Self { path: path.to_owned(), file, map })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub fn parse(&self) -> Result<Gguf<'_>> {
        Gguf::parse(self.bytes()).with_context(|| self.path.display().to_string())
    }

    /// Fills `buffer` with the bytes from `position`.
    pub fn read(&self, position: u64, buffer: &mut [u8]) -> Result<()> {
        let piece = (buffer.len() / rayon::current_num_threads()).max(1 << 20);
        buffer
            .par_chunks_mut(piece)
            .enumerate()
            .try_for_each(|(i, part)| self.file.read_exact_at(part, position + (i * piece) as u64))
            .with_context(|| format!("{}: reading at byte {position}", self.path.display()))
    }

    /// Gives the bytes of a range to `sink`, a window at a time.
    pub fn windows(&self, range: Range<u64>, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; WINDOW.min(range.end - range.start) as usize];
        for at in range.clone().step_by(WINDOW as usize) {
            let bytes = &mut buffer[..WINDOW.min(range.end - at) as usize];
            self.read(at, bytes)?;
            sink(bytes)?;
        }
        Ok(())
    }

    /// Checksum of the bytes of a range.
    pub fn xxh3(&self, range: Range<u64>) -> Result<u64> {
        let mut checksum = Xxh3::new();
        self.windows(range, |bytes| {
            checksum.update(bytes);
            Ok(())
        })?;
        Ok(checksum.digest())
    }

    /// Tells the system that the pages of a range need not stay in this process's memory.
    pub fn release(&self, range: Range<u64>) {
        const PAGE: u64 = 4096;
        let start = range.start.next_multiple_of(PAGE);
        let end = range.end / PAGE * PAGE;
        if start < end {
            let (start, len) = (start as usize, (end - start) as usize);
            // SAFETY: the mapping is a read-only view of a file, so dropped pages come back unchanged. Failure only costs memory.
            let _ =
                unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
        }
    }
}
