//! File to file: an original becomes a converted file and is itself again. Work is spread over rayon's current pool of threads.
//!
//! ```
//! use unweight::convert::{convert, restore, verify};
//!
//! let folder = tempfile::tempdir()?;
//! let original = std::path::Path::new("tests/data/tiny-bf16.gguf");
//! let (compressed, restored) = (folder.path().join("tiny-BF16_UW.gguf"), folder.path().join("tiny.gguf"));
//!
//! let report = convert(original, &compressed, false, &())?;
//! assert!(report.after < report.before);
//! assert!(verify(&compressed, None, &())?.is_whole);
//! restore(&compressed, &restored, false, &())?;
//! assert!(std::fs::read(&restored)? == std::fs::read(original)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod coding;
mod error;
mod opening;
mod output;
mod placing;
mod progress;
mod replay;
pub mod shards;
mod source;
mod survey;
mod writer;

use std::path::Path;

pub use coding::{Buffers, decode};
pub use error::{Cause, Error, Refusal, Result, TensorCause};
pub use opening::Opening;
pub use output::{refuse, remove_unfinished};
pub use progress::{Progress, Stage};
pub use source::Source;
pub use survey::count;

use crate::codec::{Encoder, Number};
use crate::container::converted::is_converted;
use crate::container::gguf::{Gguf, TensorInfo, TensorType};
use crate::container::layout::{LayoutError, Need};
use crate::selection::{Selection, is_known};
use error::In;
use output::Output;
use replay::{Piece, Replay};
use survey::Survey;
use writer::Writer;

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Bytes of the original.
    pub before: u64,
    /// Bytes of the converted file.
    pub after: u64,
    /// What whoever uses the file should know.
    pub notes: Vec<Note>,
    /// In the order of the tensor infos.
    pub tensors: Vec<Stored>,
}

/// One tensor of an original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub name: String,
    /// Type in the original.
    pub ty: TensorType,
    /// What its weights are stored as, if it is compressed.
    pub number: Option<Number>,
    /// Bytes in the original.
    pub before: u64,
    /// Bytes expected in the converted file, if it is compressed.
    pub after: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// llama.cpp, as far as this program knows it, has no such architecture.
    UnknownArchitecture(String),
    /// The first compressed weights that are met are those of a product.
    NoTable,
    /// The blocks that predict further tokens stay plain: there are too few other tensors to hold what would be left of them.
    OptionalArePlain,
}

/// Converts `input` to `output`, and proves it by reading it back. `force`: replace `output` if it exists.
///
/// # Errors
/// If there is nothing to gain, or a file cannot be read or written; then `output` is as it was.
pub fn convert(input: &Path, output: &Path, force: bool, progress: &dyn Progress) -> Result<Report> {
    let source = Source::open(input)?;
    let gguf = source.parse()?;
    refuse_early(&source, &gguf)?;
    refuse(output, force, input)?;
    let (survey, report) = survey_and_plan(&source, &gguf, progress)?;
    let output = Output::create(output, force, input)?;
    let writer = Writer { source: &source, gguf: &gguf, survey: &survey, progress };
    let after = writer.write(&output)?;
    output.commit()?;
    Ok(Report { after, ..report })
}

/// What [`convert`] would make of a file: sizes are those that are expected, exact to a fraction of a per mille.
///
/// # Errors
/// As [`convert`].
pub fn forecast(input: &Path, progress: &dyn Progress) -> Result<Report> {
    let source = Source::open(input)?;
    let gguf = source.parse()?;
    refuse_early(&source, &gguf)?;
    Ok(survey_and_plan(&source, &gguf, progress)?.1)
}

fn survey_and_plan(source: &Source, gguf: &Gguf, progress: &dyn Progress) -> Result<(Survey, Report)> {
    let first = first_shard(source)?;
    let first = first.as_ref().map(Source::parse).transpose()?;
    let selection = Selection::of(gguf, first.as_ref());
    let mut survey = Survey::take(source, gguf, &selection, progress)?;
    let refused = |refusal| Error::new(&source.path, Cause::Refused(refusal));
    if survey.encoders.iter().all(Option::is_none) {
        return Err(refused(Refusal::Nothing(why_nothing(gguf, &survey))));
    }
    let plan = |survey: &Survey| Writer { source, gguf, survey, progress }.plan();
    let is_too_small = |error: &Error| matches!(*error.cause, Cause::Layout(LayoutError::TooSmall));
    let layout = match plan(&survey) {
        // What has no room needs space in those of others, which may be too few.
        Err(error) if is_too_small(&error) && survey.drop_optional() => plan(&survey)?,
        layout => layout?,
    };
    let (before, after) = (source.len(), layout.file_len);
    let tensors = gguf.tensors.iter().zip(&survey.encoders);
    let stored = |(tensor, encoder): (&TensorInfo, &Option<(Encoder, Need)>)| Stored {
        name: tensor.name.to_owned(),
        ty: tensor.ty,
        number: encoder.as_ref().map(|(encoder, _)| encoder.encoding.stored()),
        before: tensor.len,
        after: encoder.as_ref().map(|(_, need)| tensor.dims.elements().unwrap_or(0) + need.rest),
    };
    let tensors = tensors.map(stored).collect();
    let notes = notes(source, gguf, &survey);
    Ok((survey, Report { before, after, notes, tensors }))
}

