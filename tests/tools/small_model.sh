#!/usr/bin/env bash
# The small models that tests/data/architectures.txt describes.
#   small_model.sh list                  their names, and behind a tab arguments for tests/tools/logits.cpp, or "refused"
#   small_model.sh make NAME OUT BUILD   writes one, with the programs in the folder BUILD (vendor/llama.cpp/build.sh prints it)
# NAME/KIND is the model with its matrices of this kind (tests/tools/small_model.cpp) where nothing else is said of them.
set -euo pipefail
list=$(dirname "$0")/../data/architectures.txt
declare -A group # the arguments that "common" and each @word stand for
declare -A model # the arguments of each model
names=()
while read -r first rest; do
  case $first in
    '' | '#'*) ;;
    common | @*) group[$first]="${group[$first]:-} $rest" ;;
    in)
      read -ra words <<<"$rest"
      for name in "${words[@]:1}"; do names+=("$name/${words[0]}"); done
      ;;
    *)
      names+=("$first")
      model[$first]=$rest
      ;;
  esac
done <"$list"

case ${1:-} in
  list)
    for name in "${names[@]}"; do
      case ${model[${name%/*}]} in
        *::*) printf '%s\t%s\n' "$name" "${model[${name%/*}]##*:: }" ;;
        *) printf '%s\t\n' "$name" ;;
      esac
    done
    ;;
  make)
    name=${2%/*}
    [ -n "${model[$name]+x}" ] || { echo "small_model.sh: no model $name in $list" >&2; exit 1; }
    read -ra words <<<"${group[common]} ${model[$name]%%::*}"
    arguments=("general.architecture=${name%%+*}" "general.name=$2")
    for word in "${words[@]}"; do
      case $word in
        @*)
          read -ra members <<<"${group[$word]}"
          arguments+=("${members[@]}")
          ;;
        *) arguments+=("$word") ;;
      esac
    done
    case $2 in */*) arguments+=(--as "${2#*/}" .) ;; esac
    "$4/small_model" "$3" "${arguments[@]}"
    ;;
  *)
    echo "usage: small_model.sh list | make NAME OUT BUILD" >&2
    exit 1
    ;;
esac
