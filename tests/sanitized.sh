#!/usr/bin/env bash
# By hand: the kernels and the library watched while they work on whole and on damaged data.
#   tests/sanitized.sh             all of it, about 40 minutes on two cores
#   tests/sanitized.sh STEP...     kernels (GCC's AddressSanitizer and UndefinedBehaviorSanitizer), valgrind, address, threads (nightly Rust
#                                  with rust-src: Rust and C under AddressSanitizer, under ThreadSanitizer)
# The last line counts what passed.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/kernel_flags.sh
. tests/tools/kernel_flags.sh
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(kernels valgrind address threads)
passed=0
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# step NAME COMMAND...
step() {
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1 && ! grep -aq "ok. 0 passed; .* 0 filtered" "$work/log" && grep -aqE "[1-9][0-9]* passed" "$work/log"; then
    echo "ok       $name: $(grep -aE 'passed' "$work/log" | tail -1)"
    passed=$((passed + 1))
  else
    echo "FAILED   $name"
    tail -40 "$work/log"
    failed=$((failed + 1))
  fi
}

# watched COMMAND...: only what its watcher says counts. The checker also compares products of words that no writer writes, which FORMAT.md
# lets every instruction set read as it likes: then it ends with 1. Comparing is the business of tests/kernel.rs.
watched() {
  local status=0
  ASAN_OPTIONS=detect_leaks=0:exitcode=99 UBSAN_OPTIONS=exitcode=99:halt_on_error=1 "$@" || status=$?
  [ "$status" -le 1 ]
}

# check FLAGS: builds the checker of the kernels for this machine, each file with its flags as build.rs has them.
check() {
  local file flags objects=()
  local avx2 avx512
  avx2=$(kernel_flags AVX2)
  avx512=$(kernel_flags AVX512)
  for file in piece scalar archive archive_scalar dispatch ssse3 avx2 archive_avx2 avx512 archive_avx512 avx512bf16; do
    case $file in
      ssse3) flags=-mssse3 ;;
      *avx2) flags=$avx2 ;;
      *avx512) flags="$avx2 $avx512" ;;
      avx512bf16) flags="$avx2 $avx512 -mavx512bf16" ;;
      *) flags= ;;
    esac
    # shellcheck disable=SC2086
    cc -g -O2 -std=gnu11 -ffp-contract=off $1 $flags "${kernel_defines[@]}" -Isrc/kernel -c "src/kernel/$file.c" -o "$work/$file.o"
    objects+=("$work/$file.o")
  done
  # shellcheck disable=SC2086
  cc -g -O1 $1 -Isrc/kernel tests/tools/kernel_check.c "${objects[@]}" -o "$work/check" -lm
  UNWEIGHT_CASES=$work/cases cargo test --release --quiet --no-default-features --test kernel_cases >/dev/null
}

nightly() {
  local sanitizer=$1 target
  shift
  target=$(uname -m)-unknown-linux-gnu
  RUSTFLAGS="-Zsanitizer=$sanitizer" CFLAGS="-fsanitize=$sanitizer" ASAN_OPTIONS=detect_leaks=0 \
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/sanitized-$sanitizer \
    cargo +nightly test -Zbuild-std --release --no-default-features --features convert --target "$target" "$@"
}

for what in "${steps[@]}"; do
  case $what in
    kernels)
      check "-fsanitize=address,undefined -fno-sanitize-recover=all"
      step "kernels, AddressSanitizer and UndefinedBehaviorSanitizer" watched "$work/check" "$work/cases"
      ;;
    valgrind)
      # It has no AVX-512, and says so to the programs that it runs.
      check ""
      step "kernels, valgrind" watched valgrind -q --error-exitcode=99 "$work/check" "$work/cases"
      ;;
    address) step "library, AddressSanitizer" nightly address --lib --test archive --test kernel --test container ;;
    threads) step "library, ThreadSanitizer" nightly thread --lib --test container -- golden archives round_trip positions ;;
    *)
      echo "no such step: $what" >&2
      exit 2
      ;;
  esac
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
