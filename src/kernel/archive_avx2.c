/* AVX2: 64 buckets are looked up by bytes, 16 at a time. */
#include <immintrin.h>

#include "archive_join.h"

/* For each set of lanes that need a word: which of the next words is theirs. */
typedef struct spread {
    _Alignas(32) uint8_t word[256][8];
} spread;

#define BEFORE(set, lane) (uint8_t)__builtin_popcount((set) & ((1 << (lane)) - 1))
#define SPREAD1(s) {BEFORE(s, 0), BEFORE(s, 1), BEFORE(s, 2), BEFORE(s, 3), BEFORE(s, 4), BEFORE(s, 5), BEFORE(s, 6), BEFORE(s, 7)}
#define SPREAD4(s) SPREAD1(s), SPREAD1(s + 1), SPREAD1(s + 2), SPREAD1(s + 3)
#define SPREAD16(s) SPREAD4(s), SPREAD4(s + 4), SPREAD4(s + 8), SPREAD4(s + 12)
#define SPREAD64(s) SPREAD16(s), SPREAD16(s + 16), SPREAD16(s + 32), SPREAD16(s + 48)
static const spread spreads = {{SPREAD64(0), SPREAD64(64), SPREAD64(128), SPREAD64(192)}};

/* Takes words from the stream for the states that have become too small, and may move. */
UW_INLINE __m256i refill(__m256i state, __m256i moving, const uint8_t **next) {
    const __m256i needs = _mm256_and_si256(moving, _mm256_cmpeq_epi32(_mm256_srli_epi32(state, 16), _mm256_setzero_si256()));
    const unsigned set = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(needs));
    const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)*next));
    const __m256i places = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)spreads.word[set]));
    *next += 2 * __builtin_popcount(set);
    const __m256i filled = _mm256_or_si256(_mm256_slli_epi32(state, 16), _mm256_permutevar8x32_epi32(words, places));
    return _mm256_blendv_epi8(state, filled, needs);
}

/* What a table of 64 bytes has at 32 places; at[] says for each quarter of it where, or has the top bit where it is not in there. */
UW_INLINE __m256i found(const uint8_t *table, const __m256i at[4]) {
    __m256i quarters[4];
    for (int q = 0; q < 4; q++)
        quarters[q] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(table + 16 * q))), at[q]);
    return _mm256_or_si256(_mm256_or_si256(quarters[0], quarters[1]), _mm256_or_si256(quarters[2], quarters[3]));
}

UW_INLINE void quarters_of(__m256i places, __m256i at[4]) {
    for (int q = 0; q < 4; q++)
        at[q] = _mm256_add_epi8(_mm256_xor_si256(places, _mm256_set1_epi8((char)(16 * q))), _mm256_set1_epi8(0x70));
}

UW_INLINE __m256i multiplied(__m256i state, __m256i frequency, __m256i place) {
    return _mm256_add_epi32(_mm256_mullo_epi32(_mm256_srli_epi32(state, UW_SLOT_BITS), frequency), place);
}

UW_INLINE uint64_t walk(uw_stream *s, const uw_code *codes, const uint8_t *tables, uint64_t n, const int is_whole, uint32_t active,
                        uint8_t *out) {
    const __m256i low_word = _mm256_set1_epi32(0xFFFF), low_bits = _mm256_set1_epi16(63), zero = _mm256_setzero_si256();
    const uint8_t *next = s->next;
    __m256i states[8], moving[8];
    uint64_t t = 0;
    for (int v = 0; v < 8; v++) {
        uint32_t moves[8];
        states[v] = _mm256_loadu_si256((const __m256i *)(s->states + 8 * v));
        for (int i = 0; i < 8; i++) moves[i] = uw_lane(8 * v + i) < active ? ~0u : 0;
        moving[v] = is_whole ? _mm256_set1_epi32(-1) : _mm256_loadu_si256((const __m256i *)moves);
    }
    /* A step uses 128 bytes of the stream at most; the last load may reach 16 behind what is used. */
    for (; t < n && s->end - next >= 4 * UW_LANES; t++) {
        const uw_code *code = codes + tables[t];
        for (int half = 0; half < 2; half++) {
            __m256i *even = states + 4 * half, *odd = even + 2, words[2], at[4];
            for (int i = 0; i < 2; i++) words[i] = _mm256_blend_epi16(even[i], _mm256_slli_epi32(odd[i], 16), 0xAA);
            const __m256i low = _mm256_packus_epi16(_mm256_and_si256(words[0], low_bits), _mm256_and_si256(words[1], low_bits));
            const __m256i buckets = _mm256_packus_epi16(_mm256_and_si256(_mm256_srli_epi16(words[0], 6), low_bits),
                                                        _mm256_and_si256(_mm256_srli_epi16(words[1], 6), low_bits));
            quarters_of(buckets, at);
            const __m256i own = _mm256_cmpgt_epi8(found(code->threshold, at), low);
            const __m256i symbols = _mm256_blendv_epi8(found(code->other, at), buckets, own);
            const __m256i offset_low = _mm256_andnot_si256(own, found(code->offset_low, at));
            const __m256i offset_high = _mm256_andnot_si256(own, found(code->offset_high, at));
            quarters_of(symbols, at);
            const __m256i frequency_low = found(code->frequency_low, at), frequency_high = found(code->frequency_high, at);
            const __m256i places[2] = {
                _mm256_add_epi16(_mm256_unpacklo_epi8(low, zero), _mm256_unpacklo_epi8(offset_low, offset_high)),
                _mm256_add_epi16(_mm256_unpackhi_epi8(low, zero), _mm256_unpackhi_epi8(offset_low, offset_high)),
            };
            const __m256i frequencies[2] = {
                _mm256_unpacklo_epi8(frequency_low, frequency_high),
                _mm256_unpackhi_epi8(frequency_low, frequency_high),
            };
            __m256i grown[4];
            for (int i = 0; i < 2; i++) {
                grown[i] = multiplied(even[i], _mm256_and_si256(frequencies[i], low_word), _mm256_and_si256(places[i], low_word));
                grown[2 + i] = multiplied(odd[i], _mm256_srli_epi32(frequencies[i], 16), _mm256_srli_epi32(places[i], 16));
            }
            for (int i = 0; i < 4; i++) {
                const __m256i filled = refill(grown[i], moving[4 * half + i], &next);
                even[i] = is_whole ? filled : _mm256_blendv_epi8(even[i], filled, moving[4 * half + i]);
            }
            _mm256_storeu_si256((__m256i *)(out + UW_LANES * t + 32 * half), _mm256_permute4x64_epi64(symbols, 0xD8));
        }
    }
    for (int v = 0; v < 8; v++) _mm256_storeu_si256((__m256i *)(s->states + 8 * v), states[v]);
    s->next = next;
    return t;
}

