//! Writing a converted file.

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use unweight::codec::Encoder;
use unweight::container::converted::Converted;
use unweight::container::gguf::{Gguf, TensorInfo};
use unweight::container::layout::{Fate, Ground, Layout, Place};
use unweight::container::pool::{Entry, Extent, Index, PoolHeader, Remainder, Stored};
use unweight::container::restored;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::blob::{Buffers, decode, encode};
use super::input::{Input, WINDOW};
use super::output::Output;
use super::survey::Survey;

/// What `unweight.writer` says.
pub const NAME: &str = concat!("unweight-gguf ", env!("CARGO_PKG_VERSION"));

/// One original on its way into a converted file.
pub struct Writer<'a> {
    pub input: &'a Input,
    pub gguf: &'a Gguf<'a>,
    pub survey: &'a Survey,
    pub output: &'a Output,
    pub progress: &'a ProgressBar,
}

impl Writer<'_> {
    /// Writes everything, and proves it by reading it back: every tensor from the bytes now in the file.
    pub fn write(&self, encoders: &[Option<Encoder>]) -> Result<()> {
        let name = || self.input.path.display().to_string();
        let compressed: Vec<_> = encoders.iter().map(Option::is_some).collect();
        let mut ground = Ground::new(self.gguf, &compressed, NAME).with_context(name)?;
        let mut buffers = Buffers::default();
        let mut fates = Vec::with_capacity(encoders.len());
        for (tensor, encoder) in self.gguf.tensors.iter().zip(encoders) {
            fates.push(match encoder {
                None => Fate::Plain,
                Some(encoder) => {
                    let position = ground.pool_position + ground.next_blob().with_context(name)?;
                    let from = self.gguf.position(tensor);
                    let len = encode(&mut buffers, self.input, from, encoder, self.progress, |at, bytes| {
                        self.output.write(position + at, bytes)
                    })?;
                    ground.place(len).with_context(name)?;
                    Fate::Blob(len)
                }
            });
        }
        // How long each blob is decides on the types of the carriers, and so on the header.
        let layout =
            Layout::plan(self.gguf, &fates, self.survey.remainder.len() as u64, NAME).with_context(name)?;
        self.output.write(0, &layout.header)?;
        for (tensor, place) in self.gguf.tensors.iter().zip(&layout.places) {
            if let Place::Plain { position } = *place {
                self.copy(tensor, position)?;
            }
        }
        if let Some(extent) = layout.remainder {
            self.output.write(layout.pool_position + extent.offset, &self.survey.remainder)?;
        }
        self.output.set_len(layout.file_len)?;

        let written = Input::open(self.output.path())?;
        let mut entries = Vec::with_capacity(encoders.len());
        for (i, encoder) in encoders.iter().enumerate() {
            entries.push(self.prove(&mut buffers, &written, &layout, i, encoder.as_ref())?);
        }
        self.write_index(&layout, entries)?;
        self.prove_header(&written)
    }

    fn copy(&self, tensor: &TensorInfo, to: u64) -> Result<()> {
        let from = self.gguf.position(tensor);
        let mut buffer = vec![0; WINDOW.min(tensor.len) as usize];
        for at in (0..tensor.len).step_by(WINDOW as usize) {
            let bytes = &mut buffer[..WINDOW.min(tensor.len - at) as usize];
            self.input.read(from + at, bytes)?;
            self.output.write(to + at, bytes)?;
            self.progress.inc(bytes.len() as u64);
        }
        Ok(())
    }

    /// Reads a tensor back from the written file and compares it with what the survey saw.
    fn prove(
        &self,
        buffers: &mut Buffers,
        written: &Input,
        layout: &Layout,
        i: usize,
        encoder: Option<&Encoder>,
    ) -> Result<Entry> {
        let tensor = &self.gguf.tensors[i];
        let mut original = Xxh3::new();
        let stored = match (layout.places[i], encoder) {
            (Place::Blob { carrier_offset, extent }, Some(encoder)) => {
                let range =
                    layout.pool_position + extent.offset..layout.pool_position + extent.offset + extent.len;
                let xxh3 = written.xxh3(range.clone())?;
                decode(buffers, written, range, encoder.encoding.id(), encoder.shape, |weights| {
                    original.update(weights);
                    self.progress.inc(weights.len() as u64);
                    Ok(())
                })
                .with_context(|| format!("{}: tensor {:?}", self.output.target().display(), tensor.name))?;
                Stored::Blob { encoding: encoder.encoding.id(), carrier_offset, extent, xxh3 }
            }
            (Place::Plain { position }, _) => {
                written.windows(position..position + tensor.len, |bytes| {
                    original.update(bytes);
                    self.progress.inc(bytes.len() as u64);
                    Ok(())
                })?;
                Stored::Plain
            }
            (Place::Blob { .. }, None) => bail!("tensor {:?}: a blob without an encoder", tensor.name),
        };
        if original.digest() != self.survey.xxh3[i] {
            bail!(
                "tensor {:?} as written to {} is not that of {}: the input changed meanwhile, or this is a defect",
                tensor.name,
                self.output.target().display(),
                self.input.path.display()
            );
        }
        let &TensorInfo { name, ty, dims, offset, len } = tensor;
        Ok(Entry { name: name.to_owned(), ty, dims, offset, len, xxh3: original.digest(), stored })
    }

    fn write_index(&self, layout: &Layout, entries: Vec<Entry>) -> Result<()> {
        let remainder = layout
            .remainder
            .map(|extent: Extent| Remainder { extent, xxh3: xxh3_64(&self.survey.remainder) });
        let metadata = &self.input.bytes()[..self.gguf.metadata_len as usize];
        let index = Index {
            original_len: self.input.len(),
            original_blake3: *self.survey.blake3.as_bytes(),
            metadata_len: self.gguf.metadata_len,
            metadata_xxh3: xxh3_64(metadata),
            remainder,
            entries,
        };
        let bytes = index.to_bytes();
        let header = PoolHeader {
            pool_len: layout.pool_len,
            index_len: layout.index_len,
            tensors: index.entries.len() as u32,
            carriers: layout.carriers,
            index_xxh3: xxh3_64(&bytes),
        };
        let mut pool = header.to_bytes().to_vec();
        pool.extend_from_slice(&bytes);
        self.output.write(layout.pool_position, &pool)
    }

    /// The tensors are proved; now what stands around them.
    fn prove_header(&self, written: &Input) -> Result<()> {
        let name = || self.output.target().display().to_string();
        let converted = Converted::open(written.parse()?).with_context(name)?;
        let header = restored::header(&converted.gguf, &converted.index);
        if header != self.input.bytes()[..self.gguf.header_len as usize] {
            bail!("{}: the header that it gives back differs from the original's; this is a defect", name());
        }
        Ok(())
    }
}
