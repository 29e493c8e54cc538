use super::Number;
use super::constants::{CODE3_BYTES, CODE4_BYTES, CODE6_BYTES};

/// How a tensor is coded; the numbers are the ids in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Encoding {
    /// Stored as BF16, 3-bit codes: a palette of 8 high bytes.
    Bf16Palette8 = 1,
    /// Stored as BF16, 4-bit codes: a palette of 16 high bytes.
    Bf16Palette16 = 2,
    /// Stored as F16, 3-bit codes for the upper 5 bits: a palette of 8 of these.
    F16Palette8 = 3,
    /// F32: the upper half as in [`Self::Bf16Palette8`].
    F32Palette8 = 4,
    /// F32: the upper half as in [`Self::Bf16Palette16`].
    F32Palette16 = 5,
}

impl Encoding {
    pub const ALL: [Self; 5] =
        [Self::Bf16Palette8, Self::Bf16Palette16, Self::F16Palette8, Self::F32Palette8, Self::F32Palette16];

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
            Self::F16Palette8 => "f16-palette8",
            Self::F32Palette8 => "f32-palette8",
            Self::F32Palette16 => "f32-palette16",
        }
    }

    /// What the weights are stored as.
    pub fn stored(self) -> Number {
        match self {
            Self::Bf16Palette8 | Self::Bf16Palette16 => Number::Bf16,
            Self::F16Palette8 => Number::F16,
            Self::F32Palette8 | Self::F32Palette16 => Number::F32,
        }
    }

    /// True if a tensor of these numbers may be stored so: they are of this kind, or of a wider one of which they use no more.
    pub fn takes(self, original: Number) -> bool {
        self.stored().may_be(original)
    }

    pub(crate) fn code_bits(self) -> u8 {
        match self {
            Self::Bf16Palette8 | Self::F16Palette8 | Self::F32Palette8 => 3,
            Self::Bf16Palette16 | Self::F32Palette16 => 4,
        }
    }

    /// High bytes in a full palette.
    pub(super) fn palette_len(self) -> usize {
        1 << self.code_bits()
    }

    /// Bytes of a block's codes, and of the bits that stand with them.
    pub(super) fn code_bytes(self) -> u64 {
        match self {
            Self::Bf16Palette8 | Self::F32Palette8 => CODE3_BYTES,
            Self::Bf16Palette16 | Self::F32Palette16 => CODE4_BYTES,
            Self::F16Palette8 => CODE6_BYTES,
        }
    }

    /// Bytes of each weight that follow the codes of its segment as they are.
    pub(super) fn word_bytes(self) -> u64 {
        match self.stored() {
            Number::Bf16 | Number::F16 => 0,
            Number::F32 => 2,
        }
    }

    /// In the high byte of a stored word, the bits that are coded; the others stand beside the code.
    pub(super) fn coded_bits(self) -> u8 {
        match self.stored() {
            Number::Bf16 | Number::F32 => 0xFF,
            Number::F16 => 0xF8,
        }
    }

    /// What is added to a word so that its exponent is one higher.
    pub(super) fn exponent_step(self) -> u16 {
        match self.stored() {
            Number::Bf16 | Number::F32 => 1 << 7,
            Number::F16 => 1 << 10,
        }
    }
}
