//! `restore`: a converted file or an archive becomes its original again.

use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::Result;
use unweight::convert::{Proof, restore, restore_to};

use super::progress::{Bar, size};

#[derive(clap::Args)]
pub struct Arguments {
    /// The compressed GGUF file, or the archive
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write; "-" is standard output
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let progress = Bar::default();
    if arguments.output == Path::new("-") {
        let proof = restore_to(&arguments.input, &mut stdout(), &progress)?;
        progress.finish();
        writeln!(stderr(), "{}: {}", arguments.input.display(), said(&proof))?;
        return Ok(());
    }
    let proof = restore(&arguments.input, &arguments.output, arguments.force, &progress)?;
    progress.finish();
    writeln!(stdout(), "{}: {}", arguments.output.display(), said(&proof))?;
    Ok(())
}

/// What was given back.
fn said(proof: &Proof) -> String {
    let what = if proof.is_whole {
        "identical to the original (BLAKE3)"
    } else {
        "weights identical to the original; all else as a tool has changed it"
    };
    let missing = match proof.missing {
        0 => String::new(),
        count => format!("; {count} tensors of the original are in no file here"),
    };
    format!("{}, {what}{missing}", size(proof.len))
}
