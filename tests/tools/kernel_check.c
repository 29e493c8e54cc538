/* Checks the kernels of the machine that it runs on against a file of cases (tests/kernel_cases.rs) and the scalar kernels.
 *   kernel_check FILE                       every case; the last line counts them
 *   kernel_check count WHAT ISA ROWS FILE   computes the first ROWS rows of the file's last case, once, for counting instructions:
 *                                           WHAT is decode, dot, columns (dots with 4 columns), plain (BF16 rows) or nothing
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unweight.h"

#define MOST_COLUMNS 5
#define CANARY 0xA5
#define FEW_WEIGHTS 5000 /* up to which every order is computed, and UW_DOT_PLAIN with every kind of activations */

typedef struct test_case {
    uint64_t k, rows, encoding, length;
    const uint8_t *rest, *low; /* `length` and k * rows bytes */
    const uint16_t *weights;
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
    if ((size_t)(end - at) < 32) die("the file of cases is cut short");
    memcpy(&c->k, at, 8);
    memcpy(&c->rows, at + 8, 8);
    memcpy(&c->encoding, at + 16, 8);
    memcpy(&c->length, at + 24, 8);
    const size_t left = (size_t)(end - at) - 32, low = (c->k * c->rows + 7) / 8 * 8, weights = (2 * c->k * c->rows + 7) / 8 * 8;
    if (c->length > left || low + weights > left - c->length) die("the file of cases is cut short");
    c->rest = at + 32;
    c->low = c->rest + c->length;
    c->weights = (const uint16_t *)(const void *)(c->low + low);
    return c->low + low + weights;
}

static int untouched(const void *from, const void *to) {
    for (const uint8_t *p = from; p < (const uint8_t *)to; p++)
        if (*p != CANARY) return 0;
    return 1;
}

/* All rows at once with gaps between them, and each row alone. */
static const char *check_decode(const uw_piece *piece, const test_case *c) {
    const uint64_t k = c->k, rows = c->rows, stride = k + 3;
    for (uint64_t first = 0; first < rows; first += first == 0 ? 1 : 2) {
        const uint64_t n = rows - first;
        uint16_t *out = malloc((n * stride + 8) * sizeof *out);
        if (!out) die("no memory");
        memset(out, CANARY, (n * stride + 8) * sizeof *out);
        uw_decode_bf16(piece, first, first == 0 ? n : 1, out, stride);
        int bad = 0;
        for (uint64_t r = 0; r < n; r++) {
            const int written = first == 0 || r == 0;
            if (written) bad |= memcmp(out + r * stride, c->weights + (first + r) * k, k * sizeof *out) != 0;
            bad |= !untouched(out + r * stride + (written ? k : 0), out + (r + 1) * stride);
        }
        bad |= !untouched(out + n * stride, out + n * stride + 8);
        free(out);
        if (bad) return first == 0 ? "decode" : "decode of one row";
        uint16_t *tight = guard(k * sizeof *tight);
        uw_decode_bf16(piece, first, 1, tight, k);
        if (memcmp(tight, c->weights + first * k, k * sizeof *tight) != 0) return "decode to the end";
        release(n_guarded - 1);
    }
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
    for (uint64_t c = 0; c < columns; c++) uw_prepare(order, x[c], piece->k, prepared + c * bytes);
    uw_matmul(piece, order, first, n, prepared, bytes, columns, y, stride, scratch);
    if (columns > 1) return;
    float *again = guard(n * sizeof *again);
    uw_matvec(piece, order, first, n, prepared, again, scratch);
    if (memcmp(again, y, n * sizeof *again) != 0) y[0] = -12345;
}

static void compute_plain(const test_case *c, uw_isa isa, uw_order order, const float *x, uint16_t *weights, float *y) {
    void *prepared = guard(uw_prepared_bytes(c->k));
    uw_isa_set(isa);
    uw_prepare(order, x, c->k, prepared);
    uw_plain_matvec(weights, order, c->rows, c->k, prepared, y);
}

