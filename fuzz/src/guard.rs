//! Memory between pages that may not be touched: whoever reads or writes beyond either end is stopped by the machine, with any compiler and
//! on any instruction set.

use std::ops::{Deref, DerefMut};

const PAGE: usize = 4096;

/// Which end of the bytes lies at a page that may not be touched.
#[derive(Clone, Copy, Debug)]
pub enum End {
    First,
    Last,
}

pub struct Guarded {
    map: *mut u8,
    mapped: usize,
    from: usize,
    len: usize,
}

impl Guarded {
    /// `len` bytes, all 0xA5. At the last end they begin where `len` says, so a length has to be a multiple of what it is aligned for.
    pub fn new(len: usize, end: End) -> Self {
        let inner = len.next_multiple_of(PAGE);
        let mapped = inner + 2 * PAGE;
        let (private, rights) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: new memory, of which the inner pages are opened.
        let map = unsafe {
            let map = libc::mmap(std::ptr::null_mut(), mapped, libc::PROT_NONE, private, -1, 0);
            assert!(map != libc::MAP_FAILED, "no memory");
            assert!(inner == 0 || libc::mprotect(map.byte_add(PAGE), inner, rights) == 0, "no memory");
            map.cast()
        };
        let from = match end {
            End::First => PAGE,
            End::Last => PAGE + inner - len,
        };
        let mut guarded = Self { map, mapped, from, len };
        guarded.fill(0xA5);
        guarded
    }

    pub fn of(bytes: &[u8], end: End) -> Self {
        let mut guarded = Self::new(bytes.len(), end);
        guarded.copy_from_slice(bytes);
        guarded
    }

    /// The same as floats.
    ///
    /// # Panics
    /// If they are not whole, or not aligned.
    pub fn floats(&mut self) -> &mut [f32] {
        // SAFETY: any bits are floats.
        let (before, floats, behind) = unsafe { self.align_to_mut() };
        assert!(before.is_empty() && behind.is_empty(), "whole floats");
        floats
    }
}

impl Deref for Guarded {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: these bytes are mapped, ours, and initialised.
        unsafe { std::slice::from_raw_parts(self.map.add(self.from), self.len) }
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.map.add(self.from), self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: nobody borrows it any more.
        unsafe { libc::munmap(self.map.cast(), self.mapped) };
    }
}
