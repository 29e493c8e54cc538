//! Where everything stands in a converted file.

use thiserror::Error;

use super::gguf::value::{push_string, push_u32};
use super::gguf::{Gguf, MAGIC, TensorType, info_bytes, push_info};
use super::pool::{Extent, HEADER_BYTES, VERSION, index_bytes};
use super::{align, carriers};

pub(super) const KEY_PREFIX: &str = "unweight.";
pub(super) const KEY_VERSION: &str = "unweight.version";
const KEY_WRITER: &str = "unweight.writer";
pub(super) const KEY_POOL_TENSOR: &str = "unweight.pool.tensor";
pub(super) const KEY_POOL_CARRIERS: &str = "unweight.pool.carriers";
const KEYS: u64 = 4;

/// Blobs begin at file offsets that are multiples of this: a cache line, and the width of the widest vectors.
const BLOB_ALIGNMENT: u64 = 64;

/// What a tensor of the original becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Plain,
    /// A carrier with a blob of this many bytes.
    Blob(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    #[error("no tensor of this file gains from compression")]
    NothingToCompress,
    #[error("sizes beyond 64 bits")]
    Overflow,
    #[error("the carriers cannot hold the pool of {0} bytes")]
    Carriers(u64),
}

/// Where each part of a converted file goes. Positions count from the start of the file, offsets from the start of the pool.
#[derive(Debug)]
pub struct Layout {
    /// The file up to its data section, padding included.
    pub header: Vec<u8>,
    /// Per tensor of the original, where its bytes go.
    pub places: Vec<Place>,
    pub pool_position: u64,
    /// Bytes of the pool that mean something.
    pub pool_len: u64,
    pub index_len: u64,
    pub carriers: u32,
    pub remainder: Option<Extent>,
    pub file_len: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Plain {
        position: u64,
    },
    Blob {
        /// From the start of the first carrier.
        carrier_offset: u64,
        extent: Extent,
    },
}

/// What is known of a converted file before its blobs are: everything up to the pool, and where the first blob may go.
#[derive(Debug)]
pub struct Ground {
    keys: Vec<u8>,
    header_len: u64,
    data_start: u64,
    /// Per tensor that stays plain, where it goes.
    plain: Vec<u64>,
    pub pool_position: u64,
    index_len: u64,
    /// Where the pool is free.
    offset: u64,
}

impl Ground {
    /// `compressed` says of each tensor of the original whether it becomes a carrier; `writer` names the program.
    ///
    /// # Errors
    /// If nothing is compressed, or sizes overflow.
    pub fn new(original: &Gguf, compressed: &[bool], writer: &str) -> Result<Self, LayoutError> {
        assert_eq!(compressed.len(), original.tensors.len(), "one fate per tensor");
        let tensors = || original.tensors.iter().zip(compressed.iter().copied());
        let mut blobs = tensors().filter(|(_, compressed)| *compressed);
        let (first, _) = blobs.next().ok_or(LayoutError::NothingToCompress)?;

        let mut keys = Vec::new();
        push_u32(&mut keys, KEY_VERSION, VERSION);
        push_string(&mut keys, KEY_WRITER, writer);
        push_string(&mut keys, KEY_POOL_TENSOR, first.name);
        push_u32(&mut keys, KEY_POOL_CARRIERS, 1 + blobs.count() as u32);
        let infos: u64 = original.tensors.iter().map(|tensor| info_bytes(tensor.name, &tensor.dims)).sum();
        let header_len = original.metadata_len + keys.len() as u64 + infos;
        let data_start = align(header_len, original.alignment).ok_or(LayoutError::Overflow)?;

        let mut position = data_start;
        let mut plain = Vec::new();
        for (tensor, _) in tensors().filter(|(_, compressed)| !compressed) {
            plain.push(position);
            position = advance(position, tensor.len, original.alignment)?;
        }
        let index_len =
            index_bytes(tensors().map(|(tensor, compressed)| (tensor.name, &tensor.dims, compressed)));
        let offset = HEADER_BYTES + index_len;
        Ok(Self { keys, header_len, data_start, plain, pool_position: position, index_len, offset })
    }

