//! GET_ROWS: rows of a compressed table as F32.

use unweight::kernel::Tensor;

use crate::chunks::{Chunks, Thread};
use crate::job::OutOfRange;
use crate::pool::Weight;
use crate::view::View;

pub struct GetRows<'a> {
    table: &'a Tensor<'static>,
    /// Extents 1 to 3 of the table.
    extents: [u64; 3],
    ids: View,
    y: View,
}

impl<'a> GetRows<'a> {
    /// `None` if the shapes do not fit each other.
    pub fn new(weight: &'a Weight, table: &View, ids: View, y: View) -> Option<Self> {
        let extents = [table.ne[1], table.ne[2], table.ne[3]];
        let fits = y.ne[0] == weight.tensor.k()
            && extents.iter().product::<u64>() == weight.tensor.rows()
            && ids.ne[..3] == y.ne[1..]
            && ids.ne[1] <= extents[1]
            && ids.ne[2] <= extents[2];
        fits.then_some(Self { table: &weight.tensor, extents, ids, y })
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
            let row = id + (at[1] + at[2] * self.extents[1]) * self.extents[0];
            // SAFETY: each row of the result is dealt to one thread.
            self.table.decode_f32(row, unsafe { self.y.part_mut(at, 0, width) });
        }
        Ok(())
    }
}
