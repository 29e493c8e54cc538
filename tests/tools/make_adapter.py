#!/usr/bin/env python3
"""Writes a LoRA adapter with random weights for a GGUF model: for its embeddings, attention and feed-forward matrices.

    make_adapter.py MODEL.gguf OUT.gguf [--type f32|f16|bf16] [--rank 8]"""
import argparse

import gguf
import numpy as np

from make_model import BF16, to_bf16

ADAPTED = ("token_embd.", "attn_q.", "attn_output.", "ffn_up.", "ffn_down.", "ffn_up_exps.")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--type", choices=["f32", "f16", "bf16"], default="f32")
    parser.add_argument("--rank", type=int, default=8)
    return parser.parse_args()


def shapes(tensor, rank):
    """Shapes of A and B. The update of a matrix is B·A; llama.cpp looks up rows of A where the matrix is one of embeddings."""
    columns, rows, *stack = tensor.shape.tolist()
    if tensor.name.startswith("token_embd."):
        return (rows, rank), (columns, rank)
    return (*stack, rank, columns), (*stack, rows, rank)


def add(writer, name, values, kind):
    if kind == "bf16":
        writer.add_tensor(name, to_bf16(values).view(np.uint8), raw_dtype=BF16)
    else:
        writer.add_tensor(name, values.astype(np.float16 if kind == "f16" else np.float32))


def main():
    options = arguments()
    reader = gguf.GGUFReader(options.model)
    writer = gguf.GGUFWriter(options.out, reader.fields["general.architecture"].contents())
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(options.rank))
    random = np.random.Generator(np.random.PCG64(1))
    # A table that is also the output matrix cannot be adapted as both.
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    for tensor in reader.tensors:
        if tied and tensor.name.startswith("token_embd."):
            continue
        if not tensor.name.endswith(".weight") or not any(part in tensor.name for part in ADAPTED):
            continue
        for suffix, shape in zip((".lora_a", ".lora_b"), shapes(tensor, options.rank)):
            add(writer, tensor.name + suffix, 0.05 * random.standard_normal(shape, dtype=np.float32), options.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
