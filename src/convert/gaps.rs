//! What stands between the tensors of an original.

use std::io::Read;
use std::ops::Range;

use super::error::Cause;
use crate::container::parts::Part;

/// Metadata and gaps that are not zero are held in memory. Those of real models are a few dozen megabytes at most, and metadata packed to a
/// third or so.
const MOST_BYTES: u64 = 1 << 28;

/// Most bytes that a zstd frame may stand for, so that a small file does not ask for much memory.
pub fn most_unpacked(frame: u64) -> u64 {
    frame.saturating_mul(64).saturating_add(1 << 24).min(MOST_BYTES)
}

/// The gaps of an original, in file order.
pub struct Gaps {
    /// Where each begins in the original.
    starts: Vec<u64>,
    /// Where each begins in `bytes`.
    places: Vec<u64>,
    /// One after the other; empty where all are zero.
    bytes: Vec<u8>,
}

impl Gaps {
    /// All gaps are zero.
    pub fn zero() -> Self {
        Self { starts: Vec::new(), places: Vec::new(), bytes: Vec::new() }
    }

    /// Unpacks the zstd frame of the gaps among these parts; an empty one stands for zeros.
    ///
    /// # Errors
    /// If it is damaged, or of another length than they are.
    pub fn open(frame: &[u8], parts: &[(Part, Range<u64>)]) -> Result<Self, Cause> {
        if frame.is_empty() {
            return Ok(Self::zero());
        }
        let (mut starts, mut places, mut len) = (Vec::new(), Vec::new(), 0);
        for (_, range) in parts.iter().filter(|(part, _)| *part == Part::Gap) {
            starts.push(range.start);
            places.push(len);
            len += range.end - range.start;
        }
        if len > most_unpacked(frame.len() as u64) {
            return Err(Cause::Between(format!("{len} bytes, which no model has")));
        }
        Ok(Self { starts, places, bytes: unpack(frame, len).map_err(Cause::Between)? })
    }

    /// Fills `buffer` with the bytes from `at` of the gap that begins at `start` of the original.
    pub fn read(&self, start: u64, at: u64, buffer: &mut [u8]) {
        match self.starts.binary_search(&start) {
            Ok(gap) => {
                buffer.copy_from_slice(&self.bytes[(self.places[gap] + at) as usize..][..buffer.len()])
            }
            Err(_) => buffer.fill(0),
        }
    }
}

/// The `len` bytes of a zstd frame.
pub fn unpack(frame: &[u8], len: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut decoder = zstd::Decoder::with_buffer(frame).map_err(|error| error.to_string())?.single_frame();
    // Grows with what the frame gives, up to one byte too many.
    let limited = decoder.by_ref().take(len.saturating_add(1)).read_to_end(&mut bytes);
    limited.map_err(|error| error.to_string())?;
    if bytes.len() as u64 == len && !decoder.finish().is_empty() {
        return Err("something behind the end of their frame".to_owned());
    }
    match (bytes.len() as u64).cmp(&len) {
        std::cmp::Ordering::Less => Err("fewer bytes than there is space for".to_owned()),
        std::cmp::Ordering::Equal => Ok(bytes),
        std::cmp::Ordering::Greater => Err("more bytes than there is space for".to_owned()),
    }
}
