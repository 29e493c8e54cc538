use super::constants::{BLOCK, CODE3_BYTES, CODE4_BYTES, HEADER_BYTES, SEGMENT_BLOCKS, SEGMENT_ROWS};
use crate::container::align;
use crate::container::gguf::Dims;

/// How a blob is coded; the numbers are the ids in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Encoding {
    /// BF16, 3-bit codes: a palette of 8 high bytes.
    Bf16Palette8 = 1,
    /// BF16, 4-bit codes: a palette of 16 high bytes.
    Bf16Palette16 = 2,
}

impl Encoding {
    pub const ALL: [Self; 2] = [Self::Bf16Palette8, Self::Bf16Palette16];

    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.id() == id)
    }

    pub fn id(self) -> u32 {
        self as u32
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16Palette8 => "bf16-palette8",
            Self::Bf16Palette16 => "bf16-palette16",
        }
    }

    pub(crate) fn code_bits(self) -> u8 {
        match self {
            Self::Bf16Palette8 => 3,
            Self::Bf16Palette16 => 4,
        }
    }

    /// High bytes in a full palette.
    pub(super) fn palette_len(self) -> usize {
        1 << self.code_bits()
    }

    /// Bytes of a block's codes.
    pub(super) fn code_bytes(self) -> u64 {
        match self {
            Self::Bf16Palette8 => CODE3_BYTES,
            Self::Bf16Palette16 => CODE4_BYTES,
        }
    }
}

/// Rows of weights, whatever the number of dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Weights in a row.
    pub k: u64,
    pub rows: u64,
}

impl Shape {
    /// A tensor of these dimensions as rows; `None` beyond 64 bits.
    pub fn of(dims: &Dims) -> Option<Self> {
        Some(Self { k: dims.row(), rows: dims.rows()? })
    }

    /// Blocks in a row.
    pub fn blocks(self) -> u64 {
        self.k.div_ceil(BLOCK)
    }

    /// Rows in a segment: a power of two.
    pub fn segment_rows(self) -> u64 {
        let mut rows = SEGMENT_ROWS;
        while rows > 1 && self.blocks() > SEGMENT_BLOCKS / rows {
            rows /= 2;
        }
        rows
    }

    pub fn segments(self) -> u64 {
        self.rows.div_ceil(self.segment_rows())
    }
}

/// Where the regions of a blob begin, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLayout {
    pub low: u64,
    pub codes: u64,
    pub starts: u64,
    pub escapes: u64,
    /// Length of the blob.
    pub len: u64,
}

impl BlobLayout {
    /// Only `len` depends on the number of escapes. `None` if a size is beyond 64 bits.
    pub fn new(encoding: Encoding, shape: Shape, escapes: u64) -> Option<Self> {
        let blocks = shape.blocks().checked_mul(shape.rows)?;
        let mut end = HEADER_BYTES;
        let mut region = |bytes: u64| {
            let start = end;
            end = align(start.checked_add(bytes)?, 64)?;
            Some(start)
        };
        Some(Self {
            low: region(blocks.checked_mul(BLOCK)?)?,
            codes: region(blocks.checked_mul(encoding.code_bytes())?)?,
            starts: region(shape.segments().checked_mul(4)?)?,
            escapes: region(escapes.checked_mul(2)?)?,
            len: end,
        })
    }
}
