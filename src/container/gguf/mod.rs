//! A GGUF file, parsed without copying. Versions 2 and 3, little-endian.

mod dims;
mod error;
mod tensor_type;
pub(crate) mod value;

use std::collections::{HashMap, HashSet};

pub use dims::Dims;
pub use error::GgufError;
pub use tensor_type::TensorType;
pub use value::Kv;

use super::align;
use super::cursor::{Cursor, EndOfBytes};

pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;

/// A parsed file. Everything in it has been checked against the file's length.
#[derive(Debug)]
pub struct Gguf<'a> {
    pub version: u32,
    pub kv: Vec<Kv<'a>>,
    /// In the order of the tensor infos; their data may lie in any other order.
    pub tensors: Vec<TensorInfo<'a>>,
    /// Bytes from the start of the file to the first tensor info.
    pub metadata_len: u64,
    /// Bytes from the start of the file to the end of the last tensor info.
    pub header_len: u64,
    /// Where tensor offsets count from; may lie beyond the end of a file without tensor bytes.
    pub data_start: u64,
    pub alignment: u64,
    file: &'a [u8],
    by_name: HashMap<&'a str, usize>,
}

/// One tensor of a file.
#[derive(Debug, Clone, Copy)]
pub struct TensorInfo<'a> {
    pub name: &'a str,
    pub ty: TensorType,
    pub dims: Dims,
    /// In bytes, from the start of the data section.
    pub offset: u64,
    /// In bytes, without padding.
    pub len: u64,
}

impl<'a> Gguf<'a> {
    /// Parses the whole header and checks that every tensor lies in `file` and overlaps no other.
    ///
    /// # Errors
    /// One [`GgufError`] per cause; nothing is accepted that is not wholly understood.
    pub fn parse(file: &'a [u8]) -> Result<Self, GgufError> {
        Self::parse_header(file, file.len() as u64)
    }

    /// The same of a file of `len` bytes of which only the first are there, metadata and tensor infos at least. Its tensors have no bytes.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_header(file: &'a [u8], len: u64) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(file);
        let version = parse_version(&mut cursor, file)?;
        let truncated = |end: EndOfBytes| GgufError::Truncated { what: "the header", at: end.at };
        let tensor_count = cursor.u64().map_err(truncated)?;
        let kv_count = cursor.u64().map_err(truncated)?;

        let kv = parse_kv(&mut cursor, kv_count)?;
        let metadata_len = cursor.position() as u64;
        let alignment = alignment(&kv)?;
        let (tensors, by_name) = parse_infos(&mut cursor, tensor_count)?;
        let header_len = cursor.position() as u64;
        let data_start = align(header_len, alignment).ok_or(GgufError::Alignment(alignment))?;

