/* Baseline NEON. Serves UW_DOT_PLAIN, whose sums are chains of double additions: rows stand side by side in lanes and registers, so
 * that several chains run at once. The other orders are those of other machines, and left to the scalar kernels. */
#include <arm_neon.h>

#include "order.h"

#define LOOKUP uint8x16_t

UW_INLINE uint8x16_t lookup_of(const uw_tensor *t) { return vld1q_u8(t->palette); }

/* 128 weights, or 64 in half vectors. A look-up takes bits 0 to 3 of an index, if the others are zero. The palette of 3-bit codes
 * stands in it twice, so that bit 3 does not matter. */
UW_INLINE void lookup3_16(uint8x16_t palette, const uint8_t *in, const uint64_t w, uint8_t *out) {
    const uint8x16_t nibble = vdupq_n_u8(15);
    uint8x16_t v[3];
    for (int i = 0; i < 3; i++)
        v[i] = w == 8 ? vcombine_u8(vld1_u8(in + w * (uint64_t)i), vdup_n_u8(0)) : vld1q_u8(in + w * (uint64_t)i);
    uint8x16_t rest = vbslq_u8(vdupq_n_u8(0x22), vshrq_n_u8(v[1], 2), vshrq_n_u8(v[0], 3));
    rest = vbslq_u8(vdupq_n_u8(0x44), vshrq_n_u8(v[2], 1), rest);
    const uint8x16_t codes[8] = {
        vandq_u8(v[0], nibble), vshrq_n_u8(v[0], 4), vandq_u8(v[1], nibble), vshrq_n_u8(v[1], 4),
        vandq_u8(v[2], nibble), vshrq_n_u8(v[2], 4), vandq_u8(rest, nibble), vshrq_n_u8(rest, 4),
    };
    for (int i = 0; i < 8; i++) {
        const uint8x16_t high = vqtbl1q_u8(palette, codes[i]);
        if (w == 8) vst1_u8(out + w * (uint64_t)i, vget_low_u8(high));
        else vst1q_u8(out + w * (uint64_t)i, high);
    }
}

UW_INLINE void lookup_group(const uint8x16_t *palette, const uint8_t *in, uint8_t *out) {
    for (int i = 0; i < UW_BLOCK; i += 16) lookup3_16(*palette, in + i, UW_BLOCK, out + i);
}

UW_INLINE void lookup_part(const uint8x16_t *palette, const uint8_t *in, uint64_t w, uint8_t *out) {
    if (w == 8) lookup3_16(*palette, in, 8, out);
    else if (w == 16) lookup3_16(*palette, in, 16, out);
    else
        for (int i = 0; i < 32; i += 16) lookup3_16(*palette, in + i, 32, out + i);
}

UW_INLINE void lookup_block4(const uint8x16_t *palette, const uint8_t *in, uint8_t *out) {
    for (int i = 0; i < 32; i += 16) {
        const uint8x16_t both = vld1q_u8(in + i);
        vst1q_u8(out + i, vqtbl1q_u8(*palette, vandq_u8(both, vdupq_n_u8(15))));
        vst1q_u8(out + 32 + i, vqtbl1q_u8(*palette, vshrq_n_u8(both, 4)));
    }
}

#include "segment.h"

/* Eight words in natural order: the first (0) or the second (1) eight places of 16. */
UW_INLINE uint16x8_t words_of(const uint8_t *high, const uint8_t *low, const int second, const int shift) {
    const uint8x16_t h = vld1q_u8(high), l = vld1q_u8(low);
    const uint16x8_t words = vreinterpretq_u16_u8(second ? vzip2q_u8(l, h) : vzip1q_u8(l, h));
    return shift ? vsubq_u16(words, vdupq_n_u16(128)) : words;
}

