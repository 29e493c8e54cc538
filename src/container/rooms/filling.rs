use super::HEADER_BYTES;

/// Pieces begin at file offsets that are multiples of this: a cache line, and the width of the widest vectors.
const PIECE_ALIGNMENT: u64 = 64;

/// A room of a file that is being laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Place of its carrier in the list of tensors.
    pub carrier: usize,
    /// From the start of the file, in bytes.
    pub position: u64,
    /// In bytes, header included.
    pub len: u64,
}

/// Where the next piece may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    pub room: usize,
    /// From the start of the room, in bytes.
    pub offset: u64,
    /// Most bytes of the piece.
    pub len: u64,
}

/// Fills rooms one after the other.
#[derive(Debug, Clone)]
pub struct Filling<'a> {
    rooms: &'a [Space],
    room: usize,
    /// Where the room is free.
    offset: u64,
}

impl<'a> Filling<'a> {
    /// `index_len`: bytes behind the header of the first room that are taken.
    pub fn new(rooms: &'a [Space], index_len: u64) -> Self {
        Self { rooms, room: 0, offset: HEADER_BYTES.saturating_add(index_len) }
    }

    /// Where the next piece begins; `None` where all rooms are full.
    pub fn free(&mut self) -> Option<Free> {
        loop {
            let room = self.rooms.get(self.room)?;
            let position =
                room.position.checked_add(self.offset)?.checked_next_multiple_of(PIECE_ALIGNMENT)?;
            let offset = position - room.position;
            match room.len.checked_sub(offset) {
                Some(len) if len > 0 => return Some(Free { room: self.room, offset, len }),
                _ => self.leave(),
            }
        }
    }

    /// Gives `len` bytes to the piece that begins where the next may.
    pub fn take(&mut self, free: Free, len: u64) {
        self.offset = free.offset + len;
    }

    /// Goes on to the next room.
    pub fn leave(&mut self) {
        self.room += 1;
        self.offset = HEADER_BYTES;
    }
}
