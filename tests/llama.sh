#!/usr/bin/env bash
# The plugin in llama.cpp: the same logits, bit for bit, from the original and from the compressed file, in the same build. Covers
# the stock build with loadable backends, with each CPU backend that the machine can run, and the patched build. Builds llama.cpp
# and makes models where they are absent (cache: $UNWEIGHT_CACHE, by default ~/.cache/unweight-gguf).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
cache=${UNWEIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/unweight-gguf}
release=${CARGO_TARGET_DIR:-$root/target}/release
unweight=$release/unweight-gguf
plugin=$release/libggml_unweight.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

pass() { passed=$((passed + 1)); echo "ok    $1"; }
miss() {
  failed=$((failed + 1))
  echo "FAIL  $1"
  tail -n 5 "$work/errors"
}

# same NAME FIRST SECOND: two commands succeed and print the same, and not nothing.
same() {
  local name=$1
  if bash -c "$2" >"$work/first" 2>"$work/errors" </dev/null && bash -c "$3" >"$work/second" 2>"$work/errors" </dev/null &&
    [ -s "$work/first" ] && cmp "$work/first" "$work/second" >>"$work/errors" 2>&1; then pass "$name"; else miss "$name"; fi
}

# refuses NAME MESSAGE COMMAND: the command fails by itself (no signal), says so, and computes nothing.
refuses() {
  local name=$1 status=0
  bash -c "$3" >"$work/first" 2>"$work/errors" </dev/null || status=$?
  if [ "$status" -gt 0 ] && [ "$status" -lt 128 ] && grep -q "$2" "$work/errors" && ! grep -q batch "$work/first"; then
    pass "$name"
  else
    miss "$name"
  fi
}

# model NAME ARGUMENTS: makes an original in the cache, once.
model() {
  local path=$cache/models/test-$1.gguf
  shift
  if [ ! -e "$path" ]; then
    "$python" "$here/tools/make_model.py" "$path.part" "$@"
    mv "$path.part" "$path"
  fi
}

echo "== Building"
cargo build --release --quiet --manifest-path "$root/Cargo.toml"
stock=$("$root/vendor/llama.cpp/build.sh" stock)
patched=$("$root/vendor/llama.cpp/build.sh" patched)
python=$("$here/tools/python.sh")

echo "== Making models"
mkdir -p "$cache/models"
model tied --embd 1024 --ff 2816 --heads 16 --layers 3 --vocab 4096 --tied
model experts --embd 512 --ff 1408 --heads 8 --layers 2 --experts 8
model large # 1 GB
smollm2=$("$root/examples/smollm2.sh")
declare -A original=([tiny]=$here/data/tiny-bf16.gguf [tied]=$cache/models/test-tied.gguf
  [experts]=$cache/models/test-experts.gguf [large]=$cache/models/test-large.gguf [smollm2]=$smollm2)
declare -A compressed
for name in "${!original[@]}"; do
  compressed[$name]=$work/$name.gguf
  "$unweight" convert "${original[$name]}" "${compressed[$name]}"
done

# compare BUILD FOLDER ENVIRONMENT MODEL...: logits at one thread and at two.
compare() {
  local build=$1 logits=$2/logits environment=$3 name threads
  shift 3
  for name in "$@"; do
    for threads in 1 2; do
      same "$build, $name, $threads threads: logits" "$logits ${original[$name]} --threads $threads" \
        "$environment $logits ${compressed[$name]} --threads $threads"
    done
  done
}

loaded="GGML_BACKEND_PATH=$plugin"
echo "== Stock llama.cpp"
compare stock "$stock" "$loaded" tiny tied experts large smollm2
if [ "$(uname -m)" = x86_64 ]; then
  for host in x64 sandybridge piledriver haswell skylakex zen4; do
    # A program looks for backends in its own folder: this one has but one.
    folder=$work/$host
    mkdir "$folder"
    cp "$stock/logits" "$stock/libggml-cpu-$host.so" "$folder"
    if "$folder/logits" "${original[tiny]}" >/dev/null 2>"$work/errors"; then
      compare "stock ($host)" "$folder" "$loaded" tiny tied experts
    else
      echo "SKIPPED  stock ($host): this machine cannot run that CPU backend"
    fi
  done
fi
same "stock: two models in one process" \
  "$stock/logits ${original[tiny]} --and ${original[tied]} --threads 2" \
  "$loaded $stock/logits ${compressed[tiny]} --and ${compressed[tied]} --threads 2"
refuses "stock: weights that are not mapped" "load the model with mmap" "$loaded $stock/logits ${compressed[tiny]} --no-mmap"
"$python" - "${compressed[tiny]}" "$work/broken.gguf" <<'END'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
data[data.index(b"UNWEIGHT") + 100] ^= 1
open(sys.argv[2], "wb").write(data)
END
refuses "stock: a damaged pool" "the index is damaged" "$loaded $stock/logits $work/broken.gguf"

echo "== Patched llama.cpp"
compare patched "$patched" "" tiny tied experts smollm2

echo "== Programs"
for build in stock patched; do
  folder=${!build}
  environment=$([ $build = stock ] && echo "$loaded" || echo "")
  ask="-p 'Name three colours.' --single-turn --temp 0 -n 32 -c 512 -t 2"
  same "$build: llama-completion" "$folder/llama-completion -m $smollm2 $ask" \
    "$environment $folder/llama-completion -m ${compressed[smollm2]} $ask"
  text="-f $root/docs/FORMAT.md -c 256 --chunks 4 -t 2 2>&1 | grep -o 'Final estimate.*'"
  same "$build: llama-perplexity" "$folder/llama-perplexity -m $smollm2 $text" \
    "$environment $folder/llama-perplexity -m ${compressed[smollm2]} $text"
done
names='import sys, gguf; print([(t.name, t.shape.tolist()) for t in sorted(gguf.GGUFReader(sys.argv[1]).tensors, key=lambda t: t.name)])'
same "gguf-py reads the compressed file" "$python -c '$names' $smollm2" "$python -c '$names' ${compressed[smollm2]}"

echo "llama.cpp: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
