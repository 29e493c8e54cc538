/* AVX-512 with F, BW, DQ and VL, as a template: avx512.c is compiled for that much (Skylake-X and later), avx512bf16.c for
 * vdpbf16ps too (Cooper Lake, Zen 4 and later). The including file defines KERNELS, the name of the table of functions. */
#include "lookup_x86.h"
#include "order.h"

typedef struct lookup {
    __m512i palette;
    __m256i half;
} lookup;
#define LOOKUP lookup

UW_INLINE lookup lookup_of(const uw_piece *piece) {
    const __m256i half = palette_of(piece);
    return (lookup){_mm512_broadcast_i64x4(half), half};
}

/* As lookup3_32, on twice the width. */
UW_INLINE void lookup_group(const lookup *l, const uint8_t *in, uint8_t *out) {
    const __m512i without_top = _mm512_set1_epi8(0x7F), nibble = _mm512_set1_epi8(15), tops = _mm512_set1_epi8((char)0x88);
    const __m512i a = _mm512_loadu_si512(in), b = _mm512_loadu_si512(in + 64), c = _mm512_loadu_si512(in + 128);
    const __m512i rest = _mm512_ternarylogic_epi32(_mm512_srli_epi16(_mm512_and_si512(a, tops), 3),
                                                   _mm512_srli_epi16(_mm512_and_si512(b, tops), 2),
                                                   _mm512_srli_epi16(_mm512_and_si512(c, tops), 1), 0xFE);
#define PUT(v, codes) _mm512_store_si512(out + 64 * (v), _mm512_shuffle_epi8(l->palette, codes))
    PUT(0, _mm512_and_si512(a, without_top));
    PUT(1, _mm512_and_si512(_mm512_srli_epi16(a, 4), nibble));
    PUT(2, _mm512_and_si512(b, without_top));
    PUT(3, _mm512_and_si512(_mm512_srli_epi16(b, 4), nibble));
    PUT(4, _mm512_and_si512(c, without_top));
    PUT(5, _mm512_and_si512(_mm512_srli_epi16(c, 4), nibble));
    PUT(6, rest);
    PUT(7, _mm512_srli_epi16(rest, 4));
#undef PUT
}

UW_INLINE void lookup_part(const lookup *l, const uint8_t *in, uint64_t w, uint8_t *out) { lookup3_part(l->half, in, w, out); }
UW_INLINE void lookup_block4(const lookup *l, const uint8_t *in, uint8_t *out) { lookup4_block(l->half, in, out); }

UW_INLINE __m512i load(const void *p) { return _mm512_loadu_si512(p); }

/* The words of a block in natural order: 0 to 31 in *a, 32 to 63 in *b. */
UW_INLINE void words_of(const uint8_t *high, const uint8_t *low, const int shift, __m512i *a, __m512i *b) {
    const __m512i h = load(high), l = load(low);
    *a = _mm512_unpacklo_epi8(l, h);
    *b = _mm512_unpackhi_epi8(l, h);
    if (shift) {
        *a = _mm512_sub_epi16(*a, _mm512_set1_epi16(128));
        *b = _mm512_sub_epi16(*b, _mm512_set1_epi16(128));
    }
}

UW_INLINE void store_words(const uint8_t *high, const uint8_t *low, const int shift, uint16_t *out) {
    __m512i a, b;
    words_of(high, low, shift, &a, &b);
    _mm512_storeu_si512(out, a);
    _mm512_storeu_si512(out + 32, b);
}

/* As many words from bytes in natural order as a register of half the width holds. */
UW_INLINE void store_16(const uint8_t *high, const uint8_t *low, const int shift, uint16_t *out) {
    const __m256i h = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)high));
    const __m256i l = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)low));
    const __m256i stored = _mm256_or_si256(_mm256_slli_epi16(h, 8), l);
    _mm256_storeu_si256((__m256i *)out, _mm256_sub_epi16(stored, _mm256_set1_epi16((short)(shift * 128))));
}

/* The same for 32. */
UW_INLINE __m512i words_of_32(const uint8_t *high, const uint8_t *low, const int shift) {
    const __m512i h = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)high));
    const __m512i l = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)low));
    return _mm512_sub_epi16(_mm512_or_si512(_mm512_slli_epi16(h, 8), l), _mm512_set1_epi16((short)(shift * 128)));
}

#include "segment.h"

/* Sixteen words to floats in natural order. */
UW_INLINE __m512 widen(__m256i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16)); }

