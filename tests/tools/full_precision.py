#!/usr/bin/env python3
"""Says what the BF16, F16 and F32 matrices of GGUF files hold, and what the encodings of docs/FORMAT.md make of them.

    full_precision.py FILE... [--average OTHER]

A line for each type in a file and the number that its tensors can be stored as: how many of the values are BF16 numbers, and F16
numbers; escapes; bits a weight (codes and escapes, without indexes and padding); and the order-0 entropy of the bytes, each rank of
bytes and each tensor by itself. --average takes the mean of each matrix and its namesake in OTHER first, in F32, as models are merged."""
import argparse
import collections
import os

import gguf
import numpy as np
from gguf import quants

TYPES = ("BF16", "F16", "F32")
# What is stored -> bits before escapes, size of the palette.
ENCODINGS = {"BF16": ((11, 8), (12, 16)), "F16": ((14, 8),), "F32": ((27, 8), (28, 16))}
ESCAPE_BITS = 16


def is_bf16(bits):
    """Which of these F32 numbers, as u32, are BF16 numbers."""
    return bits & 0xFFFF == 0


def is_f16(bits):
    values = bits.view(np.float32)
    with np.errstate(all="ignore"):
        return (values.astype(np.float16).astype(np.float32).view(np.uint32) == bits) & ~np.isnan(values)


def stored(kind, bits, bf16, f16):
    """What a tensor of this type can be stored as, and its words: u16, or u32 for F32."""
    if bf16.all() and (kind != "F16" or f16.all()):
        return "BF16", (bits >> 16).astype(np.uint16)
    if kind == "F16" or f16.all():
        return "F16", bits.view(np.float32).astype(np.float16).view(np.uint16)
    return "F32", bits


def escapes(number, words, palette):
    """The fewest escapes of the two shifts."""
    upper = words if number != "F32" else (words >> 16).astype(np.uint16)
    exponent, raw_bits = (1024, 11) if number == "F16" else (128, 8)
    of_shift = []
    for shift in (0, 1):
        counts = np.bincount((upper + np.uint16(exponent * shift)) >> raw_bits, minlength=palette)
        of_shift.append(int(upper.size - np.sort(counts)[-palette:].sum()))
    return min(of_shift)


def entropy(values):
    counts = np.bincount(values)
    shares = counts[counts > 0] / values.size
    return float(-(shares * np.log2(shares)).sum())


def values_of(tensor, other):
    values = quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False).ravel()
    if other is None:
        return values
    return (values + quants.dequantize(other.data, other.tensor_type).ravel()) * np.float32(0.5)


def measure(path, others):
    """Sums for each type in the file and number that it is stored as."""
    sums = collections.defaultdict(collections.Counter)
    for tensor in gguf.GGUFReader(path).tensors:
        kind = tensor.tensor_type.name
        if kind not in TYPES or len(tensor.shape) < 2 or (others and tensor.name not in others):
            continue
        kind = "F32" if others else kind
        bits = values_of(tensor, others.get(tensor.name)).view(np.uint32)
        bf16, f16 = is_bf16(bits), is_f16(bits)
        number, words = stored(kind, bits, bf16, f16)
        size, escaped = min((width * words.size + ESCAPE_BITS * count, count)
                            for width, palette in ENCODINGS[number] for count in [escapes(number, words, palette)])
        row = sums[kind, number]
        row["weights"] += words.size
        row["BF16"] += int(bf16.sum())
        row["F16"] += int(f16.sum())
        row["escapes"] += escaped
        row["bits"] += size
        row["entropy"] += sum(entropy(byte) for byte in words.view(np.uint8).reshape(words.size, -1).T) * words.size
    return sums


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--average", metavar="OTHER", help="the other model of a merge")
    options = parser.parse_args()
    others = {tensor.name: tensor for tensor in gguf.GGUFReader(options.average).tensors} if options.average else {}
    print("| file | type | stored as | M weights | BF16 numbers | F16 numbers | escapes | bits | entropy |")
    print("|---|---|---|---|---|---|---|---|---|")
    for path in options.files:
        for (kind, number), row in sorted(measure(path, others).items()):
            count = row["weights"]
            shares = [f"{100 * row[key] / count:.2f} %" for key in ("BF16", "F16", "escapes")]
            print(f"| {os.path.basename(path)} | {kind} | {number} | {count / 1e6:.1f} | {' | '.join(shares)} "
                  f"| {row['bits'] / count:.2f} | {row['entropy'] / count:.2f} |")


if __name__ == "__main__":
    main()
