/* What the NEON files share: palette look-ups, words, and numbers in natural order. Baseline ARMv8. */
#ifndef UNWEIGHT_NEON_H
#define UNWEIGHT_NEON_H

#include <arm_neon.h>

#include "order.h"

#define LOOKUP uint8x16_t

UW_INLINE uint8x16_t lookup_of(const uw_piece *piece) { return vld1q_u8(piece->palette); }

/* One vector of each of three parts, or two next to each other, which can be loaded as pairs; half of one for w 8. And a fourth: the
 * bits that two fields of 3 in each byte of these leave over, as two fields. */
UW_INLINE void load_parts(const uint8_t *in, const uint64_t w, const int vectors, uint8x16_t v[4][2]) {
    UNROLL for (int i = 0; i < 3; i++)
        UNROLL for (int j = 0; j < vectors; j++) {
            const uint8_t *from = in + w * (uint64_t)i + 16 * j;
            v[i][j] = w == 8 ? vcombine_u8(vld1_u8(from), vdup_n_u8(0)) : vld1q_u8(from);
        }
    UNROLL for (int j = 0; j < vectors; j++) {
        v[3][j] = vbslq_u8(vdupq_n_u8(0x22), vshrq_n_u8(v[1][j], 2), vshrq_n_u8(v[0][j], 3));
        v[3][j] = vbslq_u8(vdupq_n_u8(0x44), vshrq_n_u8(v[2][j], 1), v[3][j]);
    }
}

/* A look-up gives zero for an index beyond 15. The palette of 3-bit codes stands in it twice, so that bit 3 does not matter. */
UW_INLINE uint8x16_t look_up_field(uint8x16_t palette, uint8x16_t v, const int second) {
    return vqtbl1q_u8(palette, second ? vshrq_n_u8(v, 4) : vandq_u8(v, vdupq_n_u8(15)));
}

UW_INLINE void lookup3_part(uint8x16_t palette, const uint8_t *in, const uint64_t w, const int vectors, uint8_t *out) {
    uint8x16_t v[4][2];
    load_parts(in, w, vectors, v);
    UNROLL for (int i = 0; i < 8; i++) {
        uint8x16_t high[2];
        UNROLL for (int j = 0; j < vectors; j++) high[j] = look_up_field(palette, v[i / 2][j], i % 2);
        UNROLL for (int j = 0; j < vectors; j++) {
            if (w == 8) vst1_u8(out + w * (uint64_t)i, vget_low_u8(high[j]));
            else vst1q_u8(out + w * (uint64_t)i + 16 * j, high[j]);
        }
    }
}

UW_INLINE void lookup6_part(uint8x16_t palette, const uint8_t *in, const uint64_t w, const int vectors, uint8_t *out) {
    uint8x16_t v[4][2];
    load_parts(in, w, vectors, v);
    UNROLL for (int i = 0; i < 4; i++) {
        uint8x16_t high[2];
        UNROLL for (int j = 0; j < vectors; j++)
            high[j] = vorrq_u8(look_up_field(palette, v[i][j], 0), vandq_u8(vshrq_n_u8(v[i][j], 4), vdupq_n_u8(7)));
        UNROLL for (int j = 0; j < vectors; j++) vst1q_u8(out + w * (uint64_t)i + 16 * j, high[j]);
    }
}

UW_INLINE void lookup3(const uint8x16_t *palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    if (w < 32) lookup3_part(*palette, in, w, 1, out);
    for (uint64_t at = 0; at + 32 <= w; at += 32) lookup3_part(*palette, in + at, w, 2, out + at);
}

UW_INLINE void lookup6(const uint8x16_t *palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    if (w < 32) lookup6_part(*palette, in, w, 1, out);
    for (uint64_t at = 0; at + 32 <= w; at += 32) lookup6_part(*palette, in + at, w, 2, out + at);
}

