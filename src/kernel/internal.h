/* What the kernel's files share: the table of functions that each instruction set fills, and small inline helpers. */
#ifndef UNWEIGHT_INTERNAL_H
#define UNWEIGHT_INTERNAL_H

#include <string.h>

#include "unweight.h"

/* The format's constants, as the Rust side has them (build.rs passes them on). */
_Static_assert(UW_BLOCK == UW_RUST_BLOCK, "block");
_Static_assert(UW_GROUP_BLOCKS == UW_RUST_GROUP_BLOCKS, "group");
_Static_assert(UW_SEGMENT_BLOCKS == UW_RUST_SEGMENT_BLOCKS, "blocks of a segment");
_Static_assert(UW_SEGMENT_ROWS == UW_RUST_SEGMENT_ROWS, "rows of a segment");
_Static_assert(UW_HEADER_BYTES == UW_RUST_HEADER_BYTES, "piece header");
_Static_assert(UW_CODE3_BYTES == UW_RUST_CODE3_BYTES, "3-bit codes");
_Static_assert(UW_CODE4_BYTES == UW_RUST_CODE4_BYTES, "4-bit codes");
_Static_assert(UW_TILE_ROWS % UW_SEGMENT_ROWS == 0, "tiles are whole segments");

/* How far ahead of the stream to prefetch, in bytes: past the page that the hardware prefetcher stops at, and into L2. Measured;
 * half and twice as far are slower. */
#define UW_PREFETCH 8192
#define UW_PREFETCH_LINE(p) __builtin_prefetch((const char *)(p), 0, 2)

/* One instruction set. The meaning of each function is that of its namesake in unweight.h. */
typedef struct uw_kernels {
    void (*decode_bf16)(const uw_piece *, uint64_t row, uint64_t n, uint16_t *out, size_t stride);
    void (*prepare)(uw_order, const float *x, uint64_t k, void *prepared);
    void (*matvec)(const uw_piece *, uw_order, uint64_t row, uint64_t n, const void *prepared, float *y,
                   void *scratch);
    void (*plain_matvec)(const uint16_t *weights, uw_order, uint64_t n, uint64_t k, const void *prepared, float *y);
    void (*matmul)(const uw_piece *, uw_order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch);
} uw_kernels;

extern const uw_kernels uw_kernels_scalar;
#if defined(__x86_64__)
extern const uw_kernels uw_kernels_ssse3, uw_kernels_avx2, uw_kernels_avx512, uw_kernels_avx512bf16;
#elif defined(__aarch64__)
extern const uw_kernels uw_kernels_neon;
#endif

#define UW_INLINE static inline __attribute__((always_inline))

/* Blocks that so many weights fill, the last one perhaps in part. */
static inline uint64_t uw_blocks(uint64_t weights) { return weights / UW_BLOCK + (weights % UW_BLOCK != 0); }

/* Weights to the step of every order; rows in scratch and activations are padded to it with zeros. */
static inline uint64_t uw_padded(uint64_t k) { return uw_blocks(k) * UW_BLOCK; }

/* vdpbf16ps takes BF16 activations; every other order multiplies floats. */
static inline int uw_order_is_bf16(uw_order order) { return order == UW_DOT_AVX512BF16 || order == UW_TILE_AVX512BF16; }

/* The weight of a whole block that stands at a place, in the order of low bytes, codes and escapes. */
static inline int uw_weight_at(int place) {
    int eighth = place / 8;
    return (eighth / 2 + (eighth % 2) * 4) * 8 + place % 8;
}

/* A weight from its high and low bytes, stored with its exponent `shift` too high. */
static inline uint16_t uw_word(uint8_t high, uint8_t low, int shift) { return (uint16_t)((high << 8 | low) - shift * 128); }

static inline float uw_bf16_to_f32(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &wide, sizeof f);
    return f;
}

/* ggml's rounding: to nearest even, NaN made quiet. The vector instruction would flush denormals. */
static inline uint16_t uw_f32_to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + (0x7FFFu + (bits >> 16 & 1))) >> 16);
}

#endif
