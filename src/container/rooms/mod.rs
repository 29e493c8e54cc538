//! Rooms: the bytes of carriers behind their homes, the index in one of them, and what belongs together (docs/FORMAT.md).

mod entry;
mod error;
mod filling;
mod group;
mod header;
mod index;

pub use entry::{Entry, Piece, Stored};
pub use error::{GroupError, IndexError, RoomError};
pub use filling::{Filling, Free, Space};
pub use group::{Carrier, Group, Located};
pub use header::{FileId, HEADER_BYTES, RoomHeader};
pub use index::{Index, ROOM_AND_PIECE_BYTES, Remainder, Room, index_bytes};

use super::gguf::{Dims, TensorType};

/// Version of the format that this crate reads and writes.
pub const VERSION: u32 = 1;

/// Bytes that a weight has in its home.
pub const HOME_BYTES: u64 = 1;

/// Types of carriers and their bytes per weight, narrowest first. llama.cpp has no matrix product and no row look-up for them.
pub const CARRIER_TYPES: [(TensorType, u64); 3] =
    [(TensorType::I8, 1), (TensorType::I16, 2), (TensorType::I64, 8)];

/// True for the types that a carrier may have. Tensors of numbers have them too: only an index says what is a carrier.
pub fn is_carrier_type(ty: TensorType) -> bool {
    CARRIER_TYPES.iter().any(|&(carrier, _)| carrier == ty)
}

/// Bytes behind the home of a carrier of this type and shape; `None` beyond 64 bits, or for a type that no carrier has.
pub fn room_bytes(ty: TensorType, dims: &Dims) -> Option<u64> {
    let (_, width) = CARRIER_TYPES.into_iter().find(|&(carrier, _)| carrier == ty)?;
    dims.elements()?.checked_mul(width - HOME_BYTES)
}
