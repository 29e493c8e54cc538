/* Products in the orders of sums whose lanes are those of a register: the same for every instruction set, whose file has included
 * segment.h and order.h and provides
 *   LANES                         floats in a register
 *   vec, words                    a register of floats; one of twice as many 16-bit words
 *   words_of(f, high, low, out)   the words of a block in natural order, in units of 2 * LANES
 *   words_of_unit(f, high, low)   one unit, from bytes in natural order
 *   load_words(p), load_lanes(element, p), zero(), add(a, b)
 *                                 words; floats in natural order, from numbers of a kind; ...
 *   deal(stored, w, lower, out)   a unit as two registers of floats, dealt out as is cheapest for its kind: a sum does not care which
 *                                 lane holds which residue as long as activations agree
 *   put_back(stored, a, b, out)   dealt registers in natural order, which they need before lanes are added up
 *   deal_floats(stored, p, n)     the reverse in memory, for n floats, whole units
 *   dealt_to(stored, i)           where number i is dealt to
 *   multiply_add(w, x, acc)       fused
 *   multiply_words(w, x, acc)     UW_PAIRS, of a register of words and the activations at x
 *   sum_lanes(fold, v)
 *   FOR_EACH_SUM(order, call)     call(multiply, accs) with what the order has, as constants
 *   TILE_ELEMENT(original, stored) what rows consist of while a tile of them is multiplied: floats, or words that are widened each time
 *   TILES_OF_BF16                 1 if that may be UW_BF16, else 0
 *   ROWS_AT_ONCE, COLUMNS_AT_ONCE the largest block of sums that fits the registers
 *   is_ours(order), others(order) who computes which orders
 *
 * A dot has 2 or 4 accumulators and a rest; a tile has one, and no rest. UW_PAIRS multiplies words instead of floats, which nobody deals
 * out. */

#include "rows.h"

#define UNIT (2 * LANES)
#define UNITS (UW_BLOCK / UNIT)
#define MOST_COLUMNS 6

UW_INLINE int is_tile(uw_order order) { return uw_sum_of(order).rest == UW_IN_LANES; }

/* Units of a full step, and accumulators that a unit goes to. */
UW_INLINE int units_of(const uw_multiply multiply, const int accs) { return multiply == UW_PAIRS ? accs : accs / 2; }
UW_INLINE int accs_of_unit(const uw_multiply multiply) { return multiply == UW_PAIRS ? 1 : 2; }
/* Bytes of an activation. */
UW_INLINE uint64_t width_of(const uw_multiply multiply) { return multiply == UW_PAIRS ? sizeof(uint16_t) : sizeof(float); }

/* For dots dealt out as weights are, for tiles in natural order; with zeros to the end of a block. */
static void prepare(uw_order order, uw_number original, uw_number stored, const float *x, uint64_t k, void *prepared) {
    if (!is_ours(order)) {
        others(order)->prepare(order, original, stored, x, k, prepared);
        return;
    }
    const uw_sum sum = uw_sum_of(order);
    const uw_number to = uw_rounding(order, original);
    for (uint64_t i = 0; i < uw_padded(k); i += UNIT) {
        float in[UNIT];
        for (uint64_t j = 0; j < UNIT; j++) in[j] = i + j < k ? x[i + j] : 0.0f;
        if (sum.multiply == UW_PAIRS) {
            for (uint64_t j = 0; j < UNIT; j++) ((uint16_t *)prepared)[i + j] = uw_f32_to_bf16(in[j]);
            continue;
        }
        if (to == UW_BF16)
            for (uint64_t j = 0; j < UNIT; j++) in[j] = uw_round(UW_BF16, in[j]);
        if (to == UW_F16)
            for (uint64_t j = 0; j < UNIT; j++) in[j] = uw_round(UW_F16, in[j]);
        memcpy((float *)prepared + i, in, sizeof in);
        if (sum.rest != UW_IN_LANES) deal_floats(stored, (float *)prepared + i, UNIT);
    }
}

UW_INLINE uint64_t place_of_bf16(uint64_t i) { return dealt_to(UW_BF16, i); }
UW_INLINE uint64_t place_of_f32(uint64_t i) { return dealt_to(UW_F32, i); }

