//! `convert`: an original becomes a converted file.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table};
use indicatif::ProgressBar;
use unweight::codec::Encoder;
use unweight::container::converted::is_converted;
use unweight::container::gguf::Gguf;
use unweight::container::layout::{Fate, Layout};
use unweight::selection::Group;

use super::blob::{Buffers, encode};
use super::input::Input;
use super::naming;
use super::output::{Output, refuse};
use super::progress::{bar, size};
use super::survey::Survey;
use super::table::{self, percent};
use super::writer::{NAME, Writer};

#[derive(clap::Args)]
pub struct Arguments {
    /// The GGUF file to compress
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write [default: beside IN, its name ending in -BF16_UW.gguf]
    #[arg(value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
    /// Only say what would be saved
    #[arg(long)]
    dry_run: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let input = Input::open(&arguments.input)?;
    let gguf = input.parse()?;
    let name = input.path.display();
    if is_converted(&gguf) {
        bail!("{name}: compressed already; `unweight-gguf restore` gives the original back");
    }
    let target = arguments.output.clone().unwrap_or_else(|| naming::converted(&arguments.input));
    if !arguments.dry_run {
        refuse(&target, arguments.force, &input.path)?;
    }

    let progress = bar("reading", input.len());
    let survey = Survey::take(&input, &gguf, &progress)?;
    progress.finish_and_clear();
    let encoders = survey.encoders(&gguf);
    if encoders.iter().all(Option::is_none) {
        let what = if survey.analyses.iter().all(Option::is_none) {
            "it has no BF16 matrices (quantized, F16 and F32 weights are not compressed)"
        } else {
            "its BF16 weights do not get smaller"
        };
        bail!("{name}: nothing to compress: {what}");
    }
    if arguments.dry_run {
        return report(&input, &gguf, &survey, &encoders);
    }

    write(&input, &gguf, &survey, &encoders, &target, arguments.force)?;
    let (before, after) = (input.len(), std::fs::metadata(&target)?.len());
    let saved = percent(before.saturating_sub(after), before);
    writeln!(
        stdout(),
        "{}: {} -> {}, {saved} smaller, verified",
        target.display(),
        size(before),
        size(after)
    )?;
    Ok(())
}

/// Converts without a word.
pub fn quietly(input: &Input, target: &Path) -> Result<()> {
    let gguf = input.parse()?;
    let survey = Survey::take(input, &gguf, &ProgressBar::hidden())?;
    let encoders = survey.encoders(&gguf);
    write(input, &gguf, &survey, &encoders, target, true)
}

fn write(
    input: &Input,
    gguf: &Gguf,
    survey: &Survey,
    encoders: &[Option<Encoder>],
    target: &Path,
    force: bool,
) -> Result<()> {
    let output = Output::create(target, force, &input.path)?;
    let progress = bar("writing", 2 * gguf.tensors.iter().map(|tensor| tensor.len).sum::<u64>());
    let writer = Writer { input, gguf, survey, output: &output, progress: &progress };
    writer.write(encoders)?;
    progress.finish_and_clear();
    output.commit()
}

/// What would be saved, per group.
fn report(input: &Input, gguf: &Gguf, survey: &Survey, encoders: &[Option<Encoder>]) -> Result<()> {
    let coded = gguf.tensors.iter().zip(encoders).filter(|(_, encoder)| encoder.is_some());
    let progress = bar("coding", coded.map(|(tensor, _)| tensor.len).sum());
    let mut buffers = Buffers::default();
    let mut blobs = Vec::with_capacity(encoders.len());
    for (tensor, encoder) in gguf.tensors.iter().zip(encoders) {
        let len =
            |encoder| encode(&mut buffers, input, gguf.position(tensor), encoder, &progress, |_, _| Ok(()));
        blobs.push(encoder.as_ref().map(len).transpose()?);
    }
    progress.finish_and_clear();
    let mut table = table::new(["group", "tensors", "compressed", "original", "after", "saved"]);
    let row = |table: &mut Table, name: &str, tensors: &[(u64, Option<u64>)]| {
        let compressed = tensors.iter().filter(|(_, blob)| blob.is_some()).count();
        let before: u64 = tensors.iter().map(|(len, _)| len).sum();
        let after: u64 = tensors.iter().map(|(len, blob)| blob.unwrap_or(*len)).sum();
        let cells = [
            name.to_owned(),
            tensors.len().to_string(),
            compressed.to_string(),
            size(before),
            size(after),
            percent(before.saturating_sub(after), before),
        ];
        table.add_row(cells);
    };
    let sizes = |group: Option<Group>| -> Vec<(u64, Option<u64>)> {
        let tensors = gguf.tensors.iter().zip(&blobs);
        tensors
            .filter(|(tensor, _)| group.is_none_or(|group| Group::of(tensor.name) == group))
            .map(|(tensor, blob)| (tensor.len, *blob))
            .collect()
    };
    for group in Group::ALL {
        let tensors = sizes(Some(group));
        if !tensors.is_empty() {
            row(&mut table, group.name(), &tensors);
        }
    }
    row(&mut table, "total", &sizes(None));
    table::align(&mut table, 1, CellAlignment::Right);
    let fates: Vec<_> = blobs.iter().map(|blob| blob.map_or(Fate::Plain, Fate::Blob)).collect();
    let layout = Layout::plan(gguf, &fates, survey.remainder.len() as u64, NAME)?;
    let (before, after) = (input.len(), layout.file_len);
    let saved = percent(before.saturating_sub(after), before);
    writeln!(stdout(), "{table}\nfile: {} -> {}, {saved} smaller", size(before), size(after))?;
    Ok(())
}
