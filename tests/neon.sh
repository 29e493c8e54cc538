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
cd "$root"
# shellcheck source=tools/kernel_flags.sh
. tests/tools/kernel_flags.sh
(
  cd "$root/src/kernel"
  "$compiler" -O3 -std=gnu11 -ffp-contract=off -Wall -Wextra -Werror -static "${kernel_defines[@]}" -I. \
    piece.c scalar.c dispatch.c neon*.c ../../tests/tools/kernel_check.c -o "$work/check" -lm
)

step=-singlestep
if "$emulator" -help | grep -q one-insn-per-tb; then step=-one-insn-per-tb; fi

# instructions WHAT ORIGINAL ENCODING ROWS: how many each function takes, from a trace of single steps.
instructions() {
  "$emulator" "$step" -d nochain,exec -D "$work/trace" "$work/check" count "$1" neon "$2" "$3" "$4" "$work/cases"
  awk '/^Trace/ { n[$NF]++ } END { for (name in n) print name, n[name] }' "$work/trace" | sort
}

# count WHAT ORIGINAL ENCODING: what 40 rows of 2048 weights take more than 8 do.
count() {
  instructions "$1" "$2" "$3" 8 >"$work/few"
  instructions "$1" "$2" "$3" 40 >"$work/many"
  join -a 2 -e 0 -o 0,1.2,2.2 "$work/few" "$work/many" | awk -v what="$1" '
    BEGIN { columns["columns"] = " (4)"; columns["tile"] = " (6)" }
    { more = ($3 - $2) / (32 * 2048 / 64); all += more; if (more >= 0.5) parts = parts sprintf("  %s %.1f", $1, more) }
    END { printf "  %-12s %6.1f %s\n", what columns[what], all, parts }'
}

# Numbers as uw_number counts them.
echo "== Instructions per 64 weights"
while read -r original encoding name; do
  echo "$name"
  for what in decode dot columns tile plain; do
    # ggml has no tiles of BF16 on ARM.
    if [ "$what $original" != "tile 0" ]; then count "$what" "$original" "$encoding"; fi
  done
done <<'WAYS'
0 1 BF16, 3-bit codes
0 2 BF16, 4-bit codes
1 1 F16 stored as BF16
1 3 F16
2 1 F32 stored as BF16
2 3 F32 stored as F16
2 4 F32, 3-bit codes
2 5 F32, 4-bit codes
WAYS

echo "== Checking"
status=0
"$emulator" "$work/check" "$work/cases" >"$work/log" || status=$?
cat "$work/log"
if ! tail -n 1 "$work/log" | grep -q ' passed, .* failed$'; then
  echo "The check ended with status $status"
  echo "0 passed, 1 failed"
fi
exit "$status"
