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
  # shellcheck source=../vendor/xllamacpp/pin
  . "$root/vendor/xllamacpp/pin"
  host=$("$root/tests/tools/venv.sh" host --only-binary :all: "xllamacpp==$xllamacpp") ||
    { echo "Where there is no package for a machine: examples/quickstart.sh --build" >&2; exit 1; }
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
