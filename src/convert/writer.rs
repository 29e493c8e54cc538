//! Writing a converted file, and proving it.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::coding::{Buffers, Coded, encode};
use super::error::{Cause, Error, In, Refusal, Result, TensorCause};
use super::original::{Original, each_window};
use super::output::Output;
use super::placing::Placing;
use super::progress::{Progress, Stage};
use super::source::Source;
use super::survey::Survey;
use super::windows::{WINDOW, Windows, window_of};
use crate::codec::{Encoder, PieceBuilder};
use crate::container::converted::Converted;
use crate::container::gguf::{Gguf, TensorInfo};
use crate::container::layout::{Layout, Need};
use crate::container::restored::Restored;
use crate::container::rooms::{
    Entry, FileId, Free, HEADER_BYTES, Index, Located, Piece, Remainder, Room, RoomHeader, Stored,
};

/// What `unweight.writer` says.
pub const NAME: &str = concat!("unweight-gguf ", env!("CARGO_PKG_VERSION"));

/// How much more space is planned for than tensors need, as a share: a little is lost at the end of each room, and in files of a few
/// kilobytes that is much.
const MARGINS: [f64; 5] = [0.0, 1.0 / 8192.0, 1.0 / 512.0, 1.0 / 32.0, 1.0 / 2.0];

/// One original on its way into a converted file.
pub struct Writer<'a> {
    pub original: &'a dyn Original,
    pub gguf: &'a Gguf<'a>,
    pub survey: &'a Survey,
    pub progress: &'a dyn Progress,
}

/// Where coded tensors have been put.
struct Placed {
    /// Per tensor of the original; empty for plain ones.
    pieces: Vec<Vec<Piece>>,
    remainder: Option<Free>,
}

