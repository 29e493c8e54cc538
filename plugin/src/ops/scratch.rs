//! Memory that grows when needed and is kept.

/// A cache line, so that what is cut from a vector of them is aligned.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

#[derive(Default)]
pub struct Scratch(Vec<Line>);

impl Scratch {
    /// Two areas of at least so many bytes, with anything in them.
    pub fn areas(&mut self, first: usize, second: usize) -> (&mut [u8], &mut [u8]) {
        let first = first.next_multiple_of(size_of::<Line>());
        self.bytes(first + second).split_at_mut(first)
    }

    pub fn bytes(&mut self, bytes: usize) -> &mut [u8] {
        let lines = bytes.div_ceil(size_of::<Line>());
        if self.0.len() < lines {
            self.0.resize(lines, Line([0; 64]));
        }
        // SAFETY: lines are plain bytes without padding, and `lines` of them are there.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), lines * size_of::<Line>()) }
    }

    /// As [`Scratch::bytes`]; `None` if there is no memory for them.
    pub fn try_bytes(&mut self, bytes: usize) -> Option<&mut [u8]> {
        let lines = bytes.div_ceil(size_of::<Line>());
        self.0.try_reserve_exact(lines.saturating_sub(self.0.len())).ok()?;
        Some(self.bytes(bytes))
    }
}
