//! The original of a converted file, as a stream.

use std::io::Read;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use unweight::codec::Shape;
use unweight::container::align;
use unweight::container::converted::Converted;
use unweight::container::pool::{Entry, Extent, Stored};
use unweight::container::restored;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::blob::{Buffers, decode};
use super::input::{Input, WINDOW};
use super::parts::{Part, parts};

/// A converted file, and what its original looks like.
pub struct Original<'a> {
    file: &'a Input,
    converted: &'a Converted<'a>,
    header: Vec<u8>,
    parts: Vec<(Part, Range<u64>)>,
    /// Bytes of the original.
    pub len: u64,
    /// False if a tool has changed the metadata since: the weights are those of the original, the file as a whole is not.
    pub whole: bool,
}

/// Some bytes of the original.
pub struct Piece<'a> {
    /// From the start of the original.
    pub position: u64,
    pub bytes: &'a [u8],
    /// The tensor that they belong to.
    pub tensor: Option<&'a str>,
}

impl<'a> Original<'a> {
    pub fn new(file: &'a Input, converted: &'a Converted<'a>) -> Result<Self> {
        let (index, alignment) = (&converted.index, converted.gguf.alignment);
        let whole = converted.metadata_untouched();
        let header = restored::header(&converted.gguf, index);
        let beyond = "sizes beyond 64 bits";
        let header_len = header.len() as u64;
        let mut len = index.original_len;
        if !whole {
            // The data section moves with the length of the metadata.
            if let Some(entry) = index.entries.iter().find(|entry| !entry.offset.is_multiple_of(alignment)) {
                bail!(
                    "tensor {:?}: a tool has changed the alignment to {alignment}, which its place does not meet",
                    entry.name
                );
            }
            let infos =
                header_len - restored::metadata(&converted.gguf, index.entries.len() as u64).len() as u64;
            let before = index
                .metadata_len
                .checked_add(infos)
                .and_then(|end| align(end, alignment))
                .context(beyond)?;
            let now = align(header_len, alignment).context(beyond)?;
            len = match len.checked_sub(before) {
                Some(data) => data.checked_add(now).context(beyond)?,
                None => header_len,
            };
        }
        let extents: Vec<_> = index.entries.iter().map(|entry| (entry.offset, entry.len)).collect();
        let parts = parts(header_len, alignment, &extents, len)?;
        Ok(Self { file, converted, header, parts, len, whole })
    }

    /// Gives every byte of the original to `sink`, in order, and proves each tensor by its checksum and the whole by BLAKE3.
    ///
    /// # Errors
    /// If the file is damaged; what `sink` got before is then worth nothing.
    pub fn replay(&self, progress: &ProgressBar, sink: impl FnMut(Piece) -> Result<()> + Send) -> Result<()> {
        let mut stream = Stream { sink, progress, whole: blake3::Hasher::new(), position: 0 };
        let mut buffers = Buffers::default();
        let mut gaps = Gaps::open(self.remainder()?)?;
        for (part, range) in &self.parts {
            match *part {
                Part::Header => stream.pass(&self.header, None)?,
                Part::Gap => gaps.read(range.end - range.start, |bytes| stream.pass(bytes, None))?,
                Part::Tensor(i) => {
                    let entry = &self.converted.index.entries[i];
                    self.tensor(&mut buffers, entry, &mut stream)
                        .with_context(|| format!("tensor {:?}", entry.name))?;
                }
            }
        }
        gaps.finish()?;
        if self.whole && stream.whole.finalize().as_bytes() != &self.converted.index.original_blake3 {
            bail!("every tensor is right, but the whole has another BLAKE3: damaged outside the tensors");
        }
        Ok(())
    }

