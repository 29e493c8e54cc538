/* AVX2, FMA and F16C (Haswell, Zen and later): orders of 8 lanes with fused multiply-add. */
#include "lookup_x86.h"
#include "order.h"

#define LANES 8
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 3
typedef __m256 vec;
typedef __m256i words;

#define LOOKUP __m256i

UW_INLINE __m256i lookup_of(const uw_piece *piece) { return palette_of(piece); }
UW_INLINE void lookup3(const __m256i *palette, const uint8_t *in, uint64_t w, uint8_t *out) { lookup3_256(*palette, in, w, out); }
UW_INLINE void lookup4(const __m256i *palette, const uint8_t *in, uint8_t *out) { lookup4_256(*palette, in, out); }
UW_INLINE void lookup6(const __m256i *palette, const uint8_t *in, uint64_t w, uint8_t *out) { lookup6_256(*palette, in, w, out); }

#include "segment.h"

UW_INLINE __m256i load_words(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
UW_INLINE __m256 load_lanes(const uw_number element, const void *p) {
    if (element == UW_F32) return _mm256_loadu_ps((const float *)p);
    const __m128i narrow = _mm_loadu_si128((const __m128i *)p);
    return element == UW_F16 ? _mm256_cvtph_ps(narrow) : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
}
UW_INLINE __m256 zero(void) { return _mm256_setzero_ps(); }
UW_INLINE __m256 add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
UW_INLINE __m256 multiply_add(__m256 w, __m256 x, __m256 acc) { return _mm256_fmadd_ps(w, x, acc); }
UW_INLINE float sum_lanes(const uw_fold fold, __m256 v) {
    __m128 s = _mm_add_ps(_mm256_extractf128_ps(v, 1), _mm256_castps256_ps128(v));
    if (fold == UW_NEIGHBOURS) {
        s = _mm_hadd_ps(s, s);
        return _mm_cvtss_f32(_mm_hadd_ps(s, s));
    }
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
UW_INLINE __m256i added(const form f) { return _mm256_set1_epi16((short)uw_added(f.stored, f.shift)); }

/* The words of a block in natural order, 16 each. */
UW_INLINE void words_of(const form f, const uint8_t *high, const uint8_t *low, __m256i out[4]) {
    for (int half = 0; half < 2; half++) {
        const __m256i h = load_words(high + 32 * half), l = load_words(low + 32 * half);
        out[half] = _mm256_unpacklo_epi8(l, h);
        out[half + 2] = _mm256_unpackhi_epi8(l, h);
    }
    if (may_be_shifted(f))
        for (int q = 0; q < 4; q++) out[q] = _mm256_sub_epi16(out[q], added(f));
}

/* Sixteen words from bytes in natural order. */
UW_INLINE __m256i words_of_unit(const form f, const uint8_t *high, const uint8_t *low) {
    const __m256i h = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)high));
    const __m256i l = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)low));
    return _mm256_sub_epi16(_mm256_or_si256(_mm256_slli_epi16(h, 8), l), added(f));
}

/* Sixteen numbers:
 *   BF16: first those at even places, then those at odd ones
 *   F16: in natural order
 *   F32: first 0-3 and 8-11, then 4-7 and 12-15 */
UW_INLINE void deal(const uw_number stored, __m256i unit, const uint8_t *lower, __m256 dealt[2]) {
    if (stored == UW_F16) {
        dealt[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(unit));
        dealt[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(unit, 1));
    } else if (stored == UW_F32) {
        const __m256i rest = load_words(lower);
        dealt[0] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(rest, unit));
        dealt[1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(rest, unit));
    } else {
        dealt[0] = _mm256_castsi256_ps(_mm256_slli_epi32(unit, 16));
        dealt[1] = _mm256_castsi256_ps(_mm256_and_si256(unit, _mm256_set1_epi32((int)0xFFFF0000)));
    }
}

