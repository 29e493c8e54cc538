//! The files of a model that was split, by the names that llama.cpp gives them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// `-00001-of-00003`, between the name of the model and `.gguf`.
const SAMPLE: &[u8] = b"-00000-of-00000";
const DIGITS: usize = 5;

/// The name without its ending, and the ending ("" where it is not `.gguf`, in capitals or not).
pub fn split_ending(name: &[u8]) -> (&[u8], &[u8]) {
    const ENDING: &[u8] = b".gguf";
    match name.len().checked_sub(ENDING.len()) {
        Some(at) if name[at..].eq_ignore_ascii_case(ENDING) => name.split_at(at),
        _ => (name, &[]),
    }
}

/// Bytes of the number of a shard at the end of a name without ending; 0 where there is none.
pub fn number_len(stem: &[u8]) -> usize {
    let Some(at) = stem.len().checked_sub(SAMPLE.len()) else { return 0 };
    let matches = stem[at..].iter().zip(SAMPLE).all(|(byte, sample)| match sample {
        b'0' => byte.is_ascii_digit(),
        _ => byte == sample,
    });
    if matches { SAMPLE.len() } else { 0 }
}

/// The other shards of the model that a file is a shard of, as far as they are there.
pub fn others(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let (stem, ending) = split_ending(name);
    let (model, number) = stem.split_at(stem.len() - number_len(stem));
    let count = number.len().checked_sub(DIGITS).and_then(|at| std::str::from_utf8(&number[at..]).ok());
    let count: u32 = count.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let shard = |i| {
        let number = format!("-{i:05}-of-{count:05}");
        let name = [model, number.as_bytes(), ending].concat();
        path.with_file_name(OsString::from_vec(name))
    };
    (1..=count).map(shard).filter(|other| other.file_name() != path.file_name() && other.is_file()).collect()
}

/// True for a file that is named as a shard.
pub fn is_shard(path: &Path) -> bool {
    number_len(split_ending(path.file_name().unwrap_or_default().as_bytes()).0) > 0
}

/// The first shard of the model that a file is a later shard of, if it is there.
pub fn first(path: &Path) -> Option<PathBuf> {
    let first = others(path).into_iter().next()?;
    let (stem, _) = split_ending(first.file_name()?.as_bytes());
    let number = &stem[stem.len() - number_len(stem)..];
    number.starts_with(b"-00001-").then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_told_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["m-00001-of-00003.gguf", "m-00003-of-00003.gguf", "n-00001-of-00003.gguf", "m.gguf"] {
            std::fs::write(path(name), b"").unwrap();
        }
        let first = path("m-00001-of-00003.gguf");
        let third = path("m-00003-of-00003.gguf");
        assert_eq!(others(&first), std::slice::from_ref(&third));
        assert_eq!(super::first(&third), Some(first.clone()));
        assert_eq!(super::first(&first), None);
        assert!(is_shard(&third) && !is_shard(&path("m.gguf")));
        assert_eq!(others(&path("m.gguf")), [] as [PathBuf; 0]);
        assert_eq!(others(&path("m-00001-of-0000x.gguf")), [] as [PathBuf; 0]);
        assert_eq!(split_ending(b"a.GGUF"), (&b"a"[..], &b".GGUF"[..]));
        assert_eq!(number_len(b"-00001-of-00003"), 15);
    }
}
