/* SSSE3, for machines without AVX2, and for the orders of hosts that were compiled without it: the chain of double additions of
 * generic ggml, in which rows stand side by side in lanes and registers, and the sums of AVX without fused multiply-add. */
#include "lookup_x86.h"
#include "order.h"

#define LOOKUP __m128i

UW_INLINE __m128i lookup_of(const uw_piece *piece) { return _mm_loadu_si128((const __m128i *)piece->palette); }
UW_INLINE void lookup_part(const __m128i *palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    if (w == 8) lookup3_16(*palette, in, 8, 8, out);
    else
        for (uint64_t i = 0; i < w; i += 16) lookup3_16(*palette, in + i, w, 16, out + i);
}
UW_INLINE void lookup_group(const __m128i *palette, const uint8_t *in, uint8_t *out) { lookup_part(palette, in, 64, out); }
UW_INLINE void lookup_block4(const __m128i *palette, const uint8_t *in, uint8_t *out) {
    const __m128i nibble = _mm_set1_epi8(15);
    for (int i = 0; i < 32; i += 16) {
        const __m128i both = _mm_loadu_si128((const __m128i *)(in + i));
        _mm_store_si128((__m128i *)(out + i), _mm_shuffle_epi8(*palette, _mm_and_si128(both, nibble)));
        _mm_store_si128((__m128i *)(out + 32 + i), _mm_shuffle_epi8(*palette, _mm_and_si128(_mm_srli_epi16(both, 4), nibble)));
    }
}

/* The words of 16 places: those of the first 8, and those of the others. */
UW_INLINE void store_eights(const uint8_t *high, const uint8_t *low, const int shift, uint16_t *first, uint16_t *second) {
    const __m128i h = _mm_loadu_si128((const __m128i *)high), l = _mm_loadu_si128((const __m128i *)low);
    const __m128i added = _mm_set1_epi16((short)(shift * 128));
    _mm_storeu_si128((__m128i *)first, _mm_sub_epi16(_mm_unpacklo_epi8(l, h), added));
    _mm_storeu_si128((__m128i *)second, _mm_sub_epi16(_mm_unpackhi_epi8(l, h), added));
}

UW_INLINE void store_words(const uint8_t *high, const uint8_t *low, const int shift, uint16_t *out) {
    for (int q = 0; q < 4; q++) store_eights(high + 16 * q, low + 16 * q, shift, out + 8 * q, out + 32 + 8 * q);
}

UW_INLINE void store_16(const uint8_t *high, const uint8_t *low, const int shift, uint16_t *out) {
    store_eights(high, low, shift, out, out + 8);
}

#include "segment.h"

/* Floats of two rows in turn: a0 b0 a1 b1 and so on; or of one row. */
static void expand(const uint16_t *a, const uint16_t *b, uint64_t k, float *out) {
    const uint64_t turn = b ? 2 : 1;
    const __m128i zero = _mm_setzero_si128();
    uint64_t i = 0;
    for (; i + 4 <= k; i += 4) {
        const __m128 fa = _mm_castsi128_ps(_mm_unpacklo_epi16(zero, _mm_loadl_epi64((const __m128i *)(a + i))));
        if (!b) {
            _mm_storeu_ps(out + i, fa);
            continue;
        }
        const __m128 fb = _mm_castsi128_ps(_mm_unpacklo_epi16(zero, _mm_loadl_epi64((const __m128i *)(b + i))));
        _mm_storeu_ps(out + 2 * i, _mm_unpacklo_ps(fa, fb));
        _mm_storeu_ps(out + 2 * i + 4, _mm_unpackhi_ps(fa, fb));
    }
    for (; i < k; i++) {
        out[turn * i] = uw_bf16_to_f32(a[i]);
        if (b) out[turn * i + 1] = uw_bf16_to_f32(b[i]);
    }
}

#define PAIRS 4

/* UW_DOT_PLAIN: sums of 2 * pairs expanded rows with one column; a pair is 2 * padded floats. */
UW_INLINE void sum_pairs(const int pairs, const float *w, uint64_t padded, const float *x, uint64_t k, double sums[2 * PAIRS]) {
    __m128d sum[PAIRS];
    for (int p = 0; p < pairs; p++) sum[p] = _mm_setzero_pd();
    uint64_t i = 0;
    for (; i + 2 <= k; i += 2) {
        const __m128 two = _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(x + i))), twice = _mm_unpacklo_ps(two, two);
        for (int p = 0; p < pairs; p++) {
            const __m128 products = _mm_mul_ps(_mm_loadu_ps(w + 2 * ((uint64_t)p * padded + i)), twice);
            sum[p] = _mm_add_pd(sum[p], _mm_cvtps_pd(products));
            sum[p] = _mm_add_pd(sum[p], _mm_cvtps_pd(_mm_movehl_ps(products, products)));
        }
    }
    for (int p = 0; p < pairs; p++) _mm_storeu_pd(sums + 2 * p, sum[p]);
    for (; i < k; i++)
        for (int r = 0; r < 2 * pairs; r++) sums[r] += (double)(w[2 * ((uint64_t)(r / 2) * padded + i) + (uint64_t)(r % 2)] * x[i]);
}

