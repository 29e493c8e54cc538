/* Symbols and raw bits to numbers, for compilers to make vector instructions of: each instruction set's file includes this. */
#include "archive_internal.h"

/* How a number is put together: raw bits are its sign and what is below the symbol. */
typedef struct uw_join_form {
    uw_number number;
    uint32_t word, bytes, planes; /* bytes of a word; of its raw bits, whole bytes and bit-planes */
} uw_join_form;

UW_INLINE uw_join_form form_of_parts(const uint32_t number, const uint32_t fine) {
    const uint32_t word = number == UW_F32 ? 4 : 2, bits = (number == UW_F32 ? 24 : number == UW_F16 ? 11 : 8) - fine;
    return (uw_join_form){(uw_number)number, word, bits / 8, bits % 8};
}

UW_INLINE uint32_t joined(const uw_join_form f, uint32_t symbol, uint32_t raw) {
    const uint32_t low = 8 * f.bytes + f.planes - 1;
    return raw >> low << (8 * f.word - 1) | symbol << low | (raw & ((1u << low) - 1));
}

UW_INLINE void put_joined(const uw_join_form f, uint32_t word, uint8_t *out) { memcpy(out, &word, f.word); }

/* Vectors as compilers have them: each instruction set makes as many registers of one as it takes. */
typedef uint64_t uw_planes __attribute__((vector_size(64)));
typedef uint8_t uw_bytes32 __attribute__((vector_size(32)));
typedef uint16_t uw_words32 __attribute__((vector_size(64)));
typedef uint8_t uw_bytes16 __attribute__((vector_size(16)));
typedef uint32_t uw_words16 __attribute__((vector_size(64)));

#define LOAD(type, from)                     \
    ({                                       \
        type loaded;                         \
        memcpy(&loaded, from, sizeof loaded); \
        loaded;                              \
    })

/* Turns eight by eight bits in each byte: bit v of the byte at l of p[j] changes places with bit j of that of p[v]. */
UW_INLINE void turn_bits(uw_planes p[8]) {
    UNROLL for (int stage = 0; stage < 3; stage++) {
        const int d = 1 << stage;
        const uint64_t mask = stage == 0 ? 0x5555555555555555u : stage == 1 ? 0x3333333333333333u : 0x0F0F0F0F0F0F0F0Fu;
        UNROLL for (int j = 0; j < 8; j++) {
            if (j & d) continue;
            const uw_planes swapped = ((p[j] >> d) ^ p[j + d]) & mask;
            p[j + d] ^= swapped;
            p[j] ^= swapped << d;
        }
    }
}

/* Bits of planes to bits of weights: bit v of the byte at l of plane j is bit j of the weight 64 v + l. */
UW_INLINE void rest_of(const uint32_t n_planes, const uint8_t *raw, uint8_t rest[UW_RAW_GROUP]) {
    uw_planes p[8];
    UNROLL for (uint32_t j = 0; j < 8; j++) p[j] = j < n_planes ? LOAD(uw_planes, raw + 64 * j) : (uw_planes){0};
    turn_bits(p);
    UNROLL for (int v = 0; v < 8; v++) memcpy(rest + 64 * v, &p[v], 64);
}

/* A whole group: its bit-planes, then the whole bytes of each weight, of which the lowest may stand elsewhere. */
UW_INLINE void join_group(const uw_join_form f, const uint32_t base, const uint8_t *symbols, const uint8_t *raw, const uint8_t *lowest,
                          uint8_t *out) {
    uint8_t rest[UW_RAW_GROUP];
    const uint32_t low = 8 * f.bytes + f.planes - 1;
    if (f.planes) rest_of(f.planes, raw, rest);
    raw += 64 * f.planes;
    if (f.word == 2) {
        for (int i = 0; i < UW_RAW_GROUP; i += 32) {
            const uw_words32 symbol = __builtin_convertvector(LOAD(uw_bytes32, symbols + i), uw_words32) + (uint16_t)base;
            uw_words32 bits = __builtin_convertvector(LOAD(uw_bytes32, (f.planes ? rest : raw) + i), uw_words32);
            if (f.planes && f.bytes) bits = bits << 8 | __builtin_convertvector(LOAD(uw_bytes32, raw + i), uw_words32);
            const uw_words32 word = (bits << (15 - low) & 0x8000) | symbol << low | (bits & (uint16_t)((1u << low) - 1));
            memcpy(out + 2 * i, &word, 64);
        }
        return;
    }
    const uint32_t coded = lowest != NULL, stored = f.bytes - coded;
    for (int i = 0; i < UW_RAW_GROUP; i += 16) {
        const uw_words16 symbol = __builtin_convertvector(LOAD(uw_bytes16, symbols + i), uw_words16) + base;
        uw_words16 bits;
        if (stored == 1) bits = __builtin_convertvector(LOAD(uw_bytes16, raw + i), uw_words16);
        else if (stored == 2) {
            uint16_t halves[16];
            memcpy(halves, raw + 2 * i, 32);
            for (int j = 0; j < 16; j++) bits[j] = halves[j];
        } else
            for (int j = 0; j < 16; j++) bits[j] = (uint32_t)raw[3 * (i + j)] | (uint32_t)raw[3 * (i + j) + 1] << 8 | (uint32_t)raw[3 * (i + j) + 2] << 16;
        if (coded) bits = bits << 8 | __builtin_convertvector(LOAD(uw_bytes16, lowest + i), uw_words16);
        if (f.planes) bits |= __builtin_convertvector(LOAD(uw_bytes16, rest + i), uw_words16) << 8 * f.bytes;
        const uw_words16 word = (bits << (31 - low) & 0x80000000u) | symbol << low | (bits & ((1u << low) - 1));
        memcpy(out + 4 * i, &word, 64);
    }
}

