"""compare.py BIN PLUGIN ORIGINAL COMPRESSED: runs llama.cpp's programs in folder BIN on both files in turn and prints the answers,
and sizes, peak memory and speed side by side (medians). Exits with 1 if the answers differ."""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

QUESTION = "Why is the sky blue? Answer in two sentences."
ROUNDS = 9
THREADS = os.cpu_count()


def run(program, model, plugin, *arguments):
    """Standard output, peak memory of the child in bytes, and seconds from start to end."""
    environment = dict(os.environ, GGML_BACKEND_PATH=plugin) if plugin else dict(os.environ)
    if not plugin:
        environment.pop("GGML_BACKEND_PATH", None)
    command = [program, "-m", model, "-t", str(THREADS), *arguments]
    start = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment)
        text = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            sys.exit(f"compare.py: {' '.join(command)} failed:\n{errors.read().decode()[-2000:]}")
    return text, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), time.monotonic() - start


def settle(path):
    """Brings a file into the page cache in the same way whoever wrote it: mapped pages cost more or less depending on that."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(1 << 24):
            pass


def main(folder, plugin, original, compressed):
    settle(original)
    settle(compressed)
    sides = [("original", original, None), ("compressed", compressed, plugin)]
    answers, memory, speed = {}, {}, {name: {"prompt": [], "generation": [], "first": []} for name, _, _ in sides}
    for name, model, library in sides:
        answer, memory[name], _ = run(
            f"{folder}/llama-completion", model, library,
            "-p", QUESTION, "--single-turn", "--temp", "0", "-n", "80", "-c", "2048", "--no-display-prompt",
        )  # fmt: skip
        answers[name] = answer.strip()
        print(f"\n{name}: {answers[name]}")
    for _ in range(ROUNDS):
        for name, model, library in sides:
            *_, seconds = run(f"{folder}/llama-completion", model, library, "-p", "Hello", "-n", "1", "--single-turn", "-c", "512")
            speed[name]["first"].append(seconds)
            text, *_ = run(f"{folder}/llama-bench", model, library, "-p", "128", "-n", "32", "-r", "1", "-o", "json")
            for test in json.loads(text):
                speed[name]["generation" if test["n_gen"] else "prompt"].append(test["avg_ts"])

    def row(label, unit, value):
        first, second = value("original"), value("compressed")
        print(f"{label:22} {first:12.4g} {second:12.4g} {unit:9} x{second / first:.2f}")

    median = lambda name, kind: statistics.median(speed[name][kind])
    paths = {name: model for name, model, _ in sides}
    print(f"\n{'':22} {'original':>12} {'compressed':>12}")
    row("file", "MB", lambda name: os.path.getsize(paths[name]) / 1e6)
    row("peak memory", "MB", lambda name: memory[name] / 1e6)
    row("start to first token", "s", lambda name: median(name, "first"))
    row("generation", "tokens/s", lambda name: median(name, "generation"))
    row("prompt of 128", "tokens/s", lambda name: median(name, "prompt"))
    print(f"{THREADS} threads; medians of {ROUNDS} interleaved runs")
    if not answers["original"]:
        sys.exit("compare.py: no answer")
    if answers["original"] != answers["compressed"]:
        sys.exit("compare.py: the answers differ")
    print("The answers are the same.")


if __name__ == "__main__":
    main(*sys.argv[1:])
