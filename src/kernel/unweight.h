/* unweight.h - decode and compute on Unweight tensors (docs/FORMAT.md).
 *
 * A piece is some rows of a tensor: their low bytes, which stand in the tensor's home, and the rest, which stands in a room. Its weights
 * are stored as numbers of one kind, and were of the same or a wider kind in the original.
 *
 * Ownership: nothing here allocates or frees. A uw_piece borrows the bytes given to uw_piece_open(), which must stay mapped and
 * unchanged while the uw_piece is in use. Output and scratch buffers are the caller's.
 *
 * Bounds: uw_piece_open() checks every length. After it, no function reads outside the bytes given or writes outside the stated
 * output, whatever these bytes hold; a corrupt piece gives wrong numbers, never a bad access. Row arguments must be in range.
 *
 * Threads: every function may be called from any thread at any time; a uw_piece is read-only after uw_piece_open().
 *
 * Alignment: prepared activations and scratch at multiples of 4; floats and words as their types ask; low bytes and the rest anywhere.
 * Multiples of 64 bytes are faster.
 */
#ifndef UNWEIGHT_H
#define UNWEIGHT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UW_BLOCK 64            /* weights in a block */
#define UW_GROUP_BLOCKS 8      /* blocks whose 3-bit codes are packed together */
#define UW_GROUP6_BLOCKS 4     /* blocks whose 3-bit codes and 3 raw bits are packed together */
#define UW_SEGMENT_BLOCKS 64   /* most blocks in a segment of several rows */
#define UW_SEGMENT_ROWS 16     /* most rows in a segment */
#define UW_HEADER_BYTES 64     /* header of a piece */
#define UW_CODE3_BYTES 24      /* codes of one block, 3 bits each */
#define UW_CODE4_BYTES 32      /* codes of one block, 4 bits each */
#define UW_CODE6_BYTES 48      /* codes of one block, 3 bits each, and 3 raw bits */
#define UW_TILE_ROWS 16        /* most rows that uw_matmul() decodes at a time; a multiple of every segment's */

/* Kinds of numbers. */
typedef enum uw_number { UW_BF16 = 0, UW_F16, UW_F32, UW_NUMBERS } uw_number;

/* A checked view of one piece. Fields are the kernel's own; read them, don't write them. */
typedef struct uw_piece {
    const uint8_t *low;        /* low bytes, k a row */
    const uint8_t *codes;      /* per segment: of the high bytes, code_bytes a block, then the lower halves of UW_F32 */
    const uint8_t *starts;     /* u32 per segment: its first escape */
    const uint8_t *escapes;    /* n_escapes times distance and high byte */
    uint64_t k;                /* weights in a row */
    uint64_t rows;
    uint64_t segments;
    uint64_t segment_blocks;   /* blocks in a whole segment */
    uint64_t segment_bytes;    /* of codes, and lower halves, of a whole segment */
    uint64_t n_escapes;
    uint32_t segment_rows;     /* rows in a segment, a power of two */
    uint32_t original;         /* uw_number of the original */
    uint32_t stored;           /* uw_number of what is stored */
    uint32_t code_bits;        /* 3 or 4 */
    uint32_t code_bytes;
    uint32_t shift;            /* 1 if exponents are stored one too high, else 0 */
    uint8_t palette[16];       /* high byte by code; for 3-bit codes the 8 stand twice */
} uw_piece;

typedef enum uw_status {
    UW_OK = 0,
    UW_SHORT,                  /* fewer bytes than a header, or than the header's regions need */
    UW_LONG,                   /* more bytes than the header's regions need */
    UW_LOW,                    /* other than k * rows low bytes */
    UW_SHAPE,                  /* header names another shape than the caller */
    UW_CODE,                   /* code size other than 3 or 4 bits, or than 3 for UW_F16 */
    UW_NUMBER,                 /* stored as what is no kind of number, or not one that the original can be stored as */
    UW_OVERFLOW,               /* sizes beyond 64 bits or beyond the address space */
    UW_RESERVED,               /* a reserved byte that is not zero */
    UW_SHIFT                   /* a shift other than 0 or 1 */
} uw_status;

const char *uw_status_text(uw_status status);

