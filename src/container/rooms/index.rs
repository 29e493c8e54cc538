use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use super::entry::{PIECE_BYTES, entry_bytes};
use super::{Entry, HEADER_BYTES, IndexError, Piece, RoomHeader};
use crate::container::cursor::{Cursor, EndOfBytes};
use crate::container::gguf::Dims;

const FIXED_BYTES: u64 = 8 + 32 + 8 + 8 + 4 + 3 * 8 + 4 + 4;
const ROOM_BYTES: u64 = 4 + 8 + 8;

/// What the original held, the rooms, and in which room each piece lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Length of the original file in bytes.
    pub original_len: u64,
    pub original_blake3: [u8; 32],
    /// Bytes of the original before its first tensor info.
    pub metadata_len: u64,
    pub metadata_xxh3: u64,
    /// `None` where all bytes outside metadata, infos and tensors are zero.
    pub remainder: Option<Remainder>,
    pub rooms: Vec<Room>,
    /// In the original order of the tensor infos.
    pub entries: Vec<Entry>,
}

/// The zstd frame of the bytes that belong to nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remainder {
    pub room: u32,
    /// From the start of the room, in bytes.
    pub offset: u64,
    pub len: u64,
    pub xxh3: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Place of its carrier in the list of entries.
    pub carrier: u32,
    /// In bytes.
    pub len: u64,
    /// Of the room behind its header and, in the room that has it, the index.
    pub xxh3: u64,
}

/// What a room adds to an index, and a piece that it ends with.
pub const ROOM_AND_PIECE_BYTES: u64 = ROOM_BYTES + PIECE_BYTES;

/// Bytes of an index without rooms over tensors given by name, shape and whether they are compressed, each into one piece.
pub fn index_bytes<'a>(tensors: impl Iterator<Item = (&'a str, &'a Dims, bool)>) -> u64 {
    FIXED_BYTES + tensors.map(|(name, dims, coded)| entry_bytes(name, dims, coded)).sum::<u64>()
}

