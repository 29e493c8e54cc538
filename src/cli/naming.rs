//! The default name of a converted file.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use unweight::convert::shards::{number_len, split_ending};

const FROM: &[u8] = b"BF16";
const TO: &[u8] = b"BF16_UW";

/// By the naming convention of GGUF, the encoding stands last, or before the number of a shard: `Model-BF16.gguf` becomes
/// `Model-BF16_UW.gguf` in the same folder. Names are bytes, of whatever encoding.
pub fn converted(original: &Path) -> PathBuf {
    let name = original.file_name().unwrap_or_default().as_bytes();
    let (stem, _) = split_ending(name);
    let (stem, shard) = stem.split_at(stem.len() - number_len(stem));
    let (base, has_type) = match stem.len().checked_sub(FROM.len()).map(|at| stem.split_at(at)) {
        Some((base, end)) if end.eq_ignore_ascii_case(FROM) => (trim(base), true),
        _ => (stem, false),
    };
    let dash: &[u8] = if base.is_empty() && has_type { b"" } else { b"-" };
    let name = [base, dash, TO, shard, b".gguf"].concat();
    original.with_file_name(OsString::from_vec(name))
}

/// Without the separator at the end.
fn trim(base: &[u8]) -> &[u8] {
    let end = base.iter().rposition(|byte| !b"-._".contains(byte)).map_or(0, |last| last + 1);
    &base[..end]
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn names_follow_the_convention() {
        for (from, to) in [
            ("dir/Model-BF16.gguf", "dir/Model-BF16_UW.gguf"),
            ("Model-BF16.GGUF", "Model-BF16_UW.gguf"),
            ("model.bf16.gguf", "model-BF16_UW.gguf"),
            ("model.gguf", "model-BF16_UW.gguf"),
            ("bf16.gguf", "BF16_UW.gguf"),
            ("ggml-model-bf16", "ggml-model-BF16_UW.gguf"),
            ("M-BF16-00001-of-00003.gguf", "M-BF16_UW-00001-of-00003.gguf"),
            ("é.gguf", "é-BF16_UW.gguf"),
        ] {
            assert_eq!(converted(Path::new(from)), Path::new(to));
        }
        let odd = Path::new(OsStr::from_bytes(b"\xFF-BF16.gguf"));
        assert_eq!(converted(odd), Path::new(OsStr::from_bytes(b"\xFF-BF16_UW.gguf")));
    }
}
