/* The high bytes of rows, a piece at a time: codes looked up in the palette, then escapes put in. The including file provides
 *   LOOKUP                       the palette in registers
 *   lookup_of(t)                 makes it
 *   lookup_group(&l, in, out)    512 weights: 192 bytes of 3-bit codes to high bytes
 *   lookup_part(&l, in, w, out)  8 w weights, w 8, 16 or 32: 3 w bytes of 3-bit codes to high bytes
 *   lookup_block4(&l, in, out)   64 weights: 32 bytes of 4-bit codes to high bytes
 *   store_words(high, low, shift, out)   64 weights in natural order from the high and low bytes of a block
 * `out` of a look-up is aligned to 64 bytes where a block begins. Escapes are put in by byte stores, long before the bytes are
 * read back. */
#include "internal.h"

#define PIECE_BLOCKS UW_SEGMENT_BLOCKS
#define FEW_COLUMNS 8
#define FEW_ROWS 4

/* Walks rows in order, from any one on. */
typedef struct walk {
    const uw_tensor *t;
    LOOKUP lookup;
    uint64_t ready;                /* segment that `high` holds, plus one; 0 for none */
    const uint8_t *escape, *end;   /* escapes of the segment that are not put in yet */
    uint64_t place;                /* of the last one put in, from the start of the next piece */
    uint8_t high[PIECE_BLOCKS * UW_BLOCK] __attribute__((aligned(64)));
} walk;

UW_INLINE void walk_start(walk *w, const uw_tensor *t) {
    w->t = t;
    w->lookup = lookup_of(t);
    w->ready = 0;
}

/* Limited to the stream, whatever the starts say. */
UW_INLINE uint64_t first_escape(const uw_tensor *t, uint64_t segment) {
    uint32_t start;
    if (segment >= t->segments) return t->n_escapes;
    memcpy(&start, t->starts + segment * 4, sizeof start);
    return start < t->n_escapes ? start : t->n_escapes;
}

UW_INLINE void enter_segment(walk *w, uint64_t segment) {
    uint64_t from = first_escape(w->t, segment), to = first_escape(w->t, segment + 1);
    w->escape = w->t->escapes + 2 * from;
    w->end = w->t->escapes + 2 * (to > from ? to : from);
    w->place = 0;
}

/* Puts in the escapes that lie in the first `places`; what is left belongs to the next piece. */
UW_INLINE void put_escapes(walk *w, uint64_t places) {
    const uint8_t *e = w->escape, *end = w->end;
    uint8_t *high = w->high;
    uint64_t at = w->place;
    for (; end - e >= 8; e += 8) {
        uint64_t a = at + e[0], b = a + e[2], c = b + e[4], d = c + e[6];
        if (d >= places) break;
        high[a] = e[1];
        high[b] = e[3];
        high[c] = e[5];
        high[d] = e[7];
        at = d;
    }
    for (; e < end && at + e[0] < places; e += 2) {
        at += e[0];
        high[at] = e[1];
    }
    w->escape = e;
    /* Wraps below zero; the next escape's distance, which reaches into the next piece, brings it back. */
    w->place = at - places;
}

/* The next `blocks` blocks of the segment; `block` counts from the start of the tensor. */
UW_INLINE void read_piece(walk *w, const int code_bits, uint64_t block, uint64_t blocks) {
    const uint8_t *in = w->t->codes + block * (code_bits == 3 ? UW_CODE3_BYTES : UW_CODE4_BYTES);
    uint8_t *out = w->high;
    if (code_bits == 4) {
        for (uint64_t b = 0; b < blocks; b++, in += UW_CODE4_BYTES, out += UW_BLOCK) {
            UW_PREFETCH_LINE(in + UW_PREFETCH / 2);
            lookup_block4(&w->lookup, in, out);
        }
    } else {
        const uint64_t group_bytes = UW_GROUP_BLOCKS * UW_CODE3_BYTES, group_places = UW_GROUP_BLOCKS * UW_BLOCK;
        uint64_t left = blocks;
        for (; left >= UW_GROUP_BLOCKS; left -= UW_GROUP_BLOCKS, in += group_bytes, out += group_places) {
            for (int line = 0; line < 3; line++) UW_PREFETCH_LINE(in + UW_PREFETCH * 3 / 8 + 64 * line);
            lookup_group(&w->lookup, in, out);
        }
        for (uint64_t part = UW_GROUP_BLOCKS / 2; part > 0; part /= 2)
            if (left & part) {
                lookup_part(&w->lookup, in, 8 * part, out);
                in += part * UW_CODE3_BYTES;
                out += part * UW_BLOCK;
            }
    }
    put_escapes(w, blocks * UW_BLOCK);
}