/* The raw bits of weight i of a group of n. */
UW_INLINE uint32_t raw_of(const uw_join_form f, const uint8_t *raw, const uint8_t *lowest, uint64_t n, uint64_t i) {
    const uint64_t width = (n + 7) / 8;
    const uint32_t coded = lowest != NULL, stored = f.bytes - coded;
    uint32_t bits = lowest ? lowest[i] : 0;
    for (uint32_t plane = 0; plane < f.planes; plane++)
        bits |= (uint32_t)(raw[width * plane + i % width] >> i / width & 1) << (8 * f.bytes + plane);
    for (uint32_t byte = 0; byte < stored; byte++) bits |= (uint32_t)raw[width * f.planes + stored * i + byte] << 8 * (byte + coded);
    return bits;
}

/* Whether one of 64 symbols is an escape: the highest there is, so that one more sets the next bit. */
UW_INLINE int has_escapes(const uint8_t *symbols) {
    const uw_planes next = LOAD(uw_planes, symbols) + 0x0101010101010101u;
    uint64_t any = 0;
    UNROLL for (int i = 0; i < 8; i++) any |= next[i];
    return !!(any & 0x4040404040404040u);
}

UW_INLINE int join_form(const uw_join_form f, const uw_parts *p, const uint64_t n, uint8_t *out) {
    const uint8_t *raw = p->raw, *lowest = p->lowest;
    const uint64_t group_bytes = 64 * f.planes + UW_RAW_GROUP * (uint64_t)(f.bytes - (lowest != NULL));
    uint64_t escape = 0;
    for (uint64_t first = 0; first < n; first += UW_RAW_GROUP, raw += group_bytes) {
        const uint64_t here = n - first < UW_RAW_GROUP ? n - first : UW_RAW_GROUP;
        const uint8_t *symbols = p->symbols + first, *low = lowest ? lowest + first : NULL;
        uint8_t *to = out + f.word * first;
        if (here == UW_RAW_GROUP) {
            if (low) join_group(f, p->base, symbols, raw, low, to);
            else join_group(f, p->base, symbols, raw, NULL, to);
        } else
            for (uint64_t i = 0; i < here; i++)
                put_joined(f, joined(f, symbols[i] + p->base, raw_of(f, raw, low, here, i)), to + f.word * i);
        for (uint64_t block = 0; block < here; block += 64) {
            if (here - block >= 64 && !has_escapes(symbols + block)) continue;
            for (uint64_t i = block; i < here && i < block + 64; i++) {
                if (symbols[i] != UW_ESCAPE) continue;
                if (escape == p->n_escapes) return 0;
                uint16_t symbol;
                memcpy(&symbol, p->escapes + 2 * escape++, 2);
                put_joined(f, joined(f, symbol, raw_of(f, raw, low, here, i)), to + f.word * i);
            }
        }
    }
    return escape == p->n_escapes;
}

static int join(const uw_parts *p, uint64_t n, uint8_t *out) {
    switch (p->number << 2 | p->fine) {
#define FORM(number, fine) \
    case (number) << 2 | (fine): return join_form(form_of_parts(number, fine), p, n, out);
        FORM(UW_BF16, 0)
        FORM(UW_BF16, 1)
        FORM(UW_BF16, 2)
        FORM(UW_F16, 0)
        FORM(UW_F16, 1)
        FORM(UW_F16, 2)
        FORM(UW_F32, 0)
        FORM(UW_F32, 1)
        FORM(UW_F32, 2)
#undef FORM
    default: return 0;
    }
}

