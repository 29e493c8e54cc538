//! A file that is in memory only, with a path for whoever wants one.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

pub struct MemoryFile {
    file: File,
}

impl MemoryFile {
    pub fn new() -> Self {
        // SAFETY: a name that ends; the descriptor is ours.
        let file = unsafe {
            let descriptor = libc::memfd_create(c"fuzz".as_ptr(), 0);
            assert!(descriptor >= 0, "no memory file");
            File::from_raw_fd(descriptor)
        };
        Self { file }
    }

    pub fn of(bytes: &[u8]) -> Self {
        let new = Self::new();
        new.file.write_all_at(bytes, 0).expect("memory");
        new
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

impl Default for MemoryFile {
    fn default() -> Self {
        Self::new()
    }
}
