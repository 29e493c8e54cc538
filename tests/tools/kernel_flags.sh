# Flags with which build.rs compiles the kernels, out of build.rs itself; to be sourced in the root of the repository.

# Constants that C checks: -DUW_RUST_… for each.
mapfile -t kernel_defines < <(
  grep -o 'constants::[A-Z0-9_]*' build.rs | cut -d: -f3 | sort -u | while read -r name; do
    sed -n "s/^pub const $name: u64 = \([0-9]*\);$/-DUW_RUST_$name=\1/p" src/codec/constants.rs
  done
)

# kernel_flags NAME: the words of a constant of build.rs: AVX2, AVX512.
kernel_flags() { sed -n "s/^const $1: Words = &\[\(.*\)\];$/\1/p" build.rs | tr -d '",'; }
