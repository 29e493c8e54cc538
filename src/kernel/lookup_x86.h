/* Palette look-ups by byte shuffles: of 16 bytes with SSSE3, of 32 with AVX2, which AVX-512 takes for the ends of segments. */
#ifndef UNWEIGHT_LOOKUP_X86_H
#define UNWEIGHT_LOOKUP_X86_H

#include <immintrin.h>

#include "internal.h"

/* A shuffle takes bits 0 to 3 of an index, and gives zero where bit 7 is set. The palette of 3-bit codes stands in it twice, so
 * that bit 3 does not matter; only bit 7 has to be cleared. */

/* The bits that two fields of 3 in each byte of three parts leave over: 3 and 7 of each, as two fields in one. */
UW_INLINE __m128i left_over_128(const __m128i v[3]) {
    const __m128i tops = _mm_set1_epi8((char)0x88);
    return _mm_or_si128(_mm_or_si128(_mm_srli_epi16(_mm_and_si128(v[0], tops), 3), _mm_srli_epi16(_mm_and_si128(v[1], tops), 2)),
                        _mm_srli_epi16(_mm_and_si128(v[2], tops), 1));
}

UW_INLINE void load_parts_128(const uint8_t *in, uint64_t w, __m128i v[3]) {
    for (uint64_t i = 0; i < 3; i++)
        v[i] = w == 8 ? _mm_loadl_epi64((const __m128i *)(in + w * i)) : _mm_loadu_si128((const __m128i *)(in + w * i));
}

/* Takes 16 bytes, or where w is 8 as many, of parts that are w long. */
UW_INLINE void lookup3_128(__m128i palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    const __m128i without_top = _mm_set1_epi8(0x7F), nibble = _mm_set1_epi8(15);
    __m128i v[3];
    load_parts_128(in, w, v);
    const __m128i rest = left_over_128(v);
    const __m128i codes[8] = {
        _mm_and_si128(v[0], without_top), _mm_and_si128(_mm_srli_epi16(v[0], 4), nibble),
        _mm_and_si128(v[1], without_top), _mm_and_si128(_mm_srli_epi16(v[1], 4), nibble),
        _mm_and_si128(v[2], without_top), _mm_and_si128(_mm_srli_epi16(v[2], 4), nibble),
        rest, _mm_srli_epi16(rest, 4),
    };
    for (uint64_t i = 0; i < 8; i++) {
        const __m128i high = _mm_shuffle_epi8(palette, codes[i]);
        if (w == 8) _mm_storel_epi64((__m128i *)(out + w * i), high);
        else _mm_store_si128((__m128i *)(out + w * i), high);
    }
}

UW_INLINE void lookup6_128(__m128i palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    const __m128i without_top = _mm_set1_epi8(0x7F), raw = _mm_set1_epi8(7);
    __m128i v[4];
    load_parts_128(in, w, v);
    v[3] = left_over_128(v);
    for (uint64_t i = 0; i < 4; i++) {
        const __m128i high = _mm_shuffle_epi8(palette, _mm_and_si128(v[i], without_top));
        _mm_store_si128((__m128i *)(out + w * i), _mm_or_si128(high, _mm_and_si128(_mm_srli_epi16(v[i], 4), raw)));
    }
}

#ifdef __AVX2__
/* The same on 32 bytes. */
UW_INLINE __m256i left_over_256(const __m256i v[3]) {
    const __m256i tops = _mm256_set1_epi8((char)0x88);
    return _mm256_or_si256(
        _mm256_or_si256(_mm256_srli_epi16(_mm256_and_si256(v[0], tops), 3), _mm256_srli_epi16(_mm256_and_si256(v[1], tops), 2)),
        _mm256_srli_epi16(_mm256_and_si256(v[2], tops), 1));
}

UW_INLINE void lookup3_256(__m256i palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    const __m256i without_top = _mm256_set1_epi8(0x7F), nibble = _mm256_set1_epi8(15);
    if (w < 32) {
        lookup3_128(_mm256_castsi256_si128(palette), in, w, out);
        return;
    }
    for (uint64_t at = 0; at < w; at += 32, in += 32, out += 32) {
        const __m256i v[3] = {_mm256_loadu_si256((const __m256i *)in), _mm256_loadu_si256((const __m256i *)(in + w)),
                              _mm256_loadu_si256((const __m256i *)(in + 2 * w))};
        /* One after the other: sums that wait in registers meanwhile stay there. */
        for (uint64_t i = 0; i < 6; i++) {
            const __m256i code = i % 2 ? _mm256_and_si256(_mm256_srli_epi16(v[i / 2], 4), nibble) : _mm256_and_si256(v[i / 2], without_top);
            _mm256_store_si256((__m256i *)(out + w * i), _mm256_shuffle_epi8(palette, code));
        }
        const __m256i rest = left_over_256(v);
        _mm256_store_si256((__m256i *)(out + w * 6), _mm256_shuffle_epi8(palette, rest));
        _mm256_store_si256((__m256i *)(out + w * 7), _mm256_shuffle_epi8(palette, _mm256_srli_epi16(rest, 4)));
    }
}

UW_INLINE void lookup6_256(__m256i palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    const __m256i without_top = _mm256_set1_epi8(0x7F), raw = _mm256_set1_epi8(7);
    if (w < 32) {
        lookup6_128(_mm256_castsi256_si128(palette), in, w, out);
        return;
    }
    for (uint64_t at = 0; at < w; at += 32, in += 32, out += 32) {
        __m256i v[4] = {_mm256_loadu_si256((const __m256i *)in), _mm256_loadu_si256((const __m256i *)(in + w)),
                        _mm256_loadu_si256((const __m256i *)(in + 2 * w))};
        v[3] = left_over_256(v);
        for (uint64_t i = 0; i < 4; i++) {
            const __m256i high = _mm256_shuffle_epi8(palette, _mm256_and_si256(v[i], without_top));
            _mm256_store_si256((__m256i *)(out + w * i), _mm256_or_si256(high, _mm256_and_si256(_mm256_srli_epi16(v[i], 4), raw)));
        }
    }
}

UW_INLINE void lookup4_256(__m256i palette, const uint8_t *in, uint8_t *out) {
    const __m256i nibble = _mm256_set1_epi8(15), both = _mm256_loadu_si256((const __m256i *)in);
    _mm256_store_si256((__m256i *)out, _mm256_shuffle_epi8(palette, _mm256_and_si256(both, nibble)));
    _mm256_store_si256((__m256i *)(out + 32), _mm256_shuffle_epi8(palette, _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble)));
}

UW_INLINE __m256i palette_of(const uw_piece *piece) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)piece->palette));
}

#endif
#endif
