//! File to file: an original becomes a converted file and is itself again. Work is spread over rayon's current pool of threads.
//!
//! ```
//! use unweight::convert::{Form, convert, restore, verify};
//!
//! let folder = tempfile::tempdir()?;
//! let original = std::path::Path::new("tests/data/tiny-bf16.gguf");
//! let (compressed, restored) = (folder.path().join("tiny-BF16_UW.gguf"), folder.path().join("tiny.gguf"));
//!
//! let report = convert(original, &compressed, Form::Run, false, &())?;
//! assert!(report.after < report.before);
//! assert!(verify(&compressed, None, &())?.is_whole);
//! restore(&compressed, &restored, false, &())?;
//! assert!(std::fs::read(&restored)? == std::fs::read(original)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod coding;
mod error;
mod gaps;
mod model;
mod opening;
mod original;
mod output;
mod placing;
mod progress;
mod replace;
mod replay;
pub mod shards;
mod source;
mod survey;
mod windows;
mod writer;

use std::io::Write;
use std::path::Path;

pub use archive::Archive;
pub use error::{Cause, Error, Refusal, Result, TensorCause};
pub use model::{Job, convert_all, forecast_all, restore_all, verify_all};
pub use opening::{Holder, Opening};
pub use original::Original;
pub use output::{Stamp, refuse, remove_unfinished, write_file};
pub use progress::{Progress, Stage};
pub use replace::{refuse_replacing, replace};
pub use replay::Replay;
pub use source::{Source, mapped_at};
pub use survey::analyse;

use crate::codec::{Encoder, Number};
use crate::container::archive::{Coding, is_archive};
use crate::container::gguf::{Gguf, TensorInfo, TensorType};
use crate::container::layout::{LayoutError, Need};
use crate::container::number;
use crate::selection::{Selection, is_known};
use error::In;
use original::{Piece, stream};
use output::Output;
use survey::{Reading, Survey};
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
    /// The file that was read.
    pub read: Stamp,
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

/// What a file is converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Runs in llama.cpp.
    Run,
    /// The fewest bytes, to keep and to send.
    Archive,
}

/// Converts `input`, an original or the other form of one, to `output`, and proves it by reading it back. `force`: replace `output` if it
/// exists.
///
/// # Errors
/// If there is nothing to gain, or a file cannot be read or written; then `output` is as it was.
pub fn convert(
    input: &Path,
    output: &Path,
    form: Form,
    force: bool,
    progress: &dyn Progress,
) -> Result<Report> {
    let (report, output) = make(input, output, form, force, progress)?;
    output.commit()?;
    Ok(report)
}

/// A converted file, proved, that is not yet where it should be.
fn make(
    input: &Path,
    output: &Path,
    form: Form,
    force: bool,
    progress: &dyn Progress,
) -> Result<(Report, Output)> {
    let holder = Holder::open(input)?;
    refuse_form(&holder, form, input)?;
    refuse(output, force, holder.paths())?;
    holder.read(|original| {
        refuse_parts(original)?;
        let gguf = original.gguf()?;
        match form {
            Form::Run => {
                refuse_clip(original, &gguf)?;
                let (survey, report) = survey_and_plan(original, &gguf, progress)?;
                let output = Output::create(output, force, &holder.paths())?;
                let after = Writer { original, gguf: &gguf, survey: &survey, progress }.write(&output)?;
                Ok((Report { after, ..report }, output))
            }
            Form::Archive => {
                let reading = read_all(original, &gguf, progress)?;
                let output = Output::create(output, force, &holder.paths())?;
                let writer = archive::Writer { original, gguf: &gguf, reading: &reading, progress };
                let written = writer.write(&output)?;
                Ok((archive_report(original, &gguf, &written), output))
            }
        }
    })
}

/// What [`convert`] would make of a file. Sizes of the form that runs are those that are expected, exact to a fraction of a per mille.
///
/// # Errors
/// As [`convert`].
pub fn forecast(input: &Path, form: Form, progress: &dyn Progress) -> Result<Report> {
    let holder = Holder::open(input)?;
    refuse_form(&holder, form, input)?;
    holder.read(|original| {
        refuse_parts(original)?;
        let gguf = original.gguf()?;
        match form {
            Form::Run => {
                refuse_clip(original, &gguf)?;
                Ok(survey_and_plan(original, &gguf, progress)?.1)
            }
            Form::Archive => {
                let reading = read_all(original, &gguf, progress)?;
                progress.begin(Stage::Coding, original.len());
                let writer = archive::Writer { original, gguf: &gguf, reading: &reading, progress };
                Ok(archive_report(original, &gguf, &writer.code(None)?))
            }
        }
    })
}

fn read_all(original: &dyn Original, gguf: &Gguf, progress: &dyn Progress) -> Result<Reading> {
    // BF16 is never a narrower kind.
    let kind = |tensor: &TensorInfo| number(tensor.ty).filter(|&number| number != Number::Bf16);
    Reading::take(original, gguf, kind, progress)
}

