//! Coding a tensor of a file into a blob, and decoding a blob in a file, a window at a time.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use rayon::prelude::*;
use unweight::codec::{Chunk, Encoder, Shape};
use unweight::kernel::Tensor;

use super::input::{Input, WINDOW};

/// Memory that passes from one tensor to the next: new memory for each would cost more than the coding.
#[derive(Default)]
pub struct Buffers {
    now: Vec<u16>,
    next: Vec<u16>,
    chunks: Vec<Chunk>,
    ahead: Vec<Chunk>,
}

/// The first `len` weights of a buffer, which grows when needed.
fn first(buffer: &mut Vec<u16>, len: usize) -> &mut [u16] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

/// Gives the original bytes of the tensor whose blob stands at `range` of `file` to `sink`, in order.
pub fn decode(
    buffers: &mut Buffers,
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
    let Buffers { now, next, .. } = buffers;
    let fill = |row: u64, buffer: &mut [u16]| {
        buffer.par_chunks_mut(piece as usize * k).enumerate().for_each(|(i, part)| {
            tensor.decode_bf16(row + i as u64 * piece, (part.len() / k) as u64, part);
        });
    };
    let len_at = |row: u64| window.min(shape.rows.saturating_sub(row)) as usize * k;
    fill(0, first(now, len_at(0)));
    for row in (0..shape.rows).step_by(window as usize) {
        // The sink has this window while the next is decoded.
        let (weights, ahead) = (&now[..len_at(row)], first(next, len_at(row + window)));
        rayon::join(|| sink(bytemuck::cast_slice(weights)), || fill(row + window, ahead)).0?;
        file.release(range.clone());
        std::mem::swap(now, next);
    }
    Ok(())
}

/// Codes the tensor whose weights stand at `position` of `file` and returns the length of its blob; its bytes go to `sink`, with
/// their places in the blob.
pub fn encode(
    buffers: &mut Buffers,
    file: &Input,
    position: u64,
    encoder: &Encoder,
    progress: &ProgressBar,
    sink: impl Fn(u64, &[u8]) -> Result<()> + Sync,
) -> Result<u64> {
    let shape = encoder.shape;
    let (k, row_bytes) = (shape.k as usize, 2 * shape.k);
    let window = encoder.rows_for(WINDOW);
    let piece = encoder.rows_for(WINDOW / (2 * rayon::current_num_threads() as u64));
    let Buffers { now, chunks, ahead, .. } = buffers;
    // Returns how many chunks are those of this window: the others are kept for later ones.
    let mut code = |row: u64, chunks: &mut Vec<Chunk>| -> Result<usize> {
        let weights = first(now, window.min(shape.rows.saturating_sub(row)) as usize * k);
        file.read(position + row * row_bytes, bytemuck::cast_slice_mut(weights))?;
        let pieces = weights.par_chunks(piece as usize * k);
        let count = pieces.len();
        if chunks.len() < count {
            chunks.resize_with(count, Chunk::default);
        }
        pieces.zip(chunks).for_each(|(rows, chunk)| encoder.encode_into(rows, chunk));
        Ok(count)
    };
    let mut escapes = 0;
    let mut count = code(0, chunks)?;
    for row in (0..shape.rows).step_by(window as usize) {
        // One thread writes, since writers of one file wait for each other; the others code the next window meanwhile.
        let write = || -> Result<u64> {
            let mut before = escapes;
            for (i, chunk) in chunks[..count].iter().enumerate() {
                for (at, bytes) in encoder.regions(row + i as u64 * piece, before, chunk) {
                    sink(at, &bytes)?;
                }
                before += chunk.escapes();
            }
            Ok(before)
        };
        let (written, coded) = rayon::join(write, || code(row + window, ahead));
        escapes = written?;
        count = coded?;
        std::mem::swap(chunks, ahead);
        progress.inc(window.min(shape.rows - row) * row_bytes);
    }
    let changed = || format!("{}: changed while it was read", file.path.display());
    ensure!(u32::try_from(escapes).is_ok(), "{}", changed());
    sink(0, &encoder.header(escapes))?;
    encoder.blob_len(escapes).with_context(changed)
}
