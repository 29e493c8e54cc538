#!/usr/bin/env python3
"""Prints what llama-cpp-python's llama.cpp makes of a model: hashes of the logits of a prompt and of what it generates, and the tokens.

    llama_cpp_logprobs.py MODEL.gguf [PLUGIN.so]

The plugin, where one is given, is loaded by unweight_gguf.enable() of this repository."""
import ctypes
import hashlib
import os
import sys

import llama_cpp

PROMPT = "Once upon a time there was a fox who lived in a wood, and every morning it went down to the river."
STEPS = 24

model, *plugin = sys.argv[1:]
ggml = llama_cpp.llama_cpp._lib
ggml.ggml_version.restype = ctypes.c_char_p
print("ggml", ggml.ggml_version().decode(), flush=True)
if plugin:
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../python"))
    import unweight_gguf

    unweight_gguf.plugin = lambda: plugin[0]
    unweight_gguf.enable()
llama = llama_cpp.Llama(model, n_ctx=512, n_threads=2, n_threads_batch=2, logits_all=True, verbose=False)
llama.eval(llama.tokenize(PROMPT.encode()))
print(hashlib.blake2b(llama.scores[: llama.n_tokens].tobytes()).hexdigest())
for _ in range(STEPS):
    row = llama.scores[llama.n_tokens - 1]
    token = int(row.argmax())
    print(token, hashlib.blake2b(row.tobytes()).hexdigest())
    llama.eval([token])
