// Small graphs on the weights of a compressed file, computed with the plugin, and on those of its original, computed by the CPU: the
// weights whole, in other shapes, and in parts. Results must have the same bits. What cannot be computed must be refused before it is.
//   views COMPRESSED ORIGINAL TENSOR    the rows of the tensor a multiple of 8, its row length even
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "ggml.h"
#include "gguf.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr size_t graph_nodes = 64;

// Tensors of a file, read into buffers of a device where that takes them, else of the CPU.
class File {
public:
    File(const std::string &path, ggml_backend_buffer_type_t carriers) {
        ggml_context *context = nullptr;
        gguf.reset(gguf_init_from_file(path.c_str(), {true, &context}));
        if (!gguf) throw std::runtime_error(path + ": cannot be read");
        tensors.reset(context);
        std::vector<ggml_tensor *> theirs, others;
        for (ggml_tensor *tensor = ggml_get_first_tensor(context); tensor; tensor = ggml_get_next_tensor(context, tensor)) {
            const ggml_type type = tensor->type;
            const bool carrier = type == GGML_TYPE_I8 || type == GGML_TYPE_I16 || type == GGML_TYPE_I64;
            (carriers && carrier ? theirs : others).push_back(tensor);
        }
        place(theirs, carriers);
        place(others, ggml_backend_cpu_buffer_type());
        std::ifstream file(path, std::ios::binary);
        for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); i++) {
            ggml_tensor *tensor = this->tensor(gguf_get_tensor_name(gguf.get(), i));
            file.seekg(gguf_get_data_offset(gguf.get()) + gguf_get_tensor_offset(gguf.get(), i));
            file.read(static_cast<char *>(tensor->data), ggml_nbytes(tensor));
        }
    }

    ggml_tensor *tensor(const std::string &name) const {
        ggml_tensor *tensor = ggml_get_tensor(tensors.get(), name.c_str());
        if (!tensor) throw std::runtime_error("no tensor " + name);
        return tensor;
    }

private:
    void place(std::vector<ggml_tensor *> &list, ggml_backend_buffer_type_t type) {
        if (list.empty()) return;
        buffers.emplace_back(ggml_backend_buft_alloc_buffer_n(type, list.data(), static_cast<int>(list.size())));
        if (!buffers.back()) throw std::runtime_error("no buffer");
        ggml_backend_buffer_set_usage(buffers.back().get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    }

    gguf_context_ptr gguf;
    ggml_context_ptr tensors;
    std::vector<ggml_backend_buffer_ptr> buffers;
};

// A graph being built: the weight, and inputs that are the same in every run.
struct Graph {
    ggml_context *context;
    ggml_tensor *weight;
    ggml_type type; // of the weight in the original
    std::vector<ggml_tensor *> inputs;

    ggml_tensor *vectors(int64_t length, int64_t n1, int64_t n2 = 1) {
        inputs.push_back(ggml_new_tensor_3d(context, GGML_TYPE_F32, length, n1, n2));
        return inputs.back();
    }
    // Numbers from 0 to limit - 1.
    ggml_tensor *ids(int64_t n0, int64_t n1, int limit) {
        inputs.push_back(ggml_new_tensor_2d(context, GGML_TYPE_I32, n0, n1));
        inputs.back()->op_params[0] = limit;
        return inputs.back();
    }
    int64_t k() const { return weight->ne[0]; }
    int64_t rows() const { return weight->ne[1]; }
    ggml_tensor *reshape(int64_t n0, int64_t n1, int64_t n2 = 1) { return ggml_reshape_3d(context, weight, n0, n1, n2); }
    ggml_tensor *view(int64_t n0, int64_t n1, size_t stride, size_t offset) {
        return ggml_view_2d(context, weight, n0, n1, stride, offset);
    }
};

