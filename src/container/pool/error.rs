use thiserror::Error;

/// Why bytes are not a pool of this version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PoolError {
    #[error("the pool is truncated: {available} bytes, {needed} needed for {what}")]
    Truncated { what: &'static str, needed: u64, available: u64 },
    #[error("no Unweight pool where one is expected: wrong magic")]
    Magic,
    #[error("Unweight format version {0}; this program reads version 1")]
    Version(u32),
    #[error("unknown Unweight flags {0:#x}")]
    Flags(u32),
    #[error("reserved bytes of the pool header are not zero")]
    Reserved,
    #[error("the pool header is damaged: its checksum differs")]
    HeaderChecksum,
    #[error("the index is damaged: its checksum differs")]
    IndexChecksum,
    #[error("the index ends inside the entry of tensor number {0}")]
    EntryTruncated(u32),
    #[error("the index has {0} bytes after its last entry")]
    IndexLength(u64),
    #[error("the name of tensor number {0} in the index is not UTF-8")]
    Name(u32),
    #[error("tensor {0:?} stands twice in the index")]
    Duplicate(String),
    #[error("tensor {name:?} in the index: {what}")]
    Entry { name: String, what: &'static str },
    #[error("the index lists {listed} carriers, the pool header says {said}")]
    Carriers { listed: u32, said: u32 },
    #[error("{what}: not wholly inside the pool, or overlaps its neighbour")]
    Extent { what: String },
}
