use std::collections::HashMap;

use super::{
    Entry, FileId, GroupError, HEADER_BYTES, HOME_BYTES, Index, Piece, Room, RoomHeader, Stored,
    is_carrier_type,
};
use crate::container::gguf::TensorType;

/// A tensor that may be a carrier: of a file, or of a program that loaded one.
#[derive(Debug, Clone, Copy)]
pub struct Carrier<'a> {
    pub name: &'a str,
    pub ty: TensorType,
    /// Weights.
    pub elements: u64,
    /// All its bytes.
    pub bytes: &'a [u8],
}

impl<'a> Carrier<'a> {
    /// Home, and what is behind it; `None` for a tensor that cannot be a carrier.
    pub(in crate::container) fn split(&self) -> Option<(&'a [u8], &'a [u8])> {
        let home = usize::try_from(self.elements.checked_mul(HOME_BYTES)?).ok()?;
        is_carrier_type(self.ty).then(|| self.bytes.split_at_checked(home)).flatten()
    }
}

/// Tensors that were opened or loaded together, with the indexes and rooms among them.
#[derive(Debug, Default)]
pub struct Group<'a> {
    carriers: HashMap<&'a str, Carrier<'a>>,
    rooms: HashMap<(FileId, u32), FoundRoom<'a>>,
    indexes: Vec<(FileId, Index)>,
    /// Of each tensor in an index: which index, which entry.
    entries: HashMap<String, (usize, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct FoundRoom<'a> {
    /// Name of the tensor that it is in.
    carrier: &'a str,
    bytes: &'a [u8],
    /// Bytes of the index that follows its header.
    index_len: u64,
}

