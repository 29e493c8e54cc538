/* Kinds of numbers, one at a time. Without branches, so that loops over them become vector code. */
#ifndef UNWEIGHT_NUMBER_H
#define UNWEIGHT_NUMBER_H

#include <string.h>

#include "unweight.h"

static inline float uw_float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t uw_bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float uw_bf16_to_f32(uint16_t bits) { return uw_float_of((uint32_t)bits << 16); }

/* ggml's rounding: to nearest even, NaN made quiet. The vector instruction would flush denormals. */
static inline uint16_t uw_f32_to_bf16(float f) {
    const uint32_t bits = uw_bits_of(f);
    const uint32_t rounded = (bits + (0x7FFFu + (bits >> 16 & 1))) >> 16;
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? (bits >> 16 | 64) : rounded);
}

/* Exact, and without subnormal floats, which a process may have flushed to zero. NaN is made quiet. */
static inline float uw_f16_to_f32(uint16_t bits) {
    const uint32_t rest = (uint32_t)(bits & 0x7FFF) << 13, least = 113u << 23;
    /* Subnormals have no implied one: it is added with the exponent of the least normal number, and taken away again. */
    const uint32_t small = uw_bits_of(uw_float_of(rest + least) - uw_float_of(least));
    const uint32_t infinite = (bits & 0x7C00) == 0x7C00 ? 0x7F800000u : 0, quiet = (bits & 0x7FFF) > 0x7C00 ? 0x400000u : 0;
    const uint32_t magnitude = (bits & 0x7C00) == 0 ? small : (rest + (112u << 23)) | infinite;
    return uw_float_of(magnitude | quiet | (uint32_t)(bits & 0x8000) << 16);
}

/* To nearest even, as the vector instructions round; NaN made quiet. */
static inline uint16_t uw_f32_to_f16(float f) {
    const uint32_t bits = uw_bits_of(f), magnitude = bits & 0x7FFFFFFFu;
    /* Subnormals: adding 0.5 leaves their 24-bit fraction in the last bits, rounded by the addition. */
    const uint32_t small = uw_bits_of(uw_float_of(magnitude) + 0.5f) - 0x3F000000u;
    const uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + (magnitude >> 13 & 1)) >> 13;
    const uint32_t finite = magnitude < 0x38800000u ? small : normal < 0x7C00u ? normal : 0x7C00u;
    const uint32_t nan = 0x7E00u | (magnitude >> 13 & 0x3FFu);
    return (uint16_t)((magnitude > 0x7F800000u ? nan : magnitude > 0x477FFFFFu ? 0x7C00u : finite) | (bits >> 16 & 0x8000u));
}

/* A stored weight as a float: `lower` is that of UW_F32. */
static inline float uw_value(uw_number stored, uint16_t word, uint16_t lower) {
    if (stored == UW_F16) return uw_f16_to_f32(word);
    return uw_float_of((uint32_t)word << 16 | (stored == UW_F32 ? lower : 0u));
}

#endif
