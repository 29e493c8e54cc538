//! Which operations llama.cpp hears that we take.

use crate::host::cpu;
use crate::host::ggml::*;
use crate::ops::way::{Way, is_product_or_look_up, is_view, sources, way};
use crate::weights::{self, Stand};

/// What llama.cpp wants where the layer is, which is the CPU: it looks on which device these are, and does without them where that is
/// another one (`resolve_fused_ops`; docs/LOADER.md).
const WHERE_THE_LAYER_IS: [ggml_op; 7] = [
    GGML_OP_FLASH_ATTN_EXT,
    GGML_OP_GATED_DELTA_NET,
    GGML_OP_LIGHTNING_INDEXER,
    GGML_OP_DSV4_HC_PRE,
    GGML_OP_DSV4_HC_COMB,
    GGML_OP_DSV4_HC_POST,
    GGML_OP_TOP_K_MASK,
];

/// True for whatever touches compressed weights, be it that the graph is refused then; and, while there are compressed weights in the
/// process, for what the CPU can do, so that a graph is not cut into pieces.
pub fn supports(op: &ggml_tensor) -> bool {
    if op.op == GGML_OP_NONE {
        // The tensors that no node computes come first when a graph is laid out.
        weights::clear_refusal();
        return weights::holds(op);
    }
    if is_view(op.op) {
        return weights::holds(op) || weights::any_compressed();
    }
    let (mut empty, mut numbers) = (false, false);
    for source in sources(op) {
        match weights::stand(source) {
            Stand::Empty => empty = true,
            Stand::Numbers => numbers = true,
            Stand::Elsewhere | Stand::Compressed | Stand::Refused(_) => {}
        }
    }
    if empty {
        return may_be_placed(op);
    }
    match way(op) {
        Ok(Way::Cpu) => {}
        Ok(Way::Kernel(_) | Way::Spelled) => return true,
        Err(reason) => {
            weights::refuse(reason);
            return true;
        }
    }
    let ours = numbers || (weights::any_compressed() && !WHERE_THE_LAYER_IS.contains(&op.op));
    ours && cpu::supports(op)
}

/// llama.cpp asks, with an empty buffer, whether a weight could be placed with us. A carrier could; its data would show whether it is
/// one, but are not there yet.
fn may_be_placed(op: &ggml_tensor) -> bool {
    let mut sources = sources(op);
    sources.next().is_some_and(|weight| weights::may_be_carrier(weight.type_))
        && sources.all(|other| !matches!(weights::stand(other), Stand::Empty))
        && is_product_or_look_up(op.op)
}
