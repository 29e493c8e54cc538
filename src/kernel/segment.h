/* The high bytes of rows, a stretch at a time: codes looked up in the palette, then escapes put in. The including file provides
 *   LOOKUP                       the palette in registers
 *   lookup_of(piece)             makes it
 *   lookup_group(&l, in, out)    512 weights: 192 bytes of 3-bit codes to high bytes
 *   lookup_part(&l, in, w, out)  8 w weights, w 8, 16 or 32: 3 w bytes of 3-bit codes to high bytes
 *   lookup_block4(&l, in, out)   64 weights: 32 bytes of 4-bit codes to high bytes
 *   store_words(high, low, shift, out)   64 weights in natural order from the high and low bytes of a block
 *   store_16(high, low, shift, out)      16 weights from high and low bytes in natural order
 * `out` of a look-up is aligned to 64 bytes where a block begins. Escapes are put in by byte stores, long before the bytes are
 * read back. */
#include "internal.h"

/* Blocks that are decoded at a time: a segment, or a part of one whose row is longer. */
#define STRETCH_BLOCKS UW_SEGMENT_BLOCKS
#define FEW_COLUMNS 8
#define FEW_ROWS 4

/* Walks rows in order, from any one on. */
typedef struct walk {
    const uw_piece *piece;
    LOOKUP lookup;
    uint64_t ready;                /* segment that `high` holds, plus one; 0 for none */
    const uint8_t *escape, *end;   /* escapes of the segment that are not put in yet */
    uint64_t place;                /* of the last one put in, from the start of the next stretch */
    /* A row may begin at any of the places, and is read in whole vectors. */
    uint8_t high[(STRETCH_BLOCKS + 1) * UW_BLOCK] __attribute__((aligned(64)));
} walk;

UW_INLINE void walk_start(walk *w, const uw_piece *piece) {
    w->piece = piece;
    w->lookup = lookup_of(piece);
    w->ready = 0;
}

/* Limited to the stream, whatever the starts say. */
UW_INLINE uint64_t first_escape(const uw_piece *piece, uint64_t segment) {
    uint32_t start;
    if (segment >= piece->segments) return piece->n_escapes;
    memcpy(&start, piece->starts + segment * 4, sizeof start);
    return start < piece->n_escapes ? start : piece->n_escapes;
}

UW_INLINE void enter_segment(walk *w, uint64_t segment) {
    uint64_t from = first_escape(w->piece, segment), to = first_escape(w->piece, segment + 1);
    w->escape = w->piece->escapes + 2 * from;
    w->end = w->piece->escapes + 2 * (to > from ? to : from);
    w->place = 0;
}

/* Puts in the escapes that lie in the first `places`; what is left belongs to the next stretch. */
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
    /* Wraps below zero; the next escape's distance, which reaches into the next stretch, brings it back. */
    w->place = at - places;
}

/* The next `blocks` blocks of the segment; `block` counts from the start of the piece. */
UW_INLINE void read_stretch(walk *w, const int code_bits, uint64_t block, uint64_t blocks) {
    const uint8_t *in = w->piece->codes + block * (code_bits == 3 ? UW_CODE3_BYTES : UW_CODE4_BYTES);
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

/* How many of so many blocks are in the stretch that begins with block `from`. */
UW_INLINE uint64_t blocks_from(uint64_t blocks, uint64_t from) { return blocks - from < STRETCH_BLOCKS ? blocks - from : STRETCH_BLOCKS; }

/* The high bytes of a row from block `from` on, which is a multiple of STRETCH_BLOCKS: as many as the row has left, at most those of
 * a stretch. Rows may begin anywhere; their stretches come in order. */
UW_INLINE const uint8_t *high_bytes(walk *w, const int code_bits, uint64_t row, uint64_t from) {
    const uw_piece *piece = w->piece;
    const uint64_t rows = piece->segment_rows, blocks = piece->segment_blocks, segment = row / rows;
    if (rows > 1) {
        /* Segments of several rows are one stretch. */
        if (w->ready != segment + 1) {
            uint64_t left = piece->rows - segment * rows;
            enter_segment(w, segment);
            read_stretch(w, code_bits, segment * blocks, left < rows ? uw_blocks(left * piece->k) : blocks);
            w->ready = segment + 1;
        }
        return w->high + row % rows * piece->k;
    }
    if (from == 0) enter_segment(w, segment);
    read_stretch(w, code_bits, row * blocks + from, blocks_from(blocks, from));
    return w->high;
}

/* The last n weights of a row, fewer than a block: exactly n words. Reads no low byte past them. */
UW_INLINE void store_end(const uint8_t *high, const uint8_t *low, uint64_t n, const int shift, uint16_t *out) {
    for (; n >= 16; n -= 16, high += 16, low += 16, out += 16) store_16(high, low, shift, out);
    for (uint64_t i = 0; i < n; i++) out[i] = uw_word(high[i], low[i], shift);
}

/* Rows to expand at a time for a product: few for few columns, so that they stay in the nearest cache; whole segments, which are
 * decoded as one. */
UW_INLINE uint64_t tile_rows(const uw_piece *piece, uint64_t columns) {
    if (columns > FEW_COLUMNS) return UW_TILE_ROWS;
    return piece->segment_rows > FEW_ROWS ? piece->segment_rows : FEW_ROWS;
}

/* Calls with the piece's code size and shift as constants, which the inlined function is then compiled for. */
#define FOR_EACH_FORM(piece, call) \
    do { \
        if ((piece)->code_bits == 3) { \
            if ((piece)->shift) call(3, 1); \
            else call(3, 0); \
        } else { \
            if ((piece)->shift) call(4, 1); \
            else call(4, 0); \
        } \
    } while (0)

/* Rows as words, `stride` elements apart: exactly k, or with zeros to the end of their last block. */
UW_INLINE void decode_rows(const uw_piece *piece, const int code_bits, const int shift, const int padded, uint64_t row, uint64_t n,
                           uint16_t *out, size_t stride) {
    const uint64_t blocks = uw_blocks(piece->k), full = piece->k / UW_BLOCK, left = piece->k % UW_BLOCK;
    walk w;
    walk_start(&w, piece);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *low = piece->low + (row + i) * piece->k, *high = NULL;
        uint16_t *to = out + i * stride;
        for (uint64_t from = 0; from < blocks; from += STRETCH_BLOCKS) {
            high = high_bytes(&w, code_bits, row + i, from);
            const uint64_t now = blocks_from(full, from);
            for (uint64_t b = 0; b < now; b++, low += UW_BLOCK, high += UW_BLOCK, to += UW_BLOCK) {
                UW_PREFETCH_LINE(low + UW_PREFETCH);
                store_words(high, low, shift, to);
            }
        }
        if (left == 0) continue;
        UW_PREFETCH_LINE(low + UW_PREFETCH);
        store_end(high, low, left, shift, to);
        if (padded) memset(to + left, 0, (UW_BLOCK - left) * sizeof *to);
    }
}

static void decode_bf16(const uw_piece *piece, uint64_t row, uint64_t n, uint16_t *out, size_t stride) {
#define CALL(code_bits, shift) decode_rows(piece, code_bits, shift, 0, row, n, out, stride)
    FOR_EACH_FORM(piece, CALL);
#undef CALL
}