fn archive_report(original: &dyn Original, gguf: &Gguf, written: &archive::Written) -> Report {
    let stored = |(tensor, written): (&TensorInfo, &Option<(Coding, u64)>)| {
        let coded = written.filter(|(coding, _)| *coding != Coding::Stored);
        Stored {
            name: tensor.name.to_owned(),
            ty: tensor.ty,
            number: coded.and_then(|(coding, _)| match coding {
                Coding::Weights { number, .. } => Some(number),
                Coding::Records { .. } | Coding::Stored => None,
            }),
            before: tensor.len,
            after: coded.map(|(_, len)| len),
        }
    };
    let tensors = gguf.tensors.iter().zip(&written.tensors).map(stored).collect();
    Report { before: original.len(), after: written.len, notes: Vec::new(), tensors, read: original.stamp() }
}

fn refuse_form(holder: &Holder, form: Form, input: &Path) -> Result<()> {
    match (holder, form) {
        (Holder::Converted(_), Form::Run) => Err(Error::new(input, Refusal::Converted)),
        (Holder::Archive(_), Form::Archive) => Err(Error::new(input, Refusal::Archived)),
        _ => Ok(()),
    }
}

fn refuse_clip(original: &dyn Original, gguf: &Gguf) -> Result<()> {
    match gguf.text("general.architecture") {
        Some("clip") => Err(Error::new(original.path(), Refusal::Clip)),
        _ => Ok(()),
    }
}

fn survey_and_plan(
    original: &dyn Original,
    gguf: &Gguf,
    progress: &dyn Progress,
) -> Result<(Survey, Report)> {
    if gguf.alignment > MOST_ALIGNMENT {
        return Err(Error::new(original.path(), Refusal::Alignment(gguf.alignment)));
    }
    let selection = select(original, gguf)?;
    let mut survey = Survey::take(original, gguf, &selection, progress)?;
    let refused = |refusal| Error::new(original.path(), Cause::Refused(refusal));
    if survey.encoders.iter().all(Option::is_none) {
        let way = if original.blake3().is_some() {
            "`unweight-gguf restore` gives back the original, which runs"
        } else {
            "`--archive` makes a file for keeping and sending smaller"
        };
        return Err(refused(Refusal::Nothing { why: why_nothing(gguf, &survey), way }));
    }
    let plan = |survey: &Survey| Writer { original, gguf, survey, progress }.plan();
    let is_too_small = |error: &Error| matches!(*error.cause, Cause::Layout(LayoutError::TooSmall));
    let layout = match plan(&survey) {
        // What has no room needs space in those of others, which may be too few.
        Err(error) if is_too_small(&error) && survey.drop_optional() => plan(&survey)?,
        layout => layout?,
    };
    let (before, after) = (original.len(), layout.file_len);
    let tensors = gguf.tensors.iter().zip(&survey.encoders);
    let stored = |(tensor, encoder): (&TensorInfo, &Option<(Encoder, Need)>)| Stored {
        name: tensor.name.to_owned(),
        ty: tensor.ty,
        number: encoder.as_ref().map(|(encoder, _)| encoder.encoding.stored()),
        before: tensor.len,
        after: encoder.as_ref().map(|(_, need)| tensor.dims.elements().unwrap_or(0) + need.rest),
    };
    let tensors = tensors.map(stored).collect();
    let notes = notes(original, gguf, &survey);
    Ok((survey, Report { before, after, notes, tensors, read: original.stamp() }))
}

/// A header is padded to the alignment: memory that a file should not ask for by a number. Models have 32 to 4096.
const MOST_ALIGNMENT: u64 = 1 << 20;

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

fn notes(original: &dyn Original, gguf: &Gguf, survey: &Survey) -> Vec<Note> {
    let mut notes = Vec::new();
    notes.extend(unknown_architecture(gguf));
    let mut tables =
        gguf.tensors.iter().zip(&survey.encoders).filter(|(tensor, _)| tensor.name == TOKEN_TABLE);
    match tables.next() {
        Some((_, Some(_))) => {}
        // It may be in another.
        None if shards::is_shard(original.path()) => {}
        _ => notes.push(Note::NoTable),
    }
    if survey.optional_are_plain {
        notes.push(Note::OptionalArePlain);
    }
    notes
}

fn unknown_architecture(gguf: &Gguf) -> Option<Note> {
    let architecture = gguf.text("general.architecture").filter(|name| !is_known(name))?;
    Some(Note::UnknownArchitecture(architecture.to_owned()))
}

/// What of an original is compressed. Of a later shard of a model only the first has the keys, if that is beside it.
fn select(original: &dyn Original, gguf: &Gguf) -> Result<Selection> {
    let Some(path) = shards::first(original.path()) else { return Ok(Selection::of(gguf, None)) };
    let source = Source::open(&path)?;
    if is_archive(&source.gguf()?) {
        return Ok(Selection::of(gguf, Some(&Archive::of(source)?.gguf()?)));
    }
    Ok(Selection::of(gguf, Some(&source.gguf()?)))
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
    /// Of all that was given back.
    pub blake3: [u8; 32],
    /// True for a shard that had nothing to compress, and is what it was: nothing proves that but a comparison.
    pub is_plain: bool,
}

