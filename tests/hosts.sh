#!/usr/bin/env bash
# The plugin in ready-made llama.cpps, which nobody built for it: the same probabilities, bit for bit, from the original and from the
# compressed file, and from an original beside the plugin. Python wheels of xllamacpp stand for many versions of ggml, the npm package
# node-llama-cpp for programs that keep ggml to themselves, Debian's llama-server for servers. Downloads some 400 MB once, into the cache.
# docs/COMPATIBILITY.md lists what this found.
#   tests/hosts.sh              all but
#   tests/hosts.sh --gpu        a build with a GPU, too: 70 MB more, and some minutes
#   tests/hosts.sh --sources    a Python package that comes as sources, too: five to ten minutes to build, once
set -euo pipefail
# shellcheck source=tools/checks.sh
. "$(dirname "$0")/tools/checks.sh"
cargo build --release --quiet --manifest-path "$root/Cargo.toml"
python=$("$tests/tools/python.sh")
plugin=$release/libggml_unweight.so
hosts=$cache/hosts
mkdir -p "$hosts"

# Newest and oldest that works, the ends of each layout (docs/COMPATIBILITY.md), and the last that is too old.
# shellcheck source=../vendor/xllamacpp/pin
. "$root/vendor/xllamacpp/pin"
wheels=("$xllamacpp" 2026.9.10809 2026.8.10229 2026.7.9873 2026.6.9538 2026.5.9093)
too_old=2026.4.8672
node_llama_cpp=3.22.1
llama_cpp_python=0.3.36

# wheel VERSION: prints its folder.
wheel() {
  local folder=$hosts/xllamacpp-$1
  if [ ! -d "$folder" ]; then
    rm -rf "$folder.part"
    "$python" -m pip --quiet --disable-pip-version-check install --no-deps --only-binary :all: --target "$folder.part" "xllamacpp==$1" >&2
    mv "$folder.part" "$folder"
  fi
  echo "$folder"
}

echo "== Making models"
# Rows of 172 weights: versions before 0.26 leave what is no multiple of a vector to another function.
odd=$work/odd-original.gguf
"$python" "$tests/tools/make_model.py" "$odd" --embd 64 --ff 172 --heads 8 --kv-heads 4 --layers 5
declare -A original=([odd]=$odd [smollm2]=$("$root/examples/smollm2.sh"))
for type in f16 f32; do
  original[odd-$type]=$work/odd-$type-original.gguf
  "$python" "$tests/tools/cast.py" "$odd" "${original[odd-$type]}" $type proper
done
declare -A compressed
for name in "${!original[@]}"; do
  compressed[$name]=$work/$name.gguf
  "$unweight" convert "${original[$name]}" "${compressed[$name]}" >&2
done

# compare HOST COMMAND PLUGGED: two commands that take a model, without and with the plugin.
compare() {
  local name
  for name in "${!original[@]}"; do
    same "$1, $name: compressed" "$2 ${original[$name]}" "${3/MODEL/${compressed[$name]}}"
    same "$1, $name: an original beside the plugin" "$2 ${original[$name]}" "${3/MODEL/${original[$name]}}"
  done
}