/* UW_DOT_AVX: 4 x 8 floats in 8 registers. */
static float dot_avx(const float *w, const float *x, const uint16_t *words, uint64_t k) {
    __m128 acc[8];
    for (int a = 0; a < 8; a++) acc[a] = _mm_setzero_ps();
    uint64_t i = 0;
    for (; i + 32 <= k; i += 32)
        for (int a = 0; a < 8; a++)
            acc[a] = _mm_add_ps(_mm_mul_ps(_mm_loadu_ps(w + i + 4 * (uint64_t)a), _mm_loadu_ps(x + i + 4 * (uint64_t)a)), acc[a]);
    __m128 half[2];
    for (int h = 0; h < 2; h++) half[h] = _mm_add_ps(_mm_add_ps(acc[h], acc[h + 4]), _mm_add_ps(acc[h + 2], acc[h + 6]));
    float lanes[4];
    _mm_storeu_ps(lanes, _mm_add_ps(half[1], half[0]));
    return (float)uw_tail((double)uw_sum_by_halves(lanes, 4), words, x, i, k);
}

static void prepare(uw_order order, const float *x, uint64_t k, void *prepared) { uw_kernels_scalar.prepare(order, x, k, prepared); }

/* Up to 2 * PAIRS rows that lie as words at `words`, with some columns. */
static void multiply(uw_order order, const uint16_t *words, size_t stride, uint64_t n, uint64_t k, const uint8_t *x, size_t x_stride,
                     uint64_t columns, float *y, size_t y_stride, float *wide) {
    const uint64_t padded = uw_padded(k);
    if (order == UW_DOT_AVX) {
        for (uint64_t r = 0; r < n; r++) {
            expand(words + r * stride, NULL, k, wide);
            for (uint64_t c = 0; c < columns; c++)
                y[c * y_stride + r] = dot_avx(wide, (const float *)(x + c * x_stride), words + r * stride, k);
        }
        return;
    }
    /* An odd last row stands twice in its pair. */
    for (uint64_t r = 0; r < n; r += 2) expand(words + r * stride, words + (r + 1 < n ? r + 1 : r) * stride, k, wide + r * padded);
    for (uint64_t c = 0; c < columns; c++) {
        const float *xc = (const float *)(x + c * x_stride);
        double sums[2 * PAIRS];
        if (n > 2) sum_pairs(PAIRS, wide, padded, xc, k, sums);
        else sum_pairs(1, wide, padded, xc, k, sums);
        for (uint64_t r = 0; r < n; r++) y[c * y_stride + r] = (float)sums[r];
    }
}

/* Rows as words, then as floats: 8 of 2 and of 4 bytes a weight fit the scratch of 16 rows of floats. */
static void matmul(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch) {
    if (order != UW_DOT_PLAIN && order != UW_DOT_AVX) {
        uw_kernels_scalar.matmul(piece, order, row, n, prepared, prepared_stride, columns, y, y_stride, scratch);
        return;
    }
    const uint64_t padded = uw_padded(piece->k);
    float *wide = scratch;
    uint16_t *words = (uint16_t *)(wide + 2 * PAIRS * padded);
    /* Sums of rows that are not there are formed too, and dropped. */
    memset(wide, 0, 2 * PAIRS * padded * sizeof *wide);
    for (uint64_t i = 0; i < n; i += UW_TILE_ROWS) {
        const uint64_t rows = n - i < UW_TILE_ROWS ? n - i : UW_TILE_ROWS;
        decode_bf16(piece, row + i, rows, words, padded);
        for (uint64_t r = 0; r < rows; r += 2 * PAIRS)
            multiply(order, words + r * padded, padded, rows - r < 2 * PAIRS ? rows - r : 2 * PAIRS, piece->k, prepared, prepared_stride,
                     columns, y + i + r, y_stride, wide);
    }
}

static void matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    matmul(piece, order, row, n, prepared, 0, 1, y, 0, scratch);
}

static void plain_matvec(const uint16_t *weights, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y) {
    uw_kernels_scalar.plain_matvec(weights, order, n, k, prepared, y);
}

const uw_kernels uw_kernels_ssse3 = {decode_bf16, prepare, matvec, plain_matvec, matmul};
