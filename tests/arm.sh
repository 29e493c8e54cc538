#!/usr/bin/env bash
# Program and plugin built for 64-bit ARM, on an emulated machine: the program writes the same bytes as on this one, and llama.cpp with
# each of its ARM CPU backends gives the same logits from the original and from the compressed file. Nothing about speed, and no real
# machine. By hand: it builds llama.cpp for ARM (about ten minutes on two cores, once), and needs a Rust standard library for
# aarch64-unknown-linux-gnu (rustup target add …, or Debian's: see below), a cross compiler, ARM's C libraries and the emulator:
#   dpkg --add-architecture arm64 && apt-get update
#   apt-get install g++-aarch64-linux-gnu qemu-user libc6:arm64 libstdc++6:arm64 libgomp1:arm64 rustc-web libstd-rust-web-dev:arm64
set -euo pipefail
# shellcheck source=tools/checks.sh
. "$(dirname "$0")/tools/checks.sh"

skip() {
  echo "SKIPPED: nothing is tested on ARM: $1 (what to install: tests/arm.sh)"
  summary ARM
  exit
}
target=aarch64-unknown-linux-gnu
has_library() { [ -n "$(find "$("$1" --print target-libdir --target $target 2>/dev/null)" -name 'libstd-*.rlib' 2>/dev/null)" ]; }
if has_library rustc; then
  :
elif [ -x /usr/bin/rustc ] && has_library /usr/bin/rustc; then
  export RUSTC=/usr/bin/rustc
else
  skip "there is no Rust standard library for $target"
fi
for tool in aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v $tool >/dev/null || skip "$tool is missing"
done
for library in libc.so.6 libstdc++.so.6 libgomp.so.1; do
  find /lib/aarch64-linux-gnu /usr/lib/aarch64-linux-gnu -name $library 2>/dev/null | grep -q . || skip "ARM's $library is missing"
done

echo "== Building"
(unset RUSTC && cargo build --release --quiet --manifest-path "$root/Cargo.toml")
# A folder of its own: this compiler may be another one.
CARGO_TARGET_DIR=$cache/aarch64 CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
  cargo build --release --quiet --target $target --manifest-path "$root/Cargo.toml"
arm=$cache/aarch64/$target/release
stock=$("$root/vendor/llama.cpp/build.sh" stock)
on_arm=$("$root/vendor/llama.cpp/build.sh" aarch64)
python=$("$tests/tools/python.sh")
# Signed pointers, which no result depends on, take most of the time otherwise.
emulator="qemu-aarch64 -cpu max,pauth-impdef=on"

echo "== Program"
declare -A original=([tiny]=$tests/data/tiny-bf16.gguf)
models_of_kinds
names=(tiny "${kinds[@]}")
declare -A compressed
for name in "${names[@]}"; do
  compressed[$name]=$work/${name/\//-}.gguf
  "$unweight" convert "${original[$name]}" "${compressed[$name]}" >&2
  $emulator "$arm/unweight-gguf" convert --force "${original[$name]}" "$work/by-arm.gguf" >&2
  succeeds "$name: the same bytes as here" cmp "${compressed[$name]}" "$work/by-arm.gguf"
  succeeds "$name: verify" $emulator "$arm/unweight-gguf" verify "${compressed[$name]}"
  $emulator "$arm/unweight-gguf" restore --force "${compressed[$name]}" "$work/restored.gguf" >&2
  succeeds "$name: restore" cmp "${original[$name]}" "$work/restored.gguf"
done

# near NAME TOLERANCE BEFORE AFTER: the logits differ by so much of their spread at most, and the user is told that they do.
near() {
  local found
  if runs "$3 --values" "$work/first" && runs "$4 --values" "$work/second" &&
    grep -q "in an order that is not known here" "$work/errors" &&
    found=$("$python" "$tests/tools/nearness.py" "$work/first" "$work/second" "$2" 2>>"$work/errors"); then
    pass "$1 differ by $found of their spread, and it says that they do"
  else
    miss "$1"
  fi
}

echo "== Plugin"
for library in "$on_arm"/libggml-cpu-*.so; do
  variant=${library##*/libggml-cpu-}
  variant=${variant%.so}
  folder=$work/$variant
  mkdir "$folder"
  cp "$on_arm/logits" "$library" "$folder"
  for name in "${names[@]}"; do
    before="$emulator $folder/logits ${original[$name]} --threads 2"
    after="GGML_BACKEND_PATH=$arm/libggml_unweight.so $emulator $folder/logits ${compressed[$name]} --threads 2"
    case $variant,$name in
      # Sums in half precision, which ours are not.
      armv8.2_2,*/f16 | armv8.2_2,*/bf16_in_f16) near "$variant, $name: logits" 0.1 "$before" "$after" ;;
      # SVE adds up in as many lanes as the machine has, in 8 registers: other last bits, which rounding to F16 on the way makes larger.
      armv8.2_3,*/* | armv8.6*,*/*) near "$variant, $name: logits" 0.02 "$before" "$after" ;;
      *) same "$variant, $name: logits" "$before" "$after" ;;
    esac
  done
done

summary ARM
