//! Activations, rounded for the products that follow, and shared by the threads.

use unweight::kernel::{Numbers, Order, prepare, prepared_bytes};

/// Rounded activations of several columns, shared by the threads.
#[derive(Clone, Copy)]
pub struct Shared {
    start: *mut u8,
    len: usize,
}

// SAFETY: threads write different columns, and read only in a later node of the graph.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(bytes: &mut [u8]) -> Self {
        Self { start: bytes.as_mut_ptr(), len: bytes.len() }
    }

    /// # Safety
    /// Nobody else may write or read the columns meanwhile.
    pub unsafe fn prepare(self, order: Order, numbers: Numbers, x: &[f32], column: u64) {
        let stride = prepared_bytes(x.len() as u64);
        let start = column as usize * stride;
        assert!(start + stride <= self.len, "a column beyond the prepared ones");
        // SAFETY: inside the buffer, as checked; the caller answers for the others.
        let column = unsafe { std::slice::from_raw_parts_mut(self.start.add(start), stride) };
        prepare(order, numbers, x, column);
    }

    /// Columns from `column` on.
    ///
    /// # Safety
    /// Nobody may write them meanwhile.
    pub unsafe fn columns(&self, column: u64, count: u64, k: u64) -> &[u8] {
        let stride = prepared_bytes(k);
        let (start, len) = (column as usize * stride, count as usize * stride);
        assert!(start + len <= self.len, "columns beyond the prepared ones");
        // SAFETY: inside the buffer, as checked; the caller answers for the writers.
        unsafe { std::slice::from_raw_parts(self.start.add(start), len) }
    }
}
