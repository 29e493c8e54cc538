use super::constants::{BLOCK, SEGMENT_BLOCKS, SEGMENT_ROWS};

/// Rows of weights, whatever the number of dimensions: of a tensor, or of a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Weights in a row.
    pub k: u64,
    pub rows: u64,
}

impl Shape {
    /// Weights, and bytes of the home; `None` beyond 64 bits.
    pub fn weights(self) -> Option<u64> {
        self.k.checked_mul(self.rows)
    }

    /// Rows in a segment: a power of two.
    pub fn segment_rows(self) -> u64 {
        let mut rows = SEGMENT_ROWS;
        while rows > 1 && self.k > SEGMENT_BLOCKS * BLOCK / rows {
            rows /= 2;
        }
        rows
    }

    pub fn segments(self) -> u64 {
        self.rows.div_ceil(self.segment_rows())
    }

    /// Blocks of a segment that has `rows` rows, at most [`Shape::segment_rows`].
    pub fn segment_blocks(self, rows: u64) -> u64 {
        (rows * self.k).div_ceil(BLOCK)
    }

    /// Blocks of all segments; `None` beyond 64 bits.
    pub fn blocks(self) -> Option<u64> {
        let (whole, left) = (self.rows / self.segment_rows(), self.rows % self.segment_rows());
        whole.checked_mul(self.segment_blocks(self.segment_rows()))?.checked_add(self.segment_blocks(left))
    }
}
