//! Originals that give way to what was made of them.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::{Error, In, Refusal, Result};
use super::model::Job;
use super::opening::Holder;
use super::output::{Stamp, folder_of, sync_folder};
use super::progress::Progress;
use super::{Report, verify_holder};

/// Refuses what could not be removed, or proved, in the end: links, since to remove one would free nothing; files in folders that may not be
/// changed; converted files that a tool has changed, which nothing proves as a whole.
///
/// # Errors
/// If one is.
pub fn refuse_replacing(originals: &[PathBuf]) -> Result<()> {
    for path in originals {
        if path.is_symlink() {
            return Err(Error::new(path, Refusal::Link));
        }
        let folder = folder_of(path);
        let name = CString::new(folder.as_os_str().as_bytes()).map_err(io::Error::from).in_file(folder)?;
        // SAFETY: a string that ends.
        if unsafe { libc::access(name.as_ptr(), libc::W_OK) } != 0 {
            return Err(Error::new(folder, io::Error::last_os_error()));
        }
        let holder = Holder::open(path)?;
        let is_form = !matches!(holder, Holder::Original(_));
        if is_form && holder.read(|original| Ok(original.blake3().is_none()))? {
            return Err(Error::new(path, Refusal::Unproved));
        }
    }
    Ok(())
}

/// Removes the inputs of jobs that are done, after every output was read again, from the disk as far as the system can be told to, and has
/// given back all of its input. `reports`: what was said of the jobs, in their order.
///
/// # Errors
/// If one does not, an input is no longer the file that was read, or the disk fails; then no input is removed that had not been before.
pub fn replace(jobs: &[Job], reports: &[Report], progress: &dyn Progress) -> Result<()> {
    let mut proved = Vec::with_capacity(jobs.len());
    for (i, (job, report)) in jobs.iter().zip(reports).enumerate() {
        progress.file(i + 1, jobs.len());
        let stamps = check(job, report.read, None)?;
        forget(&job.output).in_file(&job.output)?;
        prove(job, progress)?;
        proved.push(stamps);
    }
    let all = || jobs.iter().zip(reports).zip(&proved);
    // What was proved is still what is there: of all, before the first is removed, and of each.
    for ((job, report), output) in all() {
        check(job, report.read, Some(*output))?;
    }
    for ((job, report), output) in all() {
        check(job, report.read, Some(*output))?;
        std::fs::remove_file(&job.input).in_file(&job.input)?;
        sync_folder(folder_of(&job.input))?;
    }
    Ok(())
}

/// The input is the file that was read, and the output another, the one that was proved if it was. Says which that is.
fn check(job: &Job, read: Stamp, proved: Option<Stamp>) -> Result<Stamp> {
    let (input, output) = (Stamp::of(&job.input)?, Stamp::of(&job.output)?);
    let is_right =
        input == read && !input.is_same_file(&output) && proved.is_none_or(|proved| proved == output);
    if is_right { Ok(output) } else { Err(Error::new(&job.input, Refusal::NotReplaced)) }
}

/// An original byte for byte, and one in a form that gave way to a plain file; of two forms, that both give back the same.
fn prove(job: &Job, progress: &dyn Progress) -> Result<()> {
    let (input, output) = (Holder::open(&job.input)?, Holder::open(&job.output)?);
    let is_proved = match (&input, &output) {
        (Holder::Original(_), Holder::Original(_)) => {
            verify_holder(&output, Some(&job.input), progress).map(|_| true)
        }
        (Holder::Original(_), _) => {
            verify_holder(&output, Some(&job.input), progress).map(|proof| proof.is_whole)
        }
        (_, Holder::Original(_)) => {
            verify_holder(&input, Some(&job.output), progress).map(|proof| proof.is_whole)
        }
        _ => {
            let proof = verify_holder(&output, None, progress)?;
            input.read(|original| Ok(proof.is_whole && original.blake3() == Some(proof.blake3)))
        }
    };
    if is_proved? { Ok(()) } else { Err(Error::new(&job.input, Refusal::NotReplaced)) }
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
