#!/usr/bin/env bash
# The NEON kernels on an emulated machine: checks them against expected weights and against the scalar kernels, and counts the
# instructions that they take. Without a cross compiler or the emulator it says so and passes. The last line counts the checks.
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
compiler=${UNWEIGHT_AARCH64_CC:-aarch64-linux-gnu-gcc}
emulator=${UNWEIGHT_AARCH64_QEMU:-qemu-aarch64}
for tool in "$compiler" "$emulator"; do
  if ! command -v "$tool" >/dev/null; then
    echo "SKIPPED: the NEON kernels are not tested: $tool is missing (Debian: apt-get install gcc-aarch64-linux-gnu qemu-user)"
    echo "0 passed, 0 failed"
    exit 0
  fi
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== Building"
UNWEIGHT_CASES=$work/cases cargo test --release --quiet --no-default-features --manifest-path "$root/Cargo.toml" --test kernel_cases >"$work/log" 2>&1 ||
  { cat "$work/log"; echo "0 passed, 1 failed"; exit 1; }
# Flags and constants as build.rs has them.
mapfile -t defines < <(
  grep -o 'constants::[A-Z0-9_]*' "$root/build.rs" | cut -d: -f3 | sort -u | while read -r name; do
    sed -n "s/^pub const $name: u64 = \([0-9]*\);$/-DUW_RUST_$name=\1/p" "$root/src/codec/constants.rs"
  done
)
(
  cd "$root/src/kernel"
  "$compiler" -O3 -std=gnu11 -ffp-contract=off -Wall -Wextra -Werror -static "${defines[@]}" -I. \
    piece.c scalar.c dispatch.c neon.c ../../tests/tools/kernel_check.c -o "$work/check" -lm
)

step=-singlestep
if "$emulator" -help | grep -q one-insn-per-tb; then step=-one-insn-per-tb; fi

# instructions WHAT ROWS: how many each function takes, from a trace of single steps.
instructions() {
  "$emulator" "$step" -d nochain,exec -D "$work/trace" "$work/check" count "$1" neon "$2" "$work/cases"
  awk '/^Trace/ { n[$NF]++ } END { for (name in n) print name, n[name] }' "$work/trace" | sort
}

# What 40 rows of 2048 weights take more than 8 do.
echo "== Instructions per 64 weights of 3-bit codes, UW_DOT_PLAIN"
for what in decode dot columns plain; do
  instructions "$what" 8 >"$work/few"
  instructions "$what" 40 >"$work/many"
  join -a 2 -e 0 -o 0,1.2,2.2 "$work/few" "$work/many" | awk -v what="$what" '
    { more = ($3 - $2) / (32 * 2048 / 64); all += more; if (more >= 0.5) parts = parts sprintf("  %s %.1f", $1, more) }
    END { printf "%-8s %6.1f %s\n", what (what == "columns" ? " (4)" : ""), all, parts }'
done

echo "== Checking"
status=0
"$emulator" "$work/check" "$work/cases" >"$work/log" || status=$?
cat "$work/log"
if ! tail -n 1 "$work/log" | grep -q ' passed, .* failed$'; then
  echo "The check ended with status $status"
  echo "0 passed, 1 failed"
fi
exit "$status"
