#!/usr/bin/env bash
# By hand: which lines of the library's Rust seeds, and what fuzz/run.sh has learnt, reach; per target and folder, in per cent.
# Needs a nightly Rust with llvm-tools. The C kernels are not counted.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${UNWEIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/unweight-gguf}/fuzz
tools=$(dirname "$(find "$(rustc +nightly --print sysroot)" -name llvm-profdata | head -1)")
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz-coverage
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What runs while it is built is instrumented too.
export LLVM_PROFILE_FILE=$work/build-%p.profraw
RUSTFLAGS="-Cinstrument-coverage" cargo +nightly build --quiet --release --manifest-path fuzz/Cargo.toml
program=$CARGO_TARGET_DIR/release/unweight-fuzz
"$program" seeds "$cache/seeds"
folders=(container codec archive convert kernel)
printf '%-10s %8s' target inputs
printf ' %10s' "${folders[@]}"
echo
for target in $(basename -s .rs -a fuzz/fuzz_targets/*.rs); do
  mapfile -t inputs < <(find "$cache/seeds/$target" "$cache/corpus/$target" -type f 2>/dev/null)
  export LLVM_PROFILE_FILE=$work/$target.profraw
  printf '%s\0' "${inputs[@]}" | xargs -0 -n 100000 "$program" replay "$target" >/dev/null
  "$tools/llvm-profdata" merge -sparse "$work/$target.profraw" -o "$work/$target.profdata"
  printf '%-10s %8d' "$target" ${#inputs[@]}
  for folder in "${folders[@]}"; do
    "$tools/llvm-cov" report "$program" -instr-profile="$work/$target.profdata" --sources "src/$folder" |
      awk '/^TOTAL/ { printf " %9s", $10 }'
  done
  echo
done
