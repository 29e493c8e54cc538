#!/usr/bin/env bash
# Prints a Python that has numpy and gguf, made once in the cache ($UNWEIGHT_CACHE, by default ~/.cache/unweight-gguf).
set -euo pipefail
cache=${UNWEIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/unweight-gguf}
mkdir -p "$cache"
exec 9>"$cache/python.lock"
flock 9
if [ ! -e "$cache/python/done" ]; then
  rm -rf "$cache/python"
  python3 -m venv "$cache/python" >&2 || { echo "python.sh: python3 cannot make a venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
  "$cache/python/bin/pip" --quiet --disable-pip-version-check install gguf==0.19.0 numpy >&2
  touch "$cache/python/done"
fi
echo "$cache/python/bin/python"
