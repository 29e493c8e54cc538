/* The high bytes of rows, a stretch at a time: codes looked up in the palette, then escapes put in. The including file provides
 *   LOOKUP                       the palette in registers
 *   lookup_of(piece)             makes it
 *   lookup3(&l, in, w, out)      8 w weights, w 8, 16, 32 or 64: 3 w bytes of 3-bit codes to high bytes
 *   lookup4(&l, in, out)         64 weights: 32 bytes of 4-bit codes to high bytes
 *   lookup6(&l, in, w, out)      4 w weights, w 16, 32 or 64: 3 w bytes of 3-bit codes and 3 raw bits to high bytes
 * `out` of a look-up is aligned to 64 bytes where a block begins. Escapes are put in by byte stores, long before the bytes are
 * read back. While a stretch is used, the next is looked up, a group at a time: memory would idle in between otherwise. */
#include "internal.h"

/* Blocks that are decoded at a time: a segment, or a part of one whose row is longer. */
#define STRETCH_BLOCKS UW_SEGMENT_BLOCKS
#define FEW_COLUMNS 8
#define FEW_ROWS 4

/* What a function that decodes is compiled for. */
typedef struct form {
    uw_number stored;
    int code_bits; /* 3 or 4; 6 with raw bits */
    int shift;
} form;

#define CODE_BYTES(code_bits) ((code_bits) == 6 ? UW_CODE6_BYTES : (code_bits) == 4 ? UW_CODE4_BYTES : UW_CODE3_BYTES)

/* Calls with the piece's form, of which all is constant but the shift of F16 and F32: to subtract it is little beside the rest. */
#define FOR_EACH_FORM(piece, call) \
    do { \
        const int shift = (int)(piece)->shift; \
        if ((piece)->stored == UW_F16) call(((form){UW_F16, 6, shift})); \
        else if ((piece)->stored == UW_F32 && (piece)->code_bits == 3) call(((form){UW_F32, 3, shift})); \
        else if ((piece)->stored == UW_F32) call(((form){UW_F32, 4, shift})); \
        else if ((piece)->code_bits == 3 && shift) call(((form){UW_BF16, 3, 1})); \
        else if ((piece)->code_bits == 3) call(((form){UW_BF16, 3, 0})); \
        else if (shift) call(((form){UW_BF16, 4, 1})); \
        else call(((form){UW_BF16, 4, 0})); \
    } while (0)
UW_INLINE int may_be_shifted(const form f) { return f.stored != UW_BF16 || f.shift; }

/* Walks rows in order, from any one to any other. */
typedef struct walk {
    const uw_piece *piece;
    LOOKUP lookup;
    uint64_t segment, end;         /* that the stretch being looked up is in, and the one to stop before */
    uint64_t from, blocks;         /* of the segment: the stretch's first block, and how many it has */
    uint64_t segment_blocks;       /* blocks of that segment */
    uint64_t prefetch;             /* how far ahead of the codes; with lower halves between them they are one stream */
    const uint8_t *codes;          /* what is still to be looked up of the stretch, and where to */
    uint8_t *out;
    uint64_t left;
    const uint8_t *escape, *last;  /* escapes of the segment that are not put in yet */
    uint64_t place;                /* of the last one put in, from the start of the stretch */
    uint64_t ready;                /* segment of the stretch that is being used, plus one; 0 for none */
    int turn;                      /* which of the two holds the stretch being looked up */
    /* A row may begin at any of the places, and is read in whole vectors. */
    uint8_t high[2][(STRETCH_BLOCKS + 1) * UW_BLOCK] __attribute__((aligned(64)));
} walk;

/* How many of so many blocks are in the stretch that begins with block `from`. */
UW_INLINE uint64_t blocks_from(uint64_t blocks, uint64_t from) { return blocks - from < STRETCH_BLOCKS ? blocks - from : STRETCH_BLOCKS; }

/* Limited to the stream, whatever the starts say. */
UW_INLINE uint64_t first_escape(const uw_piece *piece, uint64_t segment) {
    uint32_t start;
    if (segment >= piece->segments) return piece->n_escapes;
    memcpy(&start, piece->starts + segment * 4, sizeof start);
    return start < piece->n_escapes ? start : piece->n_escapes;
}

/* Turns to the stretch at `from` of `segment`; none where the walk ends. */
UW_INLINE void begin_stretch(walk *w) {
    const uw_piece *piece = w->piece;
    w->blocks = w->left = 0;
    w->out = w->high[w->turn];
    if (w->segment >= w->end) return;
    if (w->from == 0) {
        const uint64_t left = piece->rows - w->segment * piece->segment_rows;
        const uint64_t from = first_escape(piece, w->segment), to = first_escape(piece, w->segment + 1);
        w->segment_blocks = left < piece->segment_rows ? uw_blocks(left * piece->k) : piece->segment_blocks;
        w->codes = piece->codes + w->segment * piece->segment_bytes;
        w->escape = piece->escapes + 2 * from;
        w->last = piece->escapes + 2 * (to > from ? to : from);
        w->place = 0;
    }
    w->blocks = w->left = blocks_from(w->segment_blocks, w->from);
}

