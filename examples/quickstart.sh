#!/usr/bin/env bash
# Builds everything, compresses a model, and has it answer a question in stock llama.cpp from the original and from the compressed
# file; prints both answers, sizes, memory and speed.
#   examples/quickstart.sh                 with a small chat model that is downloaded (93 MB)
#   examples/quickstart.sh MODEL.gguf      with a full-precision model of yours; the compressed file is written beside it
# The first run builds llama.cpp, which takes about ten minutes on two cores.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

echo "== Building unweight-gguf and the plugin"
cargo build --release --quiet --manifest-path "$root/Cargo.toml"
echo "== Building llama.cpp, unchanged (once)"
bin=$("$root/vendor/llama.cpp/build.sh" stock)
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
plugin=$target/release/libggml_unweight.so
python3 "$here/compare.py" "$bin" "$plugin" "$model" "$compressed"
cat <<END
== To use it yourself
export GGML_BACKEND_PATH=$plugin
$bin/llama-completion -m $compressed -p "Why is the sky blue?" --single-turn
END
