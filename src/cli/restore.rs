//! `restore`: a converted file becomes its original again.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use unweight::container::converted::Converted;

use super::input::Input;
use super::original::Original;
use super::output::{Output, refuse};
use super::progress::{bar, size};

#[derive(clap::Args)]
pub struct Arguments {
    /// The compressed GGUF file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Replace OUT if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let input = Input::open(&arguments.input)?;
    refuse(&arguments.output, arguments.force, &input.path)?;
    let (len, whole) = restore(&input, &arguments.output, arguments.force)?;
    let proof = if whole {
        "identical to the original (BLAKE3)"
    } else {
        "weights identical to the original; metadata as a tool has changed them"
    };
    writeln!(stdout(), "{}: {}, {proof}", arguments.output.display(), size(len))?;
    Ok(())
}

/// Bytes written, and whether they are the whole original.
pub fn restore(input: &Input, target: &Path, force: bool) -> Result<(u64, bool)> {
    let name = || input.path.display().to_string();
    let converted = Converted::open(input.parse()?).with_context(name)?;
    let original = Original::new(input, &converted).with_context(name)?;
    let output = Output::create(target, force, &input.path)?;
    output.set_len(original.len)?;
    let progress = bar("restoring", original.len);
    original.replay(&progress, |piece| output.write(piece.position, piece.bytes)).with_context(name)?;
    progress.finish_and_clear();
    output.commit()?;
    Ok((original.len, original.whole))
}
