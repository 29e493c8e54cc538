// Prints hashes of all logits that a model gives, to compare one file with another in the same build of llama.cpp.
//   logits MODEL [--threads N] [--no-mmap] [--and OTHER_MODEL]
// One line for each batch size (1, 2, 5, 33, 128), and one for 24 greedy steps. With --and, both models are loaded at once and take
// turns; lines then begin with the model's number.
#include "ggml-backend.h"
#include "llama.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int context_tokens = 512;
constexpr int greedy_steps = 24;
constexpr int batch_sizes[] = {1, 2, 5, 33, 128};

// FNV-1a, 64 bits: any changed bit changes it.
class Hash {
public:
    void add(const float *values, size_t count) {
        const auto *bytes = reinterpret_cast<const unsigned char *>(values);
        for (size_t i = 0; i < count * sizeof *values; i++) {
            state = (state ^ bytes[i]) * 1099511628211u;
        }
    }
    unsigned long long value() const { return state; }

private:
    uint64_t state = 14695981039346656037u;
};

class Session {
public:
    Session(const std::string &path, int threads, bool mmap) {
        llama_model_params model_params = llama_model_default_params();
        model_params.n_gpu_layers = 0;
        if (!mmap) model_params.load_mode = LLAMA_LOAD_MODE_NONE;
        model.reset(llama_model_load_from_file(path.c_str(), model_params));
        if (!model) throw std::runtime_error(path + ": cannot be loaded");
        llama_context_params params = llama_context_default_params();
        params.n_ctx = params.n_batch = params.n_ubatch = context_tokens;
        params.n_threads = params.n_threads_batch = threads;
        context.reset(llama_init_from_model(model.get(), params));
        if (!context) throw std::runtime_error(path + ": no context");
        vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model.get()));
    }

    // Logits of every token of one batch.
    unsigned long long batch(int size) {
        clear();
        llama_batch batch = llama_batch_init(size, 0, 1);
        batch.n_tokens = size;
        for (int i = 0; i < size; i++) {
            batch.token[i] = (i * 7919 + 13) % vocabulary;
            batch.pos[i] = i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        const int status = llama_decode(context.get(), batch);
        llama_batch_free(batch);
        check(status);
        Hash hash;
        for (int i = 0; i < size; i++) hash.add(logits(i), vocabulary);
        return hash.value();
    }

    // Logits of each step, and the tokens.
    unsigned long long greedy(std::string &tokens) {
        clear();
        llama_token token = 1;
        Hash hash;
        for (int step = 0; step < greedy_steps; step++) {
            check(llama_decode(context.get(), llama_batch_get_one(&token, 1)));
            const float *row = logits(-1);
            hash.add(row, vocabulary);
            token = static_cast<llama_token>(std::max_element(row, row + vocabulary) - row);
            tokens += " " + std::to_string(token);
        }
        return hash.value();
    }

private:
    struct Free {
        void operator()(llama_model *model) const { llama_model_free(model); }
        void operator()(llama_context *context) const { llama_free(context); }
    };

    void clear() { llama_memory_clear(llama_get_memory(context.get()), true); }

    const float *logits(int i) {
        const float *row = llama_get_logits_ith(context.get(), i);
        if (!row) throw std::runtime_error("no logits");
        return row;
    }

    static void check(int status) {
        if (status != 0) throw std::runtime_error("llama_decode failed: " + std::to_string(status));
    }

    std::unique_ptr<llama_model, Free> model;
    std::unique_ptr<llama_context, Free> context;
    int vocabulary = 0;
};

struct Options {
    std::vector<std::string> models;
    int threads = 1;
    bool mmap = true;
};

Options parse(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; i++) {
        const std::string argument = argv[i];
        const bool more = i + 1 < argc;
        if (argument == "--threads" && more) {
            options.threads = std::atoi(argv[++i]);
        } else if (argument == "--and" && more) {
            options.models.push_back(argv[++i]);
        } else if (argument == "--no-mmap") {
            options.mmap = false;
        } else if (argument[0] != '-') {
            options.models.insert(options.models.begin(), argument);
        } else {
            throw std::runtime_error("unknown argument " + argument);
        }
    }
    if (options.models.empty() || options.threads < 1) {
        throw std::runtime_error("usage: logits MODEL [--threads N] [--no-mmap] [--and OTHER_MODEL]");
    }
    return options;
}

void log_problems(ggml_log_level level, const char *text, void *) {
    if (level >= GGML_LOG_LEVEL_WARN) std::fputs(text, stderr);
}

void run(const Options &options) {
    ggml_backend_load_all();
    llama_log_set(log_problems, nullptr);
    std::vector<std::unique_ptr<Session>> sessions;
    for (const std::string &path : options.models) {
        sessions.push_back(std::make_unique<Session>(path, options.threads, options.mmap));
    }
    const auto name = [&](size_t number) {
        return sessions.size() > 1 ? "model " + std::to_string(number + 1) + " " : std::string();
    };
    for (int size : batch_sizes) {
        for (size_t i = 0; i < sessions.size(); i++) {
            std::printf("%sbatch %d: %016llx\n", name(i).c_str(), size, sessions[i]->batch(size));
        }
    }
    for (size_t i = 0; i < sessions.size(); i++) {
        std::string tokens;
        const unsigned long long hash = sessions[i]->greedy(tokens);
        std::printf("%sgreedy: %016llx%s\n", name(i).c_str(), hash, tokens.c_str());
    }
}

} // namespace

int main(int argc, char **argv) {
    try {
        run(parse(argc, argv));
        return 0;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "logits: %s\n", error.what());
        return 1;
    }
}
