//! Opening a file in whatever form it is; a converted one with the shards that belong to it where it needs them.

use std::path::Path;

use super::archive::Archive;
use super::error::{In, Result};
use super::original::Original;
use super::replay::Replay;
use super::shards;
use super::source::Source;
use crate::container::archive::is_archive;
use crate::container::converted::{Converted, is_converted};

/// A file that holds an original, or is one.
pub enum Holder {
    Original(Source),
    Converted(Opening),
    Archive(Box<Archive>),
}

impl Holder {
    /// All files that it is read from.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Original(source) => vec![&source.path],
            Self::Archive(archive) => vec![&archive.file().path],
            Self::Converted(opening) => opening.files().into_iter().map(|file| &*file.path).collect(),
        }
    }

    /// # Errors
    /// If the file cannot be read, or is no GGUF, or not what it says that it is.
    pub fn open(path: &Path) -> Result<Self> {
        let source = Source::open(path)?;
        let gguf = source.gguf()?;
        let (is_archive, is_converted) = (is_archive(&gguf), is_converted(&gguf));
        drop(gguf);
        Ok(match (is_archive, is_converted) {
            (true, _) => Self::Archive(Box::new(Archive::of(source)?)),
            (false, true) => Self::Converted(Opening::of(source)?),
            (false, false) => Self::Original(source),
        })
    }

    /// The file.
    pub fn file(&self) -> &Source {
        match self {
            Self::Original(source) => source,
            Self::Converted(opening) => opening.file(),
            Self::Archive(archive) => archive.file(),
        }
    }

    /// Lets `work` read the original.
    ///
    /// # Errors
    /// If there is something wrong with the file, or `work` fails.
    pub fn read<T>(&self, work: impl FnOnce(&dyn Original) -> Result<T>) -> Result<T> {
        match self {
            Self::Original(source) => work(source),
            Self::Archive(archive) => work(&**archive),
            Self::Converted(opening) => work(&Replay::new(opening.files(), &opening.converted()?)?),
        }
    }
}

/// A converted file that is being read, and other shards of its model if it cannot do without.
pub struct Opening {
    file: Source,
    others: Vec<Source>,
}

impl Opening {
    /// # Errors
    /// If another cannot be read, or the file is no GGUF.
    pub fn of(file: Source) -> Result<Self> {
        // A shard that was converted by itself needs no other.
        let alone = Converted::open(file.gguf()?, &[]);
        let is_whole = alone.is_ok_and(|converted| converted.untouched().is_some());
        let others = if is_whole { Vec::new() } else { shards::others(&file.path) };
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
        let others = self.others.iter().map(Source::gguf).collect::<Result<Vec<_>>>()?;
        Converted::open(self.file.gguf()?, &others).in_file(&self.file.path)
    }
}