/* Ends a dot: `n` weights in natural order, fewer than a step, are left, with activations from x on. */
UW_INLINE float finish_dot(const uw_number stored, const uw_multiply multiply, const int accs, uw_order order, const vec *acc,
                           const float *w, const uint8_t *x, uint64_t n) {
    const uw_sum s = uw_sum_of(order);
    vec natural[4];
    UNROLL for (int a = 0; a < accs; a += 2) {
        if (multiply == UW_PAIRS) natural[a] = acc[a], natural[a + 1] = acc[a + 1];
        else put_back(stored, acc[a], acc[a + 1], natural + a);
    }
    double sum = 0.0;
    if (accs == 2 || s.fold == UW_EACH) {
        UNROLL for (int a = 0; a < accs; a++) sum += (double)sum_lanes(UW_HALVES, natural[a]);
    } else {
        sum = (double)sum_lanes((uw_fold)s.fold, add(add(natural[0], natural[2]), add(natural[1], natural[3])));
    }
    if (multiply == UW_PAIRS) {
        float values[UW_BLOCK];
        for (uint64_t i = 0; i < n; i++) values[i] = uw_bf16_to_f32(uw_load16(x + 2 * i));
        return uw_add_rest(s, sum, w, values, uw_in_place, n);
    }
    if (stored == UW_F16) return uw_add_rest(s, sum, w, (const float *)x, uw_in_place, n);
    if (stored == UW_F32) return uw_add_rest(s, sum, w, (const float *)x, place_of_f32, n);
    return uw_add_rest(s, sum, w, (const float *)x, place_of_bf16, n);
}

/* A unit with its activations. */
UW_INLINE void accumulate(const uw_number stored, const uw_multiply multiply, words unit, const uint8_t *lower, const uint8_t *x, vec *acc) {
    if (multiply == UW_PAIRS) {
        acc[0] = multiply_words(unit, x, acc[0]);
        return;
    }
    vec w[2];
    deal(stored, unit, lower, w);
    UNROLL for (int a = 0; a < 2; a++) acc[a] = multiply_add(w[a], load_lanes(UW_F32, (const float *)x + LANES * a), acc[a]);
}

/* A block, `at` blocks from the given places. */
UW_INLINE void dot_block(const form f, const uw_multiply multiply, const int accs, const uint8_t *high, const uint8_t *low,
                         const uint8_t *lower, const uint8_t *x, uint64_t at, vec *acc) {
    words units[UNITS];
    UW_PREFETCH_LINE(low + UW_BLOCK * at + UW_PREFETCH);
    if (f.stored == UW_F32)
        for (uint64_t line = 0; line < 2; line++) UW_PREFETCH_LINE(lower + 2 * UW_BLOCK * at + 64 * line + UW_PREFETCH);
    words_of(f, high + UW_BLOCK * at, low + UW_BLOCK * at, units);
    UNROLL for (int u = 0; u < UNITS; u++)
        accumulate(f.stored, multiply, units[u], f.stored == UW_F32 ? lower + 2 * (UW_BLOCK * at + UNIT * (uint64_t)u) : NULL,
                   x + (UW_BLOCK * at + UNIT * (uint64_t)u) * width_of(multiply),
                   acc + u % units_of(multiply, accs) * accs_of_unit(multiply));
}

