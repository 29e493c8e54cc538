//! The C kernels: decode, dot and matrix product on homes and pieces where they lie, per instruction set. `unweight.h` has the contract.

#[cfg(feature = "convert")]
pub(crate) mod archive;
mod ffi;
mod piece;
mod tensor;

use std::ffi::{CStr, c_char, c_int};

use crate::codec::Number;

pub use tensor::{OpenError, Tensor};

/// The order of a sum (`uw_order`): it decides the last bits of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Order {
    Plain = 0,
    Bf16Avx,
    Bf16Avx2,
    Bf16Avx512,
    Bf16Avx512Bf16,
    F16Sse3,
    F16Avx,
    F16Fma,
    F16Avx512,
    F16Neon,
    F32Sse3,
    F32Avx,
    F32Fma,
    F32Avx512,
    F32Neon,
    TileAvx,
    TileFma,
    TileAvx512,
    TileAvx512Bf16,
    TileNeon,
}

impl Order {
    pub const ALL: [Self; 20] = [
        Self::Plain,
        Self::Bf16Avx,
        Self::Bf16Avx2,
        Self::Bf16Avx512,
        Self::Bf16Avx512Bf16,
        Self::F16Sse3,
        Self::F16Avx,
        Self::F16Fma,
        Self::F16Avx512,
        Self::F16Neon,
        Self::F32Sse3,
        Self::F32Avx,
        Self::F32Fma,
        Self::F32Avx512,
        Self::F32Neon,
        Self::TileAvx,
        Self::TileFma,
        Self::TileAvx512,
        Self::TileAvx512Bf16,
        Self::TileNeon,
    ];
}

/// What weights are in the original, and what they are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Numbers {
    pub original: Number,
    pub stored: Number,
}

impl Numbers {
    /// Plain numbers, as [`plain_matvec`] takes them: F32 in natural order, which is that of F16.
    pub fn plain(number: Number) -> Self {
        Self { original: number, stored: if number == Number::F32 { Number::F16 } else { number } }
    }
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

/// Rounds activations as ggml does for weights of the original kind, and lays them out for sums in `order` with weights stored so.
///
/// # Panics
/// If `prepared` is shorter than [`prepared_bytes`], or not aligned for floats.
pub fn prepare(order: Order, numbers: Numbers, x: &[f32], prepared: &mut [u8]) {
    assert!(prepared.len() >= prepared_bytes(x.len() as u64), "prepared length");
    check_alignment(prepared);
    let Numbers { original, stored } = numbers;
    let (x, k, prepared) = (x.as_ptr(), x.len() as u64, prepared.as_mut_ptr().cast());
    // SAFETY: `x` holds k floats, `prepared` as many bytes as the header asks.
    unsafe { ffi::uw_prepare(order as c_int, original as c_int, stored as c_int, x, k, prepared) }
}

/// Products of plain rows of `k` weights, as they are in memory, with one vector prepared for such: what [`Tensor::matvec`] is compared
/// with.
///
/// # Panics
/// If `weights` does not hold a row for each of `y`, or another buffer is too short or not aligned for floats.
pub fn plain_matvec(
    weights: &[u8],
    number: Number,
    k: u64,
    order: Order,
    prepared: &[u8],
    y: &mut [f32],
    scratch: &mut [u8],
) {
    assert_eq!(weights.len() as u64, y.len() as u64 * k * number.bytes(), "weights");
    assert!(prepared.len() >= prepared_bytes(k), "prepared length");
    assert!(scratch.len() >= scratch_bytes(k), "scratch length");
    check_alignment(prepared);
    check_alignment(scratch);
    // SAFETY: every buffer is as long as the header asks.
    unsafe {
        ffi::uw_plain_matvec(
            weights.as_ptr().cast(),
            number as c_int,
            order as c_int,
            y.len() as u64,
            k,
            prepared.as_ptr().cast(),
            y.as_mut_ptr(),
            scratch.as_mut_ptr().cast(),
        );
    }
}
