//! unweight.h, as far as it is used here.

use std::ffi::{c_char, c_int, c_void};

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UwPiece {
    pub low: *const u8,
    pub codes: *const u8,
    pub starts: *const u8,
    pub escapes: *const u8,
    pub k: u64,
    pub rows: u64,
    pub segments: u64,
    pub segment_blocks: u64,
    pub segment_bytes: u64,
    pub n_escapes: u64,
    pub segment_rows: u32,
    pub original: u32,
    pub stored: u32,
    pub code_bits: u32,
    pub code_bytes: u32,
    pub shift: u32,
    pub palette: [u8; 16],
}

// internal.h checks the same of the C side: a field more there, and this is too small for what is written to it.
const _: () = assert!(size_of::<UwPiece>() == 4 * size_of::<*const u8>() + 88);

unsafe extern "C" {
    pub(super) fn uw_status_text(status: c_int) -> *const c_char;
    pub(super) fn uw_piece_open(
        piece: *mut UwPiece,
        original: c_int,
        low: *const c_void,
        low_length: usize,
        rest: *const c_void,
        rest_length: usize,
        k: u64,
        rows: u64,
    ) -> c_int;
    pub(super) fn uw_decode(piece: *const UwPiece, row: u64, n: u64, out: *mut c_void);
    pub(super) fn uw_decode_f32(piece: *const UwPiece, row: u64, out: *mut f32);
    pub(super) fn uw_prepared_bytes(k: u64) -> usize;
    pub(super) fn uw_scratch_bytes(k: u64) -> usize;
    pub(super) fn uw_prepare(
        order: c_int,
        original: c_int,
        stored: c_int,
        x: *const f32,
        k: u64,
        prepared: *mut c_void,
    );
    pub(super) fn uw_matvec(
        piece: *const UwPiece,
        order: c_int,
        row: u64,
        n: u64,
        prepared: *const c_void,
        y: *mut f32,
        scratch: *mut c_void,
    );
    pub(super) fn uw_matmul(
        piece: *const UwPiece,
        order: c_int,
        row: u64,
        n: u64,
        prepared: *const c_void,
        prepared_stride: usize,
        columns: u64,
        y: *mut f32,
        y_stride: usize,
        scratch: *mut c_void,
    );
    pub(super) fn uw_plain_matvec(
        weights: *const c_void,
        number: c_int,
        order: c_int,
        n: u64,
        k: u64,
        prepared: *const c_void,
        y: *mut f32,
        scratch: *mut c_void,
    );
    pub(super) fn uw_isa_name(isa: c_int) -> *const c_char;
    pub(super) fn uw_isa_available(isa: c_int) -> c_int;
    pub(super) fn uw_isa_used() -> c_int;
    pub(super) fn uw_isa_set(isa: c_int) -> c_int;
}
