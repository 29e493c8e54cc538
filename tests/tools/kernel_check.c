/* Checks the kernels of the machine that it runs on against a file of cases (tests/kernel_cases.rs) and the scalar kernels.
 *   kernel_check FILE    every case; the last line counts them
 *   kernel_check count WHAT ISA ORIGINAL ENCODING ROWS FILE
 *                        computes the first ROWS rows of the file's last case of such numbers in such an encoding, once, for counting
 *                        instructions: WHAT is decode, dot, columns (dots with 4 columns), tile (6 columns), plain (rows of the
 *                        original) or nothing
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unweight.h"

#define MOST_COLUMNS 11
#define CANARY 0xA5
#define FEW_WEIGHTS 5000 /* up to which every order is computed, and BF16 with every kind of activations */

typedef struct test_case {
    uint64_t k, rows, original, encoding, length;
    const uint8_t *rest, *low, *weights; /* `length`, k * rows and row_bytes * rows bytes */
    uint64_t row_bytes;                  /* of the original */
} test_case;

static void die(const char *what) {
    fprintf(stderr, "kernel_check: %s\n", what);
    exit(2);
}

/* Memory that ends where a page begins that may not be touched. Given back by release(). */
typedef struct guarded {
    void *map;
    size_t length;
} guarded;
static guarded all_guarded[64];
static int n_guarded;

static void *guard(size_t length) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = (length + page - 1) / page * page;
    uint8_t *map = mmap(NULL, inner + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + inner, page, PROT_NONE) != 0 || n_guarded == 64) die("no memory");
    all_guarded[n_guarded++] = (guarded){map, inner + page};
    memset(map, CANARY, inner);
    return map + inner - length;
}

/* All but the first `kept`. */
static void release(int kept) {
    while (n_guarded > kept) {
        n_guarded--;
        munmap(all_guarded[n_guarded].map, all_guarded[n_guarded].length);
    }
}

static uint8_t *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) die("cannot open the file of cases");
    *length = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*length);
    if (!bytes || fread(bytes, 1, *length, file) != *length) die("cannot read the file of cases");
    fclose(file);
    return bytes;
}

/* Returns where the next case begins. All that it points to stays aligned for its type. */
static const uint8_t *read_case(const uint8_t *at, const uint8_t *end, test_case *c) {
    if ((size_t)(end - at) < 40) die("the file of cases is cut short");
    memcpy(&c->k, at, 8);
    memcpy(&c->rows, at + 8, 8);
    memcpy(&c->original, at + 16, 8);
    memcpy(&c->encoding, at + 24, 8);
    memcpy(&c->length, at + 32, 8);
    c->row_bytes = c->k * (c->original == UW_F32 ? 4 : 2);
    const size_t left = (size_t)(end - at) - 40, low = (c->k * c->rows + 7) / 8 * 8, weights = (c->row_bytes * c->rows + 7) / 8 * 8;
    if (c->length > left || low + weights > left - c->length) die("the file of cases is cut short");
    c->rest = at + 40;
    c->low = c->rest + c->length;
    c->weights = c->low + low;
    return c->weights + weights;
}

static int untouched(const void *from, const void *to) {
    for (const uint8_t *p = from; p < (const uint8_t *)to; p++)
        if (*p != CANARY) return 0;
    return 1;
}

/* All rows at once, and rows alone; as floats they must be those of the scalar kernels. */
static const char *check_decode(const uw_piece *piece, const test_case *c, uw_isa isa) {
    const int kept = n_guarded;
    float *floats = guard(c->k * sizeof *floats), *expected = guard(c->k * sizeof *expected);
    for (uint64_t first = 0; first <= c->rows; first++) {
        const uint64_t row = first > 0 ? first - 1 : 0, n = first > 0 ? 1 : c->rows;
        const int before = n_guarded;
        uint8_t *out = guard(n * c->row_bytes);
        uw_isa_set(UW_ISA_SCALAR);
        uw_decode_f32(piece, row, expected);
        uw_isa_set(isa);
        uw_decode_f32(piece, row, floats);
        uw_decode(piece, row, n, out);
        const int bad = memcmp(out, c->weights + row * c->row_bytes, n * c->row_bytes) != 0;
        const int bad_floats = memcmp(floats, expected, c->k * sizeof *floats) != 0;
        release(before);
        if (bad) return n > 1 ? "decode" : "decode of one row";
        if (bad_floats) return "decode to floats";
    }
    release(kept);
    return NULL;
}

