//! Tensor bytes to Unweight blobs and back.

pub mod constants;
