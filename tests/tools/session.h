// A model in llama.cpp and what it computes, as hashes.
#pragma once

#include "llama.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct Settings {
    int threads = 1;
    llama_load_mode load_mode = LLAMA_LOAD_MODE_AUTO;
    bool nextn = false;          // NextN blocks are loaded too
    bool lazy = false;           // rows of tensors that the architecture marks are read when they are needed
    bool embeddings_in = false;  // the model is given vectors in place of tokens
    bool embeddings_out = false; // it gives vectors in place of logits
    bool values = false;         // print them, too
    std::string lora;            // path of an adapter; empty: none
    std::string elsewhere;       // tensors whose names match this are kept in memory of another kind; empty: none
};

// FNV-1a, 64 bits: any changed bit changes it.
class Hash {
public:
    void add(const float *values, size_t count);
    unsigned long long value() const { return state; }

private:
    uint64_t state = 14695981039346656037u;
};

// One file, loaded once.
class Model {
public:
    Model(const std::string &path, const Settings &settings);
    llama_model *get() const { return model.get(); }
    llama_adapter_lora *adapter() const { return lora; }
    int vocabulary() const;

private:
    struct Free {
        void operator()(llama_model *model) const { llama_model_free(model); }
    };
    std::unique_ptr<llama_model, Free> model;
    llama_adapter_lora *lora = nullptr; // belongs to the model
};

// One context of a model. Throws std::runtime_error where llama.cpp fails or gives numbers that cannot be right.
class Session {
public:
    Session(const Model &model, const Settings &settings);

    // Logits, or embeddings, of every token of one batch.
    unsigned long long batch(int size);

    // Logits of each of some steps, and the tokens.
    unsigned long long greedy(std::string &tokens);

private:
    struct Free {
        void operator()(llama_context *context) const { llama_free(context); }
    };
    void start();
    void encode();
    void hash_output(Hash &hash, int i);

    const Model &model;
    const Settings &settings;
    std::unique_ptr<llama_context, Free> context;
};
