/* AVX-512 with VBMI and VBMI2 (Ice Lake, Zen 4 and later); vdpbf16ps where the order asks for it and the machine has it. */
#include <immintrin.h>

#include "order.h"

#define INLINE static inline __attribute__((always_inline))

/* What the decoding of every block of a tensor needs. */
typedef struct decoder {
    __m512i lut;          /* rotated exponent by code, repeated: index bits above the code do no harm */
    __m512i marker;
    __m512i field_shift;  /* brings the field of each 16 (or 32) places down */
    __m512i bit_rotate;   /* brings the third bit of each 8 places to bit 2 */
    const uint8_t *escapes;
    uint64_t n_escapes;
} decoder;

INLINE decoder decoder_of(const uw_tensor *t) {
    uint8_t lut[64];
    uint32_t codes = 1u << t->code_bits;
    for (uint32_t i = 0; i < 64; i++) lut[i] = t->palette[i % codes];
    decoder d = {
        .lut = _mm512_loadu_si512(lut),
        .marker = _mm512_set1_epi8((char)t->marker),
        .bit_rotate = _mm512_setr_epi64(62, 63, 0, 1, 2, 3, 4, 5),
        .escapes = t->escapes,
        .n_escapes = t->n_escapes,
    };
    d.field_shift = t->code_bits == 3 ? _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6)
                                      : _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4);
    return d;
}

/* 64 weights: words 0 to 31 in *a, 32 to 63 in *b. Reads 64 bytes at sm, code_bytes at codes, 64 at the escapes' position. */
INLINE void decode_block(const decoder *d, const int code_bits, const uint8_t *sm, const uint8_t *codes, uint64_t *escape,
                         __m512i *a, __m512i *b) {
    const __m512i sign = _mm512_set1_epi8((char)0x80);
    __m512i index;
    if (code_bits == 3) {
        uint64_t high;
        memcpy(&high, codes + 16, sizeof high);
        __m512i low = _mm512_srlv_epi32(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)codes)), d->field_shift);
        index = _mm512_ternarylogic_epi32(_mm512_set1_epi8(4), _mm512_rorv_epi64(_mm512_set1_epi64((long long)high), d->bit_rotate),
                                          low, 0xCA);
    } else {
        index = _mm512_srlv_epi32(_mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)codes)), d->field_shift);
    }
    __m512i rotated = _mm512_permutexvar_epi8(index, d->lut);
    __mmask64 escaped = _mm512_cmpeq_epi8_mask(rotated, d->marker);
    rotated = _mm512_mask_expand_epi8(rotated, escaped, _mm512_loadu_si512(d->escapes + *escape));
    uint64_t next = *escape + (uint64_t)_mm_popcnt_u64(escaped);
    *escape = next < d->n_escapes ? next : d->n_escapes;
    __m512i sign_mantissa = _mm512_loadu_si512(sm);
    __m512i hi = _mm512_ternarylogic_epi32(sign, sign_mantissa, rotated, 0xCA);
    __m512i lo = _mm512_ternarylogic_epi32(sign, rotated, sign_mantissa, 0xCA);
    *a = _mm512_unpacklo_epi8(lo, hi);
    *b = _mm512_unpackhi_epi8(lo, hi);
}

/* One row's place in the streams. */
typedef struct stream {
    const uint8_t *sm, *codes;
    uint64_t escape;
} stream;

INLINE stream stream_of(const uw_tensor *t, uint64_t row) {
    uint64_t block = row * t->blocks;
    stream s = {t->sm + block * UW_BLOCK, t->codes + block * t->code_bytes, uw_row_start(t, row)};
    return s;
}

INLINE void next_block(const decoder *d, const int code_bits, stream *s, __m512i *a, __m512i *b) {
    _mm_prefetch((const char *)s->sm + UW_PREFETCH, _MM_HINT_T1);
    _mm_prefetch((const char *)s->codes + UW_PREFETCH * 3 / 8, _MM_HINT_T1);
    decode_block(d, code_bits, s->sm, s->codes, &s->escape, a, b);
    s->sm += UW_BLOCK;
    s->codes += code_bits == 3 ? UW_CODE3_BYTES : UW_CODE4_BYTES;
}

