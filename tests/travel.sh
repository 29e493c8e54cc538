#!/usr/bin/env bash
# A compressed file travels: other programs add and drop keys, reorder, realign, split, merge and copy it. Whatever they have done, it must
# give the original's logits in stock llama.cpp, pass `verify`, and `restore` must give the original's tensors.
set -euo pipefail
# shellcheck source=tools/checks.sh
. "$(dirname "$0")/tools/checks.sh"
models=(llama llama+odd llama+aligned_4096 llama+rows_of_96 llama+experts glm4+nextn deepseek4)

# arrived NAME FILE...: the files (one, or the shards of one, the first of which llama.cpp is given) hold together what $original does.
arrived() {
  local name=$1 file which restored=()
  shift
  same "$name: logits" "$stock/logits $original" "$loaded $stock/logits $1"
  for file in "$@"; do
    which=$([ $# -gt 1 ] && echo " ${file##*/}" || true)
    restored+=("$work/restored-${file##*/}")
    succeeds "$name: verify$which" "$unweight" verify "$file"
    succeeds "$name: restore$which" "$unweight" restore --force "$file" "$work/restored-${file##*/}"
  done
  succeeds "$name: the original's tensors" "$python" "$tests/tools/same_tensors.py" "$original" "${restored[@]}"
  rm -f "${restored[@]}"
}

# rewritten NAME ARGUMENTS...: by gguf-py.
rewritten() {
  local name=$1
  shift
  succeeds "$name: gguf-py" "$python" "$tests/tools/rewrite.py" "$compressed" "$work/rewritten.gguf" "$@"
  arrived "$name" "$work/rewritten.gguf"
}

# split FILE FOLDER TENSORS: by gguf-split, into FOLDER/s-00001-of-….gguf and so on, of so many tensors each.
split() {
  rm -rf "$2"
  mkdir "$2"
  "$stock/llama-gguf-split" --split --split-max-tensors "$3" "$1" "$2/s"
}

# merge FOLDER FILE
merge() {
  rm -f "$2"
  "$stock/llama-gguf-split" --merge "$1"/*-00001-of-*.gguf "$2"
}

travel() {
  local name=$1 shard tensors
  original=$work/original.gguf
  compressed=$work/compressed.gguf
  small "$name" "$original"
  "$unweight" convert --force "$original" "$compressed" >"$work/errors" 2>&1 || { miss "$name: convert"; return; }

  rewritten "$name, a key added" --add general.note=travelled
  rewritten "$name, a key dropped" --drop unweight.writer
  rewritten "$name, tensors reversed" --reverse
  rewritten "$name, aligned to 64" --align 64

  # llama.cpp's own tools break any file that is not aligned to 32, originals too.
  case $name in *+aligned*) return ;; esac

  succeeds "$name: llama-quantize COPY" "$stock/llama-quantize" "$compressed" "$work/copied.gguf" COPY
  arrived "$name, copied" "$work/copied.gguf"

  for tensors in 5 12; do
    succeeds "$name: gguf-split, $tensors tensors a shard" split "$compressed" "$work/shards" "$tensors"
    arrived "$name, split by $tensors" "$work"/shards/*.gguf
    succeeds "$name: gguf-split, merge" merge "$work/shards" "$work/merged.gguf"
    arrived "$name, split by $tensors and merged" "$work/merged.gguf"
  done

  succeeds "$name: gguf-split of the original" split "$original" "$work/plain" 12
  rm -rf "$work/converted"
  mkdir "$work/converted"
  # The first stands for all.
  for shard in "$work"/plain/*-00001-of-*.gguf; do
    succeeds "$name: convert ${shard##*/} and the others" "$unweight" convert "$shard" "$work/converted/${shard##*/}"
  done
  arrived "$name, shards converted" "$work"/converted/*.gguf
  succeeds "$name: gguf-split, merge of converted shards" merge "$work/converted" "$work/merged.gguf"
  arrived "$name, converted shards merged" "$work/merged.gguf"
  succeeds "$name: gguf-split of the merged" split "$work/merged.gguf" "$work/shards" 7
  arrived "$name, converted shards merged and split" "$work"/shards/*.gguf
}

build
for name in "${models[@]}"; do
  echo "== $name"
  travel "$name"
done
summary "travel"
