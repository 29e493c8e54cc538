#!/usr/bin/env bash
# Compresses a model, and has it answer a question in a ready-made llama.cpp from the original and from the compressed file; prints both
# answers, sizes, memory and speed.
#   examples/quickstart.sh [MODEL.gguf]          the llama.cpp of a Python package (34 MB, downloaded once)
#   examples/quickstart.sh --build [MODEL.gguf]  llama.cpp built from source, unchanged: about ten minutes on two cores, once
# Without a model: a small chat model that is downloaded (93 MB). With a full-precision model of yours, the compressed file is written
# beside it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cache=${UNWEIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/unweight-gguf}
plugin=$target/release/libggml_unweight.so
build=
if [ "${1:-}" = --build ]; then
  build=1
  shift
fi

echo "== Building unweight-gguf and the plugin"
cargo build --release --quiet --manifest-path "$root/Cargo.toml"
if [ "$build" ]; then
  echo "== Building llama.cpp, unchanged (once)"
  host=$("$root/vendor/llama.cpp/build.sh" stock)
else
  echo "== Obtaining a llama.cpp: the Python package xllamacpp (once)"
  host=$cache/host/bin/python
  if [ ! -e "$cache/host/done" ]; then
    rm -rf "$cache/host"
    python3 -m venv "$cache/host" || { echo "python3 cannot make a venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
    "$cache/host/bin/pip" --quiet --disable-pip-version-check install --only-binary :all: xllamacpp==2026.10.11549 ||
      { echo "There is no package for this machine: examples/quickstart.sh --build" >&2; exit 1; }
    touch "$cache/host/done"
  fi
fi
if [ $# -gt 0 ]; then model=$1; else
  echo "== Obtaining SmolLM2-135M-Instruct (once)"
  model=$("$here/smollm2.sh")
fi
echo "== Compressing"
line=$("$target/release/unweight-gguf" convert "$model" --force)
echo "$line"
compressed=${line%%.gguf: *}.gguf
"$target/release/unweight-gguf" verify "$compressed" --against "$model"
echo "== Asking both"
python3 "$here/compare.py" "$host" "$plugin" "$model" "$compressed"
echo "== To use it yourself"
if [ "$build" ]; then
  cat <<END
export GGML_BACKEND_PATH=$plugin
$host/llama-completion -m $compressed -p "Why is the sky blue?" --single-turn
END
else
  echo "$host $here/ask.py $compressed $plugin \"Why is the sky blue?\""
fi
