"""PNG files as rows of bytes, by Python's standard library alone."""

import struct
import zlib


def read_png(path):
    """(width, height, rows of RGB bytes) of an 8-bit RGB PNG."""
    data = path.read_bytes()
    position, packed = 8, b""
    while position < len(data):
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        content = data[position + 8 : position + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", content[:10])
            assert (depth, colour) == (8, 2)
        elif kind == b"IDAT":
            packed += content
        position += size + 12
    raw, stride, rows, above = zlib.decompress(packed), 3 * width, [], bytes(3 * width)
    for y in range(height):
        start = y * (stride + 1)
        row = unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), above)
        rows.append(row)
        above = row
    return width, height, rows


def unfiltered(kind, row, above):
    for i in range(len(row)):
        left = row[i - 3] if i >= 3 else 0
        corner = above[i - 3] if i >= 3 else 0
        up = above[i]
        if kind == 4:
            estimate = left + up - corner
            predicted = min((left, up, corner), key=lambda value: abs(estimate - value))
        else:
            predicted = (0, left, up, (left + up) // 2)[kind]
        row[i] = (row[i] + predicted) & 255
    return bytes(row)