void fill(ggml_tensor *input) {
    const size_t count = ggml_nelements(input);
    std::vector<int32_t> words(count);
    for (size_t i = 0; i < count; i++) {
        if (input->type == GGML_TYPE_I32) {
            words[i] = static_cast<int32_t>((i * 7 + 1) % input->op_params[0]);
        } else {
            const float value = static_cast<float>(i * 2654435761u % 1000) / 500 - 1;
            std::memcpy(&words[i], &value, sizeof value);
        }
    }
    ggml_backend_tensor_set(input, words.data(), 0, ggml_nbytes(input));
}

using Build = std::function<ggml_tensor *(Graph &)>;

// The bytes of the result; none if the graph is refused before it is computed.
std::vector<char> run(ggml_tensor *weight, ggml_type type, std::vector<ggml_backend_t> backends, const Build &build) {
    ggml_context_ptr context(ggml_init({ggml_tensor_overhead() * graph_nodes + ggml_graph_overhead(), nullptr, true}));
    Graph graph{context.get(), weight, type, {}};
    ggml_tensor *result = build(graph);
    ggml_set_output(result);
    for (ggml_tensor *input : graph.inputs) ggml_set_input(input);
    ggml_cgraph *nodes = ggml_new_graph(context.get());
    ggml_build_forward_expand(nodes, result);
    const ggml_backend_sched_ptr scheduler(
        ggml_backend_sched_new(backends.data(), nullptr, static_cast<int>(backends.size()), GGML_DEFAULT_GRAPH_SIZE, false, false));
    if (!ggml_backend_sched_reserve(scheduler.get(), nodes)) return {};
    if (!ggml_backend_sched_alloc_graph(scheduler.get(), nodes)) throw std::runtime_error("no memory after it was reserved");
    for (ggml_tensor *input : graph.inputs) fill(input);
    if (ggml_backend_sched_graph_compute(scheduler.get(), nodes) != GGML_STATUS_SUCCESS) throw std::runtime_error("not computed");
    std::vector<char> bytes(ggml_nbytes(result));
    ggml_backend_tensor_get(result, bytes.data(), 0, bytes.size());
    return bytes;
}

struct Case {
    std::string name;
    Build build;
};

std::vector<Case> computed(int64_t n) {
    const std::string columns = ", " + std::to_string(n) + " columns";
    const auto product = [n](Graph &g, ggml_tensor *matrix) {
        return ggml_mul_mat(g.context, matrix, g.vectors(matrix->ne[0], n, matrix->ne[2]));
    };
    const auto experts = [n](Graph &g, ggml_tensor *matrices) {
        const int count = static_cast<int>(matrices->ne[2]);
        return ggml_mul_mat_id(g.context, matrices, g.vectors(matrices->ne[0], 1, n), g.ids(2, n, count));
    };
    const auto rows = [n](Graph &g, ggml_tensor *table) {
        return ggml_get_rows(g.context, table, g.ids(n, 1, static_cast<int>(table->ne[1])));
    };
    std::vector<Case> cases = {
        {"product", [=](Graph &g) { return product(g, g.weight); }},
        {"product, vectors that are not contiguous",
         [=](Graph &g) { return ggml_mul_mat(g.context, g.weight, ggml_permute(g.context, g.vectors(g.k(), 3, n), 0, 2, 1, 3)); }},
        {"product, vectors of the weight's type",
         [=](Graph &g) { return ggml_mul_mat(g.context, g.weight, ggml_cast(g.context, g.vectors(g.k(), n), g.type)); }},
        {"product, some rows", [=](Graph &g) { return product(g, g.view(g.k(), 4, g.weight->nb[1], 3 * g.weight->nb[1])); }},
        {"product, every other row",
         [=](Graph &g) { return product(g, g.view(g.k(), g.rows() / 2, 2 * g.weight->nb[1], g.weight->nb[1])); }},
        {"product, some columns",
         [=](Graph &g) { return product(g, g.view(g.k() / 2, g.rows(), g.weight->nb[1], 4 * g.weight->nb[0])); }},
        {"product, a stack", [=](Graph &g) { return product(g, g.reshape(g.k(), g.rows() / 4, 4)); }},
        {"product, half rows", [=](Graph &g) { return product(g, g.reshape(g.k() / 2, g.rows() * 2)); }},
        {"product, double rows", [=](Graph &g) { return product(g, g.reshape(g.k() * 2, g.rows() / 2)); }},
        {"product, permuted",
         [=](Graph &g) { return product(g, ggml_permute(g.context, g.reshape(g.k() / 2, 2, g.rows()), 0, 2, 1, 3)); }},
        {"experts", [=](Graph &g) { return experts(g, g.reshape(g.k(), g.rows() / 4, 4)); }},
        {"experts, half rows", [=](Graph &g) { return experts(g, g.reshape(g.k() / 2, g.rows() / 2, 4)); }},
        {"rows", [=](Graph &g) { return rows(g, g.weight); }},
        {"rows, of some", [=](Graph &g) { return rows(g, g.view(g.k(), 4, g.weight->nb[1], 3 * g.weight->nb[1])); }},
        {"rows, half", [=](Graph &g) { return rows(g, g.reshape(g.k() / 2, g.rows() * 2)); }},
    };
    for (Case &c : cases) c.name += columns;
    return cases;
}

