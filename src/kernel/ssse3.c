/* SSSE3, for machines without AVX2, and for the orders of hosts that were compiled without it: the chain of double additions of
 * generic ggml, in which rows stand side by side in lanes and registers, and sums of 4 or 8 lanes without fused multiply-add. */
#include "lookup_x86.h"
#include "order.h"

#define LOOKUP __m128i

UW_INLINE __m128i lookup_of(const uw_piece *piece) { return _mm_loadu_si128((const __m128i *)piece->palette); }
UW_INLINE void lookup3(const __m128i *palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    for (uint64_t i = 0; i < w; i += 16) lookup3_128(*palette, in + i, w, out + i);
}
UW_INLINE void lookup6(const __m128i *palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    for (uint64_t i = 0; i < w; i += 16) lookup6_128(*palette, in + i, w, out + i);
}
UW_INLINE void lookup4(const __m128i *palette, const uint8_t *in, uint8_t *out) {
    const __m128i nibble = _mm_set1_epi8(15);
    for (int i = 0; i < 32; i += 16) {
        const __m128i both = _mm_loadu_si128((const __m128i *)(in + i));
        _mm_store_si128((__m128i *)(out + i), _mm_shuffle_epi8(*palette, _mm_and_si128(both, nibble)));
        _mm_store_si128((__m128i *)(out + 32 + i), _mm_shuffle_epi8(*palette, _mm_and_si128(_mm_srli_epi16(both, 4), nibble)));
    }
}

#include "segment.h"

/* Eight words in natural order as numbers of the kind `as`. */
UW_INLINE void put_words(const uw_number stored, const uw_number as, __m128i words, const uint8_t *lower, uint8_t *out) {
    if (as == stored && as != UW_F32) {
        _mm_storeu_si128((__m128i *)out, words);
        return;
    }
    if (stored != UW_F16 && as == UW_F32) {
        const __m128i rest = stored == UW_F32 ? _mm_loadu_si128((const __m128i *)lower) : _mm_setzero_si128();
        _mm_storeu_si128((__m128i *)out, _mm_unpacklo_epi16(rest, words));
        _mm_storeu_si128((__m128i *)out + 1, _mm_unpackhi_epi16(rest, words));
        return;
    }
    /* The compiler makes vector code of this. */
    uint16_t each[8], halves[8];
    float values[8];
    _mm_storeu_si128((__m128i *)each, words);
    for (int i = 0; i < 8; i++) values[i] = uw_value(stored, each[i], 0);
    for (int i = 0; i < 8 && as == UW_F16; i++) halves[i] = uw_f32_to_f16(values[i]);
    if (as == UW_F32) memcpy(out, values, sizeof values);
    else memcpy(out, halves, sizeof halves);
}

/* Sixteen places, whose numbers go to two places of the output. */
UW_INLINE void put_eights(const form f, const uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower,
                          const uint64_t second, uint8_t *out) {
    const __m128i h = _mm_loadu_si128((const __m128i *)high), l = _mm_loadu_si128((const __m128i *)low);
    const __m128i added = _mm_set1_epi16((short)uw_added(f.stored, f.shift));
    put_words(f.stored, as, _mm_sub_epi16(_mm_unpacklo_epi8(l, h), added), lower, out);
    put_words(f.stored, as, _mm_sub_epi16(_mm_unpackhi_epi8(l, h), added), f.stored == UW_F32 ? lower + 2 * second : NULL,
              out + second * uw_width(as));
}

UW_INLINE void put_64(const form f, const uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint8_t *out) {
    for (uint64_t q = 0; q < 4; q++)
        put_eights(f, as, high + 16 * q, low + 16 * q, f.stored == UW_F32 ? lower + 16 * q : NULL, 32, out + 8 * q * uw_width(as));
}

UW_INLINE void put_16(const form f, const uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint8_t *out) {
    put_eights(f, as, high, low, lower, 8, out);
}

#include "rows.h"

#define PAIRS 4

/* Two rows in turn: a0 b0 a1 b1 and so on. */
static void pair_up(const float *a, const float *b, uint64_t padded, float *out) {
    for (uint64_t i = 0; i < padded; i += 4, out += 8) {
        const __m128 fa = _mm_loadu_ps(a + i), fb = _mm_loadu_ps(b + i);
        _mm_storeu_ps(out, _mm_unpacklo_ps(fa, fb));
        _mm_storeu_ps(out + 4, _mm_unpackhi_ps(fa, fb));
    }
}

/* UW_PLAIN: sums of 2 * pairs rows with one column; a pair is 2 * padded floats. */
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

