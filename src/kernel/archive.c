/* Walks the rows of a chunk, whatever the instruction set; what the vector kernels leave is done here, word by word. */
#include "archive_internal.h"

static const uw_archive_kernels *kernels(void) {
#if defined(__x86_64__)
    switch (uw_isa_used()) {
    case UW_ISA_AVX2: return &uw_archive_avx2;
    case UW_ISA_AVX512:
    case UW_ISA_AVX512BF16: return &uw_archive_avx512;
    default: break;
    }
#endif
    return &uw_archive_scalar;
}

static uint32_t refilled(uw_stream *s, uint32_t state) {
    if (state >= UW_STATE_LEAST) return state;
    if (s->end - s->next < 2) {
        s->is_short = 1;
        return state << 16;
    }
    const uint32_t word = (uint32_t)s->next[0] | (uint32_t)s->next[1] << 8;
    s->next += 2;
    return state << 16 | word;
}

/* The lanes of one step, as far as they are active. */
static void slow_step(uw_stream *s, const uw_code *code, uint32_t active, uint8_t *out) {
    for (uint32_t i = 0, q = 0; i < UW_LANES; i++) {
        const uint32_t lane = uw_lane(i);
        if (lane >= s->lanes) continue;
        if (lane < active) {
            const uint32_t state = s->states[q], bucket = state >> 6 & 63, low = state & 63;
            const int is_other = low >= code->threshold[bucket];
            const uint32_t symbol = is_other ? code->other[bucket] & 63 : bucket;
            const uint16_t place = (uint16_t)(low + (is_other ? code->offset[bucket] : 0));
            out[lane] = (uint8_t)symbol;
            s->states[q] = refilled(s, (state >> UW_SLOT_BITS) * code->frequency[symbol] + place);
        }
        q++;
    }
}

static void slow_byte_step(uw_stream *s, const uint32_t *slots, uint32_t active, uint8_t *out) {
    for (uint32_t i = 0, q = 0; i < UW_LANES; i++) {
        const uint32_t lane = uw_lane(i);
        if (lane >= s->lanes) continue;
        if (lane < active) {
            const uint32_t state = s->states[q], slot = slots[state & (UW_SLOTS - 1)];
            out[lane] = (uint8_t)slot;
            s->states[q] = refilled(s, (state >> UW_SLOT_BITS) * ((slot >> 20) + 1) + (slot >> 8 & (UW_SLOTS - 1)));
        }
        q++;
    }
}

/* The coder began with these states, and all words are used. */
static int ends(const uw_stream *s) {
    uint32_t other = 0;
    for (uint32_t q = 0; q < s->lanes; q++) other |= s->states[q] ^ UW_STATE_LEAST;
    return !other && !s->is_short && s->next == s->end;
}

/* Vector kernels read words that they may not use. So that they can go on to the end of the stream, its last words are copied to where zeros
 * follow them: a walk that gets there lacks words, and does not end as it should. */
#define STEP_BYTES (2 * UW_LANES)
#define MOST_STEPS 16
typedef struct uw_tail {
    uint8_t bytes[(MOST_STEPS + 4) * STEP_BYTES];
    const uint8_t *from;
} uw_tail;

static int enter_tail(uw_stream *s, uw_tail *tail) {
    const size_t left = (size_t)(s->end - s->next);
    if (left >= (MOST_STEPS + 2) * STEP_BYTES) return 0;
    memcpy(tail->bytes, s->next, left);
    memset(tail->bytes + left, 0, sizeof tail->bytes - left);
    tail->from = s->next;
    s->next = tail->bytes;
    s->end = tail->bytes + sizeof tail->bytes;
    return 1;
}

static void leave_tail(uw_stream *s, const uw_tail *tail, const uint8_t *end) {
    const size_t used = (size_t)(s->next - tail->bytes), left = (size_t)(end - tail->from);
    if (used > left) s->is_short = 1;
    s->next = tail->from + (used > left ? left : used);
    s->end = end;
}

/* At most MOST_STEPS steps of all lanes. */
static void steps(const uw_archive_kernels *k, uw_stream *s, const uw_code *codes, const uint8_t *tables, uint64_t n, uint32_t active,
                  uint8_t *out) {
    uw_tail tail;
    const uint8_t *end = s->end;
    const int is_tail = enter_tail(s, &tail);
    for (uint64_t t = k->steps(s, codes, tables, n, active, out); t < n; t++) slow_step(s, codes + tables[t], active, out + UW_LANES * t);
    if (is_tail) leave_tail(s, &tail, end);
}

int uw_decode_flat(uw_stream *s, const uw_code *code, uint64_t n, uint8_t *out) {
    static const uint8_t first[MOST_STEPS];
    const uw_archive_kernels *k = kernels();
    uint64_t i = 0;
    if (s->lanes == UW_LANES)
        for (uint64_t left; (left = (n - i) / UW_LANES) > 0;) {
            const uint64_t now = left < sizeof first ? left : sizeof first;
            steps(k, s, code, first, now, UW_LANES, out + i);
            i += UW_LANES * now;
        }
    for (; i < n; i += s->lanes) slow_step(s, code, n - i < s->lanes ? (uint32_t)(n - i) : s->lanes, out + i);
    return ends(s);
}

int uw_decode_bytes(uw_stream *s, const uint32_t *slots, uint64_t n, uint8_t *out) {
    uint64_t i = 0;
    if (s->lanes == UW_LANES) i = UW_LANES * kernels()->byte_steps(s, slots, n / UW_LANES, out);
    for (; i < n; i += s->lanes) slow_byte_step(s, slots, n - i < s->lanes ? (uint32_t)(n - i) : s->lanes, out + i);
    return ends(s);
}

