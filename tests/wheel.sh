#!/usr/bin/env bash
# The Python wheel, in a fresh virtual environment: built, installed beside xllamacpp, and used as its documentation says.
set -euo pipefail
# shellcheck source=tools/checks.sh
. "$(dirname "$0")/tools/checks.sh"
# shellcheck source=../vendor/xllamacpp/pin
. "$root/vendor/xllamacpp/pin"
wheel=$("$root/python/build.sh" "$("$tests/tools/venv.sh" maturin maturin==1.16.0)")
python3 -m venv "$work/venv"
if ! "$work/venv/bin/pip" --quiet --disable-pip-version-check install --only-binary :all: "$wheel" "xllamacpp==$xllamacpp" 2>"$work/errors"; then
  miss "pip install"
  summary "Wheel"
fi
smollm2=$("$root/examples/smollm2.sh")
cat >"$work/use.py" <<'PYTHON'
import os, sys
import unweight_gguf
original, folder = sys.argv[1:]
compressed = unweight_gguf.convert(original, os.path.join(folder, "model.gguf"))
assert os.path.getsize(compressed) < 0.72 * os.path.getsize(original)
unweight_gguf.verify(compressed)
unweight_gguf.verify(compressed, against=original)
unweight_gguf.restore(compressed, os.path.join(folder, "again.gguf"))
assert open(os.path.join(folder, "again.gguf"), "rb").read() == open(original, "rb").read()
assert unweight_gguf.inspect(compressed)["unweight"]["metadata_untouched"]
try:
    unweight_gguf.verify(original)
except unweight_gguf.Error as error:
    assert original in str(error), error
else:
    raise AssertionError("a file that is not compressed is refused")
try:
    unweight_gguf.enable()
except RuntimeError:
    pass
else:
    raise AssertionError("there is nothing to load the plugin into")
PYTHON
cat >"$work/run.py" <<'PYTHON'
import json, os, sys, urllib.request
import unweight_gguf, xllamacpp
if sys.argv[2:]:
    unweight_gguf.enable()
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup = sys.argv[1], 512, 1, False
server = xllamacpp.Server(params)
wanted = {"prompt": "Once upon a time", "n_predict": 24, "temperature": 0, "n_probs": 5}
with urllib.request.urlopen(server.listening_address + "/completion", json.dumps(wanted).encode()) as answer:
    print(json.load(answer)["completion_probabilities"], flush=True)
os._exit(0)
PYTHON
mkdir "$work/files"
succeeds "convert, verify, restore, inspect" "$work/venv/bin/python" "$work/use.py" "$smollm2" "$work/files"
same "enable(): the same probabilities" "$work/venv/bin/python $work/run.py $smollm2" "$work/venv/bin/python $work/run.py $work/files/model.gguf plugged"
succeeds "the program is installed" "$work/venv/bin/unweight-gguf" --version
summary "Wheel"