/* Sums of 4 x 8 or 8 x 4 lanes, which are the same 8 registers; of a tile, 1 x 8, two. */
static float sum_lanes(uw_order order, const float *w, const float *x, uint64_t k) {
    const uw_sum s = uw_sum_of(order);
    const int registers = s.accs * s.lanes / 4, per_acc = s.lanes / 4;
    const uint64_t step = uw_step(s), end = s.rest == UW_IN_LANES ? (k + step - 1) / step * step : k / step * step;
    __m128 acc[8];
    for (int r = 0; r < 8; r++) acc[r] = _mm_setzero_ps();
    for (uint64_t i = 0; i < end; i += step)
        for (int r = 0; r < registers; r++)
            acc[r] = _mm_add_ps(_mm_mul_ps(_mm_loadu_ps(w + i + 4 * (uint64_t)r), _mm_loadu_ps(x + i + 4 * (uint64_t)r)), acc[r]);
    for (int left = s.accs / 2; left > 0; left /= 2)
        for (int r = 0; r < left * per_acc; r++) acc[r] = _mm_add_ps(acc[r], acc[r + left * per_acc]);
    float lanes[8];
    for (int r = 0; r < per_acc; r++) _mm_storeu_ps(lanes + 4 * r, acc[r]);
    const float sum = uw_fold_lanes(lanes, s.lanes, s.fold == UW_NEIGHBOURS);
    return s.rest == UW_IN_LANES ? sum : uw_add_rest(s, (double)sum, w + end, x + end, uw_in_place, k - end);
}

UW_INLINE int is_ours(uw_order order) {
    const uw_sum s = uw_sum_of(order);
    return order == UW_PLAIN || (s.multiply == UW_ROUNDED && s.lanes <= 8);
}

/* Zeros to the end of a block, for tiles. */
static void prepare(uw_order order, uw_number original, uw_number stored, const float *x, uint64_t k, void *prepared) {
    memset((float *)prepared + k, 0, (uw_padded(k) - k) * sizeof(float));
    uw_kernels_scalar.prepare(order, original, stored, x, k, prepared);
}

/* Up to 2 * PAIRS rows with one column; `paired` is space for them. */
static void plain_sums(const float *rows, uint64_t n, uint64_t padded, const uint8_t *x, size_t x_stride, uint64_t k, uint64_t columns,
                       float *y, size_t y_stride, float *paired) {
    /* An odd last row stands twice in its pair. */
    for (uint64_t r = 0; r < n; r += 2) pair_up(rows + r * padded, rows + (r + 1 < n ? r + 1 : r) * padded, padded, paired + r * padded);
    for (uint64_t c = 0; c < columns; c++, x += x_stride, y += y_stride) {
        double sums[2 * PAIRS];
        if (n > 2) sum_pairs(PAIRS, paired, padded, (const float *)x, k, sums);
        else sum_pairs(1, paired, padded, (const float *)x, k, sums);
        for (uint64_t r = 0; r < n; r++) y[r] = (float)sums[r];
    }
}

/* Half of the scratch of 16 rows holds 8 rows, the other half the same in pairs. */
static void matmul(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch) {
    if (!is_ours(order)) {
        uw_kernels_scalar.matmul(piece, order, row, n, prepared, prepared_stride, columns, y, y_stride, scratch);
        return;
    }
    const uint64_t padded = uw_padded(piece->k), tile = order == UW_PLAIN ? 2 * PAIRS : UW_TILE_ROWS;
    float *rows = scratch, *paired = rows + 2 * PAIRS * padded;
    /* Sums of rows that are not there are formed too, and dropped. */
    if (order == UW_PLAIN) memset(paired, 0, 2 * PAIRS * padded * sizeof *paired);
    for (uint64_t i = 0, now; i < n; i += now) {
        now = n - i < tile ? n - i : tile;
        expand(piece, UW_F32, row + i, now, rows);
        if (order == UW_PLAIN) {
            plain_sums(rows, now, padded, prepared, prepared_stride, piece->k, columns, y + i, y_stride, paired);
            continue;
        }
        for (uint64_t c = 0; c < columns; c++)
            for (uint64_t r = 0; r < now; r++)
                y[c * y_stride + i + r] =
                    sum_lanes(order, rows + r * padded, (const float *)((const uint8_t *)prepared + c * prepared_stride), piece->k);
    }
}

static void matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    matmul(piece, order, row, n, prepared, 0, 1, y, 0, scratch);
}

static void plain_matvec(const void *weights, uw_number number, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y,
                         void *scratch) {
    uw_kernels_scalar.plain_matvec(weights, number, order, n, k, prepared, y, scratch);
}

const uw_kernels uw_kernels_ssse3 = {decode, expand, prepare, matvec, matmul, plain_matvec};
