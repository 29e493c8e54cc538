//! `verify`: proof that a converted file holds its original.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use unweight::container::converted::Converted;

use super::input::Input;
use super::original::{Original, Piece};
use super::progress::{bar, size};

#[derive(clap::Args)]
pub struct Arguments {
    /// The compressed GGUF file
    file: PathBuf,
    /// Compare with this file, byte for byte
    #[arg(long, value_name = "ORIGINAL")]
    against: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let file = Input::open(&arguments.file)?;
    let name = || file.path.display().to_string();
    let converted = Converted::open(file.parse()?).with_context(name)?;
    let original = Original::new(&file, &converted).with_context(name)?;
    let against = arguments.against.as_deref().map(Input::open).transpose()?;
    if let Some(against) = &against
        && against.len() != original.len
    {
        let (path, len) = (against.path.display(), against.len());
        bail!("{}: holds an original of {} bytes, {path} has {len}", name(), original.len);
    }
    let progress = bar("verifying", original.len);
    let mut buffer = Vec::new();
    original.check_blobs().with_context(name)?;
    original
        .replay(&progress, |piece| {
            against.as_ref().map_or(Ok(()), |against| compare(&piece, against, &mut buffer))
        })
        .with_context(name)?;
    progress.finish_and_clear();
    let proof = match (&against, original.whole) {
        (Some(against), _) => format!("identical to {}", against.path.display()),
        (None, true) => "holds the whole original (BLAKE3)".to_owned(),
        (None, false) => "holds the original's weights; a tool has changed the metadata since".to_owned(),
    };
    writeln!(stdout(), "{}: {}, {proof}", name(), size(original.len))?;
    Ok(())
}

fn compare(piece: &Piece, against: &Input, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.resize(piece.bytes.len(), 0);
    against.read(piece.position, buffer)?;
    if buffer == piece.bytes {
        return Ok(());
    }
    let at = buffer.iter().zip(piece.bytes).position(|(a, b)| a != b).unwrap_or(0) as u64;
    // Who calls names the tensor.
    let place = if piece.tensor.is_some() { "" } else { ", outside the tensors" };
    bail!("differs from {} at byte {}{place}", against.path.display(), piece.position + at)
}
