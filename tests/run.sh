#!/usr/bin/env bash
# All tests: formatting and lints, the library and the program, then the plugin in llama.cpp. The last line counts them.
#   tests/run.sh           everything; builds llama.cpp on the first run (about 15 minutes on two cores)
#   tests/run.sh --quick   without llama.cpp
set -euo pipefail
cd "$(dirname "$0")/.."
passed=0
failed=0
log=$(mktemp)
skipped=$(mktemp)
trap 'rm -f "$log" "$skipped"' EXIT

# step NAME COMMAND...: adds up the "N passed" and "N failed" that the command prints; one that prints none is one test.
step() {
  local name=$1 status=0 good bad
  shift
  echo "=== $name"
  "$@" 2>&1 | tee "$log" || status=$?
  # What cargo cannot run here, later steps do.
  case $1 in cargo) ;; *) grep SKIPPED "$log" >>"$skipped" || true ;; esac
  read -r good bad < <(awk '
    match($0, /[0-9]+ passed[;,] [0-9]+ failed/) { split(substr($0, RSTART), n, /[^0-9]+/); good += n[1]; bad += n[2]; seen = 1 }
    END { print seen ? good : "none", bad + 0 }' "$log")
  if [ "$good" = none ]; then good=$((status == 0)); fi
  if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  passed=$((passed + good))
  failed=$((failed + bad))
}

step "Formatting" cargo fmt --all --check
step "Lints" cargo clippy --quiet --all-targets --workspace -- -D warnings
step "Library and program" cargo test --release --workspace --no-fail-fast
step "Fuzzing, briefly" fuzz/short.sh
step "NEON kernels, emulated" tests/neon.sh
if [ "${1:-}" = --quick ]; then
  echo "SKIPPED: the plugin in llama.cpp (--quick)"
else
  step "Plugin in llama.cpp" tests/llama.sh
  step "Architectures" tests/architectures.sh
  step "Files that travel" tests/travel.sh
  step "Ready-made hosts" tests/hosts.sh
  step "Python wheel" tests/wheel.sh
fi
cat "$skipped"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
