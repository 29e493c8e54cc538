//! The tensor types that ggml knows, and how many bytes they take.

use std::fmt;

/// A ggml type id that is in the table below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorType(u32);

struct Row {
    id: u32,
    name: &'static str,
    /// Elements in a block.
    block: u64,
    /// Bytes of a block.
    bytes: u64,
}

const fn row(id: u32, name: &'static str, block: u64, bytes: u64) -> Row {
    Row { id, name, block, bytes }
}

/// ggml 0.28 (`ggml_type_name`, `ggml_blck_size`, `ggml_type_size`). Ids missing here were removed upstream.
const TYPES: &[Row] = &[
    row(0, "F32", 1, 4),
    row(1, "F16", 1, 2),
    row(2, "Q4_0", 32, 18),
    row(3, "Q4_1", 32, 20),
    row(6, "Q5_0", 32, 22),
    row(7, "Q5_1", 32, 24),
    row(8, "Q8_0", 32, 34),
    row(9, "Q8_1", 32, 36),
    row(10, "Q2_K", 256, 84),
    row(11, "Q3_K", 256, 110),
    row(12, "Q4_K", 256, 144),
    row(13, "Q5_K", 256, 176),
    row(14, "Q6_K", 256, 210),
    row(15, "Q8_K", 256, 292),
    row(16, "IQ2_XXS", 256, 66),
    row(17, "IQ2_XS", 256, 74),
    row(18, "IQ3_XXS", 256, 98),
    row(19, "IQ1_S", 256, 50),
    row(20, "IQ4_NL", 32, 18),
    row(21, "IQ3_S", 256, 110),
    row(22, "IQ2_S", 256, 82),
    row(23, "IQ4_XS", 256, 136),
    row(24, "I8", 1, 1),
    row(25, "I16", 1, 2),
    row(26, "I32", 1, 4),
    row(27, "I64", 1, 8),
    row(28, "F64", 1, 8),
    row(29, "IQ1_M", 256, 56),
    row(30, "BF16", 1, 2),
    row(34, "TQ1_0", 256, 54),
    row(35, "TQ2_0", 256, 66),
    row(39, "MXFP4", 32, 17),
    row(40, "NVFP4", 64, 36),
    row(41, "Q1_0", 128, 18),
    row(42, "Q2_0", 64, 18),
    row(43, "F8_E4M3", 1, 1),
];

impl TensorType {
    pub const F32: Self = Self(0);
    pub const F16: Self = Self(1);
    pub const Q8_0: Self = Self(8);
    pub const I8: Self = Self(24);
    pub const I16: Self = Self(25);
    pub const I64: Self = Self(27);
    pub const BF16: Self = Self(30);

    /// The type with this id; `None` if ggml 0.28 has none.
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.iter().any(|row| row.id == id).then_some(Self(id))
    }

    pub fn id(self) -> u32 {
        self.0
    }

    fn row(self) -> &'static Row {
        TYPES.iter().find(|row| row.id == self.0).expect("a TensorType is made from the table")
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Elements in a block; the row length of a tensor is a multiple of it.
    pub fn block(self) -> u64 {
        self.row().block
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> u64 {
        self.row().bytes
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
