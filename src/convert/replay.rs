//! What a converted file gives back.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::coding::Coded;
use super::error::{Cause, Error, In, Result, TensorCause};
use super::gaps::Gaps;
use super::original::{Original, read_part};
use super::output::Stamp;
use super::source::Source;
use crate::container::converted::Converted;
use crate::container::gguf::Gguf;
use crate::container::number;
use crate::container::restored::{Restored, Tensor};

/// A converted file, as the original that it holds.
pub struct Replay<'a> {
    /// The file, and the shards that belong to it.
    files: Vec<&'a Source>,
    converted: &'a Converted<'a>,
    pub restored: Restored<'a>,
    /// In the order of the tensor infos; `None` for plain ones.
    coded: Vec<Option<Coded<'a>>>,
    gaps: Gaps,
}

impl<'a> Replay<'a> {
    /// `files`: the file that `converted` is, and then the shards that belong to it.
    ///
    /// # Errors
    /// If parts of it are not what they should be.
    pub fn new(files: Vec<&'a Source>, converted: &'a Converted<'a>) -> Result<Self> {
        let path = &files[0].path;
        let restored = Restored::of(converted).in_file(path)?;
        let coded =
            restored.tensors.iter().map(|tensor| open(path, converted, tensor)).collect::<Result<_>>()?;
        let gaps = gaps(path, converted, &restored)?;
        Ok(Self { files, converted, restored, coded, gaps })
    }

    /// A compressed tensor by its place in the header; `None` for a plain one.
    pub fn coded(&self, tensor: usize) -> Option<&Coded<'a>> {
        self.coded[tensor].as_ref()
    }

    fn file(&self) -> &'a Source {
        self.files[0]
    }
}

impl Original for Replay<'_> {
    fn path(&self) -> &Path {
        &self.file().path
    }

    fn stamp(&self) -> Stamp {
        self.file().stamp()
    }

    fn len(&self) -> u64 {
        self.restored.len
    }

    fn gguf(&self) -> Result<Gguf<'_>> {
        Gguf::parse_header(&self.restored.header, self.restored.len).in_file(self.path())
    }

    fn read(&self, position: u64, buffer: &mut [u8]) -> Result<()> {
        let Restored { header, parts, .. } = &self.restored;
        read_part(header, parts, &self.gaps, position, buffer, |i, at, buffer| match &self.coded[i] {
            Some(coded) => {
                coded.read(&self.files, at, buffer);
                Ok(())
            }
            None => {
                let gguf = &self.converted.gguf;
                let tensor = gguf.tensor(self.restored.tensors[i].name);
                self.file().read(tensor.map_or(0, |tensor| gguf.position(tensor)) + at, buffer)
            }
        })
    }

    fn unit(&self, tensor: usize) -> u64 {
        self.coded[tensor].as_ref().map_or(1, Coded::row_bytes)
    }

    fn xxh3(&self, tensor: usize) -> Option<u64> {
        self.restored.tensors[tensor].xxh3
    }

    fn missing(&self) -> Vec<&str> {
        self.converted.missing().collect()
    }

    /// Rooms, whose bytes stand for no certain tensor.
    fn check_rest(&self) -> Result<()> {
        for (name, bytes, xxh3) in self.converted.rooms() {
            let Some(start) = self.file().position_of(bytes) else { continue };
            if self.file().xxh3(start..start + bytes.len() as u64)? != xxh3 {
                return Err(Error::new(self.path(), Cause::Room { name: name.to_owned() }));
            }
        }
        Ok(())
    }

    fn blake3(&self) -> Option<[u8; 32]> {
        self.restored.original.map(|index| index.original_blake3)
    }
}

fn open<'a>(path: &Path, converted: &'a Converted<'a>, tensor: &Tensor) -> Result<Option<Coded<'a>>> {
    let Some(located) = converted.locate(tensor.name).in_file(path)? else { return Ok(None) };
    let wrong = |cause| Error::tensor(path, tensor.name, cause);
    let original = number(tensor.ty).ok_or_else(|| wrong(TensorCause::Type(tensor.ty)))?;
    let coded = Coded::open(&located, original, tensor.dims.row());
    coded.map(Some).map_err(|error| wrong(error.into()))
}

/// What stands between the tensors: zeros where it no longer fits.
fn gaps(path: &Path, converted: &Converted, restored: &Restored) -> Result<Gaps> {
    let Some(index) = restored.original else { return Ok(Gaps::zero()) };
    let frame = converted.remainder(index).in_file(path)?;
    match index.remainder {
        Some(remainder) if xxh3_64(frame) != remainder.xxh3 => {
            Err(Error::new(path, Cause::Between("damaged".to_owned())))
        }
        _ => Gaps::open(frame, &restored.parts).in_file(path),
    }
}
