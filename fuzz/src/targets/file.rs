//! Whole files: whatever one holds, it is refused, or gives back what its checksums prove.

use std::io::{self, Write};
use std::path::Path;

use unweight::convert::{Form, forecast, restore_to, verify};

use crate::memory_file::MemoryFile;
use crate::samples;

pub fn run(data: &[u8]) {
    let file = MemoryFile::of(data);
    give_back(&file.path());
    for form in [Form::Run, Form::Archive] {
        if let Ok(report) = forecast(&file.path(), form, &()) {
            assert!(report.after > 0);
        }
    }
}

/// Restores and verifies a file, which have to agree.
pub fn give_back(path: &Path) {
    let mut given = Counter(0);
    let restored = restore_to(path, &mut given, &());
    if let Ok(proof) = &restored {
        assert_eq!(given.0, proof.len);
    }
    if let Ok(proof) = verify(path, None, &()) {
        let restored = restored.expect("what is verified can be restored");
        assert_eq!((restored.len, restored.is_whole), (proof.len, proof.is_whole));
    }
}

/// Forgets what it is given.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    samples::converted().to_vec()
}
