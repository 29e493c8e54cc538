//! `restore`: a converted file or an archive becomes its original again.

use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::Result;
use unweight::convert::{Job, Proof, restore_all, restore_to, shards};

use super::files::{plain, several};
use super::progress::{Bar, size};

#[derive(clap::Args)]
pub struct Arguments {
    /// The compressed GGUF file, or the archive; the first shard of a model stands for all
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write, named as a first shard where IN is one; "-" is standard output, for one file
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
        writeln!(stderr(), "{}: {}", arguments.input.display(), said(&[proof], ""))?;
        return Ok(());
    }
    let inputs = shards::all(&arguments.input)?;
    let outputs = shards::like(&arguments.output, inputs.len())?;
    let proofs = restore_all(&Job::pair(inputs.clone(), outputs), arguments.force, &progress)?;
    progress.finish();
    writeln!(
        stdout(),
        "{}: {}",
        several(&arguments.output, proofs.len()),
        said(&proofs, &plain(&inputs, &proofs))
    )?;
    Ok(())
}

/// What was given back.
fn said(proofs: &[Proof], plain: &str) -> String {
    let what = if proofs.iter().all(|proof| proof.is_whole || proof.is_plain) {
        "identical to the original (BLAKE3)"
    } else {
        "weights identical to the original; all else as a tool has changed it"
    };
    let missing = match proofs.iter().map(|proof| proof.missing).sum() {
        0 => String::new(),
        count => format!("; {count} tensors of the original are in no file here"),
    };
    format!("{}, {what}{plain}{missing}", size(proofs.iter().map(|proof| proof.len).sum()))
}