/* A row as words, zeros up to the end of its last block. */
INLINE void expand_words(const uw_tensor *t, const decoder *d, const int code_bits, uint64_t row, uint16_t *out) {
    stream s = stream_of(t, row);
    for (uint64_t b = 0; b < t->blocks; b++) {
        __m512i lo, hi;
        next_block(d, code_bits, &s, &lo, &hi);
        _mm512_storeu_si512(out + b * UW_BLOCK, lo);
        _mm512_storeu_si512(out + b * UW_BLOCK + 32, hi);
    }
    uint64_t padded = t->blocks * UW_BLOCK;
    memset(out + t->k, 0, (padded - t->k) * sizeof *out);
}

static void decode_bf16(const uw_tensor *t, uint64_t row, uint64_t n, uint16_t *out, size_t stride) {
    const decoder d = decoder_of(t);
    for (uint64_t i = 0; i < n; i++) {
        stream s = stream_of(t, row + i);
        uint16_t *to = out + i * stride;
        for (uint64_t left = t->k; left > 0; left -= left < UW_BLOCK ? left : UW_BLOCK, to += UW_BLOCK) {
            __m512i lo, hi;
            if (t->code_bits == 3) next_block(&d, 3, &s, &lo, &hi);
            else next_block(&d, 4, &s, &lo, &hi);
            _mm512_mask_storeu_epi16(to, left >= 32 ? ~0u : (1u << left) - 1, lo);
            if (left > 32) _mm512_mask_storeu_epi16(to + 32, left >= 64 ? ~0u : (1u << (left - 32)) - 1, hi);
        }
    }
}

/* Words to floats by interleaving with zeros: lanes 0-3, 8-11, 16-19, 24-27 of 32 words, then the others. */
INLINE __m512 widen_lo(__m512i words) { return _mm512_castsi512_ps(_mm512_unpacklo_epi16(_mm512_setzero_si512(), words)); }
INLINE __m512 widen_hi(__m512i words) { return _mm512_castsi512_ps(_mm512_unpackhi_epi16(_mm512_setzero_si512(), words)); }
INLINE __m512i load(const void *p) { return _mm512_loadu_si512(p); }

/* Activations. BF16 orders: words. UW_DOT_AVX512: floats, each 32 in the order of widen_lo, widen_hi. UW_TILE_AVX512: floats. */
static void prepare(uw_order order, const float *x, uint64_t k, void *prepared) {
    if (order == UW_DOT_AVX2 || order == UW_TILE_AVX2) {
        uw_kernels_avx2.prepare(order, x, k, prepared);
        return;
    }
    if (order == UW_DOT_PLAIN) {
        uw_kernels_scalar.prepare(order, x, k, prepared);
        return;
    }
    uint64_t padded = uw_padded(k);
    const __m512i zero = _mm512_setzero_si512();
    for (uint64_t i = 0; i < padded; i += 32) {
        __m512i words[2];
        for (int h = 0; h < 2; h++) {
            uint64_t from = i + 16 * (uint64_t)h, left = from < k ? k - from : 0;
            __m512i bits = _mm512_maskz_loadu_epi32((__mmask16)(left >= 16 ? 0xFFFF : (1u << left) - 1), x + from);
            __mmask16 nan = _mm512_cmpgt_epu32_mask(_mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF)), _mm512_set1_epi32(0x7F800000));
            __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
            __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF))), 16);
            words[h] = _mm512_mask_or_epi32(rounded, nan, _mm512_srli_epi32(bits, 16), _mm512_set1_epi32(64));
        }
        if (uw_order_is_bf16(order)) {
            uint16_t *out = (uint16_t *)prepared + i;
            _mm256_storeu_si256((__m256i *)out, _mm512_cvtepi32_epi16(words[0]));
            _mm256_storeu_si256((__m256i *)(out + 16), _mm512_cvtepi32_epi16(words[1]));
        } else if (order == UW_TILE_AVX512) {
            _mm512_storeu_si512((float *)prepared + i, _mm512_slli_epi32(words[0], 16));
            _mm512_storeu_si512((float *)prepared + i + 16, _mm512_slli_epi32(words[1], 16));
        } else {
            __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(words[0])), _mm512_cvtepi32_epi16(words[1]), 1);
            _mm512_storeu_si512((float *)prepared + i, _mm512_unpacklo_epi16(zero, all));
            _mm512_storeu_si512((float *)prepared + i + 16, _mm512_unpackhi_epi16(zero, all));
        }
    }
}