/* Rows as words, with zeros to the end of their last block. */
static void expand(const uw_piece *piece, uint64_t row, uint64_t n, uint16_t *out) {
#define CALL(code_bits, shift) decode_rows(piece, code_bits, shift, 1, row, n, out, uw_padded(piece->k))
    FOR_EACH_FORM(piece, CALL);
#undef CALL
}

/* Words to floats, every second one, as in avx2.c. */
UW_INLINE __m512 widen_even(__m512i words) { return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)); }
UW_INLINE __m512 widen_odd(__m512i words) {
    return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32((int)0xFFFF0000)));
}
/* Where a UW_DOT_AVX512 activation i stands: of each 32, first the even ones. */
UW_INLINE uint64_t parted(uint64_t i) {
    uint64_t in = i % 32;
    return i - in + in % 2 * 16 + in / 2;
}

UW_INLINE int is_ours(uw_order order) {
#ifdef __AVX512BF16__
    if (uw_order_is_bf16(order)) return 1;
#endif
    return order == UW_DOT_AVX512 || order == UW_TILE_AVX512;
}
UW_INLINE int is_dot(uw_order order) { return order == UW_DOT_AVX512 || order == UW_DOT_AVX512BF16; }

/* Who computes the orders that this instruction set has no part in. */
UW_INLINE const uw_kernels *others(uw_order order) { return uw_order_is_bf16(order) ? &uw_kernels_scalar : &uw_kernels_avx2; }

/* Activations. BF16 orders: words. UW_DOT_AVX512: floats, parted. UW_TILE_AVX512: floats. */
static void prepare(uw_order order, const float *x, uint64_t k, void *prepared) {
    if (!is_ours(order)) {
        others(order)->prepare(order, x, k, prepared);
        return;
    }
    for (uint64_t i = 0; i < uw_padded(k); i += 32) {
        __m256i words[2];
        for (int h = 0; h < 2; h++) {
            uint64_t from = i + 16 * (uint64_t)h, left = from < k ? k - from : 0;
            __m512i bits = _mm512_maskz_loadu_epi32((__mmask16)(left >= 16 ? 0xFFFF : (1u << left) - 1), x + from);
            __mmask16 nan = _mm512_cmpgt_epu32_mask(_mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF)), _mm512_set1_epi32(0x7F800000));
            __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
            __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF))), 16);
            words[h] = _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, _mm512_srli_epi32(bits, 16), _mm512_set1_epi32(64)));
        }
        float *out = (float *)prepared + i;
        if (uw_order_is_bf16(order)) {
            _mm256_storeu_si256((__m256i *)((uint16_t *)prepared + i), words[0]);
            _mm256_storeu_si256((__m256i *)((uint16_t *)prepared + i + 16), words[1]);
        } else if (order == UW_TILE_AVX512) {
            _mm512_storeu_ps(out, widen(words[0]));
            _mm512_storeu_ps(out + 16, widen(words[1]));
        } else {
            __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(words[0]), words[1], 1);
            _mm512_storeu_ps(out, widen_even(all));
            _mm512_storeu_ps(out + 16, widen_odd(all));
        }
    }
}

/* Sums of parted lanes to the sum of the full steps of UW_DOT_AVX512. */
UW_INLINE double finish_parted(__m512 even, __m512 odd) {
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    double sum = (double)_mm512_reduce_add_ps(_mm512_permutex2var_ps(even, first, odd));
    return sum + (double)_mm512_reduce_add_ps(_mm512_permutex2var_ps(even, second, odd));
}

UW_INLINE double tail_parted(double sum, const uint16_t *w, const float *x, uint64_t from, uint64_t k) {
    for (uint64_t i = from; i < k; i++) sum += (double)(uw_bf16_to_f32(w[i]) * x[parted(i)]);
    return sum;
}

#ifdef __AVX512BF16__
UW_INLINE double finish_bf16(__m512 first, __m512 second) {
    return (double)_mm512_reduce_add_ps(first) + (double)_mm512_reduce_add_ps(second);
}

UW_INLINE double tail_words(double sum, const uint16_t *w, const uint16_t *x, uint64_t from, uint64_t k) {
    for (uint64_t i = from; i < k; i++) sum += (double)(uw_bf16_to_f32(w[i]) * uw_bf16_to_f32(x[i]));
    return sum;
}
#endif

