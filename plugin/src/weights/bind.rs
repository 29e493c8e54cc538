//! Which of the tensors that came with one load are compressed.

use std::collections::HashMap;
use std::ffi::CStr;

use unweight::container::gguf::TensorType;
use unweight::container::rooms::{Carrier, Group, GroupError};
use unweight::container::{number, shape};
use unweight::kernel::Tensor;

use super::weight::{Bound, Weight};
use crate::host::api::ggml_nbytes;
use crate::host::ggml::ggml_tensor;

/// Finds the weights of all compressed tensors, and sets `extra` of each to what has been found. None are compressed where there is no
/// index.
///
/// # Errors
/// If anything is damaged or unknown, naming the tensor; then no `extra` is set.
///
/// # Safety
/// The tensors must be alive and hold all their data, which stay as they are for as long as the weights are used.
pub unsafe fn bind(tensors: &[*mut ggml_tensor]) -> Result<Box<[Bound]>, String> {
    let mut carriers: Vec<Carrier> = Vec::with_capacity(tensors.len());
    let mut by_name = HashMap::with_capacity(tensors.len());
    let mut named = Vec::with_capacity(tensors.len());
    for &tensor in tensors {
        // SAFETY: the caller's promise.
        let Some(carrier) = (unsafe { carrier(&*tensor) }) else { continue };
        named.push((carrier.name, tensor));
        match by_name.insert(carrier.name, carrier.bytes.as_ptr()) {
            None => carriers.push(carrier),
            Some(first) if first == carrier.bytes.as_ptr() => {}
            Some(_) => return Err(format!("two tensors of one model have the name {:?}", carrier.name)),
        }
    }
    let group = Group::gather(carriers).map_err(|error| error.to_string())?;
    let mut carriers = Vec::new();
    let mut found = Vec::new();
    for (name, tensor) in named {
        if let Some(bound) = find(&group, name)? {
            carriers.push(tensor);
            found.push(bound);
        }
    }
    let found = found.into_boxed_slice();
    for (tensor, bound) in carriers.into_iter().zip(&found) {
        // SAFETY: the tensor is alive, and its buffer, being ours, leaves `extra` to us.
        unsafe { (*tensor).extra = std::ptr::from_ref(bound).cast_mut().cast() };
    }
    Ok(found)
}

/// The weight of this name; `None` if no index has it as a compressed one.
fn find(group: &Group<'static>, name: &'static str) -> Result<Option<Bound>, String> {
    let located = match group.locate(name) {
        Ok(Some(located)) => located,
        Ok(None) => return Ok(None),
        // llama.cpp leaves out blocks that it does not need, but loads tensors of such a block that it does not need either.
        Err(error @ GroupError::RoomMissing { .. }) => return Ok(Some(Bound::Lacking(error.to_string()))),
        Err(error) => return Err(error.to_string()),
    };
    let wrong = |what: &dyn std::fmt::Display| format!("tensor {name:?}: {what}");
    let Some(entry) = group.entry(name) else { return Ok(None) };
    let original = number(entry.ty)
        .ok_or_else(|| wrong(&format_args!("compressed {} cannot be computed on", entry.ty)))?;
    let shape = shape(&entry.dims).ok_or_else(|| wrong(&"its shape overflows"))?;
    let tensor = Tensor::open(located.encoding, original, located.home, shape.k, &located.pieces)
        .map_err(|error| wrong(&error))?;
    Ok(Some(Bound::Whole(Weight { tensor })))
}

/// `None` for a tensor that no index can name, or without data.
///
/// # Safety
/// As for [`bind`].
unsafe fn carrier(tensor: &ggml_tensor) -> Option<Carrier<'static>> {
    // SAFETY: names end in NUL. "Static" means as long as the weights are used: tensors live as long as their buffers.
    let name = unsafe { CStr::from_ptr::<'static>(tensor.name.as_ptr()) }.to_str().ok()?;
    let ty = TensorType::from_id(tensor.type_)?;
    let mut extents = tensor.ne.iter().map(|&extent| u64::try_from(extent).ok());
    let elements = extents.try_fold(1u64, |product, extent| product.checked_mul(extent?))?;
    if tensor.data.is_null() {
        return None;
    }
    // SAFETY: ggml has placed all bytes of the tensor inside its buffer.
    let bytes = unsafe { std::slice::from_raw_parts(tensor.data.cast::<u8>(), ggml_nbytes(tensor)) };
    Some(Carrier { name, ty, elements, bytes })
}
