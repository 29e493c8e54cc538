/* UW_PLAIN for weights that were BF16, which is ggml_vec_dot_bf16 on ARM. Its sums are chains of double additions: rows stand side by
 * side in lanes and registers, so that several chains run at once. No ggml with NEON adds up other weights so: they are left to the
 * scalar kernels. */
#include "neon.h"

/* uw_f32_to_bf16() and back. */
UW_INLINE float32x4_t rounded(float32x4_t x) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t near = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7FFF))), quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vreinterpretq_f32_u32(vandq_u32(vbslq_u32(vceqq_f32(x, x), near, quiet), vdupq_n_u32(0xFFFF0000)));
}

/* Floats in natural order, with zeros to the end of the last block. */
static void prepare(uw_order order, uw_number original, uw_number stored, const float *x, uint64_t k, void *prepared) {
    if (original != UW_BF16) {
        uw_kernels_scalar.prepare(order, original, stored, x, k, prepared);
        return;
    }
    float *out = prepared, last[4] = {0};
    const uint64_t whole = k / 4 * 4;
    for (uint64_t i = 0; i < whole; i += 4) vst1q_f32(out + i, rounded(vld1q_f32(x + i)));
    if (whole < k) {
        memcpy(last, x + whole, (k - whole) * sizeof *x);
        vst1q_f32(out + whole, rounded(vld1q_f32(last)));
    }
    memset(out + k, 0, (uw_padded(k) - k) * sizeof *out);
}

/* Two ways to the same sum. The order says: round the product to a float, then add it in double. Where the product of two BF16
 * numbers, which has 16 significant bits, is within a float's range, that rounding changes nothing; then a fused multiply-add in
 * double is the same, and cheaper. Numbers are tame if products of any two of them are in range: a magnitude from 2^-61 up to, not
 * including, 2^63, whether their exponent is stored one too high or not. Activations may be zero too. The fused way also takes
 * weights whose exponents are stored one too high as they are: sums twice as large, but otherwise the same to the bit. */
#define TAME_FROM 0x21 /* of a high byte without its sign */
#define TAME_TO 0x5F
typedef enum way { WAY_ROUNDED, WAY_ROUNDED_SHIFT, WAY_FUSED } way;

static int tame_activations(const float *x, uint64_t k) {
    const uint32x4_t from = vdupq_n_u32((uint32_t)TAME_FROM << 25);
    uint32x4_t worst = vdupq_n_u32(0);
    for (uint64_t i = 0; i < k; i += 4) {
        const uint32x4_t magnitude = vshlq_n_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), 1);
        worst = vmaxq_u32(worst, vandq_u32(vsubq_u32(magnitude, from), vtstq_u32(magnitude, magnitude)));
    }
    return vmaxvq_u32(worst) < (uint32_t)(TAME_TO - TAME_FROM) << 25;
}

static int tame_palette(const uw_piece *piece) {
    int wild = 0;
    for (int i = 0; i < 16; i++) wild |= (piece->palette[i] & 127) < TAME_FROM || (piece->palette[i] & 127) >= TAME_TO;
    return !wild;
}

/* The escapes of a segment: pairs of which the second is a high byte. */
static int tame_escapes(const uw_piece *piece, uint64_t segment) {
    const uint16_t from = TAME_FROM << 9, range = (TAME_TO - TAME_FROM) << 9;
    uint16_t worst = 0;
    for (uint64_t i = first_escape(piece, segment), to = first_escape(piece, segment + 1); i < to; i++) {
        uint16_t bits;
        memcpy(&bits, piece->escapes + 2 * i, sizeof bits);
        uint16_t over = (uint16_t)((uint16_t)(bits << 1) - from);
        worst = over > worst ? over : worst;
    }
    return worst < range;
}

#define SIDE_BY_SIDE 8 /* rows: four registers of sums, which hide the latency of addition */
#define PAIRS (SIDE_BY_SIDE / 2)
#define COLUMNS 4 /* at once, of several */

