#!/usr/bin/env python3
"""Asks a model in llama.cpp as the Python package xllamacpp has it: no build of llama.cpp is needed.

    ask.py MODEL.gguf PLUGIN.so|- [QUESTION] [--json]

PLUGIN is libggml_unweight.so for a compressed model, "-" for none. Prints the answer; with --json speeds too: seconds from the start
of the process to the first token, tokens/s for a prompt of 128 and for the answer."""
import ctypes
import glob
import json
import os
import sys
import time
import urllib.request

import xllamacpp

QUESTION = "Why is the sky blue? Answer in two sentences."
TOKENS = 80


def load_plugin(path):
    """Into the ggml of the package, before any model is loaded."""
    (library,) = glob.glob(os.path.join(os.path.dirname(xllamacpp.__file__), "xllamacpp*.so"))
    ggml = ctypes.CDLL(library)
    ggml.ggml_backend_load.restype = ctypes.c_void_p
    if not ggml.ggml_backend_load(path.encode()):
        sys.exit(1)  # it has said why


def start(model):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 2048
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count()
    return xllamacpp.Server(params)


def post(server, path, body):
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def since_start():
    """Seconds since this process was started."""
    with open("/proc/self/stat") as stat:
        started = int(stat.read().rsplit(") ", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def main():
    as_json = "--json" in sys.argv
    model, plugin, *question = [argument for argument in sys.argv[1:] if argument != "--json"]
    if plugin != "-":
        load_plugin(plugin)
    server = start(model)
    if as_json:
        post(server, "/completion", {"prompt": "Hello", "n_predict": 1})
        first = since_start()
        prompt = {"prompt": [1] + [100] * 127, "n_predict": 1, "cache_prompt": False}
        prompt = post(server, "/completion", prompt)["timings"]["prompt_per_second"]
    messages = [{"role": "user", "content": question[0] if question else QUESTION}]
    answer = post(server, "/v1/chat/completions", {"messages": messages, "max_tokens": TOKENS, "temperature": 0})
    text = answer["choices"][0]["message"]["content"]
    if as_json:
        generation = answer["timings"]["predicted_per_second"]
        text = json.dumps({"answer": text, "first": first, "prompt": prompt, "generation": generation})
    print(text, flush=True)
    os._exit(0)  # the server's threads have nothing left to do


main()
