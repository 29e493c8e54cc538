#!/usr/bin/env bash
# Builds the Python wheel, with the program and the plugin in it, and prints its path. Needs maturin (pip install maturin).
#   python/build.sh [PYTHON-THAT-HAS-MATURIN]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
python=${1:-python3}
case $python in */*) python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") ;; esac # it is run in another folder
cargo build --release --quiet --manifest-path "$root/Cargo.toml"
install -m 755 "$target/release/libggml_unweight.so" "$here/unweight_gguf/"
rm -rf "$target/wheels" "$here/data"
"$target/release/unweight-gguf" pages "$here/data/data" >/dev/null
(cd "$here" && CARGO_TARGET_DIR=$target "$python" -m maturin build --quiet --release --auditwheel skip --out "$target/wheels") >&2
ls "$target"/wheels/*.whl
