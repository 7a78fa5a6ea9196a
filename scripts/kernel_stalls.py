#!/usr/bin/env python3
"""Says at which machine instructions the warps of a CUDA kernel wait, and for what, by Nsight Compute's samples.

  ncu --set full --import-source no --clock-control none -k regex:channel_mix_kernel -s 3 -c 1 -o report \\
      vrwkv-bench ops --op channel_mix --sizes 2,16384,192 --min-time 0.01
  ncu -i report.ncu-rep --page source --csv > source.csv
  scripts/kernel_stalls.py source.csv

Prints what all samples wait for, then the instructions with at least --least percent of them, in the order of the code.
Barriers and products show where one part of a kernel ends; --begin and --end choose a part by instruction numbers.
What has no column of its own, such as the wait for a product to be taken, is called other.
"""

import argparse
import collections
import csv
import sys
import typing

SAMPLES, SOURCE, EXECUTED = "# Samples", "Source", "Instructions Executed"


class Failure(Exception):
    """What the user reads in place of a stack trace."""


class Instruction(typing.NamedTuple):
    number: int
    text: str
    executed: int
    samples: int
    reasons: collections.Counter


def number_of(cell):
    return int(cell) if cell.isdigit() else 0


def read(path):
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"{path} is no CSV: {error}") from None
    title = next((i for i, row in enumerate(rows) if SAMPLES in row), None)
    if title is None or not {SOURCE, EXECUTED} <= set(rows[title]):
        raise Failure(f"{path}: expected the CSV of `ncu -i REPORT --page source --csv`, with a column {SAMPLES!r}")
    column = {name: i for i, name in enumerate(rows[title])}
    # "stall_wait (Not Issued)" is a part of "stall_wait".
    stalls = {name[len("stall_") :]: i for name, i in column.items() if name.startswith("stall_") and " " not in name}
    instructions = []
    for row in rows[title + 1 :]:
        if len(row) < len(column):
            continue  # A line of the source, or the next kernel's title.
        samples = number_of(row[column[SAMPLES]])
        reasons = collections.Counter({name: number_of(row[i]) for name, i in stalls.items()})
        reasons["other"] = samples - sum(reasons.values())
        text = " ".join(row[column[SOURCE]].split())
        instructions.append(Instruction(len(instructions), text, number_of(row[column[EXECUTED]]), samples, reasons))
    if not any(instruction.samples for instruction in instructions):
        raise Failure(f"{path}: no samples; collect them with ncu --set full")
    return instructions


def shares(reasons, total, most):
    percent = [(name, 100 * count / total) for name, count in reasons.most_common(most)]
    return "  ".join(f"{name} {share:.1f}" for name, share in percent if share >= 0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", help="what `ncu --page source --csv` printed")
    parser.add_argument("--least", type=float, default=1.0, metavar="PERCENT", help="of all samples (default: 1)")
    parser.add_argument("--begin", type=int, default=0, metavar="N", help="first instruction (default: 0)")
    parser.add_argument("--end", type=int, metavar="N", help="the one behind the last (default: all)")
    flags = parser.parse_args()
    instructions = read(flags.csv)
    total = sum(instruction.samples for instruction in instructions)
    part = instructions[flags.begin : flags.end]
    reasons = sum((instruction.reasons for instruction in part), collections.Counter())
    samples = sum(instruction.samples for instruction in part)
    print(f"{samples} of {total} samples, {len(part)} of {len(instructions)} instructions; % of all samples:")
    print(shares(reasons, total, len(reasons)))
    print(f"{'number':>6} {'so far':>6} {'%':>5} {'executed':>9}  instruction, and what it waits for")
    so_far = 0
    for instruction in part:
        so_far += instruction.samples
        if instruction.samples < flags.least / 100 * total:
            continue
        counts = f"{100 * so_far / total:6.1f} {100 * instruction.samples / total:5.1f} {instruction.executed:9d}"
        waits = shares(instruction.reasons, total, 3)
        print(f"{instruction.number:6d} {counts}  {instruction.text:60.60s} {waits}")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
