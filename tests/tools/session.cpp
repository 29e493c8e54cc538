#include "session.h"

#include "ggml-backend.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

namespace {

constexpr int context_tokens = 512;
constexpr int encoded_tokens = 16;
constexpr int greedy_steps = 24;

void check(int status) {
    if (status != 0) throw std::runtime_error("llama.cpp failed to compute: " + std::to_string(status));
}

// A batch that frees what it was made of.
class Batch {
public:
    Batch(int size, int width) : batch(llama_batch_init(size, width, 1)) { batch.n_tokens = size; }
    ~Batch() { llama_batch_free(batch); }
    Batch(const Batch &) = delete;
    Batch &operator=(const Batch &) = delete;
    llama_batch *operator->() { return &batch; }
    llama_batch &get() { return batch; }

private:
    llama_batch batch;
};

// `size` tokens, or where `width` is not 0 vectors of that width; always the same ones. All of them give output.
void fill(Batch &batch, int size, int width, int vocabulary) {
    for (int i = 0; i < size; i++) {
        if (width == 0) batch->token[i] = (i * 7919 + 13) % vocabulary;
        batch->pos[i] = i;
        batch->n_seq_id[i] = 1;
        batch->seq_id[i][0] = 0;
        batch->logits[i] = 1;
    }
    for (int i = 0; i < size * width; i++) batch->embd[i] = 0.1f * std::sin(0.7f * static_cast<float>(i));
}

// A buffer type that is no device's own, but that the CPU computes on: that of buffers around memory that is there already.
ggml_backend_buffer_type_t another_buffer_type() {
    alignas(64) static char memory[64];
    static const ggml_backend_buffer_t buffer = ggml_backend_cpu_buffer_from_ptr(memory, sizeof memory);
    return ggml_backend_buffer_get_type(buffer);
}

} // namespace

void Hash::add(const float *values, size_t count) {
    const auto *bytes = reinterpret_cast<const unsigned char *>(values);
    for (size_t i = 0; i < count * sizeof *values; i++) {
        state = (state ^ bytes[i]) * 1099511628211u;
    }
}

Model::Model(const std::string &path, const Settings &settings) {
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    params.load_mode = settings.load_mode;
    params.load_mtp = settings.nextn;
    if (settings.lazy) params.lazy_mode = LLAMA_LAZY_MODE_ON;
    const llama_model_tensor_buft_override overrides[] = {{settings.elsewhere.c_str(), another_buffer_type()}, {nullptr, nullptr}};
    if (!settings.elsewhere.empty()) params.tensor_buft_overrides = overrides;
    model.reset(llama_model_load_from_file(path.c_str(), params));
    if (!model) throw std::runtime_error(path + ": cannot be loaded");
    if (settings.lora.empty()) return;
    lora = llama_adapter_lora_init(model.get(), settings.lora.c_str());
    if (!lora) throw std::runtime_error(settings.lora + ": cannot be loaded");
}

int Model::vocabulary() const { return llama_vocab_n_tokens(llama_model_get_vocab(model.get())); }

Session::Session(const Model &of, const Settings &with) : model(of), settings(with) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = context_tokens;
    params.n_threads = params.n_threads_batch = settings.threads;
    if (settings.embeddings_out) {
        params.embeddings = true;
        params.pooling_type = LLAMA_POOLING_TYPE_NONE;
    }
    context.reset(llama_init_from_model(model.get(), params));
    if (!context) throw std::runtime_error("no context");
    float scale = 1;
    llama_adapter_lora *adapter = model.adapter();
    if (adapter) check(llama_set_adapters_lora(context.get(), &adapter, 1, &scale));
}

unsigned long long Session::batch(int size) {
    start();
    const int width = settings.embeddings_in ? llama_model_n_embd_inp(model.get()) : 0;
    Batch batch(size, width);
    fill(batch, size, width, model.vocabulary());
    check(llama_decode(context.get(), batch.get()));
    Hash hash;
    for (int i = 0; i < size; i++) hash_output(hash, i);
    return hash.value();
}

unsigned long long Session::greedy(std::string &tokens) {
    start();
    llama_token token = std::max(1, llama_model_decoder_start_token(model.get()));
    Hash hash;
    for (int step = 0; step < greedy_steps; step++) {
        check(llama_decode(context.get(), llama_batch_get_one(&token, 1)));
        hash_output(hash, -1);
        const float *row = llama_get_logits_ith(context.get(), -1);
        token = static_cast<llama_token>(std::max_element(row, row + model.vocabulary()) - row);
        tokens += " " + std::to_string(token);
    }
    return hash.value();
}

// Forgets what was before; a decoder gets something to attend to.
void Session::start() {
    const llama_memory_t memory = llama_get_memory(context.get());
    if (memory) llama_memory_clear(memory, true);
    if (llama_model_has_encoder(model.get()) && llama_model_has_decoder(model.get())) encode();
}

void Session::encode() {
    Batch batch(encoded_tokens, 0);
    fill(batch, encoded_tokens, 0, model.vocabulary());
    check(llama_encode(context.get(), batch.get()));
}

void Session::hash_output(Hash &hash, int i) {
    const bool vectors = settings.embeddings_out;
    const float *row = vectors ? llama_get_embeddings_ith(context.get(), i) : llama_get_logits_ith(context.get(), i);
    const int width = vectors ? llama_model_n_embd_out(model.get()) : model.vocabulary();
    if (!row) throw std::runtime_error("no output");
    // Of such numbers, equal ones prove nothing.
    if (std::any_of(row, row + width, [](float value) { return std::isnan(value); })) throw std::runtime_error("not a number");
    if (std::all_of(row, row + width, [&](float value) { return value == row[0]; })) throw std::runtime_error("all the same");
    hash.add(row, width);
    for (int j = 0; settings.values && j < width; j++) std::printf("%.9g\n", row[j]);
}
