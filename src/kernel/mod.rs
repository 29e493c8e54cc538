//! The C kernels: decode, dot and matrix product on blobs, per instruction set.
