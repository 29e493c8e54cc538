/* Loads the plugin into a ggml that is not what it seems: functions of this program stand before ggml's own, and lie about one thing after
 * the other. Each lie has to be refused; without one the plugin registers. Prints a line for each, and fails at the first that goes wrong.
 *   doctored PLUGIN.so */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "ggml-backend.h"
#include "ggml.h"

static const char * lie = "";

static int lying(const char * about) { return strcmp(lie, about) == 0; }

/* The function that a lie stands before. */
#define TRUE_ONE(type, name) ((type) dlsym(RTLD_NEXT, name))

size_t ggml_tensor_overhead(void) {
    return TRUE_ONE(size_t (*)(void), "ggml_tensor_overhead")() + (lying("tensors") ? 8 : 0);
}

struct ggml_tensor ** ggml_graph_nodes(struct ggml_cgraph * graph) {
    return TRUE_ONE(struct ggml_tensor ** (*) (struct ggml_cgraph *), "ggml_graph_nodes")(graph) + (lying("graphs") ? 1 : 0);
}

const char * ggml_op_name(enum ggml_op op) {
    const char * name = TRUE_ONE(const char * (*) (enum ggml_op), "ggml_op_name")(op);
    if (lying("operations") && strcmp(name, "MUL_MAT") == 0) return "MUL_MAT_2";
    return lying("custom operations") && strcmp(name, "CUSTOM") == 0 ? "MADE_TO_MEASURE" : name;
}

/* Functions, device, context. */
ggml_backend_buffer_type_t ggml_backend_cpu_buffer_type(void) {
    static void * other[16];
    ggml_backend_buffer_type_t own = TRUE_ONE(ggml_backend_buffer_type_t (*)(void), "ggml_backend_cpu_buffer_type")();
    if (!lying("types of buffers")) return own;
    memcpy(other + 1, own, 10 * sizeof *other);
    return (ggml_backend_buffer_type_t) other;
}

size_t ggml_backend_buffer_get_size(ggml_backend_buffer_t buffer) {
    return TRUE_ONE(size_t (*)(ggml_backend_buffer_t), "ggml_backend_buffer_get_size")(buffer) + (lying("buffers") ? 1 : 0);
}

ggml_backend_reg_t ggml_backend_dev_backend_reg(ggml_backend_dev_t device) {
    return lying("devices") ? NULL : TRUE_ONE(ggml_backend_reg_t (*)(ggml_backend_dev_t), "ggml_backend_dev_backend_reg")(device);
}

int main(int argc, char ** argv) {
    void * plugin = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    ggml_backend_reg_t (*init)(void) = plugin ? (ggml_backend_reg_t (*)(void)) dlsym(plugin, "ggml_backend_init") : NULL;
    if (!init) {
        fprintf(stderr, "doctored: no plugin: %s\n", dlerror());
        return 1;
    }
    const char * lies[] = {"tensors", "graphs", "operations", "custom operations", "types of buffers", "buffers", "devices", ""};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        lie = lies[i];
        const int registered = init() != NULL, expected = *lie == 0;
        printf("%s: %s\n", *lie ? lie : "the truth", registered ? "registered" : "refused");
        if (registered != expected) return 1;
    }
    return 0;
}
