/* AVX2 and FMA (Haswell, Zen and later). Also serves the AVX-512 orders that need no vdpbf16ps: their 16 lanes are two registers. */
#include <immintrin.h>

#include "order.h"

#define INLINE static inline __attribute__((always_inline))

/* Escapes are patched into a buffer of rotated exponents by byte stores. A chunk of blocks lies between the stores and the vector
 * loads that read them back, so that no load waits for a store. */
#define CHUNK 16

typedef struct decoder {
    __m256i lut, marker;
    const uint8_t *escapes;
    uint64_t n_escapes;
} decoder;

INLINE decoder decoder_of(const uw_tensor *t) {
    decoder d = {
        .lut = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)t->palette)),
        .marker = _mm256_set1_epi8((char)t->marker),
        .escapes = t->escapes,
        .n_escapes = t->n_escapes,
    };
    return d;
}

/* The codes of a block, one a byte: places 0-31 in *a, 32-63 in *b. */
INLINE void unpack_codes(const int code_bits, const uint8_t *codes, __m256i *a, __m256i *b) {
    if (code_bits == 4) {
        const __m256i nibble = _mm256_set1_epi8(15);
        __m256i both = _mm256_loadu_si256((const __m256i *)codes);
        *a = _mm256_and_si256(both, nibble);
        *b = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
        return;
    }
    const __m256i low_mask = _mm256_set1_epi8(3), high_mask = _mm256_set1_epi8(4);
    uint64_t bits;
    memcpy(&bits, codes + 16, sizeof bits);
    __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)codes));
    __m256i high = _mm256_set1_epi64x((long long)bits);
    __m256i low_a = _mm256_srlv_epi32(low, _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2));
    __m256i low_b = _mm256_srlv_epi32(low, _mm256_setr_epi32(4, 4, 4, 4, 6, 6, 6, 6));
    /* Bit q of each byte of the q-th eight places goes to bit 2. */
    __m256i high_a = _mm256_srlv_epi64(_mm256_slli_epi64(high, 2), _mm256_setr_epi64x(0, 1, 2, 3));
    __m256i high_b = _mm256_srlv_epi64(high, _mm256_setr_epi64x(2, 3, 4, 5));
    *a = _mm256_or_si256(_mm256_and_si256(low_a, low_mask), _mm256_and_si256(high_a, high_mask));
    *b = _mm256_or_si256(_mm256_and_si256(low_b, low_mask), _mm256_and_si256(high_b, high_mask));
}

/* Rotated exponents of a block, escapes put in. Writes 65 bytes: the last is scratch. */
INLINE void decode_exponents(const decoder *d, const int code_bits, const uint8_t *codes, uint64_t *escape, uint8_t *out) {
    __m256i a, b;
    unpack_codes(code_bits, codes, &a, &b);
    a = _mm256_shuffle_epi8(d->lut, a);
    b = _mm256_shuffle_epi8(d->lut, b);
    _mm256_storeu_si256((__m256i *)out, a);
    _mm256_storeu_si256((__m256i *)(out + 32), b);
    uint64_t escaped = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(a, d->marker)) |
                       (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(b, d->marker)) << 32;
    const uint8_t *from = d->escapes + *escape;
    uint64_t next = *escape + (uint64_t)_mm_popcnt_u64(escaped);
    *escape = next < d->n_escapes ? next : d->n_escapes;
    /* Most blocks have one to four. Storing four without asking costs less than a branch that guesses wrong; where there are
     * fewer, _tzcnt_u64(0) is 64: the scratch byte. */
#define PATCH(i) out[_tzcnt_u64(escaped)] = from[i], escaped = _blsr_u64(escaped)
    PATCH(0);
    PATCH(1);
    PATCH(2);
    PATCH(3);
#undef PATCH
    for (from += 4; __builtin_expect(escaped != 0, 0); escaped = _blsr_u64(escaped)) out[_tzcnt_u64(escaped)] = *from++;
}

