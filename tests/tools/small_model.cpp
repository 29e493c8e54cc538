// Writes a small model of any architecture that this llama.cpp knows, with random weights drawn to look trained.
//   small_model OUT.gguf KEY=VALUE... [--as KIND REGEX]... [--without REGEX] [--also NAME:COLUMNSxROWS] [--later KEY=VALUE]
// KEY=VALUE is the model's metadata; a key is that of the architecture unless it begins with "general.", "tokenizer." or "xielu.",
// and a later value replaces an earlier one. VALUE is true, false, a number (1: u32, -1: i32, 1.0: f32), a list of such in [,], or
// else a string. llama.cpp itself says which tensors such a model has, and of which shapes. Matrices are BF16 but for those that
// converters keep in F32 and those that --as names, the first that fits: KIND is a type, or two of them as bf16_in_f32: F32 of which
// each value is a BF16 number. --without leaves tensors out; --also adds one, and --later metadata that llama.cpp is not asked with: some
// architectures do not name the tensors of NextN blocks. The same arguments give the same file.
// tests/data/architectures.txt is a list of arguments, tests/tools/small_model.sh uses it.
#include "ggml-backend.h"
#include "ggml.h"
#include "gguf.h"
#include "llama.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct Free {
    void operator()(gguf_context *context) const { gguf_free(context); }
    void operator()(ggml_context *context) const { ggml_free(context); }
    void operator()(llama_model *model) const { llama_model_free(model); }
};

struct Shape {
    int64_t ne[GGML_MAX_DIMS];
    int dimensions;
    int64_t count() const { return ne[0] * ne[1] * ne[2] * ne[3]; }
};
using Shapes = std::vector<std::pair<std::string, Shape>>;
using Metadata = std::vector<std::pair<std::string, std::string>>;

// The type of a tensor, and the one that its values were rounded to before.
struct Kind {
    ggml_type type, rounded_to;
};

struct Options {
    std::string out;
    std::regex without{"^$"};
    std::vector<std::pair<std::regex, Kind>> kinds;
    Metadata metadata, later;
    Shapes also;
    std::string architecture;
};

// KEY=VALUE, or NAME:SHAPE.
std::pair<std::string, std::string> halves(const std::string &text, char between) {
    const size_t at = text.find(between);
    if (at == std::string::npos) throw std::runtime_error("no '" + std::string(1, between) + "' in " + text);
    return {text.substr(0, at), text.substr(at + 1)};
}

Shape to_shape(const std::string &text) {
    const auto [columns, rows] = halves(text + "x1", 'x');
    Shape shape{{std::stoll(columns), std::stoll(rows), 1, 1}, 2};
    if (shape.ne[1] == 1) shape.dimensions = 1;
    return shape;
}

ggml_type to_type(const std::string &name) {
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        const char *known = ggml_type_name(static_cast<ggml_type>(type));
        if (known && name == known) return static_cast<ggml_type>(type);
    }
    throw std::runtime_error("no type " + name);
}

Kind to_kind(const std::string &text) {
    const size_t at = text.find("_in_");
    if (at == std::string::npos) return {to_type(text), GGML_TYPE_F32};
    return {to_type(text.substr(at + 4)), to_type(text.substr(0, at))};
}

Options parse(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; i++) {
        const std::string argument = argv[i];
        const bool more = i + 1 < argc;
        if (argument == "--without" && more) {
            options.without = argv[++i];
        } else if (argument == "--as" && i + 2 < argc) {
            const Kind kind = to_kind(argv[++i]);
            options.kinds.emplace_back(argv[++i], kind);
        } else if (argument == "--also" && more) {
            const auto [name, shape] = halves(argv[++i], ':');
            options.also.emplace_back(name, to_shape(shape));
        } else if (argument == "--later" && more) {
            options.later.push_back(halves(argv[++i], '='));
        } else if (argument[0] != '-' && argument.find('=') != std::string::npos) {
            options.metadata.push_back(halves(argument, '='));
            const auto &[key, value] = options.metadata.back();
            if (key == "general.architecture") options.architecture = value;
        } else if (options.out.empty() && argument[0] != '-') {
            options.out = argument;
        } else {
            throw std::runtime_error("unknown argument " + argument);
        }
    }
    if (options.out.empty() || options.architecture.empty()) {
        throw std::runtime_error("usage: small_model OUT.gguf general.architecture=NAME KEY=VALUE... (see the source)");
    }
    return options;
}

