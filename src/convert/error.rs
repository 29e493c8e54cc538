use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::container::archive::ArchiveError;
use crate::container::converted::ConvertedError;
use crate::container::gguf::{GgufError, TensorType};
use crate::container::layout::LayoutError;
use crate::container::parts::PartsError;
use crate::container::restored::RestoredError;
use crate::kernel::OpenError;

/// What went wrong, and with which file.
#[derive(Debug)]
pub struct Error {
    pub file: PathBuf,
    /// Boxed: errors are rare, results are not.
    pub cause: Box<Cause>,
}

#[derive(Debug, Error)]
pub enum Cause {
    #[error("{0}")]
    Io(io::Error),
    #[error("{doing}: {error}")]
    Doing { doing: &'static str, error: io::Error },
    #[error("{0}")]
    Gguf(#[from] GgufError),
    #[error("{0}")]
    Converted(#[from] ConvertedError),
    #[error("{0}")]
    Layout(#[from] LayoutError),
    #[error("{0}")]
    Parts(#[from] PartsError),
    #[error("{0}")]
    Restored(#[from] RestoredError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("tensor {name:?}: {cause}")]
    Tensor { name: String, cause: TensorCause },
    #[error("tensor {name:?}: the part of the file that it holds is damaged")]
    Room { name: String },
    #[error("tensor {name:?} of the original{} no file here", and_more(*more))]
    Missing { name: String, more: usize },
    #[error("{0}")]
    Archive(#[from] ArchiveError),
    #[error("the metadata of the original, damaged: {0}")]
    Metadata(String),
    #[error("the bytes between the tensors: {0}")]
    Between(String),
    #[error("every tensor is right, but the whole has another BLAKE3: damaged outside the tensors")]
    Blake3,
    #[error("differs from {} at byte {at}{}", other.display(), place(tensor))]
    Differs { other: PathBuf, at: u64, tensor: Option<String> },
    #[error("gives back {len} bytes, {} has {other_len}", other.display())]
    OtherLength { len: u64, other: PathBuf, other_len: u64 },
    #[error("{len} bytes are needed there, and {free} are free")]
    NoSpace { len: u64, free: u64 },
    #[error("read back, it is not what was written: the disk or the memory fails")]
    ReadBack,
    #[error("{0}; this is a defect")]
    Defect(String),
}

fn place(tensor: &Option<String>) -> String {
    tensor.as_ref().map_or_else(|| ", outside the tensors".to_owned(), |name| format!(", in tensor {name:?}"))
}

fn and_more(more: usize) -> String {
    if more > 0 { format!(", and {more} others, are in") } else { " is in".to_owned() }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TensorCause {
    #[error("damaged: its checksum is not the original's")]
    Damaged,
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("damaged: {0}")]
    Coding(#[from] crate::archive::Error),
    #[error("this version of the program knows no encoding for {0}")]
    Type(TensorType),
    #[error("as written it is not that of the input, which changed meanwhile, or this is a defect")]
    NotAsRead,
    #[error("changed while it was read")]
    Changed,
}

/// Why a file is not read, not converted, or not written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("not a regular file")]
    NotRegular,
    #[error("is a folder")]
    Folder,
    #[error("is a link; name the file itself")]
    Link,
    #[error("input and output are the same file")]
    SameFile,
    #[error("shard {number} of {count} is not here")]
    MissingShard { number: u32, count: u32 },
    #[error(
        "its model is in {count} files, and this is the name of one: it should end in -00001-of-{count:05}.gguf"
    )]
    NoShard { count: usize },
    #[error(
        "not removed: it, or what was made of it, is no longer what was read and proved; both files stay"
    )]
    NotReplaced,
    #[error(
        "not replaced: a tool has changed it, so that its weights are proved one by one, but nothing proves the whole"
    )]
    Unproved,
    #[error("{0} bytes that are not all zero stand between its tensors, all alike: no model has that")]
    Between(u64),
    #[error("its alignment of {0} bytes is beyond that of any model")]
    Alignment(u64),
    #[error("exists already; --force replaces it")]
    Exists,
    #[error("compressed already; `unweight-gguf restore` gives the original back")]
    Converted,
    #[error(
        "an archive already; `unweight-gguf convert` makes the form of it that runs, `unweight-gguf restore` the original"
    )]
    Archived,
    #[error("nothing to compress: {why}; {way}")]
    Nothing { why: &'static str, way: &'static str },
    #[error(
        "an image or audio encoder (mmproj): llama.cpp reads such files by a loader of its own, which no plugin reaches; it would not run"
    )]
    Clip,
    #[error("it would not get smaller: {before} bytes, {after} compressed; {why}")]
    NotSmaller { before: u64, after: u64, why: &'static str },
}

impl Error {
    pub(super) fn new(file: &Path, cause: impl Into<Cause>) -> Self {
        Self { file: file.to_owned(), cause: Box::new(cause.into()) }
    }

    pub(super) fn tensor(file: &Path, name: &str, cause: impl Into<TensorCause>) -> Self {
        Self::new(file, Cause::Tensor { name: name.to_owned(), cause: cause.into() })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.cause)
    }
}

impl std::error::Error for Error {}

pub type Result<T> = std::result::Result<T, Error>;

/// Names the file in which something went wrong.
pub(super) trait In<T> {
    fn in_file(self, file: &Path) -> Result<T>;
}

impl<T, E: Into<Cause>> In<T> for std::result::Result<T, E> {
    fn in_file(self, file: &Path) -> Result<T> {
        self.map_err(|error| Error::new(file, error))
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
