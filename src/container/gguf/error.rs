use thiserror::Error;

/// Why bytes are not a GGUF that this crate accepts. `at` is a byte position in the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GgufError {
    #[error("not a GGUF file: it does not begin with the letters GGUF")]
    Magic,
    #[error("a big-endian GGUF file; only little-endian files are supported")]
    BigEndian,
    #[error("GGUF version {0}; versions 2 and 3 are supported")]
    Version(u32),
    #[error("{count} {what}, which no model has")]
    TooMany { what: &'static str, count: u64 },
    #[error("the file is truncated: it ends inside {what} that begins at byte {at}")]
    Truncated { what: &'static str, at: u64 },
    #[error("metadata key {key:?}: {what}")]
    Key { key: String, what: &'static str },
    #[error("a metadata key at byte {at} is not UTF-8")]
    KeyEncoding { at: u64 },
    #[error("metadata key {key:?} has the unknown value type {ty}")]
    ValueType { key: String, ty: u32 },
    #[error("metadata key {0:?} stands twice in the file")]
    DuplicateKey(String),
    #[error("general.alignment is {0}, which is not a power of two that fits the file")]
    Alignment(u64),
    #[error("a tensor name at byte {at} is not UTF-8")]
    TensorName { at: u64 },
    #[error("tensor {0:?} stands twice in the file")]
    DuplicateTensor(String),
    #[error("tensor {name:?} has {count} dimensions; 4 are the most")]
    Dimensions { name: String, count: u32 },
    #[error("tensor {name:?} has the type id {id}, which ggml does not know")]
    TensorType { name: String, id: u32 },
    #[error("tensor {name:?}: a size of {dims:?} is not possible for type {ty}")]
    Shape { name: String, dims: Vec<u64>, ty: &'static str },
    #[error(
        "tensor {name:?} begins at offset {offset}, which is not a multiple of the alignment {alignment}"
    )]
    Unaligned { name: String, offset: u64, alignment: u64 },
    #[error("the file is truncated: tensor {name:?} needs bytes {start} to {end}, the file has {len}")]
    TensorBeyondEnd { name: String, start: u64, end: u128, len: u64 },
    #[error("tensors {first:?} and {second:?} overlap")]
    Overlap { first: String, second: String },
}
