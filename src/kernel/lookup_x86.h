/* Palette look-ups by byte shuffles: of 16 bytes with SSSE3, of 32 with AVX2, which AVX-512 takes for the ends of segments. */
#ifndef UNWEIGHT_LOOKUP_X86_H
#define UNWEIGHT_LOOKUP_X86_H

#include <immintrin.h>

#include "internal.h"

/* A shuffle takes bits 0 to 3 of an index, and gives zero where bit 7 is set. The palette of 3-bit codes stands in it twice, so
 * that bit 3 does not matter; only bit 7 has to be cleared. Takes `n` bytes, 16 or 8, of parts that are w long. */
UW_INLINE void lookup3_16(__m128i palette, const uint8_t *in, uint64_t w, const int n, uint8_t *out) {
    const __m128i without_top = _mm_set1_epi8(0x7F), nibble = _mm_set1_epi8(15), tops = _mm_set1_epi8((char)0x88);
    __m128i v[3];
    for (uint64_t i = 0; i < 3; i++)
        v[i] = n == 8 ? _mm_loadl_epi64((const __m128i *)(in + w * i)) : _mm_loadu_si128((const __m128i *)(in + w * i));
    const __m128i rest = _mm_or_si128(_mm_or_si128(_mm_srli_epi16(_mm_and_si128(v[0], tops), 3), _mm_srli_epi16(_mm_and_si128(v[1], tops), 2)),
                                      _mm_srli_epi16(_mm_and_si128(v[2], tops), 1));
    const __m128i codes[8] = {
        _mm_and_si128(v[0], without_top), _mm_and_si128(_mm_srli_epi16(v[0], 4), nibble),
        _mm_and_si128(v[1], without_top), _mm_and_si128(_mm_srli_epi16(v[1], 4), nibble),
        _mm_and_si128(v[2], without_top), _mm_and_si128(_mm_srli_epi16(v[2], 4), nibble),
        rest, _mm_srli_epi16(rest, 4),
    };
    for (uint64_t i = 0; i < 8; i++) {
        const __m128i high = _mm_shuffle_epi8(palette, codes[i]);
        if (n == 8) _mm_storel_epi64((__m128i *)(out + w * i), high);
        else _mm_store_si128((__m128i *)(out + w * i), high);
    }
}

#ifdef __AVX2__
/* The same on 32 bytes. */
UW_INLINE void lookup3_32(__m256i palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    const __m256i without_top = _mm256_set1_epi8(0x7F), nibble = _mm256_set1_epi8(15), tops = _mm256_set1_epi8((char)0x88);
    const __m256i a = _mm256_loadu_si256((const __m256i *)in), b = _mm256_loadu_si256((const __m256i *)(in + w)),
                  c = _mm256_loadu_si256((const __m256i *)(in + 2 * w));
    const __m256i rest = _mm256_or_si256(_mm256_or_si256(_mm256_srli_epi16(_mm256_and_si256(a, tops), 3),
                                                         _mm256_srli_epi16(_mm256_and_si256(b, tops), 2)),
                                         _mm256_srli_epi16(_mm256_and_si256(c, tops), 1));
#define PUT(v, codes) _mm256_store_si256((__m256i *)(out + (v) * w), _mm256_shuffle_epi8(palette, codes))
    PUT(0, _mm256_and_si256(a, without_top));
    PUT(1, _mm256_and_si256(_mm256_srli_epi16(a, 4), nibble));
    PUT(2, _mm256_and_si256(b, without_top));
    PUT(3, _mm256_and_si256(_mm256_srli_epi16(b, 4), nibble));
    PUT(4, _mm256_and_si256(c, without_top));
    PUT(5, _mm256_and_si256(_mm256_srli_epi16(c, 4), nibble));
    PUT(6, rest);
    PUT(7, _mm256_srli_epi16(rest, 4));
#undef PUT
}

UW_INLINE void lookup3_part(__m256i palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    if (w == 32) lookup3_32(palette, in, 32, out);
    else if (w == 16) lookup3_16(_mm256_castsi256_si128(palette), in, 16, 16, out);
    else lookup3_16(_mm256_castsi256_si128(palette), in, 8, 8, out);
}

UW_INLINE void lookup4_block(__m256i palette, const uint8_t *in, uint8_t *out) {
    const __m256i nibble = _mm256_set1_epi8(15), both = _mm256_loadu_si256((const __m256i *)in);
    _mm256_store_si256((__m256i *)out, _mm256_shuffle_epi8(palette, _mm256_and_si256(both, nibble)));
    _mm256_store_si256((__m256i *)(out + 32), _mm256_shuffle_epi8(palette, _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble)));
}

UW_INLINE __m256i palette_of(const uw_piece *piece) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)piece->palette));
}

#endif
#endif
