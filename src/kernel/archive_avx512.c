/* AVX-512 with F, BW, DQ and VL: 64 buckets are looked up in two registers. */
#include <immintrin.h>

#include "archive_join.h"

/* Takes words from the stream for the states that have become too small. */
UW_INLINE __m512i refill(__m512i state, const uint8_t **next) {
    const __mmask16 needs = _mm512_cmplt_epu32_mask(state, _mm512_set1_epi32(UW_STATE_LEAST));
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)*next));
    *next += 2 * __builtin_popcount(needs);
    return _mm512_mask_or_epi32(state, needs, _mm512_slli_epi32(state, 16), _mm512_maskz_expand_epi32(needs, words));
}

/* The same, but lanes that stand still keep their state. */
UW_INLINE __m512i refill_active(__m512i before, __m512i state, __mmask16 active, const uint8_t **next) {
    const __mmask16 needs = _mm512_mask_cmplt_epu32_mask(active, state, _mm512_set1_epi32(UW_STATE_LEAST));
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)*next));
    *next += 2 * __builtin_popcount(needs);
    state = _mm512_mask_or_epi32(state, needs, _mm512_slli_epi32(state, 16), _mm512_maskz_expand_epi32(needs, words));
    return _mm512_mask_mov_epi32(before, active, state);
}

/* One step of all lanes; `moving` has those that do not stand still, or is NULL if none does. */
UW_INLINE void step(const uw_code *code, __m512i states[4], const __mmask16 *moving, const uint8_t **next, uint8_t *out) {
    const __m512i low_word = _mm512_set1_epi32(0xFFFF), low_byte = _mm512_set1_epi16(0xFF), low_bits = _mm512_set1_epi16(63);
    const __m512i pairs[2] = {_mm512_loadu_si512(code->pair), _mm512_loadu_si512(code->pair + 32)};
    const __m512i offsets[2] = {_mm512_loadu_si512(code->offset), _mm512_loadu_si512(code->offset + 32)};
    const __m512i frequencies[2] = {_mm512_loadu_si512(code->frequency), _mm512_loadu_si512(code->frequency + 32)};
    UNROLL for (int half = 0; half < 2; half++) {
        __m512i *even = states + 2 * half, *odd = even + 1;
        const __m512i slots = _mm512_mask_blend_epi16(0xAAAAAAAA, *even, _mm512_slli_epi32(*odd, 16));
        const __m512i buckets = _mm512_srli_epi16(slots, 6), low = _mm512_and_si512(slots, low_bits);
        const __m512i pair = _mm512_permutex2var_epi16(pairs[0], buckets, pairs[1]);
        const __mmask32 other = _mm512_cmpge_epu16_mask(low, _mm512_and_si512(pair, low_byte));
        const __m512i symbols = _mm512_mask_srli_epi16(buckets, other, pair, 8);
        const __m512i places = _mm512_mask_add_epi16(low, other, low, _mm512_permutex2var_epi16(offsets[0], buckets, offsets[1]));
        const __m512i frequency = _mm512_permutex2var_epi16(frequencies[0], symbols, frequencies[1]);
        const __m512i even_next =
            _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(*even, UW_SLOT_BITS), _mm512_and_si512(frequency, low_word)),
                             _mm512_and_si512(places, low_word));
        const __m512i odd_next =
            _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(*odd, UW_SLOT_BITS), _mm512_srli_epi32(frequency, 16)),
                             _mm512_srli_epi32(places, 16));
        *even = moving ? refill_active(*even, even_next, moving[2 * half], next) : refill(even_next, next);
        *odd = moving ? refill_active(*odd, odd_next, moving[2 * half + 1], next) : refill(odd_next, next);
        _mm256_storeu_si256((__m256i *)(out + 32 * half), _mm512_cvtepi16_epi8(_mm512_and_si512(symbols, low_bits)));
    }
}

UW_INLINE void load_states(const uw_stream *s, __m512i states[4]) {
    for (int v = 0; v < 4; v++) states[v] = _mm512_loadu_si512(s->states + 16 * v);
}

UW_INLINE void store_states(uw_stream *s, const __m512i states[4]) {
    for (int v = 0; v < 4; v++) _mm512_storeu_si512(s->states + 16 * v, states[v]);
}

/* A step uses 128 bytes of the stream at most, and the last load may reach 32 behind what is used. */
UW_INLINE int has_step(const uw_stream *s, const uint8_t *next) { return s->end - next >= 4 * UW_LANES; }

static uint64_t steps(uw_stream *s, const uw_code *codes, const uint8_t *tables, uint64_t n, uint32_t active, uint8_t *out) {
    const uint8_t *next = s->next;
    __m512i states[4];
    __mmask16 moving[4] = {0};
    uint64_t t = 0;
    load_states(s, states);
    if (active == UW_LANES)
        for (; t < n && has_step(s, next); t++) step(codes + tables[t], states, NULL, &next, out + UW_LANES * t);
    else {
        for (uint32_t q = 0; q < UW_LANES; q++) moving[q / 16] |= (__mmask16)((uw_lane(q) < active) << q % 16);
        for (; t < n && has_step(s, next); t++) step(codes + tables[t], states, moving, &next, out + UW_LANES * t);
    }
    store_states(s, states);
    s->next = next;
    return t;
}

