use rayon::prelude::*;

use crate::archive::{Encoder, chunk_records, chunk_rows, planes};
use crate::codec::constants::LONGEST_ROW;
use crate::codec::{Analysis, Number, cast};
use crate::container::archive::{Coding, Entry, HEAD_BYTES, Index, MOST_CHUNK_BYTES, shell};
use crate::container::gguf::{Gguf, TensorInfo};
use crate::container::parts::Part;
use crate::container::{number, records};

use super::super::error::{Cause, Error, In, Refusal, Result, TensorCause};
use super::super::original::{Original, each_window, parts, stream};
use super::super::output::Output;
use super::super::progress::{Progress, Stage};
use super::super::survey::Reading;
use super::super::windows::{Windows, window_of};
use super::super::writer::NAME;
use super::Archive;

/// Weights that a tensor is learnt from, at most: one in 32 is enough, and little is too few.
const LEAST_SAMPLE: u64 = 1 << 18;
const MOST_SAMPLE: u64 = 1 << 24;
/// Bytes that are read together for that, about.
const RUN: u64 = 1 << 16;
/// Other tensors than those of full precision are coded where it saves one byte in so many.
const LEAST_SAVED: u64 = 50;
/// Metadata are small, and mostly words.
const METADATA_LEVEL: i32 = 12;

/// One original on its way into an archive.
pub struct Writer<'a> {
    pub original: &'a dyn Original,
    pub gguf: &'a Gguf<'a>,
    pub reading: &'a Reading,
    pub progress: &'a dyn Progress,
}

/// What has been written.
pub struct Written {
    /// Bytes of the file.
    pub len: u64,
    /// How each tensor is coded, and its bytes, in the order of the tensor infos; `None` for those without bytes.
    pub tensors: Vec<Option<(Coding, u64)>>,
}

/// How the rows or records of one tensor become chunks.
struct Plan {
    coding: Coding,
    model: Vec<u8>,
    /// Bytes of the original in a chunk.
    chunk: u64,
    encoder: Coder,
}

enum Coder {
    Weights { original: Number, stored: Number, encoder: Encoder },
    Records(planes::Encoder),
}

