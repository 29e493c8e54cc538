//! The container: any GGUF that is accepted comes back byte for byte, and nothing in a file can do harm.

mod archives;
mod conversion;
mod cross_check;
mod damage;
mod file;
mod files;
mod golden;
mod malformed;
mod memory;
mod positions;
mod round_trip;
#[path = "../samples/mod.rs"]
mod samples;
mod tampered;
