//! The pool: its header, and the index at its start (docs/FORMAT.md).

mod error;
mod header;
mod index;

pub use error::PoolError;
pub use header::{HEADER_BYTES, PoolHeader};
pub use index::{Entry, Extent, Index, Remainder, Stored, index_bytes};

/// Version of the format that this crate reads and writes.
pub const VERSION: u32 = 1;
