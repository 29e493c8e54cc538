//! Which operations llama.cpp hears that we take.

use crate::host::cpu;
use crate::host::ggml::{GGML_OP_NONE, ggml_tensor};
use crate::host::layout::layout;
use crate::ops::way::{Way, is_product_or_look_up, is_view, sources, way};
use crate::weights::{self, Stand};

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
    let ours = numbers || (weights::any_compressed() && !layout().where_the_layer_is.contains(&op.op));
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
