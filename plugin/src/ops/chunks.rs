//! Who computes which part.

use std::sync::atomic::{AtomicU64, Ordering};

/// Rows are dealt out in multiples of what the kernel decodes at a time.
pub const TILE: u64 = 16;
/// Chunks per thread: enough that no thread waits long for another.
const CHUNKS: u64 = 8;

/// One of the threads that run a job together.
#[derive(Clone, Copy)]
pub struct Thread {
    pub index: u64,
    pub count: u64,
}

/// Deals out work: each thread takes its own share in order, so that it reads memory in one run, then what others have left.
#[derive(Default)]
pub struct Chunks([AtomicU64; Self::SHARES]);

impl Chunks {
    /// Threads beyond this many have shares together.
    const SHARES: usize = 32;

    /// The next number below `count` for this thread, each once over all threads.
    pub fn next(&self, thread: Thread, count: u64) -> Option<u64> {
        let shares = thread.count.clamp(1, Self::SHARES as u64);
        (0..shares).map(|other| (thread.index + other) % shares).find_map(|share| {
            let (start, end) = (count * share / shares, count * (share + 1) / shares);
            let number = start + self.0[share as usize].fetch_add(1, Ordering::Relaxed);
            (number < end).then_some(number)
        })
    }
}

/// Rows in a chunk: long runs, since what a thread has fetched ahead of a run's end is lost.
pub fn chunk_rows(rows: u64, threads: u64) -> u64 {
    (rows / (threads * CHUNKS)).next_multiple_of(TILE).max(TILE)
}
