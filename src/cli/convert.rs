//! `convert`: an original becomes a converted file.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use comfy_table::{CellAlignment, Table};
use unweight::convert::{Note, Report, Stored, convert, forecast};
use unweight::selection::Group;

use super::naming;
use super::progress::{Bar, size};
use super::table::{self, percent};

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
    let progress = Bar::default();
    if arguments.dry_run {
        let report = forecast(&arguments.input, &progress)?;
        progress.finish();
        return print(&report);
    }
    let target = arguments.output.clone().unwrap_or_else(|| naming::converted(&arguments.input));
    let report = convert(&arguments.input, &target, arguments.force, &progress)?;
    progress.finish();
    writeln!(stdout(), "{}: {}, verified", target.display(), sizes(&report))?;
    notes(&report)
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
fn print(report: &Report) -> Result<()> {
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
    writeln!(stdout(), "{table}\nfile: {}, as far as can be told before it is written", sizes(report))?;
    notes(report)
}
