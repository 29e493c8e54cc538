use thiserror::Error;

use super::FileId;

/// Why the bytes behind a home, which begin as a room does, are none of this version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RoomError {
    #[error("Unweight format version {0}; this program reads version 1")]
    Version(u32),
    #[error("the header of its room is damaged: its checksum differs")]
    Checksum,
    #[error("reserved bytes in the header of its room are not zero")]
    Reserved,
}

/// Why bytes are not an index of this version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IndexError {
    #[error("the index leaves its room")]
    Beyond,
    #[error("the index is damaged: its checksum differs")]
    Checksum,
    #[error("the index ends inside its head")]
    Truncated,
    #[error("the index ends inside the list of rooms, or the entry of tensor number {0}")]
    EntryTruncated(u32),
    #[error("the index has {0} bytes after its last entry")]
    Length(u64),
    #[error("the name of tensor number {0} in the index is not UTF-8")]
    Name(u32),
    #[error("tensor {0:?} stands twice in the index")]
    Duplicate(String),
    #[error("tensor {name:?} in the index: {what}")]
    Entry { name: String, what: &'static str },
    #[error("room number {number} in the index: {what}")]
    Room { number: u32, what: &'static str },
    #[error("{what}: not wholly inside its room, or overlaps something else in it")]
    Extent { what: String },
}

/// Why tensors that were opened together do not make whole weights.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupError {
    #[error("tensor {name:?}: {error}")]
    Room { name: String, error: RoomError },
    #[error("tensor {name:?}, which has the index: {error}")]
    Index { name: String, error: IndexError },
    #[error("tensor {name:?} is there twice")]
    TwoTensors { name: String },
    #[error("tensors {first:?} and {second:?} both hold room number {number} of file {id}")]
    TwoRooms { first: String, second: String, number: u32, id: FileId },
    #[error("tensors {first:?} and {second:?} both hold the index of file {id}")]
    TwoIndexes { first: String, second: String, id: FileId },
    #[error("tensor {name:?} holds a part of other tensors, but the tensor with the index is not here")]
    NoIndex { name: String },
    #[error("tensor {name:?} stands in two indexes")]
    Ambiguous { name: String },
    #[error("tensor {name:?}: {what}")]
    Carrier { name: String, what: &'static str },
    #[error("a part of tensor {name:?} is in tensor {carrier:?}, which is not here")]
    RoomMissing { name: String, carrier: String },
}
