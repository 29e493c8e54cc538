//! Kinds of numbers as ggml's types.

use unweight::codec::Number;

use super::ggml::{GGML_TYPE_BF16, GGML_TYPE_F16, GGML_TYPE_F32, ggml_type};

pub fn type_of(number: Number) -> ggml_type {
    match number {
        Number::Bf16 => GGML_TYPE_BF16,
        Number::F16 => GGML_TYPE_F16,
        Number::F32 => GGML_TYPE_F32,
    }
}