/* Fills *piece: `rows` rows of `k` weights that are `original` numbers in the original; their low bytes are the `low_length` bytes at
 * `low`, and header, codes, segment starts and escapes the `rest_length` bytes at `rest`. On anything but UW_OK *piece is unchanged. */
uw_status uw_piece_open(uw_piece *piece, uw_number original, const void *low, size_t low_length, const void *rest, size_t rest_length,
                        uint64_t k, uint64_t rows);

/* Rows [row, row + n) as in the original, k elements a row, one row after the other. */
void uw_decode(const uw_piece *piece, uint64_t row, uint64_t n, void *out);

/* One row as F32: exactly k elements. */
void uw_decode_f32(const uw_piece *piece, uint64_t row, float *out);

/* The order in which a sum of products is formed. Sums of floats depend on it, so it follows the program whose results are to be
 * met bit for bit: orders with a kind of number in their names are those of ggml_vec_dot_bf16, _f16 and _f32, `tile` orders those of
 * tinyBLAS (llamafile_sgemm) in ggml-cpu as compiled for the named instruction set (its compiler fuses multiply and add where it can).
 * Each order can be computed on every machine, by scalar code if need be, with the same bits. order.h says what each one is. Orders of AVX512BF16
 * are for weights that were BF16. */
typedef enum uw_order {
    UW_PLAIN = 0,              /* without vectors: any kind of number; and ggml_vec_dot_bf16 on ARM */
    UW_BF16_AVX,
    UW_BF16_AVX2,
    UW_BF16_AVX512,
    UW_BF16_AVX512BF16,
    UW_F16_SSE3,
    UW_F16_AVX,
    UW_F16_FMA,
    UW_F16_AVX512,
    UW_F16_NEON,
    UW_F32_SSE3,
    UW_F32_AVX,
    UW_F32_FMA,
    UW_F32_AVX512,
    UW_F32_NEON,
    UW_TILE_AVX,
    UW_TILE_FMA,
    UW_TILE_AVX512,
    UW_TILE_AVX512BF16,
    UW_TILE_NEON,
    UW_ORDERS
} uw_order;

/* Activations: k F32 values are rounded as ggml rounds them for weights of the kind `original` (to BF16 or F16, nearest even; not at all
 * for UW_F32 and UW_TILE_NEON), and laid out as the kernel of `order` likes them for weights that are stored as `stored`. The layout is
 * private: prepare and use with the same three, in the same process. */
size_t uw_prepared_bytes(uint64_t k);
void uw_prepare(uw_order order, uw_number original, uw_number stored, const float *x, uint64_t k, void *prepared);

/* y[i] = sum over j of weight[row + i][j] * x[j], i in [0, n), x prepared. `scratch` holds uw_scratch_bytes(k) bytes for this
 * thread alone, and need not be initialised. */
size_t uw_scratch_bytes(uint64_t k);
void uw_matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch);

/* y[c * y_stride + i] for n rows and `columns` prepared vectors, `prepared_stride` bytes apart (uw_prepared_bytes() or more, a
 * multiple of 4). Same bits as uw_matvec() column by column. */
void uw_matmul(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
               uint64_t columns, float *y, size_t y_stride, void *scratch);

/* The same products with plain rows of k weights of a kind, one after the other, x being prepared for weights of this kind that are
 * stored as they are (F32: as UW_F16, which is natural order): what the bytes are saved from. For benchmarks. */
void uw_plain_matvec(const void *weights, uw_number number, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y,
                     void *scratch);

/* Instruction sets. The best that the machine has is used; the environment variable UNWEIGHT_ISA, read once, lowers it for tests
 * and measurements: one of the names that uw_isa_name() gives. */
typedef enum uw_isa { UW_ISA_SCALAR = 0, UW_ISA_NEON, UW_ISA_SSSE3, UW_ISA_AVX2, UW_ISA_AVX512, UW_ISA_AVX512BF16, UW_ISAS } uw_isa;
const char *uw_isa_name(uw_isa isa);
int uw_isa_available(uw_isa isa);   /* 1 if this machine can run it and this build holds it */
uw_isa uw_isa_used(void);
/* For tests and benchmarks: uses `isa` from now on in the whole process; 0 if it is not available. Not while others compute. */
int uw_isa_set(uw_isa isa);

#ifdef __cplusplus
}
#endif
#endif
