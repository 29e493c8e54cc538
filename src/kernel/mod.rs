//! The C kernels: decode, dot and matrix product on blobs where they lie, per instruction set. `unweight.h` has the contract.

mod ffi;

use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;

use thiserror::Error;

use crate::codec::constants::LONGEST_ROW;
use crate::codec::{Encoding, Shape};

/// Why bytes are not the blob that they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct OpenError(String);

/// The order of a sum (`uw_order`): it decides the last bits of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Order {
    DotPlain = 0,
    DotAvx,
    DotAvx2,
    DotAvx512,
    DotAvx512Bf16,
    TileAvx2,
    TileAvx512,
    TileAvx512Bf16,
}

impl Order {
    pub const ALL: [Self; 8] = [
        Self::DotPlain,
        Self::DotAvx,
        Self::DotAvx2,
        Self::DotAvx512,
        Self::DotAvx512Bf16,
        Self::TileAvx2,
        Self::TileAvx512,
        Self::TileAvx512Bf16,
    ];
}

/// An instruction set that the kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Isa {
    Scalar = 0,
    Neon,
    Ssse3,
    Avx2,
    Avx512,
    Avx512Bf16,
}

impl Isa {
    pub const ALL: [Self; 6] =
        [Self::Scalar, Self::Neon, Self::Ssse3, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// The name that `UNWEIGHT_ISA` takes.
    pub fn name(self) -> &'static str {
        // SAFETY: no precondition.
        text(unsafe { ffi::uw_isa_name(self as c_int) })
    }

    /// True if this machine can run it.
    pub fn available(self) -> bool {
        // SAFETY: no precondition.
        unsafe { ffi::uw_isa_available(self as c_int) != 0 }
    }

    /// The one in use.
    pub fn used() -> Self {
        // SAFETY: no precondition.
        let used = unsafe { ffi::uw_isa_used() };
        Self::ALL.into_iter().find(|&isa| isa as c_int == used).expect("the C side knows the same names")
    }

    /// Uses this one from now on, in the whole process; false if the machine lacks it. For tests and benchmarks: activations
    /// prepared before must not be used after.
    pub fn select(self) -> bool {
        // SAFETY: no precondition.
        unsafe { ffi::uw_isa_set(self as c_int) != 0 }
    }
}

fn text(name: *const c_char) -> &'static str {
    // SAFETY: the C side returns string literals.
    unsafe { CStr::from_ptr(name) }.to_str().expect("ASCII literals")
}

/// A checked view of one blob.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    raw: ffi::UwTensor,
    blob: PhantomData<&'a [u8]>,
}

// SAFETY: a uw_tensor is read-only after it is opened, and so is the blob that it borrows.
unsafe impl Send for Tensor<'_> {}
// SAFETY: as above.
unsafe impl Sync for Tensor<'_> {}

impl<'a> Tensor<'a> {
    /// Opens a blob of `rows` rows of `k` weights, encoding 1 or 2.
    ///
    /// # Errors
    /// If its header or length contradict the shape. Escapes and codes are not looked at.
    pub fn open(blob: &'a [u8], k: u64, rows: u64) -> Result<Self, OpenError> {
        let mut raw = std::mem::MaybeUninit::uninit();
        // SAFETY: the pointer and length are those of a slice; `raw` is written when the status is UW_OK, which is 0.
        unsafe {
            match ffi::uw_tensor_open(raw.as_mut_ptr(), blob.as_ptr().cast(), blob.len(), k, rows) {
                0 => Ok(Self { raw: raw.assume_init(), blob: PhantomData }),
                status => Err(OpenError(text(ffi::uw_status_text(status)).to_owned())),
            }
        }
    }

    /// Opens a blob as an index describes it: `encoding` is an id of docs/FORMAT.md, known here or not.
    ///
    /// # Errors
    /// As [`Tensor::open`], and if the encoding is unknown or not that of the blob.
    pub fn open_as(encoding: u32, blob: &'a [u8], shape: Shape) -> Result<Self, OpenError> {
        let known = Encoding::from_id(encoding).ok_or_else(|| {
            OpenError(format!("encoding {encoding} is unknown to this version of the program"))
        })?;
        if shape.k > LONGEST_ROW {
            return Err(OpenError(format!(
                "its rows of {} weights are longer than the format allows",
                shape.k
            )));
        }
        let tensor = Self::open(blob, shape.k, shape.rows)?;
        if tensor.raw.code_bits != u32::from(known.code_bits()) {
            return Err(OpenError(format!("the blob's header contradicts encoding {}", known.name())));
        }
        Ok(tensor)
    }

    /// Weights in a row.
    pub fn k(&self) -> u64 {
        self.raw.k
    }

    pub fn rows(&self) -> u64 {
        self.raw.rows
    }

    pub fn escapes(&self) -> u64 {
        self.raw.n_escapes
    }

    /// Rows `row` to `row + n` as BF16 bits.
    ///
    /// # Panics
    /// If the rows are not in the tensor, or `out` does not hold exactly `n * k` weights.
    pub fn decode_bf16(&self, row: u64, n: u64, out: &mut [u16]) {
        self.check_rows(row, n);
        assert_eq!(out.len() as u64, n * self.k(), "output length");
        // SAFETY: rows are in range, `out` holds n rows of k.
        unsafe { ffi::uw_decode_bf16(&self.raw, row, n, out.as_mut_ptr(), self.k() as usize) }
    }

