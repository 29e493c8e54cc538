/* AVX2 and FMA (Haswell, Zen and later). Also serves the AVX-512 orders that need no vdpbf16ps: their 16 lanes are two registers. */
#include "lookup_x86.h"
#include "order.h"

#define LOOKUP __m256i

UW_INLINE __m256i lookup_of(const uw_piece *piece) { return palette_of(piece); }
UW_INLINE void lookup_group(const __m256i *palette, const uint8_t *in, uint8_t *out) {
    lookup3_32(*palette, in, 64, out);
    lookup3_32(*palette, in + 32, 64, out + 32);
}
UW_INLINE void lookup_part(const __m256i *palette, const uint8_t *in, uint64_t w, uint8_t *out) { lookup3_part(*palette, in, w, out); }
UW_INLINE void lookup_block4(const __m256i *palette, const uint8_t *in, uint8_t *out) { lookup4_block(*palette, in, out); }

UW_INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* The words of a block in natural order, 16 each. */
UW_INLINE void words_of(const uint8_t *high, const uint8_t *low, const int shift, __m256i words[4]) {
    for (int half = 0; half < 2; half++) {
        const __m256i h = load(high + 32 * half), l = load(low + 32 * half);
        words[half] = _mm256_unpacklo_epi8(l, h);
        words[half + 2] = _mm256_unpackhi_epi8(l, h);
    }
    if (shift)
        for (int q = 0; q < 4; q++) words[q] = _mm256_sub_epi16(words[q], _mm256_set1_epi16(128));
}

/* Sixteen words from bytes in natural order. */
UW_INLINE __m256i words_of_16(const uint8_t *high, const uint8_t *low, const int shift) {
    const __m256i h = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)high));
    const __m256i l = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)low));
    return _mm256_sub_epi16(_mm256_or_si256(_mm256_slli_epi16(h, 8), l), _mm256_set1_epi16((short)(shift * 128)));
}

UW_INLINE void store_words(const uint8_t *high, const uint8_t *low, const int shift, uint16_t *out) {
    __m256i words[4];
    words_of(high, low, shift, words);
    for (int q = 0; q < 4; q++) _mm256_storeu_si256((__m256i *)(out + 16 * q), words[q]);
}

UW_INLINE void store_16(const uint8_t *high, const uint8_t *low, const int shift, uint16_t *out) {
    _mm256_storeu_si256((__m256i *)out, words_of_16(high, low, shift));
}

#include "segment.h"

/* Sixteen words as floats in natural order. */
UW_INLINE void store_floats(__m256i words, float *out) {
    const __m128i halves[2] = {_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)};
    for (int h = 0; h < 2; h++)
        _mm256_storeu_ps(out + 8 * h, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves[h]), 16)));
}

/* As store_end(), as floats and with zeros to the end of a block. */
UW_INLINE void widen_end(const uint8_t *high, const uint8_t *low, uint64_t n, const int shift, float *out) {
    memset(out, 0, UW_BLOCK * sizeof *out);
    for (; n >= 16; n -= 16, high += 16, low += 16, out += 16) store_floats(words_of_16(high, low, shift), out);
    for (uint64_t i = 0; i < n; i++) out[i] = uw_bf16_to_f32(uw_word(high[i], low[i], shift));
}

/* Rows as floats, with zeros to the end of their last block. */
UW_INLINE void widen_rows(const uw_piece *piece, const int code_bits, const int shift, uint64_t row, uint64_t n, float *out) {
    const uint64_t blocks = uw_blocks(piece->k), full = piece->k / UW_BLOCK, left = piece->k % UW_BLOCK, padded = uw_padded(piece->k);
    walk w;
    walk_start(&w, piece);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *low = piece->low + (row + i) * piece->k, *high = NULL;
        float *to = out + i * padded;
        for (uint64_t from = 0; from < blocks; from += STRETCH_BLOCKS) {
            high = high_bytes(&w, code_bits, row + i, from);
            const uint64_t now = blocks_from(full, from);
            for (uint64_t b = 0; b < now; b++, low += UW_BLOCK, high += UW_BLOCK, to += UW_BLOCK) {
                UW_PREFETCH_LINE(low + UW_PREFETCH);
                __m256i words[4];
                words_of(high, low, shift, words);
                for (int q = 0; q < 4; q++) store_floats(words[q], to + 16 * q);
            }
        }
        if (left == 0) continue;
        UW_PREFETCH_LINE(low + UW_PREFETCH);
        widen_end(high, low, left, shift, to);
    }
}