/* While one waits for a look-up, the other goes on. */
static uint64_t twin_steps(uw_stream s[2], const uw_code *codes, uint8_t tables[2][UW_TURNED], uint64_t n, uint8_t *const out[2]) {
    const uint8_t *next[2] = {s[0].next, s[1].next};
    __m512i first[4], second[4];
    uint64_t t = 0;
    load_states(s, first);
    load_states(s + 1, second);
    for (; t < n && has_step(s, next[0]) && has_step(s + 1, next[1]); t++) {
        step(codes + tables[0][t], first, NULL, next, out[0] + UW_LANES * t);
        step(codes + tables[1][t], second, NULL, next + 1, out[1] + UW_LANES * t);
    }
    store_states(s, first);
    store_states(s + 1, second);
    for (int i = 0; i < 2; i++) s[i].next = next[i];
    return t;
}

static uint64_t byte_steps(uw_stream *s, const uint32_t *slots, uint64_t n, uint8_t *out) {
    const __m512i low_bits = _mm512_set1_epi32(UW_SLOTS - 1);
    const uint8_t *next = s->next;
    __m512i states[4];
    uint64_t t = 0;
    for (int v = 0; v < 4; v++) states[v] = _mm512_loadu_si512(s->states + 16 * v);
    for (; t < n && s->end - next >= 4 * UW_LANES; t++) {
        __m512i found[4];
        UNROLL for (int v = 0; v < 4; v++) {
            found[v] = _mm512_i32gather_epi32(_mm512_and_si512(states[v], low_bits), (const int *)slots, 4);
            const __m512i rest = _mm512_srli_epi32(states[v], UW_SLOT_BITS);
            const __m512i grown = _mm512_add_epi32(_mm512_mullo_epi32(rest, _mm512_srli_epi32(found[v], 20)), rest);
            states[v] = refill(_mm512_add_epi32(grown, _mm512_and_si512(_mm512_srli_epi32(found[v], 8), low_bits)), &next);
        }
        UNROLL for (int half = 0; half < 2; half++) {
            const __m512i both = _mm512_mask_blend_epi16(0xAAAAAAAA, found[2 * half], _mm512_slli_epi32(found[2 * half + 1], 16));
            _mm256_storeu_si256((__m256i *)(out + UW_LANES * t + 32 * half), _mm512_cvtepi16_epi8(both));
        }
    }
    for (int v = 0; v < 4; v++) _mm512_storeu_si512(s->states + 16 * v, states[v]);
    s->next = next;
    return t;
}

/* Turns four squares of 16 by 16 bytes, side by side. */
UW_INLINE void turn_squares(__m512i a[16]) {
    __m512i b[16];
    for (int round = 0; round < 2; round++) {
        for (int c = 0; c < 8; c++) {
            b[2 * c] = _mm512_unpacklo_epi8(a[c], a[c + 8]);
            b[2 * c + 1] = _mm512_unpackhi_epi8(a[c], a[c + 8]);
        }
        for (int c = 0; c < 8; c++) {
            a[2 * c] = _mm512_unpacklo_epi8(b[c], b[c + 8]);
            a[2 * c + 1] = _mm512_unpackhi_epi8(b[c], b[c + 8]);
        }
    }
}

static void turn(const uint8_t *columns, uint8_t *const rows[UW_LANES], uint64_t at) {
    __m512i a[16];
    for (int c = 0; c < 16; c++) a[c] = _mm512_loadu_si512(columns + 64 * c);
    turn_squares(a);
    for (int i = 0; i < 16; i++) {
        _mm_storeu_si128((__m128i *)(rows[i] + at), _mm512_castsi512_si128(a[i]));
        _mm_storeu_si128((__m128i *)(rows[16 + i] + at), _mm512_extracti32x4_epi32(a[i], 1));
        _mm_storeu_si128((__m128i *)(rows[32 + i] + at), _mm512_extracti32x4_epi32(a[i], 2));
        _mm_storeu_si128((__m128i *)(rows[48 + i] + at), _mm512_extracti32x4_epi32(a[i], 3));
    }
}

static void turn_back(const uint8_t *const rows[UW_LANES], uint64_t at, uint8_t *columns) {
    __m512i a[16];
    for (int i = 0; i < 16; i++) {
        const __m512i first = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(rows[i] + at)));
        const __m512i second = _mm512_inserti32x4(first, _mm_loadu_si128((const __m128i *)(rows[16 + i] + at)), 1);
        const __m512i third = _mm512_inserti32x4(second, _mm_loadu_si128((const __m128i *)(rows[32 + i] + at)), 2);
        a[i] = _mm512_inserti32x4(third, _mm_loadu_si128((const __m128i *)(rows[48 + i] + at)), 3);
    }
    turn_squares(a);
    for (int c = 0; c < 16; c++) _mm512_storeu_si512(columns + 64 * c, a[c]);
}

