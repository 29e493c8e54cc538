//! The original of a converted file, as a stream.

use std::io::Read;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::coding::{Buffers, decode};
use super::error::{Cause, Error, In, Result, TensorCause};
use super::progress::Progress;
use super::source::{Source, WINDOW};
use crate::container::converted::Converted;
use crate::container::number;
use crate::container::parts::Part;
use crate::container::restored::{Restored, Tensor};

/// A converted file, and what it gives back.
pub struct Replay<'a> {
    /// The file, and the shards that belong to it.
    files: Vec<&'a Source>,
    converted: &'a Converted<'a>,
    pub restored: Restored<'a>,
}

/// Some bytes of what is given back.
pub struct Piece<'a> {
    /// From the start of the file.
    pub position: u64,
    pub bytes: &'a [u8],
    /// The tensor that they belong to.
    pub tensor: Option<&'a str>,
}

impl<'a> Replay<'a> {
    /// `files`: the file that `converted` is, and then the shards that belong to it.
    pub fn new(files: Vec<&'a Source>, converted: &'a Converted<'a>) -> Result<Self> {
        let restored = Restored::of(converted).in_file(&files[0].path)?;
        Ok(Self { files, converted, restored })
    }

    fn file(&self) -> &'a Source {
        self.files[0]
    }

    fn error(&self, cause: impl Into<Cause>) -> Error {
        Error::new(&self.file().path, cause)
    }

    /// Gives every byte to `sink`, in order, and proves each tensor by its checksum and, for an untouched file, the whole by BLAKE3.
    ///
    /// # Errors
    /// If the file is damaged; what `sink` got before is then worth nothing.
    pub fn run(&self, progress: &dyn Progress, sink: impl FnMut(Piece) -> Result<()> + Send) -> Result<()> {
        let mut stream = Stream { sink, progress, whole: blake3::Hasher::new(), position: 0 };
        let mut buffers = Buffers::default();
        let mut gaps = Gaps::open(self.remainder()?).map_err(|cause| self.error(cause))?;
        for (part, range) in &self.restored.parts {
            match *part {
                Part::Header => stream.pass(&self.restored.header, None)?,
                Part::Gap => {
                    let mut left = range.end - range.start;
                    let mut buffer = vec![0; WINDOW.min(left) as usize];
                    while left > 0 {
                        let bytes = &mut buffer[..WINDOW.min(left) as usize];
                        gaps.read(bytes).map_err(|cause| self.error(cause))?;
                        stream.pass(bytes, None)?;
                        left -= bytes.len() as u64;
                    }
                }
                Part::Tensor(i) => self.tensor(&mut buffers, &self.restored.tensors[i], &mut stream)?,
            }
        }
        gaps.finish().map_err(|cause| self.error(cause))?;
        match self.restored.original {
            Some(index) if stream.whole.finalize().as_bytes() != &index.original_blake3 => {
                Err(self.error(Cause::Blake3))
            }
            _ => Ok(()),
        }
    }

    /// Checks the rooms of the file against their checksums.
    ///
    /// # Errors
    /// If one is damaged.
    pub fn check_rooms(&self) -> Result<()> {
        for (name, bytes, xxh3) in self.converted.rooms() {
            let Some(start) = self.file().position_of(bytes) else { continue };
            if self.file().xxh3(start..start + bytes.len() as u64)? != xxh3 {
                return Err(self.error(Cause::Room { name: name.to_owned() }));
            }
        }
        Ok(())
    }

    fn tensor(
        &self,
        buffers: &mut Buffers,
        tensor: &Tensor,
        stream: &mut Stream<impl FnMut(Piece) -> Result<()> + Send>,
    ) -> Result<()> {
        let wrong = |cause| Error::tensor(&self.file().path, tensor.name, cause);
        let mut checksum = Xxh3::new();
        let pass = |bytes: &[u8]| {
            checksum.update(bytes);
            stream.pass(bytes, Some(tensor.name))
        };
        match self.converted.locate(tensor.name).map_err(|error| self.error(error))? {
            Some(located) => {
                let original = number(tensor.ty).ok_or_else(|| wrong(TensorCause::Type(tensor.ty)))?;
                let rows = (original, tensor.dims.row());
                decode(buffers, &self.files, tensor.name, rows, &located, pass)?;
            }
            None => {
                let gguf = &self.converted.gguf;
                let position = gguf.tensor(tensor.name).map_or(0, |info| gguf.position(info));
                self.file().windows(position..position + tensor.len, pass)?;
            }
        }
        match tensor.xxh3 {
            Some(xxh3) if checksum.digest() != xxh3 => Err(wrong(TensorCause::Damaged)),
            _ => Ok(()),
        }
    }

    /// The remainder's frame; empty where there is none, or where it no longer fits.
    fn remainder(&self) -> Result<&'a [u8]> {
        let Some(index) = self.restored.original else { return Ok(&[]) };
        let frame = self.converted.remainder(index).map_err(|error| self.error(error))?;
        match index.remainder {
            Some(remainder) if xxh3_64(frame) != remainder.xxh3 => {
                Err(self.error(Cause::Between("damaged".to_owned())))
            }
            _ => Ok(frame),
        }
    }
}

struct Stream<'a, S> {
    sink: S,
    progress: &'a dyn Progress,
    whole: blake3::Hasher,
    position: u64,
}

impl<S: FnMut(Piece) -> Result<()> + Send> Stream<'_, S> {
    fn pass(&mut self, bytes: &[u8], tensor: Option<&str>) -> Result<()> {
        let Self { sink, whole, position, progress } = self;
        let piece = Piece { position: *position, bytes, tensor };
        let (_, sunk) = rayon::join(|| whole.update_rayon(bytes), || sink(piece));
        *position += bytes.len() as u64;
        progress.advance(bytes.len() as u64);
        sunk
    }
}

/// The bytes between tensors, one gap after the other.
enum Gaps<'a> {
    Zero,
    Frame(zstd::Decoder<'a, std::io::BufReader<&'a [u8]>>),
}

fn between(error: std::io::Error) -> Cause {
    Cause::Between(error.to_string())
}

impl<'a> Gaps<'a> {
    fn open(frame: &'a [u8]) -> std::result::Result<Self, Cause> {
        if frame.is_empty() {
            return Ok(Self::Zero);
        }
        Ok(Self::Frame(zstd::Decoder::new(frame).map_err(between)?.single_frame()))
    }

    /// Fills `bytes` with the next.
    fn read(&mut self, bytes: &mut [u8]) -> std::result::Result<(), Cause> {
        match self {
            Self::Zero => bytes.fill(0),
            Self::Frame(decoder) => decoder.read_exact(bytes).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    Cause::Between("fewer than there is space for".to_owned())
                }
                _ => between(error),
            })?,
        }
        Ok(())
    }

    /// # Errors
    /// If bytes are left over.
    fn finish(self) -> std::result::Result<(), Cause> {
        if let Self::Frame(mut decoder) = self
            && decoder.read(&mut [0]).map_err(between)? != 0
        {
            return Err(Cause::Between("more than there is space for".to_owned()));
        }
        Ok(())
    }
}