/// Where the parts of one tensor are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<'a> {
    /// An id of docs/FORMAT.md, perhaps one that this program does not know.
    pub encoding: u32,
    pub home: &'a [u8],
    /// Rows and bytes of each piece, in the order of the rows.
    pub pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> Group<'a> {
    /// Looks for rooms and indexes. Tensors that cannot be carriers may be among the given; names are distinct.
    ///
    /// # Errors
    /// If a room or an index is damaged or there twice, or a room is there without its index.
    pub fn gather(tensors: impl IntoIterator<Item = Carrier<'a>>) -> Result<Self, GroupError> {
        let mut group = Self::default();
        let mut holders: HashMap<FileId, &str> = HashMap::new();
        for carrier in tensors {
            let Some((_, behind)) = carrier.split() else { continue };
            if group.carriers.insert(carrier.name, carrier).is_some() {
                return Err(GroupError::TwoTensors { name: carrier.name.to_owned() });
            }
            let name = || carrier.name.to_owned();
            let header =
                RoomHeader::parse(behind).map_err(|error| GroupError::Room { name: name(), error })?;
            let Some(header) = header else { continue };
            let RoomHeader { number, id, index_len, .. } = header;
            let room = FoundRoom { carrier: carrier.name, bytes: behind, index_len };
            if let Some(first) = group.rooms.insert((id, number), room) {
                let first = first.carrier.to_owned();
                return Err(GroupError::TwoRooms { first, second: name(), number, id });
            }
            if header.index_len > 0 {
                if let Some(first) = holders.insert(id, carrier.name) {
                    return Err(GroupError::TwoIndexes { first: first.to_owned(), second: name(), id });
                }
                let index = Index::parse(&header, behind)
                    .map_err(|error| GroupError::Index { name: name(), error })?;
                group.indexes.push((id, index));
            }
        }
        let mut homeless: Vec<&str> = group
            .rooms
            .iter()
            .filter(|((id, _), _)| !holders.contains_key(id))
            .map(|(_, room)| room.carrier)
            .collect();
        homeless.sort_unstable();
        if let Some(name) = homeless.first() {
            return Err(GroupError::NoIndex { name: (*name).to_owned() });
        }
        group.check_rooms()?;
        for (i, (_, index)) in group.indexes.iter().enumerate() {
            for (j, entry) in index.entries.iter().enumerate() {
                if group.entries.insert(entry.name.clone(), (i, j)).is_some() {
                    return Err(GroupError::Ambiguous { name: entry.name.clone() });
                }
            }
        }
        Ok(group)
    }

    /// Every room is where its index says, and as long.
    fn check_rooms(&self) -> Result<(), GroupError> {
        let mut all: Vec<_> = self.rooms.iter().collect();
        all.sort_by_key(|(key, _)| **key);
        for (id, index) in &self.indexes {
            let first = all.partition_point(|((of, _), _)| of < id);
            for ((_, number), found) in all[first..].iter().take_while(|((of, _), _)| of == id) {
                let listed = index.rooms.get(*number as usize);
                let fits = |room: &Room| {
                    index.carrier(room).name == found.carrier && room.len == found.bytes.len() as u64
                };
                if !listed.is_some_and(fits) {
                    let what = "holds a room that its index does not have, has in another tensor, or of another length";
                    return Err(GroupError::Carrier { name: found.carrier.to_owned(), what });
                }
            }
        }
        Ok(())
    }

    /// The indexes found, in the order in which their tensors were given.
    pub fn indexes(&self) -> impl Iterator<Item = &Index> {
        self.indexes.iter().map(|(_, index)| index)
    }

    /// What an index says of a tensor; `None` where none names it.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        let &(index, entry) = self.entries.get(name)?;
        Some(&self.indexes[index].1.entries[entry])
    }

    /// The rooms of all indexes that are here: name of the carrier, bytes behind header and index,
    /// and their checksum by the index.
    pub fn rooms(&self) -> impl Iterator<Item = (&'a str, &'a [u8], u64)> {
        self.indexes.iter().flat_map(|(id, index)| {
            (0..).zip(&index.rooms).filter_map(|(number, room)| {
                let found = self.rooms.get(&(*id, number))?;
                // The index is inside its room, or it would not have been parsed.
                let behind = &found.bytes[(HEADER_BYTES + found.index_len) as usize..];
                Some((found.carrier, behind, room.xxh3))
            })
        })
    }

    /// The remainder's frame by one of the indexes; empty where there is none.
    ///
    /// # Errors
    /// If its room is not here.
    pub fn remainder(&self, index: &Index) -> Result<&'a [u8], GroupError> {
        let Some(remainder) = index.remainder else { return Ok(&[]) };
        let id = self.indexes.iter().find(|(_, other)| std::ptr::eq(other, index)).map(|&(id, _)| id);
        let id = id.expect("one of the indexes of this group");
        let bytes = self.room(id, index, remainder.room, "the bytes between tensors")?;
        Ok(&bytes[remainder.offset as usize..(remainder.offset + remainder.len) as usize])
    }

    /// A room of an index, as long as that says; `of` is what needs it.
    fn room(&self, id: FileId, index: &Index, number: u32, of: &str) -> Result<&'a [u8], GroupError> {
        let room = &index.rooms[number as usize];
        let carrier = &index.carrier(room).name;
        let missing = || GroupError::RoomMissing { name: of.to_owned(), carrier: carrier.clone() };
        let found = self.rooms.get(&(id, number)).ok_or_else(missing)?;
        Ok(found.bytes)
    }

    /// The parts of a tensor that is among the given; `None` where it is a plain tensor, or one of no index.
    ///
    /// # Errors
    /// If it is a carrier, and not as the index says, or a room that it needs is not here.
    pub fn locate(&self, name: &str) -> Result<Option<Located<'a>>, GroupError> {
        let Some(&(number, place)) = self.entries.get(name) else { return Ok(None) };
        let (id, index) = &self.indexes[number];
        let entry = &index.entries[place];
        let Stored::Coded { encoding, pieces } = &entry.stored else { return Ok(None) };
        let wrong = |what| GroupError::Carrier { name: name.to_owned(), what };
        let carrier = self
            .carriers
            .get(name)
            .ok_or_else(|| wrong("compressed by its index, but its type is none of a carrier's"))?;
        if entry.dims.elements() != Some(carrier.elements) {
            return Err(wrong("it has not as many weights as its index says"));
        }
        let (home, _) = carrier.split().ok_or_else(|| wrong("it has fewer bytes than its type says"))?;
        let piece = |piece: &Piece| {
            // Inside the room, since that is as long as the index says, which is checked.
            let room = self.room(*id, index, piece.room, name)?;
            Ok((piece.rows, &room[piece.offset as usize..(piece.offset + piece.len) as usize]))
        };
        let pieces = pieces.iter().map(piece).collect::<Result<_, GroupError>>()?;
        Ok(Some(Located { encoding: *encoding, home, pieces }))
    }
}
