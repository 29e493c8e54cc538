//! GET_ROWS: rows of a compressed table as F32.

use unweight::kernel::Tensor;

use super::chunks::{Chunks, Thread};
use super::view::{OutOfRange, View};
use crate::weights::Rows;

pub struct GetRows<'a> {
    table: &'a Tensor<'static>,
    /// The weight's row that is the first of the table.
    first: u64,
    /// Extents 1 to 3 of the table.
    extents: [u64; 3],
    ids: View,
    y: View,
}

impl<'a> GetRows<'a> {
    /// `None` if the shapes do not fit each other.
    pub fn new(rows: Rows<'a>, ids: View, y: View) -> Option<Self> {
        let Rows { weight: table, first, extents } = rows;
        let fits = y.ne[0] == table.k()
            && ids.ne[..3] == y.ne[1..]
            && ids.ne[1] <= extents[1]
            && ids.ne[2] <= extents[2];
        fits.then_some(Self { table, first, extents, ids, y })
    }

    pub fn run(&self, thread: Thread, chunks: &Chunks) -> Result<(), OutOfRange> {
        let [width, n0, n1, _] = self.y.ne;
        while let Some(number) = chunks.next(thread, self.y.columns()) {
            let at = [number % n0, number / n0 % n1, number / n0 / n1];
            // SAFETY: ids are I32 (supports_op); the node that writes them came before.
            let id = u64::try_from(unsafe { self.ids.id(at) }).map_err(|_| OutOfRange)?;
            if id >= self.extents[0] {
                return Err(OutOfRange);
            }
            let row = self.first + id + (at[1] + at[2] * self.extents[1]) * self.extents[0];
            // SAFETY: each row of the result is dealt to one thread.
            self.table.decode_f32(row, unsafe { self.y.part_mut(at, 0, width) });
        }
        Ok(())
    }
}
