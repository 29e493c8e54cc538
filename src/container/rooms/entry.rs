use super::{HEADER_BYTES, IndexError};
use crate::container::cursor::{Cursor, EndOfBytes};
use crate::container::gguf::{Dims, TensorType};
use crate::container::shape;

const ENCODING_PLAIN: u32 = 0;
/// An entry without name, dimensions and pieces.
const LEAST_BYTES: u64 = 4 + 4 + 4 + 3 * 8 + 4;
const PIECE_COUNT_BYTES: u64 = 4;
pub(super) const PIECE_BYTES: u64 = 8 + 4 + 8 + 8;

/// One tensor of the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Type in the original.
    pub ty: TensorType,
    pub dims: Dims,
    /// Offset in the original's data section, in bytes.
    pub offset: u64,
    /// Bytes in the original.
    pub len: u64,
    /// Of the original bytes.
    pub xxh3: u64,
    pub stored: Stored,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    Plain,
    /// In a carrier, and the pieces in rooms.
    Coded {
        /// An id of docs/FORMAT.md, perhaps one that this program does not know.
        encoding: u32,
        /// In the order of their rows.
        pieces: Vec<Piece>,
    },
}

/// Where what a room holds of some rows lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub rows: u64,
    /// Place in the index's list of rooms.
    pub room: u32,
    /// From the start of the room, in bytes.
    pub offset: u64,
    /// In bytes.
    pub len: u64,
}

/// Bytes of an entry, with one piece if the tensor is compressed.
pub(super) fn entry_bytes(name: &str, dims: &Dims, coded: bool) -> u64 {
    let pieces = if coded { PIECE_COUNT_BYTES + PIECE_BYTES } else { 0 };
    LEAST_BYTES + name.len() as u64 + 8 * dims.as_slice().len() as u64 + pieces
}

impl Entry {
    pub fn is_coded(&self) -> bool {
        self.stored != Stored::Plain
    }

    /// In the order of their rows; none for a plain tensor.
    pub fn pieces(&self) -> &[Piece] {
        match &self.stored {
            Stored::Plain => &[],
            Stored::Coded { pieces, .. } => pieces,
        }
    }

    pub(super) fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.name.len() as u32).to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&self.ty.id().to_le_bytes());
        out.extend_from_slice(&(self.dims.as_slice().len() as u32).to_le_bytes());
        for value in self.dims.as_slice().iter().chain(&[self.offset, self.len, self.xxh3]) {
            out.extend_from_slice(&value.to_le_bytes());
        }
        match &self.stored {
            Stored::Plain => out.extend_from_slice(&ENCODING_PLAIN.to_le_bytes()),
            Stored::Coded { encoding, pieces } => {
                out.extend_from_slice(&encoding.to_le_bytes());
                out.extend_from_slice(&(pieces.len() as u32).to_le_bytes());
                for piece in pieces {
                    out.extend_from_slice(&piece.rows.to_le_bytes());
                    out.extend_from_slice(&piece.room.to_le_bytes());
                    out.extend_from_slice(&piece.offset.to_le_bytes());
                    out.extend_from_slice(&piece.len.to_le_bytes());
                }
            }
        }
    }

    pub(super) fn parse(cursor: &mut Cursor, number: u32) -> Result<Self, IndexError> {
        let short = |_: EndOfBytes| IndexError::EntryTruncated(number);
        let n = cursor.u32().map_err(short)?;
        let name = std::str::from_utf8(cursor.take(u64::from(n)).map_err(short)?)
            .map_err(|_| IndexError::Name(number))?
            .to_owned();
        let wrong = |what| IndexError::Entry { name: name.clone(), what };
        let id = cursor.u32().map_err(short)?;
        let ty = TensorType::from_id(id).ok_or_else(|| wrong("an unknown type"))?;
        let count = cursor.u32().map_err(short)? as usize;
        let too_many = || wrong("more than 4 dimensions");
        if count > Dims::MAX {
            return Err(too_many());
        }
        let mut extents = [0; Dims::MAX];
        for extent in &mut extents[..count] {
            *extent = cursor.u64().map_err(short)?;
        }
        let dims = Dims::new(&extents[..count]).ok_or_else(too_many)?;
        let offset = cursor.u64().map_err(short)?;
        let len = cursor.u64().map_err(short)?;
        if dims.bytes(ty) != Some(len) {
            return Err(wrong("its length contradicts its type and shape"));
        }
        let xxh3 = cursor.u64().map_err(short)?;
        let stored = match cursor.u32().map_err(short)? {
            ENCODING_PLAIN => Stored::Plain,
            encoding => Stored::Coded { encoding, pieces: parse_pieces(cursor, number)? },
        };
        let entry = Self { name, ty, dims, offset, len, xxh3, stored };
        entry.check_rows()?;
        Ok(entry)
    }

    /// The pieces have the rows of the tensor, and all but the last are whole segments.
    fn check_rows(&self) -> Result<(), IndexError> {
        if !self.is_coded() {
            return Ok(());
        }
        let pieces = self.pieces();
        let wrong = |what| IndexError::Entry { name: self.name.clone(), what };
        let shape = shape(&self.dims).ok_or_else(|| wrong("its shape overflows"))?;
        let sum = pieces.iter().try_fold(0u64, |sum, piece| sum.checked_add(piece.rows));
        if sum != Some(shape.rows) {
            return Err(wrong("its pieces have not as many rows as it has"));
        }
        let whole = |piece: &Piece| piece.rows > 0 && piece.rows.is_multiple_of(shape.segment_rows());
        if pieces.split_last().is_some_and(|(last, others)| last.rows == 0 || !others.iter().all(whole)) {
            return Err(wrong("its pieces are not whole segments"));
        }
        Ok(())
    }
}

fn parse_pieces(cursor: &mut Cursor, number: u32) -> Result<Vec<Piece>, IndexError> {
    let short = |_: EndOfBytes| IndexError::EntryTruncated(number);
    let count = u64::from(cursor.u32().map_err(short)?);
    if count > cursor.remaining() as u64 / PIECE_BYTES {
        return Err(IndexError::EntryTruncated(number));
    }
    let piece = |_| {
        Ok(Piece {
            rows: cursor.u64().map_err(short)?,
            room: cursor.u32().map_err(short)?,
            offset: cursor.u64().map_err(short)?,
            len: cursor.u64().map_err(short)?,
        })
    };
    (0..count).map(piece).collect()
}

impl Piece {
    /// The end in its room, if it begins behind the header and ends by `room_len`.
    pub(super) fn end_in(&self, room_len: u64) -> Option<u64> {
        let end = self.offset.checked_add(self.len)?;
        (self.offset >= HEADER_BYTES && end <= room_len).then_some(end)
    }
}
