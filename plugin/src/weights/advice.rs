//! What the system is told about a mapped file.

use std::ffi::c_void;

/// Asks for large pages wherever a range of a mapped file is read, or read again where memory is too small to keep it. What belongs to a
/// row stands in several places, so threads read several streams at once, and for these Linux falls back to single pages, whose
/// bookkeeping then costs more than the disk does. Advice only: what the system makes of it changes no result.
#[cfg(target_os = "linux")]
pub fn prefer_large_pages(base: *mut c_void, size: usize) {
    // SAFETY: no precondition.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Some(before) = usize::try_from(page).ok().and_then(|page| base.addr().checked_rem(page)) else {
        return;
    };
    // SAFETY: the range is mapped, and this advice neither changes nor drops what stands there.
    unsafe { libc::madvise(base.byte_sub(before), size + before, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
pub fn prefer_large_pages(_: *mut c_void, _: usize) {}
