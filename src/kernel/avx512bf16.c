#define KERNELS uw_kernels_avx512bf16
#include "avx512.h"