    /// One row as floats.
    ///
    /// # Panics
    /// If the row is not in the tensor, or `out` does not hold exactly `k` floats.
    pub fn decode_f32(&self, row: u64, out: &mut [f32]) {
        self.check_rows(row, 1);
        assert_eq!(out.len() as u64, self.k(), "output length");
        // SAFETY: the row is in range, `out` holds k floats.
        unsafe { ffi::uw_decode_f32(&self.raw, row, out.as_mut_ptr()) }
    }

    /// Products of rows `row` to `row + y.len()` with one prepared vector.
    ///
    /// # Panics
    /// If the rows are not in the tensor, or a buffer is too small or not aligned for floats.
    pub fn matvec(&self, order: Order, row: u64, prepared: &[u8], y: &mut [f32], scratch: &mut [u8]) {
        self.check_rows(row, y.len() as u64);
        assert!(prepared.len() >= prepared_bytes(self.k()), "prepared length");
        assert!(scratch.len() >= scratch_bytes(self.k()), "scratch length");
        check_alignment(prepared);
        check_alignment(scratch);
        // SAFETY: rows are in range and every buffer is as long as the header asks.
        unsafe {
            ffi::uw_matvec(
                &self.raw,
                order as c_int,
                row,
                y.len() as u64,
                prepared.as_ptr().cast(),
                y.as_mut_ptr(),
                scratch.as_mut_ptr().cast(),
            );
        }
    }

    /// Products of rows `row` to `row + n` with `columns` prepared vectors that lie `prepared_bytes(k)` bytes apart; column c of
    /// the result begins at `y + c * y_stride`.
    ///
    /// # Safety
    /// `y` must be valid for writes of `n` floats at each multiple of `y_stride` below `columns`, and nobody else may use them
    /// meanwhile. (A raw pointer: threads write interleaved parts of one matrix.)
    ///
    /// # Panics
    /// If the rows are not in the tensor, or another buffer is too small or not aligned for floats.
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
        self.check_rows(row, n);
        let stride = prepared_bytes(self.k());
        assert!(prepared.len() as u64 / stride.max(1) as u64 >= columns, "prepared length");
        assert!(scratch.len() >= scratch_bytes(self.k()), "scratch length");
        check_alignment(prepared);
        check_alignment(scratch);
        // SAFETY: rows are in range, every buffer is as long as the header asks, and the caller answers for `y`.
        unsafe {
            ffi::uw_matmul(
                &self.raw,
                order as c_int,
                row,
                n,
                prepared.as_ptr().cast(),
                stride,
                columns,
                y,
                y_stride,
                scratch.as_mut_ptr().cast(),
            );
        }
    }

    fn check_rows(&self, row: u64, n: u64) {
        assert!(row <= self.rows() && n <= self.rows() - row, "rows {row} + {n} of {}", self.rows());
    }
}

/// The C side reads and writes such buffers as floats.
fn check_alignment(buffer: &[u8]) {
    assert!(buffer.as_ptr().cast::<f32>().is_aligned(), "a buffer not aligned for floats");
}

/// Bytes of a prepared vector of `k` activations.
pub fn prepared_bytes(k: u64) -> usize {
    // SAFETY: no precondition.
    unsafe { ffi::uw_prepared_bytes(k) }
}

/// Bytes of scratch that a thread needs for rows of `k` weights.
pub fn scratch_bytes(k: u64) -> usize {
    // SAFETY: no precondition.
    unsafe { ffi::uw_scratch_bytes(k) }
}

/// Rounds activations to BF16 and lays them out for sums in `order`.
///
/// # Panics
/// If `prepared` is shorter than [`prepared_bytes`], or not aligned for floats.
pub fn prepare(order: Order, x: &[f32], prepared: &mut [u8]) {
    assert!(prepared.len() >= prepared_bytes(x.len() as u64), "prepared length");
    check_alignment(prepared);
    // SAFETY: `x` holds k floats, `prepared` as many bytes as the header asks.
    unsafe { ffi::uw_prepare(order as c_int, x.as_ptr(), x.len() as u64, prepared.as_mut_ptr().cast()) }
}

/// Products of plain BF16 rows of `k` weights with one prepared vector: what [`Tensor::matvec`] is compared with.
///
/// # Panics
/// If `weights` does not hold a row for each of `y`, or `prepared` is too short or not aligned for floats.
pub fn plain_matvec(weights: &[u16], k: u64, order: Order, prepared: &[u8], y: &mut [f32]) {
    assert_eq!(weights.len() as u64, y.len() as u64 * k, "weights");
    assert!(prepared.len() >= prepared_bytes(k), "prepared length");
    check_alignment(prepared);
    // SAFETY: every buffer is as long as the header asks.
    unsafe {
        ffi::uw_plain_matvec(
            weights.as_ptr(),
            order as c_int,
            y.len() as u64,
            k,
            prepared.as_ptr().cast(),
            y.as_mut_ptr(),
        );
    }
}
