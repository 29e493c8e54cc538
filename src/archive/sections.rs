//! Where the parts of a chunk stand.

use crate::kernel::archive::{LANES, Parts, Stream};

use super::error::{Error, Result};
use super::split::Split;

/// Symbols for each lane, at least, where there are fewer than [`LANES`].
const LANE_SYMBOLS: usize = 2048;

/// Lanes of a stream of `n` symbols in natural order.
pub(super) fn lanes(n: usize) -> usize {
    let lanes = (n / LANE_SYMBOLS).clamp(1, LANES);
    1 << lanes.ilog2()
}

/// A number in as many bytes as it takes, seven bits each, lowest first; the top bit says that more follow.
pub(super) fn put_number(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes parts off the front of a chunk.
pub(super) struct Sections<'a>(pub &'a [u8]);

impl<'a> Sections<'a> {
    pub fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(n).ok_or(Error::Short(what))?;
        self.0 = left;
        Ok(taken)
    }

    pub fn number(&mut self, what: &'static str) -> Result<usize> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1, what)?[0];
            number |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                // Not longer than it must be.
                return if byte == 0 && shift > 0 { Err(Error::Range(what)) } else { Ok(number) };
            }
        }
        Err(Error::Range(what))
    }

    /// States of some lanes, and words.
    pub fn stream(&mut self, lanes: usize, words: usize, what: &'static str) -> Result<Stream<'a>> {
        Ok(Stream { states: self.take(4 * lanes, what)?, words: self.take(2 * words, what)? })
    }

    pub fn end(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Long(self.0.len())) }
    }
}

/// A chunk of weights.
pub(super) struct Sectioned<'a> {
    /// Classes of rows, coded; empty where there are none.
    pub classes: &'a [u8],
    /// The symbols; of those in bands, every other band.
    pub symbols: Stream<'a>,
    pub others: Option<Stream<'a>>,
    pub lowest: Option<Stream<'a>>,
    pub escapes: &'a [u8],
    pub raw: &'a [u8],
}

impl<'a> Sectioned<'a> {
    /// The parts of a chunk of `n` weights, with classes of rows or without.
    pub fn of(split: Split, is_classed: bool, n: usize, chunk: &'a [u8]) -> Result<Self> {
        let mut sections = Sections(chunk);
        let raw = Parts::raw_bytes(split.number, split.fine, split.is_lowest_coded, n);
        let raw = sections.take(raw, "raw bits")?;
        let classes = if is_classed { sections.number("the length of row classes")? } else { 0 };
        let escapes = sections.number("the number of escapes")?;
        let words = sections.number("the number of words")?;
        let others = if is_classed { Some(sections.number("the number of words")?) } else { None };
        let lowest = if split.is_lowest_coded { Some(sections.number("the number of words")?) } else { None };
        let this = Self {
            classes: sections.take(classes, "row classes")?,
            symbols: sections.stream(if is_classed { LANES } else { lanes(n) }, words, "the symbols")?,
            others: others.map(|words| sections.stream(LANES, words, "the symbols")).transpose()?,
            lowest: lowest.map(|words| sections.stream(lanes(n), words, "the lowest bytes")).transpose()?,
            escapes: sections.take(2 * escapes, "the escapes")?,
            raw,
        };
        sections.end()?;
        Ok(this)
    }
}
