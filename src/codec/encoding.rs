use super::constants::{CODE3_BYTES, CODE4_BYTES};

/// How a tensor is coded; the numbers are the ids in the index.
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
