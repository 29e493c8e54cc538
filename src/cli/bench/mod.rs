//! `bench`: what this machine does, in one interleaved run. Every figure in the documents that is not llama.cpp's own comes from here.

mod files;
mod kernels;
mod llama;
mod machine;
mod sample;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use comfy_table::CellAlignment;
use serde::Serialize;
use tempfile::TempDir;
use unweight::kernel::Isa;

use super::table;
use sample::Sample;

#[derive(clap::Args)]
pub struct Arguments {
    /// Rounds; each measures everything once
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Folder of llama.cpp's programs, built with loadable backends: compare --model with its compressed form
    #[arg(long, value_name = "DIR", requires = "model")]
    llama: Option<PathBuf>,
    /// A GGUF of full precision: also measures convert and restore on it
    #[arg(long, value_name = "ORIGINAL")]
    model: Option<PathBuf>,
    /// The plugin [default: libggml_unweight.so beside this program]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    machine: machine::Machine,
    rounds: u32,
    rows: Vec<Row>,
}

/// One thing measured.
#[derive(Serialize)]
struct Row {
    what: String,
    threads: usize,
    unit: &'static str,
    #[serde(flatten)]
    sample: Sample,
    /// How many times as fast as the row it is compared with.
    ratio: Option<f64>,
}

/// One thread, and all that may be used.
fn thread_counts() -> Vec<usize> {
    match rayon::current_num_threads() {
        1 => vec![1],
        most => vec![1, most],
    }
}

/// A folder for files that are made from `original`, beside it: on the same disk.
fn folder_beside(original: &Path) -> Result<TempDir> {
    let folder = original.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(tempfile::Builder::new().prefix(".unweight-bench-").tempdir_in(folder)?)
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let used = Isa::used().name();
    if let Some(wanted) = std::env::var_os("UNWEIGHT_ISA").filter(|wanted| wanted != used) {
        bail!(
            "UNWEIGHT_ISA is {wanted:?}: no kernels of that name can run here; the best that can are {used}"
        );
    }
    let mut rows = Vec::new();
    match (&arguments.llama, &arguments.model) {
        (Some(folder), Some(model)) => {
            let plugin = match &arguments.plugin {
                Some(plugin) => plugin.clone(),
                None => std::env::current_exe()?.with_file_name("libggml_unweight.so"),
            };
            if !plugin.is_file() {
                bail!("{}: no plugin there; --plugin names it", plugin.display());
            }
            rows.extend(llama::measure(folder, model, &plugin, arguments.rounds)?);
        }
        (None, Some(model)) => rows.extend(files::measure(model, arguments.rounds)?),
        _ => rows.extend(kernels::measure(arguments.rounds)),
    }
    let report = Report { machine: machine::Machine::of_this(), rounds: arguments.rounds, rows };
    if arguments.json {
        serde_json::to_writer_pretty(stdout(), &report)?;
        writeln!(stdout())?;
        return Ok(());
    }
    let mut table = table::new(["what", "threads", "median", "lowest", "highest", "unit", "ratio"]);
    for row in &report.rows {
        let number = |value: f64| if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        table.add_row([
            row.what.clone(),
            row.threads.to_string(),
            number(row.sample.median),
            number(row.sample.lowest),
            number(row.sample.highest),
            row.unit.to_owned(),
            row.ratio.map_or_else(String::new, |ratio| format!("x{ratio:.2}")),
        ]);
    }
    table::align(&mut table, 1, CellAlignment::Right);
    writeln!(stdout(), "{}\n{} rounds\n{table}", report.machine, report.rounds)?;
    Ok(())
}
