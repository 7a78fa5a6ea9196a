#!/usr/bin/env python3
"""Writes the embedded data set, data/digits/train.tar and data/digits/val.tar, from scikit-learn's handwritten digits.

Needs scikit-learn and Pillow (any recent versions). The pixels, names and tar headers are always the same; the PNG bytes
may depend on Pillow's zlib. See data/digits/README.md.
"""

import argparse
import collections
import io
import pathlib
import tarfile

import numpy
from PIL import Image
from sklearn.datasets import load_digits

HELD_BACK = 5  # every fifth image of a digit is for validation


def encode(values):
    """PNG of an 8x8 image with values 0 … 16, as grey levels 0 … 255."""
    grey = (values.astype(numpy.int64) * 255 + 8) // 16
    buffer = io.BytesIO()
    Image.fromarray(grey.astype(numpy.uint8)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def split():
    """Two lists of (path, image): the same share of every digit, in the order of the source."""
    digits = load_digits()
    seen = collections.Counter()
    train, val = [], []
    for number, (values, digit) in enumerate(zip(digits.images, digits.target)):
        held_back = seen[digit] % HELD_BACK == HELD_BACK - 1
        seen[digit] += 1
        folder = "val" if held_back else "train"
        (val if held_back else train).append((f"{folder}/{digit}/{number:04d}.png", encode(values)))
    return sorted(train), sorted(val)


def write_tar(path, images):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in images:
            info = tarfile.TarInfo(name)  # mtime, uid and gid 0
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    print(f"{path}: {len(images)} images, {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = pathlib.Path(__file__).resolve().parent.parent / "data" / "digits"
    parser.add_argument("--output", type=pathlib.Path, default=default, help="folder of the two tars (default: data/digits)")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    train, val = split()
    write_tar(folder / "train.tar", train)
    write_tar(folder / "val.tar", val)


if __name__ == "__main__":
    main()
