//! What differs between versions of ggml, found in the one that runs. Its version does not tell: structures have changed without it, and
//! differ between programs of one version. docs/COMPATIBILITY.md has what is known.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use super::api::*;
use super::forever::Forever;
use super::ggml::*;
use super::text::{name, op_name, text};

pub struct Layout {
    /// 2, or 3 with `alloc_buffer_n` in buffer types.
    pub api: c_int,
    /// Where a buffer's type stands in it, behind its functions; its context, size and usage follow.
    buffer_type: usize,
    pub custom: ggml_op,
    /// Operations that llama.cpp wants where the layer is, as far as this ggml has them.
    pub where_the_layer_is: Vec<ggml_op>,
}

static LAYOUT: OnceLock<Layout> = OnceLock::new();

/// The layout of the running ggml.
pub fn layout() -> &'static Layout {
    LAYOUT.get().expect("every way into this library probes first")
}

/// Operations whose numbers have never changed, and are checked.
const FIXED: [(ggml_op, &str); 9] = [
    (GGML_OP_NONE, "NONE"),
    (GGML_OP_MUL_MAT, "MUL_MAT"),
    (GGML_OP_MUL_MAT_ID, "MUL_MAT_ID"),
    (GGML_OP_CPY, "CPY"),
    (GGML_OP_RESHAPE, "RESHAPE"),
    (GGML_OP_VIEW, "VIEW"),
    (GGML_OP_PERMUTE, "PERMUTE"),
    (GGML_OP_TRANSPOSE, "TRANSPOSE"),
    (GGML_OP_GET_ROWS, "GET_ROWS"),
];

/// It looks on which device these are, and does without them where that is another one (`resolve_fused_ops`; docs/LOADER.md).
const WHERE_THE_LAYER_IS: [&str; 7] = [
    "FLASH_ATTN_EXT",
    "GATED_DELTA_NET",
    "LIGHTNING_INDEXER",
    "DSV4_HC_PRE",
    "DSV4_HC_COMB",
    "DSV4_HC_POST",
    "TOP_K_MASK",
];

/// What is looked for stands before the first of these, and names behind the end of the table must not be looked at.
const LAST: [&str; 2] = ["CUSTOM", "GLU"];
/// Far more than any version has.
const MOST_OPERATIONS: ggml_op = 200;

/// Finds the layout out, for the rest of the process.
///
/// # Errors
/// If it is none that is known, with what differs.
pub fn probe() -> Result<(), String> {
    if LAYOUT.get().is_none() {
        let api = api()?;
        let buffer_type = buffer_type()?;
        check_tensors_and_graphs()?;
        let operations = operations();
        let number = |wanted: &str| operations.iter().find(|(_, name)| name == wanted).map(|&(op, _)| op);
        if let Some((_, name)) = FIXED.iter().find(|(op, name)| number(name) != Some(*op)) {
            return Err(format!("it numbers operations in another way ({name})"));
        }
        let custom = number("CUSTOM").ok_or("it has no operation CUSTOM")?;
        let where_the_layer_is = WHERE_THE_LAYER_IS.iter().filter_map(|name| number(name)).collect();
        LAYOUT.get_or_init(|| Layout { api, buffer_type, custom, where_the_layer_is });
    }
    Ok(())
}

/// The running ggml, for messages.
pub fn version() -> String {
    // SAFETY: no precondition; the result is a constant string.
    unsafe { text(ggml_version()) }.into_owned()
}

/// # Safety
/// At least `index + 1` words must be readable at `start`.
unsafe fn word(start: *const c_void, index: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { start.cast::<usize>().add(index).read() }
}