/* The words of states that would become too large. Lanes fall, and words are written backwards. */
UW_INLINE __m512i emit(__m512i state, __m512i frequency, uint16_t **next) {
    const __mmask16 large = _mm512_cmpge_epu32_mask(_mm512_srli_epi32(state, 20), frequency);
    _mm256_storeu_si256((__m256i *)*next, _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(large, state)));
    *next += __builtin_popcount(large);
    return _mm512_mask_srli_epi32(state, large, state, 16);
}

/* The state with a symbol in it. The quotient is right or one too small at first, whatever the rounding. */
UW_INLINE __m512i pushed(__m512i state, __m512i frequency, __m512i inverse, __m512i first, const uint16_t *slots) {
    const __m512 estimate = _mm512_mul_ps(_mm512_cvtepu32_ps(state), _mm512_castsi512_ps(inverse));
    __m512i quotient = _mm512_cvttps_epu32(estimate);
    __m512i place = _mm512_sub_epi32(state, _mm512_mullo_epi32(quotient, frequency));
    const __mmask16 more = _mm512_cmpge_epu32_mask(place, frequency);
    quotient = _mm512_mask_add_epi32(quotient, more, quotient, _mm512_set1_epi32(1));
    place = _mm512_mask_sub_epi32(place, more, place, frequency);
    const __m512i at = _mm512_and_si512(_mm512_add_epi32(place, first), _mm512_set1_epi32(UW_SLOTS - 1));
    const __m512i slot = _mm512_and_si512(_mm512_i32gather_epi32(at, (const int *)slots, 2), _mm512_set1_epi32(UW_SLOTS - 1));
    return _mm512_or_si512(_mm512_slli_epi32(quotient, UW_SLOT_BITS), slot);
}

UW_INLINE __m512i looked_up(const uint16_t *table, __m512i symbols) {
    return _mm512_permutex2var_epi16(_mm512_loadu_si512(table), symbols, _mm512_loadu_si512(table + 32));
}

static uint64_t encode_steps(uw_pen *pen, const uw_coding *codes, const uint8_t *tables, uint64_t n, uint8_t *symbols) {
    const __m512i low_word = _mm512_set1_epi32(0xFFFF), falling = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    uint16_t *next = pen->next;
    __m512i states[4];
    for (int v = 0; v < 4; v++) states[v] = _mm512_permutexvar_epi32(falling, _mm512_loadu_si512(pen->states + 16 * (3 - v)));
    for (; n > 0; n--) {
        const uw_coding *code = codes + tables[n - 1];
        uint8_t *step = symbols + UW_LANES * (n - 1);
        __m512i symbol[2], frequency[2];
        uint64_t missing = 0;
        for (int half = 0; half < 2; half++) {
            symbol[half] = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(step + 32 * half)));
            frequency[half] = looked_up(code->frequency, symbol[half]);
            missing |= (uint64_t)_mm512_testn_epi16_mask(frequency[half], frequency[half]) << 32 * half;
        }
        if (missing) {
            if (!code->frequency[UW_ESCAPE]) break;
            for (int half = 0; half < 2; half++) {
                symbol[half] = _mm512_mask_mov_epi16(symbol[half], (__mmask32)(missing >> 32 * half), _mm512_set1_epi16(UW_ESCAPE));
                frequency[half] = looked_up(code->frequency, symbol[half]);
            }
            for (; missing; missing &= missing - 1) {
                const int at = __builtin_ctzll(missing);
                step[at] = UW_ESCAPE;
                pen->demoted[pen->n_demoted++] = (uint16_t)(UW_LANES * (n - 1) + (uint64_t)at);
            }
        }
        UNROLL for (int half = 0; half < 2; half++) {
            const __m512i even = _mm512_and_si512(frequency[half], low_word), odd = _mm512_srli_epi32(frequency[half], 16);
            const __m512i low = looked_up(code->inverse_low, symbol[half]), high = looked_up(code->inverse_high, symbol[half]);
            const __m512i first = looked_up(code->first, symbol[half]);
            __m512i *state = states + 2 * half;
            state[0] = emit(state[0], even, &next);
            state[1] = emit(state[1], odd, &next);
            state[0] = pushed(state[0], even, _mm512_mask_blend_epi16(0xAAAAAAAA, low, _mm512_slli_epi32(high, 16)),
                              _mm512_and_si512(first, low_word), code->slots);
            state[1] = pushed(state[1], odd, _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(low, 16), high),
                              _mm512_srli_epi32(first, 16), code->slots);
        }
    }
    for (int v = 0; v < 4; v++) _mm512_storeu_si512(pen->states + 16 * (3 - v), _mm512_permutexvar_epi32(falling, states[v]));
    pen->next = next;
    return n;
}

const uw_archive_kernels uw_archive_avx512 = {steps, twin_steps, byte_steps, turn, join, encode_steps, turn_back, split, sum_symbols};
