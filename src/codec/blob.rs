use super::constants::{BLOCK, CODE3_BYTES, CODE4_BYTES, ESCAPE_TAIL, GROUP, HEADER_BYTES};
use crate::container::align;
use crate::container::gguf::Dims;

/// How a blob is coded; the numbers are the ids in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Encoding {
    /// BF16, 3-bit codes: a palette of 7 exponents.
    Bf16Palette7 = 1,
    /// BF16, 4-bit codes: a palette of 15 exponents.
    Bf16Palette15 = 2,
}

impl Encoding {
    pub const ALL: [Self; 2] = [Self::Bf16Palette7, Self::Bf16Palette15];

    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.id() == id)
    }

    pub fn id(self) -> u32 {
        self as u32
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16Palette7 => "bf16-palette7",
            Self::Bf16Palette15 => "bf16-palette15",
        }
    }

    pub(crate) fn code_bits(self) -> u8 {
        match self {
            Self::Bf16Palette7 => 3,
            Self::Bf16Palette15 => 4,
        }
    }

    /// Exponents in a full palette; also the code of an escape.
    pub(super) fn palette_len(self) -> usize {
        (1 << self.code_bits()) - 1
    }

    /// Bytes of a block's codes.
    pub(super) fn code_bytes(self) -> u64 {
        match self {
            Self::Bf16Palette7 => CODE3_BYTES,
            Self::Bf16Palette15 => CODE4_BYTES,
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
}

/// Where the regions of a blob begin, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLayout {
    pub sign_mantissa: u64,
    pub codes: u64,
    pub coarse: u64,
    pub fine: u64,
    pub escapes: u64,
    /// Length of the blob.
    pub len: u64,
}

impl BlobLayout {
    /// `None` if a size is beyond 64 bits.
    pub fn new(encoding: Encoding, shape: Shape, escapes: u64) -> Option<Self> {
        let blocks = shape.blocks().checked_mul(shape.rows)?;
        let mut end = HEADER_BYTES;
        let mut region = |bytes: u64| {
            let start = end;
            end = align(start.checked_add(bytes)?, 64)?;
            Some(start)
        };
        Some(Self {
            sign_mantissa: region(blocks.checked_mul(BLOCK)?)?,
            codes: region(blocks.checked_mul(encoding.code_bytes())?)?,
            coarse: region(shape.rows.div_ceil(GROUP).checked_mul(4)?)?,
            fine: region(shape.rows.checked_mul(2)?)?,
            escapes: region(escapes.checked_add(ESCAPE_TAIL)?)?,
            len: end,
        })
    }
}
