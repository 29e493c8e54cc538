//! Weights that llama.cpp has placed with us: which buffers came with one load, what is compressed among them, and what a tensor of
//! a graph shows of it.

mod advice;
mod bind;
mod buffer;
mod kinds;
mod loads;
mod refusal;
mod stand;
mod weight;

pub use buffer::{buffers_are_understood, make_kinds, map};
pub use kinds::{ALIGNMENT, compressed, plain};
pub use loads::{any_compressed, may_be_compressed, settle_own};
pub use refusal::{clear_refusal, refuse};
pub use stand::{Stand, holds, root, shown, stand};
pub use weight::{Rows, Shown};

use unweight::container::rooms::CARRIER_TYPES;

use crate::host::ggml::ggml_type;

/// True for the types that a compressed tensor may have. Real numbers have them too.
pub fn may_be_carrier(ty: ggml_type) -> bool {
    CARRIER_TYPES.iter().any(|(carrier, _)| carrier.id() == ty)
}