static void expand_floats(const uw_piece *piece, uint64_t row, uint64_t n, float *out) {
#define CALL(code_bits, shift) widen_rows(piece, code_bits, shift, row, n, out)
    FOR_EACH_FORM(piece, CALL);
#undef CALL
}

/* Words to floats, every second one: cheaper than natural order, and a sum does not care which lane holds which residue as long as
 * activations agree and the lanes are put back before they are added up. */
UW_INLINE __m256 widen_even(__m256i words) { return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16)); }
UW_INLINE __m256 widen_odd(__m256i words) {
    return _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32((int)0xFFFF0000)));
}

/* Where a dot order's activation i stands: of each 16, first the even ones. */
UW_INLINE uint64_t parted(uint64_t i) {
    uint64_t in = i % 16;
    return i - in + in % 2 * 8 + in / 2;
}

UW_INLINE int is_dot(uw_order order) { return order == UW_DOT_AVX2 || order == UW_DOT_AVX512; }
UW_INLINE int is_ours(uw_order order) { return is_dot(order) || order == UW_TILE_AVX2 || order == UW_TILE_AVX512; }

/* Who computes the orders that AVX2 has no part in. */
UW_INLINE const uw_kernels *others(uw_order order) {
    return order == UW_DOT_PLAIN || order == UW_DOT_AVX ? &uw_kernels_ssse3 : &uw_kernels_scalar;
}

static void prepare(uw_order order, const float *x, uint64_t k, void *prepared) {
    if (!is_ours(order)) {
        others(order)->prepare(order, x, k, prepared);
        return;
    }
    for (uint64_t i = 0; i < uw_padded(k); i += 16) {
        uint16_t words[16] = {0};
        for (uint64_t j = 0; j < 16 && i + j < k; j++) words[j] = uw_f32_to_bf16(x[i + j]);
        float *out = (float *)prepared + i;
        if (is_dot(order)) {
            _mm256_storeu_ps(out, widen_even(load(words)));
            _mm256_storeu_ps(out + 8, widen_odd(load(words)));
        } else {
            store_floats(load(words), out);
        }
    }
}

UW_INLINE float sum8(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_extractf128_ps(v, 1), _mm256_castps256_ps128(v));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* Two accumulators of even and odd lanes as two of natural lanes. */
UW_INLINE void unpart(__m256 even, __m256 odd, __m256 *first, __m256 *second) {
    __m256 lo = _mm256_unpacklo_ps(even, odd), hi = _mm256_unpackhi_ps(even, odd);
    *first = _mm256_permute2f128_ps(lo, hi, 0x20);
    *second = _mm256_permute2f128_ps(lo, hi, 0x31);
}

/* The four accumulators of a dot order to the sum of its full steps. */
UW_INLINE double finish_dot(uw_order order, const __m256 acc[4]) {
    __m256 c1, c2, c3, c4;
    unpart(acc[0], acc[1], &c1, &c2);
    unpart(acc[2], acc[3], &c3, &c4);
    if (order == UW_DOT_AVX2) return (double)sum8(_mm256_add_ps(_mm256_add_ps(c1, c3), _mm256_add_ps(c2, c4)));
    double sum = (double)sum8(_mm256_add_ps(c2, c1));
    return sum + (double)sum8(_mm256_add_ps(c4, c3));
}

