//! Spelling a weight out, so that the CPU computes what no kernel of ours does: slow, and the same bits.

use unweight::kernel::Tensor;

use super::chunks::{Chunks, Thread, chunk_rows};
use crate::host::ggml::{GGML_OP_NONE, ggml_tensor, ggml_type};
use crate::host::types::type_of;
use crate::weights::Shown;

/// The original's type of what is shown, and the bytes of a weight in it.
fn original(shown: &Shown) -> (ggml_type, usize) {
    let number = shown.weight.tensor.numbers().original;
    (type_of(number), number.bytes() as usize)
}

/// Bytes that the rows take which hold all that is shown; `None` if there are more than memory has addresses.
pub fn spelled_bytes(shown: &Shown) -> Option<usize> {
    let (_, rows) = shown.span();
    usize::try_from(rows.checked_mul(shown.weight.tensor.k())?).ok()?.checked_mul(original(shown).1)
}

/// The tensor as it would be in the original, its data being in the spelled rows at `start`, or null.
pub fn spelled(tensor: &ggml_tensor, shown: &Shown, start: *mut u8) -> ggml_tensor {
    let (ty, width) = original(shown);
    let offset = shown.offset() as usize * width;
    ggml_tensor {
        type_: ty,
        nb: shown.steps().map(|step| step as usize * width),
        op: GGML_OP_NONE,
        src: Default::default(),
        view_src: std::ptr::null_mut(),
        view_offs: 0,
        data: if start.is_null() { std::ptr::null_mut() } else { start.wrapping_add(offset).cast() },
        extra: std::ptr::null_mut(),
        ..*tensor
    }
}

/// Spells rows out.
pub struct Spell<'a> {
    weight: &'a Tensor<'static>,
    first: u64,
    rows: u64,
    start: *mut u8,
}

// SAFETY: threads write different rows, and read only in a later node of the graph.
unsafe impl Send for Spell<'_> {}
// SAFETY: as above.
unsafe impl Sync for Spell<'_> {}

impl<'a> Spell<'a> {
    /// For what is shown, into `out`, which has [`spelled_bytes`], and must stay while this is used.
    pub fn new(shown: &Shown<'a>, out: &mut [u8]) -> Self {
        let (first, rows) = shown.span();
        assert!(spelled_bytes(shown).is_some_and(|bytes| bytes <= out.len()), "room for what is spelled out");
        Self { weight: &shown.weight.tensor, first, rows, start: out.as_mut_ptr() }
    }

    pub fn run(&self, thread: Thread, chunks: &Chunks) {
        let row_bytes = self.weight.k() * self.weight.numbers().original.bytes();
        let chunk = chunk_rows(self.rows, thread.count);
        while let Some(number) = chunks.next(thread, self.rows.div_ceil(chunk)) {
            let from = number * chunk;
            let n = chunk.min(self.rows - from);
            // SAFETY: inside the room, as checked; these rows are dealt to one thread.
            let out = unsafe {
                std::slice::from_raw_parts_mut(
                    self.start.add((from * row_bytes) as usize),
                    (n * row_bytes) as usize,
                )
            };
            self.weight.decode(self.first + from, n, out);
        }
    }
}
