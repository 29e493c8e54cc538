//! Whether ggml is the one that the bindings were made for.

use super::ggml::*;
use super::text::{op_name, text};

/// Structures of ggml's inner headers have changed between versions without notice.
const BUILT_FOR: &str = "0.28.";

/// Every operation that this library knows by number.
const OPERATIONS: [(ggml_op, &str); 17] = [
    (GGML_OP_NONE, "NONE"),
    (GGML_OP_MUL_MAT, "MUL_MAT"),
    (GGML_OP_MUL_MAT_ID, "MUL_MAT_ID"),
    (GGML_OP_CPY, "CPY"),
    (GGML_OP_RESHAPE, "RESHAPE"),
    (GGML_OP_VIEW, "VIEW"),
    (GGML_OP_PERMUTE, "PERMUTE"),
    (GGML_OP_TRANSPOSE, "TRANSPOSE"),
    (GGML_OP_GET_ROWS, "GET_ROWS"),
    (GGML_OP_FLASH_ATTN_EXT, "FLASH_ATTN_EXT"),
    (GGML_OP_GATED_DELTA_NET, "GATED_DELTA_NET"),
    (GGML_OP_LIGHTNING_INDEXER, "LIGHTNING_INDEXER"),
    (GGML_OP_DSV4_HC_COMB, "DSV4_HC_COMB"),
    (GGML_OP_DSV4_HC_PRE, "DSV4_HC_PRE"),
    (GGML_OP_DSV4_HC_POST, "DSV4_HC_POST"),
    (GGML_OP_TOP_K_MASK, "TOP_K_MASK"),
    (GGML_OP_CUSTOM, "CUSTOM"),
];

/// # Errors
/// If ggml is of another version than the bindings, or numbers its operations differently.
pub fn check() -> Result<(), String> {
    // SAFETY: no precondition; the result is a constant string.
    let version = unsafe { text(ggml_version()) };
    if !version.starts_with(BUILT_FOR) {
        return Err(format!("built for ggml {BUILT_FOR}x, this program has ggml {version}: not loaded"));
    }
    // Lowest number first, and no further than the first that differs: names beyond the end of a shorter table are not looked at.
    if OPERATIONS.iter().any(|&(op, name)| op_name(op) != name) {
        return Err(format!("this ggml {version} numbers its operations in another way: not loaded"));
    }
    Ok(())
}
