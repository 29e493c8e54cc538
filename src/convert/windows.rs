//! Reading in windows: the next is read while the last is worked on.

use std::ops::Range;

use super::error::Result;

/// Bytes read, hashed and coded at a time: enough to keep all cores busy, little against the memory limit.
pub const WINDOW: u64 = 4 << 20;

/// With many cores windows are larger than that, but no larger than this.
const LARGEST: u64 = 64 << 20;

/// As many units of so many bytes as make a window, and one for each thread, as far as memory allows; one at least.
pub fn window_of(unit: u64) -> u64 {
    let unit = unit.max(1);
    let for_all = (rayon::current_num_threads() as u64).min(LARGEST / unit);
    (WINDOW / unit).max(for_all).max(1) * unit
}

/// Memory that passes from one range to the next: new memory for each would cost more than the work.
#[derive(Default)]
pub struct Windows {
    now: Vec<u8>,
    next: Vec<u8>,
}

impl Windows {
    /// Gives the bytes of a range to `sink`, in order, so many at a time; with each window where it begins. `read` fills a buffer with
    /// the bytes from a position.
    ///
    /// # Errors
    /// If `read` or `sink` fails.
    pub fn each(
        &mut self,
        range: Range<u64>,
        window: u64,
        read: impl Fn(u64, &mut [u8]) -> Result<()> + Sync,
        mut sink: impl FnMut(u64, &[u8]) -> Result<()> + Send,
    ) -> Result<()> {
        let fill = |at: u64, buffer: &mut Vec<u8>| {
            let len = window.min(range.end.saturating_sub(at)) as usize;
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            if len > 0 { read(at, &mut buffer[..len]) } else { Ok(()) }
        };
        fill(range.start, &mut self.now)?;
        for at in range.clone().step_by(window as usize) {
            let Self { now, next } = self;
            let bytes = &now[..window.min(range.end - at) as usize];
            let (sunk, filled) = rayon::join(|| sink(at, bytes), || fill(at + window, next));
            sunk?;
            filled?;
            std::mem::swap(now, next);
        }
        Ok(())
    }
}