static uint64_t random_state = 1;
static uint32_t draw(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

/* Kinds of activations by their exponents: usual ones; those for which a kernel may take a shorter way, and the least and the
 * largest of them; in every second column, those just beyond; and, in the others, some of any bits. */
enum { USUAL, TAME, LEAST, LARGEST, DENORMAL, SMALL, TINY, LARGE, WILD, KINDS };
static const struct { uint32_t from, range; } exponents[KINDS] = {
    {120, 8}, {66, 124}, {66, 4}, {186, 4}, {0, 3}, {46, 4}, {54, 8}, {192, 2}, {120, 8},
};

static void fill(float *x, uint64_t k, int kind, uint64_t column) {
    const int used = kind >= DENORMAL && column % 2 != 0 ? USUAL : kind;
    for (uint64_t i = 0; i < k; i++) {
        uint32_t bits = draw(), exponent = exponents[used].from + draw() % exponents[used].range;
        bits = (bits & 0x807FFFFFu) | exponent << 23;
        if (draw() % 16 == 0) bits &= 0x80000000u;
        if (kind == WILD && column % 2 != 0 && draw() % 64 == 0) bits = draw();
        memcpy(x + i, &bits, sizeof bits);
    }
}

static int same(float a, float b) { return memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b); }

/* What one instruction set computes for `n` rows from `first` on; y has `stride` floats for each column. */
static void compute(const uw_piece *piece, uw_isa isa, uw_order order, float *const x[], uint64_t first, uint64_t n, uint64_t columns,
                    float *y, uint64_t stride) {
    const size_t bytes = uw_prepared_bytes(piece->k);
    uint8_t *prepared = guard(columns * bytes);
    void *scratch = guard(uw_scratch_bytes(piece->k));
    uw_isa_set(isa);
    for (uint64_t c = 0; c < columns; c++)
        uw_prepare(order, (uw_number)piece->original, (uw_number)piece->stored, x[c], piece->k, prepared + c * bytes);
    uw_matmul(piece, order, first, n, prepared, bytes, columns, y, stride, scratch);
    if (columns > 1) return;
    float *again = guard(n * sizeof *again);
    uw_matvec(piece, order, first, n, prepared, again, scratch);
    if (memcmp(again, y, n * sizeof *again) != 0) y[0] = -12345;
}

/* Rows of the original. */
static void compute_plain(const test_case *c, uw_isa isa, uw_order order, const float *x, float *y) {
    const uw_number original = (uw_number)c->original;
    uint8_t *weights = guard(c->rows * c->row_bytes), *prepared = guard(uw_prepared_bytes(c->k));
    void *scratch = guard(uw_scratch_bytes(c->k));
    memcpy(weights, c->weights, c->rows * c->row_bytes);
    uw_isa_set(isa);
    uw_prepare(order, original, original == UW_F32 ? UW_F16 : original, x, c->k, prepared);
    uw_plain_matvec(weights, original, order, c->rows, c->k, prepared, y, scratch);
}

/* True for orders of hosts with NEON. */
static int is_of_neon(uw_order order, uw_number original) {
    return order == UW_F16_NEON || order == UW_F32_NEON || order == UW_TILE_NEON || (order == UW_PLAIN && original == UW_BF16);
}

