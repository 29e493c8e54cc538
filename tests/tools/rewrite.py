#!/usr/bin/env python3
"""Writes a GGUF file again with gguf-py, as people's scripts do: the same tensors, with other metadata, order or alignment.

    rewrite.py IN.gguf OUT.gguf [--add KEY=TEXT] [--drop KEY] [--reverse] [--align BYTES] [--negate PART]

Keys of arrays without elements are lost: gguf-py cannot write them."""
import argparse

import gguf


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--add", metavar="KEY=TEXT", help="a key more")
    parser.add_argument("--drop", metavar="KEY", help="a key less; it must be there")
    parser.add_argument("--reverse", action="store_true", help="the last tensor first")
    parser.add_argument("--align", type=int, metavar="BYTES", help="another general.alignment")
    parser.add_argument("--negate", metavar="PART", help="flip the signs of BF16 tensors with this in their names: another model")
    return parser.parse_args()


def copy_metadata(reader, writer, dropped):
    """All keys but those that the writer or the caller writes."""
    for field in reader.fields.values():
        written_elsewhere = field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.alignment")
        if written_elsewhere or field.name == dropped:
            continue
        value = field.contents()
        is_array = field.types[0] == gguf.GGUFValueType.ARRAY
        if not is_array or value:
            writer.add_key_value(field.name, value, field.types[0], field.types[-1] if is_array else None)


def negated(tensor):
    data = tensor.data.copy()
    data.view("uint16")[...] ^= 0x8000
    return data


def main():
    options = arguments()
    reader = gguf.GGUFReader(options.source)
    if options.drop and options.drop not in reader.fields:
        raise SystemExit(f"rewrite.py: {options.source} has no key {options.drop}")
    writer = gguf.GGUFWriter(options.out, reader.fields["general.architecture"].contents())
    copy_metadata(reader, writer, options.drop)
    if options.add:
        writer.add_string(*options.add.split("=", 1))
    alignment = options.align or reader.alignment
    if options.align or "general.alignment" in reader.fields:
        writer.add_custom_alignment(alignment)

    tensors = list(reversed(reader.tensors)) if options.reverse else list(reader.tensors)
    for tensor in tensors:
        data = tensor.data
        writer.add_tensor_info(tensor.name, data.shape, data.dtype, data.nbytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        negate = options.negate and options.negate in tensor.name and tensor.tensor_type == gguf.GGMLQuantizationType.BF16
        writer.write_tensor_data(negated(tensor) if negate else tensor.data)
    writer.close()


if __name__ == "__main__":
    main()
