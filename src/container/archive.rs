//! The archive form: a GGUF with one tensor, in which a whole file stands, coded for the fewest bytes. docs/ARCHIVE.md has the bytes.

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::align;
use super::cursor::{Cursor, EndOfBytes};
use super::gguf::value::{push_string, push_u32};
use super::gguf::{Dims, Gguf, MAGIC as GGUF_MAGIC, TensorType, push_info};
use crate::codec::Number;

/// The tensor that holds everything.
pub const TENSOR: &str = "unweight.archive";
const KEY_VERSION: &str = "unweight.archive.version";
const KEY_WRITER: &str = "unweight.writer";
pub const VERSION: u32 = 1;
/// What llama.cpp says that it does not know, so that it says what to do.
const ARCHITECTURE: &str =
    "unweight-archive, which runs after: unweight-gguf restore ARCHIVE.gguf MODEL.gguf";
/// Keys of the original that stand in the archive, too, so that others can tell what it holds.
const SHOWN: [&str; 4] = ["general.name", "general.basename", "general.size_label", "general.license"];
const ALIGNMENT: u64 = 32;

/// The first bytes of the tensor.
pub const HEAD_BYTES: u64 = 64;
const MAGIC: &[u8; 8] = b"UWARCHIV";
const CHECKSUM_AT: usize = 56;

/// Bytes of the original that a chunk may hold: it is decoded in one piece.
pub const MOST_CHUNK_BYTES: u64 = 1 << 24;

/// What an archive holds, and how. What it does not say is told by the original's own header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Length of the original file in bytes.
    pub original_len: u64,
    pub original_blake3: [u8; 32],
    /// Metadata and tensor infos of the original: their length, and that of the zstd frame which they are in.
    pub header_len: u64,
    pub header_frame: u64,
    /// Length of the zstd frame of what stands between the tensors; 0 where that is zeros.
    pub gaps_frame: u64,
    /// Of the tensors that have bytes, in the order of their data.
    pub entries: Vec<Entry>,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of its original bytes.
    pub xxh3: u64,
    pub coding: Coding,
    /// In bytes.
    pub model: u32,
    /// Length of each chunk in bytes.
    pub chunks: Vec<u32>,
}