/* Rows being summed, from some block on. */
typedef struct rows_at {
    const uint8_t *high[SIDE_BY_SIDE], *low[SIDE_BY_SIDE];
} rows_at;

/* Walks through the segments that rows side by side can be in, one segment each, and what is known of the whole call. */
typedef struct product {
    walk walks[SIDE_BY_SIDE];
    const uw_piece *piece;
    int tame; /* all but the escapes */
} product;

static void product_start(product *p, const uw_piece *piece) {
    for (int i = 0; i < SIDE_BY_SIDE; i++) p->walks[i].ready = 0;
    p->piece = piece;
    p->tame = tame_palette(piece);
}

static way way_of(const product *p, uint64_t row, uint64_t n) {
    const uw_piece *piece = p->piece;
    int tame = p->tame;
    for (uint64_t s = row / piece->segment_rows; tame && s <= (row + n - 1) / piece->segment_rows; s++) tame = tame_escapes(piece, s);
    if (tame) return WAY_FUSED;
    return piece->shift ? WAY_ROUNDED_SHIFT : WAY_ROUNDED;
}

/* The high bytes of a row from a block on, where a stretch begins. Walks don't look ahead here: one of their buffers is enough, and all
 * of these together just fit the nearest cache. */
static const uint8_t *high_from(product *p, uint64_t row, uint64_t block) {
    const uint64_t rows = p->piece->segment_rows;
    walk *w = &p->walks[row / rows % SIDE_BY_SIDE];
    if (block == 0 && (rows == 1 || w->ready != row / rows + 1)) walk_start(w, p->piece, row, 1);
    if (block > 0) {
        w->turn = 0;
        w->out = w->high[0];
    }
    return high_bytes(w, row);
}

/* Places past the last of n rows hold that row again. */
static void rows_from(product *p, uint64_t row, uint64_t n, uint64_t block, rows_at *at) {
    const uw_piece *piece = p->piece;
    for (uint64_t r = 0; r < SIDE_BY_SIDE; r++) {
        if (r >= n) {
            at->high[r] = at->high[n - 1];
            at->low[r] = at->low[n - 1];
            continue;
        }
        at->high[r] = high_from(p, row + r, block);
        at->low[r] = piece->low + (row + r) * piece->k + block * UW_BLOCK;
    }
}

/* Bytes of 64 weights from their natural order to that of a block. */
UW_INLINE void place_block(const uint8_t *natural, uint8_t *out) {
    for (int q = 0; q < 2; q++) {
        const uint64x2_t first = vreinterpretq_u64_u8(vld1q_u8(natural + 16 * q)),
                         second = vreinterpretq_u64_u8(vld1q_u8(natural + 32 + 16 * q));
        vst1q_u8(out + 32 * q, vreinterpretq_u8_u64(vzip1q_u64(first, second)));
        vst1q_u8(out + 32 * q + 16, vreinterpretq_u8_u64(vzip2q_u64(first, second)));
    }
}

/* The last weights of rows, `blocks` blocks on, made a block like the others. Places past their ends get a low byte that makes a
 * finite number of any high byte: activations are zero there, and infinity times zero would not be. */
typedef struct row_ends {
    uint8_t high[SIDE_BY_SIDE][UW_BLOCK], low[SIDE_BY_SIDE][UW_BLOCK];
} row_ends;

