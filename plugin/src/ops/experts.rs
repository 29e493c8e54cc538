//! MUL_MAT_ID: each token's vectors with the matrices of the experts that were chosen for it.

use unweight::kernel::{Numbers, Order, Tensor, scratch_bytes};

use super::chunks::{Chunks, TILE, Thread, chunk_rows};
use super::prepared::Shared;
use super::scratch::Scratch;
use super::view::{OutOfRange, View};
use crate::weights::Rows;

/// Most products of a chunk.
const PRODUCTS: u64 = 1 << 16;

/// The chosen experts: ids\[slot, token\].
#[derive(Clone, Copy)]
pub struct Chosen {
    ids: View,
    experts: u64,
}

/// One column of the result.
#[derive(Clone, Copy)]
struct Column {
    slot: u64,
    token: u64,
}

/// Columns grouped by expert, the order in which their activations are prepared.
struct Groups {
    columns: Vec<Column>,
    /// Expert, its first column in the list, how many.
    groups: Vec<(u64, usize, usize)>,
    /// Columns of no expert: their result is zero.
    without: Vec<Column>,
}

impl Chosen {
    /// Every thread does this for itself: it takes less time than waiting for one that does it for all.
    fn groups(&self) -> Result<Groups, OutOfRange> {
        let [slots, tokens, _, _] = self.ids.ne;
        let mut keyed = Vec::with_capacity((slots * tokens) as usize);
        let mut without = Vec::new();
        for token in 0..tokens {
            for slot in 0..slots {
                // SAFETY: ggml has ids as I32; the node that writes them came before.
                let id = unsafe { self.ids.id([slot, token, 0]) };
                let column = Column { slot, token };
                match u64::try_from(id) {
                    Ok(expert) if expert < self.experts => keyed.push((expert, column)),
                    Err(_) if id == -1 => without.push(column),
                    _ => return Err(OutOfRange),
                }
            }
        }
        keyed.sort_by_key(|&(expert, column)| (expert, column.token, column.slot));
        let mut groups = Vec::new();
        let mut start = 0;
        for run in keyed.chunk_by(|a, b| a.0 == b.0) {
            groups.push((run[0].0, start, run.len()));
            start += run.len();
        }
        Ok(Groups { columns: keyed.into_iter().map(|(_, column)| column).collect(), groups, without })
    }
}

/// Rounds the activations of every column, and clears the columns of no expert.
pub struct PrepareExperts {
    pub order: Order,
    pub numbers: Numbers,
    pub x: View,
    pub y: View,
    pub chosen: Chosen,
    pub prepared: Shared,
}

impl PrepareExperts {
    pub fn run(&self, thread: Thread) -> Result<(), OutOfRange> {
        let groups = self.chosen.groups()?;
        let mine = |number: usize| number as u64 % thread.count == thread.index;
        for (number, column) in groups.columns.iter().enumerate().filter(|(number, _)| mine(*number)) {
            // One vector for all slots of a token, or one for each.
            let at = [column.slot % self.x.ne[1], column.token, 0];
            // SAFETY: each column belongs to one thread.
            unsafe { self.prepared.prepare(self.order, self.numbers, self.x.vector(at), number as u64) };
        }
        for (_, column) in groups.without.iter().enumerate().filter(|(number, _)| mine(*number)) {
            // SAFETY: as above.
            unsafe { self.y.part_mut([column.slot, column.token, 0], 0, self.y.ne[0]) }.fill(0.0);
        }
        Ok(())
    }
}

pub struct MultiplyExperts<'a> {
    weight: &'a Tensor<'static>,
    /// The weight's row that is the first of the experts.
    first: u64,
    order: Order,
    y: View,
    chosen: Chosen,
    prepared: Shared,
}

/// The two steps of one MUL_MAT_ID; `None` if the shapes do not fit each other.
pub fn steps<'a>(
    rows: Rows<'a>,
    [x, ids, y]: [View; 3],
    order: Order,
    prepared: Shared,
) -> Option<(PrepareExperts, MultiplyExperts<'a>)> {
    let Rows { weight, first, extents: [rows, experts, more] } = rows;
    let (k, [slots, tokens]) = (weight.k(), [y.ne[1], y.ne[2]]);
    let fits = more == 1
        && x.ne[1] > 0
        && x.ne == [k, x.ne[1], tokens, 1]
        && y.ne == [rows, slots, tokens, 1]
        && ids.ne == [slots, tokens, 1, 1];
    let chosen = Chosen { ids, experts };
    fits.then_some((
        PrepareExperts { order, numbers: weight.numbers(), x, y, chosen, prepared },
        MultiplyExperts { weight, first, order, y, chosen, prepared },
    ))
}

impl MultiplyExperts<'_> {
    pub fn run(&self, thread: Thread, chunks: &Chunks, scratch: &mut Scratch) -> Result<(), OutOfRange> {
        let groups = self.chosen.groups()?;
        let (k, rows) = (self.weight.k(), self.y.ne[0]);
        if rows == 0 {
            return Ok(());
        }
        let most = groups.groups.iter().map(|&(_, _, count)| count).max().unwrap_or(0);
        // The products of a chunk have to stay in a near cache until they are handed out.
        let fit = PRODUCTS / most.max(1) as u64 / TILE * TILE;
        let chunk = chunk_rows(rows, thread.count).min(fit.max(TILE));
        let per_group = rows.div_ceil(chunk);
        let mut products = vec![0f32; most * chunk as usize];
        let scratch = scratch.bytes(scratch_bytes(k));
        while let Some(number) = chunks.next(thread, per_group * groups.groups.len() as u64) {
            let (expert, start, count) = groups.groups[(number / per_group) as usize];
            let from = number % per_group * chunk;
            let n = chunk.min(rows - from) as usize;
            let row = self.first + expert * rows + from;
            // SAFETY: all columns were prepared in the node before.
            let x = unsafe { self.prepared.columns(start as u64, count as u64, k) };
            // SAFETY: `products` holds `count` columns of `n`, and is this thread's.
            unsafe {
                self.weight.matmul(
                    self.order,
                    row,
                    n as u64,
                    x,
                    count as u64,
                    products.as_mut_ptr(),
                    n,
                    scratch,
                );
            }
            for (column, product) in groups.columns[start..start + count].iter().zip(products.chunks_exact(n))
            {
                // SAFETY: this chunk of the result belongs to this thread.
                let y = unsafe { self.y.part_mut([column.slot, column.token, 0], from, n as u64) };
                y.copy_from_slice(product);
            }
        }
        Ok(())
    }
}
