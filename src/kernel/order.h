/* Sums in the order of each uw_order, written to be read: one array element per lane of the vector registers that the host uses.
 * The vector kernels must give the same bits. */
#ifndef UNWEIGHT_ORDER_H
#define UNWEIGHT_ORDER_H

#include <math.h>

#include "internal.h"

/* Sums `lanes` (a power of two) floats by halves, as _mm512_reduce_add_ps and tinyBLAS's hsum do. */
static inline float uw_sum_by_halves(float *v, int lanes) {
    for (int half = lanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) v[i] = v[i + half] + v[i];
    return v[0];
}

/* What dot products leave over after their last full step: products of floats, added in double. */
static inline double uw_tail(double sum, const uint16_t *w, const float *x, uint64_t from, uint64_t k) {
    for (uint64_t i = from; i < k; i++) sum += (double)(uw_bf16_to_f32(w[i]) * x[i]);
    return sum;
}

static inline float uw_flush(float f) { return fabsf(f) < 0x1p-126f ? copysignf(0.0f, f) : f; }

/* One lane of vdpbf16ps: the odd pair is accumulated first, each product fused; denormals are zero on both sides. */
static inline float uw_dpbf16(float acc, float w0, float x0, float w1, float x1) {
    acc = uw_flush(fmaf(uw_flush(w1), uw_flush(x1), uw_flush(acc)));
    return uw_flush(fmaf(uw_flush(w0), uw_flush(x0), acc));
}

/* w: k weights. x: k activations as floats. */
static inline float uw_dot_scalar(uw_order order, const uint16_t *w, const float *x, uint64_t k) {
    float acc[4][16] = {{0}};
    uint64_t i = 0;
    switch (order) {
    case UW_DOT_AVX:
    case UW_DOT_AVX2: {
        for (; i + 32 <= k; i += 32)
            for (int a = 0; a < 4; a++)
                for (int l = 0; l < 8; l++) {
                    float factor = uw_bf16_to_f32(w[i + 8 * a + l]), by = x[i + 8 * a + l];
                    acc[a][l] = order == UW_DOT_AVX ? factor * by + acc[a][l] : fmaf(factor, by, acc[a][l]);
                }
        for (int l = 0; l < 8; l++) acc[0][l] = (acc[0][l] + acc[2][l]) + (acc[1][l] + acc[3][l]);
        return (float)uw_tail((double)uw_sum_by_halves(acc[0], 8), w, x, i, k);
    }
    case UW_DOT_AVX512:
    case UW_DOT_AVX512BF16: {
        if (order == UW_DOT_AVX512) {
            for (; i + 32 <= k; i += 32)
                for (int a = 0; a < 2; a++)
                    for (int l = 0; l < 16; l++)
                        acc[a][l] = fmaf(uw_bf16_to_f32(w[i + 16 * a + l]), x[i + 16 * a + l], acc[a][l]);
        } else {
            for (; i + 64 <= k; i += 64)
                for (int a = 0; a < 2; a++)
                    for (int l = 0; l < 16; l++) {
                        uint64_t j = i + 32 * a + 2 * l;
                        acc[a][l] = uw_dpbf16(acc[a][l], uw_bf16_to_f32(w[j]), x[j], uw_bf16_to_f32(w[j + 1]), x[j + 1]);
                    }
        }
        double sum = (double)uw_sum_by_halves(acc[0], 16);
        sum += (double)uw_sum_by_halves(acc[1], 16);
        return (float)uw_tail(sum, w, x, i, k);
    }
    case UW_TILE_AVX2:
    case UW_TILE_AVX512: {
        /* A last step that is not full goes on with zeros in its free lanes. */
        uint64_t lanes = order == UW_TILE_AVX2 ? 8 : 16;
        for (; i < k; i += lanes)
            for (uint64_t l = 0; l < lanes; l++) {
                int in = i + l < k;
                acc[0][l] = fmaf(in ? uw_bf16_to_f32(w[i + l]) : 0.0f, in ? x[i + l] : 0.0f, acc[0][l]);
            }
        return uw_sum_by_halves(acc[0], (int)lanes);
    }
    case UW_TILE_AVX512BF16: {
        for (; i < k; i += 32)
            for (int l = 0; l < 16; l++) {
                uint64_t j = i + 2 * l;
                int in0 = j < k, in1 = j + 1 < k;
                acc[0][l] = uw_dpbf16(acc[0][l], in0 ? uw_bf16_to_f32(w[j]) : 0.0f, in0 ? x[j] : 0.0f,
                                      in1 ? uw_bf16_to_f32(w[j + 1]) : 0.0f, in1 ? x[j + 1] : 0.0f);
            }
        return uw_sum_by_halves(acc[0], 16);
    }
    case UW_DOT_PLAIN:
    case UW_ORDERS: break;
    }
    return (float)uw_tail(0.0, w, x, 0, k);
}

#endif
