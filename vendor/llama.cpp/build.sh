#!/usr/bin/env bash
# Fetches the pinned llama.cpp, builds it once, and prints the folder of its programs (llama-bench, -perplexity, -completion,
# -quantize, -gguf-split, and logits, small_model and views for the tests). Nothing is written into the checkout.
#   build.sh stock     unchanged, with loadable backends: GGML_BACKEND_PATH loads the plugin
#   build.sh patched   unweight.patch applied, the backend linked in: no environment variable needed
#   build.sh aarch64   as stock, for ARM, by Debian's cross compiler; only logits and views
# Needs cmake, ninja, a C++ compiler, cargo (which fetches the crate and checks it). The cache is $UNWEIGHT_CACHE, by default
# ~/.cache/unweight-gguf; building takes about ten minutes on two cores, and seconds when nothing has changed.
set -euo pipefail
kind=${1:-stock}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${UNWEIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/unweight-gguf}
# shellcheck source=pin
. "$here/pin"

fail() { echo "build.sh: $*" >&2; exit 1; }
case $kind in stock | patched | aarch64) ;; *) fail "usage: build.sh stock|patched|aarch64" ;; esac
for tool in cmake ninja c++ cargo patch; do
  command -v "$tool" >/dev/null || fail "$tool is missing (Debian: apt-get install g++ cmake ninja-build patch)"
done

# The sources, unpacked by cargo, which compares the download with the checksum in the lock file.
fetch() {
  [ -d "$source" ] && return
  local project=$cache/fetch
  mkdir -p "$project/src"
  : >"$project/src/lib.rs"
  printf '[workspace]\n[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n%s = "=%s"\n' \
    "$crate" "$version" >"$project/Cargo.toml"
  cargo fetch --quiet --manifest-path "$project/Cargo.toml"
  grep -A3 "^name = \"$crate\"" "$project/Cargo.lock" | grep -q "checksum = \"$checksum\"" ||
    fail "$crate $version is not the file that vendor/llama.cpp/pin names"
  local manifest
  manifest=$(cargo metadata --quiet --format-version 1 --manifest-path "$project/Cargo.toml" |
    grep -o "\"manifest_path\":\"[^\"]*/$crate-$version/Cargo.toml\"" | head -1 | cut -d'"' -f4)
  [ -n "$manifest" ] || fail "cargo did not unpack $crate $version"
  rm -rf "$source.part"
  cp -r "$(dirname "$manifest")/llama.cpp" "$source.part"
  # Without this the build numbers itself after whatever repository surrounds it.
  rm -rf "$source.part/.git"
  if [ "$kind" = patched ]; then patch --quiet -p1 -d "$source.part" <"$here/unweight.patch"; fi
  if [ "$kind" = aarch64 ] && ! echo | aarch64-linux-gnu-gcc -march=armv9.2-a+sme -x c -c -o /dev/null - 2>/dev/null; then
    echo "build.sh: this compiler does not know SME: without the CPU backends that need it" >&2
    sed -i '/ggml_add_cpu_backend_variant(.* SME)/d' "$source.part/ggml/src/CMakeLists.txt"
  fi
  mv "$source.part" "$source"
}

flags=(-DCMAKE_BUILD_TYPE=Release -DGGML_CCACHE=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TOOLS=ON
  -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
  -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_NUMBER=1 -DLLAMA_BUILD_COMMIT="crate-$version")
loadable=(-DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_NATIVE=OFF -DGGML_CPU_ALL_VARIANTS=ON)
programs=(llama-bench llama-perplexity llama-completion llama-quantize llama-gguf-split logits small_model)
case $kind in
  stock)
    source=$cache/llama.cpp-$version
    programs+=(doctored)
    flags+=("${loadable[@]}")
    ;;
  aarch64)
    source=$cache/llama.cpp-$version-aarch64
    programs=(logits)
    flags+=("${loadable[@]}" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64
      -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++)
    ;;
  patched)
    source=$cache/llama.cpp-$version-patched-$(sha256sum <"$here/unweight.patch" | cut -c1-8)
    library=${CARGO_TARGET_DIR:-$root/target}/release/libggml_unweight.a
    [ -f "$library" ] || fail "$library is missing: run cargo build --release"
    flags+=(-DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DGGML_UNWEIGHT=ON -DGGML_UNWEIGHT_ROOT="$root"
      -DGGML_UNWEIGHT_LIBRARY="$library")
    ;;
esac

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
fetch
build=$source-build
log=$build.log
[ -x "$build/bin/views" ] || echo "build.sh: this takes about ten minutes on two cores; tail -f $log" >&2
# The checkout may have moved, or be another one: CMake then refuses its old settings, but the objects are good.
if [ -f "$build/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$here" "$build/CMakeCache.txt"; then
  rm -rf "$build/CMakeCache.txt" "$build/CMakeFiles"
fi
{
  cmake -G Ninja -S "$here" -B "$build" -DLLAMA_SOURCE="$source" "${flags[@]}" &&
    ninja -C "$build" "${programs[@]}" views
} >"$log" 2>&1 || { tail -30 "$log" >&2; fail "the build failed; all of it is in $log"; }
echo "$build/bin"