/* Ends a UW_DOT_AVX512 sum kept in the lanes of widen_lo and widen_hi. */
INLINE double finish_permuted(__m512 lo, __m512 hi) {
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    double sum = (double)_mm512_reduce_add_ps(_mm512_permutex2var_ps(lo, first, hi));
    return sum + (double)_mm512_reduce_add_ps(_mm512_permutex2var_ps(lo, second, hi));
}

/* The natural place of a prepared float of UW_DOT_AVX512. */
INLINE uint64_t permuted(uint64_t i) {
    uint64_t in = i % 32;
    return i - in + (in / 4 % 2) * 16 + in / 8 * 4 + in % 4;
}

/* Sums of R rows at once share the loads of the activations. */
INLINE void dot_rows(const uw_tensor *t, const decoder *d, const int code_bits, const int bf16, const int rows, uint64_t row,
                     const void *prepared, float *y) {
    stream s[4];
    __m512 acc[4][2];
    for (int r = 0; r < rows; r++) {
        s[r] = stream_of(t, row + (uint64_t)r);
        acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    }
    const uint64_t full = t->k / UW_BLOCK;
    for (uint64_t b = 0; b < full; b++) {
        const float *xf = (const float *)prepared + b * UW_BLOCK;
        const uint16_t *xw = (const uint16_t *)prepared + b * UW_BLOCK;
        for (int r = 0; r < rows; r++) {
            __m512i lo, hi;
            next_block(d, code_bits, &s[r], &lo, &hi);
            if (bf16) {
                acc[r][0] = _mm512_dpbf16_ps(acc[r][0], (__m512bh)lo, (__m512bh)load(xw));
                acc[r][1] = _mm512_dpbf16_ps(acc[r][1], (__m512bh)hi, (__m512bh)load(xw + 32));
            } else {
                acc[r][0] = _mm512_fmadd_ps(widen_lo(lo), _mm512_loadu_ps(xf), acc[r][0]);
                acc[r][1] = _mm512_fmadd_ps(widen_hi(lo), _mm512_loadu_ps(xf + 16), acc[r][1]);
                acc[r][0] = _mm512_fmadd_ps(widen_lo(hi), _mm512_loadu_ps(xf + 32), acc[r][0]);
                acc[r][1] = _mm512_fmadd_ps(widen_hi(hi), _mm512_loadu_ps(xf + 48), acc[r][1]);
            }
        }
    }
    const uint64_t left = t->k - full * UW_BLOCK;
    for (int r = 0; r < rows; r++) {
        uint16_t tail[UW_BLOCK];
        uint64_t done = 0;
        if (left > 0) {
            __m512i lo, hi;
            next_block(d, code_bits, &s[r], &lo, &hi);
            _mm512_storeu_si512(tail, lo);
            _mm512_storeu_si512(tail + 32, hi);
            if (!bf16 && left >= 32) {
                const float *xf = (const float *)prepared + full * UW_BLOCK;
                acc[r][0] = _mm512_fmadd_ps(widen_lo(lo), _mm512_loadu_ps(xf), acc[r][0]);
                acc[r][1] = _mm512_fmadd_ps(widen_hi(lo), _mm512_loadu_ps(xf + 16), acc[r][1]);
                done = 32;
            }
        }
        double sum = bf16 ? (double)_mm512_reduce_add_ps(acc[r][0]) + (double)_mm512_reduce_add_ps(acc[r][1])
                          : finish_permuted(acc[r][0], acc[r][1]);
        for (uint64_t i = done; i < left; i++) {
            uint64_t at = full * UW_BLOCK + i;
            float x = bf16 ? uw_bf16_to_f32(((const uint16_t *)prepared)[at]) : ((const float *)prepared)[permuted(at)];
            sum += (double)(uw_bf16_to_f32(tail[i]) * x);
        }
        y[r] = (float)sum;
    }
}