/// The functions of the type of ordinary memory, which is there before any device is: `alloc_buffer_n`, which it leaves out, came third in
/// API 3, and `get_alloc_size_n` in front of `is_host`.
fn api() -> Result<c_int, String> {
    // SAFETY: the type lives for ever, and has six functions, a device and a context at the least.
    let filled: Vec<bool> = unsafe {
        let ty = ggml_backend_cpu_buffer_type().cast::<c_void>();
        (0..8).map(|index| word(ty, index) != 0).collect()
    };
    match filled[..6] {
        [true, true, true, _, _, true] if !filled[3] => Ok(2),
        [true, true, false, true, _, _] if filled[7] => Ok(3),
        _ => Err("its types of buffers have other functions".to_owned()),
    }
}

/// Where type, context, size and usage stand in a buffer.
fn buffer_type() -> Result<usize, String> {
    const SIZE: usize = 4096 + 7 * 64;
    // SAFETY: a buffer of our own, of at least nine functions and four fields. Lowest place first, so that nothing is read behind what is
    // there.
    unsafe {
        let ty = ggml_backend_cpu_buffer_type();
        let buffer = ggml_backend_buft_alloc_buffer(ty, SIZE);
        if buffer.is_null() {
            return Err("it has no memory".to_owned());
        }
        let stands_at = |place: usize| {
            word(buffer.cast(), place) == ty.addr()
                && word(buffer.cast(), place + 2) == ggml_backend_buffer_get_size(buffer)
        };
        let found = [9, 11, 14].into_iter().find(|&place| stands_at(place));
        ggml_backend_buffer_free(buffer);
        // Nine are those before 0.10.
        found
            .filter(|&place| place > 9)
            .map(|place| place * size_of::<usize>())
            .ok_or("its buffers have other functions".to_owned())
    }
}

/// Tensors and graphs are as in our bindings.
fn check_tensors_and_graphs() -> Result<(), String> {
    const NODES: usize = 13;
    /// In front of everything that stands in a context.
    const OBJECT: usize = 32;
    let mut memory = vec![0u128; 1 << 11];
    let params = ggml_init_params {
        mem_size: size_of_val(&memory[..]),
        mem_buffer: memory.as_mut_ptr().cast(),
        no_alloc: true,
    };
    // SAFETY: the context lies in `memory`, and is freed before that; what is read of a tensor and a graph was found to be theirs.
    unsafe {
        if ggml_tensor_overhead() != OBJECT + size_of::<ggml_tensor>() {
            return Err("its tensors are larger or smaller".to_owned());
        }
        let context = ggml_init(params);
        if context.is_null() {
            return Err("it makes no context".to_owned());
        }
        let tensor = ggml_new_tensor_2d(context, GGML_TYPE_I16, 5, 3);
        let graph = ggml_new_graph_custom(context, NODES, false);
        let (nodes, size) = (ggml_graph_nodes(graph), size_of::<ggml_cgraph>());
        let tensors = (*tensor).type_ == GGML_TYPE_I16
            && (*tensor).ne == [5, 3, 1, 1]
            && (*tensor).nb == [2, 10, 30, 30]
            && (*tensor).data.is_null()
            && (*tensor).buffer.is_null()
            && (*tensor).view_src.is_null()
            && are_as_made(context);
        // The nodes stand behind the graph in memory, the leafs behind them.
        let graphs = nodes.addr() == graph.addr() + size && {
            let graph = &*graph;
            graph.size == ggml_graph_size(std::ptr::from_ref(graph).cast_mut())
                && graph.size == NODES as c_int
                && graph.n_nodes == 0
                && graph.nodes == nodes
                && graph.grads.is_null()
                && graph.grad_accs.is_null()
                && graph.leafs == nodes.add(NODES)
        };
        ggml_free(context);
        match (tensors, graphs) {
            (true, true) => Ok(()),
            (false, _) => Err("its tensors have other fields".to_owned()),
            (true, false) => Err("its graphs have other fields".to_owned()),
        }
    }
}

