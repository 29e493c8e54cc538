"""dequantize.py WHEEL OUT.gguf: the one GGUF file in a wheel, with every quantised tensor as BF16 and all metadata kept."""
import sys
import tempfile
import zipfile

import gguf
import numpy as np
from gguf.quants import dequantize

# Written by the writer itself, or no longer true of the result.
DROPPED = {"general.architecture", "general.file_type", "general.quantization_version"}


def to_bf16(values):
    """Rounds to nearest, ties to even; no NaN among the values."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def copy_metadata(reader, writer):
    for field in reader.fields.values():
        if field.name in DROPPED or field.name.startswith("GGUF."):
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def main(wheel, out):
    archive = zipfile.ZipFile(wheel)
    names = [name for name in archive.namelist() if name.endswith(".gguf")]
    if len(names) != 1:
        raise SystemExit(f"dequantize.py: {wheel} holds {len(names)} GGUF files, not one")
    with tempfile.NamedTemporaryFile(suffix=".gguf") as quantized:
        quantized.write(archive.read(names[0]))
        quantized.flush()
        reader = gguf.GGUFReader(quantized.name)
        writer = gguf.GGUFWriter(out, reader.get_field("general.architecture").contents())
        copy_metadata(reader, writer)
        for tensor in reader.tensors:
            shape = [int(extent) for extent in reversed(tensor.shape)]
            values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
            if tensor.tensor_type == gguf.GGMLQuantizationType.F32:
                writer.add_tensor(tensor.name, values)
            else:
                bits = to_bf16(values)
                writer.add_tensor(tensor.name, bits.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
