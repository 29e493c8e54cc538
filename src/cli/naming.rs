//! The default names of converted files and archives.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use unweight::codec::Number;
use unweight::convert::shards::{number_len, split_ending};

/// What stands at the end of names of the form that runs, and of archives.
const RUNS: &[u8] = b"_UW";
const ARCHIVE: &[u8] = b"_UWA";

/// `Model-Q8_0.gguf` becomes `Model-Q8_0_UWA.gguf` in the same folder, and so does `Model-Q8_0_UW.gguf`.
pub fn archived(original: &Path) -> PathBuf {
    let name = original.file_name().unwrap_or_default().as_bytes();
    let (stem, _) = split_ending(name);
    let (stem, shard) = stem.split_at(stem.len() - number_len(stem));
    let stem = stem.strip_suffix(RUNS).unwrap_or(stem);
    original.with_file_name(OsString::from_vec([stem, ARCHIVE, shard, b".gguf"].concat()))
}

/// By the naming convention of GGUF, the encoding stands last, or before the number of a shard: `Model-BF16.gguf` becomes
/// `Model-BF16_UW.gguf` in the same folder, and so does `Model-BF16_UWA.gguf`. Names are bytes, of whatever encoding. `number`: what the weights are, asked where the name does
/// not say.
pub fn converted<E>(original: &Path, number: impl FnOnce() -> Result<Number, E>) -> Result<PathBuf, E> {
    let name = original.file_name().unwrap_or_default().as_bytes();
    let (stem, _) = split_ending(name);
    let (stem, shard) = stem.split_at(stem.len() - number_len(stem));
    let stem = stem.strip_suffix(ARCHIVE).unwrap_or(stem);
    let said = Number::ALL.into_iter().find_map(|number| Some((number, before(stem, number.name())?)));
    let (number, base) = match said {
        Some((number, base)) => (number, trim(base)),
        None => (number()?, stem),
    };
    let dash: &[u8] = if base.is_empty() && said.is_some() { b"" } else { b"-" };
    let name = [base, dash, number.name().as_bytes(), RUNS, shard, b".gguf"].concat();
    Ok(original.with_file_name(OsString::from_vec(name)))
}

/// What stands before an ending, in whatever case that is; `None` where there is none. BF16 is asked for before F16, which it ends with.
fn before<'a>(name: &'a [u8], ending: &str) -> Option<&'a [u8]> {
    let (base, end) = name.split_at(name.len().checked_sub(ending.len())?);
    end.eq_ignore_ascii_case(ending.as_bytes()).then_some(base)
}

/// Without the separator at the end.
fn trim(base: &[u8]) -> &[u8] {
    let end = base.iter().rposition(|byte| !b"-._".contains(byte)).map_or(0, |last| last + 1);
    &base[..end]
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::ffi::OsStr;

    use super::*;

    fn named(path: &Path, number: Number) -> PathBuf {
        converted(path, || Ok::<_, Infallible>(number)).unwrap()
    }

    #[test]
    fn names_follow_the_convention() {
        for (from, to) in [
            ("dir/Model-BF16.gguf", "dir/Model-BF16_UW.gguf"),
            ("Model-BF16.GGUF", "Model-BF16_UW.gguf"),
            ("Model-F16.gguf", "Model-F16_UW.gguf"),
            ("Model-F32.gguf", "Model-F32_UW.gguf"),
            ("model.bf16.gguf", "model-BF16_UW.gguf"),
            ("model.f16.gguf", "model-F16_UW.gguf"),
            ("model_fp32.gguf", "model_fp32-F32_UW.gguf"),
            ("model.gguf", "model-F32_UW.gguf"),
            ("bf16.gguf", "BF16_UW.gguf"),
            ("f16.gguf", "F16_UW.gguf"),
            ("ggml-model-bf16", "ggml-model-BF16_UW.gguf"),
            ("M-BF16-00001-of-00003.gguf", "M-BF16_UW-00001-of-00003.gguf"),
            ("M-F16-00001-of-00003.gguf", "M-F16_UW-00001-of-00003.gguf"),
            ("é.gguf", "é-F32_UW.gguf"),
            ("Model-BF16_UWA.gguf", "Model-BF16_UW.gguf"),
            ("M-F16_UWA-00001-of-00003.gguf", "M-F16_UW-00001-of-00003.gguf"),
        ] {
            assert_eq!(named(Path::new(from), Number::F32), Path::new(to));
        }
        let odd = Path::new(OsStr::from_bytes(b"\xFF-BF16.gguf"));
        assert_eq!(named(odd, Number::F16), Path::new(OsStr::from_bytes(b"\xFF-BF16_UW.gguf")));
    }

    #[test]
    fn archives_keep_the_name() {
        for (from, to) in [
            ("dir/Model-BF16.gguf", "dir/Model-BF16_UWA.gguf"),
            ("Model-BF16_UW.gguf", "Model-BF16_UWA.gguf"),
            ("Model-Q4_K_M.GGUF", "Model-Q4_K_M_UWA.gguf"),
            ("mmproj.gguf", "mmproj_UWA.gguf"),
            ("M-F16_UW-00001-of-00003.gguf", "M-F16_UWA-00001-of-00003.gguf"),
        ] {
            assert_eq!(archived(Path::new(from)), Path::new(to));
        }
    }

    #[test]
    fn a_name_that_says_it_is_believed() {
        let ask = || Err("asked");
        assert!(converted(Path::new("Model-f32.gguf"), ask).is_ok());
        assert_eq!(converted(Path::new("Model.gguf"), ask), Err("asked"));
    }
}