    /// Where the next blob begins, from the start of the pool.
    ///
    /// # Errors
    /// If it is beyond 64 bits.
    pub fn next_blob(&self) -> Result<u64, LayoutError> {
        let position = self.pool_position.checked_add(self.offset).and_then(|p| align(p, BLOB_ALIGNMENT));
        Ok(position.ok_or(LayoutError::Overflow)? - self.pool_position)
    }

    /// Gives `len` bytes to the next blob.
    ///
    /// # Errors
    /// If its end is beyond 64 bits.
    pub fn place(&mut self, len: u64) -> Result<Extent, LayoutError> {
        let offset = self.next_blob()?;
        self.offset = offset.checked_add(len).ok_or(LayoutError::Overflow)?;
        Ok(Extent { offset, len })
    }
}

impl Layout {
    /// Lays out the converted file of `original`: `fates` has one entry per tensor, `remainder_len` is 0 where there is none, and
    /// `writer` names the program. Blobs go where [`Ground::place`] puts them, in the order of the tensors.
    ///
    /// # Errors
    /// If nothing is compressed, or sizes overflow.
    pub fn plan(
        original: &Gguf,
        fates: &[Fate],
        remainder_len: u64,
        writer: &str,
    ) -> Result<Self, LayoutError> {
        let compressed: Vec<bool> = fates.iter().map(|fate| *fate != Fate::Plain).collect();
        let mut ground = Ground::new(original, &compressed, writer)?;
        let alignment = original.alignment;
        let tensors = || original.tensors.iter().zip(fates);

        let mut extents = Vec::new();
        for fate in fates {
            if let Fate::Blob(len) = *fate {
                extents.push(ground.place(len)?);
            }
        }
        let remainder = if remainder_len > 0 { Some(ground.place(remainder_len)?) } else { None };
        let Ground { keys, header_len, data_start, plain, pool_position, index_len, offset: pool_len } =
            ground;

        let elements: Vec<u64> = tensors()
            .filter(|(_, fate)| **fate != Fate::Plain)
            .map(|(tensor, _)| tensor.dims.elements().ok_or(LayoutError::Overflow))
            .collect::<Result<_, _>>()?;
        let types =
            carriers::choose(&elements, alignment, pool_len).ok_or(LayoutError::Carriers(pool_len))?;

        let mut header = Vec::with_capacity(data_start as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&original.version.to_le_bytes());
        header.extend_from_slice(&(original.tensors.len() as u64).to_le_bytes());
        header.extend_from_slice(&(original.kv.len() as u64 + KEYS).to_le_bytes());
        for pair in &original.kv {
            header.extend_from_slice(pair.raw);
        }
        header.extend_from_slice(&keys);

        let mut places = vec![Place::Plain { position: 0 }; fates.len()];
        let mut plain = plain.into_iter();
        for (i, (tensor, fate)) in tensors().enumerate() {
            if *fate == Fate::Plain {
                let position = plain.next().expect("one position per plain tensor");
                push_info(&mut header, tensor.name, &tensor.dims, tensor.ty, position - data_start);
                places[i] = Place::Plain { position };
            }
        }
        let mut position = pool_position;
        let mut blob_plan = types.iter().zip(extents);
        for (i, (tensor, fate)) in tensors().enumerate() {
            if *fate != Fate::Plain {
                let (&ty, extent) = blob_plan.next().expect("one type and extent per blob");
                push_info(&mut header, tensor.name, &tensor.dims, ty, position - data_start);
                places[i] = Place::Blob { carrier_offset: position - pool_position, extent };
                position = advance(position, bytes_of(tensor.dims.elements(), ty)?, alignment)?;
            }
        }
        debug_assert_eq!(header.len() as u64, header_len);
        header.resize(data_start as usize, 0);
        let carriers = types.len() as u32;
        Ok(Self {
            header,
            places,
            pool_position,
            pool_len,
            index_len,
            carriers,
            remainder,
            file_len: position,
        })
    }
}

fn bytes_of(elements: Option<u64>, ty: TensorType) -> Result<u64, LayoutError> {
    elements.and_then(|n| n.checked_mul(ty.block_bytes())).ok_or(LayoutError::Overflow)
}

fn advance(position: u64, len: u64, alignment: u64) -> Result<u64, LayoutError> {
    position.checked_add(len).and_then(|end| align(end, alignment)).ok_or(LayoutError::Overflow)
}
