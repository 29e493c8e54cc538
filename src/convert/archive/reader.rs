use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use crate::archive::{Model, planes};
use crate::codec::{Number, cast};
use crate::container::archive::{ArchiveError, Coding, Entry, HEAD_BYTES, Index, TENSOR};
use crate::container::gguf::{Gguf, TensorInfo};
use crate::container::number;
use crate::container::parts::{Part, parts_of};
use crate::container::records;

use super::super::error::{Cause, Error, In, Result, TensorCause};
use super::super::gaps::{Gaps, most_unpacked, unpack};
use super::super::original::{Original, read_part};
use super::super::output::Stamp;
use super::super::source::Source;

/// An archive, as the original that it holds.
pub struct Archive {
    source: Source,
    index: Index,
    /// Metadata and tensor infos of the original.
    header: Vec<u8>,
    /// In file order.
    parts: Vec<(Part, Range<u64>)>,
    gaps: Gaps,
    /// In the order of the tensor infos; `None` for those without bytes.
    tensors: Vec<Option<Place>>,
    /// The tensor that was read last.
    latest: Mutex<Option<(usize, Arc<Decoder>)>>,
}

/// One tensor of the original, and where it stands in the archive.
struct Place {
    name: String,
    /// What its weights were, if it is of full precision.
    original: Option<Number>,
    /// Planes of its records.
    planes: Vec<usize>,
    len: u64,
    entry: usize,
    /// In the file.
    position: u64,
    /// Where each chunk begins in the file, and the end of the last.
    chunks: Vec<u64>,
    chunk_bytes: u64,
}

/// How the chunks of a tensor are decoded.
enum Decoder {
    Stored,
    Weights { original: Number, stored: Number, model: Model },
    Records(planes::Model),
}

impl Archive {
    /// # Errors
    /// If the file is no archive, or one that is damaged or contradicts itself.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(Source::open(path)?)
    }

    /// # Errors
    /// As [`Self::open`].
    pub fn of(source: Source) -> Result<Self> {
        let shell = source.gguf()?;
        let tensor = shell.tensor(TENSOR).ok_or(ArchiveError::Head).in_file(&source.path)?;
        let start = shell.position(tensor);
        let bytes = shell.bytes(tensor);
        let index = Index::parse(bytes).in_file(&source.path)?;
        if index.header_len > most_unpacked(index.header_frame) {
            return Err(Error::new(
                &source.path,
                ArchiveError::Contradiction("metadata of no possible length"),
            ));
        }
        // All lengths lie in the tensor: the index was parsed with that.
        let frame = |at: u64, len: u64| &bytes[at as usize..(at + len) as usize];
        let header = unpack(frame(HEAD_BYTES, index.header_frame), index.header_len);
        let header = header.map_err(Cause::Metadata).in_file(&source.path)?;
        let gguf = Gguf::parse_header(&header, index.original_len).in_file(&source.path)?;
        if gguf.header_len != index.header_len {
            let cause = ArchiveError::Contradiction("metadata with bytes behind the tensor infos");
            return Err(Error::new(&source.path, cause));
        }
        let parts = parts_of(&gguf, index.original_len).in_file(&source.path)?;
        let gaps = frame(HEAD_BYTES + index.header_frame, index.gaps_frame);
        let gaps = Gaps::open(gaps, &parts).in_file(&source.path)?;
        let first = start + HEAD_BYTES + index.header_frame + index.gaps_frame;
        let tensors = places(&gguf, &index, &parts, first).in_file(&source.path)?;
        Ok(Self { source, index, header, parts, gaps, tensors, latest: Mutex::new(None) })
    }

    /// The file that it is.
    pub fn file(&self) -> &Source {
        &self.source
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    /// How a tensor is coded, by its place in the header; `None` for one without bytes.
    pub fn entry(&self, tensor: usize) -> Option<&Entry> {
        self.tensors[tensor].as_ref().map(|place| &self.index.entries[place.entry])
    }

    fn decoder(&self, tensor: usize, place: &Place) -> Result<Arc<Decoder>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, decoder)) = latest.as_ref().filter(|(latest, _)| *latest == tensor) {
            return Ok(decoder.clone());
        }
        let entry = &self.index.entries[place.entry];
        let bytes = self.bytes(place.position..place.position + u64::from(entry.model));
        let wrong = |error| Error::tensor(&self.source.path, &place.name, TensorCause::Coding(error));
        let decoder = match (entry.coding, place.original) {
            (Coding::Weights { number, k, .. }, Some(original)) => {
                let model = Model::from_bytes(number, k as usize, bytes).map_err(wrong)?;
                Decoder::Weights { original, stored: number, model }
            }
            (Coding::Records { width, .. }, _) => Decoder::Records(
                planes::Model::from_bytes(width as usize, &place.planes, bytes).map_err(wrong)?,
            ),
            _ => Decoder::Stored,
        };
        let decoder = Arc::new(decoder);
        *latest = Some((tensor, decoder.clone()));
        Ok(decoder)
    }

    fn bytes(&self, range: Range<u64>) -> &[u8] {
        &self.source.bytes()[range.start as usize..range.end as usize]
    }

    /// Fills `buffer` with the bytes from `at` of a tensor.
    fn read_tensor(&self, tensor: usize, place: &Place, at: u64, buffer: &mut [u8]) -> Result<()> {
        let decoder = self.decoder(tensor, place)?;
        if matches!(*decoder, Decoder::Stored) {
            return self.source.read(place.position + at, buffer);
        }
        let chunk_len = |chunk: u64| place.chunk_bytes.min(place.len - chunk * place.chunk_bytes);
        // Pieces of the buffer, each with its chunk, and where it begins in that.
        let (mut pieces, mut left, mut at) = (Vec::new(), buffer, at);
        while !left.is_empty() {
            let (chunk, from) = (at / place.chunk_bytes, at % place.chunk_bytes);
            let len = (chunk_len(chunk) - from).min(left.len() as u64);
            let (piece, rest) = left.split_at_mut(len as usize);
            pieces.push((chunk, from as usize, piece));
            (left, at) = (rest, at + len);
        }
        let (first, last) =
            (pieces.first().map_or(0, |piece| piece.0), pieces.last().map_or(0, |piece| piece.0));
        let done = pieces.into_par_iter().try_for_each(|(chunk, from, piece)| {
            let coded = self.bytes(place.chunks[chunk as usize]..place.chunks[chunk as usize + 1]);
            let whole = chunk_len(chunk) as usize;
            let decoded = if piece.len() == whole {
                decoder.decode(coded, piece)
            } else {
                let mut all = vec![0; whole];
                decoder.decode(coded, &mut all).map(|()| piece.copy_from_slice(&all[from..][..piece.len()]))
            };
            decoded.map_err(|error| Error::tensor(&self.source.path, &place.name, TensorCause::Coding(error)))
        });
        // With the chunk before, since pages hold parts of two.
        let range = place.chunks[first.saturating_sub(1) as usize]..place.chunks[last as usize + 1];
        self.source.release(self.bytes(range));
        done
    }
}

