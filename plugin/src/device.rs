//! The device and its registration: what it can compute, and how a backend of it is made.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crate::buffer::{self, Forever};
use crate::ggml::*;
use crate::graph::Backend;
use crate::host;
use crate::log;

const NAME: &CStr = c"Unweight";
const DESCRIPTION: &CStr = c"losslessly compressed weights, computed on the CPU";

pub fn registration() -> ggml_backend_reg_t {
    static REGISTRATION: OnceLock<Forever<ggml_backend_reg>> = OnceLock::new();
    REGISTRATION
        .get_or_init(|| {
            Forever::new(ggml_backend_reg {
                api_version: GGML_BACKEND_API_VERSION as c_int,
                iface: ggml_backend_reg_i {
                    get_name: Some(reg_name),
                    get_device_count: Some(one),
                    get_device: Some(device_at),
                    get_proc_address: Some(function),
                },
                context: std::ptr::null_mut(),
            })
        })
        .get()
}

pub fn device() -> ggml_backend_dev_t {
    static DEVICE: OnceLock<Forever<ggml_backend_device>> = OnceLock::new();
    DEVICE
        .get_or_init(|| {
            let iface = ggml_backend_device_i {
                get_name: Some(device_name),
                get_description: Some(description),
                get_memory: Some(memory),
                get_type: Some(kind),
                get_props: Some(properties),
                init_backend: Some(new_backend),
                get_buffer_type: Some(buffer_type),
                buffer_from_host_ptr: Some(map),
                supports_op: Some(supports_op),
                supports_buft: Some(supports_buffer_type),
                ..Default::default()
            };
            Forever::new(ggml_backend_device { iface, reg: registration(), context: std::ptr::null_mut() })
        })
        .get()
}

/// Where a matrix or table of an operation lies.
pub enum Source {
    /// Elsewhere: not ours.
    Other,
    /// llama.cpp asks, with an empty buffer of ours, whether a weight of this type could be placed with us.
    Probe,
    /// Weights that were copied into a buffer of ours instead of being mapped.
    Copied,
    Mapped,
}

pub fn is_carrier(ty: ggml_type) -> bool {
    [GGML_TYPE_I8, GGML_TYPE_I16, GGML_TYPE_I64].contains(&ty)
}

pub fn source(tensor: &ggml_tensor) -> Source {
    // SAFETY: a tensor's buffer is null or alive.
    let Some(buffer) = (unsafe { tensor.buffer.as_ref() }) else { return Source::Other };
    if buffer.buft == buffer::mapped() {
        Source::Mapped
    } else if buffer.buft != buffer::plain() {
        Source::Other
    } else if buffer.size == 0 && tensor.op == GGML_OP_NONE {
        Source::Probe
    } else if buffer.usage == GGML_BACKEND_BUFFER_USAGE_WEIGHTS {
        Source::Copied
    } else {
        Source::Other
    }
}

fn supports(op: &ggml_tensor) -> bool {
    if op.op == GGML_OP_NONE {
        return true;
    }
    // SAFETY: sources are null or alive.
    let sources = || op.src.iter().filter_map(|&source| unsafe { source.as_ref() });
    let ours =
        |tensor: &ggml_tensor| matches!(source(tensor), Source::Probe | Source::Copied | Source::Mapped);
    if let Some(weight) = sources().next()
        && ours(weight)
        && is_carrier(weight.type_)
    {
        return weight.view_src.is_null()
            && sources().skip(1).all(|other| !ours(other))
            && product_or_look_up(op);
    }
    // Of the weights, only carriers may come to us: the mapped range must begin with the pool.
    if sources().any(ours) {
        return false;
    }
    // llama.cpp wants flash attention where the layer is, which is the CPU; a mismatch makes it do without.
    if op.op == GGML_OP_FLASH_ATTN_EXT {
        return false;
    }
    let cpu = host::cpu();
    // SAFETY: a device, and a live operation.
    !cpu.is_null() && unsafe { ggml_backend_dev_supports_op(cpu, op) }
}

fn product_or_look_up(op: &ggml_tensor) -> bool {
    // SAFETY: sources are null or alive.
    let Some(second) = (unsafe { op.src[1].as_ref() }) else { return false };
    let dense_f32 = |tensor: &ggml_tensor| tensor.type_ == GGML_TYPE_F32 && tensor.nb[0] == 4;
    match op.op {
        GGML_OP_MUL_MAT | GGML_OP_MUL_MAT_ID => dense_f32(second) && dense_f32(op),
        GGML_OP_GET_ROWS => second.type_ == GGML_TYPE_I32 && dense_f32(op),
        _ => false,
    }
}

unsafe extern "C" fn reg_name(_: ggml_backend_reg_t) -> *const c_char {
    NAME.as_ptr()
}

unsafe extern "C" fn one(_: ggml_backend_reg_t) -> usize {
    1
}

unsafe extern "C" fn device_at(_: ggml_backend_reg_t, _: usize) -> ggml_backend_dev_t {
    device()
}