/// How the bytes of a tensor are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As they are, in one chunk for each [`MOST_CHUNK_BYTES`].
    Stored,
    /// Weights in rows of `k`, as such numbers, so many rows to a chunk.
    Weights { number: Number, k: u64, rows: u64 },
    /// Records of so many bytes, so many of them to a chunk.
    Records { width: u64, records: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArchiveError {
    #[error("version {0} of the archive form; this program reads version {VERSION}")]
    Version(u32),
    #[error("the tensor {TENSOR:?} of this archive is damaged at its beginning")]
    Head,
    #[error("the index of this archive is damaged")]
    Index,
    #[error("the index of this archive contradicts itself: {0}")]
    Contradiction(&'static str),
}

use ArchiveError::Contradiction;

/// True for an archive, whatever its state.
pub fn is_archive(gguf: &Gguf) -> bool {
    gguf.tensor(TENSOR).is_some()
}

/// The header of an archive of `original` whose tensor has `len` bytes, padded to where they begin; its length does not depend on `len`.
pub fn shell(original: &Gguf, writer: &str, len: u64) -> Vec<u8> {
    let shown: Vec<_> = SHOWN.iter().filter_map(|key| Some((*key, original.text(key)?))).collect();
    let mut out = Vec::new();
    out.extend_from_slice(GGUF_MAGIC);
    out.extend_from_slice(&3u32.to_le_bytes());
    out.extend_from_slice(&1u64.to_le_bytes());
    out.extend_from_slice(&(3 + shown.len() as u64).to_le_bytes());
    push_string(&mut out, "general.architecture", ARCHITECTURE);
    shown.iter().for_each(|(key, value)| push_string(&mut out, key, value));
    push_u32(&mut out, KEY_VERSION, VERSION);
    push_string(&mut out, KEY_WRITER, writer);
    let dims = Dims::new(&[len]).expect("one dimension");
    push_info(&mut out, TENSOR, &dims, TensorType::I8, 0);
    out.resize(align(out.len() as u64, ALIGNMENT).expect("a header is small") as usize, 0);
    out
}

/// Where the index stands in the tensor.
struct Head {
    index_at: u64,
    index_len: u64,
    index_xxh3: u64,
}

impl Head {
    fn to_bytes(&self) -> [u8; HEAD_BYTES as usize] {
        let mut bytes = Vec::with_capacity(HEAD_BYTES as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        for value in [self.index_at, self.index_len, self.index_xxh3] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.resize(CHECKSUM_AT, 0);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        std::array::from_fn(|i| bytes[i])
    }

    fn parse(tensor: &[u8]) -> Result<Self, ArchiveError> {
        let head = tensor.get(..HEAD_BYTES as usize).ok_or(ArchiveError::Head)?;
        let mut cursor = Cursor::new(head);
        let short = |_: EndOfBytes| ArchiveError::Head;
        if cursor.array().map_err(short)? != *MAGIC {
            return Err(ArchiveError::Head);
        }
        let version = cursor.u32().map_err(short)?;
        let reserved = cursor.u32().map_err(short)?;
        let found = Self {
            index_at: cursor.u64().map_err(short)?,
            index_len: cursor.u64().map_err(short)?,
            index_xxh3: cursor.u64().map_err(short)?,
        };
        // A later version may have its checksum elsewhere.
        if version != VERSION {
            return Err(ArchiveError::Version(version));
        }
        if reserved != 0 || found.to_bytes() != head {
            return Err(ArchiveError::Head);
        }
        Ok(found)
    }
}

impl Index {
    /// The index, and the head of the tensor in which it stands at `at`.
    pub fn to_bytes(&self, at: u64) -> (Vec<u8>, [u8; HEAD_BYTES as usize]) {
        let mut out = Vec::new();
        out.extend_from_slice(&self.original_len.to_le_bytes());
        out.extend_from_slice(&self.original_blake3);
        for value in [self.header_len, self.header_frame, self.gaps_frame, self.entries.len() as u64] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        self.entries.iter().for_each(|entry| entry.push(&mut out));
        let head = Head { index_at: at, index_len: out.len() as u64, index_xxh3: xxh3_64(&out) };
        (out, head.to_bytes())
    }

    /// The index of the tensor of an archive.
    ///
    /// # Errors
    /// If it is damaged, or its parts do not lie one behind the other from the head to the index, which ends the tensor.
    pub fn parse(tensor: &[u8]) -> Result<Self, ArchiveError> {
        let head = Head::parse(tensor)?;
        let at = usize::try_from(head.index_at).map_err(|_| ArchiveError::Index)?;
        let bytes = tensor.get(at..).filter(|bytes| bytes.len() as u64 == head.index_len);
        let bytes = bytes.filter(|bytes| xxh3_64(bytes) == head.index_xxh3).ok_or(ArchiveError::Index)?;
        let short = |_: EndOfBytes| ArchiveError::Index;
        let mut cursor = Cursor::new(bytes);
        let mut index = Self {
            original_len: cursor.u64().map_err(short)?,
            original_blake3: cursor.array().map_err(short)?,
            header_len: cursor.u64().map_err(short)?,
            header_frame: cursor.u64().map_err(short)?,
            gaps_frame: cursor.u64().map_err(short)?,
            entries: Vec::new(),
        };
        for _ in 0..cursor.u64().map_err(short)? {
            index.entries.push(Entry::parse(&mut cursor)?);
        }
        if cursor.remaining() > 0 {
            return Err(Contradiction("bytes behind its last entry"));
        }
        match index.parts_len() {
            Some(len) if HEAD_BYTES.checked_add(len) == Some(head.index_at) => Ok(index),
            _ => Err(Contradiction("its parts are longer or shorter than what is there")),
        }
    }

    /// Bytes of all that stands between head and index.
    fn parts_len(&self) -> Option<u64> {
        let frames = self.header_frame.checked_add(self.gaps_frame)?;
        self.entries.iter().try_fold(frames, |sum, entry| sum.checked_add(entry.len()))
    }
}

impl Entry {
    /// Bytes of model and chunks.
    pub fn len(&self) -> u64 {
        u64::from(self.model) + self.chunks.iter().map(|&len| u64::from(len)).sum::<u64>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Original bytes of each chunk but the last of a tensor of such numbers; `original`: what they were, where they are weights.
    pub fn chunk_bytes(&self, original: Option<Number>) -> Option<u64> {
        match self.coding {
            Coding::Stored => Some(MOST_CHUNK_BYTES),
            Coding::Weights { k, rows, .. } => original?.bytes().checked_mul(k)?.checked_mul(rows),
            Coding::Records { width, records } => width.checked_mul(records),
        }
    }

    /// Checks that the entry is one of a tensor of `len` bytes, of which those of full precision are `original`.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, len: u64, original: Option<Number>) -> Result<(), ArchiveError> {
        let chunk = self.chunk_bytes(original).filter(|&bytes| 0 < bytes && bytes <= MOST_CHUNK_BYTES);
        let chunk = chunk.ok_or(Contradiction("a chunk of no possible size"))?;
        if len.div_ceil(chunk) != self.chunks.len() as u64 {
            return Err(Contradiction("a tensor with chunks of another number"));
        }
        let unit = match self.coding {
            Coding::Weights { k, .. } => original.map_or(0, Number::bytes) * k,
            Coding::Records { width, .. } => width,
            Coding::Stored => 1,
        };
        if !len.is_multiple_of(unit) {
            return Err(Contradiction("a tensor that is not whole rows"));
        }
        let is_as_is = || len == self.len() && self.model == 0;
        if self.coding == Coding::Stored && !is_as_is() {
            return Err(Contradiction("a tensor that is stored in other lengths"));
        }
        if let (Coding::Weights { number, .. }, Some(original)) = (self.coding, original)
            && !number.may_be(original)
        {
            return Err(Contradiction("weights of a kind that is not within theirs"));
        }
        Ok(())
    }

    fn push(&self, out: &mut Vec<u8>) {
        let (coding, number, unit, units) = match self.coding {
            Coding::Stored => (0u8, 0u8, 0, 0),
            Coding::Weights { number, k, rows } => (1, number as u8, k, rows),
            Coding::Records { width, records } => (2, 0, width, records),
        };
        out.extend_from_slice(&self.xxh3.to_le_bytes());
        out.extend_from_slice(&[coding, number, 0, 0]);
        out.extend_from_slice(&self.model.to_le_bytes());
        out.extend_from_slice(&unit.to_le_bytes());
        out.extend_from_slice(&units.to_le_bytes());
        out.extend_from_slice(&(self.chunks.len() as u64).to_le_bytes());
        self.chunks.iter().for_each(|len| out.extend_from_slice(&len.to_le_bytes()));
    }

    fn parse(cursor: &mut Cursor) -> Result<Self, ArchiveError> {
        let short = |_: EndOfBytes| ArchiveError::Index;
        let xxh3 = cursor.u64().map_err(short)?;
        let [coding, number, reserved @ ..] = cursor.array::<4>().map_err(short)?;
        let model = cursor.u32().map_err(short)?;
        let unit = cursor.u64().map_err(short)?;
        let units = cursor.u64().map_err(short)?;
        let coding = match (coding, Number::ALL.get(usize::from(number))) {
            (0, _) if number == 0 && unit == 0 && units == 0 => Coding::Stored,
            (1, Some(&number)) => Coding::Weights { number, k: unit, rows: units },
            (2, _) if number == 0 => Coding::Records { width: unit, records: units },
            _ => return Err(Contradiction("a coding that this program does not know")),
        };
        if reserved != [0, 0] {
            return Err(Contradiction("reserved bytes that are not zero"));
        }
        let chunks = cursor.u64().map_err(short)?;
        if chunks > cursor.remaining() as u64 / 4 {
            return Err(ArchiveError::Index);
        }
        let chunks = (0..chunks).map(|_| cursor.u32().map_err(short)).collect::<Result<Vec<_>, _>>()?;
        let sum = chunks.iter().try_fold(u64::from(model), |sum, &len| sum.checked_add(len.into()));
        sum.ok_or(Contradiction("chunks beyond 64 bits"))?;
        Ok(Self { xxh3, coding, model, chunks })
    }
}
