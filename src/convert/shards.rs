//! The files of a model that was split, by the names that llama.cpp gives them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::error::{Error, Refusal, Result};

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

/// Names of all shards of the model that a file is named as a shard of, in their order, and which of them it is, from 0 on.
fn names(path: &Path) -> Option<(Vec<PathBuf>, usize)> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let (stem, ending) = split_ending(name);
    let (model, number) = stem.split_at(stem.len() - number_len(stem));
    let digits = |at: usize| std::str::from_utf8(number.get(at..at + DIGITS)?).ok()?.parse::<u32>().ok();
    let (this, count) = (digits(1)?, digits(number.len() - DIGITS)?);
    let shard = |i| {
        let number = format!("-{i:05}-of-{count:05}");
        let name = [model, number.as_bytes(), ending].concat();
        path.with_file_name(OsString::from_vec(name))
    };
    let is_one = (1..=count).contains(&this);
    is_one.then(|| ((1..=count).map(shard).collect(), this as usize - 1))
}

/// The other shards of the model that a file is a shard of, as far as they are there.
pub fn others(path: &Path) -> Vec<PathBuf> {
    let Some((names, _)) = names(path) else { return Vec::new() };
    names.into_iter().filter(|other| other.file_name() != path.file_name() && other.is_file()).collect()
}

/// What a file stands for: itself, or if it is the first shard of a model, all of them.
///
/// # Errors
/// If one is not there.
pub fn all(path: &Path) -> Result<Vec<PathBuf>> {
    let Some((names, 0)) = names(path) else { return Ok(vec![path.to_owned()]) };
    match names.iter().position(|name| !name.exists()) {
        // The first may be missing like any file, which whoever opens it will say.
        None | Some(0) => Ok(names),
        Some(missing) => {
            let refusal = Refusal::MissingShard { number: missing as u32 + 1, count: names.len() as u32 };
            Err(Error::new(&names[missing], refusal))
        }
    }
}

/// Names for what becomes of `count` files, of which `path` is that of the first.
///
/// # Errors
/// If there are several, and it is not named as the first shard of as many.
pub fn like(path: &Path, count: usize) -> Result<Vec<PathBuf>> {
    match names(path) {
        _ if count == 1 => Ok(vec![path.to_owned()]),
        Some((names, 0)) if names.len() == count => Ok(names),
        _ => Err(Error::new(path, Refusal::NoShard { count })),
    }
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
        assert_eq!(others(&path("m-00004-of-00003.gguf")), [] as [PathBuf; 0]);
        let second = path("m-00002-of-00003.gguf");
        let missing = all(&first).unwrap_err();
        assert_eq!(missing.to_string(), format!("{}: shard 2 of 3 is not here", second.display()));
        std::fs::write(&second, b"").unwrap();
        assert_eq!(all(&first).unwrap(), [first.clone(), second.clone(), third.clone()]);
        assert_eq!(all(&second).unwrap(), std::slice::from_ref(&second));
        assert_eq!(all(&path("m.gguf")).unwrap(), [path("m.gguf")]);
        assert_eq!(like(&path("o-00001-of-00002.gguf"), 2).unwrap()[1], path("o-00002-of-00002.gguf"));
        assert_eq!(like(&path("o.gguf"), 1).unwrap(), [path("o.gguf")]);
        for name in ["o.gguf", "o-00001-of-00003.gguf", "o-00002-of-00002.gguf"] {
            assert!(like(&path(name), 2).is_err(), "{name}");
        }
        assert_eq!(split_ending(b"a.GGUF"), (&b"a"[..], &b".GGUF"[..]));
        assert_eq!(number_len(b"-00001-of-00003"), 15);
    }
}