unsafe extern "C" fn function(_: ggml_backend_reg_t, name: *const c_char) -> *mut c_void {
    // SAFETY: ggml passes a string.
    match unsafe { CStr::from_ptr(name) }.to_bytes() {
        b"ggml_backend_set_n_threads" => set_n_threads as *mut c_void,
        b"ggml_backend_set_abort_callback" => set_abort_callback as *mut c_void,
        _ => std::ptr::null_mut(),
    }
}

unsafe extern "C" fn device_name(_: ggml_backend_dev_t) -> *const c_char {
    NAME.as_ptr()
}

unsafe extern "C" fn description(_: ggml_backend_dev_t) -> *const c_char {
    DESCRIPTION.as_ptr()
}

unsafe extern "C" fn memory(_: ggml_backend_dev_t, free: *mut usize, total: *mut usize) {
    // SAFETY: ggml passes two places to write to. Zero: no memory of its own.
    unsafe { (*free, *total) = (0, 0) }
}

unsafe extern "C" fn kind(_: ggml_backend_dev_t) -> ggml_backend_dev_type {
    GGML_BACKEND_DEVICE_TYPE_ACCEL
}

unsafe extern "C" fn properties(_: ggml_backend_dev_t, props: *mut ggml_backend_dev_props) {
    let caps = ggml_backend_dev_caps { buffer_from_host_ptr: true, mmap_support: true, ..Default::default() };
    // SAFETY: ggml passes a place to write to.
    unsafe {
        *props = ggml_backend_dev_props {
            name: NAME.as_ptr(),
            description: DESCRIPTION.as_ptr(),
            type_: GGML_BACKEND_DEVICE_TYPE_ACCEL,
            caps,
            ..Default::default()
        };
    }
}

unsafe extern "C" fn buffer_type(_: ggml_backend_dev_t) -> ggml_backend_buffer_type_t {
    buffer::plain()
}

unsafe extern "C" fn map(
    _: ggml_backend_dev_t,
    base: *mut c_void,
    size: usize,
    _: usize,
) -> ggml_backend_buffer_t {
    // SAFETY: llama.cpp frees the buffer before it unmaps the file.
    unsafe { buffer::map(base, size) }
}

unsafe extern "C" fn supports_op(_: ggml_backend_dev_t, op: *const ggml_tensor) -> bool {
    // SAFETY: ggml passes a live operation.
    unsafe { op.as_ref() }.is_some_and(supports)
}

unsafe extern "C" fn supports_buffer_type(_: ggml_backend_dev_t, buft: ggml_backend_buffer_type_t) -> bool {
    // SAFETY: ggml passes a live type.
    buft == buffer::mapped() || unsafe { ggml_backend_buft_is_host(buft) }
}

unsafe extern "C" fn new_backend(device: ggml_backend_dev_t, _: *const c_char) -> ggml_backend_t {
    static GUID: OnceLock<Forever<ggml_guid>> = OnceLock::new();
    let Some(backend) = Backend::new() else {
        log::error("the CPU backend that does the other operations cannot be started");
        return std::ptr::null_mut();
    };
    let iface = ggml_backend_i {
        get_name: Some(backend_name),
        free: Some(free_backend),
        graph_compute: Some(compute),
        ..Default::default()
    };
    let guid = GUID.get_or_init(|| Forever::new(*b"unweight\x01ggml-be")).get();
    let context = Box::into_raw(Box::new(backend)).cast();
    Box::into_raw(Box::new(ggml_backend { guid, iface, device, context }))
}

unsafe extern "C" fn backend_name(_: ggml_backend_t) -> *const c_char {
    NAME.as_ptr()
}

unsafe extern "C" fn free_backend(backend: ggml_backend_t) {
    // SAFETY: both boxes were made in `new_backend`; ggml frees a backend once.
    unsafe {
        drop(Box::from_raw((*backend).context.cast::<Backend>()));
        drop(Box::from_raw(backend));
    }
}

/// # Safety
/// `backend` must be one of ours, and used by one thread at a time: ggml's own rule.
unsafe fn context<'a>(backend: ggml_backend_t) -> &'a mut Backend {
    // SAFETY: the caller's promise.
    unsafe { &mut *(*backend).context.cast::<Backend>() }
}

unsafe extern "C" fn compute(backend: ggml_backend_t, graph: *mut ggml_cgraph) -> ggml_status {
    // SAFETY: ggml calls this with a backend of ours and a graph that is ready.
    let result = catch_unwind(AssertUnwindSafe(|| unsafe { context(backend).compute(&*graph) }));
    result.unwrap_or_else(|_| {
        log::error("a defect while a graph was computed");
        GGML_STATUS_FAILED
    })
}

unsafe extern "C" fn set_n_threads(backend: ggml_backend_t, threads: c_int) {
    // SAFETY: llama.cpp calls this with a backend of ours.
    unsafe { context(backend) }.set_threads(threads);
}

unsafe extern "C" fn set_abort_callback(
    backend: ggml_backend_t,
    callback: ggml_abort_callback,
    data: *mut c_void,
) {
    // SAFETY: llama.cpp calls this with a backend of ours.
    unsafe { context(backend) }.set_abort_callback(callback, data);
}