impl Writer<'_> {
    /// What each tensor is expected to need; how escapes lie is known only when they are coded.
    fn expected(&self) -> Vec<Option<Need>> {
        self.survey.encoders.iter().map(|encoder| encoder.as_ref().map(|(_, need)| *need)).collect()
    }

    /// What each tensor needs, by coding it.
    fn measured(&self, buffers: &mut Buffers) -> Result<Vec<Option<Need>>> {
        let mut needs = self.expected();
        for (i, tensor, encoder) in self.tensors() {
            let (Some((encoder, _)), Some(need)) = (encoder, &mut needs[i]) else { continue };
            let mut builder = PieceBuilder::new(encoder);
            let from = (self.gguf.position(tensor), self.original.unit(i));
            encode(buffers, self.original, from, encoder, &(), |_, chunk| {
                builder.take(chunk, 0..chunk.segments());
                Ok(())
            })?;
            need.rest = builder.finish().len;
        }
        Ok(needs)
    }

    /// # Errors
    /// If the carriers cannot hold what is compressed, or the file would not get smaller.
    pub fn plan(&self) -> Result<Layout> {
        self.plan_for(&self.expected(), MARGINS[0])
    }

    fn plan_for(&self, needs: &[Option<Need>], margin: f64) -> Result<Layout> {
        let remainder = self.survey.reading.remainder.len() as u64;
        let layout = Layout::plan(self.gguf, needs, remainder, margin, NAME).in_file(self.original.path())?;
        let (before, after) = (self.original.len(), layout.file_len);
        if after >= before {
            let why = "it has few matrices, whose sizes do not fit together";
            return Err(Error::new(self.original.path(), Refusal::NotSmaller { before, after, why }));
        }
        Ok(layout)
    }

    /// Writes everything, and proves it by reading it back: every tensor from the bytes now in the file. Returns its length.
    ///
    /// # Errors
    /// If a file cannot be read or written, or what is read back is not the original.
    pub fn write(&self, output: &Output) -> Result<u64> {
        let bytes = self.gguf.tensors.iter().map(|tensor| tensor.len).sum::<u64>();
        let mut buffers = Buffers::default();
        let mut needs = self.expected();
        for (attempt, margin) in MARGINS.into_iter().enumerate() {
            if attempt == 1 {
                needs = self.measured(&mut buffers)?;
            }
            let layout = self.plan_for(&needs, margin)?;
            self.progress.begin(Stage::Writing, 2 * bytes);
            // What an earlier attempt left would stand where zeros should.
            output.set_len(0)?;
            output.set_len(layout.file_len)?;
            if let Some(placed) = self.place(output, &layout, &mut buffers)? {
                output.write(0, &layout.header)?;
                let written = Source::open(output.path())?;
                self.prove_tensors(output, &written, &layout, &placed)?;
                self.write_rooms(output, &written, &layout, placed)?;
                // Opened again: what was read before the index was written does not have it.
                drop(written);
                self.prove_header(output, &Source::open(output.path())?)?;
                return Ok(layout.file_len);
            }
        }
        let what = "its compressed weights do not fit where they should".to_owned();
        Err(Error::new(self.original.path(), Cause::Defect(what)))
    }

    fn tensors(&self) -> impl Iterator<Item = (usize, &TensorInfo<'_>, Option<&(Encoder, Need)>)> {
        let encoders = self.survey.encoders.iter().map(Option::as_ref);
        self.gguf.tensors.iter().zip(encoders).enumerate().map(|(i, (tensor, encoder))| (i, tensor, encoder))
    }

    /// Writes the bytes of all tensors; `None` if the rooms were too small.
    fn place(&self, output: &Output, layout: &Layout, buffers: &mut Buffers) -> Result<Option<Placed>> {
        let mut placing = Placing::new(output, &layout.rooms, layout.index_len);
        let mut pieces = vec![Vec::new(); self.gguf.tensors.len()];
        let mut remainder = None;
        if !self.survey.reading.remainder.is_empty() {
            remainder = placing.whole(&self.survey.reading.remainder)?;
            if remainder.is_none() {
                return Ok(None);
            }
        }
        for (i, tensor, encoder) in self.tensors() {
            let Some((encoder, _)) = encoder else { continue };
            let mut placing = placing.tensor(encoder, layout.positions[i]);
            let from = (self.gguf.position(tensor), self.original.unit(i));
            encode(buffers, self.original, from, encoder, self.progress, |row, chunk| {
                placing.put(row, chunk)
            })?;
            match placing.finish(self.original.path(), tensor.name)? {
                Some(found) => pieces[i] = found,
                None => return Ok(None),
            }
        }
        for (i, _, encoder) in self.tensors() {
            if encoder.is_none() {
                self.copy(output, i, layout.positions[i])?;
            }
        }
        Ok(Some(Placed { pieces, remainder }))
    }

    fn copy(&self, output: &Output, tensor: usize, to: u64) -> Result<()> {
        let window = window_of(self.original.unit(tensor));
        let (from, len) = (self.gguf.position(&self.gguf.tensors[tensor]), self.gguf.tensors[tensor].len);
        each_window(self.original, &mut Windows::default(), from..from + len, window, |at, bytes| {
            self.progress.advance(bytes.len() as u64);
            output.write(to + (at - from), bytes)
        })
    }

    /// Reads all tensors back from the written file and compares them with what the survey saw.
    fn prove_tensors(
        &self,
        output: &Output,
        written: &Source,
        layout: &Layout,
        placed: &Placed,
    ) -> Result<()> {
        let mut windows = Windows::default();
        for (i, tensor, encoder) in self.tensors() {
            let position = layout.positions[i];
            let mut checksum = Xxh3::new();
            let pass = |_, bytes: &[u8]| {
                checksum.update(bytes);
                self.progress.advance(bytes.len() as u64);
                Ok(())
            };
            match encoder {
                None => {
                    each_window(written, &mut windows, position..position + tensor.len, WINDOW, pass)?;
                }
                Some((encoder, _)) => {
                    let bytes = |from: u64, len: u64| &written.bytes()[from as usize..(from + len) as usize];
                    let piece = |piece: &Piece| {
                        let room = layout.rooms[piece.room as usize].position;
                        (piece.rows, bytes(room + piece.offset, piece.len))
                    };
                    let located = Located {
                        encoding: encoder.encoding.id(),
                        home: bytes(position, encoder.shape.k * encoder.shape.rows),
                        pieces: placed.pieces[i].iter().map(piece).collect(),
                    };
                    let coded = Coded::open(&located, encoder.original, encoder.shape.k)
                        .map_err(|error| Error::tensor(output.target(), tensor.name, error))?;
                    let read = |at: u64, buffer: &mut [u8]| {
                        coded.read(&[written], at, buffer);
                        Ok(())
                    };
                    windows.each(0..tensor.len, window_of(coded.row_bytes()), read, pass)?;
                }
            }
            if checksum.digest() != self.survey.reading.xxh3[i] {
                return Err(Error::tensor(output.target(), tensor.name, TensorCause::NotAsRead));
            }
        }
        Ok(())
    }

    /// The headers of the rooms, and the index.
    fn write_rooms(&self, output: &Output, written: &Source, layout: &Layout, placed: Placed) -> Result<()> {
        let mut rooms = Vec::with_capacity(layout.rooms.len());
        // The first is to hold the index, whose length does not depend on checksums.
        let mut index = self.index(placed, &vec![Room { carrier: 0, len: 0, xxh3: 0 }; layout.rooms.len()]);
        let index_len = index.to_bytes().len() as u64;
        for (number, space) in layout.rooms.iter().enumerate() {
            let taken = HEADER_BYTES + if number == 0 { index_len } else { 0 };
            let xxh3 = written.xxh3(space.position + taken..space.position + space.len)?;
            rooms.push(Room { carrier: space.carrier as u32, len: space.len, xxh3 });
        }
        index.rooms = rooms;
        let bytes = index.to_bytes();
        if bytes.len() as u64 != index_len || index_len > layout.index_len {
            let what = format!("the index has {} bytes, {} are kept free", bytes.len(), layout.index_len);
            return Err(Error::new(output.target(), Cause::Defect(what)));
        }
        let blake3 = blake3::hash(&bytes);
        let id = FileId(std::array::from_fn(|i| blake3.as_bytes()[i]));
        for (number, space) in (0..).zip(&layout.rooms) {
            let (index_len, index_xxh3) = if number == 0 { (index_len, xxh3_64(&bytes)) } else { (0, 0) };
            let header = RoomHeader { number, id, index_len, index_xxh3 };
            output.write(space.position, &header.to_bytes())?;
        }
        output.write(layout.rooms[0].position + HEADER_BYTES, &bytes)
    }

    fn index(&self, placed: Placed, rooms: &[Room]) -> Index {
        let metadata = &self.gguf.file()[..self.gguf.metadata_len as usize];
        let remainder = placed.remainder.map(|free| Remainder {
            room: free.room as u32,
            offset: free.offset,
            len: self.survey.reading.remainder.len() as u64,
            xxh3: xxh3_64(&self.survey.reading.remainder),
        });
        let mut entries = Vec::with_capacity(self.gguf.tensors.len());
        for ((i, tensor, encoder), pieces) in self.tensors().zip(placed.pieces) {
            let &TensorInfo { name, ty, dims, offset, len } = tensor;
            let stored = match encoder {
                Some((encoder, _)) => Stored::Coded { encoding: encoder.encoding.id(), pieces },
                None => Stored::Plain,
            };
            entries.push(Entry {
                name: name.to_owned(),
                ty,
                dims,
                offset,
                len,
                xxh3: self.survey.reading.xxh3[i],
                stored,
            });
        }
        Index {
            original_len: self.original.len(),
            original_blake3: *self.survey.reading.blake3.as_bytes(),
            metadata_len: self.gguf.metadata_len,
            metadata_xxh3: xxh3_64(metadata),
            remainder,
            rooms: rooms.to_vec(),
            entries,
        }
    }

    /// The tensors are proved; now what stands around them.
    fn prove_header(&self, output: &Output, written: &Source) -> Result<()> {
        let name = output.target();
        let gguf = Gguf::parse(written.bytes()).in_file(name)?;
        let converted = Converted::open(gguf, &[]).in_file(name)?;
        let restored = Restored::of(&converted).in_file(name)?;
        let header = &self.gguf.file()[..self.gguf.header_len as usize];
        if restored.original.is_none() || restored.header != header {
            let what = "the header that it gives back differs from the original's".to_owned();
            return Err(Error::new(name, Cause::Defect(what)));
        }
        Ok(())
    }
}