/* The high bytes of a row from block `from` on, which is a multiple of PIECE_BLOCKS: as many blocks as the row has left, at most a
 * piece. Rows may begin anywhere; their pieces come in order. */
UW_INLINE const uint8_t *high_bytes(walk *w, const int code_bits, uint64_t row, uint64_t from) {
    const uw_tensor *t = w->t;
    const uint64_t rows = t->segment_rows, segment = row / rows;
    if (rows > 1) {
        /* Segments of several rows are one piece. */
        if (w->ready != segment + 1) {
            uint64_t first = segment * rows, in = t->rows - first < rows ? t->rows - first : rows;
            enter_segment(w, segment);
            read_piece(w, code_bits, first * t->blocks, in * t->blocks);
            w->ready = segment + 1;
        }
        return w->high + row % rows * t->blocks * UW_BLOCK;
    }
    uint64_t left = t->blocks - from;
    if (from == 0) enter_segment(w, segment);
    read_piece(w, code_bits, row * t->blocks + from, left < PIECE_BLOCKS ? left : PIECE_BLOCKS);
    return w->high;
}

/* Rows to expand at a time for a product: few for few columns, so that they stay in the nearest cache; whole segments, which are
 * decoded as one. */
UW_INLINE uint64_t tile_rows(const uw_tensor *t, uint64_t columns) {
    if (columns > FEW_COLUMNS) return UW_TILE_ROWS;
    return t->segment_rows > FEW_ROWS ? t->segment_rows : FEW_ROWS;
}

/* Calls with the tensor's code size and shift as constants, which the inlined function is then compiled for. */
#define FOR_EACH_FORM(t, call) \
    do { \
        if ((t)->code_bits == 3) { \
            if ((t)->shift) call(3, 1); \
            else call(3, 0); \
        } else { \
            if ((t)->shift) call(4, 1); \
            else call(4, 0); \
        } \
    } while (0)

/* Rows as words, `stride` elements apart: exactly k, or with zeros to the end of their last block. */
UW_INLINE void decode_rows(const uw_tensor *t, const int code_bits, const int shift, const int padded, uint64_t row, uint64_t n,
                           uint16_t *out, size_t stride) {
    walk w;
    walk_start(&w, t);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *low = t->low + (row + i) * t->blocks * UW_BLOCK, *high = NULL;
        uint16_t *to = out + i * stride;
        for (uint64_t b = 0; b < t->blocks; b++, low += UW_BLOCK, high += UW_BLOCK, to += UW_BLOCK) {
            if (b % PIECE_BLOCKS == 0) high = high_bytes(&w, code_bits, row + i, b);
            UW_PREFETCH_LINE(low + UW_PREFETCH);
            const uint64_t left = t->k - b * UW_BLOCK;
            if (left >= UW_BLOCK) {
                store_words(high, low, shift, to);
                continue;
            }
            uint16_t block[UW_BLOCK];
            store_words(high, low, shift, block);
            memcpy(to, block, left * sizeof *to);
            if (padded) memset(to + left, 0, (UW_BLOCK - left) * sizeof *to);
        }
    }
}

static void decode_bf16(const uw_tensor *t, uint64_t row, uint64_t n, uint16_t *out, size_t stride) {
#define CALL(code_bits, shift) decode_rows(t, code_bits, shift, 0, row, n, out, stride)
    FOR_EACH_FORM(t, CALL);
#undef CALL
}
