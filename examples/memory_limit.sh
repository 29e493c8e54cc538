#!/usr/bin/env bash
# A model larger than memory: tokens per second of the original and of its compressed form, in pairs, under a memory limit that neither
# file fits, the page cache dropped before each run. Needs root and memory cgroups (version 1 or 2). Prints each pair, and medians.
#   examples/memory_limit.sh ORIGINAL.gguf [LIMIT_MB [PAIRS]]      by default 450 MB and 6 pairs
set -euo pipefail
original=${1:?usage: examples/memory_limit.sh ORIGINAL.gguf [LIMIT_MB [PAIRS]]}
limit=$((${2:-450} << 20))
pairs=${3:-6}
root=$(cd "$(dirname "$0")/.." && pwd)
release=${CARGO_TARGET_DIR:-$root/target}/release
bench=$("$root/vendor/llama.cpp/build.sh" stock)/llama-bench
compressed=$(mktemp -u "${original%.gguf}-XXXXXX.gguf")

fail() { echo "memory_limit.sh: $*" >&2; exit 1; }
if [ -d /sys/fs/cgroup/memory ]; then
  group=/sys/fs/cgroup/memory/unweight-$$ file=memory.limit_in_bytes
else
  group=/sys/fs/cgroup/unweight-$$ file=memory.max
fi
mkdir "$group" || fail "no leave to make a memory cgroup"
trap 'rmdir "$group"; rm -f "$compressed"' EXIT
echo "$limit" >"$group/$file"

"$release/unweight-gguf" convert "$original" "$compressed"

# speed FILE: tokens per second of one run from a cold cache.
speed() {
  sync
  echo 3 >/proc/sys/vm/drop_caches
  bash -c 'echo $$ >"$1/cgroup.procs"; exec "$2" -m "$3" -p 0 -n 16 -r 1 -t 2 -lm mmap -o json' sh "$group" "$bench" "$1" 2>/dev/null |
    grep -o '"avg_ts": [0-9.]*' | cut -d' ' -f2
}

queue=/sys/dev/block/$(findmnt -rno MAJ:MIN --target "$original")
[ -d "$queue/queue" ] || queue=$queue/.. # a partition
echo "the disk reads $(cat "$queue/queue/read_ahead_kb" || echo an unknown number of) KB ahead"
for pair in $(seq "$pairs"); do
  a=$(speed "$original")
  b=$(GGML_BACKEND_PATH=$release/libggml_unweight.so speed "$compressed")
  echo "$a $b"
done | python3 -c '
import statistics, sys
pairs = []
for line in sys.stdin:
    original, compressed = map(float, line.split())
    pairs.append((original, compressed, compressed / original))
    print(f"pair {len(pairs)}: original {original:.3f}, compressed {compressed:.3f} tokens/s, x{compressed / original:.2f}", flush=True)
original, compressed, ratio = (statistics.median(column) for column in zip(*pairs))
print(f"{sys.argv[1]} MB, medians of {len(pairs)} pairs: original {original:.3f}, compressed {compressed:.3f} tokens/s, x{ratio:.2f}")
' "$((limit >> 20))"
