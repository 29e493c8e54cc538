//! A file as header, tensors and gaps, in file order.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use unweight::container::align;
use unweight::container::restored::gaps;

/// Bytes that belong to no tensor are hashed, compressed and written like others, but no model has many of them. The limit keeps a
/// forged index from asking for a file without end.
const MOST_GAPS: u64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Header,
    /// Bytes that belong to nothing.
    Gap,
    /// Place in the list of tensors.
    Tensor(usize),
}

/// `extents`: offset and length of each tensor in the data section.
pub fn parts(
    header_len: u64,
    alignment: u64,
    extents: &[(u64, u64)],
    len: u64,
) -> Result<Vec<(Part, Range<u64>)>> {
    let beyond = "the tensors leave the file";
    let gaps = gaps(header_len, alignment, extents.iter().copied(), len).context(beyond)?;
    let bytes: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
    if bytes > MOST_GAPS {
        bail!("{bytes} bytes belong to no tensor; no model has so many");
    }
    let start = align(header_len, alignment).context(beyond)?;
    let tensors = extents.iter().enumerate().filter(|(_, (_, len))| *len > 0);
    let mut parts: Vec<_> = std::iter::once((Part::Header, 0..header_len))
        .chain(tensors.map(|(i, &(offset, len))| (Part::Tensor(i), start + offset..start + offset + len)))
        .chain(gaps.into_iter().map(|range| (Part::Gap, range)))
        .collect();
    parts.sort_by_key(|(_, range)| range.start);
    Ok(parts)
}
