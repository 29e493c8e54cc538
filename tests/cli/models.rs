//! Small models, made for a test.

use unweight::container::gguf::TensorType;

use crate::file::{File, Tensor, Value};

pub fn matrix(name: &str, ty: TensorType, dims: &[u64]) -> Tensor {
    Tensor::new(name, ty, dims, dims.iter().sum::<u64>() + name.len() as u64)
}

/// A token table, and what two blocks have.
pub fn tensors() -> Vec<Tensor> {
    let table = matrix("token_embd.weight", TensorType::BF16, &[64, 320]);
    let block = |i: u32| {
        let name = |part: &str| format!("blk.{i}.{part}.weight");
        [
            matrix(&name("attn_norm"), TensorType::F32, &[64]),
            matrix(&name("attn_q"), TensorType::BF16, &[64, 64]),
            matrix(&name("attn_k"), TensorType::BF16, &[64, 32]),
            matrix(&name("ffn_up"), TensorType::BF16, &[64, 200]),
            matrix(&name("ffn_down"), TensorType::BF16, &[200, 64]),
        ]
    };
    [table].into_iter().chain((0..2).flat_map(block)).collect()
}

/// A model of an architecture.
pub fn model(architecture: &str, tensors: Vec<Tensor>) -> File {
    File::of(tensors).with_kv("general.architecture", Value::String(architecture.to_owned()))
}
