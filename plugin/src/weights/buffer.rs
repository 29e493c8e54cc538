//! Buffers: ordinary ones for activations, and those that hold weights.

use std::cell::Cell;
use std::ffi::{c_int, c_void};

use super::advice::prefer_large_pages;
use super::kinds;
use super::loads::{self, LoadId};
use super::may_be_carrier;
use super::refusal::take_refusal;
use crate::host::api::*;
use crate::host::forever::Wide;
use crate::host::ggml::*;
use crate::host::layout::{context_of, layout};
use crate::host::{cpu, log};

/// The context of a buffer of weights.
struct Weights {
    load: LoadId,
    base: *mut c_void,
    /// The memory, where it is not that of a mapped file.
    memory: ggml_backend_buffer_t,
}

/// Makes our types of buffers, which point back to their device.
pub fn make_kinds(device: ggml_backend_dev_t) {
    kinds::make(device, allocate, allocate_for, bytes_of);
}

/// Wraps a range of a mapped file.
///
/// # Safety
/// `size` bytes at `base` must stay mapped and unchanged until the buffer is freed.
pub unsafe fn map(base: *mut c_void, size: usize) -> ggml_backend_buffer_t {
    prefer_large_pages(base, size);
    hold(loads::of_range(), base, size, std::ptr::null_mut())
}

fn hold(
    load: LoadId,
    base: *mut c_void,
    size: usize,
    memory: ggml_backend_buffer_t,
) -> ggml_backend_buffer_t {
    let iface = ggml_backend_buffer_i {
        free_buffer: Some(free),
        get_base: Some(base_of),
        init_tensor: Some(place),
        memset_tensor: Some(fill),
        set_tensor: Some(write),
        get_tensor: Some(read),
        clear: Some(clear),
        ..Default::default()
    };
    let context = Box::into_raw(Box::new(Weights { load, base, memory }));
    // SAFETY: the type lives for ever, the context until `free`.
    let buffer = unsafe { ggml_backend_buffer_init(kinds::loaded(), Wide::new(iface), context.cast(), size) };
    loads::add_buffer(load, buffer);
    buffer
}

/// True if ggml finds in a buffer of ours what we put there.
pub fn buffers_are_understood() -> bool {
    const SIZE: usize = 4096;
    let Some((buffer, base)) = load_into(SIZE) else { return false };
    // SAFETY: a live buffer, freed once.
    unsafe {
        let found = ggml_backend_buffer_get_type(buffer) == kinds::loaded()
            && kinds::of(buffer) == kinds::loaded()
            && ggml_backend_buffer_get_size(buffer) == SIZE
            && ggml_backend_buffer_get_base(buffer) == base
            && load_of(buffer).is_some();
        ggml_backend_buffer_free(buffer);
        found
    }
}

/// The load that a buffer belongs to; `None` for an empty one, with which llama.cpp asks.
///
/// # Safety
/// The buffer must be alive, and of the type `loaded` or `compressed`.
pub unsafe fn load_of(buffer: ggml_backend_buffer_t) -> Option<LoadId> {
    // SAFETY: buffers of these types are made in `hold`, or by ggml, empty and without a context.
    unsafe { context_of(buffer).cast::<Weights>().as_ref() }.map(|weights| weights.load)
}

/// Memory for a graph, unless it has been found that it cannot be computed; ordinary memory for whatever else asks.
unsafe extern "C" fn allocate(buft: ggml_backend_buffer_type_t, size: usize) -> ggml_backend_buffer_t {
    let plain = buft == kinds::plain();
    if plain && let Some(reason) = take_refusal() {
        log::error(&reason);
        return std::ptr::null_mut();
    }
    if CARRIERS_ASKED.take() && plain && layout().api < 3 {
        return load_into(size).map_or(std::ptr::null_mut(), |(buffer, _)| buffer);
    }
    // SAFETY: a CPU buffer depends on its type for nothing, so another may take its place.
    unsafe {
        let buffer = ggml_backend_buft_alloc_buffer(cpu::buffer_type(), size);
        if plain && !buffer.is_null() {
            kinds::set(buffer, buft);
        }
        buffer
    }
}

