//! Small models and weights, from which seeds are made.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use unweight::codec::Number;
use unweight::convert::{Form, convert};

/// Originals of the repository's tests: GGUF files of some kilobytes.
pub fn originals() -> Vec<Vec<u8>> {
    const FILES: [&str; 3] = ["tiny-bf16.gguf", "edges-bf16.gguf", "golden/original.gguf"];
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data"));
    FILES.into_iter().map(|name| std::fs::read(folder.join(name)).expect("a file of the tests")).collect()
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
        assert!(files.len() == 4, "seeds of both forms");
        files
    })
}

/// A folder of this process.
pub fn scratch() -> PathBuf {
    // In memory where that can be: every file is forced to its disk.
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = base.join(format!("unweight-fuzz-{}", std::process::id()));
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
