//! Fuzzing: everything that takes bytes from a stranger, as functions of some bytes that panic where a promise is broken.
//!
//! `cargo run --release -- short` runs each on seeds and mutations of them, with a stable Rust; `cargo +nightly fuzz run TARGET` searches.

pub mod guard;
pub mod memory_file;
pub mod mutation;
pub mod samples;
pub mod targets;