UW_INLINE void decode_rows(const uw_tensor *t, const int code_bits, const int shift, uint64_t row, uint64_t n, uint16_t *out, size_t stride) {
    walk w;
    walk_start(&w, t);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *low = t->low + (row + i) * t->blocks * UW_BLOCK, *high = NULL;
        uint16_t *to = out + i * stride;
        for (uint64_t b = 0, left = t->k; b < t->blocks; b++, low += UW_BLOCK, high += UW_BLOCK, to += UW_BLOCK) {
            if (b % PIECE_BLOCKS == 0) high = high_bytes(&w, code_bits, row + i, b);
            UW_PREFETCH_LINE(low + UW_PREFETCH);
            uint64_t now = left < UW_BLOCK ? left : UW_BLOCK;
            /* Only the last block of a row can be short of its 64 weights and must not be written whole. */
            uint16_t block[UW_BLOCK], *whole = now == UW_BLOCK ? to : block;
            for (int q = 0; q < 4; q++)
                for (int second = 0; second < 2; second++)
                    vst1q_u16(whole + 32 * second + 8 * q, words_of(high + 16 * q, low + 16 * q, second, shift));
            if (whole == block) memcpy(to, block, now * sizeof *to);
            left -= now;
        }
    }
}

static void decode_bf16(const uw_tensor *t, uint64_t row, uint64_t n, uint16_t *out, size_t stride) {
#define CALL(code_bits, shift) decode_rows(t, code_bits, shift, row, n, out, stride)
    FOR_EACH_FORM(t, CALL);
#undef CALL
}

/* Floats in natural order, with zeros to the end of the last block. */
static void prepare(uw_order order, const float *x, uint64_t k, void *prepared) {
    uw_kernels_scalar.prepare(order, x, k, prepared);
    memset((float *)prepared + k, 0, (uw_padded(k) - k) * sizeof(float));
}

/* Two ways to the same sum. The order says: round the product to a float, then add it in double. Where the product of two BF16
 * numbers, which has 16 significant bits, is within a float's range, that rounding changes nothing; then a fused multiply-add in
 * double is the same, and cheaper. Numbers are tame if products of any two of them are in range: a magnitude from 2^-61 up to, not
 * including, 2^62, whether their exponent is stored one too high or not. Activations may be zero too. The fused way also takes
 * weights whose exponents are stored one too high as they are: sums twice as large, but otherwise the same to the bit. */
#define TAME_FROM 0x21 /* of a high byte without its sign */
#define TAME_TO 0x5F
typedef enum way { WAY_ROUNDED, WAY_ROUNDED_SHIFT, WAY_FUSED } way;

static int tame_activations(const float *x, uint64_t k) {
    const uint32_t from = (uint32_t)TAME_FROM << 25, range = (uint32_t)(TAME_TO - TAME_FROM) << 25;
    uint32_t worst = 0;
    for (uint64_t i = 0; i < k; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits <<= 1;
        uint32_t over = bits == 0 ? 0 : bits - from;
        worst = over > worst ? over : worst;
    }
    return worst < range;
}

static int tame_palette(const uw_tensor *t) {
    int wild = 0;
    for (int i = 0; i < 16; i++) wild |= (t->palette[i] & 127) < TAME_FROM || (t->palette[i] & 127) >= TAME_TO;
    return !wild;
}

/* The escapes of a segment: pairs of which the second is a high byte. */
static int tame_escapes(const uw_tensor *t, uint64_t segment) {
    const uint16_t from = TAME_FROM << 9, range = (TAME_TO - TAME_FROM) << 9;
    uint16_t worst = 0;
    for (uint64_t i = first_escape(t, segment), to = first_escape(t, segment + 1); i < to; i++) {
        uint16_t bits;
        memcpy(&bits, t->escapes + 2 * i, sizeof bits);
        uint16_t over = (uint16_t)((uint16_t)(bits << 1) - from);
        worst = over > worst ? over : worst;
    }
    return worst < range;
}

#define SIDE_BY_SIDE 8 /* rows: four registers of sums, which hide the latency of addition */
#define PAIRS (SIDE_BY_SIDE / 2)

/* Rows being summed, from some block on. */
typedef struct rows_at {
    const uint8_t *high[SIDE_BY_SIDE], *low[SIDE_BY_SIDE];
} rows_at;

