//! Several files in one line.

use std::path::{Path, PathBuf};

use unweight::convert::Proof;

/// "Model-00001-of-00003.gguf and 2 more": the first of so many files.
pub fn several(first: &Path, count: usize) -> String {
    match count {
        1 => first.display().to_string(),
        _ => format!("{} and {} more", first.display(), count - 1),
    }
}

/// ", but for Model-00003-of-00003.gguf, …": which files are not compressed, and are what they are without a proof.
pub fn plain(files: &[PathBuf], proofs: &[Proof]) -> String {
    let plain = files.iter().zip(proofs).filter(|(_, proof)| proof.is_plain);
    let names: Vec<_> = plain.map(|(file, _)| file.display().to_string()).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(", but for {}, which no checksum proves, not being compressed", names.join(", "))
}
