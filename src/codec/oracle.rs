//! A second reader of blobs, written to be read beside docs/FORMAT.md: slow, strict, and with nothing in common with the kernels.

use thiserror::Error;

use super::blob::{BlobLayout, Encoding, Shape};
use super::constants::{BLOCK, GROUP, HEADER_BYTES, LONGEST_ROW};
use super::weight_at;

/// What is wrong with a blob.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BlobError {
    #[error("the blob has {found} bytes, {needed} are needed")]
    Length { found: u64, needed: u64 },
    #[error("rows of {0} weights are longer than the format allows")]
    RowLength(u64),
    #[error("the blob's header contradicts its index entry")]
    Header,
    #[error("reserved or padding bytes are not zero")]
    Padding,
    #[error("the escapes of row {row} begin at {found}, the row start says {said}")]
    RowStart { row: u64, found: u64, said: u64 },
    #[error("the rows use {used} escapes, the blob has {listed}")]
    Escapes { used: u64, listed: u64 },
    #[error("places past the end of row {0} are not zero")]
    RowEnd(u64),
}

/// The weights of a blob.
///
/// # Errors
/// Whatever a strict reader must reject.
pub fn decode(blob: &[u8], encoding: Encoding, shape: Shape) -> Result<Vec<u16>, BlobError> {
    let blob = Blob::open(blob, encoding, shape)?;
    let mut weights = Vec::new();
    let mut used = 0;
    for row in 0..shape.rows {
        let said = blob.row_start(row);
        if said != used {
            return Err(BlobError::RowStart { row, found: used, said });
        }
        for column in 0..shape.blocks() {
            let left = (shape.k - column * BLOCK).min(BLOCK) as usize;
            let block = blob.decode_block(row * shape.blocks() + column, &mut used)?;
            if block[left..].iter().any(|&(sm, code, _)| sm != 0 || code != 0) {
                return Err(BlobError::RowEnd(row));
            }
            weights.extend(block[..left].iter().map(|&(_, _, weight)| weight));
        }
    }
    if used != blob.escapes {
        return Err(BlobError::Escapes { used, listed: blob.escapes });
    }
    Ok(weights)
}

struct Blob<'a> {
    bytes: &'a [u8],
    layout: BlobLayout,
    encoding: Encoding,
    escapes: u64,
}

impl<'a> Blob<'a> {
    fn open(bytes: &'a [u8], encoding: Encoding, shape: Shape) -> Result<Self, BlobError> {
        if shape.k > LONGEST_ROW {
            return Err(BlobError::RowLength(shape.k));
        }
        let short = BlobError::Length { found: bytes.len() as u64, needed: HEADER_BYTES };
        let header = bytes.get(..HEADER_BYTES as usize).ok_or(short)?;
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let escapes = u64_at(16);
        let layout = BlobLayout::new(encoding, shape, escapes).ok_or(BlobError::Header)?;
        if u64_at(0) != shape.k || u64_at(8) != shape.rows || header[24] != encoding.code_bits() {
            return Err(BlobError::Header);
        }
        if bytes.len() as u64 != layout.len {
            return Err(BlobError::Length { found: bytes.len() as u64, needed: layout.len });
        }
        let blocks = shape.blocks() * shape.rows;
        let zero = |from: u64, to: u64| bytes[from as usize..to as usize].iter().all(|&byte| byte == 0);
        let padding = zero(25, 32)
            && zero(32 + encoding.palette_len() as u64, HEADER_BYTES)
            && zero(layout.codes + blocks * encoding.code_bytes(), layout.coarse)
            && zero(layout.coarse + 4 * shape.rows.div_ceil(GROUP), layout.fine)
            && zero(layout.fine + 2 * shape.rows, layout.escapes)
            && zero(layout.escapes + escapes, layout.len);
        if padding { Ok(Self { bytes, layout, encoding, escapes }) } else { Err(BlobError::Padding) }
    }

    fn row_start(&self, row: u64) -> u64 {
        let coarse = (self.layout.coarse + row / GROUP * 4) as usize;
        let fine = (self.layout.fine + row * 2) as usize;
        let coarse = u32::from_le_bytes(std::array::from_fn(|i| self.bytes[coarse + i]));
        let fine = u16::from_le_bytes(std::array::from_fn(|i| self.bytes[fine + i]));
        u64::from(coarse) + u64::from(fine)
    }

    /// Sign/mantissa byte, code and weight, in natural order.
    fn decode_block(&self, block: u64, used: &mut u64) -> Result<[(u8, u8, u16); 64], BlobError> {
        let mut weights = [(0, 0, 0); 64];
        for place in 0..64 {
            let sm = self.bytes[(self.layout.sign_mantissa + block * BLOCK) as usize + place];
            let code = self.code(block, place);
            let rotated = if usize::from(code) < self.encoding.palette_len() {
                self.bytes[32 + usize::from(code)]
            } else {
                if *used == self.escapes {
                    return Err(BlobError::Escapes { used: *used + 1, listed: self.escapes });
                }
                *used += 1;
                self.bytes[(self.layout.escapes + *used - 1) as usize]
            };
            let sign = u16::from(sm & 0x80) << 8;
            let mantissa = u16::from(sm & 0x7F);
            let exponent = u16::from(rotated.rotate_left(1));
            weights[weight_at(place)] = (sm, code, sign | exponent << 7 | mantissa);
        }
        Ok(weights)
    }

