#!/usr/bin/env bash
# Prints a Python that has numpy and gguf.
set -euo pipefail
exec "$(dirname "$0")/venv.sh" python gguf==0.19.0 numpy