    /// Checks the stored bytes of every blob against their checksums.
    pub fn check_blobs(&self) -> Result<()> {
        for entry in &self.converted.index.entries {
            if let Stored::Blob { extent, xxh3, .. } = entry.stored {
                let found = self.file.xxh3(self.range(extent))?;
                ensure!(found == xxh3, "tensor {:?}: its stored bytes are damaged", entry.name);
            }
        }
        Ok(())
    }

    fn tensor(
        &self,
        buffers: &mut Buffers,
        entry: &Entry,
        stream: &mut Stream<impl FnMut(Piece) -> Result<()> + Send>,
    ) -> Result<()> {
        let mut checksum = Xxh3::new();
        let pass = |bytes: &[u8]| {
            checksum.update(bytes);
            stream.pass(bytes, Some(&entry.name))
        };
        match entry.stored {
            Stored::Plain => {
                let tensor = self.converted.gguf.tensor(&entry.name).context("not in the file")?;
                let position = self.converted.gguf.position(tensor);
                self.file.windows(position..position + tensor.len, pass)?;
            }
            Stored::Blob { encoding, extent, .. } => {
                let shape = Shape::of(&entry.dims).context("its shape overflows")?;
                ensure!(
                    Some(entry.len) == shape.rows.checked_mul(2 * shape.k),
                    "its encoding is for BF16, its type is not"
                );
                decode(buffers, self.file, self.range(extent), encoding, shape, pass)?;
            }
        }
        ensure!(checksum.digest() == entry.xxh3, "damaged: its checksum is not the original's");
        Ok(())
    }

    fn range(&self, extent: Extent) -> Range<u64> {
        let start = self.converted.pool_position + extent.offset;
        start..start + extent.len
    }

    /// The remainder's frame; empty where there is none, or where it no longer fits.
    fn remainder(&self) -> Result<&'a [u8]> {
        let Some(remainder) = self.converted.index.remainder.filter(|_| self.whole) else { return Ok(&[]) };
        let Extent { offset, len } = remainder.extent;
        let frame = &self.converted.pool[offset as usize..(offset + len) as usize];
        ensure!(xxh3_64(frame) == remainder.xxh3, "the bytes between the tensors are damaged");
        Ok(frame)
    }
}

struct Stream<'a, S> {
    sink: S,
    progress: &'a ProgressBar,
    whole: blake3::Hasher,
    position: u64,
}

impl<S: FnMut(Piece) -> Result<()> + Send> Stream<'_, S> {
    fn pass(&mut self, bytes: &[u8], tensor: Option<&str>) -> Result<()> {
        let Self { sink, whole, position, progress } = self;
        let piece = Piece { position: *position, bytes, tensor };
        let (_, sunk) = rayon::join(|| whole.update_rayon(bytes), || sink(piece));
        *position += bytes.len() as u64;
        progress.inc(bytes.len() as u64);
        sunk
    }
}

/// The bytes between tensors, one gap after the other.
enum Gaps<'a> {
    Zero,
    Frame(zstd::Decoder<'a, std::io::BufReader<&'a [u8]>>),
}

impl<'a> Gaps<'a> {
    fn open(frame: &'a [u8]) -> Result<Self> {
        Ok(if frame.is_empty() { Self::Zero } else { Self::Frame(zstd::Decoder::new(frame)?.single_frame()) })
    }

    fn read(&mut self, len: u64, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; WINDOW.min(len) as usize];
        for at in (0..len).step_by(WINDOW as usize) {
            let bytes = &mut buffer[..WINDOW.min(len - at) as usize];
            if let Self::Frame(decoder) = self {
                decoder.read_exact(bytes).context("the bytes between the tensors")?;
            }
            sink(bytes)?;
        }
        Ok(())
    }

    /// # Errors
    /// If bytes are left over.
    fn finish(self) -> Result<()> {
        if let Self::Frame(mut decoder) = self {
            let left = decoder.read(&mut [0]).context("the bytes between the tensors")?;
            ensure!(left == 0, "more bytes between the tensors than there is room");
        }
        Ok(())
    }
}
