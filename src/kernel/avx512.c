#define KERNELS uw_kernels_avx512
#include "avx512.h"
