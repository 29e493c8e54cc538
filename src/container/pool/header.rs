use xxhash_rust::xxh3::xxh3_64;

use super::{PoolError, VERSION};
use crate::container::cursor::{Cursor, EndOfBytes};

pub const HEADER_BYTES: u64 = 64;
const MAGIC: &[u8; 8] = b"UNWEIGHT";
const CHECKSUM_AT: usize = 56;

/// The first 64 bytes of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolHeader {
    /// Bytes of the pool, this header included.
    pub pool_len: u64,
    pub index_len: u64,
    /// Tensors in the original.
    pub tensors: u32,
    pub carriers: u32,
    pub index_xxh3: u64,
}

impl PoolHeader {
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&self.pool_len.to_le_bytes());
        bytes.extend_from_slice(&self.index_len.to_le_bytes());
        bytes.extend_from_slice(&self.tensors.to_le_bytes());
        bytes.extend_from_slice(&self.carriers.to_le_bytes());
        bytes.extend_from_slice(&self.index_xxh3.to_le_bytes());
        bytes.extend_from_slice(&0u64.to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        std::array::from_fn(|i| bytes[i])
    }

    /// Parses and checks the header of the pool at the start of `pool`, which must hold all of it.
    pub fn parse(pool: &[u8]) -> Result<Self, PoolError> {
        let available = pool.len() as u64;
        let truncated =
            |_: EndOfBytes| PoolError::Truncated { what: "the pool header", needed: HEADER_BYTES, available };
        let mut cursor = Cursor::new(pool);
        if cursor.take(8).map_err(truncated)? != MAGIC {
            return Err(PoolError::Magic);
        }
        let version = cursor.u32().map_err(truncated)?;
        if version != VERSION {
            return Err(PoolError::Version(version));
        }
        let flags = cursor.u32().map_err(truncated)?;
        let header = Self {
            pool_len: cursor.u64().map_err(truncated)?,
            index_len: cursor.u64().map_err(truncated)?,
            tensors: cursor.u32().map_err(truncated)?,
            carriers: cursor.u32().map_err(truncated)?,
            index_xxh3: cursor.u64().map_err(truncated)?,
        };
        let reserved = cursor.u64().map_err(truncated)?;
        if cursor.u64().map_err(truncated)? != xxh3_64(&pool[..CHECKSUM_AT]) {
            return Err(PoolError::HeaderChecksum);
        }
        if flags != 0 {
            return Err(PoolError::Flags(flags));
        }
        if reserved != 0 {
            return Err(PoolError::Reserved);
        }
        let needed = HEADER_BYTES.saturating_add(header.index_len).max(header.pool_len);
        if needed > available {
            return Err(PoolError::Truncated { what: "the pool", needed, available });
        }
        if HEADER_BYTES + header.index_len > header.pool_len {
            return Err(PoolError::Extent { what: "the index".to_owned() });
        }
        Ok(header)
    }
}