impl Proof {
    fn of(holder: &Holder, original: &dyn Original, blake3: blake3::Hash) -> Self {
        Self {
            len: original.len(),
            is_whole: original.blake3().is_some(),
            missing: original.missing().len(),
            blake3: *blake3.as_bytes(),
            is_plain: matches!(holder, Holder::Original(_)),
        }
    }
}

/// Gives back what a converted file or an archive holds. `force`: replace `output` if it exists.
///
/// # Errors
/// If the file is damaged or incomplete, or a file cannot be read or written; then `output` is as it was.
pub fn restore(input: &Path, output: &Path, force: bool, progress: &dyn Progress) -> Result<Proof> {
    let (proof, output) = give_back(&holder_of(input)?, output, force, progress)?;
    output.commit()?;
    Ok(proof)
}

/// What a file holds, read back after it was written, that is not yet where it should be.
fn give_back(
    holder: &Holder,
    output: &Path,
    force: bool,
    progress: &dyn Progress,
) -> Result<(Proof, Output)> {
    refuse(output, force, holder.paths())?;
    holder.read(|original| {
        let output = Output::create(output, force, &holder.paths())?;
        output.require(original.len())?;
        output.set_len(original.len())?;
        progress.begin(Stage::Restoring, 2 * original.len());
        let blake3 = stream(original, progress, |piece| output.write(piece.position, piece.bytes))?;
        if output.blake3(original.len(), progress)? != blake3 {
            return Err(Error::new(output.target(), Cause::ReadBack));
        }
        Ok((Proof::of(holder, original, blake3), output))
    })
}

/// As [`restore`], to a stream, in order. What it has got before an error is worth nothing.
///
/// # Errors
/// As [`restore`].
pub fn restore_to(input: &Path, output: &mut (dyn Write + Send), progress: &dyn Progress) -> Result<Proof> {
    let holder = holder_of(input)?;
    holder.read(|original| {
        progress.begin(Stage::Restoring, original.len());
        let wrong = |error| Error::new(input, Cause::Doing { doing: "writing what it holds", error });
        let blake3 = stream(original, progress, |piece| output.write_all(piece.bytes).map_err(wrong))?;
        output.flush().map_err(wrong)?;
        Ok(Proof::of(&holder, original, blake3))
    })
}

/// Proves that a converted file or an archive gives back its original; `against`: and that it is this file, byte for byte.
///
/// # Errors
/// If the file is damaged, a tensor of the original is in no file here, or the file gives back another.
pub fn verify(file: &Path, against: Option<&Path>, progress: &dyn Progress) -> Result<Proof> {
    verify_holder(&holder_of(file)?, against, progress)
}

fn verify_holder(holder: &Holder, against: Option<&Path>, progress: &dyn Progress) -> Result<Proof> {
    let file = &holder.file().path;
    let against = against.map(Source::open).transpose()?;
    holder.read(|original| {
        let len = original.len();
        progress.begin(Stage::Verifying, len);
        refuse_parts(original)?;
        original.check_rest()?;
        let mut buffer = Vec::new();
        let other_length = |against: &Source| {
            let (other, other_len) = (against.path.clone(), against.len());
            Error::new(file, Cause::OtherLength { len, other, other_len })
        };
        let blake3 = stream(original, progress, |piece| {
            let Some(against) = &against else { return Ok(()) };
            compare(file, &piece, against, &mut buffer).map_err(|error| {
                // With another header nothing stands where it is looked for.
                let is_shifted = piece.tensor.is_none() && against.len() != len;
                if is_shifted { other_length(against) } else { error }
            })
        })?;
        match against.filter(|against| against.len() != len) {
            Some(against) => Err(other_length(&against)),
            None => Ok(Proof::of(holder, original, blake3)),
        }
    })
}

/// A file that holds an original.
fn holder_of(path: &Path) -> Result<Holder> {
    match Holder::open(path)? {
        // A shard may hold nothing that tells, with the index in another.
        Holder::Original(source) => {
            let opening = Opening::of(source)?;
            opening.converted()?;
            Ok(Holder::Converted(opening))
        }
        holder => Ok(holder),
    }
}

/// # Errors
/// If tensors of the original are in no file here.
fn refuse_parts(original: &dyn Original) -> Result<()> {
    match original.missing().split_first() {
        None => Ok(()),
        Some((name, others)) => {
            let cause = Cause::Missing { name: (*name).to_owned(), more: others.len() };
            Err(Error::new(original.path(), cause))
        }
    }
}

fn compare(file: &Path, piece: &Piece, against: &Source, buffer: &mut Vec<u8>) -> Result<()> {
    // The other may be shorter: where it differs before its end says more than that.
    let here = against.len().saturating_sub(piece.position).min(piece.bytes.len() as u64);
    buffer.resize(here as usize, 0);
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