const std::vector<Case> casts = {
    {"cast", [](Graph &g) { return ggml_cast(g.context, g.weight, GGML_TYPE_F32); }},
    {"cast, a part",
     [](Graph &g) { return ggml_cast(g.context, g.view(g.k() / 2, 1, g.weight->nb[1], 5 * g.weight->nb[0]), GGML_TYPE_F32); }},
    {"cast, transposed", [](Graph &g) { return ggml_cast(g.context, ggml_transpose(g.context, g.weight), GGML_TYPE_F32); }},
};

// The result would have a carrier's type, or the CPU has no such operation on all types.
const std::vector<Case> refused = {
    {"copy", [](Graph &g) { return ggml_cont(g.context, g.weight); }},
    {"repetition", [](Graph &g) { return ggml_repeat_4d(g.context, g.weight, g.k(), g.rows(), 2, 1); }},
    {"sum", [](Graph &g) { return ggml_add(g.context, g.weight, g.vectors(g.k(), 1)); }},
};

int compare(const std::string &compressed, const std::string &original, const std::string &name) {
    ggml_backend_load_all();
    ggml_backend_dev_t device = ggml_backend_dev_by_name("Unweight");
    if (!device) throw std::runtime_error("the plugin is not loaded");
    const File ours(compressed, ggml_backend_dev_buffer_type(device)), theirs(original, nullptr);
    const ggml_backend_ptr plugin(ggml_backend_dev_init(device, nullptr));
    const ggml_backend_ptr cpu(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    if (!plugin || !cpu) throw std::runtime_error("no backend");
    const std::vector<ggml_backend_t> both = {plugin.get(), cpu.get()}, alone = {cpu.get()};
    int failed = 0;
    const auto report = [&](bool good, const Case &c) {
        std::printf("%s  %s\n", good ? "ok  " : "FAIL", c.name.c_str());
        failed += !good;
    };
    std::vector<Case> cases = casts;
    for (int64_t columns : {1, 2, 7}) {
        for (Case &c : computed(columns)) cases.push_back(std::move(c));
    }
    const ggml_type type = theirs.tensor(name)->type;
    for (const Case &c : cases) {
        const std::vector<char> want = run(theirs.tensor(name), type, alone, c.build);
        report(!want.empty() && run(ours.tensor(name), type, both, c.build) == want, c);
    }
    for (const Case &c : refused) report(run(ours.tensor(name), type, both, c.build).empty(), c);
    return failed;
}

} // namespace

int main(int argc, char **argv) {
    try {
        if (argc != 4) throw std::runtime_error("usage: views COMPRESSED ORIGINAL TENSOR");
        return compare(argv[1], argv[2], argv[3]) == 0 ? 0 : 1;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "views: %s\n", error.what());
        return 1;
    }
}