/* `n`: rows that will be asked for, at least one. */
UW_INLINE void walk_start(walk *w, const uw_piece *piece, uint64_t row, uint64_t n) {
    w->piece = piece;
    w->lookup = lookup_of(piece);
    w->segment = row / piece->segment_rows;
    w->end = (row + n - 1) / piece->segment_rows + 1;
    w->from = w->ready = 0;
    w->prefetch = piece->stored == UW_F32 ? UW_PREFETCH : UW_PREFETCH / UW_BLOCK * piece->code_bytes;
    w->turn = 0;
    if (n == 0) w->end = w->segment;
    begin_stretch(w);
}

UW_INLINE void look_up(walk *w, const int code_bits, const uint64_t blocks) {
    const uint64_t bytes = blocks * CODE_BYTES(code_bits);
    for (uint64_t line = 0; line < bytes; line += 64) UW_PREFETCH_LINE(w->codes + w->prefetch + line);
    if (code_bits == 3) lookup3(&w->lookup, w->codes, bytes / 3, w->out);
    else if (code_bits == 4) lookup4(&w->lookup, w->codes, w->out);
    else lookup6(&w->lookup, w->codes, bytes / 3, w->out);
    w->codes += bytes;
    w->out += blocks * UW_BLOCK;
    w->left -= blocks;
}

/* Smaller groups end a segment. */
static __attribute__((noinline)) void look_up_part(walk *w, int code_bits) {
    if (code_bits == 4) look_up(w, 4, 1);
    else if (w->left >= 4) look_up(w, 3, 4);
    else if (w->left >= 2 && code_bits == 6) look_up(w, 6, 2);
    else if (w->left >= 2) look_up(w, 3, 2);
    else if (code_bits == 6) look_up(w, 6, 1);
    else look_up(w, 3, 1);
}

/* Looks up one more group of codes of the next stretch, if there are any left. */
UW_INLINE void look_ahead(walk *w, const int code_bits) {
    const uint64_t group = code_bits == 6 ? UW_GROUP6_BLOCKS : UW_GROUP_BLOCKS;
    if (w->left >= group) {
        if (code_bits == 4)
            for (uint64_t b = 0; b < group; b++) look_up(w, 4, 1);
        else look_up(w, code_bits, group);
        if (code_bits == 6 && w->left >= group) look_up(w, code_bits, group);
    } else if (w->left > 0) {
        look_up_part(w, code_bits);
    }
}

/* Puts in the escapes that lie in the first `places`; what is left belongs to the next stretch. */
UW_INLINE void put_escapes(walk *w, uint64_t places, uint8_t *high) {
    const uint8_t *e = w->escape, *end = w->last;
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

/* Ends the stretch that was looked up ahead and turns to the one after it. */
static __attribute__((noinline)) const uint8_t *next_stretch(walk *w) {
    uint8_t *high = w->high[w->turn];
    while (w->left > 0) {
        if (w->piece->stored == UW_F16) look_ahead(w, 6);
        else if (w->piece->code_bits == 3) look_ahead(w, 3);
        else look_ahead(w, 4);
    }
    put_escapes(w, w->blocks * UW_BLOCK, high);
    w->ready = w->segment + 1;
    w->from += w->blocks;
    if (w->from >= w->segment_blocks) {
        w->from = 0;
        w->segment++;
    }
    w->turn ^= 1;
    begin_stretch(w);
    return high;
}

/* The next high bytes of a row: as many as it has left, at most those of a stretch. Rows come in order. */
UW_INLINE const uint8_t *high_bytes(walk *w, uint64_t row) {
    const uw_piece *piece = w->piece;
    const uint64_t rows = piece->segment_rows;
    if (rows == 1) return next_stretch(w);
    /* Segments of several rows are one stretch. */
    const uint8_t *high = w->ready == row / rows + 1 ? w->high[w->turn ^ 1] : next_stretch(w);
    return high + row % rows * piece->k;
}

/* Rows to expand at a time for a product: few for few columns, so that they stay in the nearest cache; whole segments, which are
 * decoded as one. */
UW_INLINE uint64_t tile_rows(const uw_piece *piece, uint64_t columns) {
    if (columns > FEW_COLUMNS) return UW_TILE_ROWS;
    return piece->segment_rows > FEW_ROWS ? piece->segment_rows : FEW_ROWS;
}
