#!/usr/bin/env python3
"""Writes a BF16 model of the LLaMA architecture with random weights drawn to look trained, for tests and benchmarks.

    make_model.py OUT.gguf [--embd 2048 --ff 5632 --heads 32 --kv-heads 4 --layers 11 --vocab 512]
                           [--tied] [--experts 8] [--edges] [--seed 0]

Trained matrices have rows and columns of different scale; without that, exponents would be more alike than in real models. The same
arguments give the same file. llama.cpp loads and runs it, except with --edges, which adds tensors of extreme content and odd shape
for the converter. Memory: a few tensors. Needs numpy and gguf (pip install numpy gguf)."""
import argparse

import gguf
import numpy as np

BF16 = gguf.GGMLQuantizationType.BF16
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--embd", type=int, default=2048, help="width of the model")
    parser.add_argument("--ff", type=int, default=5632, help="width of the feed-forward part")
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=11)
    parser.add_argument("--vocab", type=int, default=512, help="tokens, at least 320")
    parser.add_argument("--tied", action="store_true", help="no output matrix of its own")
    parser.add_argument("--experts", type=int, default=0, help="mixture of experts, 2 of them used")
    parser.add_argument("--edges", action="store_true", help="add tensors of extreme content")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def to_bf16(values):
    """Rounds to nearest, ties to even; no NaN among the values."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def trained(random, shape):
    """A matrix, or a stack of them, as BF16 bits: Gaussian, with log-normal scales of rows and columns."""
    rows = np.exp(0.25 * random.standard_normal(shape[:-1] + (1,), dtype=np.float32))
    columns = np.exp(0.25 * random.standard_normal(shape[:-2] + (1, shape[-1]), dtype=np.float32))
    values = random.standard_normal(shape, dtype=np.float32)
    values *= rows
    values *= columns
    values *= np.float32(0.8 / np.sqrt(shape[-1]))
    return to_bf16(values)


def edges(random):
    """Name and BF16 bits of tensors that break careless coders."""
    noise = random.integers(0, 1 << 16, (37, 129), dtype=np.uint16)
    yield "edge.noise.weight", noise  # every exponent, NaNs and infinities: nothing gained
    weights = trained(random, (48, 320))
    special = [0x0000, 0x8000, 0x0001, 0x807F, 0x7F80, 0xFF80, 0x7FC0, 0xFFFF, 0x7F81, 0x7F7F, 0x0080]
    weights[3, : len(special)] = special
    weights[7] = 0
    weights[8] = 0x8000
    weights[9] = 0x3F80
    weights[10] = noise[0, :80].repeat(4)  # nearly all escapes
    yield "edge.special.weight", weights
    yield "edge.zero.weight", np.zeros((5, 64), dtype=np.uint16)
    yield "edge.constant.weight", np.full((40, 65), 0xBF80, dtype=np.uint16)
    yield "edge.narrow.weight", trained(random, (300, 1))
    yield "edge.one_row.weight", trained(random, (1, 5000))
    yield "edge.stack.weight", trained(random, (3, 17, 96))
    yield "edge.four.weight", trained(random, (2, 3, 5, 70))
    yield "edge.vector.weight", trained(random, (1, 777))[0]  # one dimension: stays plain


def tensors(options, random):
    """Name and function that gives the values, in the order of the file."""
    embd, ff, kv = options.embd, options.ff, options.embd // options.heads * options.kv_heads
    matrix = lambda *shape: lambda: trained(random, shape)
    ones = lambda: np.exp(0.1 * random.standard_normal(embd, dtype=np.float32))
    yield "token_embd.weight", (options.vocab, embd), matrix(options.vocab, embd)
    for layer in range(options.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (embd,), ones
        yield block + "attn_q.weight", (embd, embd), matrix(embd, embd)
        yield block + "attn_k.weight", (kv, embd), matrix(kv, embd)
        yield block + "attn_v.weight", (kv, embd), matrix(kv, embd)
        yield block + "attn_output.weight", (embd, embd), matrix(embd, embd)
        yield block + "ffn_norm.weight", (embd,), ones
        if options.experts:
            experts = options.experts
            router = lambda: random.standard_normal((experts, embd), dtype=np.float32)
            yield block + "ffn_gate_inp.weight", (experts, embd), router
            yield block + "ffn_gate_exps.weight", (experts, ff, embd), matrix(experts, ff, embd)
            yield block + "ffn_up_exps.weight", (experts, ff, embd), matrix(experts, ff, embd)
            yield block + "ffn_down_exps.weight", (experts, embd, ff), matrix(experts, embd, ff)
        else:
            yield block + "ffn_gate.weight", (ff, embd), matrix(ff, embd)
            yield block + "ffn_up.weight", (ff, embd), matrix(ff, embd)
            yield block + "ffn_down.weight", (embd, ff), matrix(embd, ff)
    yield "output_norm.weight", (embd,), ones
    if not options.tied:
        yield "output.weight", (options.vocab, embd), matrix(options.vocab, embd)
    if options.edges:
        for name, bits in edges(random):
            yield name, bits.shape, lambda bits=bits: bits


def add_vocabulary(writer, size):
    letters = "etaoinshrdlu"
    pieces = [letter for letter in letters] + ["▁" + letter for letter in letters]
    pieces += [a + b for a in letters for b in letters]
    pieces += [f"▁word{number}" for number in range(size)]
    tokens = ["<unk>", "<s>", "</s>", *BYTES, *pieces][:size]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * len(BYTES)
    kinds += [gguf.TokenType.NORMAL] * (size - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(rank) for rank in range(size)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def main():
    options = arguments()
    if options.vocab < 320:
        raise SystemExit("make_model.py: --vocab must be 320 or more")
    writer = gguf.GGUFWriter(options.out, "llama")
    writer.add_name("unweight-gguf test model")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_context_length(2048)
    writer.add_embedding_length(options.embd)
    writer.add_block_count(options.layers)
    writer.add_feed_forward_length(options.ff)
    writer.add_head_count(options.heads)
    writer.add_head_count_kv(options.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(options.embd // options.heads)
    writer.add_vocab_size(options.vocab)
    if options.experts:
        writer.add_expert_count(options.experts)
        writer.add_expert_used_count(2)
    add_vocabulary(writer, options.vocab)

    random = np.random.Generator(np.random.PCG64(options.seed))
    planned = list(tensors(options, random))
    is_f32 = lambda name: name.endswith("norm.weight") or name.endswith("ffn_gate_inp.weight")
    for name, shape, _ in planned:
        count = int(np.prod(shape))
        if is_f32(name):
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * count)
        else:
            # The writer takes the shape of raw types in bytes.
            writer.add_tensor_info(name, (*shape[:-1], 2 * shape[-1]), np.dtype(np.uint8), 2 * count, raw_dtype=BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, _, values in planned:
        writer.write_tensor_data(values())
    writer.close()


if __name__ == "__main__":
    main()