/* 32 places to words: weights 0-15 and 32-47 of the block for its first half, 16-31 and 48-63 for its second. */
INLINE void combine(__m256i rotated, __m256i sign_mantissa, __m256i *first, __m256i *second) {
    __m256i top = _mm256_and_si256(_mm256_xor_si256(rotated, sign_mantissa), _mm256_set1_epi8((char)0x80));
    __m256i high = _mm256_xor_si256(rotated, top), low = _mm256_xor_si256(sign_mantissa, top);
    *first = _mm256_unpacklo_epi8(low, high);
    *second = _mm256_unpackhi_epi8(low, high);
}

INLINE void words_of(const uint8_t *rotated, const uint8_t *sm, __m256i words[4]) {
    for (int half = 0; half < 2; half++)
        combine(_mm256_loadu_si256((const __m256i *)(rotated + 32 * half)), _mm256_loadu_si256((const __m256i *)(sm + 32 * half)),
                &words[half], &words[half + 2]);
}

typedef struct stream {
    const uint8_t *sm, *codes;
    uint64_t escape;
} stream;

INLINE stream stream_of(const uw_tensor *t, uint64_t row) {
    uint64_t block = row * t->blocks;
    stream s = {t->sm + block * UW_BLOCK, t->codes + block * t->code_bytes, uw_row_start(t, row)};
    return s;
}

INLINE void decode_chunk(const decoder *d, const int code_bits, stream *s, uint64_t blocks, uint8_t *rotated) {
    for (uint64_t b = 0; b < blocks; b++) {
        _mm_prefetch((const char *)s->sm + b * UW_BLOCK + UW_PREFETCH, _MM_HINT_T1);
        _mm_prefetch((const char *)s->codes + UW_PREFETCH * 3 / 8, _MM_HINT_T1);
        decode_exponents(d, code_bits, s->codes, &s->escape, rotated + b * UW_BLOCK);
        s->codes += code_bits == 3 ? UW_CODE3_BYTES : UW_CODE4_BYTES;
    }
}

/* A row as words, in natural order, to the end of its last block. */
INLINE void expand_words(const uw_tensor *t, const decoder *d, const int code_bits, uint64_t row, uint16_t *out) {
    uint8_t rotated[CHUNK * UW_BLOCK + 1];
    stream s = stream_of(t, row);
    for (uint64_t done = 0; done < t->blocks; done += CHUNK) {
        uint64_t blocks = t->blocks - done < CHUNK ? t->blocks - done : CHUNK;
        decode_chunk(d, code_bits, &s, blocks, rotated);
        for (uint64_t b = 0; b < blocks; b++, s.sm += UW_BLOCK, out += UW_BLOCK) {
            __m256i words[4];
            words_of(rotated + b * UW_BLOCK, s.sm, words);
            for (int q = 0; q < 4; q++) _mm256_storeu_si256((__m256i *)(out + 16 * q), words[q]);
        }
    }
}

static void decode_bf16(const uw_tensor *t, uint64_t row, uint64_t n, uint16_t *out, size_t stride) {
    const decoder d = decoder_of(t);
    uint8_t rotated[CHUNK * UW_BLOCK + 1];
    for (uint64_t i = 0; i < n; i++) {
        stream s = stream_of(t, row + i);
        uint16_t *to = out + i * stride;
        uint64_t left = t->k;
        for (uint64_t done = 0; done < t->blocks; done += CHUNK) {
            uint64_t blocks = t->blocks - done < CHUNK ? t->blocks - done : CHUNK;
            if (t->code_bits == 3) decode_chunk(&d, 3, &s, blocks, rotated);
            else decode_chunk(&d, 4, &s, blocks, rotated);
            for (uint64_t b = 0; b < blocks; b++, s.sm += UW_BLOCK) {
                uint16_t block[UW_BLOCK];
                uint64_t now = left < UW_BLOCK ? left : UW_BLOCK;
                /* Only the last block of a row can be short of its 64 weights and must not be written whole. */
                uint16_t *whole = now == UW_BLOCK ? to : block;
                __m256i words[4];
                words_of(rotated + b * UW_BLOCK, s.sm, words);
                for (int q = 0; q < 4; q++) _mm256_storeu_si256((__m256i *)(whole + 16 * q), words[q]);
                if (whole == block) memcpy(to, block, now * sizeof *to);
                to += now;
                left -= now;
            }
        }
    }
}

