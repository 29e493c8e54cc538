//! Originals of any bytes: refused, or converted to both forms, one of them from the other, all of which give back every byte.

use std::path::PathBuf;
use std::sync::OnceLock;

use unweight::convert::{Form, convert, restore_to};

use crate::memory_file::MemoryFile;
use crate::samples;

pub fn run(data: &[u8]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(samples::scratch);
    let original = MemoryFile::of(data);
    let (runs, archive, again) = (folder.join("runs"), folder.join("archive"), folder.join("again"));
    let comes_back = |file: &PathBuf| {
        let mut out = Vec::new();
        let proof = restore_to(file, &mut out, &()).expect("just converted");
        assert!(proof.is_whole && out == data, "not what it was");
    };
    let made = convert(&original.path(), &runs, Form::Run, true, &()).is_ok();
    if made {
        comes_back(&runs);
    }
    if convert(&original.path(), &archive, Form::Archive, true, &()).is_ok() {
        comes_back(&archive);
        // The same bytes as from the original.
        if convert(&archive, &again, Form::Run, true, &()).is_ok() {
            assert!(made, "an archive runs, its original does not");
            let read = |path: &PathBuf| std::fs::read(path).expect("just written");
            assert!(read(&again) == read(&runs), "another file from the archive than from the original");
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    samples::originals()
}