UW_INLINE double tail_parted(double sum, const uint16_t *w, const float *x, uint64_t from, uint64_t k) {
    for (uint64_t i = from; i < k; i++) sum += (double)(uw_bf16_to_f32(w[i]) * x[parted(i)]);
    return sum;
}

UW_INLINE void accumulate(__m256i words, const float *x, __m256 acc[2]) {
    acc[0] = _mm256_fmadd_ps(widen_even(words), _mm256_loadu_ps(x), acc[0]);
    acc[1] = _mm256_fmadd_ps(widen_odd(words), _mm256_loadu_ps(x + 8), acc[1]);
}

UW_INLINE void dot_rows(const uw_piece *piece, const int code_bits, const int shift, uw_order order, uint64_t row, uint64_t n,
                        const float *x, float *y) {
    const uint64_t blocks = uw_blocks(piece->k), full = piece->k / UW_BLOCK, left = piece->k % UW_BLOCK;
    walk w;
    walk_start(&w, piece);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *low = piece->low + (row + i) * piece->k, *high = NULL;
        const float *xb = x;
        __m256 acc[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
        __m256i words[4];
        for (uint64_t from = 0; from < blocks; from += STRETCH_BLOCKS) {
            high = high_bytes(&w, code_bits, row + i, from);
            const uint64_t now = blocks_from(full, from);
            for (uint64_t b = 0; b < now; b++, low += UW_BLOCK, high += UW_BLOCK, xb += UW_BLOCK) {
                UW_PREFETCH_LINE(low + UW_PREFETCH);
                words_of(high, low, shift, words);
                for (int q = 0; q < 4; q++) accumulate(words[q], xb + 16 * q, acc + q % 2 * 2);
            }
        }
        if (left == 0) {
            y[i] = (float)finish_dot(order, acc);
            continue;
        }
        UW_PREFETCH_LINE(low + UW_PREFETCH);
        const uint64_t step = left / 32 * 32;
        if (step > 0)
            for (int h = 0; h < 2; h++) accumulate(words_of_16(high + 16 * h, low + 16 * h, shift), xb + 16 * h, acc + 2 * h);
        uint16_t tail[32];
        store_end(high + step, low + step, left - step, shift, tail);
        y[i] = (float)tail_parted(finish_dot(order, acc), tail, xb + step, 0, left - step);
    }
}

#define VEC __m256
#define VEC_ZERO _mm256_setzero_ps()
#define STEP 8
#define OPERAND __m256
#define ELEMENT float
#define W_LOAD(w, a) _mm256_loadu_ps(w)
#define X_LOAD(x, i, a) _mm256_loadu_ps((const float *)(x) + (i))
#define MADD(acc, w, x) _mm256_fmadd_ps(w, x, acc)
#define ACCS 1
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 3
#define FINISH(accs, w, x, k) ((void)(w), (void)(x), (void)(k), sum8((accs)[0]))
#define GEMM tile_8
#include "gemm.h"

#define VEC __m256
#define VEC_ZERO _mm256_setzero_ps()
#define STEP 16
#define OPERAND __m256
#define ELEMENT float
#define W_LOAD(w, a) _mm256_loadu_ps((w) + 8 * (a))
#define X_LOAD(x, i, a) _mm256_loadu_ps((const float *)(x) + (i) + 8 * (a))
#define MADD(acc, w, x) _mm256_fmadd_ps(w, x, acc)
#define ACCS 2
#define ROWS_AT_ONCE 3
#define COLUMNS_AT_ONCE 2
#define FINISH(accs, w, x, k) ((void)(w), (void)(x), (void)(k), sum8(_mm256_add_ps((accs)[1], (accs)[0])))
#define GEMM tile_16
#include "gemm.h"

#define PARTED_W_LOAD(w, a) ((a) % 2 ? widen_odd(load((w) + (a) / 2 * 16)) : widen_even(load((w) + (a) / 2 * 16)))
#define PARTED_FINISH(order, accs, w, x, k) \
    (float)tail_parted(finish_dot(order, accs), w, (const float *)(x), (k) / 32 * 32, k)

