//! Lossless compression of GGUF models, and arithmetic on the compressed bytes.
//!
//! Data flows one way: [`container`] reads a GGUF, [`codec`] turns tensor bytes into blobs, [`container`] writes them
//! into a pool inside a legal GGUF; [`kernel`] computes on a blob where it lies. The bytes are specified in `docs/FORMAT.md`.

#[cfg(target_endian = "big")]
compile_error!("files and kernels are little-endian");

pub mod codec;
pub mod container;
pub mod kernel;
pub mod selection;
