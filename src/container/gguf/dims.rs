//! The shape of a tensor.

use std::fmt;

use super::TensorType;

/// Up to four dimensions, the innermost (row length) first. None is one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dims {
    extent: [u64; 4],
    count: u8,
}

impl Dims {
    pub const MAX: usize = 4;

    /// `None` for more than four dimensions.
    pub fn new(dims: &[u64]) -> Option<Self> {
        if dims.len() > Self::MAX {
            return None;
        }
        let mut extent = [1; 4];
        extent[..dims.len()].copy_from_slice(dims);
        Some(Self { extent, count: dims.len() as u8 })
    }

    pub fn as_slice(&self) -> &[u64] {
        &self.extent[..usize::from(self.count)]
    }

    /// Weights in a row.
    pub fn row(&self) -> u64 {
        self.extent[0]
    }

    /// Product of all dimensions but the first; `None` beyond 64 bits.
    pub fn rows(&self) -> Option<u64> {
        self.extent[1..].iter().try_fold(1u64, |product, &extent| product.checked_mul(extent))
    }

    /// Product of all dimensions; `None` beyond 64 bits.
    pub fn elements(&self) -> Option<u64> {
        self.rows()?.checked_mul(self.row())
    }

    /// Bytes that a tensor of this shape takes; `None` beyond 64 bits or if a row is not a whole number of blocks.
    pub fn bytes(&self, ty: TensorType) -> Option<u64> {
        if !self.row().is_multiple_of(ty.block()) {
            return None;
        }
        (self.elements()? / ty.block()).checked_mul(ty.block_bytes())
    }
}

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, extent) in self.as_slice().iter().enumerate() {
            if i > 0 {
                f.write_str(" × ")?;
            }
            write!(f, "{extent}")?;
        }
        Ok(())
    }
}