static const char *check_products(const uw_piece *piece, const test_case *c, uw_isa isa, uw_order order, int kind) {
    static const uint64_t columns[] = {1, 2, 3, 5};
    const uint64_t rows = c->rows;
    const int kept = n_guarded;
    float *x[MOST_COLUMNS], *expected = malloc(rows * MOST_COLUMNS * sizeof *expected);
    if (!expected) die("no memory");
    for (uint64_t i = 0; i < MOST_COLUMNS; i++) {
        x[i] = malloc(c->k * sizeof **x);
        if (!x[i]) die("no memory");
        fill(x[i], c->k, kind, i);
    }
    compute(piece, UW_ISA_SCALAR, order, x, 0, rows, MOST_COLUMNS, expected, rows);
    int bad = 0;
    for (int i = 0; i < 4; i++)
        for (uint64_t first = 0; first < rows; first = 2 * first + 1) {
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
    uint16_t *plain = guard(rows * c->k * sizeof *plain);
    float *y = guard(rows * sizeof *y);
    memcpy(plain, c->weights, rows * c->k * sizeof *plain);
    compute_plain(c, isa, order, x[0], plain, y);
    for (uint64_t r = 0; r < rows; r++) bad |= !same(y[r], expected[r]);
    release(kept);
    for (int i = 0; i < MOST_COLUMNS; i++) free(x[i]);
    free(expected);
    return bad ? "products" : NULL;
}

static int check(const test_case *c, int number, uw_isa isa) {
    const char *name = uw_isa_name(isa);
    uint8_t *rest = guard(c->length), *low = guard(c->k * c->rows);
    memcpy(rest, c->rest, c->length);
    memcpy(low, c->low, c->k * c->rows);
    uw_piece piece;
    uw_status status = uw_piece_open(&piece, low, c->k * c->rows, rest, c->length, c->k, c->rows);
    const char *wrong = status == UW_OK ? NULL : uw_status_text(status);
    uw_isa_set(isa);
    if (!wrong) wrong = check_decode(&piece, c);
    for (int order = 0; order < UW_ORDERS; order++)
        for (int kind = 0; kind < KINDS; kind++) {
            /* All of them with few weights, else some. */
            const int few = c->k * c->rows <= FEW_WEIGHTS;
            if (!few && (order != UW_DOT_PLAIN || (kind != USUAL && kind != number % KINDS))) continue;
            if (few && order != UW_DOT_PLAIN && kind != USUAL && kind != WILD) continue;
            if (!wrong) wrong = check_products(&piece, c, isa, (uw_order)order, kind);
            if (wrong) {
                printf("FAIL  %s: %s, order %d, activations %d, k %llu, rows %llu, encoding %llu, shift %u\n", name, wrong, order,
                       kind, (unsigned long long)c->k, (unsigned long long)c->rows, (unsigned long long)c->encoding, piece.shift);
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
    uw_piece piece;
    int found = 0;
    for (int i = 0; i < UW_ISAS; i++) found |= strcmp(isa, uw_isa_name((uw_isa)i)) == 0 && uw_isa_set((uw_isa)i);
    if (!found || rows > c->rows) die("cannot count that");
    if (uw_piece_open(&piece, c->low, c->k * c->rows, c->rest, c->length, c->k, c->rows) != UW_OK) die("cannot open that");
    const size_t bytes = uw_prepared_bytes(c->k);
    float *x = malloc(c->k * sizeof *x), *y = malloc(4 * rows * sizeof *y + 1);
    uint16_t *out = malloc(rows * c->k * sizeof *out + 1);
    uint8_t *prepared = malloc(4 * bytes), *scratch = malloc(uw_scratch_bytes(c->k));
    if (!x || !y || !out || !prepared || !scratch) die("no memory");
    fill(x, c->k, USUAL, 0);
    for (int i = 0; i < 4; i++) uw_prepare(UW_DOT_PLAIN, x, c->k, prepared + (size_t)i * bytes);
    if (strcmp(what, "decode") == 0) uw_decode_bf16(&piece, 0, rows, out, c->k);
    else if (strcmp(what, "dot") == 0) uw_matvec(&piece, UW_DOT_PLAIN, 0, rows, prepared, y, scratch);
    else if (strcmp(what, "columns") == 0) uw_matmul(&piece, UW_DOT_PLAIN, 0, rows, prepared, bytes, 4, y, rows, scratch);
    else if (strcmp(what, "plain") == 0) uw_plain_matvec(c->weights, UW_DOT_PLAIN, rows, c->k, (const void *)prepared, y);
    else if (strcmp(what, "nothing") != 0) die("count what?");
}

int main(int argc, char **argv) {
    size_t length;
    if (argc == 2) {
        const uint8_t *bytes = read_file(argv[1], &length);
        return check_all(bytes, length);
    }
    if (argc != 6 || strcmp(argv[1], "count") != 0) die("usage: kernel_check FILE | kernel_check count WHAT ISA ROWS FILE");
    const uint8_t *bytes = read_file(argv[5], &length);
    test_case c = {0};
    for (const uint8_t *at = bytes; at < bytes + length;) at = read_case(at, bytes + length, &c);
    count(&c, argv[2], argv[3], strtoull(argv[4], NULL, 10));
    return 0;
}