    fn code(&self, block: u64, place: usize) -> u8 {
        let start = (self.layout.codes + block * self.encoding.code_bytes()) as usize;
        let bit = |byte: usize, bit: usize| self.bytes[start + byte] >> bit & 1;
        match self.encoding {
            Encoding::Bf16Palette7 => {
                let (g, l) = (place / 16, place % 16);
                bit(l, 2 * g) | bit(l, 2 * g + 1) << 1 | bit(16 + place % 8, place / 8) << 2
            }
            Encoding::Bf16Palette15 => self.bytes[start + place % 32] >> (4 * (place / 32)) & 15,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Analysis, Encoder};

    const SHAPE: Shape = Shape { k: 70, rows: 18 };

    /// Weights with two rare exponents in every row, and their blob.
    fn sample(encoding: Encoding) -> (Vec<u16>, Vec<u8>) {
        let exponent = |i: u16| if i.is_multiple_of(35) { 200 + i / 35 % 40 } else { 120 + i % 5 };
        let weights: Vec<u16> = (0..70 * 18).map(|i| exponent(i) << 7 | ((i * 51) & 0x807F)).collect();
        let encoder = Encoder::forced(&Analysis::of(&weights), SHAPE, encoding).unwrap();
        let blob = encoder.blob(&weights).unwrap();
        (weights, blob)
    }

    fn refusal(change: impl FnOnce(&mut Vec<u8>, &BlobLayout)) -> BlobError {
        let encoding = Encoding::Bf16Palette7;
        let (_, mut blob) = sample(encoding);
        let layout = BlobLayout::new(encoding, SHAPE, u64::from(blob[16])).unwrap();
        change(&mut blob, &layout);
        decode(&blob, encoding, SHAPE).unwrap_err()
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        for encoding in Encoding::ALL {
            let (weights, mut blob) = sample(encoding);
            assert_eq!(decode(&blob, encoding, SHAPE).as_ref(), Ok(&weights));
            for bit in (0..8 * blob.len()).step_by(3) {
                blob[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(decode(&blob, encoding, SHAPE).as_ref(), Ok(&weights), "bit {bit}");
                blob[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn lengths() {
        let len = sample(Encoding::Bf16Palette7).1.len() as u64;
        let wrong = |found| BlobError::Length { found, needed: len };
        assert_eq!(refusal(|blob, _| blob.push(0)), wrong(len + 1));
        assert_eq!(refusal(|blob, _| blob.truncate(blob.len() - 1)), wrong(len - 1));
        assert_eq!(refusal(|blob, _| blob.truncate(63)), BlobError::Length { found: 63, needed: 64 });
    }

    #[test]
    fn headers() {
        for at in [0, 8, 24] {
            assert_eq!(refusal(|blob, _| blob[at] ^= 1), BlobError::Header);
        }
        assert_eq!(refusal(|blob, _| blob[16..24].fill(0xFF)), BlobError::Header);
        let (_, blob) = sample(Encoding::Bf16Palette7);
        for shape in [Shape { k: 64, rows: 18 }, Shape { k: 18, rows: 70 }, Shape { k: 70, rows: u64::MAX }] {
            assert_eq!(decode(&blob, Encoding::Bf16Palette7, shape), Err(BlobError::Header));
        }
        assert_eq!(decode(&blob, Encoding::Bf16Palette15, SHAPE), Err(BlobError::Header));
    }

    #[test]
    fn rows_that_are_too_long() {
        let shape = Shape { k: LONGEST_ROW + 1, rows: 1 };
        let encoder = Encoder::forced(&Analysis::default(), shape, Encoding::Bf16Palette7).unwrap();
        let mut blob = vec![0; encoder.layout.len as usize];
        blob[..64].copy_from_slice(&encoder.header());
        assert_eq!(decode(&blob, encoder.encoding, shape), Err(BlobError::RowLength(shape.k)));
    }

    #[test]
    fn padding() {
        for at in [25, 31, 39, 48, 63] {
            assert_eq!(refusal(|blob, _| blob[at] = 1), BlobError::Padding);
        }
        for end in [|l: &BlobLayout| l.fine, |l: &BlobLayout| l.escapes, |l: &BlobLayout| l.len] {
            assert_eq!(refusal(|blob, layout| blob[end(layout) as usize - 1] = 1), BlobError::Padding);
        }
    }

    #[test]
    fn row_starts() {
        // Of the 36 rare exponents, the two of the first row are in the palette.
        let second = refusal(|blob, layout| blob[layout.fine as usize + 2] += 1);
        assert_eq!(second, BlobError::RowStart { row: 1, found: 0, said: 1 });
        let group = refusal(|blob, layout| blob[layout.coarse as usize + 4] -= 1);
        assert_eq!(group, BlobError::RowStart { row: 16, found: 30, said: 29 });
    }

    #[test]
    fn escapes() {
        assert_eq!(refusal(|blob, _| blob[16] -= 1), BlobError::Padding);
        assert_eq!(refusal(|blob, _| blob[16] += 1), BlobError::Escapes { used: 34, listed: 35 });
        let one_more = refusal(|blob, layout| {
            let last_block = layout.codes as usize + 35 * 24;
            blob[last_block] |= 3;
            blob[last_block + 16] |= 1;
        });
        assert_eq!(one_more, BlobError::Escapes { used: 35, listed: 34 });
    }

    #[test]
    fn ends_of_rows() {
        // The row's second block has 6 weights, at places 0 to 5.
        let past = |layout: &BlobLayout| layout.sign_mantissa as usize + 64 + 6;
        assert_eq!(refusal(|blob, layout| blob[past(layout)] = 1), BlobError::RowEnd(0));
    }
}