thread_local! {
    /// What this thread has asked about since it last asked for memory is weights only, with carriers among them.
    static CARRIERS_ASKED: Cell<bool> = const { Cell::new(false) };
}

/// How much memory a tensor needs. Before API 3 llama.cpp asks this for each weight of a list, then for memory for all of them: so it is
/// known what that is for.
unsafe extern "C" fn bytes_of(buft: ggml_backend_buffer_type_t, tensor: *const ggml_tensor) -> usize {
    // SAFETY: ggml passes a live tensor.
    let (bytes, tensor) = unsafe { (ggml_nbytes(tensor), &*tensor) };
    let is_weight = tensor.op == GGML_OP_NONE && tensor.flags == 0 && is_unplaced(tensor);
    if buft != kinds::plain() || !is_weight {
        CARRIERS_ASKED.set(false);
    } else if may_be_carrier(tensor.type_) {
        CARRIERS_ASKED.set(true);
    }
    bytes
}

/// Memory for all weights of a model that come to us, where it is not mapped; for an adapter's, which are none of ours, the CPU's.
unsafe extern "C" fn allocate_for(
    _: ggml_backend_buffer_type_t,
    tensors: *mut *mut ggml_tensor,
    count: c_int,
) -> ggml_backend_buffer_t {
    let list = match usize::try_from(count) {
        // SAFETY: ggml passes a list of live tensors.
        Ok(count) if !tensors.is_null() => unsafe { std::slice::from_raw_parts(tensors, count) },
        _ => &[],
    };
    // SAFETY: as above.
    unsafe { load(list) }.unwrap_or_else(|| {
        log::error("no memory for the weights of a model");
        std::ptr::null_mut()
    })
}

/// A buffer with these tensors in it, each at the alignment of our types: one of ours if there may be carriers among them.
///
/// # Safety
/// The tensors must be alive.
unsafe fn load(tensors: &[*mut ggml_tensor]) -> Option<ggml_backend_buffer_t> {
    let mut offsets = Vec::with_capacity(tensors.len());
    let mut size = 0usize;
    for &tensor in tensors {
        offsets.push(size);
        // SAFETY: the tensor is alive.
        let bytes = if unsafe { is_unplaced(&*tensor) } { unsafe { ggml_nbytes(tensor) } } else { 0 };
        size = size.checked_add(bytes)?.checked_next_multiple_of(kinds::ALIGNMENT)?;
    }
    let size = size.max(kinds::ALIGNMENT);
    // SAFETY: as above.
    let (buffer, base) = match tensors.iter().any(|&tensor| unsafe { may_be_carrier((*tensor).type_) }) {
        true => load_into(size)?,
        false => memory(size)?,
    };
    for (&tensor, offset) in tensors.iter().zip(offsets) {
        // SAFETY: the tensor is alive, has no place yet, and its bytes end before the next offset.
        let status = unsafe {
            if is_unplaced(&*tensor) {
                ggml_backend_tensor_alloc(buffer, tensor, base.byte_add(offset))
            } else if !(*tensor).view_src.is_null() && (*tensor).buffer.is_null() {
                ggml_backend_view_init(tensor)
            } else {
                GGML_STATUS_SUCCESS
            }
        };
        if status != GGML_STATUS_SUCCESS {
            // SAFETY: made above, and given to nobody.
            unsafe { ggml_backend_buffer_free(buffer) };
            return None;
        }
    }
    Some(buffer)
}

/// A buffer of so many bytes for weights that come by one load, and where it begins.
fn load_into(size: usize) -> Option<(ggml_backend_buffer_t, *mut c_void)> {
    let (memory, base) = memory(size)?;
    Some((hold(loads::of_list(), base, size, memory), base))
}

