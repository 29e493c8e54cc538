/* What the files of the archive decoder share: the table that each instruction set fills. */
#ifndef UNWEIGHT_ARCHIVE_INTERNAL_H
#define UNWEIGHT_ARCHIVE_INTERNAL_H

#include <string.h>

#include "archive.h"
#include "internal.h"

/* Constants as the Rust side has them (build.rs passes them on), and structures: archive.rs says the same of its own. */
_Static_assert(UW_LANES == UW_RUST_LANES, "lanes");
_Static_assert(UW_SYMBOLS == UW_RUST_SYMBOLS, "symbols");
_Static_assert(UW_SLOT_BITS == UW_RUST_SLOT_BITS, "slots");
_Static_assert(UW_RAW_GROUP == UW_RUST_RAW_GROUP, "groups of raw bits");
_Static_assert(UW_TURNED == UW_RUST_TURNED, "columns that are turned");
#if UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(uw_code) == 768 && sizeof(uw_coding) == 9224, "tables");
_Static_assert(sizeof(uw_stream) == 280 && sizeof(uw_pen) == 280, "streams");
_Static_assert(sizeof(uw_bands) == 64 && sizeof(uw_parts) == 56, "arguments");
#endif

/* One instruction set. */
typedef struct uw_archive_kernels {
    /* Steps of all 64 lanes, those from `active` on standing still; tables[t] is that of step t. As many steps as the rest of the stream is
     * sure to suffice for: returns how many it did. */
    uint64_t (*steps)(uw_stream *, const uw_code *codes, const uint8_t *tables, uint64_t steps, uint32_t active, uint8_t *out);
    /* Steps of two streams at once, or NULL if that is not faster. */
    uint64_t (*twin_steps)(uw_stream[2], const uw_code *codes, uint8_t tables[2][UW_TURNED], uint64_t steps, uint8_t *const out[2]);
    uint64_t (*byte_steps)(uw_stream *, const uint32_t *slots, uint64_t steps, uint8_t *out);
    /* UW_TURNED columns of 64 symbols to the rows that rows[] points to. */
    void (*turn)(const uint8_t *columns, uint8_t *const rows[UW_LANES], uint64_t at);
    int (*join)(const uw_parts *, uint64_t n, uint8_t *out);
    /* Steps of all 64 lanes, the last first, up to one with a symbol that is not in its table (which may become an escape, if there is one):
     * returns how many are left. */
    uint64_t (*encode_steps)(uw_pen *, const uw_coding *codes, const uint8_t *tables, uint64_t n, uint8_t *symbols);
    void (*turn_back)(const uint8_t *const rows[UW_LANES], uint64_t at, uint8_t *columns);
    void (*split)(const uint8_t *numbers, uint64_t n, uint32_t number, uint32_t fine, uint32_t base, int is_lowest_coded,
                  uint8_t *symbols, uint8_t *raw);
    uint64_t (*sum)(const uint8_t *symbols, uint64_t n);
} uw_archive_kernels;

extern const uw_archive_kernels uw_archive_scalar;
#if defined(__x86_64__)
extern const uw_archive_kernels uw_archive_avx2, uw_archive_avx512;
#endif

/* Of each state, the lane: in a half, first the even ones, then the odd. */
UW_INLINE uint32_t uw_lane(uint32_t state) { return (state & 32) | (state & 15) << 1 | (state >> 4 & 1); }

#endif
