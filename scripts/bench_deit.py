#!/usr/bin/env python3
"""Measures DeiT (timm, scaled_dot_product_attention), VRWKV's rival, as `vrwkv-bench model` and `train` measure VRWKV.

Inference: logits of random images. Training: forward, cross-entropy with label smoothing 0.1, backward and fused AdamW.
Writes the same JSON, which scripts/bench_compare.py sets against ours. Needs torch, timm and torchvision.

  scripts/bench_deit.py --json deit.json                          # tiny, small, base at 224, 1024 and 2048 pixels
  scripts/bench_deit.py --only train:tiny:224:256 model:base:224  # KIND:VARIANT:SIDE[:BATCH]
  scripts/bench_deit.py --like ours_model.json ours_train.json    # the cases that vrwkv-bench measured
"""

import argparse
import json
import math
import os
import pathlib
import sys
import time
import typing

VARIANTS = ("tiny", "small", "base")
KINDS = ("model", "train")
PATCH = 16
CLASSES = 1000
ROUND_SECONDS = 0.1  # what is enqueued on a GPU before the host waits
MAX_SECONDS = 20


class Failure(Exception):
    """What the user reads in place of a stack trace."""


class Case(typing.NamedTuple):
    kind: str
    variant: str
    side: int
    batch: int

    def __str__(self):
        return f"{self.kind}:{self.variant}:{self.side}:{self.batch}"