static void rows_end(const product *p, way way, rows_at *at, uint64_t blocks, row_ends *ends) {
    uint8_t low[UW_BLOCK];
    memset(low, way == WAY_ROUNDED_SHIFT ? 128 : 0, sizeof low);
    for (int r = 0; r < SIDE_BY_SIDE; r++) {
        memcpy(low, at->low[r] + blocks * UW_BLOCK, p->piece->k % UW_BLOCK);
        place_block(low, ends->low[r]);
        place_block(at->high[r] + blocks * UW_BLOCK, ends->high[r]);
        at->high[r] = ends->high[r];
        at->low[r] = ends->low[r];
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
typedef struct factors {
    float64x2_t of[2];
} factors;

UW_INLINE factors factors_of(const way way, const float *x) {
    const float32x4_t four = vld1q_f32(x);
    if (way == WAY_FUSED) return (factors){{vcvt_f64_f32(vget_low_f32(four)), vcvt_high_f64_f32(four)}};
    return (factors){{vreinterpretq_f64_f32(vzip1q_f32(four, four)), vreinterpretq_f64_f32(vzip2q_f32(four, four))}};
}

/* vfmaq_laneq_f64, for which GCC would first spread each lane over a register of its own. */
#define FUSED_ADD(sum, a, b, lane) __asm__("fmla %0.2d, %1.2d, %2.d[" #lane "]" : "+w"(sum) : "w"(a), "w"(b))

/* Adds two weights of each of two rows. */
UW_INLINE float64x2_t add_two(const way way, float64x2_t sum, float32x4_t weights, float64x2_t factor) {
    if (way == WAY_FUSED) {
        FUSED_ADD(sum, vcvt_f64_f32(vget_low_f32(weights)), factor, 0);
        FUSED_ADD(sum, vcvt_high_f64_f32(weights), factor, 1);
        return sum;
    }
    const float32x4_t products = vmulq_f32(weights, vreinterpretq_f32_f64(factor));
    sum = vaddq_f64(sum, vcvt_f64_f32(vget_low_f32(products)));
    return vaddq_f64(sum, vcvt_high_f64_f32(products));
}

UW_INLINE float64x2_t add_eight(const way way, float64x2_t sum, uint16x8_t a, uint16x8_t b, const factors f[2]) {
    float32x4_t weights[4];
    widen_pair(a, b, weights);
    for (int q = 0; q < 4; q++) sum = add_two(way, sum, weights[q], f[q / 2].of[q % 2]);
    return sum;
}

/* Keeps the compiler from loading or computing so far ahead that registers run out. */
#define FINISH_FIRST(v) __asm__ volatile("" : "+w"(v) : : "memory")

/* The first (e 0) or second eight of the q-th 16 weights of a block, from the first or the second half of a vector. */
UW_INLINE uint16x8_t eight_of(const way way, const rows_at *at, const int r, const int q, const int e) {
    const int from = q % 2 * 32 + e * 16;
    const form f = {UW_BF16, 0, way == WAY_ROUNDED_SHIFT};
    return eight_words(f, vld1q_u8(at->high[r] + from), vld1q_u8(at->low[r] + from), q / 2);
}

UW_INLINE void next_block(rows_at *at, const int rows) {
    UNROLL for (int r = 0; r < rows; r++) {
        at->high[r] += UW_BLOCK;
        at->low[r] += UW_BLOCK;
    }
}

/* Adds whole blocks of 2 * pairs rows to their sums. `next`: bytes to the rows that follow, to prefetch. */
UW_INLINE void sum_blocks(const way way, const int pairs, const rows_at *rows, uint64_t blocks, uint64_t next, const float *x,
                          float64x2_t sums[PAIRS]) {
    rows_at at = *rows;
    float64x2_t sum[PAIRS];
    UNROLL for (int i = 0; i < pairs; i++) sum[i] = sums[i];
    for (uint64_t block = 0; block < blocks; block++, x += UW_BLOCK) {
        UNROLL for (int r = 0; r < 2 * pairs; r++) UW_PREFETCH_LINE(at.low[r] + next);
        UNROLL for (int q = 0; q < 4; q++) {
            factors f[4];
            UNROLL for (int i = 0; i < 4; i++) f[i] = factors_of(way, x + 16 * q + 4 * i);
            UNROLL for (int i = 0; i < pairs; i++) {
                UNROLL for (int e = 0; e < 2; e++) {
                    const uint16x8_t a = eight_of(way, &at, 2 * i, q, e), b = eight_of(way, &at, 2 * i + 1, q, e);
                    sum[i] = add_eight(way, sum[i], a, b, f + 2 * e);
                }
                FINISH_FIRST(sum[i]);
            }
        }
        next_block(&at, 2 * pairs);
    }
    UNROLL for (int i = 0; i < pairs; i++) sums[i] = sum[i];
}

/* Weights in a group of expanded ones: four of each row, as doubles for the fused way and else as floats; first those of rows 0 and
 * 1, in turn, then those of 2 and 3, and so on. */
#define EXPANDED (4 * SIDE_BY_SIDE)

/* Expands whole blocks for sum_columns(). */
UW_INLINE void expand_blocks(const way way, const rows_at *rows, uint64_t blocks, uint64_t next, void *out) {
    rows_at at = *rows;
    uint64_t group = 0;
    for (uint64_t b = 0; b < blocks; b++, group += 16) {
        UNROLL for (int r = 0; r < SIDE_BY_SIDE; r++) UW_PREFETCH_LINE(at.low[r] + next);
        for (int i = 0; i < PAIRS; i++)
            UNROLL for (int e = 0; e < 8; e++) {
                float32x4_t weights[4];
                widen_pair(eight_of(way, &at, 2 * i, e / 2, e % 2), eight_of(way, &at, 2 * i + 1, e / 2, e % 2), weights);
                UNROLL for (int q = 0; q < 4; q++) {
                    const uint64_t to = (group + (uint64_t)(2 * e + q / 2)) * EXPANDED + (uint64_t)(8 * i + 4 * (q % 2));
                    if (way == WAY_FUSED) {
                        vst1q_f64((double *)out + to, vcvt_f64_f32(vget_low_f32(weights[q])));
                        vst1q_f64((double *)out + to + 2, vcvt_high_f64_f32(weights[q]));
                    } else {
                        vst1q_f32((float *)out + to, weights[q]);
                    }
                }
            }
        next_block(&at, SIDE_BY_SIDE);
    }
}

/* Sums of expanded rows with some columns. */
UW_INLINE void sum_columns(const way way, const int pairs, const int columns, const void *weights, uint64_t k, const uint8_t *x,
                           size_t x_stride, float64x2_t sums[][PAIRS]) {
    float64x2_t sum[COLUMNS][PAIRS];
    UNROLL for (int c = 0; c < columns; c++)
        UNROLL for (int i = 0; i < pairs; i++) sum[c][i] = vdupq_n_f64(0);
    for (uint64_t at = 0; at < k; at += 4) {
        factors f[COLUMNS];
        UNROLL for (int c = 0; c < columns; c++) f[c] = factors_of(way, (const float *)(x + (size_t)c * x_stride) + at);
        UNROLL for (int i = 0; i < pairs; i++) {
            UNROLL for (int half = 0; half < 2; half++) {
                const uint64_t from = at / 4 * EXPANDED + 8 * (uint64_t)i + 4 * (uint64_t)half;
                if (way == WAY_FUSED) {
                    const float64x2_t first = vld1q_f64((const double *)weights + from),
                                      second = vld1q_f64((const double *)weights + from + 2);
                    UNROLL for (int c = 0; c < columns; c++) {
                        FUSED_ADD(sum[c][i], first, f[c].of[half], 0);
                        FUSED_ADD(sum[c][i], second, f[c].of[half], 1);
                    }
                } else {
                    const float32x4_t both = vld1q_f32((const float *)weights + from);
                    UNROLL for (int c = 0; c < columns; c++) sum[c][i] = add_two(way, sum[c][i], both, f[c].of[half]);
                }
            }
            FINISH_FIRST(sum[0][i]);
        }
    }
    UNROLL for (int c = 0; c < columns; c++)
        UNROLL for (int i = 0; i < pairs; i++) sums[c][i] = sum[c][i];
}

/* One register of sums where there are but two rows. */
static void sum_some_blocks(way way, uint64_t n, const rows_at *rows, uint64_t blocks, uint64_t next, const float *x,
                            float64x2_t sums[PAIRS]) {
#define CALL(way) \
    do { \
        if (n > 2) sum_blocks(way, PAIRS, rows, blocks, next, x, sums); \
        else sum_blocks(way, 1, rows, blocks, next, x, sums); \
    } while (0)
    if (way == WAY_FUSED) CALL(WAY_FUSED);
    else if (way == WAY_ROUNDED) CALL(WAY_ROUNDED);
    else CALL(WAY_ROUNDED_SHIFT);
#undef CALL
}

static void expand_some_blocks(way way, const rows_at *rows, uint64_t blocks, uint64_t next, void *out) {
    if (way == WAY_FUSED) expand_blocks(WAY_FUSED, rows, blocks, next, out);
    else if (way == WAY_ROUNDED) expand_blocks(WAY_ROUNDED, rows, blocks, next, out);
    else expand_blocks(WAY_ROUNDED_SHIFT, rows, blocks, next, out);
}

/* Returns how many columns it took. */
static uint64_t sum_some_columns(way way, uint64_t n, uint64_t columns, const void *weights, uint64_t k, const uint8_t *x,
                                 size_t x_stride, float64x2_t sums[][PAIRS]) {
#define CALL(way, columns) \
    do { \
        if (n > 2) sum_columns(way, PAIRS, columns, weights, k, x, x_stride, sums); \
        else sum_columns(way, 1, columns, weights, k, x, x_stride, sums); \
        return columns; \
    } while (0)
    if (way == WAY_FUSED && columns >= COLUMNS) CALL(WAY_FUSED, COLUMNS);
    if (way == WAY_FUSED) CALL(WAY_FUSED, 1);
    if (columns >= COLUMNS) CALL(WAY_ROUNDED, COLUMNS);
    CALL(WAY_ROUNDED, 1);
#undef CALL
}

/* Sums of the fused way are twice as large where exponents are stored one too high. */
static void put_sums(const uw_piece *piece, way way, const float64x2_t sums[PAIRS], uint64_t n, float *y) {
    double all[SIDE_BY_SIDE];
    for (int i = 0; i < PAIRS; i++) vst1q_f64(all + 2 * i, sums[i]);
    for (uint64_t r = 0; r < n; r++) y[r] = (float)(way == WAY_FUSED && piece->shift ? all[r] / 2 : all[r]);
}

static void *expanded_from(way way, void *expanded, uint64_t block) {
    return (uint8_t *)expanded + block * UW_BLOCK * SIDE_BY_SIDE * (way == WAY_FUSED ? sizeof(double) : sizeof(float));
}

/* Up to SIDE_BY_SIDE rows: added up with one column, or expanded for several. */
static void take_rows(product *p, way way, uint64_t row, uint64_t n, const float *x, float64x2_t sums[PAIRS], void *expanded) {
    const uw_piece *piece = p->piece;
    const uint64_t full = piece->k / UW_BLOCK, blocks = uw_blocks(piece->k), next = SIDE_BY_SIDE * piece->k;
    for (uint64_t from = 0; from < blocks; from += STRETCH_BLOCKS) {
        const uint64_t whole = full - from < STRETCH_BLOCKS ? full - from : STRETCH_BLOCKS;
        rows_at at;
        row_ends ends;
        rows_from(p, row, n, from, &at);
        if (expanded) expand_some_blocks(way, &at, whole, next, expanded_from(way, expanded, from));
        else sum_some_blocks(way, n, &at, whole, next, x + from * UW_BLOCK, sums);
        if (from + whole == blocks || whole == STRETCH_BLOCKS) continue;
        rows_end(p, way, &at, whole, &ends);
        if (expanded) expand_some_blocks(way, &at, 1, 0, expanded_from(way, expanded, full));
        else sum_some_blocks(way, n, &at, 1, 0, x + full * UW_BLOCK, sums);
    }
}

static void matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    if (piece->original != UW_BF16) {
        uw_kernels_scalar.matvec(piece, order, row, n, prepared, y, scratch);
        return;
    }
    product p;
    product_start(&p, piece);
    p.tame = p.tame && tame_activations(prepared, piece->k);
    for (uint64_t i = 0; i < n; i += SIDE_BY_SIDE) {
        const uint64_t rows = n - i < SIDE_BY_SIDE ? n - i : SIDE_BY_SIDE;
        const way way = way_of(&p, row + i, rows);
        float64x2_t sums[PAIRS] = {vdupq_n_f64(0), vdupq_n_f64(0), vdupq_n_f64(0), vdupq_n_f64(0)};
        take_rows(&p, way, row + i, rows, prepared, sums, NULL);
        put_sums(piece, way, sums, rows, y + i);
    }
}

static void matmul(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
                   uint64_t columns, float *y, size_t y_stride, void *scratch) {
    if (piece->original != UW_BF16) {
        uw_kernels_scalar.matmul(piece, order, row, n, prepared, prepared_stride, columns, y, y_stride, scratch);
        return;
    }
    if (columns == 1) {
        matvec(piece, order, row, n, prepared, y, scratch);
        return;
    }
    const uint8_t *x = prepared;
    product p;
    product_start(&p, piece);
    for (uint64_t c = 0; p.tame && c < columns; c++) p.tame = tame_activations((const float *)(x + c * prepared_stride), piece->k);
    for (uint64_t i = 0; i < n; i += SIDE_BY_SIDE) {
        const uint64_t rows = n - i < SIDE_BY_SIDE ? n - i : SIDE_BY_SIDE;
        const way way = way_of(&p, row + i, rows);
        take_rows(&p, way, row + i, rows, NULL, NULL, scratch);
        for (uint64_t c = 0, taken; c < columns; c += taken) {
            float64x2_t sums[COLUMNS][PAIRS] = {{vdupq_n_f64(0)}};
            taken = sum_some_columns(way, rows, columns - c, scratch, piece->k, x + c * prepared_stride, prepared_stride, sums);
            for (uint64_t each = 0; each < taken; each++) put_sums(piece, way, sums[each], rows, y + (c + each) * y_stride + i);
        }
    }
}

/* Rounds products: whether weights are tame is not known. */
UW_INLINE void sum_words(const int pairs, const uint16_t *w, uint64_t stride, uint64_t k, const float *x, float64x2_t sums[PAIRS]) {
    for (int i = 0; i < pairs; i++) sums[i] = vdupq_n_f64(0);
    for (uint64_t at = 0; at + 8 <= k; at += 8, w += 8) {
        const factors f[2] = {factors_of(WAY_ROUNDED, x + at), factors_of(WAY_ROUNDED, x + at + 4)};
        UNROLL for (int i = 0; i < pairs; i++) {
            const uint16_t *two = w + 2 * (uint64_t)i * stride;
            sums[i] = add_eight(WAY_ROUNDED, sums[i], vld1q_u16(two), vld1q_u16(two + stride), f);
        }
    }
}

static void plain_matvec(const void *weights, uw_number number, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y,
                         void *scratch) {
    if (number != UW_BF16) {
        uw_kernels_scalar.plain_matvec(weights, number, order, n, k, prepared, y, scratch);
        return;
    }
    const uint16_t *w = weights;
    const uint64_t whole = k / 8 * 8;
    for (uint64_t rows; n > 0; n -= rows, w += rows * k, y += rows) {
        float64x2_t sums[PAIRS];
        double all[SIDE_BY_SIDE];
        rows = n >= SIDE_BY_SIDE ? SIDE_BY_SIDE : n >= 2 ? 2 : 1;
        if (rows == SIDE_BY_SIDE) sum_words(PAIRS, w, k, k, prepared, sums);
        else sum_words(1, w, rows == 2 ? k : 0, k, prepared, sums);
        for (uint64_t i = 0; i < (rows + 1) / 2; i++) vst1q_f64(all + 2 * i, sums[i]);
        for (uint64_t r = 0; r < rows; r++) {
            for (uint64_t i = whole; i < k; i++) all[r] += (double)(uw_bf16_to_f32(w[r * k + i]) * ((const float *)prepared)[i]);
            y[r] = (float)all[r];
        }
    }
}

const uw_kernels uw_kernels_neon_plain = {.prepare = prepare, .matvec = matvec, .matmul = matmul, .plain_matvec = plain_matvec};
