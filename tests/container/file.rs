//! GGUF files, written byte by byte with nothing of the library's writer.

use std::fmt;

use unweight::container::gguf::{Gguf, TensorType};

/// A metadata value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Type id and bytes of a value of fixed size, or of any other, ready made.
    Scalar(u32, Vec<u8>),
    String(String),
    /// Type id of the items, and the items.
    Array(u32, Vec<Value>),
}

pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;

impl Value {
    pub fn u32(value: u32) -> Self {
        Self::Scalar(4, value.to_le_bytes().to_vec())
    }

    pub fn ty(&self) -> u32 {
        match self {
            Self::Scalar(ty, _) => *ty,
            Self::String(_) => STRING,
            Self::Array(..) => ARRAY,
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Scalar(_, bytes) => bytes.clone(),
            Self::String(text) => string(text),
            Self::Array(item, items) => {
                let items_bytes = items.iter().flat_map(Value::to_bytes);
                let count = (items.len() as u64).to_le_bytes();
                item.to_le_bytes().into_iter().chain(count).chain(items_bytes).collect()
            }
        }
    }
}

/// Bytes of a scalar of each value type.
pub const SCALARS: [(u32, usize); 11] =
    [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8)];

pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub ty: u32,
    pub dims: Vec<u64>,
    /// In the data section.
    pub offset: u64,
    pub data: Vec<u8>,
}

impl Tensor {
    /// A tensor at offset 0, its data drawn from `seed`.
    pub fn new(name: &str, ty: TensorType, dims: &[u64], seed: u64) -> Self {
        let elements: u64 = dims.iter().product();
        let len = elements / ty.block() * ty.block_bytes();
        Self { name: name.to_owned(), ty: ty.id(), dims: dims.to_vec(), offset: 0, data: noise(len, seed) }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { name, ty, dims, offset, data } = self;
        write!(f, "{name:?} type {ty} {dims:?} at {offset}, {} bytes", data.len())
    }
}

/// `len` bytes that, read as BF16, have few exponents and now and then any.
fn noise(len: u64, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut weight = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = (state >> 40) as u16;
        let exponent = 115 + (state >> 33 & 7) as u16;
        if (state >> 58).is_multiple_of(16) { bits } else { bits & 0x807F | exponent << 7 }.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(2)).flat_map(|_| weight()).collect();
    bytes.truncate(len as usize);
    bytes
}

/// A whole file.
#[derive(Debug, Clone)]
pub struct File {
    pub version: u32,
    pub kv: Vec<(String, Value)>,
    /// In the order of the tensor infos.
    pub tensors: Vec<Tensor>,
    /// What stands where nothing else does.
    pub filler: u8,
    /// Bytes after the last tensor.
    pub trailing: usize,
}

impl File {
    pub const DEFAULT_ALIGNMENT: u64 = 32;

    /// A file of these tensors, one after the other.
    pub fn of(tensors: Vec<Tensor>) -> Self {
        let kv = vec![("general.name".to_owned(), Value::String("a name".to_owned()))];
        let mut file = Self { version: 3, kv, tensors, filler: 0, trailing: 0 };
        let order: Vec<_> = (0..file.tensors.len()).map(|i| (i, 0)).collect();
        file.place(&order);
        file
    }

    /// A valid file, taken apart. What lies between its tensors is lost.
    pub fn read(bytes: &[u8]) -> Self {
        let gguf = Gguf::parse(bytes).unwrap();
        let kv = gguf.kv.iter().map(|kv| (kv.key.to_owned(), Value::Scalar(kv.ty, kv.value.to_vec())));
        let tensors = gguf.tensors.iter().map(|tensor| Tensor {
            name: tensor.name.to_owned(),
            ty: tensor.ty.id(),
            dims: tensor.dims.as_slice().to_vec(),
            offset: tensor.offset,
            data: gguf.bytes(tensor).to_vec(),
        });
        Self { version: gguf.version, kv: kv.collect(), tensors: tensors.collect(), filler: 0, trailing: 0 }
    }

    pub fn with_kv(mut self, key: &str, value: Value) -> Self {
        self.kv.push((key.to_owned(), value));
        self
    }

    /// Puts the tensors one after the other in this order, each behind a gap of so many times the alignment.
    pub fn place(&mut self, order: &[(usize, u64)]) {
        let mut end = 0u64;
        for &(i, gap) in order {
            let alignment = self.alignment();
            self.tensors[i].offset = end.next_multiple_of(alignment) + gap * alignment;
            end = self.tensors[i].offset + self.tensors[i].data.len() as u64;
        }
    }

    pub fn alignment(&self) -> u64 {
        let value = self.kv.iter().find(|(key, _)| key == "general.alignment").map(|(_, value)| value);
        match value {
            Some(Value::Scalar(4, bytes)) => u64::from(u32::from_le_bytes(bytes[..].try_into().unwrap())),
            _ => Self::DEFAULT_ALIGNMENT,
        }
    }

    /// The file up to its first tensor info.
    pub fn metadata(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.kv.len() as u64).to_le_bytes());
        for (key, value) in &self.kv {
            out.extend(string(key));
            out.extend(value.ty().to_le_bytes());
            out.extend(value.to_bytes());
        }
        out
    }

    /// The file up to the end of its last tensor info.
    pub fn header(&self) -> Vec<u8> {
        let mut out = self.metadata();
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|extent| extent.to_le_bytes()));
            out.extend(tensor.ty.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        let start = out.len().next_multiple_of(self.alignment() as usize);
        out.resize(start, self.filler);
        for tensor in self.tensors.iter().filter(|tensor| !tensor.data.is_empty()) {
            let at = start + tensor.offset as usize;
            out.resize(out.len().max(at + tensor.data.len()), self.filler);
            out[at..at + tensor.data.len()].copy_from_slice(&tensor.data);
        }
        out.resize(out.len() + self.trailing, self.filler);
        out
    }
}
