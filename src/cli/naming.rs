//! The default name of a converted file.

use std::path::{Path, PathBuf};

const FROM: &str = "BF16";
const TO: &str = "BF16_UW";

/// By the naming convention of GGUF, the encoding stands last, or before the number of a shard: `Model-BF16.gguf` becomes
/// `Model-BF16_UW.gguf` in the same folder.
pub fn converted(original: &Path) -> PathBuf {
    let name = original.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".gguf").unwrap_or(&name);
    let (stem, shard) = stem.split_at(stem.len() - shard_len(stem));
    let (base, has_type) = match stem.len().checked_sub(FROM.len()).and_then(|at| stem.split_at_checked(at)) {
        Some((base, end)) if end.eq_ignore_ascii_case(FROM) => (base.trim_end_matches(['-', '.', '_']), true),
        _ => (stem, false),
    };
    let name = match (base, has_type) {
        ("", true) => format!("{TO}{shard}.gguf"),
        _ => format!("{base}-{TO}{shard}.gguf"),
    };
    original.with_file_name(name)
}

/// Length of the ending `-00001-of-00003`, if it is there.
fn shard_len(stem: &str) -> usize {
    const SAMPLE: &[u8] = b"-00000-of-00000";
    let bytes = stem.as_bytes();
    let Some(at) = bytes.len().checked_sub(SAMPLE.len()) else { return 0 };
    let matches = bytes[at..].iter().zip(SAMPLE).all(|(byte, sample)| match sample {
        b'0' => byte.is_ascii_digit(),
        _ => byte == sample,
    });
    if matches { SAMPLE.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention() {
        for (from, to) in [
            ("dir/Model-BF16.gguf", "dir/Model-BF16_UW.gguf"),
            ("model.bf16.gguf", "model-BF16_UW.gguf"),
            ("model.gguf", "model-BF16_UW.gguf"),
            ("bf16.gguf", "BF16_UW.gguf"),
            ("ggml-model-bf16", "ggml-model-BF16_UW.gguf"),
            ("M-BF16-00001-of-00003.gguf", "M-BF16_UW-00001-of-00003.gguf"),
            ("é.gguf", "é-BF16_UW.gguf"),
        ] {
            assert_eq!(converted(Path::new(from)), Path::new(to));
        }
    }
}
