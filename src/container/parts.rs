//! A file as header, tensors and gaps, in file order.

use std::ops::Range;

use thiserror::Error;

use super::align;
use super::gguf::Gguf;

/// Bytes that belong to no tensor are hashed, compressed and written like others, but no model has many of them. The limit keeps a
/// forged index from asking for a file without end.
const MOST_GAP_BYTES: u64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Header,
    /// Bytes that belong to nothing.
    Gap,
    /// Place in the list of tensors.
    Tensor(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PartsError {
    #[error("the tensors leave the file")]
    Beyond,
    #[error("{0} bytes belong to no tensor; no model has so many")]
    Gaps(u64),
}

/// The parts of the file of `len` bytes that has this header.
///
/// # Errors
/// As [`parts`].
pub fn parts_of(gguf: &Gguf, len: u64) -> Result<Vec<(Part, Range<u64>)>, PartsError> {
    let extents: Vec<_> = gguf.tensors.iter().map(|tensor| (tensor.offset, tensor.len)).collect();
    parts(gguf.header_len, gguf.alignment, &extents, len)
}

/// The parts of a file of `len` bytes, in file order, each with its extent from the start of the file. `tensors`: offset in the data
/// section and length of each, in any order and not overlapping.
///
/// # Errors
/// If a tensor leaves the file, sizes overflow, or there are more bytes between tensors than any model has.
pub fn parts(
    header_len: u64,
    alignment: u64,
    tensors: &[(u64, u64)],
    len: u64,
) -> Result<Vec<(Part, Range<u64>)>, PartsError> {
    let data_start = align(header_len, alignment).ok_or(PartsError::Beyond)?;
    let mut sorted: Vec<usize> = (0..tensors.len()).filter(|&i| tensors[i].1 > 0).collect();
    sorted.sort_unstable_by_key(|&i| tensors[i]);
    let mut parts = vec![(Part::Header, 0..header_len)];
    let (mut end, mut gap_bytes) = (header_len, 0);
    let mut gap = |parts: &mut Vec<_>, range: Range<u64>| {
        if !range.is_empty() {
            gap_bytes += range.end - range.start;
            parts.push((Part::Gap, range));
        }
    };
    for i in sorted {
        let (offset, bytes) = tensors[i];
        let start = data_start.checked_add(offset).ok_or(PartsError::Beyond)?;
        gap(&mut parts, end..start);
        end = start.checked_add(bytes).ok_or(PartsError::Beyond)?;
        parts.push((Part::Tensor(i), start..end));
    }
    if end > len {
        return Err(PartsError::Beyond);
    }
    gap(&mut parts, end..len);
    if gap_bytes > MOST_GAP_BYTES { Err(PartsError::Gaps(gap_bytes)) } else { Ok(parts) }
}
