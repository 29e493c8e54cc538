//! The program that this library finds itself in: its ggml, its log, and the CPU backend that computes what is not ours.

pub mod api;
pub mod binding;
pub mod cpu;
pub mod forever;
pub mod ggml;
pub mod layout;
#[cfg(unix)]
mod loader;
pub mod log;
pub mod measured;
pub mod neighbour;
pub mod orders;
mod pool;
pub mod text;
pub mod trial;
pub mod types;
