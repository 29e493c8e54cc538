#!/usr/bin/env bash
# By hand: searches with libFuzzer under AddressSanitizer, Rust and C both instrumented.
#   fuzz/run.sh SECONDS [TARGET...]   each target, or all, for so long, one after the other; what was found stands in fuzz/artifacts
# Needs a nightly Rust, cargo-fuzz and clang. What a run has learnt stays in $UNWEIGHT_CACHE, by default ~/.cache/unweight-gguf.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?seconds for each target}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs -a fuzz/fuzz_targets/*.rs)
cache=${UNWEIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/unweight-gguf}/fuzz
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz RAYON_NUM_THREADS=1
cargo run --quiet --release --manifest-path fuzz/Cargo.toml -- seeds "$cache/seeds"
# The kernels too; their code for other instruction sets is instrumented like the rest.
export CC=clang CFLAGS="-fsanitize=address -fsanitize-coverage=inline-8bit-counters,pc-table,trace-cmp"
cargo +nightly fuzz build --features libfuzzer
status=0
for target in "${targets[@]}"; do
  mkdir -p "$cache/corpus/$target" "fuzz/artifacts/$target"
  echo "=== $target"
  regressions=()
  if [ -d "fuzz/regressions/$target" ]; then regressions=("fuzz/regressions/$target"); fi
  # Inputs are small, and nothing may ask for much more memory than they have bytes.
  "$CARGO_TARGET_DIR/$(uname -m)-unknown-linux-gnu/release/$target" -max_total_time="$seconds" -max_len=150000 -timeout=30 \
    -malloc_limit_mb=256 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" \
    "$cache/corpus/$target" "$cache/seeds/$target" "${regressions[@]}" 2>"$cache/$target.log" || status=1
  grep -E "INITED|DONE|ERROR|SUMMARY|panicked|number_of_executed_units|peak_rss" "$cache/$target.log" || true
done
exit "$status"
