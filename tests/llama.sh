#!/usr/bin/env bash
# The plugin in llama.cpp: the same logits, bit for bit, from the original and from the compressed file, in the same build. Covers
# the stock build with loadable backends, with each CPU backend that the machine can run, and the patched build; ways to load and to
# share; adapters; programs; and what is refused. Builds llama.cpp and makes models where they are absent (cache: $UNWEIGHT_CACHE, by
# default ~/.cache/unweight-gguf). tests/architectures.sh runs many architectures, tests/travel.sh files that other programs changed.
set -euo pipefail
# shellcheck source=tools/checks.sh
. "$(dirname "$0")/tools/checks.sh"
build
patched=$("$root/vendor/llama.cpp/build.sh" patched)

echo "== Making models"
model tied --embd 1024 --ff 2816 --heads 16 --layers 3 --vocab 4096 --tied
model experts --embd 512 --ff 1408 --heads 8 --layers 2 --experts 8
model large # 1 GB
smollm2=$("$root/examples/smollm2.sh")
declare -A original=([tiny]=$tests/data/tiny-bf16.gguf [tied]=$cache/models/test-tied.gguf
  [experts]=$cache/models/test-experts.gguf [large]=$cache/models/test-large.gguf [smollm2]=$smollm2
  [tuned]=$work/tuned-original.gguf [nextn]=$work/nextn-original.gguf [first_multiplied]=$work/first_multiplied-original.gguf)
