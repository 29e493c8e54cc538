"""Runs a model and its compressed form in llama.cpp in turn, and prints the answers, and sizes, peak memory and speed side by side
(medians). Exits with 1 if the answers differ.

    compare.py HOST PLUGIN ORIGINAL COMPRESSED

HOST is a folder with llama.cpp's programs, one whose node_modules has node-llama-cpp, or a Python that has the package xllamacpp.
With the original in place of the compressed file: what the plugin costs a model that it does nothing for."""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
QUESTION = "Why is the sky blue? Answer in two sentences."
ROUNDS = 9
THREADS = os.cpu_count()
# A plugin that the user has set up is not for the original.
BARE = {name: value for name, value in os.environ.items() if name != "GGML_BACKEND_PATH"}


def run(command, environment):
    """Standard output, peak memory of the child in bytes, and seconds from start to end."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment)
        text = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            sys.exit(f"compare.py: {' '.join(command)} failed:\n{errors.read().decode(errors='replace')[-2000:]}")
    return text, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), time.monotonic() - start


class Programs:
    """llama.cpp's own."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, program, model, plugin, *arguments):
        environment = dict(BARE, GGML_BACKEND_PATH=plugin) if plugin else BARE
        return run([f"{self.folder}/{program}", "-m", model, "-t", str(THREADS), *arguments], environment)

    def answer(self, model, plugin):
        question = ["-p", QUESTION, "--single-turn", "--temp", "0", "-n", "80", "-c", "2048", "--no-display-prompt"]
        text, memory, _ = self.run("llama-completion", model, plugin, *question)
        return text.strip(), memory

    def speeds(self, model, plugin):
        *_, first = self.run("llama-completion", model, plugin, "-p", "Hello", "-n", "1", "--single-turn", "-c", "512")
        text, *_ = self.run("llama-bench", model, plugin, "-p", "128", "-n", "32", "-r", "1", "-o", "json")
        tests = {"generation" if test["n_gen"] else "prompt": test["avg_ts"] for test in json.loads(text)}
        return {"first": first, **tests}


class Package:
    """The llama.cpp of a Python or Node package."""

    def __init__(self, *ask):
        self.ask = ask

    def run(self, model, plugin):
        text, memory, _ = run([*self.ask, model, plugin or "-", "--json"], BARE)
        return json.loads(text), memory

    def answer(self, model, plugin):
        found, memory = self.run(model, plugin)
        return found["answer"].strip(), memory

    def speeds(self, model, plugin):
        return self.run(model, plugin)[0]


def settle(path):
    """Brings a file into the page cache in the same way whoever wrote it: mapped pages cost more or less depending on that."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(1 << 24):
            pass


def main(host, plugin, original, compressed):
    settle(original)
    settle(compressed)
    if os.path.isdir(f"{host}/node_modules"):
        host = Package("node", f"{HERE}/ask.mjs", host)
    else:
        host = Programs(host) if os.path.isdir(host) else Package(host, f"{HERE}/ask.py")
    sides = {"original": (original, None), "compressed": (compressed, plugin)}
    answers, memory, speed = {}, {}, {name: [] for name in sides}
    for name, side in sides.items():
        answers[name], memory[name] = host.answer(*side)
        print(f"\n{name}: {answers[name]}", flush=True)
    if not answers["original"]:
        sys.exit("compare.py: no answer")
    if answers["original"] != answers["compressed"]:
        sys.exit("compare.py: the answers differ")
    print("\nThe answers are the same.", flush=True)
    for number in range(ROUNDS):
        print(f"measuring, round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
        for name, side in sides.items():
            speed[name].append(host.speeds(*side))

    def row(label, unit, value):
        first, second = value("original"), value("compressed")
        print(f"{label:22} {first:12.4g} {second:12.4g} {unit:9} x{second / first:.2f}")

    median = lambda name, kind: statistics.median(speeds[kind] for speeds in speed[name])
    print(f"\n{'':22} {'original':>12} {'compressed':>12}")
    row("file", "MB", lambda name: os.path.getsize(sides[name][0]) / 1e6)
    row("peak memory", "MB", lambda name: memory[name] / 1e6)
    row("start to first token", "s", lambda name: median(name, "first"))
    row("generation", "tokens/s", lambda name: median(name, "generation"))
    row("prompt of 128", "tokens/s", lambda name: median(name, "prompt"))
    print(f"{THREADS} threads; medians of {ROUNDS} interleaved runs")


if __name__ == "__main__":
    main(*sys.argv[1:])