impl Index {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.original_len.to_le_bytes());
        out.extend_from_slice(&self.original_blake3);
        out.extend_from_slice(&self.metadata_len.to_le_bytes());
        out.extend_from_slice(&self.metadata_xxh3.to_le_bytes());
        let none = Remainder { room: 0, offset: 0, len: 0, xxh3: 0 };
        let remainder = self.remainder.unwrap_or(none);
        out.extend_from_slice(&remainder.room.to_le_bytes());
        for value in [remainder.offset, remainder.len, remainder.xxh3] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&(self.rooms.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        for room in &self.rooms {
            out.extend_from_slice(&room.carrier.to_le_bytes());
            out.extend_from_slice(&room.len.to_le_bytes());
            out.extend_from_slice(&room.xxh3.to_le_bytes());
        }
        for entry in &self.entries {
            entry.push(&mut out);
        }
        out
    }

    /// Parses the index behind the header of a room that has one.
    ///
    /// # Errors
    /// Whatever docs/FORMAT.md says that a reader must reject of an index by itself: in one that is returned, pieces are whole
    /// segments that add up to their tensors, and they lie, as everything does, in rooms of the lengths listed, one beside the other.
    pub fn parse(header: &RoomHeader, room: &[u8]) -> Result<Self, IndexError> {
        let end = HEADER_BYTES.checked_add(header.index_len).ok_or(IndexError::Beyond)?;
        let end = usize::try_from(end).map_err(|_| IndexError::Beyond)?;
        let bytes = room.get(HEADER_BYTES as usize..end).ok_or(IndexError::Beyond)?;
        if xxh3_64(bytes) != header.index_xxh3 {
            return Err(IndexError::Checksum);
        }
        let mut cursor = Cursor::new(bytes);
        let (mut index, tensors) = parse_fixed(&mut cursor)?;
        for number in 0..tensors {
            index.entries.push(Entry::parse(&mut cursor, number)?);
        }
        if cursor.remaining() > 0 {
            return Err(IndexError::Length(cursor.remaining() as u64));
        }
        index.check(header)?;
        Ok(index)
    }

    /// The tensors that have a carrier, in the order of the index.
    pub fn carriers(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_coded())
    }

    /// The tensor that a room is in.
    pub fn carrier(&self, room: &Room) -> &Entry {
        &self.entries[room.carrier as usize]
    }

    fn check(&self, header: &RoomHeader) -> Result<(), IndexError> {
        let mut names = HashSet::new();
        if let Some(twice) = self.entries.iter().find(|entry| !names.insert(entry.name.as_str())) {
            return Err(IndexError::Duplicate(twice.name.clone()));
        }
        self.check_originals()?;
        self.check_rooms(header)?;
        self.check_extents(header)
    }

    fn check_originals(&self) -> Result<(), IndexError> {
        let wrong = |entry: &Entry, what| IndexError::Entry { name: entry.name.clone(), what };
        let mut sorted: Vec<_> = self.entries.iter().filter(|entry| entry.len > 0).collect();
        sorted.sort_by_key(|entry| entry.offset);
        let mut end = 0;
        for entry in sorted {
            if entry.offset < end {
                return Err(wrong(entry, "its original bytes overlap those of another tensor"));
            }
            end = entry.offset.checked_add(entry.len).ok_or_else(|| wrong(entry, "its extent overflows"))?;
            if end > self.original_len {
                return Err(wrong(entry, "its original bytes lie beyond the end of the original"));
            }
        }
        Ok(())
    }

    fn check_rooms(&self, header: &RoomHeader) -> Result<(), IndexError> {
        let mut carriers = HashSet::new();
        for (number, room) in (0..).zip(&self.rooms) {
            let wrong = |what| Err(IndexError::Room { number, what });
            match self.entries.get(room.carrier as usize) {
                Some(entry) if entry.is_coded() => {}
                _ => return wrong("its tensor is no carrier"),
            }
            if !carriers.insert(room.carrier) {
                return wrong("its tensor has a room already");
            }
            if room.len < HEADER_BYTES {
                return wrong("too small for its header");
            }
        }
        if header.number as usize >= self.rooms.len() {
            return Err(IndexError::Room { number: header.number, what: "has the index, but is not in it" });
        }
        Ok(())
    }

    /// Index, pieces and remainder lie in their rooms and do not overlap.
    fn check_extents(&self, header: &RoomHeader) -> Result<(), IndexError> {
        let index = Piece { rows: 0, room: header.number, offset: HEADER_BYTES, len: header.index_len };
        let remainder = self.remainder.map(|r| Piece { rows: 0, room: r.room, offset: r.offset, len: r.len });
        let pieces = self.entries.iter().flat_map(|entry| entry.pieces());
        let what = |piece: &Piece| {
            let mut owners = self.entries.iter().filter(|entry| entry.pieces().contains(piece));
            let what = match owners.next() {
                Some(entry) => format!("a piece of tensor {:?}", entry.name),
                None if *piece == index => "the index".to_owned(),
                None => "the remainder".to_owned(),
            };
            IndexError::Extent { what }
        };
        let mut sorted: Vec<_> = pieces.copied().chain([index]).chain(remainder).collect();
        sorted.sort_by_key(|piece| (piece.room, piece.offset));
        let (mut room, mut end) = (None, 0);
        for piece in &sorted {
            if room != Some(piece.room) {
                (room, end) = (Some(piece.room), 0);
            }
            let room_len = self.rooms.get(piece.room as usize).map_or(0, |room| room.len);
            if piece.offset < end {
                return Err(what(piece));
            }
            end = piece.end_in(room_len).ok_or_else(|| what(piece))?;
        }
        Ok(())
    }
}

/// All but the entries, and how many of them follow.
fn parse_fixed(cursor: &mut Cursor) -> Result<(Index, u32), IndexError> {
    let short = |_: EndOfBytes| IndexError::Truncated;
    let original_len = cursor.u64().map_err(short)?;
    let original_blake3 = cursor.array().map_err(short)?;
    let metadata_len = cursor.u64().map_err(short)?;
    let metadata_xxh3 = cursor.u64().map_err(short)?;
    let remainder = Remainder {
        room: cursor.u32().map_err(short)?,
        offset: cursor.u64().map_err(short)?,
        len: cursor.u64().map_err(short)?,
        xxh3: cursor.u64().map_err(short)?,
    };
    let none = Remainder { room: 0, offset: 0, len: 0, xxh3: 0 };
    let remainder = (remainder != none).then_some(remainder);
    let rooms = cursor.u32().map_err(short)?;
    let tensors = cursor.u32().map_err(short)?;
    if u64::from(rooms) > cursor.remaining() as u64 / ROOM_BYTES {
        return Err(IndexError::EntryTruncated(0));
    }
    let room = |_| {
        Ok(Room {
            carrier: cursor.u32().map_err(short)?,
            len: cursor.u64().map_err(short)?,
            xxh3: cursor.u64().map_err(short)?,
        })
    };
    let rooms = (0..rooms).map(room).collect::<Result<_, IndexError>>()?;
    let entries = Vec::new();
    let index =
        Index { original_len, original_blake3, metadata_len, metadata_xxh3, remainder, rooms, entries };
    Ok((index, tensors))
}
