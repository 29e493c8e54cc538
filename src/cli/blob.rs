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
    mut sink: impl FnMut(&[u8]) -> Result<()> + Send,
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
    let buffer = || vec![0u16; window.min(shape.rows) as usize * k];
    let (mut now, mut next) = (buffer(), buffer());
    let fill = |row: u64, buffer: &mut [u16]| {
        buffer.par_chunks_mut(piece as usize * k).enumerate().for_each(|(i, part)| {
            tensor.decode_bf16(row + i as u64 * piece, (part.len() / k) as u64, part);
        });
    };
    let len_at = |row: u64| window.min(shape.rows.saturating_sub(row)) as usize * k;
    fill(0, &mut now[..len_at(0)]);
    for row in (0..shape.rows).step_by(window as usize) {
        // The sink has this window while the next is decoded.
        let (weights, ahead) = (&now[..len_at(row)], &mut next[..len_at(row + window)]);
        rayon::join(|| sink(bytemuck::cast_slice(weights)), || fill(row + window, ahead)).0?;
        file.release(range.clone());
        std::mem::swap(&mut now, &mut next);
    }
    Ok(())
}