# Another model of which only some tensors differ, and those not in their low bytes.
"$python" "$tests/tools/rewrite.py" "${original[tied]}" "${original[tuned]}" --negate ffn_
small glm4+nextn "${original[nextn]}"
small llama+q8_0_embeddings "${original[first_multiplied]}"
models_of_kinds
declare -A compressed
for name in "${!original[@]}"; do
  compressed[$name]=$work/${name/\//-}.gguf
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

# alike NAME MODEL ARGUMENTS: the stock build with these arguments of logits; {NAME} in them stands for a model.
alike() {
  local name=$1 model=$2 before=$3 after=$3 other
  for other in "${!original[@]}"; do
    before=${before//"{$other}"/${original[$other]}}
    after=${after//"{$other}"/${compressed[$other]}}
  done
  same "stock, $model, $name" "$stock/logits ${original[$model]} $before" "$loaded $stock/logits ${compressed[$model]} $after"
}

# stops NAME COMMAND: no logits come out, however it ends.
stops() {
  local status=0
  { bash -c "$2" >"$work/first" 2>"$work/errors" </dev/null || status=$?; } 2>/dev/null # no word of this shell's on signals
  if [ "$status" -ne 0 ] && ! grep -q batch "$work/first"; then pass "$1 (status $status)"; else miss "$1"; fi
}

echo "== Stock llama.cpp"
compare stock "$stock" "$loaded" tiny tied experts large smollm2 "${kinds[@]}"
if [ "$(uname -m)" = x86_64 ]; then
  for host in x64 sse42 sandybridge ivybridge piledriver haswell skylakex zen4; do
    # A program looks for backends in its own folder: this one has but one.
    folder=$work/$host
    mkdir "$folder"
    cp "$stock/logits" "$stock/libggml-cpu-$host.so" "$folder"
    if "$folder/logits" "${original[tiny]}" >/dev/null 2>"$work/errors"; then
      compare "stock ($host)" "$folder" "$loaded" tiny tied experts "${kinds[@]}"
    else
      echo "SKIPPED  stock ($host): this machine cannot run that CPU backend"
    fi
  done
fi

echo "== Ways to load"
for mode in auto none mmap mlock mmap+mlock dio; do
  for name in tiny tied experts nextn; do alike "load mode $mode" $name "--load-mode $mode"; done
done
for mode in mmap none; do
  alike "two models, $mode" tiny "--and {tied} --load-mode $mode --threads 2"
  alike "the same file twice, $mode" tied "--and {tied} --load-mode $mode"
  alike "two models that share tensors, $mode" tied "--and {tuned} --load-mode $mode"
  alike "a model that is freed while others compute, $mode" tied "--and {tuned} --and {tied} --free-first --load-mode $mode"
  alike "two contexts at once, $mode" tied "--contexts 2 --load-mode $mode"
  alike "a crowd that loads, computes and frees, $mode" tied "--and {tuned} --and {tied} --crowd 4 --load-mode $mode"
done

echo "== Parts of weights"
# views MODEL TENSOR
views() { succeeds "stock, $1: views and other shapes of weights" env "$loaded" "$stock/views" "${compressed[$1]}" "${original[$1]}" "$2"; }
views tiny blk.0.ffn_down.weight
for kind in f16 f32 bf16_in_f16 bf16_in_f32 f16_in_f32; do views "odd/$kind" blk.0.attn_q.weight; done

echo "== Adapters"
for name in tiny experts; do
  for type in f32 f16 bf16; do
    "$python" "$tests/tools/make_adapter.py" "${original[$name]}" "$work/$name-$type.gguf" --type $type
    for mode in mmap none; do alike "adapter in $type, $mode" $name "--lora $work/$name-$type.gguf --load-mode $mode"; done
  done
done

echo "== An uncompressed model beside the plugin"
for name in tied experts nextn; do
  same "stock, $name: one split" "echo splits = 1" "$loaded $stock/logits ${original[$name]} --splits"
  same "stock, $name: logits" "$stock/logits ${original[$name]}" "$loaded $stock/logits ${original[$name]}"
done

echo "== What is refused"
"$python" "$tests/tools/damage.py" "${compressed[tied]}" "$work/damaged.gguf"
for mode in mmap none; do
  refuses "stock: a damaged index, $mode" damaged "$loaded $stock/logits $work/damaged.gguf --load-mode $mode"
  refuses "stock: a block that is kept elsewhere, $mode" '"blk\.2\.' \
    "$loaded $stock/logits ${compressed[tied]} --elsewhere '^blk[.]2[.]' --load-mode $mode"
  refuses "stock: the index is kept elsewhere, $mode" "index is not here" \
    "$loaded $stock/logits ${compressed[tied]} --elsewhere '^(blk[.]0|token)' --load-mode $mode"
done
succeeds "a ggml with other structures" "$stock/doctored" "$release/libggml_unweight.so"
"$unweight" convert --archive "${original[tied]}" "$work/archive.gguf"
refuses "stock: an archive says what to type" "unweight-gguf restore ARCHIVE.gguf" "$stock/logits $work/archive.gguf"
# Nothing keeps llama.cpp from opening the file without the plugin: it stops at the first compressed weight that it meets. A look-up of
# rows aborts with a message; a product jumps to address 0, and the system kills the program.
stops "stock without the plugin: rows are looked up first" "$stock/logits ${compressed[tied]}"
stops "stock without the plugin: a product comes first" "$stock/logits ${compressed[first_multiplied]}"

echo "== Patched llama.cpp"
compare patched "$patched" "" tiny tied experts smollm2 odd/f16 odd/f32

echo "== Programs"
for build in stock patched; do
  folder=${!build}
  environment=$([ $build = stock ] && echo "$loaded" || echo "")
  # On a busy machine that program loses the end of what it prints, so the beginning is compared.
  ask="-p 'Name three colours.' --single-turn --temp 0 -n 48 -c 512 -t 2"
  answer=">$work/answer && head -c 150 $work/answer"
  same "$build: llama-completion" "$folder/llama-completion -m $smollm2 $ask $answer" \
    "$environment $folder/llama-completion -m ${compressed[smollm2]} $ask $answer"
  same "$build: llama-completion -ot" "$folder/llama-completion -m $smollm2 $ask $answer" \
    "$environment $folder/llama-completion -m ${compressed[smollm2]} $ask -ot 'blk.0.*=CPU' $answer"
  text="-f $root/docs/FORMAT.md -c 256 --chunks 4 -t 2 2>&1 | grep -o 'Final estimate.*'"
  same "$build: llama-perplexity" "$folder/llama-perplexity -m $smollm2 $text" \
    "$environment $folder/llama-perplexity -m ${compressed[smollm2]} $text"
done
names='import sys, gguf; print([(t.name, t.shape.tolist()) for t in sorted(gguf.GGUFReader(sys.argv[1]).tensors, key=lambda t: t.name)])'
same "gguf-py reads the compressed file" "$python -c '$names' $smollm2" "$python -c '$names' ${compressed[smollm2]}"

summary "llama.cpp"