UW_INLINE void dot_rows(const uw_piece *piece, const form f, const uw_multiply multiply, const int accs, uw_order order, uint64_t row,
                        uint64_t n, const uint8_t *x, float *y) {
    const uint64_t blocks = uw_blocks(piece->k), full = piece->k / UW_BLOCK, left = piece->k % UW_BLOCK, width = width_of(multiply);
    const uint64_t lower_width = f.stored == UW_F32 ? 2 : 0, whole_step = UNIT * (uint64_t)units_of(multiply, accs);
    walk w;
    walk_start(&w, piece, row, n);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *low = piece->low + (row + i) * piece->k, *high = NULL, *xb = x;
        const uint8_t *lower = f.stored == UW_F32 ? uw_lower(piece, row + i) : NULL;
        vec acc[4] = {zero(), zero(), zero(), zero()};
        for (uint64_t from = 0; from < blocks; from += STRETCH_BLOCKS) {
            high = high_bytes(&w, row + i);
            for (uint64_t left_here = blocks_from(full, from), now; left_here > 0; left_here -= now) {
                now = left_here < UW_GROUP_BLOCKS ? left_here : UW_GROUP_BLOCKS;
                look_ahead(&w, f.code_bits);
                /* Of a constant length wherever possible. */
                if (now == UW_GROUP_BLOCKS)
                    for (uint64_t b = 0; b < UW_GROUP_BLOCKS; b++) dot_block(f, multiply, accs, high, low, lower, xb, b, acc);
                else
                    for (uint64_t b = 0; b < now; b++) dot_block(f, multiply, accs, high, low, lower, xb, b, acc);
                const uint64_t weights = UW_BLOCK * now;
                high += weights, low += weights, lower += lower_width * weights, xb += width * weights;
            }
        }
        const uint64_t steps = left / whole_step * whole_step;
        float rest[UW_BLOCK];
        if (left > 0) {
            UW_PREFETCH_LINE(low + UW_PREFETCH);
            for (uint64_t step = 0; step < steps; step += whole_step)
                UNROLL for (int u = 0; u < units_of(multiply, accs); u++) {
                    const uint64_t at = step + UNIT * (uint64_t)u;
                    accumulate(f.stored, multiply, words_of_unit(f, high + at, low + at), lower + lower_width * at, xb + width * at,
                               acc + u * accs_of_unit(multiply));
                }
            put_end(f, UW_F32, high + steps, low + steps, lower + lower_width * steps, left - steps, rest);
        }
        y[i] = finish_dot(f.stored, multiply, accs, order, acc, rest, xb + width * steps, left - steps);
    }
}

UW_INLINE void dot_rows_in(const uw_piece *piece, const uw_multiply multiply, const int accs, uw_order order, uint64_t row, uint64_t n,
                           const uint8_t *x, float *y) {
    /* Only BF16 is multiplied in pairs. */
#define CALL(f) \
    do { \
        if (multiply != UW_PAIRS || (f).stored == UW_BF16) dot_rows(piece, f, multiply, accs, order, row, n, x, y); \
    } while (0)
    FOR_EACH_FORM(piece, CALL);
#undef CALL
}

/* Sums of rows of `element` with prepared columns, `rows` times `columns` of them side by side, each formed alone. */
UW_INLINE void sum_block(const uw_number stored, const uw_number element, const uw_multiply multiply, const int accs, const int rows,
                         const int columns, uw_order order, const uint8_t *w, uint64_t w_stride, const uint8_t *x, size_t x_stride, uint64_t k,
                         float *y, size_t y_stride) {
    const uint64_t per_acc = multiply == UW_PAIRS ? UNIT : LANES, step = per_acc * (uint64_t)accs;
    const uint64_t end = accs == 1 ? (k + per_acc - 1) / per_acc * per_acc : k / step * step;
    const uint64_t w_width = uw_width(element), x_width = width_of(multiply);
    vec acc[ROWS_AT_ONCE][MOST_COLUMNS][4];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            for (int a = 0; a < accs; a++) acc[r][c][a] = zero();
    for (uint64_t at = 0; at < end; at += step)
        for (int a = 0; a < accs; a++) {
            const uint64_t here = at + per_acc * (uint64_t)a;
            const uint8_t *wa = w + here * w_width, *xa = x + here * x_width;
            if (multiply == UW_PAIRS) {
                for (int r = 0; r < rows; r++)
                    for (int c = 0; c < columns; c++)
                        acc[r][c][a] = multiply_words(load_words(wa + (uint64_t)r * w_stride), xa + (size_t)c * x_stride, acc[r][c][a]);
                continue;
            }
            /* Columns wait in registers, of which a block leaves so many and one more. */
            vec xv[MOST_COLUMNS];
            for (int c = 0; c < columns; c++) xv[c] = load_lanes(UW_F32, xa + (size_t)c * x_stride);
            for (int r = 0; r < rows; r++) {
                const vec wv = load_lanes(element, wa + (uint64_t)r * w_stride);
                for (int c = 0; c < columns; c++) acc[r][c][a] = multiply_add(wv, xv[c], acc[r][c][a]);
            }
        }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            float *to = y + (size_t)c * y_stride + r, rest[UW_BLOCK];
            if (accs == 1) {
                *to = sum_lanes(UW_HALVES, acc[r][c][0]);
                continue;
            }
            for (uint64_t i = end; i < k; i++) {
                const uint8_t *from = w + (uint64_t)r * w_stride + i * w_width;
                if (element == UW_F32) memcpy(rest + i - end, from, sizeof *rest);
                else rest[i - end] = uw_value(element, uw_load16(from), 0);
            }
            *to = finish_dot(stored, multiply, accs, order, acc[r][c], rest, x + (size_t)c * x_stride + end * x_width, k - end);
        }
}