#define VEC __m256
#define VEC_ZERO _mm256_setzero_ps()
#define STEP 32
#define OPERAND __m256
#define ELEMENT uint16_t
#define W_LOAD(w, a) PARTED_W_LOAD(w, a)
#define X_LOAD(x, i, a) _mm256_loadu_ps((const float *)(x) + (i) + 8 * (a))
#define MADD(acc, w, x) _mm256_fmadd_ps(w, x, acc)
#define ACCS 4
#define ROWS_AT_ONCE 3
#define COLUMNS_AT_ONCE 1
#define FINISH(accs, w, x, k) PARTED_FINISH(UW_DOT_AVX2, accs, w, x, k)
#define GEMM dot_8
#include "gemm.h"

#define VEC __m256
#define VEC_ZERO _mm256_setzero_ps()
#define STEP 32
#define OPERAND __m256
#define ELEMENT uint16_t
#define W_LOAD(w, a) PARTED_W_LOAD(w, a)
#define X_LOAD(x, i, a) _mm256_loadu_ps((const float *)(x) + (i) + 8 * (a))
#define MADD(acc, w, x) _mm256_fmadd_ps(w, x, acc)
#define ACCS 4
#define ROWS_AT_ONCE 3
#define COLUMNS_AT_ONCE 1
#define FINISH(accs, w, x, k) PARTED_FINISH(UW_DOT_AVX512, accs, w, x, k)
#define GEMM dot_16
#include "gemm.h"

static void matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch);

static void matmul(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch) {
    if (!is_ours(order)) {
        others(order)->matmul(piece, order, row, n, prepared, prepared_stride, columns, y, y_stride, scratch);
        return;
    }
    if (columns == 1 && is_dot(order)) {
        matvec(piece, order, row, n, prepared, y, scratch);
        return;
    }
    const uint64_t k = piece->k, padded = uw_padded(k), tile = tile_rows(piece, columns);
    for (uint64_t i = 0; i < n; i += tile) {
        uint64_t rows = n - i < tile ? n - i : tile;
        if (is_dot(order)) decode_bf16(piece, row + i, rows, scratch, padded);
        else expand_floats(piece, row + i, rows, scratch);
        float *to = y + i;
        switch (order) {
        case UW_TILE_AVX2: tile_8(scratch, padded, rows, prepared, prepared_stride, columns, (k + 7) / 8, k, to, y_stride); break;
        case UW_TILE_AVX512: tile_16(scratch, padded, rows, prepared, prepared_stride, columns, (k + 15) / 16, k, to, y_stride); break;
        case UW_DOT_AVX2: dot_8(scratch, padded, rows, prepared, prepared_stride, columns, k / 32, k, to, y_stride); break;
        default: dot_16(scratch, padded, rows, prepared, prepared_stride, columns, k / 32, k, to, y_stride);
        }
    }
}

static void matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    if (!is_dot(order)) {
        matmul(piece, order, row, n, prepared, 0, 1, y, 0, scratch);
        return;
    }
#define CALL(code_bits, shift) dot_rows(piece, code_bits, shift, order, row, n, prepared, y)
    FOR_EACH_FORM(piece, CALL);
#undef CALL
}

static void plain_matvec(const uint16_t *weights, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y) {
    if (!is_dot(order)) {
        others(order)->plain_matvec(weights, order, n, k, prepared, y);
        return;
    }
    const float *x = prepared;
    for (uint64_t r = 0; r < n; r++, weights += k) {
        __m256 acc[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
        uint64_t i = 0;
        for (; i + 32 <= k; i += 32)
            for (int h = 0; h < 2; h++) accumulate(load(weights + i + 16 * h), x + i + 16 * h, acc + 2 * h);
        y[r] = (float)tail_parted(finish_dot(order, acc), weights, x, i, k);
    }
}

const uw_kernels uw_kernels_avx2 = {decode_bf16, prepare, matvec, plain_matvec, matmul};