/* The words of a block, or of its first half, with the activations of their order. */
UW_INLINE void accumulate(const int bf16, const int half, __m512i a, __m512i b, const uint8_t *x, __m512 acc[2]) {
#ifdef __AVX512BF16__
    if (bf16) {
        acc[0] = _mm512_dpbf16_ps(acc[0], (__m512bh)a, (__m512bh)load(x));
        acc[1] = _mm512_dpbf16_ps(acc[1], (__m512bh)b, (__m512bh)load(x + 64));
        return;
    }
#endif
    (void)bf16;
    acc[0] = _mm512_fmadd_ps(widen_even(a), _mm512_loadu_ps((const float *)x), acc[0]);
    acc[1] = _mm512_fmadd_ps(widen_odd(a), _mm512_loadu_ps((const float *)x + 16), acc[1]);
    if (half) return;
    acc[0] = _mm512_fmadd_ps(widen_even(b), _mm512_loadu_ps((const float *)x + 32), acc[0]);
    acc[1] = _mm512_fmadd_ps(widen_odd(b), _mm512_loadu_ps((const float *)x + 48), acc[1]);
}

UW_INLINE void dot_rows(const uw_piece *piece, const int code_bits, const int shift, const int bf16, uint64_t row, uint64_t n,
                        const uint8_t *x, float *y) {
    const uint64_t blocks = uw_blocks(piece->k), full = piece->k / UW_BLOCK, left = piece->k % UW_BLOCK;
    const uint64_t x_block = UW_BLOCK * (bf16 ? sizeof(uint16_t) : sizeof(float));
    walk w;
    walk_start(&w, piece);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *low = piece->low + (row + i) * piece->k, *high = NULL, *xb = x;
        __m512 acc[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        __m512i a, b;
        for (uint64_t from = 0; from < blocks; from += STRETCH_BLOCKS) {
            high = high_bytes(&w, code_bits, row + i, from);
            const uint64_t now = blocks_from(full, from);
            for (uint64_t j = 0; j < now; j++, low += UW_BLOCK, high += UW_BLOCK, xb += x_block) {
                UW_PREFETCH_LINE(low + UW_PREFETCH);
                words_of(high, low, shift, &a, &b);
                accumulate(bf16, 0, a, b, xb, acc);
            }
        }
        uint64_t rest = left;
        uint16_t tail[UW_BLOCK];
        if (left > 0) {
            UW_PREFETCH_LINE(low + UW_PREFETCH);
            if (!bf16 && left >= 32) {
                a = words_of_32(high, low, shift);
                accumulate(bf16, 1, a, a, xb, acc);
                rest -= 32, high += 32, low += 32, xb += 32 * sizeof(float);
            }
            store_end(high, low, rest, shift, tail);
        }
#ifdef __AVX512BF16__
        if (bf16) {
            y[i] = (float)tail_words(finish_bf16(acc[0], acc[1]), tail, (const uint16_t *)xb, 0, rest);
            continue;
        }
#endif
        y[i] = (float)tail_parted(finish_parted(acc[0], acc[1]), tail, (const float *)xb, 0, rest);
    }
}

#ifdef __AVX512BF16__
#define VEC __m512
#define VEC_ZERO _mm512_setzero_ps()
#define STEP 32
#define OPERAND __m512bh
#define ELEMENT uint16_t
#define W_LOAD(w, a) ((__m512bh)load(w))
#define X_LOAD(x, i, a) ((__m512bh)load((const uint16_t *)(x) + (i)))
#define MADD(acc, w, x) _mm512_dpbf16_ps(acc, w, x)
#define ACCS 1
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 6
#define FINISH(accs, w, x, k) ((void)(w), (void)(x), (void)(k), _mm512_reduce_add_ps((accs)[0]))
#define GEMM tile_bf16
#include "gemm.h"

#define VEC __m512
#define VEC_ZERO _mm512_setzero_ps()
#define STEP 64
#define OPERAND __m512bh
#define ELEMENT uint16_t
#define W_LOAD(w, a) ((__m512bh)load((w) + 32 * (a)))
#define X_LOAD(x, i, a) ((__m512bh)load((const uint16_t *)(x) + (i) + 32 * (a)))
#define MADD(acc, w, x) _mm512_dpbf16_ps(acc, w, x)
#define ACCS 2
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 3
#define FINISH(accs, w, x, k) \
    (float)tail_words(finish_bf16((accs)[0], (accs)[1]), w, (const uint16_t *)(x), (k) / 64 * 64, k)
#define GEMM dot_bf16
#include "gemm.h"
#endif

#define VEC __m512
#define VEC_ZERO _mm512_setzero_ps()
#define STEP 16
#define OPERAND __m512
#define ELEMENT uint16_t
#define W_LOAD(w, a) widen(_mm256_loadu_si256((const __m256i *)(w)))
#define X_LOAD(x, i, a) _mm512_loadu_ps((const float *)(x) + (i))
#define MADD(acc, w, x) _mm512_fmadd_ps(w, x, acc)
#define ACCS 1
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 6
#define FINISH(accs, w, x, k) ((void)(w), (void)(x), (void)(k), _mm512_reduce_add_ps((accs)[0]))
#define GEMM tile_f32
#include "gemm.h"