        let gguf =
            Self { version, kv, tensors, metadata_len, header_len, data_start, alignment, file, by_name };
        gguf.check_extents(len)?;
        Ok(gguf)
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo<'a>> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// The value of a key.
    pub fn kv(&self, key: &str) -> Option<&Kv<'a>> {
        self.kv.iter().find(|kv| kv.key == key)
    }

    /// The value of a key, if it is a string.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.kv(key).and_then(|kv| kv.as_str())
    }

    /// Where a tensor of this file begins, from the start of the file.
    pub fn position(&self, tensor: &TensorInfo) -> u64 {
        self.data_start + tensor.offset
    }

    /// The bytes of a tensor of this file.
    pub fn bytes(&self, tensor: &TensorInfo) -> &'a [u8] {
        if tensor.len == 0 {
            return &[]; // its place may lie beyond the end of the file
        }
        let start = self.position(tensor) as usize;
        &self.file[start..start + tensor.len as usize]
    }

    /// The whole file.
    pub fn file(&self) -> &'a [u8] {
        self.file
    }

    /// Tensors with at least one byte, by the place of their data in the file.
    pub fn by_position(&self) -> Vec<&TensorInfo<'a>> {
        let mut sorted: Vec<_> = self.tensors.iter().filter(|tensor| tensor.len > 0).collect();
        sorted.sort_by_key(|tensor| tensor.offset);
        sorted
    }

    fn check_extents(&self, len: u64) -> Result<(), GgufError> {
        for tensor in &self.tensors {
            if !tensor.offset.is_multiple_of(self.alignment) {
                return Err(GgufError::Unaligned {
                    name: tensor.name.to_owned(),
                    offset: tensor.offset,
                    alignment: self.alignment,
                });
            }
            let end = u128::from(self.data_start) + u128::from(tensor.offset) + u128::from(tensor.len);
            if end > u128::from(if tensor.len > 0 { len } else { u64::MAX }) {
                let start = self.data_start.saturating_add(tensor.offset);
                return Err(GgufError::TensorBeyondEnd { name: tensor.name.to_owned(), start, end, len });
            }
        }
        for pair in self.by_position().windows(2) {
            if pair[0].offset + pair[0].len > pair[1].offset {
                return Err(GgufError::Overlap {
                    first: pair[0].name.to_owned(),
                    second: pair[1].name.to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// The largest models have some thousands of tensors, and some hundreds of keys. What each takes in memory is several times what it takes in a
/// file, or thousands of times if that was packed.
const MOST_TENSORS: u64 = 1 << 16;
const MOST_KEYS: u64 = 1 << 16;

fn parse_version(cursor: &mut Cursor, file: &[u8]) -> Result<u32, GgufError> {
    if !file.starts_with(MAGIC) {
        return Err(GgufError::Magic);
    }
    let truncated = |end: EndOfBytes| GgufError::Truncated { what: "the header", at: end.at };
    cursor.take(MAGIC.len() as u64).map_err(truncated)?;
    let version = cursor.u32().map_err(truncated)?;
    match version {
        2 | 3 => Ok(version),
        _ if version & 0xFFFF == 0 && version != 0 => Err(GgufError::BigEndian),
        _ => Err(GgufError::Version(version)),
    }
}

fn parse_kv<'a>(cursor: &mut Cursor<'a>, count: u64) -> Result<Vec<Kv<'a>>, GgufError> {
    // Grows with what is read: what a pair takes in memory is several times what it takes in the file.
    let mut kv = Vec::new();
    let mut seen = HashSet::new();
    for i in 0..count {
        if i == MOST_KEYS {
            return Err(GgufError::TooMany { what: "metadata keys", count });
        }
        let pair = Kv::parse(cursor)?;
        if !seen.insert(pair.key) {
            return Err(GgufError::DuplicateKey(pair.key.to_owned()));
        }
        kv.push(pair);
    }
    Ok(kv)
}

fn alignment(kv: &[Kv]) -> Result<u64, GgufError> {
    let Some(pair) = kv.iter().find(|pair| pair.key == ALIGNMENT_KEY) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let wrong_type = GgufError::Key { key: ALIGNMENT_KEY.to_owned(), what: "not an unsigned 32-bit integer" };
    let alignment = u64::from(pair.as_u32().ok_or(wrong_type)?);
    if alignment.is_power_of_two() { Ok(alignment) } else { Err(GgufError::Alignment(alignment)) }
}

/// The tensors, and the place of each by its name.
fn parse_infos<'a>(
    cursor: &mut Cursor<'a>,
    count: u64,
) -> Result<(Vec<TensorInfo<'a>>, HashMap<&'a str, usize>), GgufError> {
    let (mut tensors, mut by_name) = (Vec::new(), HashMap::new());
    for i in 0..count {
        if i == MOST_TENSORS {
            return Err(GgufError::TooMany { what: "tensors", count });
        }
        let tensor = parse_info(cursor)?;
        if by_name.insert(tensor.name, tensors.len()).is_some() {
            return Err(GgufError::DuplicateTensor(tensor.name.to_owned()));
        }
        tensors.push(tensor);
    }
    Ok((tensors, by_name))
}

fn parse_info<'a>(cursor: &mut Cursor<'a>) -> Result<TensorInfo<'a>, GgufError> {
    let at = cursor.position() as u64;
    let truncated = |_: EndOfBytes| GgufError::Truncated { what: "a tensor info", at };
    let n = cursor.u64().map_err(truncated)?;
    let name =
        std::str::from_utf8(cursor.take(n).map_err(truncated)?).map_err(|_| GgufError::TensorName { at })?;
    let count = cursor.u32().map_err(truncated)?;
    if count as usize > Dims::MAX {
        return Err(GgufError::Dimensions { name: name.to_owned(), count });
    }
    let mut extents = [0; Dims::MAX];
    for extent in &mut extents[..count as usize] {
        *extent = cursor.u64().map_err(truncated)?;
    }
    let id = cursor.u32().map_err(truncated)?;
    let offset = cursor.u64().map_err(truncated)?;
    let extents = &extents[..count as usize];
    let ty = TensorType::from_id(id).ok_or_else(|| GgufError::TensorType { name: name.to_owned(), id })?;
    let shape = || GgufError::Shape { name: name.to_owned(), dims: extents.to_vec(), ty: ty.name() };
    let dims = Dims::new(extents).ok_or_else(shape)?;
    let len = dims.bytes(ty).ok_or_else(shape)?;
    Ok(TensorInfo { name, ty, dims, offset, len })
}

/// Appends a tensor info to `out`.
pub(crate) fn push_info(out: &mut Vec<u8>, name: &str, dims: &Dims, ty: TensorType, offset: u64) {
    out.extend_from_slice(&(name.len() as u64).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&(dims.as_slice().len() as u32).to_le_bytes());
    for extent in dims.as_slice() {
        out.extend_from_slice(&extent.to_le_bytes());
    }
    out.extend_from_slice(&ty.id().to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
}
