//! `verify`: proof that a converted file holds its original.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use unweight::convert::verify;

use super::progress::{Bar, size};

#[derive(clap::Args)]
pub struct Arguments {
    /// The compressed GGUF file, or the archive
    file: PathBuf,
    /// Compare with this file, byte for byte
    #[arg(long, value_name = "ORIGINAL")]
    against: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let progress = Bar::default();
    let proof = verify(&arguments.file, arguments.against.as_deref(), &progress)?;
    progress.finish();
    let what = match (&arguments.against, proof.is_whole) {
        (Some(against), _) => format!("identical to {}", against.display()),
        (None, true) => "holds the whole original (BLAKE3)".to_owned(),
        (None, false) => {
            "holds the original's weights; a tool has changed the metadata since, or they are damaged"
                .to_owned()
        }
    };
    writeln!(stdout(), "{}: {}, {what}", arguments.file.display(), size(proof.len))?;
    Ok(())
}