#define ROWS 2

INLINE void dot_all(const uw_tensor *t, const int code_bits, const int bf16, uint64_t row, uint64_t n, const void *prepared,
                    float *y) {
    const decoder d = decoder_of(t);
    uint64_t i = 0;
    for (; i + ROWS <= n; i += ROWS) dot_rows(t, &d, code_bits, bf16, ROWS, row + i, prepared, y + i);
    for (; i < n; i++) dot_rows(t, &d, code_bits, bf16, 1, row + i, prepared, y + i);
}

/* Rows for the products below: words, or floats in the order of `prepare`. */
static void expand(const uw_tensor *t, uw_order order, uint64_t row, uint64_t n, void *scratch) {
    const decoder d = decoder_of(t);
    const uint64_t padded = uw_padded(t->k);
    for (uint64_t i = 0; i < n; i++) {
        /* Floats are widened in place, back to front, from words in the row's own space. */
        uint16_t *words = uw_order_is_bf16(order) ? (uint16_t *)scratch + i * padded : (uint16_t *)((float *)scratch + i * padded);
        if (t->code_bits == 3) expand_words(t, &d, 3, row + i, words);
        else expand_words(t, &d, 4, row + i, words);
        if (uw_order_is_bf16(order)) continue;
        float *floats = (float *)scratch + i * padded;
        for (uint64_t from = padded; from > 0; from -= 32) {
            __m512i w = load(words + from - 32);
            __m512 first = order == UW_DOT_AVX512 ? widen_lo(w) : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(w)), 16));
            __m512 second = order == UW_DOT_AVX512 ? widen_hi(w) : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(w, 1)), 16));
            _mm512_storeu_ps(floats + from - 32, first);
            _mm512_storeu_ps(floats + from - 16, second);
        }
    }
}

INLINE float tail_words(double sum, const uint16_t *w, const uint16_t *x, uint64_t from, uint64_t k) {
    for (uint64_t i = from; i < k; i++) sum += (double)(uw_bf16_to_f32(w[i]) * uw_bf16_to_f32(x[i]));
    return (float)sum;
}

INLINE float tail_permuted(double sum, const float *w, const float *x, uint64_t from, uint64_t k) {
    for (uint64_t i = from; i < k; i++) sum += (double)(w[permuted(i)] * x[permuted(i)]);
    return (float)sum;
}

#define VEC __m512
#define VEC_ZERO _mm512_setzero_ps()
#define STEP 32
#define OPERAND __m512bh
#define OPERAND_LOAD(p) ((__m512bh)load(p))
#define ELEMENT uint16_t
#define MADD(acc, w, x) _mm512_dpbf16_ps(acc, w, x)
#define ACCS 1
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 6
#define FINISH(accs, w, x, k) ((void)(w), (void)(x), (void)(k), _mm512_reduce_add_ps((accs)[0]))
#define GEMM tile_bf16
#include "gemm.h"

#define VEC __m512
#define VEC_ZERO _mm512_setzero_ps()
#define STEP 32
#define OPERAND __m512bh
#define OPERAND_LOAD(p) ((__m512bh)load(p))
#define ELEMENT uint16_t
#define MADD(acc, w, x) _mm512_dpbf16_ps(acc, w, x)
#define ACCS 2
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 3
#define FINISH(accs, w, x, k) \
    tail_words((double)_mm512_reduce_add_ps((accs)[0]) + (double)_mm512_reduce_add_ps((accs)[1]), w, x, (k) / 64 * 64, k)
#define GEMM dot_bf16
#include "gemm.h"

#define VEC __m512
#define VEC_ZERO _mm512_setzero_ps()
#define STEP 16
#define OPERAND __m512
#define OPERAND_LOAD(p) _mm512_loadu_ps(p)
#define ELEMENT float
#define MADD(acc, w, x) _mm512_fmadd_ps(w, x, acc)
#define ACCS 1
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 6
#define FINISH(accs, w, x, k) ((void)(w), (void)(x), (void)(k), _mm512_reduce_add_ps((accs)[0]))
#define GEMM tile_f32
#include "gemm.h"