/* Where number i of such sixteen is dealt to. */
UW_INLINE uint64_t dealt_to(const uw_number stored, uint64_t i) {
    const uint64_t in = i % 16;
    if (stored == UW_F16) return i;
    if (stored == UW_F32) return i - in + in % 4 + in / 4 % 2 * 8 + in / 8 * 4;
    return i - in + in % 2 * 8 + in / 2;
}

/* Dealt registers in natural order. */
UW_INLINE void put_back(const uw_number stored, __m256 a, __m256 b, __m256 natural[2]) {
    if (stored == UW_F16) {
        natural[0] = a;
        natural[1] = b;
        return;
    }
    const __m256 lo = stored == UW_F32 ? a : _mm256_unpacklo_ps(a, b), hi = stored == UW_F32 ? b : _mm256_unpackhi_ps(a, b);
    natural[0] = _mm256_permute2f128_ps(lo, hi, 0x20);
    natural[1] = _mm256_permute2f128_ps(lo, hi, 0x31);
}

/* Natural order to what deal() gives, for `n` numbers, a multiple of 16. */
UW_INLINE void deal_floats(const uw_number stored, float *row, uint64_t n) {
    for (uint64_t i = 0; i < n && stored != UW_F16; i += 16) {
        const __m256 a = _mm256_loadu_ps(row + i), b = _mm256_loadu_ps(row + i + 8);
        __m256 dealt[2] = {_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31)};
        if (stored == UW_BF16) {
            dealt[0] = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88)), 0xD8));
            dealt[1] = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xDD)), 0xD8));
        }
        _mm256_storeu_ps(row + i, dealt[0]);
        _mm256_storeu_ps(row + i + 8, dealt[1]);
    }
}

/* Sixteen words as numbers of the kind `as` in natural order. */
UW_INLINE void put_words(const uw_number stored, const uw_number as, __m256i unit, const uint8_t *lower, uint8_t *out) {
    if (as == stored && as != UW_F32) {
        _mm256_storeu_si256((__m256i *)out, unit);
        return;
    }
    __m256 dealt[2], natural[2];
    deal(stored, unit, lower, dealt);
    put_back(stored, dealt[0], dealt[1], natural);
    for (int h = 0; h < 2; h++) {
        if (as == UW_F32) _mm256_storeu_ps((float *)out + 8 * h, natural[h]);
        else _mm_storeu_si128((__m128i *)out + h, _mm256_cvtps_ph(natural[h], _MM_FROUND_TO_NEAREST_INT));
    }
}

UW_INLINE void put_64(const form f, const uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint8_t *out) {
    __m256i units[4];
    words_of(f, high, low, units);
    for (int q = 0; q < 4; q++)
        put_words(f.stored, as, units[q], f.stored == UW_F32 ? lower + 32 * q : NULL, out + 16 * (uint64_t)q * uw_width(as));
}

UW_INLINE void put_16(const form f, const uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint8_t *out) {
    put_words(f.stored, as, words_of_unit(f, high, low), lower, out);
}

/* 4 accumulators of 8 lanes, or one of a tile. */
#define FOR_EACH_SUM(order, call) \
    do { \
        if (is_tile(order)) call(UW_FUSED, 1); \
        else call(UW_FUSED, 4); \
    } while (0)
/* Floats, except where the host reads F16: that takes half the cache and one instruction to widen. BF16 takes two, which is slower. */
#define TILE_ELEMENT(original, stored) ((original) == UW_F16 ? UW_F16 : UW_F32)
#define TILES_OF_BF16 0

UW_INLINE int is_ours(uw_order order) { return uw_sum_of(order).lanes == LANES && uw_sum_of(order).multiply == UW_FUSED; }
UW_INLINE const uw_kernels *others(uw_order order) { return uw_sum_of(order).lanes > LANES ? &uw_kernels_scalar : &uw_kernels_ssse3; }
/* No order of 8 lanes multiplies pairs. */
UW_INLINE __m256 multiply_words(__m256i w, const void *x, __m256 acc) {
    (void)w, (void)x;
    return acc;
}

#include "products.h"

const uw_kernels uw_kernels_avx2 = {decode, expand, prepare, matvec, matmul, plain_matvec};