echo "== Python: xllamacpp"
if [ "$(uname -sm)" = "Linux x86_64" ]; then
  for version in "${wheels[@]}"; do
    command="PYTHONPATH=$(wheel "$version") $python $tests/tools/wheel_logprobs.py"
    compare "xllamacpp $version" "$command" "$command MODEL $plugin"
    sed -n 's/^ggml /  that was ggml /p' "$work/first"
  done
  command="PYTHONPATH=$(wheel $too_old) $python $tests/tools/wheel_logprobs.py"
  succeeds "two ggmls in one process" "$python" "$tests/tools/two_ggmls.py" "$plugin" \
    "$(wheel "${wheels[0]}")"/xllamacpp/*.so "$(wheel "${wheels[2]}")"/xllamacpp/*.so
  refuses "xllamacpp $too_old: too old" "unweight: ggml 0.9.11 of this program cannot be worked with" "$command ${compressed[odd]} $plugin"
else
  echo "SKIPPED  xllamacpp: there is no wheel for this machine here"
fi

if [ "${1:-}" = --sources ]; then
  echo "== Python: llama-cpp-python"
  package=$hosts/llama-cpp-python-$llama_cpp_python
  if [ ! -d "$package" ]; then
    rm -rf "$package.part"
    # The libraries only: it would build llama.cpp's programs, too.
    CMAKE_ARGS="-DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF
      -DLLAMA_BUILD_COMMON=OFF" CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) \
      "$python" -m pip --quiet --disable-pip-version-check install --target "$package.part" "llama-cpp-python==$llama_cpp_python" >&2
    mv "$package.part" "$package"
  fi
  command="PYTHONPATH=$package $python $tests/tools/llama_cpp_logprobs.py"
  compare "llama-cpp-python $llama_cpp_python" "$command" "$command MODEL $plugin"
fi

echo "== Node: node-llama-cpp"
if command -v npm >/dev/null && [ "$(uname -sm)" = "Linux x86_64" ]; then
  modules=$hosts/node-llama-cpp-$node_llama_cpp
  if [ ! -d "$modules" ]; then
    rm -rf "$modules.part"
    mkdir "$modules.part"
    npm install --silent --no-audit --no-fund --ignore-scripts --omit optional --prefix "$modules.part" \
      "node-llama-cpp@$node_llama_cpp" "@node-llama-cpp/linux-x64@$node_llama_cpp" >&2
    mv "$modules.part" "$modules"
  fi
  command="node $tests/tools/node_probabilities.mjs $modules"
  compare "node-llama-cpp $node_llama_cpp" "$command" "$command MODEL $plugin"
else
  echo "SKIPPED  node-llama-cpp: npm is missing, or there is no package for this machine"
fi

echo "== Debian: llama-server"
# debian NAME PACKAGES...: prints the folder that they are unpacked into, with their own C library, to be run from there.
debian() {
  local folder=$hosts/debian-sid-$1 part=$hosts/debian-sid-$1.part package
  shift
  if [ ! -d "$folder" ]; then
    rm -rf "$part"
    mkdir -p "$part"/{lists/partial,archives/partial}
    : >"$part/status"
    echo "deb [signed-by=$keyring] http://deb.debian.org/debian sid main" >"$part/sources"
    local apt=(-q -q -o "Dir::State=$part" -o "Dir::State::status=$part/status" -o "Dir::Cache=$part" -o "Dir::Etc::sourcelist=$part/sources"
      -o Dir::Etc::sourceparts=- -o APT::Install-Recommends=0 -o Debug::NoLocking=1 -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update >&2
    apt-get "${apt[@]}" -y --download-only install "$@" >&2
    for package in "$part"/archives/*.deb; do dpkg -x "$package" "$part/root"; done
    mv "$part" "$folder"
  fi
  echo "$folder/root"
}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
if command -v apt-get >/dev/null && [ -e $keyring ] && [ "$(dpkg --print-architecture)" = amd64 ]; then
  system=$(debian tools llama.cpp-tools)
  libraries=$system/usr/lib/x86_64-linux-gnu
  # It looks for CPU backends in the folder that it runs in, too.
  server="$system/usr/lib64/ld-linux-x86-64.so.2 --library-path $libraries:$libraries/llama $system/usr/bin/llama-server -t 2"
  "$python" "$tests/tools/make_adapter.py" "${original[smollm2]}" "$work/adapter.gguf"
  # ask NAME WHAT ARGUMENTS: {} in them is the model.
  ask() {
    local command="cd $libraries/ggml/backends0 && ENVIRONMENT $python $tests/tools/server_answers.py $2 -- $server -m {} $3"
    local before=${command//"{}"/${original[smollm2]}} after=${command//"{}"/${compressed[smollm2]}}
    same "llama-server, $1" "${before/ENVIRONMENT/}" "${after/ENVIRONMENT/$loaded}"
  }
  ask "chat, streamed" chat "-np 1"
  ask "four slots" slots "-np 4"
  ask "context shift" long "-np 1 -c 256 --context-shift"
  ask "draft model" chat "-np 1 -md {}"
  ask "embeddings" embedding "--embeddings --pooling mean"
  ask "LoRA" chat "-np 1 --lora $work/adapter.gguf"
  # A drop-in file has to be called like a backend that llama.cpp knows, and is loaded before there is a CPU.
  cp -r "$libraries/ggml/backends0" "$work/drop-in"
  cp "$plugin" "$work/drop-in/libggml-zendnn-unweight.so"
  command="cd $work/drop-in && $python $tests/tools/server_answers.py chat -- $server -np 1 -m"
  same "llama-server, a drop-in file" "$command ${original[smollm2]}" "$command ${compressed[smollm2]}"
  if [ "${1:-}" = --gpu ]; then
    echo "== A GPU: Vulkan on a driver that runs on the CPU"
    system=$(debian vulkan llama.cpp-tools libggml0-backend-vulkan mesa-vulkan-drivers)
    libraries=$system/usr/lib/x86_64-linux-gnu
    sed "s#\"library_path\": *\"[^\"]*\"#\"library_path\": \"$libraries/libvulkan_lvp.so\"#" \
      "$system/usr/share/vulkan/icd.d/lvp_icd.json" >"$work/driver.json"
    server="$system/usr/lib64/ld-linux-x86-64.so.2 --library-path $libraries:$libraries/llama $system/usr/bin/llama-server -t 2 -np 1"
    command="cd $libraries/ggml/backends0 && ENVIRONMENT $python $tests/tools/server_answers.py text -- $server"
    gpu="VK_DRIVER_FILES=$work/driver.json GGML_VK_VISIBLE_DEVICES=0 $loaded"
    # Its own sums differ in their last bits, so that only the words are compared.
    same "llama-server with a GPU: the words of the CPU" "${command/ENVIRONMENT/} -ngl 0 -m ${original[smollm2]}" \
      "${command/ENVIRONMENT/$gpu} -lv 4 -m ${compressed[smollm2]} 2>&1 >$work/words | tee $work/log >&2; cat $work/words"
    succeeds "llama-server with a GPU: it says where the weights are" grep -q "this program has a GPU" "$work/log"
    succeeds "llama-server with a GPU: and uses it for the rest" grep -q "offloaded .* layers to GPU" "$work/log"
  fi
else
  echo "SKIPPED  Debian's llama-server: no apt-get, no keyring of Debian, or no package for this machine"
fi

summary "Ready-made hosts"