impl Original for Archive {
    fn path(&self) -> &Path {
        &self.source.path
    }

    fn stamp(&self) -> Stamp {
        self.source.stamp()
    }

    fn len(&self) -> u64 {
        self.index.original_len
    }

    fn gguf(&self) -> Result<Gguf<'_>> {
        Gguf::parse_header(&self.header, self.index.original_len).in_file(&self.source.path)
    }

    fn read(&self, position: u64, buffer: &mut [u8]) -> Result<()> {
        read_part(&self.header, &self.parts, &self.gaps, position, buffer, |i, at, buffer| {
            let place = self.tensors[i].as_ref().expect("a part has bytes");
            self.read_tensor(i, place, at, buffer)
        })
    }

    fn unit(&self, tensor: usize) -> u64 {
        self.tensors[tensor].as_ref().map_or(1, |place| place.chunk_bytes)
    }

    fn xxh3(&self, tensor: usize) -> Option<u64> {
        self.entry(tensor).map(|entry| entry.xxh3)
    }

    fn blake3(&self) -> Option<[u8; 32]> {
        Some(self.index.original_blake3)
    }
}

impl Decoder {
    fn decode(&self, coded: &[u8], out: &mut [u8]) -> crate::archive::Result<()> {
        match self {
            Self::Stored => Ok(()),
            Self::Weights { original, stored, model } if original == stored => model.decode(coded, out),
            Self::Weights { original, stored, model } => {
                let mut words = vec![0; out.len() / original.bytes() as usize * stored.bytes() as usize];
                model.decode(coded, &mut words)?;
                cast::widen(*original, *stored, &words, out);
                Ok(())
            }
            Self::Records(model) => model.decode(coded, out),
        }
    }
}

/// Where the tensors are that have bytes, by the order of the tensor infos. The first begins at `first` of the file.
fn places(
    gguf: &Gguf,
    index: &Index,
    parts: &[(Part, Range<u64>)],
    first: u64,
) -> std::result::Result<Vec<Option<Place>>, ArchiveError> {
    let mut places: Vec<Option<Place>> = gguf.tensors.iter().map(|_| None).collect();
    let tensors = parts.iter().filter_map(|(part, _)| match part {
        Part::Tensor(i) => Some(*i),
        Part::Header | Part::Gap => None,
    });
    let (mut entries, mut position) = (index.entries.iter().enumerate(), first);
    for tensor in tensors {
        let (number, entry) =
            entries.next().ok_or(ArchiveError::Contradiction("fewer tensors than the original has"))?;
        places[tensor] = Some(place(&gguf.tensors[tensor], number, entry, position)?);
        position += entry.len();
    }
    match entries.next() {
        None => Ok(places),
        Some(_) => Err(ArchiveError::Contradiction("more tensors than the original has")),
    }
}

fn place(
    tensor: &TensorInfo,
    number_of_entry: usize,
    entry: &Entry,
    position: u64,
) -> std::result::Result<Place, ArchiveError> {
    let original = number(tensor.ty);
    entry.check(tensor.len, original)?;
    let planes = records::planes(tensor.ty);
    if let Coding::Records { width, .. } = entry.coding
        && planes.last() != Some(&(width as usize))
    {
        return Err(ArchiveError::Contradiction("records that are not the blocks of their type"));
    }
    let mut end = position + u64::from(entry.model);
    let mut chunks = vec![end];
    for &len in &entry.chunks {
        end += u64::from(len);
        chunks.push(end);
    }
    let chunk_bytes = entry.chunk_bytes(original).unwrap_or(1);
    let name = tensor.name.to_owned();
    Ok(Place {
        name,
        original,
        planes,
        len: tensor.len,
        entry: number_of_entry,
        position,
        chunks,
        chunk_bytes,
    })
}
