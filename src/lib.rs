//! Lossless compression of GGUF models, and arithmetic on the compressed bytes.
//!
//! Data flows one way: [`container`] reads a GGUF, [`codec`] turns tensor bytes into homes and pieces, [`container`] lays them out in a
//! legal GGUF, and [`convert`](mod@convert) does that with files; [`kernel`] computes on the pieces where they lie. The bytes are specified in
//! `docs/FORMAT.md`.

#[cfg(target_endian = "big")]
compile_error!("files and kernels are little-endian");

#[cfg(feature = "convert")]
pub mod archive;
pub mod codec;
pub mod container;
#[cfg(feature = "convert")]
pub mod convert;
pub mod kernel;
pub mod selection;
