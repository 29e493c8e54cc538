/* The Unweight backend as a static library (libggml_unweight.a): register it with ggml_backend_register() before a model is loaded. */
#pragma once

#include <stddef.h>

#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_unweight_function {
    const char * name;
    void *       function;
};

/* The library has no open symbols of ggml's, so that it can be loaded too; it takes these functions instead. */
ggml_backend_reg_t ggml_backend_unweight_reg_linked(const struct ggml_unweight_function * functions, size_t count);

/* Not in ggml's public headers. */
void ggml_log_internal(enum ggml_log_level level, const char * format, ...);

/* NULL, and a message, if ggml is not one that the library can work with. */
static inline ggml_backend_reg_t ggml_backend_unweight_reg(void) {
#define GGML_UNWEIGHT_FUNCTION(name) { #name, (void *) name },
    static const struct ggml_unweight_function functions[] = {
        GGML_UNWEIGHT_FUNCTION(ggml_version)
        GGML_UNWEIGHT_FUNCTION(ggml_op_name)
        GGML_UNWEIGHT_FUNCTION(ggml_nbytes)
        GGML_UNWEIGHT_FUNCTION(ggml_type_size)
        GGML_UNWEIGHT_FUNCTION(ggml_tensor_overhead)
        GGML_UNWEIGHT_FUNCTION(ggml_threadpool_params_init)
        GGML_UNWEIGHT_FUNCTION(ggml_init)
        GGML_UNWEIGHT_FUNCTION(ggml_free)
        GGML_UNWEIGHT_FUNCTION(ggml_new_tensor_2d)
        GGML_UNWEIGHT_FUNCTION(ggml_new_tensor_3d)
        GGML_UNWEIGHT_FUNCTION(ggml_view_2d)
        GGML_UNWEIGHT_FUNCTION(ggml_mul_mat)
        GGML_UNWEIGHT_FUNCTION(ggml_mul_mat_id)
        GGML_UNWEIGHT_FUNCTION(ggml_new_graph_custom)
        GGML_UNWEIGHT_FUNCTION(ggml_build_forward_expand)
        GGML_UNWEIGHT_FUNCTION(ggml_graph_size)
        GGML_UNWEIGHT_FUNCTION(ggml_graph_nodes)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_buft_alloc_buffer)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_buft_get_alignment)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_buft_get_device)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_buft_is_host)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_buffer_init)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_buffer_free)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_buffer_get_base)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_buffer_get_size)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_buffer_get_type)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_buffer_get_usage)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_tensor_alloc)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_view_init)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_cpu_buffer_type)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_name)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_get_device)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_free)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_graph_compute)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_dev_by_type)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_dev_name)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_dev_buffer_type)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_dev_backend_reg)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_dev_init)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_dev_supports_op)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_reg_name)
        GGML_UNWEIGHT_FUNCTION(ggml_backend_reg_get_proc_address)
        GGML_UNWEIGHT_FUNCTION(ggml_log_internal)
    };
#undef GGML_UNWEIGHT_FUNCTION
    return ggml_backend_unweight_reg_linked(functions, sizeof(functions) / sizeof(functions[0]));
}

#ifdef __cplusplus
}
#endif
