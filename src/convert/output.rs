use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use super::error::{Cause, Error, In, Refusal, Result};
use super::progress::Progress;
use super::windows::{WINDOW, Windows};

/// A file that is written: under a temporary name in the target's folder, and complete or not at all.
pub struct Output {
    target: PathBuf,
    folder: PathBuf,
    force: bool,
    temporary: NamedTempFile,
    _listed: Listed,
}

impl Output {
    /// `inputs`: files that are read.
    ///
    /// # Errors
    /// If the target may not be written, or no file can be made, or renamed, in its folder.
    pub fn create(target: &Path, force: bool, inputs: &[&Path]) -> Result<Self> {
        refuse(target, force, inputs.iter().copied())?;
        let folder = folder_of(target);
        std::fs::metadata(folder).in_file(folder)?;
        let mode = mode_for(inputs)?;
        let new = || {
            let mode = Permissions::from_mode(mode);
            let file = tempfile::Builder::new().prefix(".unweight-").permissions(mode).tempfile_in(folder);
            // The message of the error would name the temporary file.
            let plain = |error: io::Error| {
                let inner = error.get_ref().and_then(|inner| inner.source()?.downcast_ref::<io::Error>());
                let number = inner.unwrap_or(&error).raw_os_error();
                let error = number.map_or(error.kind().into(), io::Error::from_raw_os_error);
                Cause::Doing { doing: "cannot create a file there", error }
            };
            file.map_err(plain).in_file(folder)
        };
        let temporary = new()?;
        if let Ok(there) = std::fs::metadata(target) {
            temporary.as_file().set_permissions(there.permissions()).in_file(target)?;
        }
        probe_rename(new()?)
            .map_err(|error| Cause::Doing { doing: "cannot rename a file there", error })
            .in_file(folder)?;
        let _listed = Listed::new(temporary.path());
        Ok(Self { target: target.to_owned(), folder: folder.to_owned(), force, temporary, _listed })
    }

    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// The name that it will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The name that it has meanwhile.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// # Errors
    /// If the disk is full, or fails.
    pub fn write(&self, position: u64, bytes: &[u8]) -> Result<()> {
        self.file()
            .write_all_at(bytes, position)
            .map_err(|error| Cause::Doing { doing: "writing", error })
            .in_file(&self.target)
    }

    /// Refuses a length for which there is no space: a small file may hold a very long one.
    ///
    /// # Errors
    /// If there is not.
    pub fn require(&self, len: u64) -> Result<()> {
        // SAFETY: all zeros are a valid structure, which the call fills; the descriptor is open.
        let free = unsafe {
            let mut disk: libc::statvfs = std::mem::zeroed();
            let known = libc::fstatvfs(self.file().as_raw_fd(), &raw mut disk) == 0 && disk.f_blocks > 0;
            known.then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
        };
        match free {
            Some(free) if free < len => Err(Error::new(&self.target, Cause::NoSpace { len, free })),
            _ => Ok(()),
        }
    }

    /// Sets the length, beyond what was written as a hole.
    ///
    /// # Errors
    /// If the file cannot be so long.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file()
            .set_len(len)
            .map_err(|error| Cause::Doing { doing: "setting its length", error })
            .in_file(&self.target)
    }

    /// What is in it now, read back.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn blake3(&self, len: u64, progress: &dyn Progress) -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        let read = |at: u64, buffer: &mut [u8]| {
            let wrong = |error| Cause::Doing { doing: "reading it back", error };
            self.file().read_exact_at(buffer, at).map_err(wrong).in_file(&self.target)
        };
        Windows::default().each(0..len, WINDOW, read, |_, bytes| {
            hasher.update_rayon(bytes);
            progress.advance(bytes.len() as u64);
            Ok(())
        })?;
        Ok(hasher.finalize())
    }

    /// Makes the bytes durable, still under the temporary name.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn settle(&self) -> Result<()> {
        self.file().sync_all().in_file(&self.target)
    }

    /// Makes the file durable, then visible under its name, and that durable too.
    ///
    /// # Errors
    /// If the disk fails, or the target came into being meanwhile.
    pub fn commit(self) -> Result<()> {
        self.settle()?;
        let Self { target, folder, force, temporary, _listed } = self;
        let renamed = if force { temporary.persist(&target) } else { persist_new(temporary, &target) };
        match renamed {
            Ok(_) => sync_folder(&folder),
            Err(_) if !force && target.exists() => Err(Error::new(&target, Refusal::Exists)),
            Err(failure) => Err(Error::new(&target, failure.error)),
        }
    }
}

