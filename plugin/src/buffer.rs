//! Buffers: plain host memory for activations, and the mapped range that holds a pool.

use std::ffi::{c_char, c_void};
use std::panic::catch_unwind;
use std::sync::OnceLock;

use crate::device;
use crate::ggml::*;
use crate::host::text;
use crate::log;
use crate::pool::{Pool, Weight};

/// A structure that ggml keeps a pointer to for as long as the process lives.
pub struct Forever<T>(*mut T);

// SAFETY: ggml and we only read these structures once they are made.
unsafe impl<T> Send for Forever<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Forever<T> {}

impl<T> Forever<T> {
    pub fn new(value: T) -> Self {
        Self(Box::into_raw(Box::new(value)))
    }

    pub fn get(&self) -> *mut T {
        self.0
    }
}

/// The device's own type of buffer. It is ordinary memory, so that activations pass between this backend and the CPU's uncopied.
pub fn plain() -> ggml_backend_buffer_type_t {
    static TYPE: OnceLock<Forever<ggml_backend_buffer_type>> = OnceLock::new();
    TYPE.get_or_init(|| {
        Forever::new(buffer_type(ggml_backend_buffer_type_i {
            get_name: Some(plain_name),
            alloc_buffer: Some(allocate),
            get_alignment: Some(alignment),
            is_host: Some(yes),
            ..Default::default()
        }))
    })
    .get()
}

/// The type of a mapped pool. Not "host", so that nobody else takes the bytes of a carrier for its numbers.
pub fn mapped() -> ggml_backend_buffer_type_t {
    static TYPE: OnceLock<Forever<ggml_backend_buffer_type>> = OnceLock::new();
    TYPE.get_or_init(|| {
        Forever::new(buffer_type(ggml_backend_buffer_type_i {
            get_name: Some(mapped_name),
            alloc_buffer: Some(refuse_allocation),
            get_alignment: Some(alignment),
            is_host: Some(no),
            ..Default::default()
        }))
    })
    .get()
}

fn buffer_type(iface: ggml_backend_buffer_type_i) -> ggml_backend_buffer_type {
    ggml_backend_buffer_type { iface, device: device::device(), context: std::ptr::null_mut() }
}

/// Wraps the mapped range of all carriers; null, and a message, if it is no intact pool.
///
/// # Safety
/// `size` bytes at `base` must stay mapped and unchanged until the buffer is freed.
pub unsafe fn map(base: *mut c_void, size: usize) -> ggml_backend_buffer_t {
    // SAFETY: the caller's promise. "Static" means until the buffer, which owns the pool, is freed.
    let bytes: &'static [u8] = unsafe { std::slice::from_raw_parts(base.cast(), size) };
    let pool = catch_unwind(|| Pool::open(bytes))
        .unwrap_or_else(|_| Err("a defect while the pool was read".to_owned()));
    let pool = match pool {
        Ok(pool) => pool,
        Err(cause) => {
            log::error(&format!("the pool of compressed weights cannot be used: {cause}"));
            return std::ptr::null_mut();
        }
    };
    let iface = ggml_backend_buffer_i {
        free_buffer: Some(free),
        get_base: Some(base_of),
        init_tensor: Some(bind),
        memset_tensor: Some(refuse_fill),
        set_tensor: Some(refuse_write),
        get_tensor: Some(read),
        clear: Some(refuse_clear),
        ..Default::default()
    };
    let context = Box::into_raw(Box::new(Mapped { pool, base }));
    // SAFETY: the type lives for ever, the context until `free`.
    unsafe { ggml_backend_buffer_init(mapped(), iface, context.cast(), size) }
}

struct Mapped {
    pool: Pool,
    base: *mut c_void,
}

