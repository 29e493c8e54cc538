/* Products of a tile of expanded rows with prepared columns, as a template: the including file defines
 *   VEC            a register of floats            VEC_ZERO       all zero
 *   STEP           elements that one register of operands holds
 *   OPERAND        that register                   OPERAND_LOAD(p)   from an element's address
 *   ELEMENT        type of an operand's element    MADD(acc, w, x)
 *   ACCS           registers that take turns in one sum (1 for tile orders, 2 or 4 for dot orders)
 *   ROWS_AT_ONCE, COLUMNS_AT_ONCE   output block that fits the registers
 *   FINISH(accs, w, x, k)   ends a sum: reduction, and the tail of a dot order; w and x at the start of row and column
 *   GEMM           name of the function
 * Each output is summed alone, in its order; the block shape changes only which sums run side by side. */

#define GEMM_CONCAT_(a, b) a##b
#define GEMM_CONCAT(a, b) GEMM_CONCAT_(a, b)
#define GEMM_BLOCK GEMM_CONCAT(GEMM, _block)

static inline __attribute__((always_inline)) void GEMM_BLOCK(const int rows, const int columns, const ELEMENT *w, size_t w_stride,
                                                             const uint8_t *x, size_t x_stride, uint64_t steps, uint64_t k,
                                                             float *y, size_t y_stride) {
    VEC acc[ROWS_AT_ONCE][COLUMNS_AT_ONCE][ACCS];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            for (int a = 0; a < ACCS; a++) acc[r][c][a] = VEC_ZERO;
    for (uint64_t s = 0; s < steps; s += ACCS)
        for (int a = 0; a < ACCS; a++) {
            const size_t at = (s + (uint64_t)a) * STEP;
            OPERAND wv[ROWS_AT_ONCE];
            for (int r = 0; r < rows; r++) wv[r] = OPERAND_LOAD(w + (size_t)r * w_stride + at);
            for (int c = 0; c < columns; c++) {
                OPERAND xv = OPERAND_LOAD((const ELEMENT *)(x + (size_t)c * x_stride) + at);
                for (int r = 0; r < rows; r++) acc[r][c][a] = MADD(acc[r][c][a], wv[r], xv);
            }
        }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            y[(size_t)c * y_stride + (size_t)r] =
                FINISH(acc[r][c], w + (size_t)r * w_stride, (const ELEMENT *)(x + (size_t)c * x_stride), k);
}

/* `steps` is a multiple of ACCS; w_stride in elements, x_stride in bytes. */
static void GEMM(const ELEMENT *w, size_t w_stride, uint64_t rows, const uint8_t *x, size_t x_stride, uint64_t columns,
                 uint64_t steps, uint64_t k, float *y, size_t y_stride) {
    for (uint64_t c = 0; c < columns;) {
        /* The last columns go in blocks of fewer, evenly, so that none runs alone without need. */
        uint64_t left = columns - c, blocks = (left + COLUMNS_AT_ONCE - 1) / COLUMNS_AT_ONCE, now = (left + blocks - 1) / blocks;
        const uint8_t *xc = x + c * x_stride;
        float *yc = y + c * y_stride;
        for (uint64_t r = 0; r < rows;) {
            int full = rows - r >= ROWS_AT_ONCE;
            const ELEMENT *wr = w + r * w_stride;
            switch (full ? now : 0) {
#if COLUMNS_AT_ONCE >= 6
            case 6: GEMM_BLOCK(ROWS_AT_ONCE, 6, wr, w_stride, xc, x_stride, steps, k, yc + r, y_stride); break;
            case 5: GEMM_BLOCK(ROWS_AT_ONCE, 5, wr, w_stride, xc, x_stride, steps, k, yc + r, y_stride); break;
            case 4: GEMM_BLOCK(ROWS_AT_ONCE, 4, wr, w_stride, xc, x_stride, steps, k, yc + r, y_stride); break;
#endif
#if COLUMNS_AT_ONCE >= 3
            case 3: GEMM_BLOCK(ROWS_AT_ONCE, 3, wr, w_stride, xc, x_stride, steps, k, yc + r, y_stride); break;
#endif
#if COLUMNS_AT_ONCE >= 2
            case 2: GEMM_BLOCK(ROWS_AT_ONCE, 2, wr, w_stride, xc, x_stride, steps, k, yc + r, y_stride); break;
#endif
            case 1: GEMM_BLOCK(ROWS_AT_ONCE, 1, wr, w_stride, xc, x_stride, steps, k, yc + r, y_stride); break;
            default:
                for (uint64_t one = 0; one < now; one++)
                    GEMM_BLOCK(1, 1, wr, w_stride, xc + one * x_stride, x_stride, steps, k, yc + one * y_stride + r, y_stride);
            }
            r += full ? ROWS_AT_ONCE : 1;
        }
        c += now;
    }
}

#undef GEMM_BLOCK
#undef GEMM_CONCAT
#undef GEMM_CONCAT_
#undef VEC
#undef VEC_ZERO
#undef STEP
#undef OPERAND
#undef OPERAND_LOAD
#undef ELEMENT
#undef MADD
#undef ACCS
#undef ROWS_AT_ONCE
#undef COLUMNS_AT_ONCE
#undef FINISH
#undef GEMM
