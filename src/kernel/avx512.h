/* AVX-512 with F, BW, DQ and VL, as a template: avx512.c is compiled for that much (Skylake-X and later) and has orders of 16 lanes;
 * avx512bf16.c for vdpbf16ps too (Cooper Lake, Zen 4 and later), and has those of pairs. The including file defines KERNELS, the name of the table of
 * functions. */
#include "lookup_x86.h"
#include "order.h"

#define LANES 16
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 6
typedef __m512 vec;
typedef __m512i words;

typedef struct lookup {
    __m512i palette;
    __m256i half;
} lookup;
#define LOOKUP lookup

UW_INLINE lookup lookup_of(const uw_piece *piece) {
    const __m256i half = palette_of(piece);
    return (lookup){_mm512_broadcast_i64x4(half), half};
}

/* As left_over_256, on twice the width. */
UW_INLINE __m512i left_over_512(const __m512i v[3]) {
    const __m512i tops = _mm512_set1_epi8((char)0x88);
    return _mm512_ternarylogic_epi32(_mm512_srli_epi16(_mm512_and_si512(v[0], tops), 3), _mm512_srli_epi16(_mm512_and_si512(v[1], tops), 2),
                                     _mm512_srli_epi16(_mm512_and_si512(v[2], tops), 1), 0xFE);
}

UW_INLINE void lookup3(const lookup *l, const uint8_t *in, uint64_t w, uint8_t *out) {
    const __m512i without_top = _mm512_set1_epi8(0x7F), nibble = _mm512_set1_epi8(15);
    if (w < 64) {
        lookup3_256(l->half, in, w, out);
        return;
    }
    const __m512i v[3] = {_mm512_loadu_si512(in), _mm512_loadu_si512(in + 64), _mm512_loadu_si512(in + 128)}, rest = left_over_512(v);
    const __m512i codes[8] = {
        _mm512_and_si512(v[0], without_top), _mm512_and_si512(_mm512_srli_epi16(v[0], 4), nibble),
        _mm512_and_si512(v[1], without_top), _mm512_and_si512(_mm512_srli_epi16(v[1], 4), nibble),
        _mm512_and_si512(v[2], without_top), _mm512_and_si512(_mm512_srli_epi16(v[2], 4), nibble),
        rest, _mm512_srli_epi16(rest, 4),
    };
    for (int i = 0; i < 8; i++) _mm512_store_si512(out + 64 * i, _mm512_shuffle_epi8(l->palette, codes[i]));
}

UW_INLINE void lookup6(const lookup *l, const uint8_t *in, uint64_t w, uint8_t *out) {
    const __m512i without_top = _mm512_set1_epi8(0x7F), raw = _mm512_set1_epi8(7);
    if (w < 64) {
        lookup6_256(l->half, in, w, out);
        return;
    }
    __m512i v[4] = {_mm512_loadu_si512(in), _mm512_loadu_si512(in + 64), _mm512_loadu_si512(in + 128)};
    v[3] = left_over_512(v);
    for (int i = 0; i < 4; i++) {
        const __m512i high = _mm512_shuffle_epi8(l->palette, _mm512_and_si512(v[i], without_top));
        _mm512_store_si512(out + 64 * i, _mm512_or_si512(high, _mm512_and_si512(_mm512_srli_epi16(v[i], 4), raw)));
    }
}

UW_INLINE void lookup4(const lookup *l, const uint8_t *in, uint8_t *out) { lookup4_256(l->half, in, out); }

#include "segment.h"

UW_INLINE __m512i load_words(const void *p) { return _mm512_loadu_si512(p); }
UW_INLINE __m512 load_lanes(const uw_number element, const void *p) {
    if (element == UW_F32) return _mm512_loadu_ps(p);
    const __m256i narrow = _mm256_loadu_si256((const __m256i *)p);
    return element == UW_F16 ? _mm512_cvtph_ps(narrow) : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
}
UW_INLINE __m512 zero(void) { return _mm512_setzero_ps(); }
UW_INLINE __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
UW_INLINE __m512 multiply_add(__m512 w, __m512 x, __m512 acc) { return _mm512_fmadd_ps(w, x, acc); }
UW_INLINE __m512 multiply_words(__m512i w, const void *x, __m512 acc) {
#ifdef __AVX512BF16__
    return _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)load_words(x));
