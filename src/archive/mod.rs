//! The codes of archives: a tensor's bytes as few as they get, and back at the speed of a disk. `docs/ARCHIVE-CODES.md` has the bytes.
//!
//! [`Encoder`] learns a tensor's [`Model`] and codes rows of it, a chunk at a time; a model decodes a chunk alone. [`planes`] do the same for
//! bytes that are no numbers; [`oracle`] reads either back slowly and strictly.

mod binary;
mod classes;
mod code;
mod cost;
mod encoder;
mod error;
mod frequencies;
mod model;
pub mod oracle;
pub mod planes;
mod sections;
mod split;
mod stream;

pub use encoder::{Encoder, chunk_records, chunk_rows};
pub use error::{Error, Result};
pub use model::Model;