// Metadata

std::string full_key(const std::string &key, const std::string &architecture) {
    for (const char *known : {"general.", "tokenizer.", "xielu."}) {
        if (key.rfind(known, 0) == 0) return key;
    }
    return architecture + "." + key;
}

bool is_number(const std::string &text) {
    char *end = nullptr;
    std::strtod(text.c_str(), &end);
    return !text.empty() && *end == 0;
}

gguf_type type_of(const std::string &text) {
    if (text == "true" || text == "false") return GGUF_TYPE_BOOL;
    if (!is_number(text)) return GGUF_TYPE_STRING;
    if (text.find_first_of(".e") != std::string::npos) return GGUF_TYPE_FLOAT32;
    return text[0] == '-' ? GGUF_TYPE_INT32 : GGUF_TYPE_UINT32;
}

std::vector<std::string> split_list(const std::string &list) {
    std::vector<std::string> items{""};
    for (char c : list.substr(1, list.size() - 2)) {
        if (c == ',') {
            items.emplace_back();
        } else {
            items.back() += c;
        }
    }
    return items;
}

void set_list(gguf_context *out, const std::string &key, const std::vector<std::string> &items) {
    const gguf_type type = type_of(items[0]);
    if (type == GGUF_TYPE_STRING) {
        std::vector<const char *> texts;
        for (const std::string &item : items) texts.push_back(item.c_str());
        gguf_set_arr_str(out, key.c_str(), texts.data(), texts.size());
        return;
    }
    std::vector<uint32_t> words;
    std::vector<int8_t> flags;
    for (const std::string &item : items) {
        const float number = std::strtof(item.c_str(), nullptr);
        uint32_t word = static_cast<uint32_t>(std::strtol(item.c_str(), nullptr, 10));
        if (type == GGUF_TYPE_FLOAT32) std::memcpy(&word, &number, sizeof word);
        words.push_back(word);
        flags.push_back(item == "true");
    }
    const bool bools = type == GGUF_TYPE_BOOL;
    gguf_set_arr_data(out, key.c_str(), type, bools ? static_cast<void *>(flags.data()) : words.data(), items.size());
}

void set_value(gguf_context *out, const std::string &key, const std::string &text) {
    if (text.size() > 2 && text[0] == '[') return set_list(out, key, split_list(text));
    switch (type_of(text)) {
    case GGUF_TYPE_BOOL: gguf_set_val_bool(out, key.c_str(), text == "true"); break;
    case GGUF_TYPE_FLOAT32: gguf_set_val_f32(out, key.c_str(), std::strtof(text.c_str(), nullptr)); break;
    case GGUF_TYPE_INT32: gguf_set_val_i32(out, key.c_str(), std::stoi(text)); break;
    case GGUF_TYPE_UINT32: gguf_set_val_u32(out, key.c_str(), static_cast<uint32_t>(std::stoul(text))); break;
    default: gguf_set_val_str(out, key.c_str(), text.c_str());
    }
}

// Shapes

void note_shape(ggml_tensor *tensor, void *shapes) {
    static const std::regex of_quantized_models("\\.(input_)?scale$");
    if (std::regex_search(tensor->name, of_quantized_models)) return;
    auto &all = *static_cast<Shapes *>(shapes);
    for (const auto &known : all) {
        if (known.first == tensor->name) return; // one that llama.cpp keeps twice
    }
    Shape shape;
    std::copy_n(tensor->ne, GGML_MAX_DIMS, shape.ne);
    shape.dimensions = ggml_n_dims(tensor);
    all.emplace_back(tensor->name, shape);
}

