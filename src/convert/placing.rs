//! Putting coded tensors into homes and rooms.

use std::path::Path;

use super::error::{Error, Result, TensorCause};
use super::output::Output;
use crate::codec::{Chunk, Encoder, PieceBuilder};
use crate::container::rooms::{Filling, Free, Piece, Space};

/// Fills the rooms of a file, tensor after tensor.
pub struct Placing<'a> {
    output: &'a Output,
    rooms: &'a [Space],
    filling: Filling<'a>,
}

impl<'a> Placing<'a> {
    /// `index_len`: bytes that are kept free for the index.
    pub fn new(output: &'a Output, rooms: &'a [Space], index_len: u64) -> Self {
        Self { output, rooms, filling: Filling::new(rooms, index_len) }
    }

    /// Puts bytes that must stay together into a room; `None` if there is no space.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn whole(&mut self, bytes: &[u8]) -> Result<Option<Free>> {
        while let Some(free) = self.filling.free() {
            if free.len >= bytes.len() as u64 {
                self.write(free, 0, bytes)?;
                self.filling.take(free, bytes.len() as u64);
                return Ok(Some(free));
            }
            self.filling.leave();
        }
        Ok(None)
    }

    /// A tensor whose home begins at `home` of the file.
    pub fn tensor<'p>(&'p mut self, encoder: &'p Encoder, home: u64) -> TensorPlacing<'p, 'a> {
        TensorPlacing { placing: self, encoder, home, open: None, pieces: Vec::new(), is_full: false }
    }

    fn write(&self, free: Free, at: u64, bytes: &[u8]) -> Result<()> {
        self.output.write(self.rooms[free.room].position + free.offset + at, bytes)
    }
}

/// One tensor on its way into its home and some rooms.
pub struct TensorPlacing<'p, 'a> {
    placing: &'p mut Placing<'a>,
    encoder: &'p Encoder,
    home: u64,
    open: Option<(Free, PieceBuilder<'p>)>,
    pieces: Vec<Piece>,
    is_full: bool,
}

impl<'p> TensorPlacing<'p, '_> {
    /// Writes a chunk, whose first row is `row`; where rooms have no space left, nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put(&mut self, row: u64, chunk: &Chunk) -> Result<()> {
        self.placing.output.write(self.home + row * self.encoder.shape.k, chunk.low())?;
        let mut from = 0;
        while from < chunk.segments() && !self.is_full {
            let open = self.open.take();
            let Some((free, mut builder)) = open.or_else(|| self.new_piece()) else {
                self.is_full = true;
                break;
            };
            let fit = builder.fits(chunk, from, free.len);
            if fit > 0 {
                let (at, codes) = builder.take(chunk, from..from + fit);
                self.placing.write(free, at, codes)?;
                from += fit;
            }
            if from < chunk.segments() {
                self.close(free, builder)?;
                self.placing.filling.leave();
            } else {
                self.open = Some((free, builder));
            }
        }
        Ok(())
    }

    /// The pieces; `None` if there was not enough space.
    ///
    /// # Errors
    /// If the last cannot be written, or the tensor is not whole: it changed while it was read.
    pub fn finish(mut self, input: &Path, name: &str) -> Result<Option<Vec<Piece>>> {
        if let Some((free, builder)) = self.open.take() {
            self.close(free, builder)?;
        }
        if self.is_full {
            return Ok(None);
        }
        let rows: u64 = self.pieces.iter().map(|piece| piece.rows).sum();
        if rows == self.encoder.shape.rows {
            Ok(Some(self.pieces))
        } else {
            Err(Error::tensor(input, name, TensorCause::Changed))
        }
    }

    fn new_piece(&mut self) -> Option<(Free, PieceBuilder<'p>)> {
        Some((self.placing.filling.free()?, PieceBuilder::new(self.encoder)))
    }

    fn close(&mut self, free: Free, builder: PieceBuilder) -> Result<()> {
        let finished = builder.finish();
        if finished.rows == 0 {
            return Ok(());
        }
        for (at, bytes) in &finished.parts {
            self.placing.write(free, *at, bytes)?;
        }
        self.placing.filling.take(free, finished.len);
        let (room, offset) = (free.room as u32, free.offset);
        self.pieces.push(Piece { rows: finished.rows, room, offset, len: finished.len });
        Ok(())
    }
}
