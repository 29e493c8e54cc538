// Prints hashes of all logits that models give, to compare one file with another in the same build of llama.cpp.
//   logits MODEL [--threads N] [--load-mode auto|none|mmap|mlock|mmap+mlock|dio] [--nextn] [--lazy]
//                [--lora ADAPTER] [--elsewhere REGEX] [--embeddings-in] [--embeddings-out] [--and OTHER_MODEL]...
//                [--free-first] [--contexts N] [--crowd N] [--splits] [--values]
// One line for each batch size (1, 2, 5, 33, 128), and one for 24 greedy steps (not with --embeddings-out). With --and, all models are
// loaded at once and take turns; lines then begin with the model's number. --free-first frees the first of them after some batches.
// --contexts has N contexts of one model compute at the same time. --crowd has N threads load one of the models each, compute and free
// it, again and again, while the others do the same. --splits prints only into how many pieces llama.cpp has cut the
// graphs of a prompt and of a token. --values prints the logits before their hashes, one a line. --elsewhere does what -ot does: it sends tensors to another buffer type than llama.cpp would choose.
#include "session.h"

#include "ggml-backend.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <stdexcept>

namespace {

constexpr int batch_sizes[] = {1, 2, 5, 33, 128};
constexpr int last_batch_of_first = 2; // with --free-first

struct Options {
    std::vector<std::string> models;
    Settings settings;
    int contexts = 1;
    int crowd = 0;
    bool free_first = false;
    bool splits = false;
};

Options parse(int argc, char **argv) {
    Options options;
    Settings &settings = options.settings;
    for (int i = 1; i < argc; i++) {
        const std::string argument = argv[i];
        const bool more = i + 1 < argc;
        if (argument == "--threads" && more) {
            settings.threads = std::atoi(argv[++i]);
        } else if (argument == "--load-mode" && more) {
            settings.load_mode = llama_load_mode_from_str(argv[++i]);
        } else if (argument == "--nextn") {
            settings.nextn = true;
        } else if (argument == "--lazy") {
            settings.lazy = true;
        } else if (argument == "--lora" && more) {
            settings.lora = argv[++i];
        } else if (argument == "--elsewhere" && more) {
            settings.elsewhere = argv[++i];
        } else if (argument == "--embeddings-in") {
            settings.embeddings_in = true;
        } else if (argument == "--embeddings-out") {
            settings.embeddings_out = true;
        } else if (argument == "--values") {
            settings.values = true;
        } else if (argument == "--and" && more) {
            options.models.push_back(argv[++i]);
        } else if (argument == "--free-first") {
            options.free_first = true;
        } else if (argument == "--contexts" && more) {
            options.contexts = std::atoi(argv[++i]);
        } else if (argument == "--crowd" && more) {
            options.crowd = std::atoi(argv[++i]);
        } else if (argument == "--splits") {
            options.splits = true;
        } else if (argument[0] != '-') {
            options.models.insert(options.models.begin(), argument);
        } else {
            throw std::runtime_error("unknown argument " + argument);
        }
    }
    if (options.models.empty() || settings.threads < 1 || options.contexts < 1) {
        throw std::runtime_error("usage: logits MODEL [...] (see the source)");
    }
    return options;
}

// A model, a context of it, and what its lines begin with.
struct Loaded {
    Loaded(const std::string &path, const Settings &settings, std::string name)
        : model(path, settings), session(model, settings), name(std::move(name)) {}
    Model model;
    Session session;
    std::string name;
};

std::string batch_line(Session &session, int size) {
    char line[64];
    std::snprintf(line, sizeof line, "batch %d: %016llx\n", size, session.batch(size));
    return line;
}

std::string greedy_line(Session &session, const Settings &settings) {
    if (settings.embeddings_out) return "";
    std::string tokens;
    char hash[32];
    std::snprintf(hash, sizeof hash, "%016llx", session.greedy(tokens));
    return std::string("greedy: ") + hash + tokens + "\n";
}

void print(const std::string &name, const std::string &line) {
    if (!line.empty()) std::printf("%s%s", name.c_str(), line.c_str());
}

void take_turns(const Options &options) {
    std::vector<std::unique_ptr<Loaded>> all;
    for (const std::string &path : options.models) {
        const std::string name = options.models.size() > 1 ? "model " + std::to_string(all.size() + 1) + " " : "";
        all.push_back(std::make_unique<Loaded>(path, options.settings, name));
    }
    for (int size : batch_sizes) {
        for (auto &one : all) print(one->name, batch_line(one->session, size));
        if (options.free_first && size == last_batch_of_first) all.erase(all.begin());
    }
    for (auto &one : all) print(one->name, greedy_line(one->session, options.settings));
}

// Every context computes everything, each in a thread of its own.
void at_once(const Options &options) {
    const Model model(options.models[0], options.settings);
    std::vector<std::unique_ptr<Session>> sessions;
    std::vector<std::future<std::string>> lines;
    for (int i = 0; i < options.contexts; i++) sessions.push_back(std::make_unique<Session>(model, options.settings));
    for (auto &session : sessions) {
        lines.push_back(std::async(std::launch::async, [&] {
            std::string all;
            for (int size : batch_sizes) all += batch_line(*session, size);
            return all + greedy_line(*session, options.settings);
        }));
    }
    for (size_t i = 0; i < lines.size(); i++) print("context " + std::to_string(i + 1) + "\n", lines[i].get());
}

void crowd(const Options &options) {
    constexpr int rounds = 6;
    std::vector<std::future<std::string>> lines;
    for (int i = 0; i < options.crowd; i++) {
        lines.push_back(std::async(std::launch::async, [&options, i] {
            std::string all;
            for (int round = 0; round < rounds; round++) {
                const std::string &path = options.models[(i + round) % options.models.size()];
                Loaded one(path, options.settings, "");
                for (int size : {1, 33}) all += batch_line(one.session, size);
            }
            return all;
        }));
    }
    for (size_t i = 0; i < lines.size(); i++) print("thread " + std::to_string(i + 1) + "\n", lines[i].get());
}

// llama.cpp says it nowhere else: "splits = 1," or "splits = 5 / 13,".
std::string splits_in_log;

void log_problems(ggml_log_level level, const char *text, void *) {
    if (level >= GGML_LOG_LEVEL_WARN) std::fputs(text, stderr);
    const char *found = std::strstr(text, "splits = ");
    if (found) splits_in_log = std::string(found, std::strcspn(found, ",\n"));
}

void print_splits(const Options &options) {
    const Loaded loaded(options.models[0], options.settings, "");
    if (splits_in_log.empty()) throw std::runtime_error("llama.cpp has not said how many splits there are");
    std::printf("%s\n", splits_in_log.c_str());
}

void run(const Options &options) {
    ggml_backend_load_all();
    llama_log_set(log_problems, nullptr);
    if (options.splits) {
        print_splits(options);
    } else if (options.crowd > 0) {
        crowd(options);
    } else if (options.contexts > 1) {
        at_once(options);
    } else {
        take_turns(options);
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