/* A tile of rows with some columns, which stay in the nearest cache meanwhile. Dots have so many accumulators that only few run side by
 * side; a single row is rare. */
UW_INLINE void sum_columns(const uw_number stored, const uw_number element, const uw_multiply multiply, const int accs, const int columns,
                           uw_order order, const uint8_t *w, uint64_t w_stride, uint64_t rows, const uint8_t *x, size_t x_stride, uint64_t k,
                           float *y, size_t y_stride) {
    const int most = accs == 4 ? ROWS_AT_ONCE - 1 : ROWS_AT_ONCE;
    for (; rows >= (uint64_t)most; rows -= (uint64_t)most, w += (uint64_t)most * w_stride, y += most)
        sum_block(stored, element, multiply, accs, most, columns, order, w, w_stride, x, x_stride, k, y, y_stride);
    for (; rows > 0; rows--, w += w_stride, y++)
        for (int c = 0; c < columns; c++)
            sum_block(stored, element, multiply, accs, 1, 1, order, w, w_stride, x + (size_t)c * x_stride, x_stride, k,
                      y + (size_t)c * y_stride, y_stride);
}

/* With all columns: the last ones go in blocks of fewer, evenly, so that none runs alone without need. */
UW_INLINE void sum_tile(const uw_number stored, const uw_number element, const uw_multiply multiply, const int accs, uw_order order,
                        const uint8_t *w, uint64_t w_stride, uint64_t rows, const uint8_t *x, size_t x_stride, uint64_t columns, uint64_t k,
                        float *y, size_t y_stride) {
    const uint64_t most = accs == 4 ? 1 : accs == 2 ? COLUMNS_AT_ONCE / 2 : COLUMNS_AT_ONCE;
    for (uint64_t now; columns > 0; columns -= now, x += now * x_stride, y += now * y_stride) {
        const uint64_t blocks = (columns + most - 1) / most;
        now = (columns + blocks - 1) / blocks;
#define COLUMNS(columns) sum_columns(stored, element, multiply, accs, columns, order, w, w_stride, rows, x, x_stride, k, y, y_stride)
        if (most == MOST_COLUMNS && now == 6) COLUMNS(6);
        else if (most == MOST_COLUMNS && now == 5) COLUMNS(5);
        else if (most == MOST_COLUMNS && now == 4) COLUMNS(4);
        else if (most >= 3 && now == 3) COLUMNS(3);
        else if (most >= 2 && now == 2) COLUMNS(2);
        else COLUMNS(1);
#undef COLUMNS
    }
}

static void matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch);

static void matmul(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch) {
    if (!is_ours(order)) {
        others(order)->matmul(piece, order, row, n, prepared, prepared_stride, columns, y, y_stride, scratch);
        return;
    }
    if (columns == 1 && !is_tile(order)) {
        matvec(piece, order, row, n, prepared, y, scratch);
        return;
    }
    const uint64_t k = piece->k, padded = uw_padded(k), tile = tile_rows(piece, columns);
    const uw_number stored = (uw_number)piece->stored;
    const int pairs = uw_sum_of(order).multiply == UW_PAIRS;
    const uw_number element = pairs ? UW_BF16 : is_tile(order) ? TILE_ELEMENT((uw_number)piece->original, stored) : UW_F32;
    const uint64_t step = uw_step(uw_sum_of(order)), w_stride = padded * uw_width(element);
    for (uint64_t i = 0, rows; i < n; i += rows) {
        rows = n - i < tile ? n - i : tile;
        expand(piece, element, row + i, rows, scratch);
        if (!pairs && !is_tile(order))
            for (uint64_t r = 0; r < rows; r++) deal_floats(stored, (float *)scratch + r * padded, k / step * step);
#define TILE(stored, element, multiply, accs) \
    sum_tile(stored, element, multiply, accs, order, scratch, w_stride, rows, prepared, prepared_stride, columns, k, y + i, y_stride)
#define CALL(multiply, accs) \
    do { \
        if ((multiply) == UW_PAIRS) TILE(UW_BF16, UW_BF16, UW_PAIRS, accs); \
        else if (TILES_OF_BF16 && (accs) == 1 && element == UW_BF16) TILE(UW_F16, UW_BF16, multiply, 1); \
        else if ((accs) == 1 && element == UW_F16) TILE(UW_F16, UW_F16, multiply, 1); \
        else if ((accs) == 1) TILE(UW_F16, UW_F32, multiply, 1); \
        else TILE(stored, UW_F32, multiply, accs); \
    } while (0)
        FOR_EACH_SUM(order, CALL);
#undef CALL
#undef TILE
    }
}