#define VEC __m512
#define VEC_ZERO _mm512_setzero_ps()
#define STEP 16
#define OPERAND __m512
#define OPERAND_LOAD(p) _mm512_loadu_ps(p)
#define ELEMENT float
#define MADD(acc, w, x) _mm512_fmadd_ps(w, x, acc)
#define ACCS 2
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 3
#define FINISH(accs, w, x, k) tail_permuted(finish_permuted((accs)[0], (accs)[1]), w, x, (k) / 32 * 32, k)
#define GEMM dot_f32
#include "gemm.h"

static void matmul(const uw_tensor *t, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch) {
    if (order == UW_DOT_AVX2 || order == UW_TILE_AVX2) {
        uw_kernels_avx2.matmul(t, order, row, n, prepared, prepared_stride, columns, y, y_stride, scratch);
        return;
    }
    if (order == UW_DOT_PLAIN) {
        uw_kernels_scalar.matmul(t, order, row, n, prepared, prepared_stride, columns, y, y_stride, scratch);
        return;
    }
    const uint64_t k = t->k, padded = uw_padded(k);
    for (uint64_t i = 0; i < n; i += UW_TILE_ROWS) {
        uint64_t rows = n - i < UW_TILE_ROWS ? n - i : UW_TILE_ROWS;
        expand(t, order, row + i, rows, scratch);
        switch (order) {
        case UW_TILE_AVX512BF16:
            tile_bf16(scratch, padded, rows, prepared, prepared_stride, columns, (k + 31) / 32, k, y + i, y_stride);
            break;
        case UW_DOT_AVX512BF16:
            dot_bf16(scratch, padded, rows, prepared, prepared_stride, columns, k / 64 * 2, k, y + i, y_stride);
            break;
        case UW_TILE_AVX512:
            tile_f32(scratch, padded, rows, prepared, prepared_stride, columns, (k + 15) / 16, k, y + i, y_stride);
            break;
        default:
            dot_f32(scratch, padded, rows, prepared, prepared_stride, columns, k / 32 * 2, k, y + i, y_stride);
        }
    }
}

static void matvec(const uw_tensor *t, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    if (order == UW_DOT_AVX512BF16) {
        if (t->code_bits == 3) dot_all(t, 3, 1, row, n, prepared, y);
        else dot_all(t, 4, 1, row, n, prepared, y);
    } else if (order == UW_DOT_AVX512) {
        if (t->code_bits == 3) dot_all(t, 3, 0, row, n, prepared, y);
        else dot_all(t, 4, 0, row, n, prepared, y);
    } else if (order == UW_DOT_AVX2) {
        uw_kernels_avx2.matvec(t, order, row, n, prepared, y, scratch);
    } else {
        matmul(t, order, row, n, prepared, 0, 1, y, 0, scratch);
    }
}

static void plain_matvec(const uint16_t *weights, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y) {
    if (order != UW_DOT_AVX512BF16) {
        uw_kernels_avx2.plain_matvec(weights, order, n, k, prepared, y);
        return;
    }
    const uint16_t *x = prepared;
    for (uint64_t r = 0; r < n; r++, weights += k) {
        __m512 acc[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (uint64_t i = 0; i + UW_BLOCK <= k; i += UW_BLOCK)
            for (int h = 0; h < 2; h++)
                acc[h] = _mm512_dpbf16_ps(acc[h], (__m512bh)load(weights + i + 32 * h), (__m512bh)load(x + i + 32 * h));
        double sum = (double)_mm512_reduce_add_ps(acc[0]) + (double)_mm512_reduce_add_ps(acc[1]);
        y[r] = tail_words(sum, weights, x, k / UW_BLOCK * UW_BLOCK, k);
    }
}

const uw_kernels uw_kernels_avx512vbmi2 = {decode_bf16, prepare, matvec, plain_matvec, matmul};
