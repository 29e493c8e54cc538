use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use super::{HEADER_BYTES, PoolError, PoolHeader};
use crate::container::cursor::{Cursor, EndOfBytes};
use crate::container::gguf::{Dims, TensorType};

const ENCODING_PLAIN: u32 = 0;
const FIXED_BYTES: u64 = 8 + 32 + 8 + 8 + 3 * 8;
/// An entry with an empty name, one dimension and no carrier.
const LEAST_ENTRY_BYTES: u64 = 4 + 4 + 4 + 8 + 3 * 8 + 4;
const CARRIER_BYTES: u64 = 4 * 8;

/// Bytes of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// From the start of the pool.
    pub offset: u64,
    pub len: u64,
}

/// What the original held, and where each blob lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Length of the original file in bytes.
    pub original_len: u64,
    pub original_blake3: [u8; 32],
    /// Bytes of the original before its first tensor info.
    pub metadata_len: u64,
    pub metadata_xxh3: u64,
    /// `None` where all bytes outside metadata, infos and tensors are zero.
    pub remainder: Option<Remainder>,
    /// In the original order of the tensor infos.
    pub entries: Vec<Entry>,
}

/// The zstd frame of the bytes that belong to nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remainder {
    pub extent: Extent,
    pub xxh3: u64,
}

/// One tensor of the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Type in the original.
    pub ty: TensorType,
    pub dims: Dims,
    /// Offset in the original's data section, in bytes.
    pub offset: u64,
    /// Bytes in the original.
    pub len: u64,
    /// Of the original bytes.
    pub xxh3: u64,
    pub stored: Stored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    Plain,
    Blob {
        /// An id of docs/FORMAT.md, perhaps one that this program does not know.
        encoding: u32,
        /// From the start of the first carrier, in bytes.
        carrier_offset: u64,
        extent: Extent,
        /// Of the blob.
        xxh3: u64,
    },
}

/// Bytes of an index over tensors given by name, shape and whether they become carriers.
pub fn index_bytes<'a>(tensors: impl Iterator<Item = (&'a str, &'a Dims, bool)>) -> u64 {
    FIXED_BYTES
        + tensors
            .map(|(name, dims, carrier)| {
                let dims = 8 * dims.as_slice().len() as u64;
                LEAST_ENTRY_BYTES - 8 + name.len() as u64 + dims + if carrier { CARRIER_BYTES } else { 0 }
            })
            .sum::<u64>()
}

impl Index {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let u64s = |out: &mut Vec<u8>, values: &[u64]| {
            for value in values {
                out.extend_from_slice(&value.to_le_bytes());
            }
        };
        u64s(&mut out, &[self.original_len]);
        out.extend_from_slice(&self.original_blake3);
        u64s(&mut out, &[self.metadata_len, self.metadata_xxh3]);
        let remainder = self.remainder.map_or([0; 3], |r| [r.extent.offset, r.extent.len, r.xxh3]);
        u64s(&mut out, &remainder);
        for entry in &self.entries {
            out.extend_from_slice(&(entry.name.len() as u32).to_le_bytes());
            out.extend_from_slice(entry.name.as_bytes());
            out.extend_from_slice(&entry.ty.id().to_le_bytes());
            out.extend_from_slice(&(entry.dims.as_slice().len() as u32).to_le_bytes());
            u64s(&mut out, entry.dims.as_slice());
            u64s(&mut out, &[entry.offset, entry.len, entry.xxh3]);
            match entry.stored {
                Stored::Plain => out.extend_from_slice(&ENCODING_PLAIN.to_le_bytes()),
                Stored::Blob { encoding, carrier_offset, extent, xxh3 } => {
                    out.extend_from_slice(&encoding.to_le_bytes());
                    u64s(&mut out, &[carrier_offset, extent.offset, extent.len, xxh3]);
                }
            }
        }
        out
    }

    /// Parses the index of the pool at the start of `pool`, which must hold the whole pool.
    ///
    /// # Errors
    /// Whatever docs/FORMAT.md says that a reader must reject. A returned index has only extents that lie in the pool.
    pub fn parse(pool: &[u8]) -> Result<(PoolHeader, Self), PoolError> {
        let header = PoolHeader::parse(pool)?;
        let start = HEADER_BYTES as usize;
        let bytes = &pool[start..start + header.index_len as usize];
        if xxh3_64(bytes) != header.index_xxh3 {
            return Err(PoolError::IndexChecksum);
        }
        let mut cursor = Cursor::new(bytes);
        let mut index = parse_fixed(&mut cursor, &header)?;
        for number in 0..header.tensors {
            index.entries.push(parse_entry(&mut cursor, number)?);
        }
        if cursor.remaining() > 0 {
            return Err(PoolError::IndexLength(cursor.remaining() as u64));
        }
        index.check(&header)?;
        Ok((header, index))
    }

    /// The tensors that have a blob, in the order of the index.
    pub fn carriers(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.stored != Stored::Plain)
    }

    fn check(&self, header: &PoolHeader) -> Result<(), PoolError> {
        let listed = self.carriers().count() as u32;
        if listed != header.carriers {
            return Err(PoolError::Carriers { listed, said: header.carriers });
        }
        let mut names = HashSet::new();
        if let Some(twice) = self.entries.iter().find(|entry| !names.insert(entry.name.as_str())) {
            return Err(PoolError::Duplicate(twice.name.clone()));
        }
        self.check_originals()?;
        self.check_blobs(header)
    }

    fn check_originals(&self) -> Result<(), PoolError> {
        let wrong = |entry: &Entry, what| PoolError::Entry { name: entry.name.clone(), what };
        let mut sorted: Vec<_> = self.entries.iter().filter(|entry| entry.len > 0).collect();
        sorted.sort_by_key(|entry| entry.offset);
        let mut end = 0;
        for entry in sorted {
            if entry.offset < end {
                return Err(wrong(entry, "its original bytes overlap those of another tensor"));
            }
            end = entry.offset.checked_add(entry.len).ok_or_else(|| wrong(entry, "its extent overflows"))?;
            if end > self.original_len {
                return Err(wrong(entry, "its original bytes lie beyond the end of the original"));
            }
        }
        Ok(())
    }

    fn check_blobs(&self, header: &PoolHeader) -> Result<(), PoolError> {
        let mut end = HEADER_BYTES + header.index_len;
        let mut next_carrier = 0;
        for entry in &self.entries {
            let Stored::Blob { carrier_offset, extent, .. } = entry.stored else { continue };
            if carrier_offset < next_carrier {
                let what = "its carrier begins before that of the tensor before it ends";
                return Err(PoolError::Entry { name: entry.name.clone(), what });
            }
            // The narrowest carrier has one byte per weight.
            next_carrier = carrier_offset.saturating_add(entry.dims.elements().unwrap_or(u64::MAX));
            end = following(extent, end, header.pool_len)
                .ok_or_else(|| PoolError::Extent { what: format!("the blob of tensor {:?}", entry.name) })?;
        }
        if let Some(remainder) = self.remainder {
            following(remainder.extent, end, header.pool_len)
                .ok_or_else(|| PoolError::Extent { what: "the remainder".to_owned() })?;
        }
        Ok(())
    }
}