/// The weight under a carrier; `None` for a tensor that is no carrier of a mapped pool.
///
/// # Safety
/// `tensor` must be a live tensor; the result must not outlive its buffer.
pub unsafe fn weight<'a>(tensor: &ggml_tensor) -> Option<&'a Weight> {
    // SAFETY: only `bind` sets `extra` in buffers of this type.
    unsafe {
        let buffer = tensor.buffer.as_ref()?;
        (buffer.buft == mapped() && tensor.view_src.is_null())
            .then(|| tensor.extra.cast::<Weight>().as_ref())
            .flatten()
    }
}

unsafe extern "C" fn plain_name(_: ggml_backend_buffer_type_t) -> *const c_char {
    c"Unweight".as_ptr()
}

unsafe extern "C" fn mapped_name(_: ggml_backend_buffer_type_t) -> *const c_char {
    c"Unweight_Mapped".as_ptr()
}

unsafe extern "C" fn yes(_: ggml_backend_buffer_type_t) -> bool {
    true
}

unsafe extern "C" fn no(_: ggml_backend_buffer_type_t) -> bool {
    false
}

unsafe extern "C" fn alignment(_: ggml_backend_buffer_type_t) -> usize {
    // SAFETY: no precondition.
    unsafe { ggml_backend_buft_get_alignment(ggml_backend_cpu_buffer_type()) }
}

unsafe extern "C" fn allocate(buft: ggml_backend_buffer_type_t, size: usize) -> ggml_backend_buffer_t {
    // SAFETY: a CPU buffer depends on its type for nothing, so another may take its place.
    unsafe {
        let buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
        if let Some(buffer) = buffer.as_mut() {
            buffer.buft = buft;
        }
        buffer
    }
}

unsafe extern "C" fn refuse_allocation(_: ggml_backend_buffer_type_t, _: usize) -> ggml_backend_buffer_t {
    std::ptr::null_mut()
}

unsafe extern "C" fn free(buffer: ggml_backend_buffer_t) {
    // SAFETY: the context is the box made in `map`; ggml frees a buffer once.
    drop(unsafe { Box::from_raw((*buffer).context.cast::<Mapped>()) });
}

unsafe extern "C" fn base_of(buffer: ggml_backend_buffer_t) -> *mut c_void {
    // SAFETY: the context is the box made in `map`.
    unsafe { (*(*buffer).context.cast::<Mapped>()).base }
}

/// Finds the blob of a carrier, by name.
unsafe extern "C" fn bind(buffer: ggml_backend_buffer_t, tensor: *mut ggml_tensor) -> ggml_status {
    // SAFETY: ggml passes a buffer of ours, and a live tensor that it has just placed in it.
    let (mapped, tensor) = unsafe { (&*(*buffer).context.cast::<Mapped>(), &mut *tensor) };
    if !tensor.view_src.is_null() {
        return GGML_STATUS_SUCCESS;
    }
    // SAFETY: names end in NUL.
    let name = unsafe { text(tensor.name.as_ptr()) };
    let offset = (tensor.data as usize).wrapping_sub(mapped.base as usize) as u64;
    match mapped.pool.weight(&name).filter(|weight| weight.belongs_to(&tensor.ne, offset)) {
        Some(weight) => {
            tensor.extra = std::ptr::from_ref(weight).cast_mut().cast();
            GGML_STATUS_SUCCESS
        }
        None => {
            log::error(&format!(
                "tensor {name:?} stands in the pool of compressed weights, but not in its index"
            ));
            GGML_STATUS_FAILED
        }
    }
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

unsafe extern "C" fn refuse_write(
    _: ggml_backend_buffer_t,
    _: *mut ggml_tensor,
    _: *const c_void,
    _: usize,
    _: usize,
) {
    log::error("compressed weights cannot be written");
}

unsafe extern "C" fn refuse_fill(_: ggml_backend_buffer_t, _: *mut ggml_tensor, _: u8, _: usize, _: usize) {
    log::error("compressed weights cannot be written");
}

unsafe extern "C" fn refuse_clear(_: ggml_backend_buffer_t, _: u8) {
    log::error("compressed weights cannot be written");
}
