#!/usr/bin/env bash
# Small models of many architectures (tests/data/architectures.txt): each is converted, verified and run in stock llama.cpp, where it must
# give the original's logits bit for bit; so must the original when the plugin is merely loaded. What stock llama.cpp itself cannot load
# or run is skipped, with its reason.
#   tests/architectures.sh [NAME...]             all, or only these
#   tests/architectures.sh --in KIND [NAME...]   with matrices of this kind (tests/tools/small_model.cpp)
set -euo pipefail
# shellcheck source=tools/checks.sh
. "$(dirname "$0")/tools/checks.sh"
at_least=45 # architectures that must have run
declare -A ran
kind=
if [ "${1:-}" = --in ]; then
  kind=/$2
  shift 2
fi

# The last thing that a program said before it failed, without progress bars and notes.
reason() { grep -v -e '^\.*$' -e '^load' "$work/errors" | tail -n 1; }

# percent PART WHOLE: by the sizes of two files.
percent() { awk -v a="$(stat -c %s "$1")" -v b="$(stat -c %s "$2")" 'BEGIN { printf "%.1f %%", 100 * a / b }'; }

# check NAME ARGUMENTS-OF-LOGITS
check() {
  local name=$1 original=$work/original.gguf compressed=$work/compressed.gguf logits="$stock/logits"
  if ! small "$name" "$original"; then
    echo "SKIPPED  $name: llama.cpp cannot make it: $(reason)"
  elif [ "$2" = refused ]; then
    refuses "$name: convert refuses it" "it would not get smaller" "$unweight convert --force $original $compressed"
  elif ! runs "$logits $original $2" "$work/first"; then
    echo "SKIPPED  $name: llama.cpp cannot run it: $(reason)"
  elif ! "$unweight" convert --force "$original" "$compressed" >"$work/errors" 2>&1; then
    if [ "$kind" ] && grep -q "it would not get smaller" "$work/errors"; then
      echo "SKIPPED  $name: it would not get smaller"
    else
      miss "$name: convert"
    fi
  elif ! "$unweight" verify "$compressed" >"$work/errors" 2>&1; then
    miss "$name: verify"
  elif ! { runs "$loaded $logits $compressed $2" "$work/second" && cmp "$work/first" "$work/second" >>"$work/errors" 2>&1; }; then
    miss "$name: logits"
  elif ! { runs "$loaded $logits $original $2" "$work/second" && cmp "$work/first" "$work/second" >>"$work/errors" 2>&1; }; then
    miss "$name: logits of the original with the plugin loaded"
  else
    ran[${name%%[+/]*}]=1
    pass "$name, $(percent "$compressed" "$original")"
  fi
}

build
echo "== Small models"
while IFS=$'\t' read -r name arguments; do
  case $kind$name in /*/*) continue ;; esac
  case " $* " in '  ' | *" $name "*) check "$name$kind" "$arguments" ;; esac
done < <("$tests/tools/small_model.sh" list)

if [ $# -eq 0 ]; then
  echo "${#ran[@]} architectures"
  : >"$work/errors"
  if [ "${#ran[@]}" -ge $at_least ]; then pass "at least $at_least architectures"; else miss "at least $at_least architectures"; fi
fi
summary "architectures"