/* Decoders of the segments that rows side by side can be in, and what is known of the whole call. */
typedef struct product {
    walk walks[SIDE_BY_SIDE];
    const uw_tensor *t;
    int tame;              /* all but the escapes */
    uint8_t in_row[UW_BLOCK]; /* of a row's last block: 255 for places in the row, 0 for places past its end */
} product;

static void product_start(product *p, const uw_tensor *t) {
    for (int i = 0; i < SIDE_BY_SIDE; i++) walk_start(&p->walks[i], t);
    p->t = t;
    p->tame = tame_palette(t);
    const uint64_t left = t->k % UW_BLOCK;
    for (uint64_t eighth = 0; eighth < 8; eighth++)
        for (uint64_t i = 0; i < 8; i++) p->in_row[8 * eighth + i] = (eighth / 2 + eighth % 2 * 4) * 8 + i < left ? 255 : 0;
}

static way way_of(const product *p, uint64_t row, uint64_t n) {
    const uw_tensor *t = p->t;
    int tame = p->tame;
    for (uint64_t s = row / t->segment_rows; tame && s <= (row + n - 1) / t->segment_rows; s++) tame = tame_escapes(t, s);
    if (tame) return WAY_FUSED;
    return t->shift ? WAY_ROUNDED_SHIFT : WAY_ROUNDED;
}

/* Places past the last of n rows hold that row again. */
static void rows_from(product *p, uint64_t row, uint64_t n, uint64_t block, rows_at *at) {
    const uw_tensor *t = p->t;
    for (uint64_t r = 0; r < SIDE_BY_SIDE; r++) {
        if (r >= n) {
            at->high[r] = at->high[n - 1];
            at->low[r] = at->low[n - 1];
            continue;
        }
        walk *w = &p->walks[(row + r) / t->segment_rows % SIDE_BY_SIDE];
        at->high[r] = t->code_bits == 3 ? high_bytes(w, 3, row + r, block) : high_bytes(w, 4, row + r, block);
        at->low[r] = t->low + ((row + r) * t->blocks + block) * UW_BLOCK;
    }
}

/* The last block of rows that do not fill it, `blocks` blocks on, with weights of zero past their ends: what stands there need not
 * be finite, and infinity times zero would not be zero. */
typedef uint8_t last_blocks[2][SIDE_BY_SIDE][UW_BLOCK];
static void rows_end(const product *p, way way, rows_at *at, uint64_t blocks, last_blocks out) {
    const uint8x16_t past = vdupq_n_u8(way == WAY_ROUNDED_SHIFT ? 128 : 0);
    for (int r = 0; r < SIDE_BY_SIDE; r++) {
        for (int i = 0; i < UW_BLOCK; i += 16) {
            const uint8x16_t in = vld1q_u8(p->in_row + i);
            vst1q_u8(out[0][r] + i, vandq_u8(in, vld1q_u8(at->high[r] + blocks * UW_BLOCK + i)));
            vst1q_u8(out[1][r] + i, vbslq_u8(in, vld1q_u8(at->low[r] + blocks * UW_BLOCK + i), past));
        }
        at->high[r] = out[0][r];
        at->low[r] = out[1][r];
    }
}

/* Makes floats of the words of two rows a and b: a0 b0 a1 b1, a2 b2 a3 b3 and so on. */
UW_INLINE void widen_pair(uint16x8_t a, uint16x8_t b, float32x4_t out[4]) {
    const uint16x8_t zero = vdupq_n_u16(0), first = vzip1q_u16(a, b), second = vzip2q_u16(a, b);
    out[0] = vreinterpretq_f32_u16(vzip1q_u16(zero, first));
    out[1] = vreinterpretq_f32_u16(vzip2q_u16(zero, first));
    out[2] = vreinterpretq_f32_u16(vzip1q_u16(zero, second));
    out[3] = vreinterpretq_f32_u16(vzip2q_u16(zero, second));
}

/* Four activations as two registers of factors: doubles to be taken by lane, or floats twice each. */
typedef union factors {
    float64x2_t doubles[2];
    float32x4_t twice[2];
} factors;