UW_INLINE void lookup4(const uint8x16_t *palette, const uint8_t *in, uint8_t *out) {
    for (int i = 0; i < 32; i += 16) {
        const uint8x16_t both = vld1q_u8(in + i);
        vst1q_u8(out + i, look_up_field(*palette, both, 0));
        vst1q_u8(out + 32 + i, look_up_field(*palette, both, 1));
    }
}

#include "segment.h"

/* Eight words in natural order: the first (0) or the second (1) eight places of 16. */
UW_INLINE uint16x8_t eight_words(const form f, uint8x16_t high, uint8x16_t low, const int second) {
    const uint16x8_t stored = vreinterpretq_u16_u8(second ? vzip2q_u8(low, high) : vzip1q_u8(low, high));
    return may_be_shifted(f) ? vsubq_u16(stored, vdupq_n_u16((uint16_t)uw_added(f.stored, f.shift))) : stored;
}

/* The words of a block in natural order, 8 each. */
UW_INLINE void words_of(const form f, const uint8_t *high, const uint8_t *low, uint16x8_t out[8]) {
    UNROLL for (int q = 0; q < 4; q++) {
        const uint8x16_t h = vld1q_u8(high + 16 * q), l = vld1q_u8(low + 16 * q);
        out[q] = eight_words(f, h, l, 0);
        out[q + 4] = eight_words(f, h, l, 1);
    }
}

/* Eight words from bytes in natural order. */
UW_INLINE uint16x8_t words_of_unit(const form f, const uint8_t *high, const uint8_t *low) {
    return eight_words(f, vcombine_u8(vld1_u8(high), vdup_n_u8(0)), vcombine_u8(vld1_u8(low), vdup_n_u8(0)), 0);
}

/* Eight words, and lower halves where they have such, as two registers of floats in natural order. */
UW_INLINE void floats_of(const uw_number stored, uint16x8_t unit, const uint8_t *lower, float32x4_t out[2]) {
    if (stored == UW_F16) {
        out[0] = vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(unit)));
        out[1] = vcvt_high_f32_f16(vreinterpretq_f16_u16(unit));
        return;
    }
    const uint16x8_t rest = stored == UW_F32 ? vreinterpretq_u16_u8(vld1q_u8(lower)) : vdupq_n_u16(0);
    out[0] = vreinterpretq_f32_u16(vzip1q_u16(rest, unit));
    out[1] = vreinterpretq_f32_u16(vzip2q_u16(rest, unit));
}

/* Eight words as numbers of the kind `as`. */
UW_INLINE void put_words(const uw_number stored, const uw_number as, uint16x8_t unit, const uint8_t *lower, uint8_t *out) {
    if (as == stored && as != UW_F32) {
        vst1q_u8(out, vreinterpretq_u8_u16(unit));
        return;
    }
    float32x4_t values[2];
    floats_of(stored, unit, lower, values);
    if (as == UW_F16) {
        vst1q_u8(out, vreinterpretq_u8_f16(vcvt_high_f16_f32(vcvt_f16_f32(values[0]), values[1])));
        return;
    }
    for (int i = 0; i < 2; i++) vst1q_u8(out + 16 * i, vreinterpretq_u8_f32(values[i]));
}

UW_INLINE void put_64(const form f, const uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint8_t *out) {
    uint16x8_t units[8];
    words_of(f, high, low, units);
    UNROLL for (int u = 0; u < 8; u++)
        put_words(f.stored, as, units[u], f.stored == UW_F32 ? lower + 16 * u : NULL, out + 8 * (uint64_t)u * uw_width(as));
}

UW_INLINE void put_16(const form f, const uw_number as, const uint8_t *high, const uint8_t *low, const uint8_t *lower, uint8_t *out) {
    UNROLL for (int u = 0; u < 2; u++)
        put_words(f.stored, as, words_of_unit(f, high + 8 * u, low + 8 * u), f.stored == UW_F32 ? lower + 16 * u : NULL,
                  out + 8 * (uint64_t)u * uw_width(as));
}

#endif
