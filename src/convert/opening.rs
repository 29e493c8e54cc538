//! Opening a converted file, with the shards that belong to it where it needs them.

use std::path::Path;

use super::error::{In, Result};
use super::shards;
use super::source::Source;
use crate::container::converted::{Converted, ConvertedError};
use crate::container::rooms::GroupError;

/// A converted file that is being read, and other shards of its model if it cannot do without.
pub struct Opening {
    file: Source,
    others: Vec<Source>,
}

impl Opening {
    /// # Errors
    /// If a file cannot be read, or the file is no GGUF.
    pub fn new(path: &Path) -> Result<Self> {
        let file = Source::open(path)?;
        let alone = Converted::open(file.parse()?, &[]).map(|_| ());
        let others = match alone {
            // A shard may hold plain tensors only, the index being in another.
            Err(ConvertedError::NotUnweight | ConvertedError::NoIndex)
            | Err(ConvertedError::Group(GroupError::NoIndex { .. } | GroupError::RoomMissing { .. })) => {
                shards::others(path)
            }
            _ => Vec::new(),
        };
        let others = others.iter().map(|path| Source::open(path)).collect::<Result<_>>()?;
        Ok(Self { file, others })
    }

    pub fn file(&self) -> &Source {
        &self.file
    }

    /// The file, then the others.
    pub fn files(&self) -> Vec<&Source> {
        std::iter::once(&self.file).chain(&self.others).collect()
    }

    /// # Errors
    /// If it is no converted file, or one that contradicts itself.
    pub fn converted(&self) -> Result<Converted<'_>> {
        let others = self.others.iter().map(Source::parse).collect::<Result<Vec<_>>>()?;
        Converted::open(self.file.parse()?, &others).in_file(&self.file.path)
    }
}
