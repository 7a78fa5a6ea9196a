#!/usr/bin/env python3
"""Image preparation on one core, ours against torchvision's and timm's, on the same JPEGs: images/s and the ratio.

    scripts/bench_torchvision_data.py FOLDER [--shards DIR] [--rounds N] [--bench build/release/bin/vrwkv-bench]

FOLDER holds a folder of JPEGs for each class; DIR the same images as `vrwkv-shard FOLDER --out DIR --fast-crop` writes them, from
which ours are then read, too. Needs torchvision and timm beside torch, and Pillow before 13. The two take turns, a few seconds
each; the figures are medians over the rounds, the ratio is the median of the rounds' ratios, so that a machine that others use
does little harm. All files are read before, so that disks do not count.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch
from PIL import Image, ImageOps
from timm.data import create_transform
from torchvision import transforms
from torchvision.transforms import InterpolationMode

CASES = {
    # What vrwkv-bench data is told, and what torchvision or timm does; both end with uint8 pixels, ours before normalisation, which is
    # the device's work here; theirs with what a DataLoader of them hands on.
    "crop and flip": ["data.train_transform.rand_augment.num_ops=0", "data.train_transform.erasing.prob=0", "data.train_transform.color_jitter=0"],
    "training, RandAugment and erasing": [],
    "evaluation": [],
}


def torchvision_transforms():
    crop = transforms.Compose([
        transforms.RandomResizedCrop(224, interpolation=InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(),
        transforms.PILToTensor(),
    ])
    train = create_transform(224, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.25, re_mode="pixel", re_count=1,
                             color_jitter=None, interpolation="bicubic")
    evaluation = create_transform(224, is_training=False, interpolation="bicubic", crop_pct=0.875)
    return dict(zip(CASES, (crop, train, evaluation), strict=True))


def torchvision_rate(transform, files, seconds):
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        with Image.open(files[done % len(files)]) as image:
            transform(image.convert("RGB"))
        done += 1
    return done / (time.perf_counter() - start)


def our_rate(bench, folder, case, seconds, scratch):
    report = scratch / "data.json"
    config = scratch / "config.yaml"
    config.write_text(json.dumps({"data": {"train": {"path": str(folder)}, "val": {"path": str(folder)},
                                           "train_transform": {"rand_augment": {"num_ops": 2, "magnitude": 9, "magnitude_std": 0.5, "increasing": True},
                                                               "erasing": {"prob": 0.25}}}}))
    subprocess.run([bench, "data", str(config), "--seconds", str(seconds), "--workers", "1", "--json", str(report), *CASES[case]],
                   check=True, capture_output=True)
    rows = json.loads(report.read_text())["data"]
    return rows["evaluation" if case == "evaluation" else "training"]["images_per_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--shards", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--bench", default="build/release/bin/vrwkv-bench")
    arguments = parser.parse_args()
    try:
        ImageOps.posterize(Image.new("RGB", (1, 1)), 0)
    except ValueError:
        parser.error("timm's RandAugment posterizes to 0 bits, which this Pillow refuses: pip install 'pillow<13'")
    torch.set_num_threads(1)
    files = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    for path in files:
        path.read_bytes()
    theirs = torchvision_transforms()
    sources = {"": arguments.folder} | ({", shards": arguments.shards} if arguments.shards else {})
    print(f"{'':44}{'ours':>9}{'theirs':>9}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        for case in CASES:
            rounds = []
            for _ in range(arguments.rounds):
                ours = [our_rate(arguments.bench, folder, case, arguments.seconds, pathlib.Path(scratch)) for folder in sources.values()]
                rounds.append((*ours, torchvision_rate(theirs[case], files, arguments.seconds)))
            for place, source in enumerate(sources):
                ours, other = (statistics.median(round_[i] for round_ in rounds) for i in (place, -1))
                ratio = statistics.median(round_[place] / round_[-1] for round_ in rounds)
                print(f"{case + source:44}{ours:9.0f}{other:9.0f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
