//! ggml's functions, by pointer: of the ggml that loaded us, or of the program that this is linked into.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::forever::Wide;
use super::ggml::*;

/// Makes a table of functions, and for each one of its name that calls it.
macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $ty:ty),*) $(-> $result:ty)?;)*) => {
        struct Functions {
            $($name: unsafe extern "C" fn($($ty),*) $(-> $result)?,)*
            ggml_log_internal: unsafe extern "C" fn(ggml_log_level, *const c_char, ...),
        }

        impl Functions {
            fn find(find: &dyn Fn(&CStr) -> *mut c_void) -> Result<Self, String> {
                let required = |name: &CStr| match find(name) {
                    found if found.is_null() => Err(format!("it has no function {}", name.to_string_lossy())),
                    found => Ok(found),
                };
                // SAFETY: these are the types of the functions of these names in ggml's headers, since 0.10 at the latest.
                unsafe {
                    Ok(Self {
                        $($name: std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($ty),*) $(-> $result)?>(
                            required(c_name(concat!(stringify!($name), "\0")))?,
                        ),)*
                        ggml_log_internal: std::mem::transmute::<
                            *mut c_void,
                            unsafe extern "C" fn(ggml_log_level, *const c_char, ...),
                        >(required(c"ggml_log_internal")?),
                    })
                }
            }
        }

        /// The function of this name in the ggml that this is linked with; null if it is none of these.
        #[cfg(feature = "linked")]
        pub fn linked(name: &CStr) -> *mut c_void {
            // Only their addresses are taken.
            unsafe extern "C" {
                $(fn $name();)*
                fn ggml_log_internal();
            }
            match name.to_str() {
                $(Ok(stringify!($name)) => $name as *mut c_void,)*
                Ok("ggml_log_internal") => ggml_log_internal as *mut c_void,
                _ => std::ptr::null_mut(),
            }
        }

        $(
            /// # Safety
            /// ggml's own conditions; [`bind`] has been called.
            pub unsafe fn $name($($argument: $ty),*) $(-> $result)? {
                // SAFETY: the caller's promise.
                unsafe { (bound().$name)($($argument),*) }
            }
        )*
    };
}