#define VEC __m512
#define VEC_ZERO _mm512_setzero_ps()
#define STEP 32
#define OPERAND __m512
#define ELEMENT uint16_t
#define W_LOAD(w, a) ((a) ? widen_odd(load(w)) : widen_even(load(w)))
#define X_LOAD(x, i, a) _mm512_loadu_ps((const float *)(x) + (i) + 16 * (a))
#define MADD(acc, w, x) _mm512_fmadd_ps(w, x, acc)
#define ACCS 2
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 3
#define FINISH(accs, w, x, k) \
    (float)tail_parted(finish_parted((accs)[0], (accs)[1]), w, (const float *)(x), (k) / 32 * 32, k)
#define GEMM dot_f32
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
        expand(piece, row + i, rows, scratch);
        float *to = y + i;
        switch (order) {
#ifdef __AVX512BF16__
        case UW_TILE_AVX512BF16:
            tile_bf16(scratch, padded, rows, prepared, prepared_stride, columns, (k + 31) / 32, k, to, y_stride);
            break;
        case UW_DOT_AVX512BF16: dot_bf16(scratch, padded, rows, prepared, prepared_stride, columns, k / 64, k, to, y_stride); break;
#endif
        case UW_TILE_AVX512: tile_f32(scratch, padded, rows, prepared, prepared_stride, columns, (k + 15) / 16, k, to, y_stride); break;
        default: dot_f32(scratch, padded, rows, prepared, prepared_stride, columns, k / 32, k, to, y_stride);
        }
    }
}

static void matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    if (!is_ours(order)) {
        others(order)->matvec(piece, order, row, n, prepared, y, scratch);
        return;
    }
    if (!is_dot(order)) {
        matmul(piece, order, row, n, prepared, 0, 1, y, 0, scratch);
        return;
    }
#ifdef __AVX512BF16__
    if (order == UW_DOT_AVX512BF16) {
#define CALL(code_bits, shift) dot_rows(piece, code_bits, shift, 1, row, n, prepared, y)
        FOR_EACH_FORM(piece, CALL);
#undef CALL
        return;
    }
#endif
#define CALL(code_bits, shift) dot_rows(piece, code_bits, shift, 0, row, n, prepared, y)
    FOR_EACH_FORM(piece, CALL);
#undef CALL
}

#ifdef __AVX512BF16__
/* UW_TILE_AVX512BF16 with a plain row; its last step goes on with zeros. */
UW_INLINE float tile_plain(const uint16_t *w, const uint16_t *x, uint64_t k) {
    __m512 acc = _mm512_setzero_ps();
    for (uint64_t i = 0; i < k; i += 32) {
        const __mmask32 in = k - i >= 32 ? UINT32_MAX : (1u << (k - i)) - 1;
        acc = _mm512_dpbf16_ps(acc, (__m512bh)_mm512_maskz_loadu_epi16(in, w + i), (__m512bh)load(x + i));
    }
    return _mm512_reduce_add_ps(acc);
}
#endif

static void plain_matvec(const uint16_t *weights, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y) {
#ifdef __AVX512BF16__
    if (order == UW_TILE_AVX512BF16) {
        for (uint64_t r = 0; r < n; r++) y[r] = tile_plain(weights + r * k, prepared, k);
        return;
    }
#endif
    if (!is_ours(order) || !is_dot(order)) {
        others(order)->plain_matvec(weights, order, n, k, prepared, y);
        return;
    }
    for (uint64_t r = 0; r < n; r++, weights += k) {
        __m512 acc[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        uint64_t i = 0;
#ifdef __AVX512BF16__
        if (order == UW_DOT_AVX512BF16) {
            const uint16_t *x = prepared;
            for (; i + UW_BLOCK <= k; i += UW_BLOCK)
                accumulate(1, 0, load(weights + i), load(weights + i + 32), (const uint8_t *)(x + i), acc);
            y[r] = (float)tail_words(finish_bf16(acc[0], acc[1]), weights, x, i, k);
            continue;
        }
#endif
        const float *x = prepared;
        for (; i + 32 <= k; i += 32) accumulate(0, 1, load(weights + i), load(weights + i), (const uint8_t *)(x + i), acc);
        y[r] = (float)tail_parted(finish_parted(acc[0], acc[1]), weights, x, i, k);
    }
}

const uw_kernels KERNELS = {decode_bf16, prepare, matvec, plain_matvec, matmul};
