//! Metadata values: skipped over when a file is parsed, decoded only when asked for.

use super::GgufError;
use crate::container::cursor::{Cursor, EndOfBytes};

/// Nested arrays deeper than this are refused; real files have one level.
const MAX_DEPTH: u32 = 8;

pub(crate) const U32: u32 = 4;
pub(crate) const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a scalar of value type `ty`; `None` for strings, arrays and unknown types.
fn scalar_bytes(ty: u32) -> Option<u64> {
    match ty {
        0 | 1 | 7 => Some(1), // u8, i8, bool
        2 | 3 => Some(2),     // u16, i16
        4..=6 => Some(4),     // u32, i32, f32
        10..=12 => Some(8),   // u64, i64, f64
        _ => None,
    }
}

/// One key and its value, as they stand in the file.
#[derive(Debug, Clone, Copy)]
pub struct Kv<'a> {
    pub key: &'a str,
    /// The value's type id.
    pub ty: u32,
    /// The value without its type id.
    pub value: &'a [u8],
    /// Key, type id and value: what is copied from file to file.
    pub raw: &'a [u8],
}

impl<'a> Kv<'a> {
    pub(super) fn parse(cursor: &mut Cursor<'a>) -> Result<Self, GgufError> {
        let start = cursor.position();
        let truncated = |_: EndOfBytes| GgufError::Truncated { what: "the metadata", at: start as u64 };
        let n = cursor.u64().map_err(truncated)?;
        let key = std::str::from_utf8(cursor.take(n).map_err(truncated)?)
            .map_err(|_| GgufError::KeyEncoding { at: start as u64 })?;
        let ty = cursor.u32().map_err(truncated)?;
        let value_start = cursor.position();
        skip(cursor, ty, MAX_DEPTH).map_err(|refusal| match refusal {
            Refusal::End => GgufError::Key { key: key.to_owned(), what: "the file ends inside its value" },
            Refusal::Depth => GgufError::Key { key: key.to_owned(), what: "arrays nested too deep" },
            Refusal::Type(ty) => GgufError::ValueType { key: key.to_owned(), ty },
        })?;
        Ok(Self { key, ty, value: cursor.since(value_start), raw: cursor.since(start) })
    }

    /// The value if it is an unsigned 32-bit integer.
    pub fn as_u32(&self) -> Option<u32> {
        (self.ty == U32).then(|| Cursor::new(self.value).u32().ok()).flatten()
    }

    /// The value if it is a string of UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        if self.ty != STRING {
            return None;
        }
        std::str::from_utf8(self.value.get(8..)?).ok()
    }
}

enum Refusal {
    End,
    Depth,
    Type(u32),
}

impl From<EndOfBytes> for Refusal {
    fn from(_: EndOfBytes) -> Self {
        Refusal::End
    }
}

fn skip(cursor: &mut Cursor, ty: u32, depth: u32) -> Result<(), Refusal> {
    match ty {
        STRING => skip_string(cursor),
        ARRAY => {
            let depth = depth.checked_sub(1).ok_or(Refusal::Depth)?;
            let item = cursor.u32()?;
            let count = cursor.u64()?;
            skip_items(cursor, item, count, depth)
        }
        _ => {
            cursor.take(scalar_bytes(ty).ok_or(Refusal::Type(ty))?)?;
            Ok(())
        }
    }
}

fn skip_items(cursor: &mut Cursor, item: u32, count: u64, depth: u32) -> Result<(), Refusal> {
    if let Some(bytes) = scalar_bytes(item) {
        cursor.take(count.checked_mul(bytes).ok_or(Refusal::End)?)?;
        return Ok(());
    }
    if item != STRING && item != ARRAY {
        return Err(Refusal::Type(item));
    }
    // Every string or array takes at least 8 bytes, so a count that the file has not earned ends here.
    if count > cursor.remaining() as u64 / 8 {
        return Err(Refusal::End);
    }
    for _ in 0..count {
        skip(cursor, item, depth)?;
    }
    Ok(())
}

fn skip_string(cursor: &mut Cursor) -> Result<(), Refusal> {
    let n = cursor.u64()?;
    cursor.take(n)?;
    Ok(())
}

/// Appends a key with a string to `out`.
pub(crate) fn push_string(out: &mut Vec<u8>, key: &str, value: &str) {
    push_key(out, key, STRING);
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// Appends a key with an unsigned 32-bit integer to `out`.
pub(crate) fn push_u32(out: &mut Vec<u8>, key: &str, value: u32) {
    push_key(out, key, U32);
    out.extend_from_slice(&value.to_le_bytes());
}

fn push_key(out: &mut Vec<u8>, key: &str, ty: u32) {
    out.extend_from_slice(&(key.len() as u64).to_le_bytes());
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&ty.to_le_bytes());
}