/* Words to floats: lanes 0-3, 8-11 of 16 words; then 4-7, 12-15. Cheaper than natural order, and a sum does not care which lane
 * holds which residue as long as activations agree and the lanes are put back before they are added up. */
INLINE __m256 widen_lo(__m256i words) { return _mm256_castsi256_ps(_mm256_unpacklo_epi16(_mm256_setzero_si256(), words)); }
INLINE __m256 widen_hi(__m256i words) { return _mm256_castsi256_ps(_mm256_unpackhi_epi16(_mm256_setzero_si256(), words)); }

INLINE uint64_t permuted(uint64_t i) {
    uint64_t in = i % 16;
    return i - in + (in / 4 % 2) * 8 + in / 8 * 4 + in % 4;
}

INLINE int is_dot(uw_order order) { return order == UW_DOT_AVX2 || order == UW_DOT_AVX512; }
INLINE int is_ours(uw_order order) { return is_dot(order) || order == UW_TILE_AVX2 || order == UW_TILE_AVX512; }

/* Sixteen floats in the order that `order` wants, from words. */
INLINE void store_floats(uw_order order, __m256i words, float *out) {
    __m256 lo = widen_lo(words), hi = widen_hi(words);
    if (!is_dot(order)) {
        __m256 first = _mm256_permute2f128_ps(lo, hi, 0x20);
        hi = _mm256_permute2f128_ps(lo, hi, 0x31);
        lo = first;
    }
    _mm256_storeu_ps(out, lo);
    _mm256_storeu_ps(out + 8, hi);
}

static void prepare(uw_order order, const float *x, uint64_t k, void *prepared) {
    if (!is_ours(order)) {
        uw_kernels_scalar.prepare(order, x, k, prepared);
        return;
    }
    for (uint64_t i = 0; i < uw_padded(k); i += 16) {
        uint16_t words[16] = {0};
        for (uint64_t j = 0; j < 16 && i + j < k; j++) words[j] = uw_f32_to_bf16(x[i + j]);
        store_floats(order, _mm256_loadu_si256((const __m256i *)words), (float *)prepared + i);
    }
}

INLINE float sum8(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_extractf128_ps(v, 1), _mm256_castps256_ps128(v));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* The four accumulators of a dot order, kept in the lanes of widen_lo and widen_hi, to the sum of its full steps. */
INLINE double finish_dot(uw_order order, const __m256 acc[4]) {
    __m256 c1 = _mm256_permute2f128_ps(acc[0], acc[1], 0x20), c2 = _mm256_permute2f128_ps(acc[0], acc[1], 0x31);
    __m256 c3 = _mm256_permute2f128_ps(acc[2], acc[3], 0x20), c4 = _mm256_permute2f128_ps(acc[2], acc[3], 0x31);
    if (order == UW_DOT_AVX2) return (double)sum8(_mm256_add_ps(_mm256_add_ps(c1, c3), _mm256_add_ps(c2, c4)));
    double sum = (double)sum8(_mm256_add_ps(c2, c1));
    return sum + (double)sum8(_mm256_add_ps(c4, c3));
}

INLINE void accumulate(__m256i words, const float *x, __m256 acc[2]) {
    acc[0] = _mm256_fmadd_ps(widen_lo(words), _mm256_loadu_ps(x), acc[0]);
    acc[1] = _mm256_fmadd_ps(widen_hi(words), _mm256_loadu_ps(x + 8), acc[1]);
}

