/* Opening a piece: every length is checked here, once. */
#include "internal.h"

const char *uw_status_text(uw_status status) {
    switch (status) {
    case UW_OK: return "ok";
    case UW_SHORT: return "the piece is shorter than its header says";
    case UW_LONG: return "the piece is longer than its header says";
    case UW_LOW: return "there is not one low byte for each weight of the piece";
    case UW_SHAPE: return "the piece's header names another shape";
    case UW_CODE: return "the piece's code size is not one that its numbers may have";
    case UW_NUMBER: return "the piece's numbers are of an unknown kind, or of one that the original's cannot be stored as";
    case UW_OVERFLOW: return "the piece's sizes overflow";
    case UW_SHIFT: return "the piece's shift is neither 0 nor 1";
    case UW_RESERVED: return "reserved bytes of the piece's header are not zero";
    }
    return "unknown status";
}

static uint64_t load64(const uint8_t *p) {
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* Adds a * b, rounded up to 64, to *end and returns where the region begins; sets *overflow. */
static uint64_t region(uint64_t *end, uint64_t a, uint64_t b, int *overflow) {
    uint64_t start = *end, bytes;
    *overflow |= __builtin_mul_overflow(a, b, &bytes);
    *overflow |= __builtin_add_overflow(bytes, 63, &bytes);
    *overflow |= __builtin_add_overflow(start, bytes / 64 * 64, end);
    return start;
}

/* Rows of a segment, as docs/FORMAT.md has it: a power of two. */
static uint32_t segment_rows(uint64_t k) {
    uint32_t rows = UW_SEGMENT_ROWS;
    while (rows > 1 && k > UW_SEGMENT_BLOCKS * UW_BLOCK / rows) rows /= 2;
    return rows;
}

/* True if numbers of the kind `original` may be stored as the kind `stored`: what is wider holds what is narrower, and F16 some BF16. */
static int may_be_stored(uw_number original, uint32_t stored) {
    switch (original) {
    case UW_BF16: return stored == UW_BF16;
    case UW_F16: return stored == UW_F16 || stored == UW_BF16;
    case UW_F32: return stored < UW_NUMBERS;
    default: return 0;
    }
}

uw_status uw_piece_open(uw_piece *piece, uw_number original, const void *low, size_t low_length, const void *rest, size_t rest_length,
                        uint64_t k, uint64_t rows) {
    const uint8_t *p = rest;
    if (rest_length < UW_HEADER_BYTES) return UW_SHORT;
    if (load64(p) != k || load64(p + 8) != rows) return UW_SHAPE;
    uint32_t code_bits = p[24], shift = p[25], stored = p[26], codes_in_palette = 1u << code_bits % 32;
    if (!may_be_stored(original, stored)) return UW_NUMBER;
    if (code_bits != 3 && (code_bits != 4 || stored == UW_F16)) return UW_CODE;
    if (shift > 1) return UW_SHIFT;
    for (uint32_t i = 27; i < 64; i++)
        if (p[i] != 0 && (i < 32 || i >= 32 + codes_in_palette)) return UW_RESERVED;

    uw_piece found = {.low = low, .k = k, .rows = rows, .n_escapes = load64(p + 16), .code_bits = code_bits, .shift = shift};
    found.original = original;
    found.stored = stored;
    found.code_bytes = stored == UW_F16 ? UW_CODE6_BYTES : code_bits == 3 ? UW_CODE3_BYTES : UW_CODE4_BYTES;
    found.segment_rows = segment_rows(k);
    found.segments = rows / found.segment_rows + (rows % found.segment_rows != 0);
    /* Segments of several rows are small, so that these products do not overflow; others have one row, and k is checked below. */
    found.segment_blocks = uw_blocks(found.segment_rows * k);
    const uint64_t last_blocks = uw_blocks(rows % found.segment_rows * k), lower = stored == UW_F32 ? 2 : 0;
    int overflow = 0;
    uint64_t weights, blocks, coded, lowers, end = UW_HEADER_BYTES;
    overflow |= __builtin_mul_overflow(k, rows, &weights);
    overflow |= __builtin_mul_overflow(rows / found.segment_rows, found.segment_blocks, &blocks);
    overflow |= __builtin_add_overflow(blocks, last_blocks, &blocks);
    overflow |= __builtin_mul_overflow(blocks, found.code_bytes, &coded);
    overflow |= __builtin_mul_overflow(weights, lower, &lowers);
    overflow |= __builtin_add_overflow(coded, lowers, &coded);
    uint64_t codes = region(&end, coded, 1, &overflow);
    uint64_t starts = region(&end, found.segments, 4, &overflow);
    uint64_t escapes = region(&end, found.n_escapes, 2, &overflow);
    if (overflow) return UW_OVERFLOW;
    found.segment_bytes = found.segment_blocks * found.code_bytes + found.segment_rows * k * lower;
    if (low_length != weights) return UW_LOW;
    if (rest_length < end) return UW_SHORT;
    if (rest_length > end) return UW_LONG;
    found.codes = p + codes;
    found.starts = p + starts;
    found.escapes = p + escapes;
    for (uint32_t i = 0; i < sizeof found.palette; i++) found.palette[i] = p[32 + i % codes_in_palette];
    *piece = found;
    return UW_OK;
}
