#!/usr/bin/env python3
"""Copies a compressed file with one bit flipped in the middle of its index (docs/FORMAT.md, Rooms).

    damage.py IN.gguf OUT.gguf"""
import struct
import sys

MAGIC, HEADER = b"UNWEIGHT", 64


def index_of(data):
    """Where the index begins, and its length."""
    at = data.find(MAGIC)
    while at >= 0:
        length = struct.unpack_from("<Q", data, at + 32)[0]
        if length:
            return at + HEADER, length
        at = data.find(MAGIC, at + 1)
    raise SystemExit("damage.py: no index")


def main():
    with open(sys.argv[1], "rb") as file:
        data = bytearray(file.read())
    start, length = index_of(data)
    data[start + length // 2] ^= 1
    with open(sys.argv[2], "wb") as file:
        file.write(data)


if __name__ == "__main__":
    main()
