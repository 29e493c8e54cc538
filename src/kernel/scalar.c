/* The portable kernels: slow, and the yardstick of the others. */
#include "order.h"

typedef struct lookup {
    const uint8_t *palette;
} lookup;
#define LOOKUP lookup

static lookup lookup_of(const uw_piece *piece) { return (lookup){piece->palette}; }

/* Bits `at`, of one byte of each of three parts, as a number. */
static int gather(const uint8_t *in, uint64_t w, int at) { return (in[0] >> at & 1) | (in[w] >> at & 1) << 1 | (in[2 * w] >> at & 1) << 2; }

/* Two codes in each byte of each part, and two more in the bits that these leave over, one from each part. */
static void lookup3(const lookup *l, const uint8_t *in, uint64_t w, uint8_t *out) {
    for (uint64_t i = 0; i < w; i++, in++) {
        const int codes[8] = {in[0] & 7, in[0] >> 4 & 7, in[w] & 7, in[w] >> 4 & 7, in[2 * w] & 7, in[2 * w] >> 4 & 7,
                              gather(in, w, 3), gather(in, w, 7)};
        for (uint64_t v = 0; v < 8; v++) out[v * w + i] = l->palette[codes[v]];
    }
}

/* A code and raw bits in each byte of each part, and one of each more in what these leave over. */
static void lookup6(const lookup *l, const uint8_t *in, uint64_t w, uint8_t *out) {
    for (uint64_t i = 0; i < w; i++, in++) {
        for (uint64_t v = 0; v < 3; v++) out[v * w + i] = l->palette[in[v * w] & 7] | (in[v * w] >> 4 & 7);
        out[3 * w + i] = l->palette[gather(in, w, 3)] | (uint8_t)gather(in, w, 7);
    }
}

static void lookup4(const lookup *l, const uint8_t *in, uint8_t *out) {
    for (int i = 0; i < 32; i++) {
        out[i] = l->palette[in[i] & 15];
        out[32 + i] = l->palette[in[i] >> 4];
    }
}

#include "segment.h"

static void put_one(const form f, uw_number as, uint8_t high, uint8_t low, const uint8_t *lower, uint8_t *out) {
    const uint16_t word = uw_word(high, low, uw_added(f.stored, f.shift));
    const float value = uw_value(f.stored, word, f.stored == UW_F32 ? uw_load16(lower) : 0);
    const uint16_t half = f.stored == as ? word : uw_f32_to_f16(value);
    if (as == UW_F32) memcpy(out, &value, sizeof value);
    else memcpy(out, &half, sizeof half);
}

static void put_64(const form f, uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint8_t *out) {
    for (int place = 0; place < UW_BLOCK; place++) {
        const uint64_t i = (uint64_t)uw_weight_at(place);
        put_one(f, as, high[place], low[place], lower + (f.stored == UW_F32 ? 2 * i : 0), out + i * uw_width(as));
    }
}

static void put_16(const form f, uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint8_t *out) {
    for (uint64_t i = 0; i < 16; i++) put_one(f, as, high[i], low[i], lower + (f.stored == UW_F32 ? 2 * i : 0), out + i * uw_width(as));
}

#include "rows.h"

static void prepare(uw_order order, uw_number original, uw_number stored, const float *x, uint64_t k, void *prepared) {
    (void)stored;
    float *out = prepared;
    for (uint64_t i = 0; i < k; i++) out[i] = uw_round(uw_rounding(order, original), x[i]);
}

static void matmul(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch) {
    const float *weights = scratch;
    const uint64_t padded = uw_padded(piece->k);
    for (uint64_t i = 0; i < n; i++) {
        if (i % UW_TILE_ROWS == 0) expand(piece, UW_F32, row + i, n - i < UW_TILE_ROWS ? n - i : UW_TILE_ROWS, scratch);
        for (uint64_t c = 0; c < columns; c++) {
            const float *x = (const float *)((const uint8_t *)prepared + c * prepared_stride);
            y[c * y_stride + i] = uw_dot_scalar(order, weights + i % UW_TILE_ROWS * padded, x, piece->k);
        }
    }
}

static void matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    matmul(piece, order, row, n, prepared, 0, 1, y, 0, scratch);
}

static void plain_matvec(const void *weights, uw_number number, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y,
                         void *scratch) {
    const uint8_t *w = weights;
    float *row = scratch;
    for (uint64_t i = 0; i < n; i++) {
        for (uint64_t j = 0; j < k; j++, w += uw_width(number)) {
            if (number == UW_F32) memcpy(row + j, w, sizeof *row);
            else row[j] = uw_value(number, uw_load16(w), 0);
        }
        y[i] = uw_dot_scalar(order, row, prepared, k);
    }
}

const uw_kernels uw_kernels_scalar = {decode, expand, prepare, matvec, matmul, plain_matvec};
