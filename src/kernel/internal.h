/* What the kernel's files share: the table of functions that each instruction set fills, and small inline helpers. */
#ifndef UNWEIGHT_INTERNAL_H
#define UNWEIGHT_INTERNAL_H

#include "number.h"
#include "unweight.h"

/* The format's constants, as the Rust side has them (build.rs passes them on). */
_Static_assert(UW_BLOCK == UW_RUST_BLOCK, "block");
_Static_assert(UW_GROUP_BLOCKS == UW_RUST_GROUP_BLOCKS, "group");
_Static_assert(UW_GROUP6_BLOCKS == UW_RUST_GROUP6_BLOCKS, "group with raw bits");
_Static_assert(UW_SEGMENT_BLOCKS == UW_RUST_SEGMENT_BLOCKS, "blocks of a segment");
_Static_assert(UW_SEGMENT_ROWS == UW_RUST_SEGMENT_ROWS, "rows of a segment");
_Static_assert(UW_HEADER_BYTES == UW_RUST_HEADER_BYTES, "piece header");
_Static_assert(UW_CODE3_BYTES == UW_RUST_CODE3_BYTES, "3-bit codes");
_Static_assert(UW_CODE4_BYTES == UW_RUST_CODE4_BYTES, "4-bit codes");
_Static_assert(UW_CODE6_BYTES == UW_RUST_CODE6_BYTES, "3-bit codes with raw bits");
_Static_assert(UW_TILE_ROWS % UW_SEGMENT_ROWS == 0, "tiles are whole segments");

/* ffi.rs has the same structure. */
_Static_assert(sizeof(uw_piece) == 4 * sizeof(void *) + 88, "uw_piece");

/* How far ahead of the stream to prefetch, in bytes: past the page that the hardware prefetcher stops at, and into L2. Measured;
 * half and twice as far are slower. */
#define UW_PREFETCH 8192
#define UW_PREFETCH_LINE(p) __builtin_prefetch((const char *)(p), 0, 2)

/* One instruction set. The meaning of each function is that of its namesake in unweight.h. */
typedef struct uw_kernels {
    /* Rows as numbers of the kind `as`, which is one that the original may have been: exactly k a row, without space between rows. */
    void (*decode)(const uw_piece *, uw_number as, uint64_t row, uint64_t n, void *out);
    /* The same with zeros to the end of each row's last block. */
    void (*expand)(const uw_piece *, uw_number as, uint64_t row, uint64_t n, void *out);
    void (*prepare)(uw_order, uw_number original, uw_number stored, const float *x, uint64_t k, void *prepared);
    void (*matvec)(const uw_piece *, uw_order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch);
    void (*matmul)(const uw_piece *, uw_order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch);
    void (*plain_matvec)(const void *weights, uw_number, uw_order, uint64_t n, uint64_t k, const void *prepared, float *y,
                         void *scratch);
} uw_kernels;

extern const uw_kernels uw_kernels_scalar;
#if defined(__x86_64__)
extern const uw_kernels uw_kernels_ssse3, uw_kernels_avx2, uw_kernels_avx512, uw_kernels_avx512bf16;
#elif defined(__aarch64__)
extern const uw_kernels uw_kernels_neon;
extern const uw_kernels uw_kernels_neon_plain; /* what uw_kernels_neon leaves to it: no decoding */
#endif

#define UW_INLINE static inline __attribute__((always_inline))

/* Values in arrays are registers only if the loops over them are gone early. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* Blocks that so many weights fill, the last one perhaps in part. */
static inline uint64_t uw_blocks(uint64_t weights) { return weights / UW_BLOCK + (weights % UW_BLOCK != 0); }

/* Weights to the step of every order; rows in scratch and activations are padded to it with zeros. */
static inline uint64_t uw_padded(uint64_t k) { return uw_blocks(k) * UW_BLOCK; }

/* The weight of a whole block that stands at a place, in the order of low bytes, codes and escapes. */
static inline int uw_weight_at(int place) {
    int eighth = place / 8;
    return (eighth / 2 + (eighth % 2) * 4) * 8 + place % 8;
}

/* What is added to a word of a kind where exponents are stored one too high: bits 0 to 6 (BF16) or 0 to 9 (F16) are the fraction. */
static inline int uw_added(uw_number stored, int shift) { return shift * (stored == UW_F16 ? 1024 : 128); }

/* A word from its high and low bytes. */
static inline uint16_t uw_word(uint8_t high, uint8_t low, int added) { return (uint16_t)((high << 8 | low) - added); }

static inline uint16_t uw_load16(const void *p) {
    uint16_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* Where the lower halves of a row of UW_F32 begin. */
static inline const uint8_t *uw_lower(const uw_piece *piece, uint64_t row) {
    const uint64_t segment = row / piece->segment_rows, first = segment * piece->segment_rows, left = piece->rows - first;
    const uint64_t blocks = left < piece->segment_rows ? uw_blocks(left * piece->k) : piece->segment_blocks;
    return piece->codes + segment * piece->segment_bytes + blocks * piece->code_bytes + 2 * (row - first) * piece->k;
}

/* Bytes of a number. */
static inline uint64_t uw_width(uw_number number) { return number == UW_F32 ? 4 : 2; }

/* What activations are rounded to. */
static inline uw_number uw_rounding(uw_order order, uw_number original) { return order == UW_TILE_NEON ? UW_F32 : original; }

static inline float uw_round(uw_number to, float x) {
    if (to == UW_BF16) return uw_bf16_to_f32(uw_f32_to_bf16(x));
    return to == UW_F16 ? uw_f16_to_f32(uw_f32_to_f16(x)) : x;
}

#endif
