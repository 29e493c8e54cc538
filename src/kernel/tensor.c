/* Opening a blob: every length is checked here, once. */
#include "internal.h"

const char *uw_status_text(uw_status status) {
    switch (status) {
    case UW_OK: return "ok";
    case UW_SHORT: return "the blob is shorter than its header says";
    case UW_LENGTH: return "the blob is longer than its header says";
    case UW_SHAPE: return "the blob's header names another shape";
    case UW_CODE: return "the blob's code size is neither 3 nor 4 bits";
    case UW_OVERFLOW: return "the blob's sizes overflow";
    case UW_SHIFT: return "the blob's shift is neither 0 nor 1";
    case UW_RESERVED: return "reserved bytes of the blob's header are not zero";
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

/* Rows whose blocks fill a segment, as docs/FORMAT.md has it: a power of two. */
static uint32_t segment_rows(uint64_t blocks) {
    uint32_t rows = UW_SEGMENT_ROWS;
    while (rows > 1 && blocks > UW_SEGMENT_BLOCKS / rows) rows /= 2;
    return rows;
}

uw_status uw_tensor_open(uw_tensor *tensor, const void *blob, size_t length, uint64_t k, uint64_t rows) {
    const uint8_t *p = blob;
    if (length < UW_HEADER_BYTES) return UW_SHORT;
    if (load64(p) != k || load64(p + 8) != rows) return UW_SHAPE;
    uint32_t code_bits = p[24], shift = p[25], codes_in_palette = 1u << code_bits % 32;
    if (code_bits != 3 && code_bits != 4) return UW_CODE;
    if (shift > 1) return UW_SHIFT;
    for (uint32_t i = 26; i < 64; i++)
        if (p[i] != 0 && (i < 32 || i >= 32 + codes_in_palette)) return UW_RESERVED;

    uw_tensor t = {.k = k, .rows = rows, .n_escapes = load64(p + 16), .code_bits = code_bits, .shift = shift};
    t.code_bytes = code_bits == 3 ? UW_CODE3_BYTES : UW_CODE4_BYTES;
    t.blocks = k / UW_BLOCK + (k % UW_BLOCK != 0);
    t.segment_rows = segment_rows(t.blocks);
    t.segments = rows / t.segment_rows + (rows % t.segment_rows != 0);
    int overflow = 0;
    uint64_t all_blocks, end = UW_HEADER_BYTES;
    overflow |= __builtin_mul_overflow(t.blocks, rows, &all_blocks);
    uint64_t low = region(&end, all_blocks, UW_BLOCK, &overflow);
    uint64_t codes = region(&end, all_blocks, t.code_bytes, &overflow);
    uint64_t starts = region(&end, t.segments, 4, &overflow);
    uint64_t escapes = region(&end, t.n_escapes, 2, &overflow);
    if (overflow) return UW_OVERFLOW;
    if (length < end) return UW_SHORT;
    if (length > end) return UW_LENGTH;
    t.low = p + low;
    t.codes = p + codes;
    t.starts = p + starts;
    t.escapes = p + escapes;
    for (uint32_t i = 0; i < sizeof t.palette; i++) t.palette[i] = p[32 + i % codes_in_palette];
    *tensor = t;
    return UW_OK;
}
