#!/usr/bin/env python3
"""Writes a GGUF file with its BF16, F16 and F32 matrices as another of these types, rounded to nearest, ties to even.

    cast.py IN.gguf OUT.gguf bf16|f16|f32 [proper]

"proper": each weight is changed by up to a 512th of itself first, so that all bits of the type are in use, as if it were trained in it.
Tensors of one dimension and those that llama.cpp's converter leaves F32 stay as they are, quantized ones too. Metadata but
general.file_type are kept; keys of arrays without elements are lost: gguf-py cannot write them. Memory: one tensor."""
import sys

import gguf
import numpy as np
from gguf import quants
from rewrite import copy_metadata

FILE_TYPES = {
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "f32": gguf.LlamaFileType.ALL_F32,
}
TYPES = {name: gguf.GGMLQuantizationType[name.upper()] for name in FILE_TYPES}
LEFT_F32 = ("position_embd", "token_types", "ffn_gate_inp")


def type_after(tensor, wanted):
    is_matrix = len(tensor.shape) > 1 and not any(part in tensor.name for part in LEFT_F32)
    return wanted if is_matrix and tensor.tensor_type in TYPES.values() else tensor.tensor_type


def contents(tensor, wanted, proper):
    if tensor.tensor_type not in TYPES.values() or (tensor.tensor_type == wanted and not proper):
        return tensor.data
    values = quants.dequantize(tensor.data, tensor.tensor_type)
    if proper and len(tensor.shape) > 1:
        noise = np.random.default_rng(int(tensor.n_elements)).uniform(-1, 1, values.shape)
        values = (values * (1 + noise / 512)).astype(np.float32)
    return quants.quantize(values, wanted)


def add_tensor_info(writer, tensor, wanted):
    """gguf-py takes a shape in values with any dtype but uint8; what is written is said by the type."""
    shape = [int(extent) for extent in reversed(tensor.shape)]
    block, size = gguf.GGML_QUANT_SIZES[wanted]
    writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), int(tensor.n_elements) // block * size, wanted)


def main(source, out, name, proper=None):
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    copy_metadata(reader, writer, "general.file_type")
    writer.add_file_type(FILE_TYPES[name])
    if "general.alignment" in reader.fields:
        writer.add_custom_alignment(reader.alignment)
    wanted = {tensor.name: type_after(tensor, TYPES[name]) for tensor in reader.tensors}
    for tensor in reader.tensors:
        add_tensor_info(writer, tensor, wanted[tensor.name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        writer.write_tensor_data(contents(tensor, wanted[tensor.name], proper))
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5) or sys.argv[3] not in TYPES or sys.argv[4:] not in ([], ["proper"]):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