/// The mode that a new file is asked for, from which the umask takes: whoever may not read an input may not read it. Others' files have other
/// groups.
fn mode_for(inputs: &[&Path]) -> Result<u32> {
    const WRITE: u32 = 0o222;
    const GROUP: u32 = 0o070;
    // SAFETY: it always succeeds.
    let own = unsafe { libc::getegid() };
    inputs.iter().try_fold(0o666, |mode, input| {
        let there = std::fs::metadata(input).in_file(input)?;
        let group = if there.gid() == own { 0 } else { GROUP };
        // Of another group, what everybody may.
        let all = there.mode() & !group | (there.mode() & 0o007) << 3 & group;
        Ok(mode & (all | WRITE))
    })
}

/// Writes a small file that is complete or not there, in place of another that is none of `inputs`.
///
/// # Errors
/// If it may not be written there, or cannot.
pub fn write_file(target: &Path, bytes: &[u8], inputs: &[PathBuf]) -> Result<()> {
    let output = Output::create(target, true, &inputs.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    output.write(0, bytes)?;
    output.commit()
}

/// Makes names durable that were given or taken in a folder, as far as the file system can.
///
/// # Errors
/// If the disk fails.
pub fn sync_folder(folder: &Path) -> Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot do that with folders, and some folders may be written but not read.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done.in_file(folder),
    }
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Renames without replacing. Some file systems (exFAT, many FUSE ones) can neither do that in one step nor make hard links: there a
/// file that comes into being in the moment between is replaced.
fn persist_new(temporary: NamedTempFile, target: &Path) -> std::result::Result<File, tempfile::PersistError> {
    match temporary.persist_noclobber(target) {
        Err(failure) if failure.error.kind() != io::ErrorKind::AlreadyExists && !target.exists() => {
            failure.file.persist(target)
        }
        done => done,
    }
}

/// `inputs`: files that are read.
///
/// # Errors
/// If `target` may not be written.
pub fn refuse<'a>(target: &Path, force: bool, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let refused = |refusal| Err(Error::new(target, Cause::Refused(refusal)));
    // A link is not followed: what it leads to would stay, and the link be lost.
    if target.is_symlink() {
        return refused(Refusal::Link);
    }
    if target.exists() {
        // One file may have many names: links, mounts, capital letters.
        let there = Stamp::of(target)?;
        for input in inputs {
            if Stamp::of(input)?.is_same_file(&there) {
                return refused(Refusal::SameFile);
            }
        }
        if target.is_dir() {
            return refused(Refusal::Folder);
        }
        if !target.is_file() {
            return refused(Refusal::NotRegular);
        }
        if !force {
            return refused(Refusal::Exists);
        }
    }
    Ok(())
}

/// The last step of all is to rename the file; what cannot be done then should be known before the work.
fn probe_rename(probe: NamedTempFile) -> io::Result<()> {
    let mut moved = probe.path().as_os_str().to_owned();
    moved.push("-moved");
    std::fs::rename(probe.path(), &moved)?;
    std::fs::remove_file(&moved)
}

/// Which file it was that stood under a name, and in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    /// When anything of it changed, the time above too.
    changed: (i64, i64),
}

impl Stamp {
    /// # Errors
    /// If there is no such file.
    pub fn of(path: &Path) -> Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::new(&metadata)).in_file(path)
    }

    pub(super) fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Deletes the temporary files of all work that is under way: for programs that are about to end before it is done.
pub fn remove_unfinished() {
    for path in unfinished().drain(..) {
        let _ = std::fs::remove_file(path);
    }
}

/// A temporary file in the list of the unfinished.
struct Listed(PathBuf);

impl Listed {
    fn new(path: &Path) -> Self {
        unfinished().push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().retain(|other| *other != self.0);
    }
}