impl Writer<'_> {
    /// Writes everything, and proves it by reading it back.
    ///
    /// # Errors
    /// If a file cannot be read or written, what is read back is not the original, or it would not be smaller.
    pub fn write(&self, output: &Output) -> Result<Written> {
        self.progress.begin(Stage::Writing, 2 * self.original.len());
        let written = self.code(Some(output))?;
        // What an attempt to code a tensor may have left behind.
        output.set_len(written.len)?;
        let proof =
            Archive::open(output.path()).and_then(|archive| stream(&archive, self.progress, |_| Ok(())));
        proof.map_err(|error| Error {
            file: output.target().to_owned(),
            cause: Box::new(as_written(*error.cause)),
        })?;
        Ok(written)
    }

    /// Codes everything, and writes it if there is where to.
    ///
    /// # Errors
    /// If the original cannot be read, or it would not be smaller.
    pub fn code(&self, output: Option<&Output>) -> Result<Written> {
        let start = shell(self.gguf, NAME, 1).len() as u64;
        let header = &self.gguf.file()[..self.gguf.header_len as usize];
        let header_frame = zstd::encode_all(header, METADATA_LEVEL).in_file(self.original.path())?;
        let gaps_frame = &self.reading.remainder;
        let mut end = start + HEAD_BYTES;
        for frame in [&header_frame, gaps_frame] {
            put(output, end, frame)?;
            end += frame.len() as u64;
        }
        let mut entries = Vec::new();
        let mut tensors = vec![None; self.gguf.tensors.len()];
        let mut windows = Windows::default();
        for (part, _) in parts(self.original, self.gguf)? {
            let Part::Tensor(i) = part else { continue };
            let entry = self.tensor(output, &mut windows, i, end)?;
            end += entry.len();
            tensors[i] = Some((entry.coding, entry.len()));
            entries.push(entry);
        }
        let index = Index {
            original_len: self.original.len(),
            original_blake3: *self.reading.blake3.as_bytes(),
            header_len: self.gguf.header_len,
            header_frame: header_frame.len() as u64,
            gaps_frame: gaps_frame.len() as u64,
            entries,
        };
        let (index, head) = index.to_bytes(end - start);
        put(output, end, &index)?;
        end += index.len() as u64;
        put(output, 0, &shell(self.gguf, NAME, end - start))?;
        put(output, start, &head)?;
        if end >= self.original.len() {
            let (before, why) = (self.original.len(), "it holds nothing that these codes make smaller");
            return Err(Error::new(self.original.path(), Refusal::NotSmaller { before, after: end, why }));
        }
        Ok(Written { len: end, tensors })
    }

    /// Codes a tensor from `at` of the file on.
    fn tensor(
        &self,
        output: Option<&Output>,
        windows: &mut Windows,
        tensor: usize,
        at: u64,
    ) -> Result<Entry> {
        if let Some(plan) = self.plan(tensor)?
            && let Some(entry) = self.coded(output, windows, tensor, &plan, at)?
        {
            return Ok(entry);
        }
        let info = &self.gguf.tensors[tensor];
        let from = self.gguf.position(info);
        let window = window_of(self.original.unit(tensor));
        each_window(self.original, windows, from..from + info.len, window, |position, bytes| {
            self.progress.advance(bytes.len() as u64);
            put(output, at + (position - from), bytes)
        })?;
        let chunks = (0..info.len).step_by(MOST_CHUNK_BYTES as usize);
        let chunks = chunks.map(|at| MOST_CHUNK_BYTES.min(info.len - at) as u32).collect();
        Ok(Entry { xxh3: self.reading.xxh3[tensor], coding: Coding::Stored, model: 0, chunks })
    }

    /// `None` if it would save too little.
    fn coded(
        &self,
        output: Option<&Output>,
        windows: &mut Windows,
        tensor: usize,
        plan: &Plan,
        at: u64,
    ) -> Result<Option<Entry>> {
        let info = &self.gguf.tensors[tensor];
        let most = match plan.coding {
            Coding::Records { .. } => info.len - info.len / LEAST_SAVED,
            Coding::Weights { .. } | Coding::Stored => info.len - 1,
        };
        let (mut len, mut chunks) = (plan.model.len() as u64, Vec::new());
        put(output, at, &plan.model)?;
        let from = self.gguf.position(info);
        let wrong = |error| Error::tensor(self.original.path(), info.name, TensorCause::Coding(error));
        let mut done = 0;
        each_window(self.original, windows, from..from + info.len, window_of(plan.chunk), |_, bytes| {
            if len > most {
                return Ok(());
            }
            let coded: Vec<_> =
                bytes.par_chunks(plan.chunk as usize).map(|chunk| plan.encoder.encode(chunk)).collect();
            for chunk in coded {
                let chunk = chunk.map_err(wrong)?;
                put(output, at + len, &chunk)?;
                chunks.push(chunk.len() as u32);
                len += chunk.len() as u64;
            }
            done += bytes.len() as u64;
            Ok(())
        })?;
        if len > most {
            return Ok(None);
        }
        self.progress.advance(done);
        let (xxh3, model) = (self.reading.xxh3[tensor], plan.model.len() as u32);
        Ok(Some(Entry { xxh3, coding: plan.coding, model, chunks }))
    }

    /// How to code a tensor; `None` where there is nothing to gain.
    fn plan(&self, tensor: usize) -> Result<Option<Plan>> {
        let info = &self.gguf.tensors[tensor];
        let wrong = |error| Error::tensor(self.original.path(), info.name, TensorCause::Coding(error));
        let k = info.dims.row();
        // Longer rows are coded as bytes.
        if let (Some(original), 1..=LONGEST_ROW) = (number(info.ty), k) {
            let stored = self.reading.analyses[tensor].as_deref().map_or(original, Analysis::narrowest);
            let rows = chunk_rows(k as usize) as u64;
            let sample = self.sample(info, k * original.bytes(), original.bytes())?;
            let mut words = vec![0; (sample.bytes.len() as u64 / original.bytes() * stored.bytes()) as usize];
            cast::narrow(original, stored, &sample.bytes, &mut words);
            let encoder = Encoder::learn(stored, k as usize, &words, sample.is_part).map_err(wrong)?;
            return Ok(Some(Plan {
                coding: Coding::Weights { number: stored, k, rows },
                model: encoder.model().to_bytes(),
                chunk: rows * k * original.bytes(),
                encoder: Coder::Weights { original, stored, encoder },
            }));
        }
        let planes = records::planes(info.ty);
        let width = info.ty.block_bytes();
        let sample = self.sample(info, width, 1)?;
        let encoder =
            planes::Encoder::learn(width as usize, &planes, &sample.bytes, sample.is_part).map_err(wrong)?;
        let records = chunk_records(width as usize) as u64;
        if encoder.model().is_raw() {
            return Ok(None);
        }
        Ok(Some(Plan {
            coding: Coding::Records { width, records },
            model: encoder.model().to_bytes(),
            chunk: records * width,
            encoder: Coder::Records(encoder),
        }))
    }

    /// Rows of so many bytes, with weights of so many, to learn from: runs of them, spread over the tensor, or all of it.
    fn sample(&self, info: &TensorInfo, row: u64, weight: u64) -> Result<Sample> {
        let run = (RUN / row).max(1) * row;
        let wanted = (info.len / weight / 32).clamp(LEAST_SAMPLE, MOST_SAMPLE) * weight;
        let stride = info.len / wanted;
        let start = self.gguf.position(info);
        if stride < 2 || info.len / run < 2 {
            let mut bytes = vec![0; info.len as usize];
            self.original.read(start, &mut bytes)?;
            return Ok(Sample { bytes, is_part: false });
        }
        let runs: Vec<_> = (0..info.len / run).step_by(stride as usize).collect();
        let mut bytes = vec![0; runs.len() * run as usize];
        for (at, buffer) in runs.into_iter().zip(bytes.chunks_exact_mut(run as usize)) {
            self.original.read(start + at * run, buffer)?;
        }
        Ok(Sample { bytes, is_part: true })
    }
}

/// What a cause means of a file that has just been written.
fn as_written(cause: Cause) -> Cause {
    match cause {
        Cause::Tensor { name, cause: TensorCause::Damaged } => {
            Cause::Tensor { name, cause: TensorCause::NotAsRead }
        }
        cause => cause,
    }
}

fn put(output: Option<&Output>, at: u64, bytes: &[u8]) -> Result<()> {
    output.map_or(Ok(()), |output| output.write(at, bytes))
}

/// Rows of a tensor.
struct Sample {
    bytes: Vec<u8>,
    /// There are others.
    is_part: bool,
}

impl Coder {
    fn encode(&self, chunk: &[u8]) -> crate::archive::Result<Vec<u8>> {
        match self {
            Self::Weights { original, stored, encoder } if original == stored => encoder.encode(chunk),
            Self::Weights { original, stored, encoder } => {
                let mut words = vec![0; chunk.len() / original.bytes() as usize * stored.bytes() as usize];
                cast::narrow(*original, *stored, chunk, &mut words);
                encoder.encode(&words)
            }
            Self::Records(encoder) => encoder.encode(chunk),
        }
    }
}
