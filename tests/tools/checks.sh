# shellcheck shell=bash
# What the tests of the plugin in llama.cpp have in common: sourced by tests/llama.sh, architectures.sh and travel.sh. Sets where things
# are, builds this project, and counts checks: each of them prints one line, summary the last one.
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$(cd "$tests/.." && pwd)
cache=${UNWEIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/unweight-gguf}
release=${CARGO_TARGET_DIR:-$root/target}/release
unweight=$release/unweight-gguf
loaded="GGML_BACKEND_PATH=$release/libggml_unweight.so" # before a command: with the plugin
export GGML_NO_BACKTRACE=1 # a debugger that ggml starts when it aborts would print between the results
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

build() {
  echo "== Building"
  cargo build --release --quiet --manifest-path "$root/Cargo.toml"
  stock=$("$root/vendor/llama.cpp/build.sh" stock)
  python=$("$tests/tools/python.sh")
}

pass() { passed=$((passed + 1)); echo "ok    $1"; }
miss() {
  failed=$((failed + 1))
  echo "FAIL  $1"
  tail -n 5 "$work/errors"
}

# runs COMMAND OUTPUT: the command succeeds and prints something.
runs() { bash -c "$1" >"$2" 2>"$work/errors" </dev/null && [ -s "$2" ]; }

# same NAME FIRST SECOND: two commands succeed and print the same, and not nothing.
same() {
  if runs "$2" "$work/first" && runs "$3" "$work/second" && cmp "$work/first" "$work/second" >>"$work/errors" 2>&1; then
    pass "$1"
  else
    miss "$1"
  fi
}

# succeeds NAME COMMAND ARGUMENTS...
succeeds() {
  local name=$1
  shift
  if "$@" >"$work/errors" 2>&1 </dev/null; then pass "$name"; else miss "$name"; fi
}

# refuses NAME MESSAGE COMMAND: the command fails by itself (no signal), says so, and computes nothing.
refuses() {
  local status=0
  bash -c "$3" >"$work/first" 2>"$work/errors" </dev/null || status=$?
  if [ "$status" -gt 0 ] && [ "$status" -lt 128 ] && grep -q "$2" "$work/errors" && ! grep -q batch "$work/first"; then
    pass "$1"
  else
    miss "$1"
  fi
}

# model NAME ARGUMENTS: makes an original in the cache, once.
model() {
  local path=$cache/models/test-$1.gguf
  shift
  mkdir -p "$cache/models"
  if [ ! -e "$path" ]; then
    "$python" "$tests/tools/make_model.py" "$path.part" "$@"
    mv "$path.part" "$path"
  fi
}

# small NAME OUT: one of the models of tests/data/architectures.txt.
small() { "$tests/tools/small_model.sh" make "$1" "$2" "$stock" >"$work/errors" 2>&1 </dev/null; }

# models_of_kinds: makes originals of other kinds than BF16, in `original`, and lists their names in `kinds`: rows of odd lengths, which sums of
# each kind end in another way, and experts with such rows.
models_of_kinds() {
  local kind name
  kinds=()
  for kind in f16 f32 bf16_in_f16 bf16_in_f32 f16_in_f32; do
    for name in odd odd_experts; do
      kinds+=("$name/$kind")
      original[$name/$kind]=$work/$name-$kind-original.gguf
      small "llama+$name/$kind" "${original[$name/$kind]}"
    done
  done
}

# summary WHAT: the last line; fails if a check has failed.
summary() {
  echo "$1: $passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}
