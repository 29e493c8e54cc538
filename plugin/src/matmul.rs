//! MUL_MAT: a compressed matrix, or a stack of them, with F32 vectors.

use unweight::kernel::{Order, Tensor, prepare, prepared_bytes, scratch_bytes};

use crate::chunks::{Chunks, Thread};
use crate::job::Scratch;
use crate::pool::Weight;
use crate::view::View;

/// Rows are dealt out in multiples of what the kernel decodes at a time.
pub const TILE: u64 = 16;
/// Chunks per thread: enough that no thread waits long for another.
const CHUNKS: u64 = 8;

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
    pub unsafe fn prepare(self, order: Order, x: &[f32], column: u64) {
        let stride = prepared_bytes(x.len() as u64);
        let start = column as usize * stride;
        assert!(start + stride <= self.len, "a column beyond the prepared ones");
        // SAFETY: inside the buffer, as checked; the caller answers for the others.
        let column = unsafe { std::slice::from_raw_parts_mut(self.start.add(start), stride) };
        prepare(order, x, column);
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

/// Rounds the vectors of a tensor, for the products that follow.
pub struct Prepare {
    pub order: Order,
    pub x: View,
    pub prepared: Shared,
}

impl Prepare {
    pub fn run(&self, thread: Thread) {
        let [_, n1, n2, _] = self.x.ne;
        for column in (thread.index..self.x.columns()).step_by(thread.count as usize) {
            let at = [column % n1, column / n1 % n2, column / n1 / n2];
            // SAFETY: each column belongs to one thread.
            unsafe { self.prepared.prepare(self.order, self.x.vector(at), column) };
        }
    }
}

pub struct Multiply<'a> {
    pub weight: &'a Tensor<'static>,
    /// Extents 1 to 3 of the weight: rows of one matrix, and the stack of them.
    pub extents: [u64; 3],
    pub order: Order,
    pub x: View,
    pub y: View,
    /// What [`Prepare`] made; single columns are rounded by each thread for itself, which is faster than to wait for each other.
    pub prepared: Option<Shared>,
}

impl<'a> Multiply<'a> {
    /// `None` if the shapes do not fit each other.
    pub fn new(
        weight: &'a Weight,
        matrix: &View,
        x: View,
        y: View,
        order: Order,
        prepared: Option<Shared>,
    ) -> Option<Self> {
        let extents = [matrix.ne[1], matrix.ne[2], matrix.ne[3]];
        let fits = x.ne[0] == weight.tensor.k()
            && y.ne[0] == extents[0]
            && extents.iter().product::<u64>() == weight.tensor.rows()
            && x.ne[1..] == y.ne[1..]
            && (1..3).all(|d| extents[d] > 0 && x.ne[d + 1].is_multiple_of(extents[d]));
        fits.then_some(Self { weight: &weight.tensor, extents, order, x, y, prepared })
    }

    pub fn run(&self, thread: Thread, chunks: &Chunks, scratch: &mut Scratch) {
        let [rows, stack2, stack3] = self.extents;
        let [_, columns, n2, n3] = self.y.ne;
        if columns == 0 || rows == 0 {
            return;
        }
        let k = self.weight.k();
        let chunk = chunk_rows(rows, thread.count);
        let per_slice = rows.div_ceil(chunk);
        let (own, kernel) = scratch.areas(prepared_bytes(k), scratch_bytes(k));
        let mut rounded = None;
        while let Some(number) = chunks.next(thread, per_slice * n2 * n3) {
            let (slice, from) = (number / per_slice, number % per_slice * chunk);
            let (i2, i3) = (slice % n2, slice / n2);
            let n = chunk.min(rows - from);
            // Matrices are shared by several slices of x where there are fewer of them.
            let matrix = i2 / (n2 / stack2) + i3 / (n3 / stack3) * stack2;
            let row = matrix * rows + from;
            // SAFETY: this chunk of the result belongs to this thread; x is complete, and so is what Prepare made of it.
            unsafe {
                match self.prepared {
                    None => {
                        if rounded != Some(slice) {
                            prepare(self.order, self.x.vector([0, i2, i3]), own);
                            rounded = Some(slice);
                        }
                        self.weight.matvec(
                            self.order,
                            row,
                            own,
                            self.y.part_mut([0, i2, i3], from, n),
                            kernel,
                        );
                    }
                    Some(prepared) => {
                        let x = prepared.columns(slice * columns, columns, k);
                        let y = self.y.part_mut([0, i2, i3], from, n).as_mut_ptr();
                        self.weight.matmul(self.order, row, n, x, columns, y, self.y.stride(), kernel);
                    }
                }
            }
        }
    }
}

/// Rows in a chunk: long runs, since what a thread has fetched ahead of a run's end is lost.
pub fn chunk_rows(rows: u64, threads: u64) -> u64 {
    (rows / (threads * CHUNKS)).next_multiple_of(TILE).max(TILE)
}
