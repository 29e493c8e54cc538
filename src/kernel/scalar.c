/* The portable kernels: slow, and the yardstick of the others. */
#include "order.h"

typedef struct lookup {
    const uint8_t *palette;
} lookup;
#define LOOKUP lookup

static lookup lookup_of(const uw_piece *piece) { return (lookup){piece->palette}; }

/* 3 w bytes hold 8 w codes: two in each byte of each third, and two more in the bits that these leave over, one from each third. */
static void lookup_part(const lookup *l, const uint8_t *in, uint64_t w, uint8_t *out) {
    for (uint64_t i = 0; i < w; i++) {
        const uint8_t a = in[i], b = in[w + i], c = in[2 * w + i];
        const uint8_t codes[8] = {
            a & 7, a >> 4 & 7, b & 7, b >> 4 & 7, c & 7, c >> 4 & 7,
            (uint8_t)((a >> 3 & 1) | (b >> 3 & 1) << 1 | (c >> 3 & 1) << 2),
            (uint8_t)((a >> 7 & 1) | (b >> 7 & 1) << 1 | (c >> 7 & 1) << 2),
        };
        for (uint64_t v = 0; v < 8; v++) out[v * w + i] = l->palette[codes[v]];
    }
}

static void lookup_group(const lookup *l, const uint8_t *in, uint8_t *out) { lookup_part(l, in, UW_BLOCK, out); }

static void lookup_block4(const lookup *l, const uint8_t *in, uint8_t *out) {
    for (int i = 0; i < 32; i++) {
        out[i] = l->palette[in[i] & 15];
        out[32 + i] = l->palette[in[i] >> 4];
    }
}

static void store_words(const uint8_t *high, const uint8_t *low, int shift, uint16_t *out) {
    for (int place = 0; place < UW_BLOCK; place++) out[uw_weight_at(place)] = uw_word(high[place], low[place], shift);
}

static void store_16(const uint8_t *high, const uint8_t *low, int shift, uint16_t *out) {
    for (int i = 0; i < 16; i++) out[i] = uw_word(high[i], low[i], shift);
}

#include "segment.h"

static void prepare(uw_order order, const float *x, uint64_t k, void *prepared) {
    (void)order;
    float *out = prepared;
    for (uint64_t i = 0; i < k; i++) out[i] = uw_bf16_to_f32(uw_f32_to_bf16(x[i]));
}

static void matmul(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch) {
    uint16_t *weights = scratch;
    for (uint64_t i = 0; i < n; i++) {
        if (i % UW_TILE_ROWS == 0) decode_bf16(piece, row + i, n - i < UW_TILE_ROWS ? n - i : UW_TILE_ROWS, weights, piece->k);
        for (uint64_t c = 0; c < columns; c++) {
            const float *x = (const float *)((const uint8_t *)prepared + c * prepared_stride);
            y[c * y_stride + i] = uw_dot_scalar(order, weights + i % UW_TILE_ROWS * piece->k, x, piece->k);
        }
    }
}

static void matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    matmul(piece, order, row, n, prepared, 0, 1, y, 0, scratch);
}

static void plain_matvec(const uint16_t *weights, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y) {
    for (uint64_t i = 0; i < n; i++) y[i] = uw_dot_scalar(order, weights + i * k, prepared, k);
}

const uw_kernels uw_kernels_scalar = {decode_bf16, prepare, matvec, plain_matvec, matmul};