static void matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    if (!is_ours(order) || is_tile(order)) {
        matmul(piece, order, row, n, prepared, 0, 1, y, 0, scratch);
        return;
    }
#define CALL(multiply, accs) dot_rows_in(piece, multiply, accs, order, row, n, prepared, y)
    FOR_EACH_SUM(order, CALL);
#undef CALL
}

/* As ggml does it, but for activations that are laid out already. */
UW_INLINE void plain_rows(const uw_number number, const uw_multiply multiply, const int accs, uw_order order, const uint8_t *w, uint64_t n,
                          uint64_t k, const uint8_t *x, float *y) {
    const uint64_t width = uw_width(number), step = UNIT * (uint64_t)units_of(multiply, accs), end = k / step * step;
    for (uint64_t i = 0; i < n; i++, w += k * width) {
        vec acc[4] = {zero(), zero(), zero(), zero()};
        float rest[UW_BLOCK];
        for (uint64_t at = 0; at < end; at += step)
            for (int u = 0; u < units_of(multiply, accs); u++) {
                const uint64_t here = at + UNIT * (uint64_t)u;
                const uint8_t *from = w + here * width, *xa = x + here * width_of(multiply);
                vec *to = acc + u * accs_of_unit(multiply);
                if (number != UW_F32) {
                    accumulate(number, multiply, load_words(from), NULL, xa, to);
                    continue;
                }
                for (int a = 0; a < 2; a++)
                    to[a] = multiply_add(load_lanes(UW_F32, (const float *)from + LANES * a),
                                         load_lanes(UW_F32, (const float *)xa + LANES * a), to[a]);
            }
        for (uint64_t j = end; j < k; j++) {
            if (number == UW_F32) memcpy(rest + j - end, w + j * width, sizeof *rest);
            else rest[j - end] = uw_value(number, uw_load16(w + j * width), 0);
        }
        /* Plain F32 is in natural order, as F16 is dealt out. */
        y[i] = finish_dot(number == UW_F32 ? UW_F16 : number, multiply, accs, order, acc, rest, x + end * width_of(multiply), k - end);
    }
}

static void plain_matvec(const void *weights, uw_number number, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y,
                         void *scratch) {
    if (!is_ours(order) || is_tile(order)) {
        if (is_ours(order) && uw_sum_of(order).multiply == UW_PAIRS) {
            /* Scalar code takes floats, and needs no more than the first row of scratch. */
            float *x = (float *)scratch + uw_padded(k);
            for (uint64_t i = 0; i < k; i++) x[i] = uw_bf16_to_f32(uw_load16((const uint16_t *)prepared + i));
            prepared = x;
        }
        others(order)->plain_matvec(weights, number, order, n, k, prepared, y, scratch);
        return;
    }
#define CALL(multiply, accs) \
    do { \
        if ((multiply) != UW_PAIRS && number == UW_F32) plain_rows(UW_F32, multiply, accs, order, weights, n, k, prepared, y); \
        else if ((multiply) != UW_PAIRS && number == UW_F16) plain_rows(UW_F16, multiply, accs, order, weights, n, k, prepared, y); \
        else plain_rows(UW_BF16, multiply, accs, order, weights, n, k, prepared, y); \
    } while (0)
    FOR_EACH_SUM(order, CALL);
#undef CALL
}
