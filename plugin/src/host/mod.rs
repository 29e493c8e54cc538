//! The program that this library finds itself in: its ggml, its log, and the CPU backend that computes what is not ours.

pub mod cpu;
pub mod forever;
pub mod ggml;
pub mod log;
pub mod orders;
pub mod text;
pub mod version;
