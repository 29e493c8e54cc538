//! The device and its registration: what llama.cpp calls. Nothing here lets a panic cross into C.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Once, OnceLock};

use crate::graph::Backend;
use crate::host::api::*;
use crate::host::forever::{Forever, Wide};
use crate::host::ggml::*;
use crate::host::layout::{layout, version};
use crate::host::log;
use crate::host::text::text;
use crate::ops::job::custom_operations_run;
use crate::support;
use crate::weights;

const NAME: &CStr = c"Unweight";
const DESCRIPTION: &CStr = c"losslessly compressed weights, computed on the CPU";

fn registration() -> ggml_backend_reg_t {
    static REGISTRATION: OnceLock<Forever<ggml_backend_reg>> = OnceLock::new();
    REGISTRATION
        .get_or_init(|| {
            Forever::new(ggml_backend_reg {
                api_version: layout().api,
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

fn device() -> ggml_backend_dev_t {
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
            let device = Forever::new(ggml_backend_device {
                iface,
                reg: registration(),
                context: std::ptr::null_mut(),
            });
            weights::make_kinds(device.get());
            device
        })
        .get()
}

/// The registration, after ggml has been asked to find in it, and in what it leads to, what we put there.
///
/// # Errors
/// If ggml finds something else.
pub fn checked_registration() -> Result<ggml_backend_reg_t, String> {
    let (reg, device, kind) = (registration(), device(), weights::plain());
    let ours = NAME.to_string_lossy();
    // SAFETY: these structures live for ever; whatever function of ours is called by them looks at nothing that it is given. One after
    // the other: what is not as it should be may lead anywhere in the next.
    let stranger = unsafe {
        if text(ggml_backend_reg_name(reg)) != ours {
            Some("registrations")
        } else if ggml_backend_dev_backend_reg(device) != reg
            || text(ggml_backend_dev_name(device)) != ours
            || ggml_backend_dev_buffer_type(device) != kind
            || ggml_backend_dev_supports_op(device, std::ptr::null())
        {
            Some("devices")
        } else if ggml_backend_buft_get_device(kind) != device
            || !ggml_backend_buft_is_host(kind)
            || ggml_backend_buft_get_alignment(kind) != weights::ALIGNMENT
        {
            Some("types of buffers")
        } else if !weights::buffers_are_understood() {
            Some("buffers")
        } else if !backends_are_understood() {
            Some("backends")
        } else {
            None
        }
    };
    match stranger {
        None => Ok(reg),
        Some(what) => {
            Err(format!("ggml {} of this program has {what} with other fields: not loaded", version()))
        }
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
    weights::plain()
}

unsafe extern "C" fn map(
    _: ggml_backend_dev_t,
    base: *mut c_void,
    size: usize,
    _: usize,
) -> ggml_backend_buffer_t {
    // SAFETY: llama.cpp frees the buffer before it unmaps the file.
    unsafe { weights::map(base, size) }
}

unsafe extern "C" fn supports_op(_: ggml_backend_dev_t, op: *const ggml_tensor) -> bool {
    // SAFETY: ggml passes a live operation.
    let Some(op) = (unsafe { op.as_ref() }) else { return false };
    catch_unwind(AssertUnwindSafe(|| support::supports(op))).unwrap_or_else(|_| {
        log::error("a defect while an operation was looked at");
        false
    })
}

unsafe extern "C" fn supports_buffer_type(_: ggml_backend_dev_t, buft: ggml_backend_buffer_type_t) -> bool {
    // SAFETY: ggml passes a live type.
    buft == weights::compressed() || unsafe { ggml_backend_buft_is_host(buft) }
}

unsafe extern "C" fn new_backend(device: ggml_backend_dev_t, _: *const c_char) -> ggml_backend_t {
    let refused = catch_unwind(weights::settle_own)
        .unwrap_or_else(|_| vec!["a defect while compressed weights were looked for".to_owned()]);
    // With others in the process this context may be theirs. Then what is refused is so when a graph on it is laid out.
    if !refused.is_empty() && !weights::any_compressed() {
        refused.iter().for_each(|reason| log::error(reason));
        return std::ptr::null_mut();
    }
    let Some(backend) = Backend::new() else {
        log::error("the CPU backend that does the other operations cannot be started");
        return std::ptr::null_mut();
    };
    if weights::may_be_compressed() {
        if !custom_operations_run() {
            log::error("the CPU backend of this program runs custom operations in another way: not used");
            return std::ptr::null_mut();
        }
        say_where_weights_are();
        backend.share_threads_with_next();
    }
    backend_with(Box::into_raw(Box::new(backend)).cast(), device)
}

/// `context`: a [`Backend`]; null for one that computes nothing.
fn backend_with(context: *mut c_void, device: ggml_backend_dev_t) -> ggml_backend_t {
    static GUID: OnceLock<Forever<ggml_guid>> = OnceLock::new();
    let iface = ggml_backend_i {
        get_name: Some(backend_name),
        free: Some(free_backend),
        graph_compute: Some(compute),
        ..Default::default()
    };
    let guid = GUID.get_or_init(|| Forever::new(*b"unweight\x01ggml-be")).get();
    Box::into_raw(Box::new(Wide::new(ggml_backend { guid, iface, device, context }))).cast()
}

/// True if ggml finds in a backend of ours what we put there.
fn backends_are_understood() -> bool {
    let backend = backend_with(std::ptr::null_mut(), device());
    let mut empty = ggml_cgraph::default();
    // SAFETY: the backend is alive, and looks at no graph, having no context.
    let understood = unsafe {
        text(ggml_backend_name(backend)) == NAME.to_string_lossy()
            && ggml_backend_get_device(backend) == device()
            && ggml_backend_graph_compute(backend, &mut empty) == NOTHING_TO_COMPUTE_WITH
    };
    if understood {
        // SAFETY: as above; ggml knows what it is, and it is used no more.
        unsafe { ggml_backend_free(backend) };
    }
    understood
}

/// What a backend without a context answers.
const NOTHING_TO_COMPUTE_WITH: ggml_status = GGML_STATUS_ABORTED;

/// Once, in a program with a GPU: it hands over to it whatever is not compressed.
fn say_where_weights_are() {
    static SAID: Once = Once::new();
    // SAFETY: no precondition.
    let has = |ty| unsafe { !ggml_backend_dev_by_type(ty).is_null() };
    if has(GGML_BACKEND_DEVICE_TYPE_GPU) || has(GGML_BACKEND_DEVICE_TYPE_IGPU) {
        SAID.call_once(|| {
            log::warn(
                "this program has a GPU, which cannot use compressed weights: products with them are computed on the CPU, and -ngl 0 \
                 keeps all else there too",
            );
        });
    }
}

unsafe extern "C" fn backend_name(_: ggml_backend_t) -> *const c_char {
    NAME.as_ptr()
}

unsafe extern "C" fn free_backend(backend: ggml_backend_t) {
    // SAFETY: both boxes were made by us; ggml frees a backend once.
    unsafe {
        let context = (*backend).context.cast::<Backend>();
        if !context.is_null() {
            drop(Box::from_raw(context));
        }
        drop(Box::from_raw(backend.cast::<Wide<ggml_backend>>()));
    }
}

/// # Safety
/// `backend` must be one of ours, and used by one thread at a time: ggml's own rule.
unsafe fn context<'a>(backend: ggml_backend_t) -> &'a mut Backend {
    // SAFETY: the caller's promise.
    unsafe { &mut *(*backend).context.cast::<Backend>() }
}

unsafe extern "C" fn compute(backend: ggml_backend_t, graph: *mut ggml_cgraph) -> ggml_status {
    // SAFETY: ggml calls this with a backend of ours.
    if unsafe { (*backend).context.is_null() } {
        return NOTHING_TO_COMPUTE_WITH;
    }
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