#else
    (void)w, (void)x;
    return acc;
#endif
}
/* No order of 16 lanes adds neighbours. */
UW_INLINE float sum_lanes(const uw_fold fold, __m512 v) {
    (void)fold;
    return _mm512_reduce_add_ps(v);
}

UW_INLINE __m512i added(const form f) { return _mm512_set1_epi16((short)uw_added(f.stored, f.shift)); }

/* The words of a block in natural order, 32 each. */
UW_INLINE void words_of(const form f, const uint8_t *high, const uint8_t *low, __m512i out[2]) {
    const __m512i h = load_words(high), l = load_words(low);
    out[0] = _mm512_unpacklo_epi8(l, h);
    out[1] = _mm512_unpackhi_epi8(l, h);
    if (may_be_shifted(f))
        for (int half = 0; half < 2; half++) out[half] = _mm512_sub_epi16(out[half], added(f));
}

/* 32 words from bytes in natural order. */
UW_INLINE __m512i words_of_unit(const form f, const uint8_t *high, const uint8_t *low) {
    const __m512i h = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)high));
    const __m512i l = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)low));
    return _mm512_sub_epi16(_mm512_or_si512(_mm512_slli_epi16(h, 8), l), added(f));
}

/* 32 numbers as two registers of floats.
 *   BF16: first those at even places, then those at odd ones
 *   F16: in natural order
 *   F32: of each 8, first the first 4, then the others */
UW_INLINE void deal(const uw_number stored, __m512i unit, const uint8_t *lower, __m512 dealt[2]) {
    if (stored == UW_F16) {
        dealt[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(unit));
        dealt[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(unit, 1));
    } else if (stored == UW_F32) {
        const __m512i rest = load_words(lower);
        dealt[0] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(rest, unit));
        dealt[1] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(rest, unit));
    } else {
        dealt[0] = _mm512_castsi512_ps(_mm512_slli_epi32(unit, 16));
        dealt[1] = _mm512_castsi512_ps(_mm512_and_si512(unit, _mm512_set1_epi32((int)0xFFFF0000)));
    }
}

/* Where number i of such 32 is dealt to. */
UW_INLINE uint64_t dealt_to(const uw_number stored, uint64_t i) {
    const uint64_t in = i % 32;
    if (stored == UW_F16) return i;
    if (stored == UW_F32) return i - in + in % 4 + in / 4 % 2 * 16 + in / 8 * 4;
    return i - in + in % 2 * 16 + in / 2;
}

/* The first and the second half of what two registers hold, each lane at the place that `first` and `second` have for it. */
UW_INLINE void permute(__m512 a, __m512 b, __m512i first, __m512i second, __m512 out[2]) {
    out[0] = _mm512_permutex2var_ps(a, first, b);
    out[1] = _mm512_permutex2var_ps(a, second, b);
}

/* Dealt registers in natural order. */
UW_INLINE void put_back(const uw_number stored, __m512 a, __m512 b, __m512 natural[2]) {
    if (stored == UW_F16) {
        natural[0] = a;
        natural[1] = b;
    } else if (stored == UW_F32) {
        permute(a, b, _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23),
                _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31), natural);
    } else {
        permute(a, b, _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
                _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), natural);
    }
}

/* Natural order to what deal() gives, for `n` numbers, whole units. */
UW_INLINE void deal_floats(const uw_number stored, float *row, uint64_t n) {
    for (uint64_t i = 0; i < n && stored != UW_F16; i += 32) {
        const __m512 a = _mm512_loadu_ps(row + i), b = _mm512_loadu_ps(row + i + 16);
        __m512 dealt[2];
        if (stored == UW_F32)
            permute(a, b, _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27),
                    _mm512_setr_epi32(4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31), dealt);
        else
            permute(a, b, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
                    _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), dealt);
        _mm512_storeu_ps(row + i, dealt[0]);
        _mm512_storeu_ps(row + i + 16, dealt[1]);
    }
}

