//! Running the program.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

pub const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-bf16.gguf");
pub const EDGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/edges-bf16.gguf");

pub fn command<A: AsRef<OsStr>>(arguments: &[A]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unweight-gguf"));
    command.args(arguments);
    command
}

#[track_caller]
pub fn succeeds<A: AsRef<OsStr>>(arguments: &[A]) -> String {
    success(&command(arguments).output().unwrap())
}

/// What it says on standard output.
#[track_caller]
pub fn success(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "", "nothing on standard error where it is no terminal");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that has to fail with exit code 1 and one line that holds all of `parts`.
#[track_caller]
pub fn fails<A: AsRef<OsStr>>(arguments: &[A], parts: &[&str]) {
    failure(&command(arguments).output().unwrap(), parts);
}

#[track_caller]
pub fn failure(output: &Output, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

/// A folder that is there for one test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn as_path(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> String {
        self.as_path().join(name).to_str().unwrap().to_owned()
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn converted(&self, original: &str) -> String {
        let path = self.path("converted.gguf");
        succeeds(&["convert", original, &path, "--force"]);
        path
    }

    pub fn names(&self) -> Vec<PathBuf> {
        fs::read_dir(self.as_path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Restores a converted file, and compares.
    #[track_caller]
    pub fn gives_back(&self, converted: &str, original: &str) {
        let restored = self.path("restored.gguf");
        let said = succeeds(&["restore", converted, &restored, "--force"]);
        assert!(said.contains("identical to the original (BLAKE3)"), "{said}");
        assert!(fs::read(&restored).unwrap() == fs::read(original).unwrap());
    }
}
