/* Baseline NEON: orders of 4 lanes with fused multiply-add. Numbers come out of registers of 4 in natural order, so nothing is dealt. */
#include "neon.h"

#define LANES 4
#define ROWS_AT_ONCE 4
#define COLUMNS_AT_ONCE 6
typedef float32x4_t vec;
typedef uint16x8_t words;

UW_INLINE uint16x8_t load_words(const void *p) { return vreinterpretq_u16_u8(vld1q_u8((const uint8_t *)p)); }
UW_INLINE float32x4_t load_lanes(const uw_number element, const void *p) {
    if (element == UW_F32) return vld1q_f32((const float *)p);
    const uint16x4_t narrow = vreinterpret_u16_u8(vld1_u8((const uint8_t *)p));
    return element == UW_F16 ? vcvt_f32_f16(vreinterpret_f16_u16(narrow)) : vreinterpretq_f32_u32(vshll_n_u16(narrow, 16));
}
UW_INLINE float32x4_t zero(void) { return vdupq_n_f32(0); }
UW_INLINE float32x4_t add(float32x4_t a, float32x4_t b) { return vaddq_f32(a, b); }
UW_INLINE float32x4_t multiply_add(float32x4_t w, float32x4_t x, float32x4_t acc) { return vfmaq_f32(acc, w, x); }
/* Every order of 4 lanes that is ours adds neighbours. */
UW_INLINE float sum_lanes(const uw_fold fold, float32x4_t v) {
    (void)fold;
    return vaddvq_f32(v);
}

UW_INLINE void deal(const uw_number stored, uint16x8_t unit, const uint8_t *lower, float32x4_t dealt[2]) {
    floats_of(stored, unit, lower, dealt);
}
UW_INLINE uint64_t dealt_to(const uw_number stored, uint64_t i) {
    (void)stored;
    return i;
}
UW_INLINE void put_back(const uw_number stored, float32x4_t a, float32x4_t b, float32x4_t natural[2]) {
    (void)stored;
    natural[0] = a;
    natural[1] = b;
}
UW_INLINE void deal_floats(const uw_number stored, float *row, uint64_t n) { (void)stored, (void)row, (void)n; }

/* 4 accumulators of 4 lanes, or one of a tile. */
#define FOR_EACH_SUM(order, call) \
    do { \
        if (is_tile(order)) call(UW_FUSED, 1); \
        else call(UW_FUSED, 4); \
    } while (0)
/* Floats: to widen words takes the units that multiply. */
#define TILE_ELEMENT(original, stored) UW_F32
#define TILES_OF_BF16 0

UW_INLINE int is_ours(uw_order order) { return uw_sum_of(order).lanes == LANES && uw_sum_of(order).multiply == UW_FUSED; }
UW_INLINE const uw_kernels *others(uw_order order) { return order == UW_PLAIN ? &uw_kernels_neon_plain : &uw_kernels_scalar; }
/* No order of 4 lanes multiplies pairs. */
UW_INLINE float32x4_t multiply_words(uint16x8_t w, const void *x, float32x4_t acc) {
    (void)w, (void)x;
    return acc;
}

#include "products.h"

const uw_kernels uw_kernels_neon = {decode, expand, prepare, matvec, matmul, plain_matvec};
