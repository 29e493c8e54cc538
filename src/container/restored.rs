//! What a converted file gives back: its header, and where each tensor goes.

use std::ops::Range;

use thiserror::Error;

use super::align;
use super::converted::Converted;
use super::gguf::{Dims, TensorType, push_info};
use super::layout::metadata;
use super::parts::{Part, PartsError, parts};
use super::rooms::Index;

/// A file to be given back.
#[derive(Debug)]
pub struct Restored<'c> {
    /// Metadata and tensor infos, no padding.
    pub header: Vec<u8>,
    /// In the order of the tensor infos.
    pub tensors: Vec<Tensor<'c>>,
    /// In file order, with extents from the start of the file.
    pub parts: Vec<(Part, Range<u64>)>,
    /// In bytes.
    pub len: u64,
    /// The original that this is, byte for byte; `None` if a tool has changed the converted file.
    pub original: Option<&'c Index>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tensor<'c> {
    pub name: &'c str,
    pub ty: TensorType,
    pub dims: Dims,
    /// In the data section, in bytes.
    pub offset: u64,
    /// In bytes.
    pub len: u64,
    /// Of its bytes; `None` for a tensor of no index.
    pub xxh3: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RestoredError {
    #[error("sizes beyond 64 bits")]
    Overflow,
    #[error(transparent)]
    Parts(#[from] PartsError),
}

impl<'c> Restored<'c> {
    /// The original if the file is untouched, and else what the tool that changed it would have made of the original.
    ///
    /// # Errors
    /// If a forged index asks for impossible sizes.
    pub fn of(converted: &'c Converted) -> Result<Self, RestoredError> {
        let alignment = converted.gguf.alignment;
        let original = converted.untouched();
        let tensors = match original {
            Some(index) => of_index(index),
            None => in_order(converted)?,
        };
        let mut header = metadata(&converted.gguf, tensors.len() as u64);
        for tensor in &tensors {
            push_info(&mut header, tensor.name, &tensor.dims, tensor.ty, tensor.offset);
        }
        let header_len = header.len() as u64;
        let end = || {
            let data = tensors.iter().map(|tensor| tensor.offset + tensor.len).max().unwrap_or(0);
            align(header_len, alignment)?.checked_add(align(data, alignment)?)
        };
        let len = match original {
            Some(index) => index.original_len,
            None => end().ok_or(RestoredError::Overflow)?,
        };
        let extents: Vec<_> = tensors.iter().map(|tensor| (tensor.offset, tensor.len)).collect();
        let parts = parts(header_len, alignment, &extents, len)?;
        Ok(Self { header, tensors, parts, len, original })
    }
}

fn of_index(index: &Index) -> Vec<Tensor<'_>> {
    let tensor = |entry| {
        let &super::rooms::Entry { ref name, ty, dims, offset, len, xxh3, .. } = entry;
        Tensor { name, ty, dims, offset, len, xxh3: Some(xxh3) }
    };
    index.entries.iter().map(tensor).collect()
}

/// The tensors of the file as it is now, one after the other.
fn in_order<'c>(converted: &'c Converted) -> Result<Vec<Tensor<'c>>, RestoredError> {
    let mut end = 0u64;
    let mut tensors = Vec::with_capacity(converted.gguf.tensors.len());
    for info in &converted.gguf.tensors {
        let entry = converted.entry(info.name);
        let (ty, len) = entry.map_or((info.ty, info.len), |entry| (entry.ty, entry.len));
        let xxh3 = entry.map(|entry| entry.xxh3);
        tensors.push(Tensor { name: info.name, ty, dims: info.dims, offset: end, len, xxh3 });
        let behind = end.checked_add(len).and_then(|end| align(end, converted.gguf.alignment));
        end = behind.ok_or(RestoredError::Overflow)?;
    }
    Ok(tensors)
}
