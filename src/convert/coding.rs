//! Coding a tensor of a file, and decoding one in a file, a window at a time.

use rayon::prelude::*;

use super::error::{Error, Result};
use super::progress::Progress;
use super::source::{Source, WINDOW};
use crate::codec::{Chunk, Encoder, Number};
use crate::container::rooms::Located;
use crate::kernel::Tensor;

/// Memory that passes from one tensor to the next: new memory for each would cost more than the coding.
#[derive(Default)]
pub struct Buffers {
    now: Vec<u8>,
    next: Vec<u8>,
    chunks: Vec<Chunk>,
    ahead: Vec<Chunk>,
}

/// The first `len` bytes of a buffer, which grows when needed.
fn first(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    &mut buffer[..len]
}

/// Gives the original bytes of a tensor of `name` with rows of `k` such numbers to `sink`, in order. Its parts are in the first of `files`,
/// or in others of them.
pub fn decode(
    buffers: &mut Buffers,
    files: &[&Source],
    name: &str,
    (original, k): (Number, u64),
    located: &Located,
    mut sink: impl FnMut(&[u8]) -> Result<()> + Send,
) -> Result<()> {
    let tensor = Tensor::open(located.encoding, original, located.home, k, &located.pieces)
        .map_err(|error| Error::tensor(&files[0].path, name, error))?;
    if k == 0 {
        return Ok(());
    }
    let (rows, row_bytes) = (tensor.rows(), (original.bytes() * k) as usize);
    let rows_of = |bytes: u64| (bytes / row_bytes as u64).max(1);
    let window = rows_of(WINDOW);
    let piece = rows_of(WINDOW / (4 * rayon::current_num_threads() as u64));
    let Buffers { now, next, .. } = buffers;
    let fill = |row: u64, buffer: &mut [u8]| {
        buffer.par_chunks_mut(piece as usize * row_bytes).enumerate().for_each(|(i, part)| {
            tensor.decode(row + i as u64 * piece, (part.len() / row_bytes) as u64, part);
        });
    };
    let len_at = |row: u64| window.min(rows.saturating_sub(row)) as usize * row_bytes;
    let parts = || located.pieces.iter().map(|&(_, bytes)| bytes).chain([located.home]);
    fill(0, first(now, len_at(0)));
    for row in (0..rows).step_by(window as usize) {
        // The sink has this window while the next is decoded.
        let (bytes, ahead) = (&now[..len_at(row)], first(next, len_at(row + window)));
        rayon::join(|| sink(bytes), || fill(row + window, ahead)).0?;
        parts().for_each(|part| files.iter().for_each(|file| file.release(part)));
        std::mem::swap(now, next);
    }
    Ok(())
}

/// Codes the tensor whose weights stand at `position` of `source` and gives the chunks to `sink`, in the order of their rows; with
/// each its first row.
pub fn encode(
    buffers: &mut Buffers,
    source: &Source,
    position: u64,
    encoder: &Encoder,
    progress: &dyn Progress,
    mut sink: impl FnMut(u64, &Chunk) -> Result<()> + Send,
) -> Result<()> {
    let shape = encoder.shape;
    let row_bytes = encoder.row_bytes();
    let window = encoder.rows_for(WINDOW);
    let piece = encoder.rows_for(WINDOW / (2 * rayon::current_num_threads() as u64));
    let Buffers { now, chunks, ahead, .. } = buffers;
    // Returns how many chunks are those of this window: the others are kept for later ones.
    let mut code = |row: u64, chunks: &mut Vec<Chunk>| -> Result<usize> {
        let rows = first(now, (window.min(shape.rows.saturating_sub(row)) * row_bytes) as usize);
        source.read(position + row * row_bytes, rows)?;
        let pieces = rows.par_chunks((piece * row_bytes) as usize);
        let count = pieces.len();
        if chunks.len() < count {
            chunks.resize_with(count, Chunk::default);
        }
        pieces.zip(chunks).for_each(|(rows, chunk)| encoder.encode_into(rows, chunk));
        Ok(count)
    };
    let mut count = code(0, chunks)?;
    for row in (0..shape.rows).step_by(window as usize) {
        // One thread writes, since writers of one file wait for each other; the others code the next window meanwhile.
        let mut write = || {
            let mut rows = (row..).step_by(piece as usize);
            chunks[..count].iter().zip(&mut rows).try_for_each(|(chunk, row)| sink(row, chunk))
        };
        let (written, coded) = rayon::join(&mut write, || code(row + window, ahead));
        written?;
        count = coded?;
        std::mem::swap(chunks, ahead);
        progress.advance(window.min(shape.rows - row) * row_bytes);
    }
    Ok(())
}
