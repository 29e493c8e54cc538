#!/usr/bin/env bash
# Writes plugin/src/host/ggml.rs: the types of ggml's headers that the backend needs and that are alike in all versions; functions are
# in api.rs. For maintainers, when the pinned ggml changes.
#   plugin/bindings.sh LLAMA_CPP_SOURCE
# Needs bindgen (cargo install bindgen-cli) and libclang.
set -euo pipefail
source=${1:?usage: plugin/bindings.sh LLAMA_CPP_SOURCE}/ggml
out=$(dirname "$0")/src/host/ggml.rs
headers=$(mktemp -d)
trap 'rm -rf "$headers"' EXIT
printf '#include "ggml-backend-impl.h"\n#include "ggml-impl.h"\n' >"$headers/ggml.h"
version=$(sed -nE 's/^set\(GGML_VERSION_(MAJOR|MINOR) ([0-9]+)\)/\2/p' "$source/CMakeLists.txt" | paste -sd.)
{
  echo "// Made by plugin/bindings.sh from the headers of ggml $version; do not edit."
  echo '#![allow(dead_code, nonstandard_style, clippy::all)]'
  echo '// Laid out in another way by each version, so that nobody may look inside: layout.rs does.'
  for name in ggml_backend_buffer ggml_backend_buffer_type; do
    printf '#[repr(C)]\npub struct %s {\n    _unused: [u8; 0],\n}\n' $name
  done
  bindgen "$headers/ggml.h" --rust-edition 2024 --rust-target 1.88 --no-layout-tests --use-core --with-derive-default \
    --default-enum-style consts --no-prepend-enum-name --no-doc-comments --merge-extern-blocks --wrap-unsafe-ops \
    --allowlist-type 'ggml_backend_(reg|device|buffer_i|dev_props|feature|set_n_threads_t|set_abort_callback_t|get_features_t)' \
    --allowlist-type 'ggml_backend|ggml_custom_op_t|ggml_cgraph|ggml_context|ggml_init_params|ggml_log_level|ggml_backend_buffer_usage' \
    --blocklist-type 'ggml_backend_buffer(_type)?' \
    --allowlist-var 'GGML_(MAX_OP_PARAMS|N_TASKS_MAX|STATUS_.*|BACKEND_DEVICE_TYPE_.*|BACKEND_BUFFER_USAGE_.*|LOG_LEVEL_.*)' \
    -- -I"$source/include" -I"$source/src" -x c
} >"$headers/ggml.rs"
mv "$headers/ggml.rs" "$out"
