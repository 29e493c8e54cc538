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

uw_status uw_tensor_open(uw_tensor *tensor, const void *blob, size_t length, uint64_t k, uint64_t rows) {
    const uint8_t *p = blob;
    if (length < UW_HEADER_BYTES) return UW_SHORT;
    if (load64(p) != k || load64(p + 8) != rows) return UW_SHAPE;
    uint32_t code_bits = p[24];
    if (code_bits != 3 && code_bits != 4) return UW_CODE;
    for (int i = 25; i < 64; i++)
        if (p[i] != 0 && (i < 32 || i >= 48)) return UW_RESERVED;

    uw_tensor t = {.k = k, .rows = rows, .n_escapes = load64(p + 16), .code_bits = code_bits};
    t.code_bytes = code_bits == 3 ? UW_CODE3_BYTES : UW_CODE4_BYTES;
    t.blocks = k / UW_BLOCK + (k % UW_BLOCK != 0);
    int overflow = 0;
    uint64_t all_blocks, escapes, end = UW_HEADER_BYTES;
    overflow |= __builtin_mul_overflow(t.blocks, rows, &all_blocks);
    overflow |= __builtin_add_overflow(t.n_escapes, UW_ESCAPE_TAIL, &escapes);
    uint64_t sm = region(&end, all_blocks, UW_BLOCK, &overflow);
    uint64_t codes = region(&end, all_blocks, t.code_bytes, &overflow);
    uint64_t coarse = region(&end, rows / UW_GROUP + (rows % UW_GROUP != 0), 4, &overflow);
    uint64_t fine = region(&end, rows, 2, &overflow);
    uint64_t stream = region(&end, escapes, 1, &overflow);
    if (overflow) return UW_OVERFLOW;
    if (length < end) return UW_SHORT;
    if (length > end) return UW_LENGTH;
    t.sm = p + sm;
    t.codes = p + codes;
    t.coarse = p + coarse;
    t.fine = p + fine;
    t.escapes = p + stream;

    /* The marker tells escapes from palette codes after the look-up: any byte that the palette lacks. */
    int escape_code = (1 << code_bits) - 1;
    memcpy(t.palette, p + 32, sizeof t.palette);
    while (memchr(t.palette, t.marker, (size_t)escape_code)) t.marker++;
    t.palette[escape_code] = t.marker;
    *tensor = t;
    return UW_OK;
}
