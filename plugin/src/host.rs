//! The ggml that this library finds itself in: its version, and how its CPU backend forms sums.

use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

use unweight::kernel::Order;

use crate::ggml::{
    GGML_BACKEND_DEVICE_TYPE_CPU, GGML_OP_CUSTOM, GGML_OP_FLASH_ATTN_EXT, GGML_OP_GET_ROWS, GGML_OP_MUL_MAT,
    GGML_OP_MUL_MAT_ID, ggml_backend_dev_backend_reg, ggml_backend_dev_by_type, ggml_backend_dev_t,
    ggml_backend_feature, ggml_backend_get_features_t, ggml_backend_reg_get_proc_address, ggml_backend_reg_t,
    ggml_op_name, ggml_version,
};

/// Structures of ggml's inner headers have changed between versions without notice.
const BUILT_FOR: &str = "0.28.";

/// # Errors
/// If ggml is of another version than the bindings, or numbers its operations differently.
pub fn check_version() -> Result<(), String> {
    // SAFETY: no precondition; the result is a constant string.
    let version = unsafe { text(ggml_version()) };
    if !version.starts_with(BUILT_FOR) {
        return Err(format!("built for ggml {BUILT_FOR}x, this program has ggml {version}: not loaded"));
    }
    let names = [
        (GGML_OP_MUL_MAT, "MUL_MAT"),
        (GGML_OP_MUL_MAT_ID, "MUL_MAT_ID"),
        (GGML_OP_GET_ROWS, "GET_ROWS"),
        (GGML_OP_FLASH_ATTN_EXT, "FLASH_ATTN_EXT"),
        (GGML_OP_CUSTOM, "CUSTOM"),
    ];
    for (op, name) in names {
        // SAFETY: the operations exist since long before this version; the result is a constant string.
        if unsafe { text(ggml_op_name(op)) } != name {
            return Err(format!("this ggml {version} numbers its operations in another way: not loaded"));
        }
    }
    Ok(())
}

/// The CPU device; null if the program has registered none.
pub fn cpu() -> ggml_backend_dev_t {
    // SAFETY: no precondition.
    unsafe { ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) }
}

/// A function that the CPU backend offers by name; null if it has none of that name.
pub fn cpu_function(name: &CStr) -> *mut std::ffi::c_void {
    let cpu = cpu();
    if cpu.is_null() {
        return std::ptr::null_mut();
    }
    // SAFETY: `cpu` is a device, and devices have a registration.
    unsafe { ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), name.as_ptr()) }
}

/// The orders of sums of the CPU backend's own BF16 products, which ours must repeat to give the same bits.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    /// `ggml_vec_dot_bf16`: single columns, and all products of experts.
    dot: Order,
    /// tinyBLAS: two columns or more, where it is built in.
    tile: Option<Order>,
}

impl Orders {
    pub fn of_host() -> Self {
        static ORDERS: OnceLock<Orders> = OnceLock::new();
        *ORDERS.get_or_init(|| Self::from_features(&features()))
    }

    fn from_features(features: &[String]) -> Self {
        let has = |name: &str| features.iter().any(|feature| feature == name);
        let (dot, tile) = if has("AVX512_BF16") {
            (Order::DotAvx512Bf16, Some(Order::TileAvx512Bf16))
        } else if has("AVX512") {
            (Order::DotAvx512, Some(Order::TileAvx512))
        } else if has("AVX2") {
            (Order::DotAvx2, Some(Order::TileAvx2))
        } else if has("AVX") {
            // tinyBLAS has no BF16 without AVX2.
            (if has("FMA") { Order::DotAvx2 } else { Order::DotAvx }, None)
        } else {
            (Order::DotPlain, None)
        };
        Self { dot, tile: tile.filter(|_| has("LLAMAFILE")) }
    }

    /// For the product of a matrix of `rows` rows with `columns` vectors.
    pub fn product(self, rows: u64, columns: u64) -> Order {
        match self.tile {
            Some(tile) if columns >= 2 && rows.is_multiple_of(4) => tile,
            _ => self.dot,
        }
    }

    pub fn experts(self) -> Order {
        self.dot
    }
}

/// Names of what the CPU backend was built with and the machine has.
fn features() -> Vec<String> {
    let function = cpu_function(c"ggml_backend_get_features");
    // SAFETY: this is the type of the function of this name, by ggml-backend.h; a null pointer becomes `None`.
    let get: ggml_backend_get_features_t = unsafe { std::mem::transmute(function) };
    let Some(get) = get else { return Vec::new() };
    let mut names = Vec::new();
    // SAFETY: the CPU device exists, since it offers the function; the list ends with a null name.
    unsafe {
        let registration: ggml_backend_reg_t = ggml_backend_dev_backend_reg(cpu());
        let mut feature: *const ggml_backend_feature = get(registration);
        while !feature.is_null() && !(*feature).name.is_null() {
            if text((*feature).value) == "1" {
                names.push(text((*feature).name).into_owned());
            }
            feature = feature.add(1);
        }
    }
    names
}

/// # Safety
/// `text` must be null or end in NUL, and stay as it is while the result is used.
pub unsafe fn text<'a>(text: *const c_char) -> std::borrow::Cow<'a, str> {
    if text.is_null() {
        return std::borrow::Cow::Borrowed("");
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}
