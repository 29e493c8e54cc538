//! Tensor bytes to Unweight blobs and back.
