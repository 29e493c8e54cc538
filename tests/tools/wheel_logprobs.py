#!/usr/bin/env python3
"""Prints what xllamacpp's llama.cpp makes of a model: the tokens that it generates, each with the logprobs of the most likely.

    wheel_logprobs.py MODEL.gguf [PLUGIN.so]

The plugin, where one is given, goes into the ggml of the wheel, which exports its functions from one library."""
import ctypes
import glob
import json
import os
import sys
import urllib.request

import xllamacpp

PROMPTS = ("Once upon a time", "The quick brown fox jumps over the lazy dog, and then it goes on to say that " * 3)
TOP = 20
# What is no text has no probabilities there; models of random weights say such things. Probabilities are those before the choice.
LETTERS = "root ::= [a-z ]+"


def main():
    model, *plugin = sys.argv[1:]
    (library,) = glob.glob(os.path.join(os.path.dirname(xllamacpp.__file__), "xllamacpp*.so"))
    ggml = ctypes.CDLL(library)
    ggml.ggml_version.restype, ggml.ggml_backend_load.restype = ctypes.c_char_p, ctypes.c_void_p
    print("ggml", ggml.ggml_version().decode(), flush=True)
    if plugin and not ggml.ggml_backend_load(plugin[0].encode()):
        sys.exit("the plugin was refused")
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 512
    params.n_parallel = 1
    params.cpuparams.n_threads = 2
    params.cpuparams_batch.n_threads = 2
    params.warmup = False
    server = xllamacpp.Server(params)
    for prompt in PROMPTS:
        wanted = {"prompt": prompt, "n_predict": 24, "temperature": 0, "n_probs": TOP, "cache_prompt": False, "grammar": LETTERS}
        request = urllib.request.Request(server.listening_address + "/completion", json.dumps(wanted).encode())
        with urllib.request.urlopen(request) as answer:
            for token in json.load(answer)["completion_probabilities"]:
                print(token["id"], *((one["id"], one["logprob"]) for one in token["top_logprobs"]))


main()
