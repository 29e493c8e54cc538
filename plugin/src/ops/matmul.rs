//! MUL_MAT: a compressed matrix, or a stack of them, with F32 vectors.

use unweight::kernel::{Numbers, Order, Tensor, prepare, prepared_bytes, scratch_bytes};

use super::chunks::{Chunks, Thread, chunk_rows};
use super::prepared::Shared;
use super::scratch::Scratch;
use super::view::View;
use crate::weights::Rows;

/// Rounds the vectors of a tensor, for the products that follow.
pub struct Prepare {
    pub order: Order,
    pub numbers: Numbers,
    pub x: View,
    pub prepared: Shared,
}

impl Prepare {
    pub fn run(&self, thread: Thread) {
        let [_, n1, n2, _] = self.x.ne;
        for column in (thread.index..self.x.columns()).step_by(thread.count as usize) {
            let at = [column % n1, column / n1 % n2, column / n1 / n2];
            // SAFETY: each column belongs to one thread.
            unsafe { self.prepared.prepare(self.order, self.numbers, self.x.vector(at), column) };
        }
    }
}

pub struct Multiply<'a> {
    weight: &'a Tensor<'static>,
    /// The weight's row that is the first of the matrices.
    first: u64,
    /// Extents 1 to 3 of the matrices: rows of one, and the stack of them.
    extents: [u64; 3],
    order: Order,
    x: View,
    y: View,
    /// What [`Prepare`] made; single columns are rounded by each thread for itself, which is faster than to wait for each other.
    prepared: Option<Shared>,
}

impl<'a> Multiply<'a> {
    /// `None` if the shapes do not fit each other.
    pub fn new(rows: Rows<'a>, x: View, y: View, order: Order, prepared: Option<Shared>) -> Option<Self> {
        let Rows { weight, first, extents } = rows;
        let fits = x.ne[0] == weight.k()
            && y.ne[0] == extents[0]
            && x.ne[1..] == y.ne[1..]
            && (1..3).all(|d| extents[d] > 0 && x.ne[d + 1].is_multiple_of(extents[d]));
        fits.then_some(Self { weight, first, extents, order, x, y, prepared })
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
            let row = self.first + matrix * rows + from;
            // SAFETY: this chunk of the result belongs to this thread; x is complete, and so is what Prepare made of it.
            unsafe {
                match self.prepared {
                    None => {
                        if rounded != Some(slice) {
                            prepare(self.order, self.weight.numbers(), self.x.vector([0, i2, i3]), own);
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
