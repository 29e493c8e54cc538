//! Models in several files: all or none of them.

use std::path::{Path, PathBuf};

use super::error::{Cause, Error, Refusal, Result};
use super::opening::Holder;
use super::original::Original;
use super::output::{Output, refuse};
use super::progress::Progress;
use super::source::Source;
use super::{
    Form, Proof, Report, Stored, forecast, give_back, holder_of, make, unknown_architecture, verify_holder,
};
use crate::container::converted::ConvertedError;
use crate::container::layout::LayoutError;

/// A file, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub input: PathBuf,
    pub output: PathBuf,
}

impl Job {
    /// Of files in their order.
    pub fn pair(inputs: Vec<PathBuf>, outputs: Vec<PathBuf>) -> Vec<Self> {
        inputs.into_iter().zip(outputs).map(|(input, output)| Self { input, output }).collect()
    }
}

/// Converts the files of one model: [`super::convert`] for each, but none gets its name before all are proved. One that has nothing to
/// compress, where another has, is copied.
///
/// # Errors
/// As [`super::convert`]; then all outputs are as they were, unless it is to give them their names that fails.
pub fn convert_all(jobs: &[Job], form: Form, force: bool, progress: &dyn Progress) -> Result<Vec<Report>> {
    refuse_all(jobs, force)?;
    let one = |job: &Job| match make(&job.input, &job.output, form, force, progress) {
        Err(error) if jobs.len() > 1 && is_nothing(&error) => {
            // Of an archive, what it holds.
            let holder = Holder::open(&job.input)?;
            let report = holder.read(unchanged)?;
            let (_, output) = give_back(&holder, &job.output, force, progress)?;
            Ok((Err(error), report, output))
        }
        made => made.map(|(report, output)| (Ok(()), report, output)),
    };
    let made = each(jobs, progress, one)?;
    let (mut nothing, mut reports, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    for (done, report, output) in made {
        nothing.extend(done.err());
        reports.push(report);
        outputs.push(output);
    }
    refuse_nothing(nothing, jobs.len())?;
    commit(outputs).map(|()| reports)
}

/// Gives back the files of one model: [`super::restore`] for each, but none gets its name before all are there.
///
/// # Errors
/// As [`super::restore`]; then all outputs are as they were, unless it is to give them their names that fails.
pub fn restore_all(jobs: &[Job], force: bool, progress: &dyn Progress) -> Result<Vec<Proof>> {
    refuse_all(jobs, force)?;
    let files: Vec<&Path> = jobs.iter().map(|job| &*job.input).collect();
    let is_some = has_some(&files)?;
    let given =
        each(jobs, progress, |job| give_back(&holder(&job.input, is_some)?, &job.output, force, progress))?;
    let (proofs, outputs) = given.into_iter().unzip();
    commit(outputs).map(|()| proofs)
}

/// What [`convert_all`] would make of these files.
///
/// # Errors
/// As [`super::forecast`].
pub fn forecast_all(files: &[PathBuf], form: Form, progress: &dyn Progress) -> Result<Vec<Report>> {
    let mut nothing = Vec::new();
    let reports = each(files, progress, |file| match forecast(file, form, progress) {
        Err(error) if files.len() > 1 && is_nothing(&error) => {
            nothing.push(error);
            Holder::open(file)?.read(unchanged)
        }
        report => report,
    })?;
    refuse_nothing(nothing, files.len())?;
    Ok(reports)
}

/// [`super::verify`] for the files of one model, each against the one at its place, if there are such.
///
/// # Errors
/// As [`super::verify`].
pub fn verify_all(
    files: &[PathBuf],
    against: Option<&[PathBuf]>,
    progress: &dyn Progress,
) -> Result<Vec<Proof>> {
    let mut against = against.into_iter().flatten();
    let is_some = has_some(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    each(files, progress, |file| {
        verify_holder(&holder(file, is_some)?, against.next().map(PathBuf::as_path), progress)
    })
}

/// True if one of several files holds something of ours, so that others may be as they were before; each is closed again, since every one
/// may have all others open beside it. A single file is not looked at: it may not be plain.
///
/// # Errors
/// What is wrong with a file that is no plain one.
fn has_some(files: &[&Path]) -> Result<bool> {
    let mut is_some = false;
    for file in files.iter().filter(|_| files.len() > 1) {
        match holder_of(file) {
            Ok(_) => is_some = true,
            Err(error) if is_no_form(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(is_some)
}

/// `is_some`: as [`has_some`] says.
fn holder(file: &Path, is_some: bool) -> Result<Holder> {
    match holder_of(file) {
        Err(error) if is_some && is_no_form(&error) => Ok(Holder::Original(Source::open(file)?)),
        found => found,
    }
}

/// True if a file is a GGUF that holds nothing of ours.
fn is_no_form(error: &Error) -> bool {
    matches!(*error.cause, Cause::Converted(ConvertedError::NotUnweight))
}

/// True if there is nothing in a file that gets smaller.
fn is_nothing(error: &Error) -> bool {
    matches!(
        *error.cause,
        Cause::Refused(Refusal::Nothing { .. } | Refusal::NotSmaller { .. })
            | Cause::Layout(LayoutError::TooSmall | LayoutError::NothingToCompress)
    )
}

/// Refuses a model of which no file gets smaller: `nothing` says of each why not.
fn refuse_nothing(mut nothing: Vec<Error>, files: usize) -> Result<()> {
    if nothing.len() < files { Ok(()) } else { nothing.pop().map_or(Ok(()), Err) }
}

/// Of a file that is copied, or of an archive that is given back.
fn unchanged(original: &dyn Original) -> Result<Report> {
    let gguf = original.gguf()?;
    let tensors = gguf.tensors.iter().map(|tensor| Stored {
        name: tensor.name.to_owned(),
        ty: tensor.ty,
        number: None,
        before: tensor.len,
        after: None,
    });
    let (before, after) = (original.len(), original.len());
    // Only the first shard says what the model is.
    let notes = unknown_architecture(&gguf).into_iter().collect();
    Ok(Report { before, after, notes, tensors: tensors.collect(), read: original.stamp() })
}

/// What would be refused in the end had better be refused at once; and no output may be the input of another.
fn refuse_all(jobs: &[Job], force: bool) -> Result<()> {
    let inputs: Vec<&Path> = jobs.iter().map(|job| &*job.input).filter(|input| input.exists()).collect();
    jobs.iter().try_for_each(|job| refuse(&job.output, force, inputs.iter().copied()))
}

fn each<J, T>(jobs: &[J], progress: &dyn Progress, mut work: impl FnMut(&J) -> Result<T>) -> Result<Vec<T>> {
    let numbered = jobs.iter().enumerate();
    let work = numbered.map(|(i, job)| {
        progress.file(i + 1, jobs.len());
        work(job)
    });
    work.collect()
}

/// What takes long, and may fail, comes before the first name is given.
fn commit(outputs: Vec<Output>) -> Result<()> {
    outputs.iter().try_for_each(Output::settle)?;
    outputs.into_iter().try_for_each(Output::commit)
}