/* The symbol of a word, and its raw bits. */
UW_INLINE uint8_t symbol_of(const uw_join_form f, uint32_t word, uint32_t base, uint32_t values) {
    const uint16_t symbol = (uint16_t)((word >> (8 * f.bytes + f.planes - 1) & (values - 1)) - base);
    return symbol < UW_ESCAPE ? (uint8_t)symbol : UW_ESCAPE;
}

UW_INLINE uint32_t raw_of_word(const uw_join_form f, uint32_t word) {
    const uint32_t low = 8 * f.bytes + f.planes - 1;
    return word >> (8 * f.word - 1) << low | (word & ((1u << low) - 1));
}

UW_INLINE void split_group(const uw_join_form f, const uint8_t *numbers, const uint32_t base, const uint32_t values, const int is_coded,
                           uint8_t *symbols, uint8_t *raw) {
    const uint32_t low = 8 * f.bytes + f.planes - 1, whole = f.bytes - is_coded;
    uint8_t rest[UW_RAW_GROUP], *bytes = raw + 64 * f.planes;
    if (f.word == 2)
        for (int i = 0; i < UW_RAW_GROUP; i += 32) {
            const uw_words32 word = LOAD(uw_words32, numbers + 2 * i);
            const uw_words32 value = (word >> low & (uint16_t)(values - 1)) - (uint16_t)base;
            const uw_words32 inside = (uw_words32)(value < UW_ESCAPE);
            const uw_words32 bits = (word >> 15 << low) | (word & (uint16_t)((1u << low) - 1));
            const uw_bytes32 symbol = __builtin_convertvector((value & inside) | (UW_ESCAPE & ~inside), uw_bytes32);
            memcpy(symbols + i, &symbol, 32);
            if (f.bytes) {
                const uw_bytes32 byte = __builtin_convertvector(bits, uw_bytes32);
                memcpy(bytes + i, &byte, 32);
            }
            if (f.planes) {
                const uw_bytes32 above = __builtin_convertvector(bits >> (f.bytes ? 8 : 0), uw_bytes32);
                memcpy(rest + i, &above, 32);
            }
        }
    else
        for (int i = 0; i < UW_RAW_GROUP; i += 16) {
            const uw_words16 word = LOAD(uw_words16, numbers + 4 * i);
            const uw_words16 value = ((word >> low & (values - 1)) - base) & 0xFFFF;
            const uw_words16 inside = (uw_words16)(value < UW_ESCAPE);
            const uw_bytes16 symbol = __builtin_convertvector((value & inside) | (UW_ESCAPE & ~inside), uw_bytes16);
            const uw_words16 bits = (word >> 31 << low) | (word & ((1u << low) - 1)), kept = bits >> 8 * is_coded;
            memcpy(symbols + i, &symbol, 16);
            if (whole == 1) {
                const uw_bytes16 byte = __builtin_convertvector(kept, uw_bytes16);
                memcpy(bytes + i, &byte, 16);
            } else
                for (int j = 0; j < 16; j++) {
                    const uint32_t some = kept[j];
                    memcpy(bytes + whole * (i + j), &some, whole);
                }
            if (f.planes) {
                const uw_bytes16 above = __builtin_convertvector(bits >> 8 * f.bytes, uw_bytes16);
                memcpy(rest + i, &above, 16);
            }
        }
    if (!f.planes) return;
    uw_planes p[8];
    UNROLL for (int v = 0; v < 8; v++) p[v] = LOAD(uw_planes, rest + 64 * v);
    turn_bits(p);
    UNROLL for (uint32_t j = 0; j < f.planes; j++) memcpy(raw + 64 * j, &p[j], 64);
}

