/* What each uw_order is: a line of a table, and the sum that it describes, written to be read. The vector kernels must give the same
 * bits. */
#ifndef UNWEIGHT_ORDER_H
#define UNWEIGHT_ORDER_H

#include <math.h>

#include "internal.h"

/* How a lane takes a product. */
typedef enum uw_multiply {
    UW_ROUNDED, /* rounded, then added */
    UW_FUSED,   /* fused multiply-add */
    UW_PAIRS    /* vdpbf16ps: two products a lane */
} uw_multiply;

/* How accumulators of several lanes become one number. */
typedef enum uw_fold {
    UW_HALVES,     /* accumulators by halves, then lanes by halves, as _mm512_reduce_add_ps and tinyBLAS do */
    UW_NEIGHBOURS, /* accumulators by halves, 8 lanes to 4 by halves, then neighbouring lanes (haddps, faddp) */
    UW_EACH        /* the lanes of each accumulator by halves, then these in double */
} uw_fold;

/* What becomes of weights after the last full step. */
typedef enum uw_rest {
    UW_IN_DOUBLE, /* products of floats, added to the sum in double */
    UW_IN_FLOAT,  /* added to the sum in float: rounded as long as there are `rounded` of them, then fused */
    UW_IN_LANES   /* one more step, with zeros in free lanes */
} uw_rest;

typedef struct uw_sum {
    uint8_t accs, lanes; /* no lanes: all weights are rest */
    uint8_t multiply, fold, rest;
    uint8_t rounded; /* how many the compiler of ggml put into a vector there; 1 where it has no fused instruction */
} uw_sum;

UW_INLINE uw_sum uw_sum_of(uw_order order) {
    static const uw_sum sums[UW_ORDERS] = {
        [UW_PLAIN] = {0, 0, UW_ROUNDED, UW_HALVES, UW_IN_DOUBLE, 0},
        [UW_BF16_AVX] = {4, 8, UW_ROUNDED, UW_HALVES, UW_IN_DOUBLE, 0},
        [UW_BF16_AVX2] = {4, 8, UW_FUSED, UW_HALVES, UW_IN_DOUBLE, 0},
        [UW_BF16_AVX512] = {2, 16, UW_FUSED, UW_EACH, UW_IN_DOUBLE, 0},
        [UW_BF16_AVX512BF16] = {2, 16, UW_PAIRS, UW_EACH, UW_IN_DOUBLE, 0},
        [UW_F16_SSE3] = {8, 4, UW_ROUNDED, UW_NEIGHBOURS, UW_IN_DOUBLE, 0},
        [UW_F16_AVX] = {4, 8, UW_ROUNDED, UW_NEIGHBOURS, UW_IN_DOUBLE, 0},
        [UW_F16_FMA] = {4, 8, UW_FUSED, UW_NEIGHBOURS, UW_IN_DOUBLE, 0},
        [UW_F16_AVX512] = {4, 16, UW_FUSED, UW_HALVES, UW_IN_DOUBLE, 0},
        [UW_F16_NEON] = {4, 4, UW_FUSED, UW_NEIGHBOURS, UW_IN_DOUBLE, 0},
        [UW_F32_SSE3] = {8, 4, UW_ROUNDED, UW_NEIGHBOURS, UW_IN_FLOAT, 1},
        [UW_F32_AVX] = {4, 8, UW_ROUNDED, UW_NEIGHBOURS, UW_IN_FLOAT, 1},
        [UW_F32_FMA] = {4, 8, UW_FUSED, UW_NEIGHBOURS, UW_IN_FLOAT, 4},
        [UW_F32_AVX512] = {4, 16, UW_FUSED, UW_HALVES, UW_IN_FLOAT, 8},
        [UW_F32_NEON] = {4, 4, UW_FUSED, UW_NEIGHBOURS, UW_IN_FLOAT, 4},
        [UW_TILE_AVX] = {1, 8, UW_ROUNDED, UW_HALVES, UW_IN_LANES, 0},
        [UW_TILE_FMA] = {1, 8, UW_FUSED, UW_HALVES, UW_IN_LANES, 0},
        [UW_TILE_AVX512] = {1, 16, UW_FUSED, UW_HALVES, UW_IN_LANES, 0},
        [UW_TILE_AVX512BF16] = {1, 16, UW_PAIRS, UW_HALVES, UW_IN_LANES, 0},
        [UW_TILE_NEON] = {1, 4, UW_FUSED, UW_NEIGHBOURS, UW_IN_LANES, 0},
    };
    return sums[order];
}

