//! Opening a converted file: a GGUF and a pool that agree with each other.

use std::collections::HashMap;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::carriers;
use super::gguf::{Gguf, TensorInfo, TensorType};
use super::layout::{KEY_POOL_CARRIERS, KEY_POOL_TENSOR, KEY_PREFIX, KEY_VERSION};
use super::pool::{Entry, Index, PoolError, PoolHeader, Stored, VERSION};
use super::restored::metadata;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConvertedError {
    #[error("not an Unweight file: it has no key {KEY_VERSION}")]
    NotUnweight,
    #[error("Unweight format version {0}; this program reads version {VERSION}")]
    Version(u32),
    #[error("metadata key {0:?} is missing or of the wrong type")]
    Key(&'static str),
    #[error("the first carrier, tensor {0:?}, is missing")]
    FirstCarrier(String),
    #[error("tensor {name:?}: {what}")]
    Tensor { name: String, what: &'static str },
    #[error("the index lists {listed} tensors, the file has {found}")]
    Count { listed: usize, found: usize },
    #[error("the pool lists {listed} carriers, the metadata say {said}")]
    Carriers { listed: u32, said: u32 },
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// True if the file has keys of ours, whatever the state of its pool.
pub fn is_converted(gguf: &Gguf) -> bool {
    gguf.kv.iter().any(|pair| pair.key.starts_with(KEY_PREFIX))
}

/// A converted file whose index has been checked against its tensor infos.
#[derive(Debug)]
pub struct Converted<'a> {
    pub gguf: Gguf<'a>,
    /// The bytes under all carriers.
    pub pool: &'a [u8],
    /// Where the pool begins, from the start of the file.
    pub pool_position: u64,
    pub header: PoolHeader,
    pub index: Index,
}

impl<'a> Converted<'a> {
    /// # Errors
    /// If the file has no pool of this version, or index and tensor infos contradict each other.
    pub fn open(gguf: Gguf<'a>) -> Result<Self, ConvertedError> {
        if !is_converted(&gguf) {
            return Err(ConvertedError::NotUnweight);
        }
        let number = |key| gguf.kv(key).and_then(|pair| pair.as_u32()).ok_or(ConvertedError::Key(key));
        let version = number(KEY_VERSION)?;
        if version != VERSION {
            return Err(ConvertedError::Version(version));
        }
        let count = number(KEY_POOL_CARRIERS)?;
        let first = gguf
            .kv(KEY_POOL_TENSOR)
            .and_then(|pair| pair.as_str())
            .ok_or(ConvertedError::Key(KEY_POOL_TENSOR))?;
        let (position, len) = pool_extent(&gguf, first, count)?;
        let pool = &gguf.file()[position as usize..(position + len) as usize];
        let (header, index) = Index::parse(pool)?;
        if header.carriers != count {
            return Err(ConvertedError::Carriers { listed: header.carriers, said: count });
        }
        let converted = Self { gguf, pool, pool_position: position, header, index };
        converted.check_agreement(first)?;
        Ok(converted)
    }

    /// The bytes of a blob; empty for a plain tensor.
    pub fn blob(&self, entry: &Entry) -> &'a [u8] {
        match entry.stored {
            Stored::Plain => &[],
            Stored::Blob { extent, .. } => {
                &self.pool[extent.offset as usize..(extent.offset + extent.len) as usize]
            }
        }
    }

    /// The bytes of a plain tensor, or under a carrier.
    pub fn declared(&self, entry: &Entry) -> &'a [u8] {
        self.gguf.tensor(&entry.name).map_or(&[], |tensor| self.gguf.bytes(tensor))
    }

    /// True if no tool has changed the metadata since the file was converted.
    pub fn metadata_untouched(&self) -> bool {
        let metadata = metadata(&self.gguf, self.index.entries.len() as u64);
        metadata.len() as u64 == self.index.metadata_len && xxh3_64(&metadata) == self.index.metadata_xxh3
    }

    fn check_agreement(&self, first: &str) -> Result<(), ConvertedError> {
        let wrong = |entry: &Entry, what| ConvertedError::Tensor { name: entry.name.clone(), what };
        if self.index.entries.len() != self.gguf.tensors.len() {
            let (listed, found) = (self.index.entries.len(), self.gguf.tensors.len());
            return Err(ConvertedError::Count { listed, found });
        }
        if let Some(entry) = self.index.carriers().next()
            && entry.name != first
        {
            return Err(wrong(entry, "the first in the index, but not where the pool begins"));
        }
        let by_name: HashMap<&str, &TensorInfo> = self.gguf.tensors.iter().map(|t| (t.name, t)).collect();
        for entry in &self.index.entries {
            let tensor = by_name
                .get(entry.name.as_str())
                .ok_or_else(|| wrong(entry, "in the index, not in the file"))?;
            if tensor.dims != entry.dims {
                return Err(wrong(entry, "its shape differs from that in the index"));
            }
            match entry.stored {
                Stored::Plain if tensor.ty != entry.ty => {
                    return Err(wrong(entry, "its type differs from that in the index"));
                }
                Stored::Plain => {}
                Stored::Blob { carrier_offset, .. } => {
                    let offset = self.gguf.position(tensor).checked_sub(self.pool_position);
                    let inside = carrier_offset < self.pool.len() as u64;
                    if offset != Some(carrier_offset) || !inside {
                        return Err(wrong(entry, "its carrier is not where the index says"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Position and length of the run of `count` carriers that begins with tensor `first`.
fn pool_extent(gguf: &Gguf, first: &str, count: u32) -> Result<(u64, u64), ConvertedError> {
    let tensor = gguf.tensor(first).ok_or_else(|| ConvertedError::FirstCarrier(first.to_owned()))?;
    let run: Vec<_> =
        gguf.by_position().into_iter().filter(|t| t.offset >= tensor.offset).take(count as usize).collect();
    let missing = ConvertedError::Tensor {
        name: first.to_owned(),
        what: "fewer carriers follow it than the metadata say",
    };
    let last = run.last().filter(|_| run.len() == count as usize).ok_or(missing)?;
    for carrier in &run {
        if ![TensorType::I8, TensorType::I16, TensorType::I64].contains(&carrier.ty) {
            let what = "stands among the carriers, but its type is none of theirs";
            return Err(ConvertedError::Tensor { name: carrier.name.to_owned(), what });
        }
    }
    let len = last.offset + last.len - tensor.offset;
    let run = run.iter().map(|t| (t.dims.elements().unwrap_or(u64::MAX), t.ty));
    if carriers::capacity(run, gguf.alignment) != Some(len) {
        return Err(ConvertedError::Tensor {
            name: first.to_owned(),
            what: "the carriers do not follow each other",
        });
    }
    Ok((gguf.position(tensor), len))
}