/// The end of `extent` if it begins at `after` or later and ends by `limit`.
fn following(extent: Extent, after: u64, limit: u64) -> Option<u64> {
    let end = extent.offset.checked_add(extent.len)?;
    (extent.offset >= after && end <= limit).then_some(end)
}

fn parse_fixed(cursor: &mut Cursor, header: &PoolHeader) -> Result<Index, PoolError> {
    let short = |_: EndOfBytes| PoolError::Truncated {
        what: "the index",
        needed: FIXED_BYTES,
        available: header.index_len,
    };
    let original_len = cursor.u64().map_err(short)?;
    let original_blake3 = cursor.array().map_err(short)?;
    let metadata_len = cursor.u64().map_err(short)?;
    let metadata_xxh3 = cursor.u64().map_err(short)?;
    let extent = Extent { offset: cursor.u64().map_err(short)?, len: cursor.u64().map_err(short)? };
    let xxh3 = cursor.u64().map_err(short)?;
    let none = extent.offset == 0 && extent.len == 0 && xxh3 == 0;
    let remainder = (!none).then_some(Remainder { extent, xxh3 });
    Ok(Index { original_len, original_blake3, metadata_len, metadata_xxh3, remainder, entries: Vec::new() })
}

fn parse_entry(cursor: &mut Cursor, number: u32) -> Result<Entry, PoolError> {
    let short = |_: EndOfBytes| PoolError::EntryTruncated(number);
    let n = cursor.u32().map_err(short)?;
    let name = std::str::from_utf8(cursor.take(u64::from(n)).map_err(short)?)
        .map_err(|_| PoolError::Name(number))?
        .to_owned();
    let wrong = |what| PoolError::Entry { name: name.clone(), what };
    let id = cursor.u32().map_err(short)?;
    let ty = TensorType::from_id(id).ok_or_else(|| wrong("an unknown type"))?;
    let count = cursor.u32().map_err(short)? as usize;
    if count == 0 || count > Dims::MAX {
        return Err(wrong("a number of dimensions other than 1 to 4"));
    }
    let mut extents = [0; Dims::MAX];
    for extent in &mut extents[..count] {
        *extent = cursor.u64().map_err(short)?;
    }
    let dims = Dims::new(&extents[..count]).ok_or_else(|| wrong("impossible dimensions"))?;
    let offset = cursor.u64().map_err(short)?;
    let len = cursor.u64().map_err(short)?;
    if dims.bytes(ty) != Some(len) {
        return Err(wrong("its length contradicts its type and shape"));
    }
    let xxh3 = cursor.u64().map_err(short)?;
    let stored = match cursor.u32().map_err(short)? {
        ENCODING_PLAIN => Stored::Plain,
        encoding => Stored::Blob {
            encoding,
            carrier_offset: cursor.u64().map_err(short)?,
            extent: Extent { offset: cursor.u64().map_err(short)?, len: cursor.u64().map_err(short)? },
            xxh3: cursor.u64().map_err(short)?,
        },
    };
    Ok(Entry { name, ty, dims, offset, len, xxh3, stored })
}
