/* Rows as the numbers of some kind. The including file has included segment.h, and provides
 *   put_64(form, as, high, low, lower, out)  a block in natural order: 64 numbers of the kind `as`, from the high and low bytes of the
 *                                            block and, of UW_F32, its lower halves
 *   put_16(form, as, high, low, lower, out)  16 numbers, from high and low bytes that are in natural order
 * Neither reads more low bytes or lower halves than it has numbers. Or it defines ROWS_BY, the kernels that give rows out for it. */

/* The last n weights of a row, fewer than a block: exactly n numbers. */
UW_INLINE void put_end(const form f, uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint64_t n, void *out) {
    const uint64_t width = uw_width(as);
    const int lower_width = f.stored == UW_F32 ? 2 : 0;
    uint8_t *to = out;
    for (; n >= 16; n -= 16, high += 16, low += 16, lower += 16 * lower_width, to += 16 * width) put_16(f, as, high, low, lower, to);
    for (uint64_t i = 0; i < n; i++, to += width) {
        const uint16_t word = uw_word(high[i], low[i], uw_added(f.stored, f.shift)), rest = f.stored == UW_F32 ? uw_load16(lower + 2 * i) : 0;
        if (as == f.stored && as != UW_F32) {
            memcpy(to, &word, sizeof word);
            continue;
        }
        const float value = uw_value(f.stored, word, rest);
        const uint16_t half = uw_f32_to_f16(value);
        if (as == UW_F32) memcpy(to, &value, sizeof value);
        else memcpy(to, &half, sizeof half);
    }
}

#ifdef ROWS_BY
static void decode(const uw_piece *piece, uw_number as, uint64_t row, uint64_t n, void *out) { ROWS_BY.decode(piece, as, row, n, out); }
static void expand(const uw_piece *piece, uw_number as, uint64_t row, uint64_t n, void *out) { ROWS_BY.expand(piece, as, row, n, out); }
#else
/* Rows `stride` numbers apart: exactly k, or with zeros to the end of their last block. */
UW_INLINE void put_rows(const uw_piece *piece, const form f, const uw_number as, int padded, uint64_t row, uint64_t n, void *out,
                        uint64_t stride) {
    const uint64_t blocks = uw_blocks(piece->k), full = piece->k / UW_BLOCK, left = piece->k % UW_BLOCK, width = uw_width(as);
    const uint64_t lower_width = f.stored == UW_F32 ? 2 : 0;
    walk w;
    walk_start(&w, piece, row, n);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *low = piece->low + (row + i) * piece->k, *high = NULL;
        const uint8_t *lower = f.stored == UW_F32 ? uw_lower(piece, row + i) : NULL;
        uint8_t *to = (uint8_t *)out + i * stride * width;
        for (uint64_t from = 0; from < blocks; from += STRETCH_BLOCKS) {
            high = high_bytes(&w, row + i);
            for (uint64_t left_here = blocks_from(full, from), now; left_here > 0; left_here -= now) {
                now = left_here < UW_GROUP_BLOCKS ? left_here : UW_GROUP_BLOCKS;
                look_ahead(&w, f.code_bits);
                for (uint64_t b = 0; b < now; b++) {
                    UW_PREFETCH_LINE(low + UW_BLOCK * b + UW_PREFETCH);
                    put_64(f, as, high + UW_BLOCK * b, low + UW_BLOCK * b, lower + lower_width * UW_BLOCK * b, to + width * UW_BLOCK * b);
                }
                const uint64_t weights = UW_BLOCK * now;
                high += weights, low += weights, lower += lower_width * weights, to += width * weights;
            }
        }
        if (left == 0) continue;
        UW_PREFETCH_LINE(low + UW_PREFETCH);
        put_end(f, as, high, low, lower, left, to);
        if (padded) memset(to + left * width, 0, (UW_BLOCK - left) * width);
    }
}

static void put(const uw_piece *piece, uw_number as, int padded, uint64_t row, uint64_t n, void *out, uint64_t stride) {
#define CALL(f) \
    do { \
        if (as == UW_F32) put_rows(piece, f, UW_F32, padded, row, n, out, stride); \
        else if ((f).stored != UW_F32 && as == UW_F16) put_rows(piece, f, UW_F16, padded, row, n, out, stride); \
        else if ((f).stored == UW_BF16) put_rows(piece, f, UW_BF16, padded, row, n, out, stride); \
    } while (0)
    FOR_EACH_FORM(piece, CALL);
#undef CALL
}

/* Exactly k numbers a row, one row after the other. */
static void decode(const uw_piece *piece, uw_number as, uint64_t row, uint64_t n, void *out) { put(piece, as, 0, row, n, out, piece->k); }

/* Rows with zeros to the end of their last block. */
static void expand(const uw_piece *piece, uw_number as, uint64_t row, uint64_t n, void *out) {
    put(piece, as, 1, row, n, out, uw_padded(piece->k));
}
#endif
