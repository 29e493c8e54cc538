//! `verify`: proof that a converted file holds its original.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;
use unweight::convert::{shards, verify_all};

use super::files::{plain, several};
use super::progress::{Bar, size};

#[derive(clap::Args)]
pub struct Arguments {
    /// The compressed GGUF file, or the archive; the first shard of a model stands for all
    file: PathBuf,
    /// Compare with this file, or its shards, byte for byte
    #[arg(long, value_name = "ORIGINAL")]
    against: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let progress = Bar::default();
    let files = shards::all(&arguments.file)?;
    let against = arguments.against.as_ref().map(|against| shards::like(against, files.len())).transpose()?;
    let proofs = verify_all(&files, against.as_deref(), &progress)?;
    progress.finish();
    let what = match (&arguments.against, proofs.iter().all(|proof| proof.is_whole || proof.is_plain)) {
        (Some(against), _) => format!("identical to {}", against.display()),
        (None, true) => "holds the whole original (BLAKE3)".to_owned(),
        (None, false) => {
            "holds the original's weights; a tool has changed the metadata since, or they are damaged"
                .to_owned()
        }
    };
    let plain = if arguments.against.is_some() { String::new() } else { plain(&files, &proofs) };
    let (name, len) = (several(&arguments.file, files.len()), proofs.iter().map(|proof| proof.len).sum());
    writeln!(stdout(), "{name}: {}, {what}{plain}", size(len))?;
    Ok(())
}
