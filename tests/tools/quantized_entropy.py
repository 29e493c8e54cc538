#!/usr/bin/env python3
"""Says how much of each quantized type in GGUF files a lossless coder could take off at best.

    quantized_entropy.py FILE...

Every field of a block is taken apart: the quants by their own bits, the scales and minima by theirs, halves by their bytes. A type's
entropy is the sum of its fields' order-0 entropies, each tensor by itself: what an ideal coder of independent symbols would need, its
tables left out. One line a type: bits a weight as stored, and by entropy, of quants and of scales."""
import collections
import sys

import gguf
import numpy as np


def nibbles(data):
    return np.concatenate([data & 15, data >> 4], axis=1)


def halves(data):
    """The bytes of numbers of two bytes, rank by rank."""
    return [data[:, rank::2] for rank in range(2)]


def k_scales(data):
    """8 scales and 8 minima of 6 bits in 12 bytes, as Q4_K and Q5_K have them."""
    first, second, upper = data[:, :4], data[:, 4:8], data[:, 8:]
    return [np.concatenate([first & 63, upper & 15 | first >> 6 << 4], axis=1),
            np.concatenate([second & 63, upper >> 4 | second >> 6 << 4], axis=1)]


# A function of blocks (one a row) that gives the symbols of their quants and a list of those of each other field.
def q8_0(blocks):
    return blocks[:, 2:], halves(blocks[:, :2])


def q4_0(blocks):
    return nibbles(blocks[:, 2:]), halves(blocks[:, :2])


def mxfp4(blocks):
    return nibbles(blocks[:, 1:]), [blocks[:, :1]]


def q4_k(blocks):
    return nibbles(blocks[:, 16:]), halves(blocks[:, :2]) + halves(blocks[:, 2:4]) + k_scales(blocks[:, 4:16])


def q5_k(blocks):
    upper = blocks[:, 16:48]
    quants = []
    for part in range(4):
        low = blocks[:, 48 + 32 * part:80 + 32 * part]
        quants += [low & 15 | (upper >> 2 * part & 1) << 4, low >> 4 | (upper >> 2 * part + 1 & 1) << 4]
    return np.concatenate(quants, axis=1), halves(blocks[:, :2]) + halves(blocks[:, 2:4]) + k_scales(blocks[:, 4:16])


def q6_k(blocks):
    quants = []
    for half in range(2):
        low, upper = blocks[:, 64 * half:64 * half + 64], blocks[:, 128 + 32 * half:160 + 32 * half]
        nibble = [low[:, :32] & 15, low[:, 32:] & 15, low[:, :32] >> 4, low[:, 32:] >> 4]
        quants += [nibble[rank] | (upper >> 2 * rank & 3) << 4 for rank in range(4)]
    return np.concatenate(quants, axis=1), [blocks[:, 192:208]] + halves(blocks[:, 208:])


TYPES = {"Q8_0": q8_0, "Q6_K": q6_k, "Q5_K": q5_k, "Q4_K": q4_k, "Q4_0": q4_0, "MXFP4": mxfp4}


def entropy_bits(symbols):
    counts = np.bincount(symbols.ravel())
    counts = counts[counts > 0]
    return float((counts * np.log2(symbols.size / counts)).sum())


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    sums = collections.defaultdict(collections.Counter)
    for path in sys.argv[1:]:
        for tensor in gguf.GGUFReader(path).tensors:
            kind = tensor.tensor_type.name
            if kind not in TYPES:
                continue
            quants, others = TYPES[kind](tensor.data.reshape(-1, gguf.GGML_QUANT_SIZES[tensor.tensor_type][1]))
            sums[kind]["weights"] += int(tensor.n_elements)
            sums[kind]["stored"] += 8 * int(tensor.n_bytes)
            sums[kind]["quants"] += entropy_bits(quants)
            sums[kind]["scales"] += sum(entropy_bits(field) for field in others)
    print("| type | M weights | stored | entropy | of quants | of scales | gain at best |")
    print("|---|---|---|---|---|---|---|")
    for kind in TYPES:
        if kind in sums:
            count, stored, quants, scales = (sums[kind][key] for key in ("weights", "stored", "quants", "scales"))
            bits = [f"{value / count:.2f}" for value in (stored, quants + scales, quants, scales)]
            print(f"| {kind} | {count / 1e6:.1f} | {' | '.join(bits)} | {100 * (1 - (quants + scales) / stored):.1f} % |")


if __name__ == "__main__":
    main()
