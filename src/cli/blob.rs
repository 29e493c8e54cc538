//! Decoding a blob in a file, a window at a time.

use std::ops::Range;

use anyhow::Result;
use rayon::prelude::*;
use unweight::codec::Shape;
use unweight::kernel::Tensor;

use super::input::{Input, WINDOW};

/// Gives the original bytes of the tensor whose blob stands at `range` of `file` to `sink`, in order.
pub fn decode(
    file: &Input,
    range: Range<u64>,
    encoding: u32,
    shape: Shape,
    mut sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let blob = &file.bytes()[range.start as usize..range.end as usize];
    let tensor = Tensor::open_as(encoding, blob, shape)?;
    if shape.k == 0 {
        return Ok(());
    }
    let k = shape.k as usize;
    let rows_of = |bytes: u64| (bytes / (2 * shape.k)).max(1);
    let window = rows_of(WINDOW);
    let piece = rows_of(WINDOW / (4 * rayon::current_num_threads() as u64));
    let mut buffer = vec![0u16; window.min(shape.rows) as usize * k];
    for row in (0..shape.rows).step_by(window as usize) {
        let rows = window.min(shape.rows - row);
        let weights = &mut buffer[..rows as usize * k];
        weights.par_chunks_mut(piece as usize * k).enumerate().for_each(|(i, part)| {
            tensor.decode_bf16(row + i as u64 * piece, (part.len() / k) as u64, part);
        });
        sink(bytemuck::cast_slice(weights))?;
        file.release(range.clone());
    }
    Ok(())
}