/* 32 words as numbers of the kind `as` in natural order. */
UW_INLINE void put_words(const uw_number stored, const uw_number as, __m512i unit, const uint8_t *lower, uint8_t *out) {
    if (as == stored && as != UW_F32) {
        _mm512_storeu_si512(out, unit);
        return;
    }
    __m512 dealt[2], natural[2];
    deal(stored, unit, lower, dealt);
    put_back(stored, dealt[0], dealt[1], natural);
    for (int h = 0; h < 2; h++) {
        if (as == UW_F32) _mm512_storeu_ps(out + 64 * h, natural[h]);
        else _mm256_storeu_si256((__m256i *)out + h, _mm512_cvtps_ph(natural[h], _MM_FROUND_TO_NEAREST_INT));
    }
}

UW_INLINE void put_64(const form f, const uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint8_t *out) {
    __m512i units[2];
    words_of(f, high, low, units);
    for (int half = 0; half < 2; half++)
        put_words(f.stored, as, units[half], f.stored == UW_F32 ? lower + 64 * half : NULL, out + 32 * (uint64_t)half * uw_width(as));
}

/* In registers of half the width: exactly 16 low bytes and lower halves are read. */
UW_INLINE void put_16(const form f, const uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint8_t *out) {
    const __m256i h = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)high));
    const __m256i l = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)low));
    const __m256i stored = _mm256_or_si256(_mm256_slli_epi16(h, 8), l);
    const __m256i unit = _mm256_sub_epi16(stored, _mm256_set1_epi16((short)uw_added(f.stored, f.shift)));
    if (as == f.stored && as != UW_F32) {
        _mm256_storeu_si256((__m256i *)out, unit);
        return;
    }
    __m512i bits = _mm512_slli_epi32(_mm512_cvtepu16_epi32(unit), 16);
    if (f.stored == UW_F32) bits = _mm512_or_si512(bits, _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)lower)));
    const __m512 values = f.stored == UW_F16 ? _mm512_cvtph_ps(unit) : _mm512_castsi512_ps(bits);
    if (as == UW_F32) _mm512_storeu_ps(out, values);
    else _mm256_storeu_si256((__m256i *)out, _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
}

/* Two accumulators for BF16, four for others, one of a tile; of words in pairs, or of floats. */
#ifdef __AVX512BF16__
#define HAS_PAIRS 1
#define ROWS_BY uw_kernels_avx512
#define FOR_EACH_SUM(order, call) \
    do { \
        if (is_tile(order)) call(UW_PAIRS, 1); \
        else call(UW_PAIRS, 2); \
    } while (0)
#else
#define HAS_PAIRS 0
#define FOR_EACH_SUM(order, call) \
    do { \
        if (is_tile(order)) call(UW_FUSED, 1); \
        else if (uw_sum_of(order).accs == 2) call(UW_FUSED, 2); \
        else call(UW_FUSED, 4); \
    } while (0)
#endif
/* Words are widened for each block of columns again: they take half the cache. */
#define TILE_ELEMENT(original, stored) (stored)
#define TILES_OF_BF16 1

UW_INLINE int is_ours(uw_order order) { return uw_sum_of(order).lanes == LANES && (uw_sum_of(order).multiply == UW_PAIRS) == HAS_PAIRS; }
UW_INLINE const uw_kernels *others(uw_order order) {
    if (uw_sum_of(order).lanes < LANES) return &uw_kernels_avx2;
    return HAS_PAIRS ? &uw_kernels_avx512 : &uw_kernels_scalar;
}

#include "products.h"

const uw_kernels KERNELS = {decode, expand, prepare, matvec, matmul, plain_matvec};