/// An operation and a view hold what they were made of.
///
/// # Safety
/// The context must have room for four tensors.
unsafe fn are_as_made(context: *mut ggml_context) -> bool {
    // SAFETY: the caller's promise; tensors of the context are alive as long as it is.
    unsafe {
        let (a, b) = (
            ggml_new_tensor_2d(context, GGML_TYPE_F32, 8, 6),
            ggml_new_tensor_2d(context, GGML_TYPE_F32, 8, 2),
        );
        let (product, view) = (&*ggml_mul_mat(context, a, b), &*ggml_view_2d(context, a, 4, 3, 32, 64));
        product.op == GGML_OP_MUL_MAT
            && product.ne == [6, 2, 1, 1]
            && product.src[..2] == [a, b]
            && product.src[2..].iter().all(|source| source.is_null())
            && view.op == GGML_OP_VIEW
            && view.src[0] == a
            && (view.view_src, view.view_offs) == (a, 64)
            && view.nb[..2] == [4, 32]
            && name(view) == " (view)"
            && view.extra.is_null()
    }
}

/// Operations with their names.
fn operations() -> Vec<(ggml_op, String)> {
    let mut all = Vec::new();
    for op in 0..MOST_OPERATIONS {
        let name = op_name(op).into_owned();
        let last = LAST.contains(&name.as_str());
        all.push((op, name));
        if last {
            break;
        }
    }
    all
}

/// The field of a buffer that says its type.
///
/// # Safety
/// The buffer must be alive.
pub unsafe fn type_field(buffer: ggml_backend_buffer_t) -> *mut ggml_backend_buffer_type_t {
    // SAFETY: the place was found by the probe.
    unsafe { buffer.cast::<u8>().add(layout().buffer_type).cast() }
}

/// What a buffer of ours was made with.
///
/// # Safety
/// The buffer must be alive.
pub unsafe fn context_of(buffer: ggml_backend_buffer_t) -> *mut c_void {
    // SAFETY: as above; the context follows the type.
    unsafe { type_field(buffer).add(1).cast::<*mut c_void>().read() }
}

pub type Allocate = unsafe extern "C" fn(ggml_backend_buffer_type_t, usize) -> ggml_backend_buffer_t;
pub type AllocateAll =
    unsafe extern "C" fn(ggml_backend_buffer_type_t, *mut *mut ggml_tensor, c_int) -> ggml_backend_buffer_t;
pub type BytesOf = unsafe extern "C" fn(ggml_backend_buffer_type_t, *const ggml_tensor) -> usize;

/// The functions of a type of buffers of ours. `allocate_all` takes a list of tensors, which API 3 passes; `bytes_of` is asked for each
/// tensor before memory for it is.
pub struct BufferType {
    pub name: unsafe extern "C" fn(ggml_backend_buffer_type_t) -> *const std::ffi::c_char,
    pub allocate: Allocate,
    pub allocate_all: AllocateAll,
    pub alignment: unsafe extern "C" fn(ggml_backend_buffer_type_t) -> usize,
    pub bytes_of: BytesOf,
    pub is_host: unsafe extern "C" fn(ggml_backend_buffer_type_t) -> bool,
}

/// The type as this ggml lays it out: functions, device, context.
pub fn buffer_type_of(functions: &BufferType, device: ggml_backend_dev_t) -> Forever<[*mut c_void; 10]> {
    let BufferType { name, allocate, allocate_all, alignment, bytes_of, is_host } = *functions;
    let (name, allocate) = (name as *mut c_void, allocate as *mut c_void);
    let (alignment, is_host, bytes_of) =
        (alignment as *mut c_void, is_host as *mut c_void, bytes_of as *mut c_void);
    let (none, device) = (std::ptr::null_mut(), device.cast());
    Forever::new(match layout().api {
        2 => [name, allocate, alignment, none, bytes_of, is_host, device, none, none, none],
        _ => {
            [name, allocate, allocate_all as *mut c_void, alignment, none, none, none, is_host, device, none]
        }
    })
}
