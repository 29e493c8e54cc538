/* The Unweight backend as a static library (libggml_unweight.a): register it with ggml_backend_register() before a model is loaded.
 * NULL, and a message in ggml's log, if ggml is not of the version that the library was built for. */
#pragma once

#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

ggml_backend_reg_t ggml_backend_unweight_reg(void);

#ifdef __cplusplus
}
#endif
