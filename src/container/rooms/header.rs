use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use super::{RoomError, VERSION};
use crate::container::cursor::Cursor;

pub const HEADER_BYTES: u64 = 64;
const MAGIC: &[u8; 8] = b"UNWEIGHT";
const CHECKSUM_AT: usize = 56;

/// What the rooms and the index of one converted file have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub [u8; 16]);

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The first 64 bytes of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomHeader {
    /// Place in the index's list of rooms.
    pub number: u32,
    pub id: FileId,
    /// Bytes of the index that follows; 0 if none does.
    pub index_len: u64,
    /// 0 if there is no index.
    pub index_xxh3: u64,
}

impl RoomHeader {
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.index_len.to_le_bytes());
        bytes.extend_from_slice(&self.index_xxh3.to_le_bytes());
        bytes.extend_from_slice(&0u64.to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        std::array::from_fn(|i| bytes[i])
    }

    /// The header of a room; `None` if the bytes do not begin as a room does.
    ///
    /// # Errors
    /// If they do, and go on otherwise.
    pub fn parse(room: &[u8]) -> Result<Option<Self>, RoomError> {
        let Some(header) = room.get(..HEADER_BYTES as usize).filter(|header| header.starts_with(MAGIC))
        else {
            return Ok(None);
        };
        let mut cursor = Cursor::new(&header[MAGIC.len()..]);
        // All reads lie inside the 64 bytes that are there.
        let short = |_| RoomError::Checksum;
        let version = cursor.u32().map_err(short)?;
        let number = cursor.u32().map_err(short)?;
        let id = FileId(cursor.array().map_err(short)?);
        let index_len = cursor.u64().map_err(short)?;
        let index_xxh3 = cursor.u64().map_err(short)?;
        let reserved = cursor.u64().map_err(short)?;
        // A later version may have its checksum elsewhere.
        if version != VERSION {
            return Err(RoomError::Version(version));
        }
        if cursor.u64().map_err(short)? != xxh3_64(&header[..CHECKSUM_AT]) {
            return Err(RoomError::Checksum);
        }
        if reserved != 0 || (index_len == 0 && index_xxh3 != 0) {
            return Err(RoomError::Reserved);
        }
        Ok(Some(Self { number, id, index_len, index_xxh3 }))
    }
}