fn refuse_early(source: &Source, gguf: &Gguf) -> Result<()> {
    let refused = |refusal| Err(Error::new(&source.path, Cause::Refused(refusal)));
    if is_converted(gguf) {
        return refused(Refusal::Converted);
    }
    match gguf.text("general.architecture") {
        Some("clip") => refused(Refusal::Clip),
        _ => Ok(()),
    }
}

fn why_nothing(gguf: &Gguf, survey: &Survey) -> &'static str {
    if gguf.text("general.type") == Some("adapter") {
        "it is a LoRA adapter, which llama.cpp does not look for in a plugin"
    } else if survey.had_candidates {
        "its weights do not get smaller"
    } else {
        "it has no matrices of full precision (BF16, F16 or F32); quantized weights are not compressed"
    }
}

/// What is looked up first in nearly every model.
const TOKEN_TABLE: &str = "token_embd.weight";

fn notes(source: &Source, gguf: &Gguf, survey: &Survey) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(architecture) = gguf.text("general.architecture").filter(|name| !is_known(name)) {
        notes.push(Note::UnknownArchitecture(architecture.to_owned()));
    }
    let mut tables =
        gguf.tensors.iter().zip(&survey.encoders).filter(|(tensor, _)| tensor.name == TOKEN_TABLE);
    match tables.next() {
        Some((_, Some(_))) => {}
        // It may be in another.
        None if shards::is_shard(&source.path) => {}
        _ => notes.push(Note::NoTable),
    }
    if survey.optional_are_plain {
        notes.push(Note::OptionalArePlain);
    }
    notes
}

/// The first shard of the model, if `source` is a later one and that is beside it: only the first has the keys.
fn first_shard(source: &Source) -> Result<Option<Source>> {
    shards::first(&source.path).map(|path| Source::open(&path)).transpose()
}

/// What was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// In bytes.
    pub len: u64,
    /// True if it is the original, byte for byte, as BLAKE3 proves. Otherwise a tool has changed the converted file since: then
    /// it is the original's weights, each proved by its checksum, and all else as the tool left it.
    pub is_whole: bool,
    /// Tensors of the original that are in no file here.
    pub missing: usize,
}

/// Gives back what a converted file holds. `force`: replace `output` if it exists.
///
/// # Errors
/// If the file is damaged or incomplete, or a file cannot be read or written; then `output` is as it was.
pub fn restore(input: &Path, output: &Path, force: bool, progress: &dyn Progress) -> Result<Proof> {
    let opening = Opening::new(input)?;
    refuse(output, force, input)?;
    let converted = opening.converted()?;
    let replay = Replay::new(opening.files(), &converted)?;
    let (len, is_whole) = (replay.restored.len, replay.restored.original.is_some());
    let output = Output::create(output, force, input)?;
    output.set_len(len)?;
    progress.begin(Stage::Restoring, len);
    replay.run(progress, |piece| output.write(piece.position, piece.bytes))?;
    output.commit()?;
    Ok(Proof { len, is_whole, missing: converted.missing().count() })
}

/// Proves that a converted file gives back its original; `against`: and that it is this file, byte for byte.
///
/// # Errors
/// If the file is damaged, a tensor of the original is in no file here, or the file gives back another.
pub fn verify(file: &Path, against: Option<&Path>, progress: &dyn Progress) -> Result<Proof> {
    let opening = Opening::new(file)?;
    let converted = opening.converted()?;
    let replay = Replay::new(opening.files(), &converted)?;
    let (len, is_whole) = (replay.restored.len, replay.restored.original.is_some());
    let against = against.map(Source::open).transpose()?;
    if let Some(against) = against.as_ref().filter(|against| against.len() != len) {
        let cause = Cause::OtherLength { len, other: against.path.clone(), other_len: against.len() };
        return Err(Error::new(file, cause));
    }
    progress.begin(Stage::Verifying, len);
    let mut missing = converted.missing();
    if let Some(name) = missing.next() {
        let cause = Cause::Missing { name: name.to_owned(), more: missing.count() };
        return Err(Error::new(file, cause));
    }
    replay.check_rooms()?;
    let mut buffer = Vec::new();
    replay.run(progress, |piece| {
        against.as_ref().map_or(Ok(()), |against| compare(file, &piece, against, &mut buffer))
    })?;
    Ok(Proof { len, is_whole, missing: 0 })
}

fn compare(file: &Path, piece: &Piece, against: &Source, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.resize(piece.bytes.len(), 0);
    against.read(piece.position, buffer)?;
    match buffer.iter().zip(piece.bytes).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(Cause::Differs {
            other: against.path.clone(),
            at: piece.position + at as u64,
            tensor: piece.tensor.map(str::to_owned),
        })
        .in_file(file),
    }
}