/// A buffer of ordinary memory, and where it begins.
fn memory(size: usize) -> Option<(ggml_backend_buffer_t, *mut c_void)> {
    // SAFETY: no precondition; the result is null or a buffer of its own.
    let memory = unsafe { ggml_backend_buft_alloc_buffer(cpu::buffer_type(), size) };
    // SAFETY: a live buffer.
    (!memory.is_null()).then(|| (memory, unsafe { ggml_backend_buffer_get_base(memory) }))
}

fn is_unplaced(tensor: &ggml_tensor) -> bool {
    tensor.data.is_null() && tensor.view_src.is_null()
}

/// # Safety
/// `buffer` must be one that `hold` made.
unsafe fn weights<'a>(buffer: ggml_backend_buffer_t) -> &'a Weights {
    // SAFETY: the caller's promise.
    unsafe { &*context_of(buffer).cast::<Weights>() }
}

unsafe extern "C" fn free(buffer: ggml_backend_buffer_t) {
    // SAFETY: the context is the box made in `hold`; ggml frees a buffer once.
    let weights = unsafe { Box::from_raw(context_of(buffer).cast::<Weights>()) };
    loads::end(weights.load);
    // SAFETY: null, or ours alone.
    unsafe { ggml_backend_buffer_free(weights.memory) };
}

unsafe extern "C" fn base_of(buffer: ggml_backend_buffer_t) -> *mut c_void {
    // SAFETY: ggml passes a buffer that `hold` made.
    unsafe { weights(buffer) }.base
}

/// Notes a tensor that has been placed. Its data may come later.
unsafe extern "C" fn place(buffer: ggml_backend_buffer_t, tensor: *mut ggml_tensor) -> ggml_status {
    // While it places tensors, ggml asks for their sizes once more.
    CARRIERS_ASKED.set(false);
    // SAFETY: ggml passes a buffer that `hold` made, and a live tensor. Views come by in every graph.
    if unsafe { (*tensor).view_src.is_null() } {
        // SAFETY: as above.
        loads::add_tensor(unsafe { weights(buffer) }.load, tensor);
    }
    GGML_STATUS_SUCCESS
}

unsafe extern "C" fn read(
    _: ggml_backend_buffer_t,
    tensor: *const ggml_tensor,
    to: *mut c_void,
    offset: usize,
    size: usize,
) {
    // SAFETY: ggml asks for bytes that the tensor has, and gives room for them.
    unsafe { std::ptr::copy_nonoverlapping((*tensor).data.cast::<u8>().add(offset), to.cast(), size) }
}

unsafe extern "C" fn write(
    buffer: ggml_backend_buffer_t,
    tensor: *mut ggml_tensor,
    from: *const c_void,
    offset: usize,
    size: usize,
) {
    // SAFETY: ggml passes a buffer that `hold` made; it writes bytes that the tensor has.
    unsafe {
        if writable(buffer) {
            std::ptr::copy_nonoverlapping(from.cast::<u8>(), (*tensor).data.cast::<u8>().add(offset), size);
        }
    }
}

unsafe extern "C" fn fill(
    buffer: ggml_backend_buffer_t,
    tensor: *mut ggml_tensor,
    value: u8,
    offset: usize,
    size: usize,
) {
    // SAFETY: as for `write`.
    unsafe {
        if writable(buffer) {
            (*tensor).data.cast::<u8>().add(offset).write_bytes(value, size);
        }
    }
}

unsafe extern "C" fn clear(buffer: ggml_backend_buffer_t, value: u8) {
    // SAFETY: as for `write`; the buffer is as long as it says.
    unsafe {
        if writable(buffer) {
            weights(buffer).base.cast::<u8>().write_bytes(value, ggml_backend_buffer_get_size(buffer));
        }
    }
}

/// False, and a message, for mapped files, and for weights that are in use.
///
/// # Safety
/// `buffer` must be one that `hold` made.
unsafe fn writable(buffer: ggml_backend_buffer_t) -> bool {
    // SAFETY: the caller's promise.
    let writable = unsafe { !weights(buffer).memory.is_null() && kinds::of(buffer) != kinds::compressed() };
    if !writable {
        log::error("compressed weights cannot be written");
    }
    writable
}
