//! Where a tensor of a graph stands: with us or not, and what it is.

use super::buffer::load_of;
use super::weight::{Bound, Shown};
use super::{kinds, loads, may_be_carrier};
use crate::host::api::ggml_backend_buffer_get_size;
use crate::host::ggml::{GGML_OP_NONE, ggml_backend_buffer_type_t, ggml_tensor};
use crate::host::text::name;

pub enum Stand {
    /// Not with us.
    Elsewhere,
    /// In an empty buffer of ours: llama.cpp asks what it could place with us, or reckons how much memory a model would need.
    Empty,
    /// With us, and what its type says.
    Numbers,
    /// With us, and a compressed weight, in whole or in part.
    Compressed,
    /// With us, and cannot be used, for this reason.
    Refused(String),
}

/// The tensor that has the bytes.
pub fn root(tensor: &ggml_tensor) -> &ggml_tensor {
    // SAFETY: what a live tensor is a view of is alive.
    unsafe { tensor.view_src.as_ref() }.unwrap_or(tensor)
}

/// The type of the buffer that the bytes are in; `None` if they are in none.
fn kind(root: &ggml_tensor) -> Option<ggml_backend_buffer_type_t> {
    // SAFETY: a tensor's buffer is null or alive.
    (!root.buffer.is_null()).then(|| unsafe { kinds::of(root.buffer) })
}

/// True if the tensor lies in a buffer of ours.
pub fn holds(tensor: &ggml_tensor) -> bool {
    let kinds = [kinds::plain(), kinds::loaded(), kinds::compressed()];
    kind(root(tensor)).is_some_and(|kind| kinds.contains(&kind))
}

/// What a tensor shows of a compressed weight that is ready for use.
pub fn shown(tensor: &ggml_tensor) -> Option<Shown<'_>> {
    match bound(root(tensor))? {
        Bound::Whole(weight) => Shown::of(tensor, weight),
        Bound::Lacking(_) => None,
    }
}

fn bound(root: &ggml_tensor) -> Option<&Bound> {
    if !may_be_carrier(root.type_) || kind(root)? != kinds::compressed() {
        return None;
    }
    // SAFETY: the buffer is alive; only `bind` sets `extra` in those that are not empty.
    unsafe { load_of(root.buffer).and_then(|_| root.extra.cast::<Bound>().as_ref()) }
}

/// Where a tensor stands. Settles the load that it came with if it is not: its graph is being laid out, so its data are all there.
pub fn stand(tensor: &ggml_tensor) -> Stand {
    let root = root(tensor);
    let Some(first) = kind(root) else { return Stand::Elsewhere };
    if first == kinds::plain() {
        // SAFETY: the buffer is alive.
        let empty = unsafe { ggml_backend_buffer_get_size(root.buffer) } == 0 && root.op == GGML_OP_NONE;
        return if empty { Stand::Empty } else { Stand::Elsewhere };
    }
    // SAFETY: the buffer is alive.
    if first == kinds::loaded()
        && let Some(load) = unsafe { load_of(root.buffer) }
        && let Err(reason) = loads::settle(load)
    {
        return Stand::Refused(reason);
    }
    if kind(root) != Some(kinds::compressed()) {
        return Stand::Elsewhere;
    }
    match bound(root) {
        None => Stand::Numbers,
        Some(Bound::Lacking(reason)) => Stand::Refused(reason.clone()),
        Some(Bound::Whole(weight)) if Shown::of(tensor, weight).is_some() => Stand::Compressed,
        Some(Bound::Whole(_)) => {
            Stand::Refused(format!("a view of tensor {:?} does not show whole weights", name(root)))
        }
    }
}