INLINE float dot_row(const uw_tensor *t, const decoder *d, const int code_bits, uw_order order, uint64_t row, const float *x) {
    uint8_t rotated[CHUNK * UW_BLOCK + 1];
    stream s = stream_of(t, row);
    __m256 acc[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    const uint64_t full = t->k / UW_BLOCK;
    uint64_t b = 0;
    for (uint64_t done = 0; done < t->blocks; done += CHUNK) {
        uint64_t blocks = t->blocks - done < CHUNK ? t->blocks - done : CHUNK;
        decode_chunk(d, code_bits, &s, blocks, rotated);
        for (const uint8_t *r = rotated; b < done + blocks && b < full; b++, r += UW_BLOCK, x += UW_BLOCK, s.sm += UW_BLOCK) {
            __m256i words[4];
            words_of(r, s.sm, words);
            for (int q = 0; q < 4; q++) accumulate(words[q], x + 16 * q, acc + q % 2 * 2);
        }
    }
    const uint64_t left = t->k - full * UW_BLOCK;
    uint16_t tail[UW_BLOCK];
    uint64_t i = 0;
    if (left > 0) {
        __m256i words[4];
        words_of(rotated + full % CHUNK * UW_BLOCK, s.sm, words);
        for (int q = 0; q < 4; q++) _mm256_storeu_si256((__m256i *)(tail + 16 * q), words[q]);
        if (left >= 32) {
            accumulate(words[0], x, acc);
            accumulate(words[1], x + 16, acc + 2);
            i = 32;
        }
    }
    double sum = finish_dot(order, acc);
    for (; i < left; i++) sum += (double)(uw_bf16_to_f32(tail[i]) * x[permuted(i)]);
    return (float)sum;
}

/* Rows as floats, in the order of `prepare`. */
static void expand(const uw_tensor *t, uw_order order, uint64_t row, uint64_t n, float *scratch) {
    const decoder d = decoder_of(t);
    const uint64_t padded = uw_padded(t->k);
    for (uint64_t i = 0; i < n; i++) {
        /* Widened in place, back to front, from words at the start of the row's own space. */
        float *floats = scratch + i * padded;
        uint16_t *words = (uint16_t *)floats;
        if (t->code_bits == 3) expand_words(t, &d, 3, row + i, words);
        else expand_words(t, &d, 4, row + i, words);
        memset(words + t->k, 0, (padded - t->k) * sizeof *words);
        for (uint64_t from = padded; from > 0; from -= 16)
            store_floats(order, _mm256_loadu_si256((const __m256i *)(words + from - 16)), floats + from - 16);
    }
}

INLINE float tail_permuted(double sum, const float *w, const float *x, uint64_t k) {
    for (uint64_t i = k / 32 * 32; i < k; i++) sum += (double)(w[permuted(i)] * x[permuted(i)]);
    return (float)sum;
}

#define VEC __m256
#define VEC_ZERO _mm256_setzero_ps()
#define STEP 8
#define OPERAND __m256
#define OPERAND_LOAD(p) _mm256_loadu_ps(p)
#define ELEMENT float
#define MADD(acc, w, x) _mm256_fmadd_ps(w, x, acc)
#define ACCS 1
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 3
#define FINISH(accs, w, x, k) ((void)(w), (void)(x), (void)(k), sum8((accs)[0]))
#define GEMM tile_8
#include "gemm.h"

#define VEC __m256
#define VEC_ZERO _mm256_setzero_ps()
#define STEP 8
#define OPERAND __m256
#define OPERAND_LOAD(p) _mm256_loadu_ps(p)
#define ELEMENT float
#define MADD(acc, w, x) _mm256_fmadd_ps(w, x, acc)
#define ACCS 2
#define ROWS_AT_ONCE 3
#define COLUMNS_AT_ONCE 2
#define FINISH(accs, w, x, k) ((void)(w), (void)(x), (void)(k), sum8(_mm256_add_ps((accs)[1], (accs)[0])))
#define GEMM tile_16
#include "gemm.h"

#define VEC __m256
#define VEC_ZERO _mm256_setzero_ps()
#define STEP 8
#define OPERAND __m256
#define OPERAND_LOAD(p) _mm256_loadu_ps(p)
#define ELEMENT float
#define MADD(acc, w, x) _mm256_fmadd_ps(w, x, acc)
#define ACCS 4
#define ROWS_AT_ONCE 3
#define COLUMNS_AT_ONCE 1
#define FINISH(accs, w, x, k) tail_permuted(finish_dot(UW_DOT_AVX2, accs), w, x, k)
#define GEMM dot_8
#include "gemm.h"

#define VEC __m256
#define VEC_ZERO _mm256_setzero_ps()
#define STEP 8
#define OPERAND __m256
#define OPERAND_LOAD(p) _mm256_loadu_ps(p)
#define ELEMENT float
#define MADD(acc, w, x) _mm256_fmadd_ps(w, x, acc)
#define ACCS 4
#define ROWS_AT_ONCE 3
#define COLUMNS_AT_ONCE 1
#define FINISH(accs, w, x, k) tail_permuted(finish_dot(UW_DOT_AVX512, accs), w, x, k)
#define GEMM dot_16
#include "gemm.h"

static void matmul(const uw_tensor *t, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch) {
    if (!is_ours(order)) {
        uw_kernels_scalar.matmul(t, order, row, n, prepared, prepared_stride, columns, y, y_stride, scratch);
        return;
    }
    const uint64_t k = t->k, padded = uw_padded(k);
    for (uint64_t i = 0; i < n; i += UW_TILE_ROWS) {
        uint64_t rows = n - i < UW_TILE_ROWS ? n - i : UW_TILE_ROWS;
        expand(t, order, row + i, rows, scratch);
        float *to = y + i;
        switch (order) {
        case UW_TILE_AVX2: tile_8(scratch, padded, rows, prepared, prepared_stride, columns, (k + 7) / 8, k, to, y_stride); break;
        case UW_TILE_AVX512:
            tile_16(scratch, padded, rows, prepared, prepared_stride, columns, (k + 15) / 16 * 2, k, to, y_stride);
            break;
        case UW_DOT_AVX2: dot_8(scratch, padded, rows, prepared, prepared_stride, columns, k / 32 * 4, k, to, y_stride); break;
        default: dot_16(scratch, padded, rows, prepared, prepared_stride, columns, k / 32 * 4, k, to, y_stride);
        }
    }
}

static void matvec(const uw_tensor *t, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    if (!is_dot(order)) {
        matmul(t, order, row, n, prepared, 0, 1, y, 0, scratch);
        return;
    }
    const decoder d = decoder_of(t);
    for (uint64_t i = 0; i < n; i++)
        y[i] = t->code_bits == 3 ? dot_row(t, &d, 3, order, row + i, prepared) : dot_row(t, &d, 4, order, row + i, prepared);
}

static void plain_matvec(const uint16_t *weights, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y) {
    if (!is_dot(order)) {
        uw_kernels_scalar.plain_matvec(weights, order, n, k, prepared, y);
        return;
    }
    const float *x = prepared;
    for (uint64_t r = 0; r < n; r++, weights += k) {
        __m256 acc[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
        uint64_t i = 0;
        for (; i + 32 <= k; i += 32)
            for (int h = 0; h < 2; h++)
                accumulate(_mm256_loadu_si256((const __m256i *)(weights + i + 16 * h)), x + i + 16 * h, acc + 2 * h);
        double sum = finish_dot(order, acc);
        for (; i < k; i++) sum += (double)(uw_bf16_to_f32(weights[i]) * x[permuted(i)]);
        y[r] = (float)sum;
    }
}

const uw_kernels uw_kernels_avx2 = {decode_bf16, prepare, matvec, plain_matvec, matmul};
