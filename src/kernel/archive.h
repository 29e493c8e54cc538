/* Decoding of archives: docs/ARCHIVE-CODES.md has the bytes, src/archive/ reads and checks what stands before them. These functions stay inside
 * the memory that they are given, whatever it holds; a stream that does not end as it should is reported. */
#ifndef UNWEIGHT_ARCHIVE_H
#define UNWEIGHT_ARCHIVE_H

#include <stddef.h>
#include <stdint.h>

#include "unweight.h"

#ifdef __cplusplus
extern "C" {
#endif

#define UW_LANES 64
#define UW_SLOT_BITS 12
#define UW_SLOTS (1 << UW_SLOT_BITS)
#define UW_BUCKETS 64
#define UW_SYMBOLS UW_BUCKETS
#define UW_ESCAPE (UW_SYMBOLS - 1)
#define UW_STATE_LEAST (1u << 16)
#define UW_RAW_GROUP 512
#define UW_TURNED 16 /* columns that are made rows of at a time */

/* A table of 64 symbols and buckets. All of it stands here twice: as words, and as bytes for machines that look up bytes only. */
typedef struct uw_code {
    uint16_t pair[UW_BUCKETS];    /* of a bucket: its threshold, and 256 times its other symbol */
    uint16_t offset[UW_BUCKETS];  /* of a bucket: what is added to a place of its other symbol */
    uint16_t frequency[UW_SYMBOLS];
    uint8_t threshold[UW_BUCKETS], other[UW_BUCKETS];
    uint8_t offset_low[UW_BUCKETS], offset_high[UW_BUCKETS];
    uint8_t frequency_low[UW_SYMBOLS], frequency_high[UW_SYMBOLS];
} uw_code;

/* A stream of words, and where its lanes are. States stand in the order in which lanes read. */
typedef struct uw_stream {
    const uint8_t *next, *end;
    uint32_t lanes;   /* a power of two, 1 to UW_LANES */
    uint32_t is_short; /* set when a word was missing */
    uint32_t states[UW_LANES];
} uw_stream;

/* n symbols in natural order. 1 if the stream ends as it should. */
int uw_decode_flat(uw_stream *stream, const uw_code *code, uint64_t n, uint8_t *out);

/* The same of bytes; `slots` has, for each of UW_SLOTS: symbol, place among the symbol's slots * 2^8, (frequency - 1) * 2^20. */
int uw_decode_bytes(uw_stream *stream, const uint32_t *slots, uint64_t n, uint8_t *out);

/* Rows in bands of UW_LANES. order[i] is the row that is i-th, of class row_classes[i]; columns[j] is the class of a column; tables[c] says which
 * of `codes` the context c has, in [0, contexts). Bands take turns with two streams. out: rows of k symbols, one after the other. 1 if both streams end as they should. */
typedef struct uw_bands {
    const uw_code *codes;
    const uint8_t *tables;
    const uint8_t *columns;
    const uint8_t *row_classes;
    const uint32_t *order;
    uint64_t k, rows;
    uint32_t contexts;
} uw_bands;
int uw_decode_bands(uw_stream streams[2], const uw_bands *bands, uint8_t *out);

/* Symbols and raw bits to numbers. 1 if there are as many escapes as symbols ask for. */
typedef struct uw_parts {
    const uint8_t *symbols;
    const uint8_t *raw;       /* of n weights */
    const uint8_t *lowest;    /* of F32: the lowest bytes of n weights, or NULL where they stand among the raw bits */
    const uint8_t *escapes;   /* two bytes each */
    uint64_t n_escapes;
    uint32_t number;          /* uw_number */
    uint32_t fine;            /* bits of the mantissa in a symbol */
    uint32_t base;            /* the value of symbol 0 */
} uw_parts;
int uw_join(const uw_parts *parts, uint64_t n, uint8_t *out);

/* The way there. A table as coders use it. */
typedef struct uw_coding {
    uint16_t frequency[UW_SYMBOLS];
    uint16_t first[UW_SYMBOLS];     /* where a symbol's slots begin in `slots` */
    uint16_t inverse_low[UW_SYMBOLS], inverse_high[UW_SYMBOLS]; /* an F32: a little less than 1 / frequency */
    uint64_t reciprocal[UW_SYMBOLS];                            /* 2^44 / frequency, rounded up */
    uint16_t slots[UW_SLOTS + 2];
} uw_coding;

/* A stream that is being written, the last word first. */
typedef struct uw_pen {
    uint16_t *next;      /* space for 64 words a step, and 16 more */
    uint16_t *demoted;    /* places of symbols that were not in their table and became escapes: space for all */
    uint32_t n_demoted;
    uint32_t is_lost;     /* set when an escape was not in its table either */
    uint32_t states[UW_LANES];
} uw_pen;

/* n steps of UW_LANES symbols each, the last step first; the lanes of a step stand in `symbols` in falling order, and those of `active` and
 * above are skipped. Symbols that their table has not become UW_ESCAPE. */
void uw_encode_steps(uw_pen *pen, const uw_coding *codes, const uint8_t *tables, uint64_t n, uint32_t active, uint8_t *symbols);

/* UW_TURNED symbols of each of 64 rows, from `at` on, to as many columns. */
void uw_turn_back(const uint8_t *const rows[UW_LANES], uint64_t at, uint8_t *columns);

/* n numbers to symbols and, in groups, raw bits, as uw_join() takes them: without the lowest bytes if these are coded. */
void uw_split(const uint8_t *numbers, uint64_t n, uint32_t number, uint32_t fine, uint32_t base, int is_lowest_coded, uint8_t *symbols,
              uint8_t *raw);

/* n symbols added up, escapes as 0. */
uint64_t uw_sum_symbols(const uint8_t *symbols, uint64_t n);

#ifdef __cplusplus
}
#endif
#endif
