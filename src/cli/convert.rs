//! `convert`: an original becomes a converted file.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use comfy_table::{CellAlignment, Table};
use unweight::codec::Number;
use unweight::container;
use unweight::convert::{
    Form, Holder, Job, Note, Report, Stored, convert_all, forecast_all, refuse_replacing, replace, shards,
};
use unweight::selection::Group;

use super::files::several;
use super::numbers::{self, Compressed};
use super::progress::{Bar, size};
use super::table::{self, percent};
use super::{naming, quantized};

#[derive(clap::Args)]
pub struct Arguments {
    /// The GGUF file to compress, or the other form of one; the first shard of a model stands for all
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write [default: beside IN; Model-F16.gguf becomes Model-F16_UW.gguf, or Model-F16_UWA.gguf]
    #[arg(value_name = "OUT")]
    output: Option<PathBuf>,
    /// Write an archive: the fewest bytes, of any GGUF file, to keep and to send; it does not run
    #[arg(long)]
    archive: bool,
    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
    /// Only say what would be saved
    #[arg(long)]
    dry_run: bool,
    /// Remove IN once OUT was read back from the disk and has given back every byte of it; of a model in shards once all have
    #[arg(long, conflicts_with = "dry_run")]
    replace: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.output.as_deref() == Some(Path::new("-")) {
        bail!(
            "-: what is written is read back to prove it, so not to standard output; ./- is a file of that name"
        );
    }
    let progress = Bar::default();
    let form = if arguments.archive { Form::Archive } else { Form::Run };
    let inputs = shards::all(&arguments.input)?;
    if arguments.dry_run {
        return dry_run(&inputs, form, &progress);
    }
    if arguments.replace {
        refuse_replacing(&inputs)?;
    }
    let target = match (&arguments.output, form) {
        (Some(output), _) => output.clone(),
        (None, Form::Run) => naming::converted(&arguments.input, || most(&inputs))?,
        (None, Form::Archive) => naming::archived(&arguments.input),
    };
    let outputs = shards::like(&target, inputs.len())?;
    let jobs = Job::pair(inputs, outputs);
    let reports = convert_all(&jobs, form, arguments.force, &progress)?;
    // Before anything is said: nobody may be listening.
    let replaced = arguments.replace.then(|| replace(&jobs, &reports, &progress));
    progress.finish();
    let said = say(&sum(reports), &several(&target, jobs.len()));
    if let Some(replaced) = replaced {
        // Worse than that nothing can be printed.
        replaced?;
        said?;
        let input = several(&arguments.input, jobs.len());
        writeln!(stdout(), "{input}: removed, after what was written had been read back and gave it back")?;
        return Ok(());
    }
    said
}

fn say(report: &Report, target: &str) -> Result<()> {
    writeln!(stdout(), "{target}: {}, verified", sizes(report))?;
    notes(report)
}

/// The files of a model as one.
fn sum(reports: Vec<Report>) -> Report {
    let mut reports = reports.into_iter();
    let mut sum = reports.next().expect("a model has a file");
    for report in reports {
        sum.before += report.before;
        sum.after += report.after;
        sum.tensors.extend(report.tensors);
        let new = report.notes.into_iter().filter(|note| !sum.notes.contains(note)).collect::<Vec<_>>();
        sum.notes.extend(new);
    }
    sum
}

/// What most of the weights of some files are, in bytes; BF16 where none are of full precision.
fn most(inputs: &[PathBuf]) -> Result<Number> {
    let mut bytes = Number::ALL.map(|_| 0);
    for input in inputs {
        let holder = Holder::open(input)?;
        if matches!(holder, Holder::Converted(_)) {
            return Ok(Number::Bf16); // it will be refused
        }
        holder.read(|original| {
            for tensor in &original.gguf()?.tensors {
                if let Some(number) = container::number(tensor.ty) {
                    bytes[number as usize] += tensor.len;
                }
            }
            Ok(())
        })?;
    }
    Ok(Number::ALL.into_iter().rev().max_by_key(|&number| bytes[number as usize]).unwrap_or(Number::Bf16))
}

/// What would be saved, and what cannot be.
fn dry_run(inputs: &[PathBuf], form: Form, progress: &Bar) -> Result<()> {
    let report = forecast_all(inputs, form, progress).map(sum);
    progress.finish();
    if let Ok(report) = &report {
        print(report, form)?;
    }
    // Also where there is nothing to compress: then it says why.
    let mut counts = quantized::Counts::default();
    for input in inputs.iter().filter(|_| form == Form::Run) {
        if let holder @ (Holder::Original(_) | Holder::Archive(_)) = Holder::open(input)? {
            holder.read(|original| {
                counts.add(&original.gguf()?);
                Ok(())
            })?;
        }
    }
    let said = counts.print();
    report?;
    Ok(said?)
}

fn sizes(report: &Report) -> String {
    let &Report { before, after, .. } = report;
    let saved = percent(before.saturating_sub(after), before);
    format!("{} -> {}, {saved} smaller", size(before), size(after))
}

fn notes(report: &Report) -> Result<()> {
    for note in &report.notes {
        match note {
            Note::UnknownArchitecture(name) => writeln!(
                stdout(),
                "note: the architecture {name:?} is newer than this program; if llama.cpp uses its weights in unusual ways, it will not run \
                 compressed"
            )?,
            Note::OptionalArePlain => writeln!(
                stdout(),
                "note: the blocks that predict further tokens (NextN) stay as they are: the other tensors have no space for what would be \
                 left of them"
            )?,
            Note::NoTable => writeln!(
                stdout(),
                "note: without the plugin llama.cpp crashes on this file, since its token table is not compressed and the first \
                 compressed weight that it meets is one of a product"
            )?,
        }
    }
    Ok(())
}

/// What would be saved, per group.
fn print(report: &Report, form: Form) -> Result<()> {
    let mut table = table::new(["group", "tensors", "compressed", "original", "after", "saved"]);
    let row = |table: &mut Table, name: &str, tensors: &[&Stored]| {
        let compressed = tensors.iter().filter(|tensor| tensor.after.is_some()).count();
        let before: u64 = tensors.iter().map(|tensor| tensor.before).sum();
        let after: u64 = tensors.iter().map(|tensor| tensor.after.unwrap_or(tensor.before)).sum();
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
    let of = |group: Option<Group>| -> Vec<&Stored> {
        let is_in = |tensor: &&Stored| group.is_none_or(|group| Group::of(&tensor.name) == group);
        report.tensors.iter().filter(is_in).collect()
    };
    for group in Group::ALL {
        let tensors = of(Some(group));
        if !tensors.is_empty() {
            row(&mut table, group.name(), &tensors);
        }
    }
    row(&mut table, "total", &of(None));
    table::align(&mut table, 1, CellAlignment::Right);
    writeln!(stdout(), "{table}")?;
    let compressed = report.tensors.iter().filter_map(|tensor| {
        Some(Compressed {
            ty: tensor.ty,
            number: tensor.number?,
            before: tensor.before,
            after: tensor.after?,
        })
    });
    numbers::print(compressed)?;
    let doubt = if form == Form::Run { ", as far as can be told before it is written" } else { "" };
    writeln!(stdout(), "file: {}{doubt}", sizes(report))?;
    notes(report)
}
