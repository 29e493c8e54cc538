"""Two ggmls in one process, as where a program uses two packages: the one that loads the plugin has it, whichever came first, and the
other is refused. Fails if not.

    two_ggmls.py PLUGIN LIBRARY OTHER_LIBRARY"""
import ctypes
import os
import sys
import tempfile

plugin, *paths = sys.argv[1:]
ggmls = [ctypes.CDLL(path, mode=os.RTLD_LOCAL | os.RTLD_NOW) for path in paths]
for ggml in ggmls:
    ggml.ggml_version.restype = ctypes.c_char_p
    ggml.ggml_backend_load.restype = ggml.ggml_backend_reg_by_name.restype = ctypes.c_void_p
first, second = ggmls
assert first.ggml_version() != second.ggml_version(), "the same ggml twice"
assert second.ggml_backend_load(plugin.encode()), "refused by the one that asked first"
with tempfile.TemporaryFile() as said:
    stderr = os.dup(2)
    os.dup2(said.fileno(), 2)
    loaded = first.ggml_backend_load(plugin.encode())
    os.dup2(stderr, 2)
    said.seek(0)
    message = said.read().decode()
assert not loaded and "belongs to another ggml of this process" in message, message
assert second.ggml_backend_reg_by_name(b"Unweight") and not first.ggml_backend_reg_by_name(b"Unweight")
