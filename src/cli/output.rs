//! A file that is written: beside its target, complete or not at all.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

/// Written under a temporary name in the target's folder; dropped unless committed.
pub struct Output {
    target: PathBuf,
    force: bool,
    temporary: NamedTempFile,
}

impl Output {
    /// # Errors
    /// If the target exists and `force` is not given, or is the file `input` itself.
    pub fn create(target: &Path, force: bool, input: &Path) -> Result<Self> {
        refuse(target, force, input)?;
        let folder =
            target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".unweight-")
            .permissions(default_permissions())
            .tempfile_in(folder)
            .map_err(|error| {
                anyhow::anyhow!("{}: cannot create a file there: {}", folder.display(), error.kind())
            })?;
        interrupted::forget_on_signal(temporary.path())?;
        Ok(Self { target: target.to_owned(), force, temporary })
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

    pub fn write(&self, position: u64, bytes: &[u8]) -> Result<()> {
        self.file()
            .write_all_at(bytes, position)
            .with_context(|| format!("{}: writing", self.target.display()))
    }

    /// Reserves the length, as a hole.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file().set_len(len).with_context(|| format!("{}: setting its length", self.target.display()))
    }

    /// Makes the file durable, then visible under its name.
    pub fn commit(self) -> Result<()> {
        let name = || self.target.display().to_string();
        self.temporary.as_file().sync_all().with_context(name)?;
        let renamed = if self.force {
            self.temporary.persist(&self.target)
        } else {
            self.temporary.persist_noclobber(&self.target)
        };
        renamed.map(drop).map_err(|failure| failure.error).with_context(name)
    }
}

/// # Errors
/// If `target` may not be written.
pub fn refuse(target: &Path, force: bool, input: &Path) -> Result<()> {
    // A link is not followed: what it leads to would stay, and the link be lost.
    if target.is_symlink() {
        bail!("{}: is a link; name the file itself", target.display());
    }
    if target.exists() {
        if same_file(target, input)? {
            bail!("{}: input and output are the same file", target.display());
        }
        if target.is_dir() {
            bail!("{}: is a folder", target.display());
        }
        if !target.is_file() {
            bail!("{}: not a regular file", target.display());
        }
        if !force {
            bail!("{}: exists already; --force replaces it", target.display());
        }
    }
    Ok(())
}

fn same_file(a: &Path, b: &Path) -> Result<bool> {
    let real = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
    Ok(real(a)? == real(b)?)
}

/// What a program that creates files plainly would ask for; the umask does the rest.
fn default_permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// An interrupted program leaves nothing behind either.
mod interrupted {
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, Once, PoisonError};

    use anyhow::Result;

    static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

    /// One file at a time is being written; this is the one now.
    pub fn forget_on_signal(temporary: &Path) -> Result<()> {
        static HANDLER: Once = Once::new();
        *TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner) = Some(temporary.to_owned());
        let mut result = Ok(());
        HANDLER.call_once(|| {
            result = ctrlc::set_handler(|| {
                if let Some(path) = &*TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner) {
                    let _ = std::fs::remove_file(path);
                }
                std::process::exit(130);
            });
        });
        Ok(result?)
    }
}