UW_INLINE factors factors_of(const way way, const float *x) {
    const float32x4_t four = vld1q_f32(x);
    factors f;
    if (way == WAY_FUSED) {
        f.doubles[0] = vcvt_f64_f32(vget_low_f32(four));
        f.doubles[1] = vcvt_high_f64_f32(four);
    } else {
        f.twice[0] = vzip1q_f32(four, four);
        f.twice[1] = vzip2q_f32(four, four);
    }
    return f;
}

/* Adds two weights of each of two rows. */
UW_INLINE float64x2_t add_two(const way way, float64x2_t sum, float32x4_t weights, const factors *f, const int half) {
    if (way == WAY_FUSED) {
        sum = vfmaq_laneq_f64(sum, vcvt_f64_f32(vget_low_f32(weights)), f->doubles[half], 0);
        return vfmaq_laneq_f64(sum, vcvt_high_f64_f32(weights), f->doubles[half], 1);
    }
    const float32x4_t products = vmulq_f32(weights, f->twice[half]);
    sum = vaddq_f64(sum, vcvt_f64_f32(vget_low_f32(products)));
    return vaddq_f64(sum, vcvt_high_f64_f32(products));
}

UW_INLINE float64x2_t add_eight(const way way, float64x2_t sum, uint16x8_t a, uint16x8_t b, const factors f[2]) {
    float32x4_t weights[4];
    widen_pair(a, b, weights);
    for (int q = 0; q < 4; q++) sum = add_two(way, sum, weights[q], &f[q / 2], q % 2);
    return sum;
}

/* Loops over registers must be unrolled, or they are not registers. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* Adds whole blocks of 2 * pairs rows to their sums. */
UW_INLINE void sum_blocks(const way way, const int pairs, const rows_at *at, uint64_t blocks, uint64_t next, const float *x,
                          float64x2_t sums[PAIRS]) {
    rows_at p = *at;
    float64x2_t sum[PAIRS];
    UNROLL for (int i = 0; i < pairs; i++) sum[i] = sums[i];
    for (uint64_t b = 0; b < blocks; b++, x += UW_BLOCK) {
        UNROLL for (int r = 0; r < 2 * pairs; r++) UW_PREFETCH_LINE(p.low[r] + next);
        /* Each 16 weights come from the first or the second halves of two vectors. */
        UNROLL for (int q = 0; q < 4; q++) {
            const factors f[4] = {factors_of(way, x + 16 * q), factors_of(way, x + 16 * q + 4), factors_of(way, x + 16 * q + 8),
                                  factors_of(way, x + 16 * q + 12)};
            UNROLL for (int i = 0; i < pairs; i++)
                UNROLL for (int e = 0; e < 2; e++) {
                    const int from = q % 2 * 32 + 16 * e, shift = way == WAY_ROUNDED_SHIFT;
                    const uint16x8_t first = words_of(p.high[2 * i] + from, p.low[2 * i] + from, q / 2, shift),
                                     second = words_of(p.high[2 * i + 1] + from, p.low[2 * i + 1] + from, q / 2, shift);
                    sum[i] = add_eight(way, sum[i], first, second, f + 2 * e);
                    __asm__ volatile("" ::: "memory");
                }
        }
        UNROLL for (int r = 0; r < 2 * pairs; r++) {
            p.high[r] += UW_BLOCK;
            p.low[r] += UW_BLOCK;
        }
    }
    UNROLL for (int i = 0; i < pairs; i++) sums[i] = sum[i];
}

#define SUM(name, way, pairs) \
    static __attribute__((noinline)) void name(const rows_at *at, uint64_t blocks, uint64_t next, const float *x, float64x2_t sums[PAIRS]) { \
        sum_blocks(way, pairs, at, blocks, next, x, sums); \
    }
SUM(sum_rounded, WAY_ROUNDED, PAIRS)
SUM(sum_rounded_shift, WAY_ROUNDED_SHIFT, PAIRS)
SUM(sum_fused, WAY_FUSED, PAIRS)
SUM(sum_rounded_two, WAY_ROUNDED, 1)
SUM(sum_rounded_shift_two, WAY_ROUNDED_SHIFT, 1)
SUM(sum_fused_two, WAY_FUSED, 1)
#undef SUM