/* Weights of a full step. */
UW_INLINE uint64_t uw_step(uw_sum sum) { return (uint64_t)sum.accs * sum.lanes * (sum.multiply == UW_PAIRS ? 2 : 1); }

static inline float uw_flush(float f) { return fabsf(f) < 0x1p-126f ? copysignf(0.0f, f) : f; }

/* One lane of vdpbf16ps: the odd pair is accumulated first, each product fused; denormals are zero on both sides. */
static inline float uw_dpbf16(float acc, float w0, float x0, float w1, float x1) {
    acc = uw_flush(fmaf(uw_flush(w1), uw_flush(x1), uw_flush(acc)));
    return uw_flush(fmaf(uw_flush(w0), uw_flush(x0), acc));
}

/* `lanes` is a power of two. */
static inline float uw_fold_lanes(float *v, int lanes, int by_neighbours) {
    for (; by_neighbours && lanes > 4; lanes /= 2)
        for (int i = 0; i < lanes / 2; i++) v[i] = v[i + lanes / 2] + v[i];
    for (int left = lanes / 2; left > 0; left /= 2)
        for (int i = 0; i < left; i++) v[i] = by_neighbours ? v[2 * i] + v[2 * i + 1] : v[i + left] + v[i];
    return v[0];
}

/* What is added to the sum of full steps. `place` says where the activation of a weight stands, both counted from the rest's first. */
UW_INLINE float uw_add_rest(uw_sum order, double sum, const float *w, const float *x, uint64_t (*place)(uint64_t), uint64_t n) {
    if (order.rest == UW_IN_DOUBLE) {
        for (uint64_t i = 0; i < n; i++) sum += (double)(w[i] * x[place(i)]);
        return (float)sum;
    }
    float total = (float)sum;
    const uint64_t rounded = order.rest == UW_IN_FLOAT ? n / order.rounded * order.rounded : 0;
    for (uint64_t i = 0; i < rounded; i++) total += w[i] * x[place(i)];
    for (uint64_t i = rounded; i < n; i++) total = fmaf(w[i], x[place(i)], total);
    return total;
}

UW_INLINE uint64_t uw_in_place(uint64_t i) { return i; }

/* w: k weights. x: k activations. */
static inline float uw_dot_scalar(uw_order order, const float *w, const float *x, uint64_t k) {
    const uw_sum s = uw_sum_of(order);
    const uint64_t step = uw_step(s), in_lanes = s.rest == UW_IN_LANES ? k : step ? k / step * step : 0;
    const int per_lane = s.multiply == UW_PAIRS ? 2 : 1;
    float acc[8][16] = {{0}};
    for (uint64_t i = 0; i < in_lanes; i += step)
        for (int a = 0; a < s.accs; a++)
            for (int l = 0; l < s.lanes; l++) {
                const uint64_t j = i + (uint64_t)((a * s.lanes + l) * per_lane);
                const float w0 = j < k ? w[j] : 0.0f, x0 = j < k ? x[j] : 0.0f;
                if (s.multiply == UW_PAIRS)
                    acc[a][l] = uw_dpbf16(acc[a][l], w0, x0, j + 1 < k ? w[j + 1] : 0.0f, j + 1 < k ? x[j + 1] : 0.0f);
                else acc[a][l] = s.multiply == UW_FUSED ? fmaf(w0, x0, acc[a][l]) : w0 * x0 + acc[a][l];
            }
    double sum = 0.0;
    if (s.fold == UW_EACH) {
        for (int a = 0; a < s.accs; a++) sum += (double)uw_fold_lanes(acc[a], s.lanes, 0);
    } else if (s.lanes > 0) {
        for (int left = s.accs / 2; left > 0; left /= 2)
            for (int a = 0; a < left; a++)
                for (int l = 0; l < s.lanes; l++) acc[a][l] += acc[a + left][l];
        sum = (double)uw_fold_lanes(acc[0], s.lanes, s.fold == UW_NEIGHBOURS);
    }
    if (s.rest == UW_IN_LANES) return (float)sum;
    return uw_add_rest(s, sum, w + in_lanes, x + in_lanes, uw_in_place, k - in_lanes);
}

#endif
