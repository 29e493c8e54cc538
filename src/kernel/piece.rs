use std::ffi::c_int;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::{Order, ffi, prepared_bytes, text};
use crate::codec::Number;

/// A checked view of one piece and the part of the home that belongs to it. Rows count from the piece's first.
#[derive(Clone)]
pub(super) struct Piece<'a> {
    raw: ffi::UwPiece,
    bytes: PhantomData<&'a [u8]>,
}

// SAFETY: a uw_piece is read-only after it is opened, and so are the bytes that it borrows.
unsafe impl Send for Piece<'_> {}
// SAFETY: as above.
unsafe impl Sync for Piece<'_> {}

impl<'a> Piece<'a> {
    /// `low`: k bytes for each of `rows` rows. `rest`: the piece.
    pub fn open(
        original: Number,
        low: &'a [u8],
        rest: &'a [u8],
        k: u64,
        rows: u64,
    ) -> Result<Self, &'static str> {
        let mut raw = MaybeUninit::uninit();
        let (low_at, rest_at) = (low.as_ptr().cast(), rest.as_ptr().cast());
        // SAFETY: pointers and lengths are those of slices; `raw` is written when the status is UW_OK, which is 0.
        unsafe {
            match ffi::uw_piece_open(
                raw.as_mut_ptr(),
                original as c_int,
                low_at,
                low.len(),
                rest_at,
                rest.len(),
                k,
                rows,
            ) {
                0 => Ok(Self { raw: raw.assume_init(), bytes: PhantomData }),
                status => Err(text(ffi::uw_status_text(status))),
            }
        }
    }

    pub fn rows(&self) -> u64 {
        self.raw.rows
    }

    pub fn escapes(&self) -> u64 {
        self.raw.n_escapes
    }

    pub fn code_bits(&self) -> u32 {
        self.raw.code_bits
    }

    pub fn shift(&self) -> u32 {
        self.raw.shift
    }

    /// What is stored.
    pub fn stored(&self) -> Number {
        Number::ALL[self.raw.stored as usize]
    }

    /// # Safety
    /// The rows must be in the piece, and `out` hold n rows of k original numbers.
    pub unsafe fn decode(&self, row: u64, n: u64, out: &mut [u8]) {
        // SAFETY: the caller's.
        unsafe { ffi::uw_decode(&self.raw, row, n, out.as_mut_ptr().cast()) }
    }

    /// # Safety
    /// The row must be in the piece, and `out` hold k floats.
    pub unsafe fn decode_f32(&self, row: u64, out: &mut [f32]) {
        // SAFETY: the caller's.
        unsafe { ffi::uw_decode_f32(&self.raw, row, out.as_mut_ptr()) }
    }

    /// # Safety
    /// Rows `row` to `row + y.len()` must be in the piece, and the other buffers as long and aligned as `unweight.h` asks.
    pub unsafe fn matvec(&self, order: Order, row: u64, prepared: &[u8], y: &mut [f32], scratch: &mut [u8]) {
        let (x, n, scratch) = (prepared.as_ptr().cast(), y.len() as u64, scratch.as_mut_ptr().cast());
        // SAFETY: the caller's.
        unsafe { ffi::uw_matvec(&self.raw, order as c_int, row, n, x, y.as_mut_ptr(), scratch) }
    }

    /// # Safety
    /// Rows `row` to `row + n` must be in the piece, `y` as [`Tensor::matmul`](super::Tensor::matmul) asks, and the other buffers
    /// as long and aligned as `unweight.h` does; `prepared` vectors lie `prepared_bytes(k)` bytes apart.
    #[allow(clippy::too_many_arguments)] // a matrix product has them
    pub unsafe fn matmul(
        &self,
        order: Order,
        row: u64,
        n: u64,
        prepared: &[u8],
        columns: u64,
        y: *mut f32,
        y_stride: usize,
        scratch: &mut [u8],
    ) {
        // SAFETY: the caller's.
        unsafe {
            ffi::uw_matmul(
                &self.raw,
                order as c_int,
                row,
                n,
                prepared.as_ptr().cast(),
                prepared_bytes(self.raw.k),
                columns,
                y,
                y_stride,
                scratch.as_mut_ptr().cast(),
            );
        }
    }
}