Shapes shapes_of(gguf_context *metadata) {
    Shapes shapes;
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    params.use_extra_bufts = false;
    params.load_mtp = true; // else NextN blocks would be missing
    const std::unique_ptr<llama_model, Free> model(llama_model_init_from_user(metadata, note_shape, &shapes, params));
    if (!model) throw std::runtime_error("llama.cpp makes no model of this metadata");
    return shapes;
}

// Values

// What converters keep in F32: vectors, and the small matrices that are not multiplied with, or that decide much.
bool kept_precise(const std::string &name, const Shape &shape) {
    static const std::regex names("norm|ffn_gate_inp|exp_probs|position_embd|token_types|conv|attn_rel_b|attn_sinks|"
                                  "ssm_(a|d)|time_mix_(first|decay|lerp|w|a|v|g)|channel_mix_lerp|indexer_compressor_ape|hc_|"
                                  "altup|laurel|per_layer_model_proj|masked_embd");
    const bool is_weight = name.size() > 7 && name.compare(name.size() - 7, 7, ".weight") == 0;
    return shape.dimensions < 2 || !is_weight || std::regex_search(name, names);
}

Kind kind_of(const std::string &name, const Shape &shape, const Options &options) {
    if (name.find("tid2eid") != std::string::npos) return {GGML_TYPE_I32, GGML_TYPE_I32};
    const auto is_this = [&](const auto &also) { return also.first == name; };
    const bool is_also = std::any_of(options.also.begin(), options.also.end(), is_this);
    if (is_also ? shape.dimensions < 2 : kept_precise(name, shape)) return {GGML_TYPE_F32, GGML_TYPE_F32};
    for (const auto &[names, kind] : options.kinds) {
        if (std::regex_search(name, names)) return kind;
    }
    return {GGML_TYPE_BF16, GGML_TYPE_F32};
}

class Random {
public:
    explicit Random(const std::string &name) {
        uint64_t seed = 14695981039346656037u;
        for (unsigned char c : name) seed = (seed ^ c) * 1099511628211u;
        generator.seed(seed);
    }
    // The standard library's distributions may differ from one to another; this one does not.
    float gaussian() {
        const double radius = std::sqrt(-2 * std::log((generator() >> 11 | 1) * 0x1p-53));
        return static_cast<float>(radius * std::cos(6.283185307179586 * static_cast<double>(generator() >> 11) * 0x1p-53));
    }

private:
    std::mt19937_64 generator;
};

// Rows and columns of trained matrices have scales of their own; without that, exponents would be more alike than in real models.
std::vector<float> matrix(Random &random, const Shape &shape) {
    const int64_t row = shape.ne[0], rows = shape.count() / row;
    std::vector<float> columns(row), values;
    for (float &scale : columns) scale = std::exp(0.25f * random.gaussian());
    values.reserve(shape.count());
    for (int64_t r = 0; r < rows; r++) {
        const float scale = 0.8f / std::sqrt(static_cast<float>(row)) * std::exp(0.25f * random.gaussian());
        for (int64_t i = 0; i < row; i++) values.push_back(scale * columns[i] * random.gaussian());
    }
    return values;
}

std::vector<float> vector_like(Random &random, const std::string &name, const Shape &shape) {
    const auto has = [&](const char *part) { return name.find(part) != std::string::npos; };
    std::vector<float> values(shape.count());
    for (float &value : values) {
        const float draw = random.gaussian();
        if (has("ssm_a")) {
            value = -std::exp(0.1f * draw); // decays: must be negative
        } else if (has("norm") && !has(".bias")) {
            value = std::exp(0.1f * draw);
        } else if (has("scale") || has("rope_")) {
            value = 1;
        } else {
            value = 0.1f * draw;
        }
    }
    return values;
}