UW_INLINE void split_form(const uw_join_form f, const uint8_t *numbers, uint64_t n, uint32_t base, const uint32_t values,
                          const int is_coded, uint8_t *symbols, uint8_t *raw) {
    const uint32_t whole = f.bytes - is_coded;
    for (; n >= UW_RAW_GROUP; n -= UW_RAW_GROUP) {
        split_group(f, numbers, base, values, is_coded, symbols, raw);
        numbers += f.word * UW_RAW_GROUP;
        symbols += UW_RAW_GROUP;
        raw += 64 * f.planes + whole * UW_RAW_GROUP;
    }
    const uint64_t width = (n + 7) / 8;
    memset(raw, 0, width * f.planes);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t word = 0;
        memcpy(&word, numbers + f.word * i, f.word);
        symbols[i] = symbol_of(f, word, base, values);
        const uint32_t bits = raw_of_word(f, word);
        for (uint32_t plane = 0; plane < f.planes; plane++)
            raw[width * plane + i % width] |= (uint8_t)((bits >> (8 * f.bytes + plane) & 1) << i / width);
        for (uint32_t byte = 0; byte < whole; byte++)
            raw[width * f.planes + whole * i + byte] = (uint8_t)(bits >> 8 * (byte + (uint32_t)is_coded));
    }
}

static void split(const uint8_t *numbers, uint64_t n, uint32_t number, uint32_t fine, uint32_t base, int is_lowest_coded, uint8_t *symbols,
                  uint8_t *raw) {
    switch (number << 2 | fine) {
#define FORM(number, fine, values)                                                                                         \
    case (number) << 2 | (fine):                                                                                           \
        if ((number) == UW_F32 && is_lowest_coded)                                                                         \
            split_form(form_of_parts(number, fine), numbers, n, base, values, (number) == UW_F32, symbols, raw);            \
        else split_form(form_of_parts(number, fine), numbers, n, base, values, 0, symbols, raw);                           \
        break;
        FORM(UW_BF16, 0, 256)
        FORM(UW_BF16, 1, 512)
        FORM(UW_BF16, 2, 1024)
        FORM(UW_F16, 0, 32)
        FORM(UW_F16, 1, 64)
        FORM(UW_F16, 2, 128)
        FORM(UW_F32, 0, 256)
        FORM(UW_F32, 1, 512)
        FORM(UW_F32, 2, 1024)
#undef FORM
    default: break;
    }
}

/* Symbols added up, escapes as 0. Pairs are added in 16 bits: 512 of them are not too much. */
static uint64_t sum_symbols(const uint8_t *symbols, uint64_t n) {
    const uint64_t ones = 0x0101010101010101u, half = 0x00FF00FF00FF00FFu;
    uint64_t sum = 0, i = 0;
    while (n - i >= 64) {
        uw_planes sums = {0};
        for (const uint64_t end = n - i < 512 * 64 ? n - 63 : i + 512 * 64; i < end; i += 64) {
            const uw_planes some = LOAD(uw_planes, symbols + i);
            /* An escape is the highest symbol: one more is a bit of its own, and as many ones take it away. */
            const uw_planes escape = (some + ones) >> 6 & ones, kept = some - (escape << 6) + escape;
            sums += (kept & half) + (kept >> 8 & half);
        }
        UNROLL for (int v = 0; v < 8; v++)
            UNROLL for (int at = 0; at < 64; at += 16) sum += sums[v] >> at & 0xFFFF;
    }
    for (; i < n; i++) sum += symbols[i] == UW_ESCAPE ? 0 : symbols[i];
    return sum;
}

/* Steps of coding, one lane at a time and without branches, up to a symbol that is not in its table. */
static __attribute__((unused)) uint64_t uw_encode_portably(uw_pen *pen, const uw_coding *codes, const uint8_t *tables, uint64_t n,
                                                           uint8_t *symbols) {
    uint32_t states[UW_LANES];
    uint16_t *next = pen->next;
    memcpy(states, pen->states, sizeof states);
    for (; n > 0; n--) {
        const uw_coding *code = codes + tables[n - 1];
        const uint8_t *step = symbols + UW_LANES * (n - 1);
        uint32_t is_missing = 0;
        for (int i = 0; i < UW_LANES; i++) is_missing |= code->frequency[step[i] & 63] == 0;
        if (is_missing) break;
        for (uint32_t q = UW_LANES; q-- > 0;) {
            const uint32_t symbol = step[UW_LANES - 1 - uw_lane(q)] & 63, frequency = code->frequency[symbol];
            const uint32_t before = states[q], is_large = before >> 20 >= frequency, state = before >> (is_large << 4);
            *next = (uint16_t)before;
            next += is_large;
            const uint32_t quotient = (uint32_t)(state * code->reciprocal[symbol] >> 44);
            const uint32_t place = state - quotient * frequency + code->first[symbol];
            states[q] = quotient << UW_SLOT_BITS | code->slots[place & (UW_SLOTS - 1)];
        }
    }
    memcpy(pen->states, states, sizeof states);
    pen->next = next;
    return n;
}
