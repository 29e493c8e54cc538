//! Small models and weights, from which seeds are made.

use std::path::PathBuf;
use std::sync::OnceLock;

use unweight::codec::Number;
use unweight::convert::{Form, convert};

/// Originals of the repository's tests: GGUF files of a few kilobytes.
pub fn originals() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("tests/data").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    paths.sort();
    let mut files: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("a file")).collect();
    files.push(model());
    files
}

/// A model of many kinds of tensors, none of them large.
fn model() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let tensors: [(&str, u32, &[u64], Number); 5] = [
        ("token_embd.weight", 30, &[64, 40], Number::Bf16),
        ("blk.0.attn_q.weight", 1, &[96, 16], Number::F16),
        ("blk.0.ffn_up.weight", 0, &[64, 24], Number::F32),
        ("blk.0.ffn_down.weight", 30, &[32, 64], Number::Bf16),
        ("blk.0.attn_norm.weight", 0, &[64], Number::F32),
    ];
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(1u64.to_le_bytes());
    out.extend(text("general.architecture"));
    out.extend(8u32.to_le_bytes());
    out.extend(text("llama"));
    let mut data = Vec::new();
    for (i, (name, ty, dims, number)) in tensors.into_iter().enumerate() {
        out.extend(text(name));
        out.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|extent| out.extend(extent.to_le_bytes()));
        out.extend(ty.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        data.extend(weights(number, dims.iter().product::<u64>() as usize, i as u64));
        data.resize(data.len().next_multiple_of(32), 0xEE);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

/// Both forms of all originals that have them.
pub fn converted() -> &'static [Vec<u8>] {
    static FILES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = scratch();
        let (from, to) = (folder.join("original.gguf"), folder.join("converted.gguf"));
        let mut files = Vec::new();
        // Of small ones, for speed.
        for original in originals().into_iter().filter(|original| original.len() < 200_000) {
            std::fs::write(&from, original).expect("a writable folder");
            for form in [Form::Run, Form::Archive] {
                if convert(&from, &to, form, true, &()).is_ok() {
                    files.push(std::fs::read(&to).expect("just written"));
                }
            }
        }
        std::fs::remove_dir_all(folder).expect("ours");
        assert!(files.len() >= 4, "seeds of both forms");
        files
    })
}

/// A folder of this process.
pub fn scratch() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("unweight-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a writable folder");
    folder
}

/// Weights as training leaves them, with a few that are anything.
pub fn weights(number: Number, n: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let weight = |_| {
        let spread = random.u32(..).trailing_ones().min(9);
        let single = match random.u8(..) {
            0 => random.u32(..),
            _ => random.u32(..) & 0x807F_FFFF | (121 - spread) << 23,
        };
        let half = (random.u16(..) & 0x83FF) | (12 - spread as u16) << 10;
        match number {
            Number::Bf16 => single.to_le_bytes()[2..].to_vec(),
            Number::F16 => half.to_le_bytes().to_vec(),
            Number::F32 => single.to_le_bytes().to_vec(),
        }
    };
    (0..n).flat_map(weight).collect()
}
