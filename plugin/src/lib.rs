//! ggml backend that computes on Unweight tensors.
