#!/usr/bin/env bash
# Formatting and lints of this folder, then each target on its seeds and on mutations of them, with a stable Rust. The last line counts targets.
#   fuzz/short.sh [SECONDS]   for each target; by default 2
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
manifest=(--manifest-path fuzz/Cargo.toml)
cargo fmt "${manifest[@]}" --check
cargo clippy --quiet "${manifest[@]}" --all-targets -- -D warnings
cargo run --quiet --release "${manifest[@]}" -- short "${1:-2}"
