/* Picks the instruction set, once, and forwards the public functions to it. */
#include <stdatomic.h>
#include <stdlib.h>

#include "internal.h"

static const char *const names[UW_ISAS] = {"scalar", "neon", "ssse3", "avx2", "avx512", "avx512bf16"};

const char *uw_isa_name(uw_isa isa) { return (unsigned)isa < UW_ISAS ? names[isa] : "unknown"; }

#if defined(__x86_64__)
#include <cpuid.h>

/* The state components that the system saves: without them the registers do not survive a context switch. */
static uint64_t saved_state(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}

static int has(uw_isa isa) {
    uint32_t a, b1, c1, d1, b7, c7, d7, a71 = 0, unused;
    if (isa == UW_ISA_SCALAR) return 1;
    if (isa == UW_ISA_NEON) return 0;
    if (!__get_cpuid(1, &a, &b1, &c1, &d1) || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
    if (a >= 1) __get_cpuid_count(7, 1, &a71, &unused, &unused, &unused);
    uint64_t state = saved_state();
    const uint64_t ymm = 6, zmm = 0xE6;
    if (isa == UW_ISA_SSSE3) return !!(c1 & bit_SSSE3);
    if (isa == UW_ISA_AVX2)
        return (state & ymm) == ymm && (b7 & bit_AVX2) && (b7 & bit_BMI) && (b7 & bit_BMI2) && (c1 & bit_FMA) && (c1 & bit_F16C) &&
               (c1 & bit_POPCNT);
    const uint32_t base = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    if ((state & zmm) != zmm || (b7 & base) != base || !has(UW_ISA_AVX2)) return 0;
    return isa == UW_ISA_AVX512 || (a71 & bit_AVX512BF16);
}

static const uw_kernels *table(uw_isa isa) {
    switch (isa) {
    case UW_ISA_SSSE3: return &uw_kernels_ssse3;
    case UW_ISA_AVX2: return &uw_kernels_avx2;
    case UW_ISA_AVX512: return &uw_kernels_avx512;
    case UW_ISA_AVX512BF16: return &uw_kernels_avx512bf16;
    default: return &uw_kernels_scalar;
    }
}
#elif defined(__aarch64__)
/* Every 64-bit ARM has NEON. */
static int has(uw_isa isa) { return isa == UW_ISA_SCALAR || isa == UW_ISA_NEON; }
static const uw_kernels *table(uw_isa isa) { return isa == UW_ISA_NEON ? &uw_kernels_neon : &uw_kernels_scalar; }
#else
static int has(uw_isa isa) { return isa == UW_ISA_SCALAR; }
static const uw_kernels *table(uw_isa isa) { (void)isa; return &uw_kernels_scalar; }
#endif

int uw_isa_available(uw_isa isa) { return (unsigned)isa < UW_ISAS && has(isa); }

/* -1 until first used. Racing threads compute the same value. */
static _Atomic int used = -1;

static uw_isa best(void) {
    const char *wanted = getenv("UNWEIGHT_ISA");
    uw_isa found = UW_ISA_SCALAR;
    for (int isa = UW_ISA_SCALAR; isa < UW_ISAS; isa++) {
        if (!has((uw_isa)isa)) continue;
        found = (uw_isa)isa;
        if (wanted && strcmp(wanted, names[isa]) == 0) break;
    }
    return found;
}

uw_isa uw_isa_used(void) {
    int isa = atomic_load_explicit(&used, memory_order_relaxed);
    if (isa < 0) {
        isa = best();
        atomic_store_explicit(&used, isa, memory_order_relaxed);
    }
    return (uw_isa)isa;
}

int uw_isa_set(uw_isa isa) {
    if (!uw_isa_available(isa)) return 0;
    atomic_store_explicit(&used, isa, memory_order_relaxed);
    return 1;
}

static const uw_kernels *kernels(void) { return table(uw_isa_used()); }

size_t uw_prepared_bytes(uint64_t k) { return uw_padded(k) * sizeof(float); }

size_t uw_scratch_bytes(uint64_t k) { return UW_TILE_ROWS * uw_padded(k) * sizeof(float); }

void uw_decode(const uw_piece *piece, uint64_t row, uint64_t n, void *out) {
    kernels()->decode(piece, (uw_number)piece->original, row, n, out);
}

void uw_decode_f32(const uw_piece *piece, uint64_t row, float *out) { kernels()->decode(piece, UW_F32, row, 1, out); }

void uw_prepare(uw_order order, uw_number original, uw_number stored, const float *x, uint64_t k, void *prepared) {
    kernels()->prepare(order, original, stored, x, k, prepared);
}

void uw_matvec(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, float *y, void *scratch) {
    kernels()->matvec(piece, order, row, n, prepared, y, scratch);
}

void uw_matmul(const uw_piece *piece, uw_order order, uint64_t row, uint64_t n, const void *prepared, size_t prepared_stride,
               uint64_t columns, float *y, size_t y_stride, void *scratch) {
    kernels()->matmul(piece, order, row, n, prepared, prepared_stride, columns, y, y_stride, scratch);
}

void uw_plain_matvec(const void *weights, uw_number number, uw_order order, uint64_t n, uint64_t k, const void *prepared, float *y,
                     void *scratch) {
    kernels()->plain_matvec(weights, number, order, n, k, prepared, y, scratch);
}
