//! Symbols to streams. What is written last is read first, so all of it goes backwards.

use crate::kernel::archive::{LANES, STATE_LEAST};

use super::code::Steps;
use super::error::{Error, Result};

/// The lane of a state: in each half of the lanes first the even ones, then the odd.
pub(super) const fn lane(state: usize) -> usize {
    state & 32 | (state & 15) << 1 | state >> 4 & 1
}

/// The lanes of a stream, in the order in which they read.
pub(super) fn reading(lanes: usize) -> impl DoubleEndedIterator<Item = usize> {
    (0..LANES).map(lane).filter(move |&lane| lane < lanes)
}

/// A stream that is being written, the last word first.
struct Pen<'a> {
    states: [u32; LANES],
    words: &'a mut Vec<u16>,
}

impl Pen<'_> {
    /// A step of symbols, in the order of reading: state `i` takes `symbols[i]`.
    #[inline(always)]
    fn step<const SYMBOLS: usize>(&mut self, steps: &Steps<SYMBOLS>, symbols: &[u8]) {
        // One symbol writes one word at most. Written or not, without a branch: that would be guessed wrong.
        let mut at = self.words.len();
        self.words.resize(at + symbols.len(), 0);
        let states = &mut self.states[..symbols.len()];
        for (state, &symbol) in states.iter_mut().zip(symbols).rev() {
            let (word, more) = steps.push(state, symbol);
            self.words[at] = word;
            at += more;
        }
        self.words.truncate(at);
    }
}

/// Symbols in natural order, with `escape` for those that the table has not, which are changed. Gives the states in the order of reading.
pub(super) fn flat<const SYMBOLS: usize>(
    steps: &Steps<SYMBOLS>,
    symbols: &mut [u8],
    escape: u8,
    lanes: usize,
    words: &mut Vec<u16>,
) -> Result<Vec<u32>> {
    words.clear();
    let mut pen = Pen { states: [STATE_LEAST; LANES], words };
    let order: Vec<usize> = reading(lanes).collect();
    for step in symbols.chunks_mut(lanes).rev() {
        for symbol in step.iter_mut().filter(|symbol| !steps.can(**symbol)) {
            *symbol = escape;
            if !steps.can(escape) {
                return Err(Error::NotLearnt);
            }
        }
        let mut ordered = [0; LANES];
        if step.len() == lanes {
            ordered.iter_mut().zip(&order).for_each(|(ordered, &lane)| *ordered = step[lane]);
            pen.step(steps, &ordered[..lanes]);
        } else {
            for (state, &lane) in order.iter().enumerate().rev().filter(|(_, lane)| **lane < step.len()) {
                let (word, more) = steps.push(&mut pen.states[state], step[lane]);
                pen.words.extend((more > 0).then_some(word));
            }
        }
    }
    Ok(pen.states[..lanes].to_vec())
}

/// Adds states, then words, of which the last was written first.
pub(super) fn put(states: &[u32], words: &[u16], out: &mut Vec<u8>) {
    out.extend(states.iter().flat_map(|state| state.to_le_bytes()));
    out.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
}
