//! Which tensors may be compressed, and what kind of weights they are.

mod architectures;

pub use architectures::is_known;

use crate::codec::Number;
use crate::codec::constants::LONGEST_ROW;
use crate::container::gguf::{Gguf, TensorInfo};
use crate::container::number;

/// Parts of names of tensors that llama.cpp uses in other ways than matrix products and row look-ups. The first part of the list is that
/// of llama-quantize (`tensor_allows_quantization`, 2026-10), which has to keep its fingers off the same tensors; the second names what
/// that leaves out because nobody has it in other types than F32: what `LLM_TENSOR_INFOS` of the pinned llama.cpp has under other operations,
/// with two dimensions or more and a name that ends with "weight". What is F32 in every file and hardly worth a thought stays too.
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
    // Added, multiplied element by element, or convolved with:
    "indexer_compressor_ape.weight",
    ".hnorm.weight",
    ".enorm.weight",
    "ple_norm_",
    "ple_conv1d.weight",
    "lilicorr.slot_embedding.weight",
    "lilicorr.rank_embedding.weight",
    "conv1d.weight",
    ".dw.weight",
    "posnet.",
    "channel_mix_lerp_",
    "_conv_base.weight",
    // Hyper-connections: small, and F32 in every file.
    "hc_",
    // Never used by llama.cpp, or not always there:
    "cross_attn_rel_b",
    "masked_embd_centroids",
    "masked_embd_ordering",
    // Read row by row from the disk where it is large, into buffers of the CPU's own:
    "per_layer_token_embd",
];

/// Which tensors of a file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// The first block that llama.cpp may leave out.
    optional_from: Option<u64>,
}

impl Selection {
    /// `first`: the first shard of the model, which has the keys, if this is another.
    pub fn of(gguf: &Gguf, first: Option<&Gguf>) -> Self {
        let by_keys = std::iter::once(gguf).chain(first).find_map(optional_from);
        let by_names = gguf.tensors.iter().filter(|tensor| tensor.name.contains(".nextn."));
        let by_names = by_names.filter_map(|tensor| block(tensor.name)).min();
        Self { optional_from: by_keys.into_iter().chain(by_names).min() }
    }

    /// What a tensor's weights are, if it is a matrix of full precision, or a stack of them, that llama.cpp uses only in matrix products
    /// and row look-ups.
    pub fn takes(&self, tensor: &TensorInfo) -> Option<Number> {
        let is_one = tensor.dims.as_slice().len() >= 2
            && tensor.len > 0
            && tensor.dims.row() <= LONGEST_ROW
            && tensor.name.ends_with("weight")
            && !USED_OTHERWISE.iter().any(|part| tensor.name.contains(part));
        number(tensor.ty).filter(|_| is_one)
    }

    /// True for a tensor of a block that llama.cpp leaves out where it is not asked for: those that predict further tokens (NextN, MTP).
    pub fn is_optional(&self, name: &str) -> bool {
        self.optional_from.is_some_and(|from| block(name).is_some_and(|block| block >= from))
    }
}

/// The first of the blocks that predict further tokens, by the keys of the model.
fn optional_from(gguf: &Gguf) -> Option<u64> {
    let architecture = gguf.text("general.architecture")?;
    let number = |key: &str| gguf.kv(&format!("{architecture}.{key}")).and_then(|pair| pair.as_u32());
    let count = number("nextn_predict_layers").filter(|&count| count > 0)?;
    Some(u64::from(number("block_count")?.saturating_sub(count)))
}

/// The number of the block that a tensor is in: "blk.12.attn_q.weight".
fn block(name: &str) -> Option<u64> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
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