/* Symbols of UW_TURNED columns, or what is left of them, to their rows. */
static void put_columns(const uw_archive_kernels *k, const uw_bands *b, uint64_t first, uint32_t active, uint64_t column, uint64_t columns,
                        const uint8_t *turned, uint8_t *out) {
    uint8_t spare[UW_LANES][UW_TURNED], *rows[UW_LANES];
    const int is_whole = columns == UW_TURNED && active == UW_LANES;
    for (uint32_t lane = 0; lane < UW_LANES; lane++)
        rows[lane] = is_whole ? out + b->order[first + lane] * b->k + column : spare[lane];
    k->turn(turned, rows, 0);
    for (uint32_t lane = 0; lane < active && !is_whole; lane++)
        memcpy(out + b->order[first + lane] * b->k + column, spare[lane], columns);
}

int uw_decode_bands(uw_stream s[2], const uw_bands *b, uint8_t *out) {
    const uw_archive_kernels *k = kernels();
    for (uint64_t first = 0; first < b->rows; first += 2 * UW_LANES) {
        uint32_t active[2] = {0}, classes[2] = {0};
        for (int i = 0; i < 2; i++) {
            const uint64_t from = first + (uint64_t)(UW_LANES * i), left = b->rows > from ? b->rows - from : 0;
            active[i] = left < UW_LANES ? (uint32_t)left : UW_LANES;
            if (active[i]) classes[i] = b->row_classes[from + active[i] / 2];
        }
        for (uint64_t c = 0; c < b->k; c += UW_TURNED) {
            const uint64_t columns = b->k - c < UW_TURNED ? b->k - c : UW_TURNED;
            uint8_t tables[2][UW_TURNED];
            _Alignas(64) uint8_t turned[2][UW_TURNED * UW_LANES];
            uint64_t done = 0;
            for (int i = 0; i < 2; i++)
                for (uint64_t t = 0; t < columns; t++) {
                    const uint32_t context = classes[i] + b->columns[c + t];
                    tables[i][t] = b->tables[context < b->contexts ? context : b->contexts - 1];
                }
            if (k->twin_steps && active[1] == UW_LANES)
                done = k->twin_steps(s, b->codes, tables, columns, (uint8_t *const[2]){turned[0], turned[1]});
            for (int i = 0; i < 2; i++) {
                if (!active[i]) continue;
                if (done < columns)
                    steps(k, s + i, b->codes, tables[i] + done, columns - done, active[i], turned[i] + UW_LANES * done);
                put_columns(k, b, first + (uint64_t)(UW_LANES * i), active[i], c, columns, turned[i], out);
            }
        }
    }
    return ends(s) && ends(s + 1);
}

int uw_join(const uw_parts *parts, uint64_t n, uint8_t *out) { return kernels()->join(parts, n, out); }

/* One step, the lanes of which may not all be active. */
static void slow_encode(uw_pen *pen, const uw_coding *code, uint32_t active, const uint8_t *symbols) {
    for (uint32_t q = UW_LANES; q-- > 0;) {
        const uint32_t lane = uw_lane(q);
        if (lane >= active) continue;
        const uint32_t symbol = symbols[UW_LANES - 1 - lane] & (UW_SYMBOLS - 1), frequency = code->frequency[symbol];
        uint32_t state = pen->states[q];
        if (state >> 20 >= frequency) {
            *pen->next++ = (uint16_t)state;
            state >>= 16;
        }
        const uint32_t quotient = (uint32_t)(state * code->reciprocal[symbol] >> 44);
        const uint32_t place = state - quotient * frequency + code->first[symbol];
        pen->states[q] = quotient << UW_SLOT_BITS | code->slots[place & (UW_SLOTS - 1)];
    }
}

/* Makes escapes of symbols that are not in the table. 0 if there is no escape either. */
static int demote(uw_pen *pen, const uw_coding *code, uint32_t active, uint64_t step, uint8_t *symbols) {
    for (uint32_t i = UW_LANES - active; i < UW_LANES; i++) {
        uint8_t *symbol = symbols + UW_LANES * step + i;
        if (code->frequency[*symbol & (UW_SYMBOLS - 1)]) continue;
        if (!code->frequency[UW_ESCAPE]) return 0;
        *symbol = UW_ESCAPE;
        pen->demoted[pen->n_demoted++] = (uint16_t)(UW_LANES * step + i);
    }
    return 1;
}

void uw_encode_steps(uw_pen *pen, const uw_coding *codes, const uint8_t *tables, uint64_t n, uint32_t active, uint8_t *symbols) {
    while (n > 0) {
        if (active == UW_LANES) n = kernels()->encode_steps(pen, codes, tables, n, symbols);
        if (n == 0) break;
        /* A step with a symbol that is not in its table, or whose lanes are not all active. */
        if (!demote(pen, codes + tables[n - 1], active, n - 1, symbols)) {
            pen->is_lost = 1;
            return;
        }
        if (active < UW_LANES) n--, slow_encode(pen, codes + tables[n], active, symbols + UW_LANES * n);
    }
}

void uw_turn_back(const uint8_t *const rows[UW_LANES], uint64_t at, uint8_t *columns) { kernels()->turn_back(rows, at, columns); }

void uw_split(const uint8_t *numbers, uint64_t n, uint32_t number, uint32_t fine, uint32_t base, int is_lowest_coded, uint8_t *symbols,
              uint8_t *raw) {
    kernels()->split(numbers, n, number, fine, base, is_lowest_coded, symbols, raw);
}

uint64_t uw_sum_symbols(const uint8_t *symbols, uint64_t n) { return kernels()->sum(symbols, n); }
