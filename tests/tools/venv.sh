#!/usr/bin/env bash
# Prints a Python that has some packages, made once in the cache ($UNWEIGHT_CACHE, by default ~/.cache/unweight-gguf).
#   venv.sh NAME PIP-ARGUMENTS...
set -euo pipefail
name=$1
shift
cache=${UNWEIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/unweight-gguf}
mkdir -p "$cache"
exec 9>"$cache/$name.lock"
flock 9
if [ ! -e "$cache/$name/done" ]; then
  rm -rf "${cache:?}/$name"
  python3 -m venv "$cache/$name" >&2 || { echo "venv.sh: python3 cannot make a venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
  "$cache/$name/bin/pip" --quiet --disable-pip-version-check install "$@" >&2
  touch "$cache/$name/done"
fi
echo "$cache/$name/bin/python"
