//! Which tensors may be compressed, and what kind of weights they are.

use crate::codec::constants::LONGEST_ROW;
use crate::container::gguf::{TensorInfo, TensorType};

/// Parts of names of tensors that llama.cpp uses in other ways than matrix products and row look-ups. The list is that of
/// llama-quantize (`tensor_allows_quantization`, 2026-10), which has to keep its fingers off the same tensors.
const USED_OTHERWISE: &[&str] = &[
    "_norm.weight",            // norms: multiplied element by element
    "ffn_gate_inp.weight",     // expert routers: kept precise by everyone, small
    "ffn_gate_tid2eid.weight", // a table of ids
    "engram_gate.weight",      // element by element
    "altup",                   // tiny
    "laurel",                  // tiny
    "per_layer_model_proj",    // small
    "mudd_",                   // dense connection mixers, tiny
    "position_embd.weight",    // added as a whole
    "token_types.weight",      // added as a whole
    "ssm_conv1d",              // convolution kernels
    "shortconv.conv.weight",
    "conv2d_spatial.weight",
    "a.conv1d.",
    "conv_dw",
    "a.gen.wav.quant.",
    "indexer.k_proj.weight", // tiny
    "indexer.q_proj.weight",
    "attn_rel_b.weight", // relative positions: looked up as a whole
    "time_mix_first",    // RWKV: low-rank mixers and element-wise weights
    "time_mix_w",
    "time_mix_v0",
    "time_mix_v1",
    "time_mix_v2",
    "time_mix_a",
    "time_mix_g0",
    "time_mix_g1",
    "time_mix_g2",
    "time_mix_decay",
    "time_mix_lerp",
    ".patch_embd", // images: convolution
    ".position_embd",
];

/// True for BF16 matrices and stacks of them that llama.cpp uses only in matrix products and row look-ups.
pub fn is_candidate(tensor: &TensorInfo) -> bool {
    tensor.ty == TensorType::BF16
        && tensor.dims.as_slice().len() >= 2
        && tensor.len > 0
        && tensor.dims.row() <= LONGEST_ROW
        && tensor.name.ends_with("weight")
        && !USED_OTHERWISE.iter().any(|part| tensor.name.contains(part))
}

/// What a tensor is for, judged by its name; for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Attention,
    FeedForward,
    Experts,
    Embeddings,
    Other,
}

impl Group {
    pub const ALL: [Self; 5] =
        [Self::Attention, Self::FeedForward, Self::Experts, Self::Embeddings, Self::Other];

    pub fn of(name: &str) -> Self {
        if name.contains("_exps.") || name.contains("_shexp.") {
            Self::Experts
        } else if name.contains("attn_") {
            Self::Attention
        } else if name.contains("ffn_") {
            Self::FeedForward
        } else if name.contains("_embd") || name.starts_with("output.") {
            Self::Embeddings
        } else {
            Self::Other
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::FeedForward => "feed-forward",
            Self::Experts => "experts",
            Self::Embeddings => "embeddings",
            Self::Other => "other",
        }
    }
}