def default_batch(variant, side, device):
    """The rule of vrwkv-bench: what fills a GPU at 224, then the largest power of two with no more pixels."""
    batch = 8 if device == "cpu" else 128 if variant == "base" else 256
    if side <= 224:
        return batch
    return 2 ** int(math.log2(max(1, batch * 224 * 224 // (side * side))))


def read_case(text, device):
    """KIND:VARIANT:SIDE[:BATCH] as a Case."""
    parts = text.split(":")
    numbers = [int(part) for part in parts[2:] if part.isdecimal() and int(part) > 0]
    good = len(parts) in (3, 4) and parts[0] in KINDS and parts[1] in VARIANTS and len(numbers) == len(parts) - 2
    if not good or numbers[0] % PATCH:
        raise Failure(
            f"--only: expected KIND:VARIANT:SIDE[:BATCH] such as train:tiny:224:256, with KIND of {', '.join(KINDS)}, "
            f"VARIANT of {', '.join(VARIANTS)} and SIDE a multiple of {PATCH}; got '{text}'"
        )
    batch = numbers[1] if len(numbers) == 2 else default_batch(parts[1], numbers[0], device)
    return Case(parts[0], parts[1], numbers[0], batch)


def cases_like(path):
    """The cases of a file of vrwkv-bench, without the variants that DeiT lacks."""
    try:
        report = json.loads(pathlib.Path(path).read_text())
        rows = [(kind, row) for kind in KINDS for row in report.get(kind, [])]
        cases = [Case(kind, row["variant"], row["size"], row["batch"]) for kind, row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"--like: {path} is no JSON of vrwkv-bench model or train: {error!r}") from error
    if not cases:
        raise Failure(f"--like: {path} has no case of {' or '.join(KINDS)}; write it with vrwkv-bench model --json")
    known = [case for case in cases if case.variant in VARIANTS]
    for case in cases:
        if case not in known:
            print(f"no DeiT of this size, left out: {case}", file=sys.stderr)
    return known


def choose_cases(args, device):
    if args.only:
        return [read_case(text, device) for text in args.only]
    if args.like:
        return [case for path in args.like for case in cases_like(path)]
    sides = args.sizes or ([224] if device == "cpu" else [224, 1024, 2048])
    return [
        Case(kind, variant, side, args.batch or default_batch(variant, side, device))
        for kind in args.kind or KINDS
        for variant in args.variant or VARIANTS
        for side in sides
    ]


def import_libraries():
    try:
        import torch
    except ImportError as error:
        raise Failure(f"PyTorch is missing ({error}): pip install torch==2.11.0") from error
    try:
        import timm
    except ImportError as error:
        raise Failure(
            f"timm cannot be imported ({error}): pip install timm torchvision==0.26.0\n"
            "(without the network: pip install --no-deps timm-*.whl; it needs torchvision and pyyaml)"
        ) from error
    return torch, timm


def choose_device(torch, name):
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise Failure(f"--device {name} was asked for, but PyTorch finds no GPU; use --device cpu")
    return name


def make_model(libraries, case, device, compiled):
    torch, timm = libraries
    name = f"deit_{case.variant}_patch16_224"
    with torch.device(device):
        model = timm.create_model(name, pretrained=False, img_size=case.side, num_classes=CLASSES)
    if not model.blocks[0].attn.fused_attn:
        raise Failure("timm does not use scaled_dot_product_attention; unset TIMM_FUSED_ATTN")
    model.train(case.kind == "train")
    return torch.compile(model, dynamic=False) if compiled else model


def make_step(libraries, case, device, dtype, compiled):
    """A function that enqueues one step; like vrwkv-bench's, it never waits for the GPU."""
    torch, _ = libraries
    model = make_model(libraries, case, device, compiled)
    images = torch.randn(case.batch, 3, case.side, case.side, device=device)

    def autocast():
        return torch.autocast(device.split(":")[0], torch.bfloat16, enabled=dtype == "bfloat16")

    if case.kind == "model":
        # Inside the caller's autocast, so that weights are cast once.
        return (lambda: model(images)), autocast

    labels = torch.randint(CLASSES, (case.batch,), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    def step():
        with autocast():
            loss = loss_function(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, None


def time_round(torch, step, device, runs):
    """Milliseconds of each of `runs` steps, enqueued one behind the other."""
    if device == "cpu":
        marks = [time.perf_counter()]
        for _ in range(runs):
            step()
            marks.append(time.perf_counter())
        return [1e3 * (b - a) for a, b in zip(marks, marks[1:])]
    events = [torch.cuda.Event(enable_timing=True) for _ in range(runs + 1)]
    events[0].record()
    for event in events[1:]:
        step()
        event.record()
    events[-1].synchronize()
    return [a.elapsed_time(b) for a, b in zip(events, events[1:])]


def quantile(values, q):
    values = sorted(values)
    position = q * (len(values) - 1)
    below = int(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (position - below) * (values[above] - values[below])


def measure_step(torch, step, device, min_time):
    """Times of single steps: at least ten and min_time seconds; at least three when they are very long."""
    for _ in range(3):
        step()
    first = time_round(torch, step, device, 1)[0]
    runs = 1 if device == "cpu" else max(1, min(64, round(1e3 * ROUND_SECONDS / first)))
    times = []
    start = time.perf_counter()
    while True:
        seconds = time.perf_counter() - start
        if (seconds >= min_time and len(times) >= 10) or (seconds >= MAX_SECONDS and len(times) >= 3):
            return times
        times += time_round(torch, step, device, runs)


def measure(libraries, case, args, device, compiled):
    """A row of the report."""
    torch, _ = libraries
    row = {"variant": case.variant, "size": case.side, "batch": case.batch, "dtype": args.dtype, "compiled": compiled}
    row.update(out_of_memory=False, ms=None, p10_ms=None, p90_ms=None, runs=None, images_per_s=None, peak_bytes=None)
    on_gpu = device != "cpu"
    try:
        step, autocast = make_step(libraries, case, device, args.dtype, compiled)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        if autocast:
            with torch.no_grad(), autocast():
                times = measure_step(torch, step, device, args.min_time)
        else:
            times = measure_step(torch, step, device, args.min_time)
    except torch.OutOfMemoryError:
        row["out_of_memory"] = True
        return row
    median = quantile(times, 0.5)
    row.update(ms=median, p10_ms=quantile(times, 0.1), p90_ms=quantile(times, 0.9), runs=len(times))
    row["images_per_s"] = 1e3 * case.batch / median
    if on_gpu:
        row["peak_bytes"] = torch.cuda.max_memory_allocated()
    return row


def print_table(report):
    titles = ["kind", "variant", "side px", "batch", "dtype", "compiled", "step ms", "images/s", "peak memory GB", ""]
    lines = [titles]
    for kind in KINDS:
        for row in report[kind]:
            memory = "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e9:.2f}"
            speed = ["-", "-"] if row["ms"] is None else [f"{row['ms']:.3f}", f"{row['images_per_s']:.1f}"]
            lines.append(
                [kind, row["variant"], str(row["size"]), str(row["batch"]), row["dtype"]]
                + ["yes" if row["compiled"] else "no", *speed, memory]
                + ["out of memory" if row["out_of_memory"] else ""]
            )
    widths = [max(map(len, column)) for column in zip(*lines)]
    left = {0, 1, 4, 5, 9}
    print(
        f"DeiT on {report['device']}, {report['device_name']}; PyTorch {report['torch']}, timm {report['timm']}; "
        f"CPU threads: {report['threads']}"
    )
    for line in lines:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))]
        print("  ".join(cells).rstrip())


def write_json(path, report):
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(report, indent=2) + "\n")
    os.replace(temporary, path)


def device_name(torch, device):
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "CPU")


def run(args):
    if args.json and not args.json.absolute().parent.is_dir():
        raise Failure(f"--json: the folder of {args.json} does not exist; make it first")
    libraries = torch, timm = import_libraries()
    device = choose_device(torch, args.device)
    args.dtype = args.dtype or ("float32" if device == "cpu" else "bfloat16")
    cases = choose_cases(args, device)
    if args.threads:
        torch.set_num_threads(args.threads)
    if device != "cpu":
        torch.cuda.set_device(torch.device(device).index or 0)
    report = {"device": device, "device_name": device_name(torch, device), "torch": torch.__version__}
    report.update(timm=timm.__version__, threads=torch.get_num_threads(), model=[], train=[])
    compiled = {"off": [False], "on": [True], "both": [False, True]}[args.compile]
    for case in cases:
        for with_compiler in compiled:
            print(f"measuring DeiT {case}{', compiled' if with_compiler else ''}", file=sys.stderr)
            report[case.kind].append(measure(libraries, case, args, device, with_compiler))
            torch.compiler.reset()
            if device != "cpu":
                torch.cuda.empty_cache()
            if args.json:
                write_json(args.json, report)
    print_table(report)


def positive(convert):
    def read(text):
        try:
            value = convert(text)
        except ValueError:
            value = 0
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a number above 0, got '{text}'")
        return value

    return read


def side_list(text):
    sides = [int(part) if part.isdecimal() else 0 for part in text.split(",")]
    if any(side <= 0 or side % PATCH for side in sides):
        raise argparse.ArgumentTypeError(f"expected multiples of {PATCH} such as 224,1024; got '{text}'")
    return sides


def device_argument(text):
    if text in ("auto", "cpu", "cuda") or (text.startswith("cuda:") and text[5:].isdecimal()):
        return text
    raise argparse.ArgumentTypeError(f"expected cpu, cuda, cuda:N or auto; got '{text}'")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", nargs="+", choices=KINDS, help="what to measure (default: both)")
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, help="sizes of the network (default: all)")
    parser.add_argument("--sizes", type=side_list, metavar="PX,…", help="image sides (default: 224,1024,2048; CPU: 224)")
    parser.add_argument("--batch", type=positive(int), metavar="N", help="images at once (default: vrwkv-bench's)")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="just these: KIND:VARIANT:SIDE[:BATCH]")
    parser.add_argument("--like", nargs="+", metavar="FILE", help="the cases of these files of vrwkv-bench")
    parser.add_argument("--compile", choices=("off", "on", "both"), default="off", help="torch.compile (default: off)")
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), help="bfloat16 is autocast (default: that on a GPU, float32 on the CPU)"
    )
    parser.add_argument("--device", type=device_argument, default="auto", help="cpu, cuda, cuda:N or auto (default)")
    parser.add_argument("--threads", type=positive(int), metavar="N", help="CPU threads (default: one per core)")
    parser.add_argument("--min-time", type=positive(float), default=2.0, metavar="S", help="seconds a case (default: 2)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the results, after every case")
    args = parser.parse_args()
    grid = [name for name in ("kind", "variant", "sizes", "batch") if getattr(args, name) is not None]
    if (args.only or args.like) and grid:
        parser.error(f"--{grid[0]} does not go together with --only or --like, which name whole cases")
    if args.only and args.like:
        parser.error("--only and --like do not go together")
    return args


def main():
    try:
        run(parse_arguments())
    except Failure as error:
        print(f"bench_deit.py: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
