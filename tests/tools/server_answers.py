#!/usr/bin/env python3
"""Starts a llama-server, asks it, prints what it answers, with logprobs, and ends it.

    server_answers.py WHAT -- COMMAND...      COMMAND without --host and --port

WHAT is chat (streamed), text (the same, without logprobs), slots (four prompts at once), long (until the context has been shifted), or embedding."""
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

PROMPTS = ["Once upon a time", "The capital of France", "Water boils at", "A list of three colours: red,"]
PATIENCE = 600


def ask(address, path, body):
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=PATIENCE)


def wait_for(address, server):
    for _ in range(10 * PATIENCE):
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}")
        try:
            urllib.request.urlopen(address + "/health", timeout=PATIENCE).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    sys.exit("the server does not answer")


def chat(address, with_logprobs):
    messages = [{"role": "user", "content": "Name three colours, and say where one sees them."}]
    wanted = {"messages": messages, "max_tokens": 32, "temperature": 0, "logprobs": True, "top_logprobs": 5, "stream": True}
    with ask(address, "/v1/chat/completions", wanted) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    print(choice["delta"], choice.get("logprobs") if with_logprobs else "")


def completion(address, prompt, tokens):
    wanted = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "n_probs": 5, "cache_prompt": False, "ignore_eos": True}
    with ask(address, "/completion", wanted) as answer:
        answers = json.load(answer)
    for one in answers if isinstance(answers, list) else [answers]:
        for token in one["completion_probabilities"]:
            print(token["id"], *((top["id"], top["logprob"]) for top in token["top_logprobs"]))
        print(one["content"], one["truncated"])


def embedding(address):
    with ask(address, "/v1/embeddings", {"input": PROMPTS}) as answer:
        for one in json.load(answer)["data"]:
            print(one["embedding"])


def main():
    what, dashes, *command = sys.argv[1:]
    assert dashes == "--", __doc__
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        wait_for(address, server)
        if what in ("chat", "text"):
            chat(address, what == "chat")
        elif what == "slots":
            completion(address, PROMPTS, 24)
        elif what == "long":
            completion(address, PROMPTS[0], 300)
        elif what == "embedding":
            embedding(address)
        else:
            sys.exit(__doc__)
    finally:
        server.terminate()
        server.wait()


main()
