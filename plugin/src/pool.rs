//! A mapped pool, opened once: every blob checked against the index.

use std::collections::HashMap;

use unweight::codec::Shape;
use unweight::container::gguf::Dims;
use unweight::container::pool::{Index, Stored};
use unweight::kernel::Tensor;

/// A compressed weight: what the `extra` of its carrier points to.
pub struct Weight {
    pub tensor: Tensor<'static>,
    dims: Dims,
    carrier_offset: u64,
}

impl Weight {
    /// True if this is the weight for a carrier of this shape (four extents) at this offset in the pool.
    pub fn belongs_to(&self, extents: &[i64; 4], offset: u64) -> bool {
        let dims = self.dims.as_slice().iter().copied().chain(std::iter::repeat(1));
        self.carrier_offset == offset
            && extents.iter().zip(dims).all(|(&extent, dim)| u64::try_from(extent) == Ok(dim))
    }
}

/// The weights of one mapped file.
pub struct Pool {
    weights: HashMap<String, Weight>,
}

impl Pool {
    /// # Errors
    /// If the bytes are no pool of this version, or one of its blobs is damaged or of an unknown encoding.
    pub fn open(bytes: &'static [u8]) -> Result<Self, String> {
        let (_, index) = Index::parse(bytes).map_err(|error| error.to_string())?;
        let mut weights = HashMap::with_capacity(index.entries.len());
        for entry in index.entries {
            let Stored::Blob { encoding, carrier_offset, extent, .. } = entry.stored else { continue };
            let blob = &bytes[extent.offset as usize..(extent.offset + extent.len) as usize];
            let shape = Shape::of(&entry.dims)
                .ok_or_else(|| format!("tensor {:?}: its shape overflows", entry.name))?;
            let tensor = Tensor::open_as(encoding, blob, shape)
                .map_err(|error| format!("tensor {:?}: {error}", entry.name))?;
            weights.insert(entry.name, Weight { tensor, dims: entry.dims, carrier_offset });
        }
        Ok(Self { weights })
    }

    pub fn weight(&self, name: &str) -> Option<&Weight> {
        self.weights.get(name)
    }
}