static uint64_t steps(uw_stream *s, const uw_code *codes, const uint8_t *tables, uint64_t n, uint32_t active, uint8_t *out) {
    return active == UW_LANES ? walk(s, codes, tables, n, 1, active, out) : walk(s, codes, tables, n, 0, active, out);
}

static uint64_t byte_steps(uw_stream *s, const uint32_t *slots, uint64_t n, uint8_t *out) {
    const __m256i low_bits = _mm256_set1_epi32(UW_SLOTS - 1), symbol = _mm256_set1_epi16(0xFF), all = _mm256_set1_epi32(-1);
    const uint8_t *next = s->next;
    __m256i states[8];
    uint64_t t = 0;
    for (int v = 0; v < 8; v++) states[v] = _mm256_loadu_si256((const __m256i *)(s->states + 8 * v));
    for (; t < n && s->end - next >= 4 * UW_LANES; t++)
        for (int half = 0; half < 2; half++) {
            __m256i slot[4], words[2];
            for (int i = 0; i < 4; i++) {
                __m256i *state = states + 4 * half + i;
                slot[i] = _mm256_i32gather_epi32((const int *)slots, _mm256_and_si256(*state, low_bits), 4);
                const __m256i rest = _mm256_srli_epi32(*state, UW_SLOT_BITS);
                const __m256i grown = multiplied(*state, _mm256_srli_epi32(slot[i], 20), rest);
                *state = refill(_mm256_add_epi32(grown, _mm256_and_si256(_mm256_srli_epi32(slot[i], 8), low_bits)), all, &next);
            }
            for (int i = 0; i < 2; i++)
                words[i] = _mm256_and_si256(symbol, _mm256_blend_epi16(slot[i], _mm256_slli_epi32(slot[2 + i], 16), 0xAA));
            _mm256_storeu_si256((__m256i *)(out + UW_LANES * t + 32 * half),
                                _mm256_permute4x64_epi64(_mm256_packus_epi16(words[0], words[1]), 0xD8));
        }
    for (int v = 0; v < 8; v++) _mm256_storeu_si256((__m256i *)(s->states + 8 * v), states[v]);
    s->next = next;
    return t;
}

/* Turns two squares of 16 by 16 bytes, side by side. */
UW_INLINE void turn_squares(__m256i a[16]) {
    __m256i b[16];
    for (int round = 0; round < 2; round++) {
        for (int c = 0; c < 8; c++) {
            b[2 * c] = _mm256_unpacklo_epi8(a[c], a[c + 8]);
            b[2 * c + 1] = _mm256_unpackhi_epi8(a[c], a[c + 8]);
        }
        for (int c = 0; c < 8; c++) {
            a[2 * c] = _mm256_unpacklo_epi8(b[c], b[c + 8]);
            a[2 * c + 1] = _mm256_unpackhi_epi8(b[c], b[c + 8]);
        }
    }
}

static void turn(const uint8_t *columns, uint8_t *const rows[UW_LANES], uint64_t at) {
    for (int half = 0; half < 2; half++) {
        __m256i a[16];
        for (int c = 0; c < 16; c++) a[c] = _mm256_loadu_si256((const __m256i *)(columns + 64 * c + 32 * half));
        turn_squares(a);
        for (int i = 0; i < 16; i++) {
            _mm_storeu_si128((__m128i *)(rows[32 * half + i] + at), _mm256_castsi256_si128(a[i]));
            _mm_storeu_si128((__m128i *)(rows[32 * half + 16 + i] + at), _mm256_extracti128_si256(a[i], 1));
        }
    }
}

static void turn_back(const uint8_t *const rows[UW_LANES], uint64_t at, uint8_t *columns) {
    for (int half = 0; half < 2; half++) {
        __m256i a[16];
        for (int i = 0; i < 16; i++) {
            const __m256i first = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(rows[32 * half + i] + at)));
            a[i] = _mm256_inserti128_si256(first, _mm_loadu_si128((const __m128i *)(rows[32 * half + 16 + i] + at)), 1);
        }
        turn_squares(a);
        for (int c = 0; c < 16; c++) _mm256_storeu_si256((__m256i *)(columns + 64 * c + 32 * half), a[c]);
    }
}

const uw_archive_kernels uw_archive_avx2 = {steps, NULL, byte_steps, turn, join, uw_encode_portably, turn_back, split, sum_symbols};
