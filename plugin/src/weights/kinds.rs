//! Our types of buffers.

use std::ffi::{c_char, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::host::cpu;
use crate::host::forever::Forever;
use crate::host::ggml::*;
use crate::host::layout::{Allocate, AllocateAll, BufferType, BytesOf, buffer_type_of, type_field};

/// Where vector loads are fastest, and a cache line.
pub const ALIGNMENT: usize = 64;

struct Kinds {
    plain: Kind,
    loaded: Kind,
    compressed: Kind,
}

type Kind = Forever<[*mut c_void; 10]>;

static KINDS: OnceLock<Kinds> = OnceLock::new();

/// Makes the types, which point back to their device, and give out memory so.
pub fn make(device: ggml_backend_dev_t, allocate: Allocate, allocate_all: AllocateAll, bytes_of: BytesOf) {
    KINDS.get_or_init(|| {
        let kind = |name, is_host| {
            let functions = BufferType { name, allocate, allocate_all, alignment, bytes_of, is_host };
            buffer_type_of(&functions, device)
        };
        Kinds {
            plain: kind(plain_name as unsafe extern "C" fn(_) -> _, yes as unsafe extern "C" fn(_) -> _),
            loaded: kind(loaded_name, yes),
            compressed: kind(compressed_name, no),
        }
    });
}

/// The device's default: llama.cpp asks with it what we can do, and keeps activations in it. It is ordinary memory, so that these pass
/// between this backend and the CPU's uncopied.
pub fn plain() -> ggml_backend_buffer_type_t {
    KINDS.get().map_or(std::ptr::null_mut(), |kinds| kinds.plain.get().cast())
}

/// Of weights, from when they are placed with us until it is known what they are. Ordinary memory: the loader reads into it.
pub fn loaded() -> ggml_backend_buffer_type_t {
    KINDS.get().map_or(std::ptr::null_mut(), |kinds| kinds.loaded.get().cast())
}

/// Of weights with compressed ones among them. Not "host", so that nobody else takes the bytes of a carrier for its numbers.
pub fn compressed() -> ggml_backend_buffer_type_t {
    KINDS.get().map_or(std::ptr::null_mut(), |kinds| kinds.compressed.get().cast())
}

/// Of weights that are real numbers after all: the CPU's.
pub fn numbers() -> ggml_backend_buffer_type_t {
    cpu::buffer_type()
}

/// The type of a buffer. What [`set`] made it is seen together with all that was done before.
///
/// # Safety
/// The buffer must be alive.
pub unsafe fn of(buffer: ggml_backend_buffer_t) -> ggml_backend_buffer_type_t {
    // SAFETY: the field of a live buffer; while others use it we change it only through `set`.
    unsafe { AtomicPtr::from_ptr(type_field(buffer)) }.load(Ordering::Acquire)
}

/// Makes a buffer one of another type.
///
/// # Safety
/// The buffer must be alive.
pub unsafe fn set(buffer: ggml_backend_buffer_t, kind: ggml_backend_buffer_type_t) {
    // SAFETY: as for `of`.
    unsafe { AtomicPtr::from_ptr(type_field(buffer)) }.store(kind, Ordering::Release);
}

unsafe extern "C" fn plain_name(_: ggml_backend_buffer_type_t) -> *const c_char {
    c"Unweight".as_ptr()
}

unsafe extern "C" fn loaded_name(_: ggml_backend_buffer_type_t) -> *const c_char {
    c"Unweight_Loaded".as_ptr()
}

unsafe extern "C" fn compressed_name(_: ggml_backend_buffer_type_t) -> *const c_char {
    c"Unweight_Compressed".as_ptr()
}

unsafe extern "C" fn yes(_: ggml_backend_buffer_type_t) -> bool {
    true
}

unsafe extern "C" fn no(_: ggml_backend_buffer_type_t) -> bool {
    false
}

unsafe extern "C" fn alignment(_: ggml_backend_buffer_type_t) -> usize {
    ALIGNMENT
}
