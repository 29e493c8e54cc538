//! What ends the program from outside: it leaves nothing half-written behind, and says why.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use unweight::convert::{mapped_at, remove_unfinished};

/// # Errors
/// If the system does not let signals be handled.
pub fn install() -> io::Result<()> {
    // SAFETY: no handler, and no other thread yet. A file beyond the user's limit is then an error of the write, which tidies up.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    ctrlc::set_handler(interrupted).map_err(io::Error::other)?;
    // SAFETY: all zeros are a valid sigaction; `lost` has the form that SA_SIGINFO asks for.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int, *const libc::siginfo_t, *const libc::c_void) = lost;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut())
    };
    if installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An interrupted program leaves nothing behind.
fn interrupted() {
    remove_unfinished();
    std::process::exit(130);
}

/// A mapped file was cut short, or its disk failed, while it was read.
///
/// Such a signal comes to the thread that reads the mapping, at the instruction that does: in a kernel, a checksum, a copy, and never inside
/// the allocator, or with a lock held that is taken here. So ordinary code can run.
extern "C" fn lost(signal: libc::c_int, info: *const libc::siginfo_t, _: *const libc::c_void) {
    // SAFETY: the system passes a valid structure, and for this signal it has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    // Many threads read the same mapping: the first says so, and ends all.
    static IS_KNOWN: AtomicBool = AtomicBool::new(false);
    if IS_KNOWN.swap(true, Ordering::SeqCst) {
        loop {
            // SAFETY: it waits for a signal, and the process ends first.
            unsafe { libc::pause() };
        }
    }
    let Some(path) = mapped_at(address) else {
        // Not ours: the instruction is tried again, and ends the program as it would have.
        // SAFETY: the default action.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    eprintln!("unweight-gguf: {}: cut short, or no longer readable, while it was read", path.display());
    remove_unfinished();
    // SAFETY: nothing of the program runs after this.
    unsafe { libc::_exit(1) }
}
