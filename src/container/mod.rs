//! GGUF in and out, and the Unweight pool inside it.
