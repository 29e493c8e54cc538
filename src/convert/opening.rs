//! Opening a converted file, with the shards that belong to it where it needs them.

use std::path::Path;

use super::error::{In, Result};
use super::shards;
use super::source::Source;
use crate::container::converted::Converted;

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
        // A shard that was converted by itself needs no other.
        let alone = Converted::open(file.parse()?, &[]);
        let is_whole = alone.is_ok_and(|converted| converted.untouched().is_some());
        let others = if is_whole { Vec::new() } else { shards::others(path) };
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