static const char *check_products(const uw_piece *piece, const test_case *c, uw_isa isa, uw_order order, int kind) {
    static const uint64_t columns[] = {1, 2, 3, 4, 5, 6, MOST_COLUMNS};
    /* Orders of other machines are left to the scalar kernels. */
    const uint64_t rows = c->rows, most = is_of_neon(order, (uw_number)c->original) ? MOST_COLUMNS : 2;
    const int kept = n_guarded;
    float *x[MOST_COLUMNS], *expected = guard(rows * MOST_COLUMNS * sizeof *expected);
    for (uint64_t i = 0; i < MOST_COLUMNS; i++) {
        x[i] = guard(c->k * sizeof **x);
        fill(x[i], c->k, kind, i);
    }
    compute(piece, UW_ISA_SCALAR, order, x, 0, rows, most, expected, rows);
    int bad = 0;
    for (int i = 0; i < 7 && columns[i] <= most; i++)
        for (uint64_t first = 0; first < rows; first = 2 * first + 1) {
            /* Which rows they are does not depend on how many columns there are. */
            if (first > 0 && columns[i] > 3) break;
            const uint64_t n = first % 4 == 3 ? (rows - first + 1) / 2 : rows - first;
            const uint64_t stride = n + 2, count = (columns[i] - 1) * stride + n;
            const int before = n_guarded;
            float *y = guard(count * sizeof *y);
            compute(piece, isa, order, x, first, n, columns[i], y, stride);
            for (uint64_t column = 0; column < columns[i]; column++) {
                for (uint64_t r = 0; r < n; r++) bad |= !same(y[column * stride + r], expected[column * rows + first + r]);
                if (column + 1 < columns[i]) bad |= !untouched(y + column * stride + n, y + (column + 1) * stride);
            }
            release(before);
        }
    float *y = guard(rows * sizeof *y), *expected_y = guard(rows * sizeof *expected_y);
    compute_plain(c, UW_ISA_SCALAR, order, x[0], expected_y);
    compute_plain(c, isa, order, x[0], y);
    int bad_plain = 0;
    for (uint64_t r = 0; r < rows; r++) bad_plain |= !same(y[r], expected_y[r]);
    release(kept);
    return bad ? "products" : bad_plain ? "products of the original" : NULL;
}

/* With few weights, every order; orders of NEON with activations of any bits too, and the chain of BF16, in which a kernel may take
 * shorter ways, with every kind. The scalar kernels give what they are compared with, but may still leave their bounds. */
static int is_worth_checking(const test_case *c, int number, uw_isa isa, uw_order order, int kind) {
    const int is_for_bf16 = order == UW_BF16_AVX512BF16 || order == UW_TILE_AVX512BF16, is_small = c->k * c->rows <= FEW_WEIGHTS;
    const int is_ours = is_of_neon(order, (uw_number)c->original), has_ways = is_ours && order == UW_PLAIN;
    if (is_for_bf16 && c->original != UW_BF16) return 0;
    if (isa == UW_ISA_SCALAR) return is_small && kind == USUAL;
    if (is_small) return kind == USUAL || has_ways || (is_ours && kind == WILD);
    return is_ours && (kind == USUAL || (has_ways ? kind == number % KINDS : kind == WILD));
}

static int check(const test_case *c, int number, uw_isa isa) {
    const char *name = uw_isa_name(isa);
    uint8_t *rest = guard(c->length), *low = guard(c->k * c->rows);
    memcpy(rest, c->rest, c->length);
    memcpy(low, c->low, c->k * c->rows);
    uw_piece piece;
    uw_status status = uw_piece_open(&piece, (uw_number)c->original, low, c->k * c->rows, rest, c->length, c->k, c->rows);
    const char *wrong = status == UW_OK ? NULL : uw_status_text(status);
    if (!wrong) wrong = check_decode(&piece, c, isa);
    for (int order = 0; order < UW_ORDERS; order++)
        for (int kind = 0; kind < KINDS; kind++) {
            if (!wrong && is_worth_checking(c, number, isa, (uw_order)order, kind))
                wrong = check_products(&piece, c, isa, (uw_order)order, kind);
            if (wrong) {
                printf("FAIL  %s: %s, order %d, activations %d, k %llu, rows %llu, original %llu, encoding %llu, shift %u\n", name,
                       wrong, order, kind, (unsigned long long)c->k, (unsigned long long)c->rows, (unsigned long long)c->original,
                       (unsigned long long)c->encoding, piece.shift);
                release(0);
                return 0;
            }
        }
    release(0);
    return 1;
}

