/* The portable kernels: slow, and the yardstick of the others. */
#include "order.h"

/* The place in a block of natural weight i, and so the order of sign/mantissa bytes, codes and escapes. */
static inline int weight_at(int place) {
    int eighth = place / 8;
    return (eighth / 2 + (eighth % 2) * 4) * 8 + place % 8;
}

static int code_at(const uint8_t *codes, uint32_t code_bits, int place) {
    if (code_bits == 4) return codes[place % 32] >> (place / 32 * 4) & 15;
    int low = codes[place % 16] >> (place / 16 * 2) & 3;
    int high = codes[16 + place % 8] >> (place / 8) & 1;
    return low | high << 2;
}

/* Decodes a block to 64 weights and returns how many escapes it took. */
static uint64_t decode_block(const uw_tensor *t, uint64_t block, uint64_t escape, uint16_t *out) {
    const uint8_t *sm = t->sm + block * UW_BLOCK, *codes = t->codes + block * t->code_bytes;
    int escape_code = (1 << t->code_bits) - 1;
    uint64_t used = 0;
    for (int place = 0; place < UW_BLOCK; place++) {
        int code = code_at(codes, t->code_bits, place);
        uint8_t rotated = t->palette[code];
        if (code == escape_code) {
            uint64_t at = escape + used++;
            /* Past the last escape stand zeros, at least as many as one block can take. */
            rotated = at < t->n_escapes + UW_ESCAPE_TAIL ? t->escapes[at] : 0;
        }
        uint8_t high = (uint8_t)((sm[place] & 0x80) | (rotated & 0x7F));
        uint8_t low = (uint8_t)((rotated & 0x80) | (sm[place] & 0x7F));
        out[weight_at(place)] = (uint16_t)(high << 8 | low);
    }
    return used;
}

static void decode_row(const uw_tensor *t, uint64_t row, uint16_t *out) {
    uint64_t escape = uw_row_start(t, row);
    for (uint64_t b = 0; b < t->blocks; b++) {
        uint64_t left = t->k - b * UW_BLOCK;
        uint16_t block[UW_BLOCK];
        escape += decode_block(t, row * t->blocks + b, escape, block);
        if (escape > t->n_escapes) escape = t->n_escapes;
        memcpy(out + b * UW_BLOCK, block, (left < UW_BLOCK ? left : UW_BLOCK) * sizeof *out);
    }
}

static void decode_bf16(const uw_tensor *t, uint64_t row, uint64_t n, uint16_t *out, size_t stride) {
    for (uint64_t i = 0; i < n; i++) decode_row(t, row + i, out + i * stride);
}

static void prepare(uw_order order, const float *x, uint64_t k, void *prepared) {
    (void)order;
    float *out = prepared;
    for (uint64_t i = 0; i < k; i++) out[i] = uw_bf16_to_f32(uw_f32_to_bf16(x[i]));
}

static void matmul(const uw_tensor *t, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch) {
    uint16_t *weights = scratch;
    for (uint64_t i = 0; i < n; i++) {
        decode_row(t, row + i, weights);
        for (uint64_t c = 0; c < columns; c++) {
            const float *x = (const float *)((const uint8_t *)prepared + c * prepared_stride);
            y[c * y_stride + i] = uw_dot_scalar(order, weights, x, t->k);
        }
    }
}

static void matvec(const uw_tensor *t, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    matmul(t, order, row, n, prepared, 0, 1, y, 0, scratch);
}

static void plain_matvec(const uint16_t *weights, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y) {
    for (uint64_t i = 0; i < n; i++) y[i] = uw_dot_scalar(order, weights + i * k, prepared, k);
}

const uw_kernels uw_kernels_scalar = {decode_bf16, prepare, matvec, plain_matvec, matmul};
