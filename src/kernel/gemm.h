/* Products of a tile of expanded rows with prepared columns, as a template: the including file defines
 *   VEC             a register of floats            VEC_ZERO       all zero
 *   STEP            elements of a row that all accumulators of a sum take in one turn
 *   OPERAND         a register of factors
 *   ELEMENT         what an expanded row consists of: uint16_t or float
 *   W_LOAD(w, a)    the factors of accumulator a from the row's elements (natural order) at the start of a turn
 *   X_LOAD(x, i, a) the factors of accumulator a from a prepared column, i elements from its start at the start of a turn
 *   MADD(acc, w, x)
 *   ACCS            accumulators of a sum (tile orders: 1, or 2 for lanes of two registers; dot orders: 2 or 4)
 *   ROWS_AT_ONCE, COLUMNS_AT_ONCE   output block that fits the registers
 *   FINISH(accs, w, x, k)   ends a sum: reduction, and the tail of a dot order; w and x at the start of row and column
 *   GEMM            name of the function
 * Each output is summed alone, in its order; the block shape changes only which sums run side by side. */

#define GEMM_CONCAT_(a, b) a##b
#define GEMM_CONCAT(a, b) GEMM_CONCAT_(a, b)
#define GEMM_BLOCK GEMM_CONCAT(GEMM, _block)

UW_INLINE void GEMM_BLOCK(const int rows, const int columns, const ELEMENT *w, size_t w_stride, const uint8_t *x, size_t x_stride,
                          uint64_t steps, uint64_t k, float *y, size_t y_stride) {
    VEC acc[ROWS_AT_ONCE][COLUMNS_AT_ONCE][ACCS];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            for (int a = 0; a < ACCS; a++) acc[r][c][a] = VEC_ZERO;
    for (uint64_t at = 0; at < steps * STEP; at += STEP)
        for (int a = 0; a < ACCS; a++) {
            OPERAND wv[ROWS_AT_ONCE];
            for (int r = 0; r < rows; r++) wv[r] = W_LOAD(w + (size_t)r * w_stride + at, a);
            for (int c = 0; c < columns; c++) {
                OPERAND xv = X_LOAD(x + (size_t)c * x_stride, at, a);
                for (int r = 0; r < rows; r++) acc[r][c][a] = MADD(acc[r][c][a], wv[r], xv);
            }
        }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            y[(size_t)c * y_stride + (size_t)r] = FINISH(acc[r][c], w + (size_t)r * w_stride, x + (size_t)c * x_stride, k);
}

/* w_stride in elements, x_stride in bytes. */
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
#undef ELEMENT
#undef W_LOAD
#undef X_LOAD
#undef MADD
#undef ACCS
#undef ROWS_AT_ONCE
#undef COLUMNS_AT_ONCE
#undef FINISH
#undef GEMM