static int check_all(const uint8_t *bytes, size_t length) {
    int passed = 0, failed = 0;
    for (int isa = 0; isa < UW_ISAS; isa++) {
        if (!uw_isa_available((uw_isa)isa)) continue;
        int number = 0;
        for (const uint8_t *at = bytes; at < bytes + length; number++) {
            test_case c;
            at = read_case(at, bytes + length, &c);
            if (check(&c, number, (uw_isa)isa)) passed++;
            else failed++;
        }
        printf("%s: done\n", uw_isa_name((uw_isa)isa));
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}

static void count(const test_case *c, const char *what, const char *isa, uint64_t rows) {
    static const uw_order dots[UW_NUMBERS] = {UW_PLAIN, UW_F16_NEON, UW_F32_NEON};
    const uw_number original = (uw_number)c->original;
    const uw_order order = strcmp(what, "tile") == 0 ? UW_TILE_NEON : dots[original];
    uw_piece piece;
    int found = 0;
    for (int i = 0; i < UW_ISAS; i++) found |= strcmp(isa, uw_isa_name((uw_isa)i)) == 0 && uw_isa_set((uw_isa)i);
    if (!found || rows > c->rows) die("cannot count that");
    if (uw_piece_open(&piece, original, c->low, c->k * c->rows, c->rest, c->length, c->k, c->rows) != UW_OK) die("cannot open that");
    const size_t bytes = uw_prepared_bytes(c->k);
    float *x = malloc(c->k * sizeof *x), *y = malloc(6 * rows * sizeof *y + 1);
    uint8_t *out = malloc(rows * c->row_bytes + 1), *prepared = malloc(6 * bytes), *scratch = malloc(uw_scratch_bytes(c->k));
    if (!x || !y || !out || !prepared || !scratch) die("no memory");
    fill(x, c->k, USUAL, 0);
    const int plain = strcmp(what, "plain") == 0;
    const uw_number stored = !plain ? (uw_number)piece.stored : original == UW_F32 ? UW_F16 : original;
    for (int i = 0; i < 6; i++) uw_prepare(order, original, stored, x, c->k, prepared + (size_t)i * bytes);
    if (plain) uw_plain_matvec(c->weights, original, order, rows, c->k, prepared, y, scratch);
    else if (strcmp(what, "decode") == 0) uw_decode(&piece, 0, rows, out);
    else if (strcmp(what, "dot") == 0) uw_matvec(&piece, order, 0, rows, prepared, y, scratch);
    else if (strcmp(what, "columns") == 0) uw_matmul(&piece, order, 0, rows, prepared, bytes, 4, y, rows, scratch);
    else if (strcmp(what, "tile") == 0) uw_matmul(&piece, order, 0, rows, prepared, bytes, 6, y, rows, scratch);
    else if (strcmp(what, "nothing") != 0) die("count what?");
}

int main(int argc, char **argv) {
    size_t length;
    if (argc == 2) {
        const uint8_t *bytes = read_file(argv[1], &length);
        return check_all(bytes, length);
    }
    if (argc != 8 || strcmp(argv[1], "count") != 0) die("usage: kernel_check FILE | kernel_check count WHAT ISA ORIGINAL ENCODING ROWS FILE");
    const uint8_t *bytes = read_file(argv[7], &length);
    const uint64_t original = strtoull(argv[4], NULL, 10), encoding = strtoull(argv[5], NULL, 10);
    test_case c, found = {0};
    for (const uint8_t *at = bytes; at < bytes + length;) {
        at = read_case(at, bytes + length, &c);
        if (c.original == original && c.encoding == encoding) found = c;
    }
    count(&found, argv[2], argv[3], strtoull(argv[6], NULL, 10));
    return 0;
}
