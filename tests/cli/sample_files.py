# SPDX-License-Identifier: BSD-2-Clause
"""Small image files and data sets, written and read by hand: nothing here shares code with the program."""
import os
import random
import struct
import zlib

SIDE = 28
CLASSES = 10


def pattern(label, chooser, side=SIDE):
    """A gray image whose bright band tells its class, with noise: bytes, row by row."""
    pixels = bytearray(chooser.randrange(60) for _ in range(side * side))
    first = 1 + label * (side - 4) // CLASSES
    for y in range(first, first + 3):
        for x in range(2, side - 2):
            pixels[y * side + x] = 190 + chooser.randrange(60)
    return bytes(pixels)


def write_idx(images_path, labels_path, count, seed, side=SIDE):
    chooser = random.Random(seed)
    labels = [i % CLASSES for i in range(count)]
    images = b"".join(pattern(label, chooser, side) for label in labels)
    with open(images_path, "wb") as file:
        file.write(struct.pack(">IIII", 0x803, count, side, side) + images)
    with open(labels_path, "wb") as file:
        file.write(struct.pack(">II", 0x801, count) + bytes(labels))


def write_idx_folder(folder, train, test, side=SIDE):
    os.makedirs(folder)
    for name, count, seed in (("train", train, 1), ("t10k", test, 2)):
        write_idx(os.path.join(folder, name + "-images-idx3-ubyte"), os.path.join(folder, name + "-labels-idx1-ubyte"), count,
                  seed, side)


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bytes(width, height, pixels, channels=1):
    row = width * channels
    lines = b"".join(b"\0" + pixels[y * row:(y + 1) * row] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(lines))
            + png_chunk(b"IEND", b""))


def write_png(path, width, height, pixels, channels=1):
    with open(path, "wb") as file:
        file.write(png_bytes(width, height, pixels, channels))


def read_png_header(path):
    """(width, height, channels) of an 8-bit PNG whose every chunk has a right checksum."""
    with open(path, "rb") as file:
        content = file.read()
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(path + " is not a PNG file")
    place, kinds, packed = 8, [], b""
    while place < len(content):
        length, = struct.unpack_from(">I", content, place)
        kind, body = content[place + 4:place + 8], content[place + 8:place + 8 + length]
        if struct.unpack_from(">I", content, place + 8 + length)[0] != zlib.crc32(kind + body):
            raise ValueError(f"{path}: wrong checksum of {kind}")
        kinds.append(kind)
        packed += body if kind == b"IDAT" else b""
        place += 12 + length
    if kinds[0] != b"IHDR" or kinds[-1] != b"IEND":
        raise ValueError(f"{path}: chunks {kinds}")
    width, height, depth, color = struct.unpack_from(">IIBB", content, 16)
    channels = {0: 1, 2: 3}[color]
    if depth != 8 or len(zlib.decompress(packed)) != height * (1 + width * channels):
        raise ValueError(path + ": the pixels do not fit the header")
    return width, height, channels
