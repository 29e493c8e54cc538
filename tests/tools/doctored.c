/* Loads the plugin into a ggml that is not what it seems: functions of this program stand before ggml's own, and lie about one thing after
 * the other. Each lie has to be refused for what it is; without one the plugin registers. Prints a line for each.
 *   doctored PLUGIN.so */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

ggml_backend_dev_t ggml_backend_get_device(ggml_backend_t backend) {
    return lying("backends") ? NULL : TRUE_ONE(ggml_backend_dev_t (*)(ggml_backend_t), "ggml_backend_get_device")(backend);
}

/* What the plugin says while `init` runs goes to `said`. */
static int registers(ggml_backend_reg_t (*init)(void), char * said, size_t size) {
    FILE * file = tmpfile();
    if (!file) return -1;
    fflush(stderr);
    const int errors = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    const int registered = init() != NULL;
    fflush(stderr);
    dup2(errors, STDERR_FILENO);
    close(errors);
    rewind(file);
    said[fread(said, 1, size - 1, file)] = 0;
    fclose(file);
    return registered;
}

int main(int argc, char ** argv) {
    void * plugin = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    ggml_backend_reg_t (*init)(void) = plugin ? (ggml_backend_reg_t (*)(void)) dlsym(plugin, "ggml_backend_init") : NULL;
    if (!init) {
        fprintf(stderr, "doctored: no plugin: %s\n", dlerror());
        return 1;
    }
    /* What is lied about, and what the plugin says of it; the truth at last. */
    const struct { const char * lie, * answer; } cases[] = {
        {"tensors", "its tensors are larger or smaller"},
        {"graphs", "its graphs have other fields"},
        {"operations", "it numbers operations in another way (MUL_MAT)"},
        {"custom operations", "it has no operation CUSTOM"},
        {"types of buffers", "its types of buffers have other functions"},
        {"buffers", "its buffers have other functions"},
        {"devices", "has devices with other fields"},
        {"backends", "has backends with other fields"},
        {"", ""},
    };
    /* This program needs the registry of backends, if only to be a ggml that has one. */
    int failed = ggml_backend_reg_count() > 99;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char said[1000];
        lie = cases[i].lie;
        const int registered = registers(init, said, sizeof said), expected = *lie == 0;
        const int well = registered == expected && strstr(said, cases[i].answer);
        printf("%s: %s, %s: %s", *lie ? lie : "the truth", registered ? "registered" : "refused", well ? "well" : "WRONG", *said ? said : "\n");
        failed |= !well;
    }
    return failed;
}
