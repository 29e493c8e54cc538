//! Coding a tensor, a window at a time, and reading one that is coded.

use rayon::prelude::*;

use super::error::Result as Done;
use super::original::Original;
use super::progress::Progress;
use super::source::Source;
use super::windows::{WINDOW, window_of};
use crate::codec::{Chunk, Encoder, Number};
use crate::container::rooms::Located;
use crate::kernel::{OpenError, Tensor};

/// A compressed tensor in open files, to be read as it was.
pub struct Coded<'a> {
    pub tensor: Tensor<'a>,
    /// Of the original.
    row_bytes: u64,
    parts: Vec<&'a [u8]>,
}

impl<'a> Coded<'a> {
    /// Opens a tensor with rows of `k` such numbers.
    ///
    /// # Errors
    /// If its parts are not what they should be.
    pub fn open(located: &Located<'a>, original: Number, k: u64) -> Result<Self, OpenError> {
        let tensor = Tensor::open(located.encoding, original, located.home, k, &located.pieces)?;
        let parts = located.pieces.iter().map(|&(_, bytes)| bytes).chain([located.home]).collect();
        Ok(Self { tensor, row_bytes: original.bytes() * k, parts })
    }

    /// Bytes of a row in the original.
    pub fn row_bytes(&self) -> u64 {
        self.row_bytes
    }

    /// Fills `buffer` with the bytes from `at` of the tensor. `files`: what its parts are in.
    pub fn read(&self, files: &[&Source], at: u64, buffer: &mut [u8]) {
        if buffer.is_empty() {
            return;
        }
        let (first, before) = (at / self.row_bytes, at % self.row_bytes);
        if before == 0 && (buffer.len() as u64).is_multiple_of(self.row_bytes) {
            self.rows(first, buffer);
        } else {
            let rows = (before + buffer.len() as u64).div_ceil(self.row_bytes);
            let mut whole = vec![0; (rows * self.row_bytes) as usize];
            self.rows(first, &mut whole);
            buffer.copy_from_slice(&whole[before as usize..][..buffer.len()]);
        }
        let len = self.tensor.rows() * self.row_bytes;
        if buffer.len() as u64 >= WINDOW / 2 || at + buffer.len() as u64 == len {
            self.parts.iter().for_each(|part| files.iter().for_each(|file| file.release(part)));
        }
    }

    fn rows(&self, row: u64, out: &mut [u8]) {
        let row_bytes = self.row_bytes as usize;
        let piece = (out.len() / (4 * rayon::current_num_threads()) / row_bytes).max(1);
        out.par_chunks_mut(piece * row_bytes).enumerate().for_each(|(i, part)| {
            self.tensor.decode(row + (i * piece) as u64, (part.len() / row_bytes) as u64, part);
        });
    }
}

/// Memory that passes from one tensor to the next: new memory for each would cost more than the coding.
#[derive(Default)]
pub struct Buffers {
    now: Vec<u8>,
    chunks: Vec<Chunk>,
    ahead: Vec<Chunk>,
}

/// Codes the tensor whose weights stand at `position` of `original` and gives the chunks to `sink`, in the order of their rows; with
/// each its first row. `unit`: bytes that are best read together.
pub fn encode(
    buffers: &mut Buffers,
    original: &dyn Original,
    (position, unit): (u64, u64),
    encoder: &Encoder,
    progress: &dyn Progress,
    mut sink: impl FnMut(u64, &Chunk) -> Done<()> + Send,
) -> Done<()> {
    let shape = encoder.shape;
    let row_bytes = encoder.row_bytes();
    let window = encoder.rows_for(window_of(unit));
    let piece = encoder.rows_for(WINDOW / (2 * rayon::current_num_threads() as u64));
    let Buffers { now, chunks, ahead } = buffers;
    // Returns how many chunks are those of this window: the others are kept for later ones.
    let mut code = |row: u64, chunks: &mut Vec<Chunk>| -> Done<usize> {
        let len = (window.min(shape.rows.saturating_sub(row)) * row_bytes) as usize;
        if now.len() < len {
            now.resize(len, 0);
        }
        let rows = &mut now[..len];
        if len > 0 {
            original.read(position + row * row_bytes, rows)?;
        }
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
