/* For machines without anything better: one lane at a time, without branches, which would be guessed wrong. */
#include "archive_join.h"

/* The state that a lane goes on with: with a word more, if it has become too small. */
UW_INLINE uint32_t renewed(uint32_t shrunk, const uint8_t **next) {
    const uint32_t needs = (uint32_t)((int32_t)((shrunk >> 16) - 1) >> 31); /* all ones, or 0 */
    const uint32_t word = (uint32_t)(*next)[0] | (uint32_t)(*next)[1] << 8;
    *next += needs & 2;
    return shrunk << (needs & 16) | (word & needs);
}

static uint64_t steps(uw_stream *s, const uw_code *codes, const uint8_t *tables, uint64_t n, uint32_t active, uint8_t *out) {
    if (active < UW_LANES) return 0;
    const uint8_t *next = s->next;
    uint32_t states[UW_LANES];
    uint64_t t = 0;
    memcpy(states, s->states, sizeof states);
    for (; t < n && s->end - next >= 2 * UW_LANES; t++) {
        const uw_code *code = codes + tables[t];
        for (uint32_t q = 0; q < UW_LANES; q++) {
            const uint32_t state = states[q], bucket = state >> 6 & 63, low = state & 63;
            const uint32_t pair = code->pair[bucket];
            /* All ones for the other symbol. */
            const uint32_t other = (uint32_t)((int32_t)((pair & 0xFF) - 1 - low) >> 31);
            const uint32_t symbol = ((pair >> 8 & other) | (bucket & ~other)) & 63;
            const uint32_t place = (low + (code->offset[bucket] & other)) & 0xFFFF;
            const uint32_t shrunk = (state >> UW_SLOT_BITS) * code->frequency[symbol] + place;
            out[UW_LANES * t + uw_lane(q)] = (uint8_t)symbol;
            states[q] = renewed(shrunk, &next);
        }
    }
    memcpy(s->states, states, sizeof states);
    s->next = next;
    return t;
}

static uint64_t byte_steps(uw_stream *s, const uint32_t *slots, uint64_t n, uint8_t *out) {
    const uint8_t *next = s->next;
    uint32_t states[UW_LANES];
    uint64_t t = 0;
    memcpy(states, s->states, sizeof states);
    for (; t < n && s->end - next >= 2 * UW_LANES; t++)
        for (uint32_t q = 0; q < UW_LANES; q++) {
            const uint32_t state = states[q], slot = slots[state & (UW_SLOTS - 1)], rest = state >> UW_SLOT_BITS;
            const uint32_t shrunk = rest * (slot >> 20) + rest + (slot >> 8 & (UW_SLOTS - 1));
            out[UW_LANES * t + uw_lane(q)] = (uint8_t)slot;
            states[q] = renewed(shrunk, &next);
        }
    memcpy(s->states, states, sizeof states);
    s->next = next;
    return t;
}

static void turn(const uint8_t *columns, uint8_t *const rows[UW_LANES], uint64_t at) {
    for (int lane = 0; lane < UW_LANES; lane++)
        for (int c = 0; c < UW_TURNED; c++) rows[lane][at + c] = columns[UW_LANES * c + lane];
}

static void turn_back(const uint8_t *const rows[UW_LANES], uint64_t at, uint8_t *columns) {
    for (int lane = 0; lane < UW_LANES; lane++)
        for (int c = 0; c < UW_TURNED; c++) columns[UW_LANES * c + lane] = rows[lane][at + c];
}

const uw_archive_kernels uw_archive_scalar = {steps, NULL, byte_steps, turn, join, uw_encode_portably, turn_back, split, sum_symbols};