// The experts of each token: all of them different, all of them there.
void fill_ids(int32_t *ids, const Shape &shape) {
    for (int64_t i = 0; i < shape.count(); i++) ids[i] = static_cast<int32_t>((i / shape.ne[0] + i) % (shape.ne[0] + 1));
}

// Writes values as `type`, row after row.
void put(const std::vector<float> &values, ggml_type type, int64_t row, void *out) {
    ggml_quantize_chunk(type, values.data(), out, 0, static_cast<int64_t>(values.size()) / row, row, nullptr);
}

// Makes values such as `type` has.
void round_to(std::vector<float> &values, ggml_type type, int64_t row) {
    if (type == GGML_TYPE_F32) return;
    std::vector<char> rounded(ggml_row_size(type, row) * values.size() / row);
    put(values, type, row, rounded.data());
    ggml_get_type_traits(type)->to_float(rounded.data(), values.data(), static_cast<int64_t>(values.size()));
}

void fill(ggml_tensor *tensor, const Shape &shape, const Kind &kind) {
    static const std::regex like_vectors("norm|ssm_a");
    Random random(tensor->name);
    if (kind.type == GGML_TYPE_I32) {
        fill_ids(static_cast<int32_t *>(tensor->data), shape);
        return;
    }
    const bool is_matrix = shape.dimensions >= 2 && !std::regex_search(tensor->name, like_vectors);
    std::vector<float> values = is_matrix ? matrix(random, shape) : vector_like(random, tensor->name, shape);
    round_to(values, kind.rounded_to, shape.ne[0]);
    put(values, kind.type, shape.ne[0], tensor->data);
}

using File = std::unique_ptr<gguf_context, Free>;

void set_all(gguf_context *file, const Metadata &metadata, const std::string &architecture) {
    for (const auto &[key, value] : metadata) set_value(file, full_key(key, architecture), value);
}

void save(const gguf_context *file, const std::string &path, bool only_metadata) {
    if (!gguf_write_to_file(file, path.c_str(), only_metadata)) throw std::runtime_error(path + ": cannot be written");
}

// The same, written and read again: only then does ggml heed general.alignment.
File reread(const gguf_context *file, const std::string &path) {
    save(file, path, true);
    File again(gguf_init_from_file(path.c_str(), {true, nullptr}));
    if (!again) throw std::runtime_error(path + ": cannot be read");
    return again;
}

void write(const Options &options) {
    File file(gguf_init_empty());
    set_all(file.get(), options.metadata, options.architecture);
    Shapes shapes = shapes_of(file.get());
    shapes.insert(shapes.end(), options.also.begin(), options.also.end());
    set_all(file.get(), options.later, options.architecture);
    file = reread(file.get(), options.out);
    size_t bytes = 0;
    for (const auto &[name, shape] : shapes) bytes += shape.count() * sizeof(float) + ggml_tensor_overhead() + 64;
    const std::unique_ptr<ggml_context, Free> memory(ggml_init({bytes, nullptr, false}));
    for (const auto &[name, shape] : shapes) {
        if (std::regex_search(name, options.without)) continue;
        const Kind kind = kind_of(name, shape, options);
        ggml_tensor *tensor = ggml_new_tensor(memory.get(), kind.type, shape.dimensions, shape.ne);
        ggml_set_name(tensor, name.c_str());
        fill(tensor, shape, kind);
        gguf_add_tensor(file.get(), tensor);
    }
    save(file.get(), options.out, false);
}

void log_problems(ggml_log_level level, const char *text, void *) {
    if (level >= GGML_LOG_LEVEL_WARN) std::fputs(text, stderr);
}

} // namespace

int main(int argc, char **argv) {
    try {
        const Options options = parse(argc, argv);
        llama_log_set(log_problems, nullptr);
        ggml_backend_load_all();
        write(options);
        return 0;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "small_model: %s\n", error.what());
        return 1;
    }
}
