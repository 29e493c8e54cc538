"""Full-precision GGUF models made smaller without changing one bit of them, and run from the smaller bytes.

    import llama_cpp, unweight_gguf             # or xllamacpp
    unweight_gguf.enable()                      # its llama.cpp loads compressed files from now on
    model = llama_cpp.Llama("Model-BF16_UW.gguf")

`convert`, `restore`, `verify` and `inspect` are those of the command line; they show their progress on standard error where that is a
terminal."""

import ctypes
import glob
import json
import os
import shutil
import subprocess
import sys
import sysconfig

__all__ = ["Error", "convert", "enable", "inspect", "plugin", "program", "restore", "verify"]

_HERE = os.path.dirname(os.path.abspath(__file__))


class Error(Exception):
    """What the program says of a file that it refuses."""


def plugin():
    """The path of the plugin, for programs that take it by GGML_BACKEND_PATH."""
    return os.path.join(_HERE, "libggml_unweight.so")


def program():
    """The path of the command line program."""
    name = "unweight-gguf"
    beside = os.path.join(sysconfig.get_path("scripts"), name)
    found = beside if os.path.exists(beside) else shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is neither in {os.path.dirname(beside)} nor on the path")
    return found


def enable(package=None):
    """Loads the plugin into llama-cpp-python or xllamacpp, before a model is loaded; once is enough.

    `package` is the name of one of them; without it, the one that is imported. Raises RuntimeError if there is none, or both, or if the
    plugin cannot work with its llama.cpp; why stands on standard error."""
    found = [name for name in _PACKAGES if name in sys.modules and package in (None, name)]
    if len(found) != 1:
        raise RuntimeError(f"{' and '.join(found) or 'none of ' + ', '.join(_PACKAGES)} imported: name one that is")
    ggml = _PACKAGES[found[0]]()
    ggml.ggml_backend_load.restype = ctypes.c_void_p
    ggml.ggml_backend_load.argtypes = [ctypes.c_char_p]
    if not ggml.ggml_backend_load(os.fsencode(plugin())):
        raise RuntimeError(f"the plugin cannot work with the llama.cpp of {found[0]}; standard error says why")


def _of_llama_cpp():
    # Not llama_cpp._ggml.libggml: that is another copy, which computes nothing.
    return sys.modules["llama_cpp"].llama_cpp._lib


def _of_xllamacpp():
    folder = os.path.dirname(sys.modules["xllamacpp"].__file__)
    return ctypes.CDLL(glob.glob(os.path.join(folder, "xllamacpp*.so"))[0])


_PACKAGES = {"llama_cpp": _of_llama_cpp, "xllamacpp": _of_xllamacpp}


def convert(original, compressed=None, *, archive=False, force=False):
    """Compresses a file and proves it; `archive`: into the fewest bytes, which do not run. Returns the path of the new file: beside the
    original, unless another is given."""
    options = [option for option, wanted in (("--archive", archive), ("--force", force)) if wanted]
    line = _run("convert", original, *([compressed] if compressed else []), *options)
    return os.fspath(compressed) if compressed else line.split(".gguf: ", 1)[0] + ".gguf"


def restore(compressed, original, *, force=False):
    """Gives the original file back, byte for byte, as a file."""
    if os.fspath(original) == "-":
        raise Error("-: standard output is for the command line")
    _run("restore", compressed, original, *(["--force"] if force else []))


def verify(compressed, against=None):
    """Proves that the original is in a file; by comparing it, where one is given."""
    _run("verify", compressed, *(["--against", against] if against else []))


def inspect(path):
    """What was found in each tensor of a file, as a dictionary: sizes in bytes, entropy in bits a weight."""
    return json.loads(_run("inspect", path, "--json"))


def _run(verb, *arguments):
    shown = None if sys.stderr is not None and sys.stderr.isatty() else subprocess.PIPE
    ended = subprocess.run(
        [program(), verb, *map(os.fspath, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=shown, check=False
    )
    if ended.returncode != 0:
        raise Error((ended.stderr or b"").decode(errors="replace").strip() or f"{verb} failed; see above")
    return ended.stdout.decode()
