#!/usr/bin/env python3
"""Compares the tensors of GGUF files as gguf-py reads them: names, types, shapes and bytes, in any order.

    same_tensors.py FILE OTHER...     the tensors of FILE are those of the others together"""
import sys

import gguf


def tensors(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def difference(one, other):
    if one.tensor_type != other.tensor_type:
        return f"{one.tensor_type.name} and {other.tensor_type.name}"
    if one.shape.tolist() != other.shape.tolist():
        return f"{one.shape.tolist()} and {other.shape.tolist()}"
    return None if one.data.tobytes() == other.data.tobytes() else "bytes differ"


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    ours, theirs = tensors(sys.argv[1]), {}
    for path in sys.argv[2:]:
        for name, tensor in tensors(path).items():
            if name in theirs:
                raise SystemExit(f"same_tensors.py: {name} is there twice")
            theirs[name] = tensor
    if ours.keys() != theirs.keys():
        raise SystemExit(f"same_tensors.py: only on one side: {sorted(ours.keys() ^ theirs.keys())}")
    for name, tensor in ours.items():
        if found := difference(tensor, theirs[name]):
            raise SystemExit(f"same_tensors.py: {name}: {found}")
    print(f"{len(ours)} tensors are the same")


if __name__ == "__main__":
    main()
