//! How a node of a graph is computed that has compressed weights among its sources.

use super::spell::spelled;
use crate::host::api::{ggml_backend_buffer_get_usage, ggml_type_size};
use crate::host::cpu;
use crate::host::ggml::*;
use crate::host::text::{name, op_name};
use crate::weights::{Rows, Stand, may_be_carrier, root, shown, stand};

pub enum Way<'a> {
    /// It has none, or nothing to compute.
    Cpu,
    /// A product or look-up: by our kernels, on the weight's bytes.
    Kernel(Rows<'a>),
    /// By the CPU, on weights spelled out.
    Spelled,
}

/// The way of a node.
///
/// # Errors
/// If there is none, with the reason.
pub fn way(node: &ggml_tensor) -> Result<Way<'_>, String> {
    if is_view(node.op) || node.ne.contains(&0) {
        return Ok(Way::Cpu);
    }
    let mut compressed = None;
    for source in sources(node).filter(|source| may_be_carrier(source.type_)) {
        match stand(source) {
            Stand::Compressed => compressed = Some(source),
            Stand::Refused(reason) => return Err(reason),
            Stand::Elsewhere | Stand::Empty | Stand::Numbers => {}
        }
    }
    let Some(compressed) = compressed else {
        return strayed(node).map_or(Ok(Way::Cpu), Err);
    };
    if let Some(rows) = kernel(node) {
        return Ok(Way::Kernel(rows));
    }
    if cpu_computes_spelled(node) {
        return Ok(Way::Spelled);
    }
    let (name, op) = (name(root(compressed)), op_name(node.op));
    Err(format!(
        "tensor {name:?} is compressed, and {op} on it cannot be computed: restore the file to use it so"
    ))
}

/// Why a product or look-up cannot be computed that uses a weight of a carrier's type, but no compressed weight of ours: ggml has none
/// on these types, and the CPU would jump to nowhere.
fn strayed(node: &ggml_tensor) -> Option<String> {
    let weight = sources(node).next().map(root).filter(|_| is_product_or_look_up(node.op))?;
    // SAFETY: a tensor's buffer is null or alive.
    let holds_weights =
        || unsafe { ggml_backend_buffer_get_usage(weight.buffer) } == GGML_BACKEND_BUFFER_USAGE_WEIGHTS;
    (may_be_carrier(weight.type_) && !weight.buffer.is_null() && holds_weights()).then(|| {
        format!(
            "tensor {:?} is compressed, but was not loaded together with the index that says how, so {} on it cannot be computed",
            name(weight),
            op_name(node.op)
        )
    })
}

/// True for operations that compute nothing.
pub fn is_view(op: ggml_op) -> bool {
    [GGML_OP_NONE, GGML_OP_VIEW, GGML_OP_RESHAPE, GGML_OP_PERMUTE, GGML_OP_TRANSPOSE].contains(&op)
}

/// True for what llama.cpp asks of weights that it might place with us.
pub fn is_product_or_look_up(op: ggml_op) -> bool {
    [GGML_OP_MUL_MAT, GGML_OP_MUL_MAT_ID, GGML_OP_GET_ROWS].contains(&op)
}

pub fn sources(node: &ggml_tensor) -> impl Iterator<Item = &ggml_tensor> {
    // SAFETY: sources are null or alive.
    node.src.iter().filter_map(|&source| unsafe { source.as_ref() })
}

/// The rows for our kernels, if these can compute the node.
fn kernel(node: &ggml_tensor) -> Option<Rows<'_>> {
    let dense_f32 = |tensor: &ggml_tensor| tensor.type_ == GGML_TYPE_F32 && tensor.nb[0] == size_of::<f32>();
    let mut sources = sources(node);
    let (weight, second) = (sources.next()?, sources.next()?);
    let fits = match node.op {
        GGML_OP_MUL_MAT | GGML_OP_MUL_MAT_ID => dense_f32(second) && dense_f32(node),
        GGML_OP_GET_ROWS => second.type_ == GGML_TYPE_I32 && dense_f32(node),
        _ => false,
    };
    if !fits || shown(second).is_some() || sources.any(|source| shown(source).is_some()) {
        return None;
    }
    shown(weight)?.rows()
}

/// True if the CPU computes the node on weights spelled out. What it says itself is not enough: it aborts on much of BF16 and F16.
fn cpu_computes_spelled(node: &ggml_tensor) -> bool {
    let spelled_out = sources_spelled(node);
    let mut node = *node;
    for (source, spelled) in node.src.iter_mut().zip(&spelled_out) {
        if let Some(spelled) = spelled {
            *source = std::ptr::from_ref(spelled).cast_mut();
        }
    }
    let computes = match node.op {
        GGML_OP_MUL_MAT | GGML_OP_MUL_MAT_ID | GGML_OP_GET_ROWS => {
            node.type_ == GGML_TYPE_F32
                && sources(&node).next().is_some_and(|first| first.nb[0] == width(first.type_))
        }
        GGML_OP_CPY => [GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16].contains(&node.type_),
        _ => false,
    };
    computes && cpu::supports(&node)
}

/// Bytes of a number.
fn width(ty: ggml_type) -> usize {
    // SAFETY: types of live tensors are ggml's.
    unsafe { ggml_type_size(ty) }
}

/// Each source that is compressed as the CPU would see it, without data.
fn sources_spelled(node: &ggml_tensor) -> [Option<ggml_tensor>; 10] {
    node.src.map(|source| {
        // SAFETY: sources are null or alive.
        let source = unsafe { source.as_ref() }?;
        Some(spelled(source, &shown(source)?, std::ptr::null_mut()))
    })
}
