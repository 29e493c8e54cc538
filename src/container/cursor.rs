//! A reader over bytes that never goes past their end.

/// The bytes ended before a field did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOfBytes {
    /// Where the field begins.
    pub at: u64,
}

#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub fn position(&self) -> usize {
        self.position
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The bytes from `start` to the current position.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.position]
    }

    pub fn take(&mut self, n: u64) -> Result<&'a [u8], EndOfBytes> {
        let end = EndOfBytes { at: self.position as u64 };
        let n = usize::try_from(n).map_err(|_| end)?;
        let taken = self.bytes[self.position..].get(..n).ok_or(end)?;
        self.position += n;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], EndOfBytes> {
        let taken = self.take(N as u64)?;
        Ok(std::array::from_fn(|i| taken[i]))
    }

    pub fn u32(&mut self) -> Result<u32, EndOfBytes> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, EndOfBytes> {
        self.array().map(u64::from_le_bytes)
    }
}
