#!/usr/bin/env python3
"""Writes a file for `vrwkv-eval --labels` for a folder of images by class whose class folders are WordNet identifiers or ImageNet-1K
labels (ImageNet-A, -R, -Sketch, -V2): what each of them is among ImageNet-1K's 1000 classes.

    scripts/make_labels.py FOLDER [--only] > labels.json      --only: predictions are chosen from these classes alone
"""

import argparse
import json
import pathlib
import sys

CLASSES = pathlib.Path(__file__).resolve().parent.parent / "eval" / "imagenet_classes.txt"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", action="store_true", help="predictions are chosen from these classes alone")
    arguments = parser.parse_args()
    label_of = {line.split(" ")[0]: label for label, line in enumerate(CLASSES.read_text().splitlines())}
    label_of.update({str(label): label for label in range(1000)})
    if not arguments.folder.is_dir():
        sys.exit(f"{arguments.folder} is no folder")
    names = sorted(entry.name for entry in arguments.folder.iterdir() if entry.is_dir())
    unknown = [name for name in names if name not in label_of]
    if unknown or not names:
        sys.exit(f"{arguments.folder}: expected folders named n01440764 or 0 to 999, got {unknown[:5] or 'none'}")
    json.dump({"classes": {name: label_of[name] for name in names}, "only": arguments.only}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
