//! Originals that give way to what was made of them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Error, In, Refusal, Result};
use super::model::Job;
use super::opening::Holder;
use super::output::{folder_of, sync_folder};
use super::progress::Progress;
use super::{Proof, verify, verify_holder};

/// Refuses originals that are links: to remove one would free nothing.
///
/// # Errors
/// If one is.
pub fn refuse_links(originals: &[PathBuf]) -> Result<()> {
    match originals.iter().find(|path| path.is_symlink()) {
        Some(link) => Err(Error::new(link, Refusal::Link)),
        None => Ok(()),
    }
}

/// Removes the inputs of jobs that are done, after every output was read again, from the disk as far as the system can be told to, and has
/// given back all of its input.
///
/// # Errors
/// If one does not, or the disk fails; then no input is removed that had not been before.
pub fn replace(jobs: &[Job], progress: &dyn Progress) -> Result<()> {
    for (i, job) in jobs.iter().enumerate() {
        progress.file(i + 1, jobs.len());
        forget(&job.output).in_file(&job.output)?;
        prove(job, progress)?;
    }
    for job in jobs {
        std::fs::remove_file(&job.input).in_file(&job.input)?;
        sync_folder(folder_of(&job.input))?;
    }
    Ok(())
}

/// An original byte for byte; of another form, that both give back the same.
fn prove(job: &Job, progress: &dyn Progress) -> Result<()> {
    let (is_same, proof) = match Holder::open(&job.input)? {
        Holder::Original(_) => {
            // A shard that was copied proves itself by the comparison alone.
            let output = Holder::open(&job.output)?;
            let is_copy = matches!(output, Holder::Original(_));
            let proof = verify_holder(&output, Some(&job.input), progress)?;
            (true, Proof { is_whole: proof.is_whole || is_copy, ..proof })
        }
        holder => {
            let proof = verify(&job.output, None, progress)?;
            (holder.read(|original| Ok(original.blake3()))? == Some(proof.blake3), proof)
        }
    };
    if is_same && proof.is_whole && proof.missing == 0 {
        Ok(())
    } else {
        Err(Error::new(&job.input, Refusal::NotReplaced))
    }
}

/// Has the system write a file to the disk and forget what it still knows of it, so that who reads it next reads the disk. File systems that
/// are in memory have nothing else.
fn forget(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open; this is advice and changes no byte.
        match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
    Ok(())
}