functions! {
    fn ggml_version() -> *const c_char;
    fn ggml_op_name(op: ggml_op) -> *const c_char;
    fn ggml_nbytes(tensor: *const ggml_tensor) -> usize;
    fn ggml_type_size(ty: ggml_type) -> usize;
    fn ggml_tensor_overhead() -> usize;
    fn ggml_threadpool_params_init(params: *mut c_void, threads: c_int);
    fn ggml_init(params: ggml_init_params) -> *mut ggml_context;
    fn ggml_free(context: *mut ggml_context);
    fn ggml_new_tensor_2d(context: *mut ggml_context, ty: ggml_type, ne0: i64, ne1: i64) -> *mut ggml_tensor;
    fn ggml_new_tensor_3d(context: *mut ggml_context, ty: ggml_type, ne0: i64, ne1: i64, ne2: i64) -> *mut ggml_tensor;
    fn ggml_view_2d(
        context: *mut ggml_context,
        tensor: *mut ggml_tensor,
        ne0: i64,
        ne1: i64,
        nb1: usize,
        offset: usize
    ) -> *mut ggml_tensor;
    fn ggml_mul_mat(context: *mut ggml_context, a: *mut ggml_tensor, b: *mut ggml_tensor) -> *mut ggml_tensor;
    fn ggml_mul_mat_id(context: *mut ggml_context, experts: *mut ggml_tensor, b: *mut ggml_tensor, ids: *mut ggml_tensor) -> *mut ggml_tensor;
    fn ggml_new_graph_custom(context: *mut ggml_context, size: usize, grads: bool) -> *mut ggml_cgraph;
    fn ggml_build_forward_expand(graph: *mut ggml_cgraph, tensor: *mut ggml_tensor);
    fn ggml_graph_size(graph: *mut ggml_cgraph) -> c_int;
    fn ggml_graph_nodes(graph: *mut ggml_cgraph) -> *mut *mut ggml_tensor;
    fn ggml_backend_buft_alloc_buffer(buft: ggml_backend_buffer_type_t, size: usize) -> ggml_backend_buffer_t;
    fn ggml_backend_buft_get_alignment(buft: ggml_backend_buffer_type_t) -> usize;
    fn ggml_backend_buft_get_device(buft: ggml_backend_buffer_type_t) -> ggml_backend_dev_t;
    fn ggml_backend_buft_is_host(buft: ggml_backend_buffer_type_t) -> bool;
    fn ggml_backend_buffer_init(buft: ggml_backend_buffer_type_t, iface: WideBufferInterface, context: *mut c_void, size: usize) -> ggml_backend_buffer_t;
    fn ggml_backend_buffer_free(buffer: ggml_backend_buffer_t);
    fn ggml_backend_buffer_get_base(buffer: ggml_backend_buffer_t) -> *mut c_void;
    fn ggml_backend_buffer_get_size(buffer: ggml_backend_buffer_t) -> usize;
    fn ggml_backend_buffer_get_type(buffer: ggml_backend_buffer_t) -> ggml_backend_buffer_type_t;
    fn ggml_backend_buffer_get_usage(buffer: ggml_backend_buffer_t) -> ggml_backend_buffer_usage;
    fn ggml_backend_tensor_alloc(buffer: ggml_backend_buffer_t, tensor: *mut ggml_tensor, address: *mut c_void) -> ggml_status;
    fn ggml_backend_view_init(tensor: *mut ggml_tensor) -> ggml_status;
    fn ggml_backend_cpu_buffer_type() -> ggml_backend_buffer_type_t;
    fn ggml_backend_name(backend: ggml_backend_t) -> *const c_char;
    fn ggml_backend_get_device(backend: ggml_backend_t) -> ggml_backend_dev_t;
    fn ggml_backend_free(backend: ggml_backend_t);
    fn ggml_backend_graph_compute(backend: ggml_backend_t, graph: *mut ggml_cgraph) -> ggml_status;
    fn ggml_backend_dev_by_type(ty: ggml_backend_dev_type) -> ggml_backend_dev_t;
    fn ggml_backend_dev_name(device: ggml_backend_dev_t) -> *const c_char;
    fn ggml_backend_dev_buffer_type(device: ggml_backend_dev_t) -> ggml_backend_buffer_type_t;
    fn ggml_backend_dev_backend_reg(device: ggml_backend_dev_t) -> ggml_backend_reg_t;
    fn ggml_backend_dev_init(device: ggml_backend_dev_t, params: *const c_char) -> ggml_backend_t;
    fn ggml_backend_dev_supports_op(device: ggml_backend_dev_t, op: *const ggml_tensor) -> bool;
    fn ggml_backend_reg_name(reg: ggml_backend_reg_t) -> *const c_char;
    fn ggml_backend_reg_get_proc_address(reg: ggml_backend_reg_t, name: *const c_char) -> *mut c_void;
}

/// ggml takes these by value, as many as it knows.
pub type WideBufferInterface = Wide<ggml_backend_buffer_i>;

/// Never freed once it is set.
static FUNCTIONS: AtomicPtr<Functions> = AtomicPtr::new(std::ptr::null_mut());

fn found() -> Option<&'static Functions> {
    // SAFETY: null, or a table that is not freed.
    unsafe { FUNCTIONS.load(Ordering::Acquire).as_ref() }
}

fn bound() -> &'static Functions {
    found().expect("every way into this library binds first")
}

fn c_name(name: &'static str) -> &'static CStr {
    CStr::from_bytes_with_nul(name.as_bytes()).expect("made with its NUL")
}

/// Looks all functions up, for the rest of the process.
///
/// # Errors
/// If one is missing, naming it.
///
/// # Safety
/// What `find` gives must be null or ggml's function of that name, and stay in memory.
pub unsafe fn bind(find: &dyn Fn(&CStr) -> *mut c_void) -> Result<(), String> {
    if found().is_none() {
        let functions = Functions::find(find)?;
        FUNCTIONS.store(Box::into_raw(Box::new(functions)), Ordering::Release);
    }
    Ok(())
}

/// Forgets a ggml that cannot be worked with, so that another may be.
pub fn unbind() {
    FUNCTIONS.store(std::ptr::null_mut(), Ordering::Release);
}

/// True if what `find` gives is what we are bound to.
pub fn is_bound_to(find: &dyn Fn(&CStr) -> *mut c_void) -> bool {
    found().is_none_or(|bound| bound.ggml_version as *mut c_void == find(c"ggml_version"))
}

/// Writes a line to ggml's log.
pub fn log(level: ggml_log_level, line: &CStr) {
    if let Some(functions) = found() {
        // SAFETY: both strings end in NUL, and the format takes the one argument.
        unsafe { (functions.ggml_log_internal)(level, c"%s".as_ptr(), line.as_ptr()) }
    }
}
