//! Opening a converted file: a GGUF whose tensors are as the indexes say that are found in it, or beside it.

use std::collections::HashSet;

use thiserror::Error;

use super::gguf::Gguf;
use super::layout::{KEY_VERSION, metadata};
use super::rooms::{
    Carrier, Entry, Group, GroupError, Index, Located, RoomHeader, Stored, VERSION, is_carrier_type,
};
use xxhash_rust::xxh3::xxh3_64;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConvertedError {
    #[error("not an Unweight file: no tensor of it holds anything of one")]
    NotUnweight,
    #[error("the tensor with its index is not here; are the other shards beside this file?")]
    NoIndex,
    #[error("Unweight format version {0}; this program reads version {VERSION}")]
    Version(u32),
    #[error("tensor {name:?}: {what}")]
    Tensor { name: String, what: &'static str },
    #[error(transparent)]
    Group(#[from] GroupError),
}

/// True if a file has the marks of a converted one, whatever its state.
pub fn is_converted(gguf: &Gguf) -> bool {
    let has_room = |carrier: Carrier| {
        carrier.split().is_some_and(|(_, behind)| !matches!(RoomHeader::parse(behind), Ok(None)))
    };
    gguf.kv(KEY_VERSION).is_some_and(|pair| pair.as_u32().is_some()) || carriers(gguf).any(has_room)
}

/// A converted file whose tensors have been checked against its index, or its indexes.
#[derive(Debug)]
pub struct Converted<'a> {
    pub gguf: Gguf<'a>,
    group: Group<'a>,
    /// Of the tensors of all files.
    names: HashSet<&'a str>,
}

impl<'a> Converted<'a> {
    /// Opens `gguf`. `others` are the files that belong to it, if it is one of several shards: indexes and rooms may be there.
    ///
    /// # Errors
    /// If nothing of an Unweight file is found, or indexes and tensors contradict each other.
    pub fn open(gguf: Gguf<'a>, others: &[Gguf<'a>]) -> Result<Self, ConvertedError> {
        let files = std::iter::once(&gguf).chain(others);
        let group = Group::gather(files.flat_map(carriers))?;
        let version = gguf.kv(KEY_VERSION).and_then(|pair| pair.as_u32());
        let is_one =
            || version.is_some() || gguf.tensors.iter().any(|tensor| group.entry(tensor.name).is_some());
        if group.indexes().next().is_none() || !is_one() {
            return Err(match version {
                None => ConvertedError::NotUnweight,
                Some(VERSION) => ConvertedError::NoIndex,
                Some(version) => ConvertedError::Version(version),
            });
        }
        let files = std::iter::once(&gguf).chain(others);
        let names = files.flat_map(|file| &file.tensors).map(|tensor| tensor.name).collect();
        let converted = Self { gguf, group, names };
        converted.check_agreement()?;
        Ok(converted)
    }

    /// What an index says of a tensor of this file; `None` for one of no index.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.group.entry(name)
    }

    /// The parts of a compressed tensor; `None` for one that is not.
    ///
    /// # Errors
    /// If a part is missing.
    pub fn locate(&self, name: &str) -> Result<Option<Located<'a>>, ConvertedError> {
        Ok(self.group.locate(name)?)
    }

    /// The indexes found, in this file or beside it.
    pub fn indexes(&self) -> impl Iterator<Item = &Index> {
        self.group.indexes()
    }

    /// The index of the original that this file gives back, byte for byte; `None` if a tool has changed it since it was converted.
    pub fn untouched(&self) -> Option<&Index> {
        let count = self.gguf.tensors.len();
        let metadata = metadata(&self.gguf, count as u64);
        let mut fitting = self.indexes().filter(|index| {
            index.entries.len() == count
                && index.entries.iter().all(|entry| self.gguf.tensor(&entry.name).is_some())
                && index.metadata_len == metadata.len() as u64
                && index.metadata_xxh3 == xxh3_64(&metadata)
        });
        fitting.next()
    }

    /// Names of tensors that an index lists and that are in no file that was opened.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let entries = self.indexes().flat_map(|index| &index.entries);
        entries.map(|entry| entry.name.as_str()).filter(|name| !self.names.contains(name))
    }

    /// The rooms whose carriers are tensors of this file: tensor name, bytes and checksum of what is behind the header.
    pub fn rooms(&self) -> impl Iterator<Item = (&'a str, &'a [u8], u64)> {
        self.group.rooms().filter(move |(name, ..)| self.gguf.tensor(name).is_some())
    }

    /// The bytes of the remainder of an untouched file; empty where there is none.
    ///
    /// # Errors
    /// If its room is missing.
    pub fn remainder(&self, index: &Index) -> Result<&'a [u8], ConvertedError> {
        Ok(self.group.remainder(index)?)
    }

    fn check_agreement(&self) -> Result<(), ConvertedError> {
        for tensor in &self.gguf.tensors {
            let wrong = |what| Err(ConvertedError::Tensor { name: tensor.name.to_owned(), what });
            let Some(entry) = self.entry(tensor.name) else {
                if is_carrier_type(tensor.ty) {
                    return wrong(
                        "of a type that compressed tensors have, but named by no index that is here",
                    );
                }
                continue;
            };
            if tensor.dims != entry.dims {
                return wrong("its shape differs from that in the index");
            }
            if entry.stored == Stored::Plain && tensor.ty != entry.ty {
                return wrong("its type differs from that in the index");
            }
            self.locate(tensor.name)?;
        }
        Ok(())
    }
}

fn carriers<'g, 'a>(gguf: &'g Gguf<'a>) -> impl Iterator<Item = Carrier<'a>> + use<'g, 'a> {
    gguf.tensors.iter().map(|tensor| Carrier {
        name: tensor.name,
        ty: tensor.ty,
        elements: tensor.dims.elements().unwrap_or(0),
        bytes: gguf.bytes(tensor),
    })
}
