//! The parts of the original file that are not tensors: its header, made again, and the bytes between tensors.

use std::ops::Range;

use super::align;
use super::gguf::{Gguf, MAGIC, push_info};
use super::layout::KEY_PREFIX;
use super::pool::Index;

/// The metadata of the original: the file up to its first tensor info.
pub fn metadata(converted: &Gguf, tensors: u64) -> Vec<u8> {
    let kept = || converted.kv.iter().filter(|pair| !pair.key.starts_with(KEY_PREFIX));
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&converted.version.to_le_bytes());
    out.extend_from_slice(&tensors.to_le_bytes());
    out.extend_from_slice(&(kept().count() as u64).to_le_bytes());
    for pair in kept() {
        out.extend_from_slice(pair.raw);
    }
    out
}

/// The header of the original: metadata and tensor infos, no padding.
pub fn header(converted: &Gguf, index: &Index) -> Vec<u8> {
    let mut out = metadata(converted, index.entries.len() as u64);
    for entry in &index.entries {
        push_info(&mut out, &entry.name, &entry.dims, entry.ty, entry.offset);
    }
    out
}

/// The parts of a file that belong to no header and no tensor, in file order: `extents` are offset and length of each tensor in
/// the data section, in any order and not overlapping. `None` if sizes overflow, or a tensor ends beyond `file_len`.
pub fn gaps(
    header_len: u64,
    alignment: u64,
    extents: impl Iterator<Item = (u64, u64)>,
    file_len: u64,
) -> Option<Vec<Range<u64>>> {
    let data_start = align(header_len, alignment)?;
    let mut extents: Vec<_> = extents.filter(|&(_, len)| len > 0).collect();
    extents.sort_unstable();
    let mut gaps = Vec::new();
    let mut end = header_len;
    for (offset, len) in extents {
        let start = data_start.checked_add(offset)?;
        if start > end {
            gaps.push(end..start);
        }
        end = start.checked_add(len)?;
    }
    if end > file_len {
        return None;
    }
    if end < file_len {
        gaps.push(end..file_len);
    }
    Some(gaps)
}
