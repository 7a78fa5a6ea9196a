#!/usr/bin/env python3
"""Sets the results of `vrwkv-bench model` and `train` against those of scripts/bench_deit.py.

  scripts/bench_compare.py --ours model.json train.json --deit deit.json [--markdown] [--plot bench.svg]

Prints one table: images/s and peak memory of each case, and the ratio VRWKV / DeiT (images/s: above 1 is faster; memory:
below 1 is less). Of a case that is in several files the last one counts. --plot draws both over the image size; it needs
matplotlib.
"""

import argparse
import json
import pathlib
import sys
import typing

KINDS = {"model": "inference", "train": "training"}
VARIANTS = ("tiny", "small", "base", "large")
VRWKV, DEIT, COMPILED = "VRWKV", "DeiT", "DeiT compiled"


class Failure(Exception):
    """What the user reads in place of a stack trace."""


class Case(typing.NamedTuple):
    kind: str
    variant: str
    side: int
    batch: int
    dtype: str


class Results(typing.NamedTuple):
    rows: dict  # Case -> {network: row}
    devices: set


def add_file(results, path, ours):
    try:
        report = json.loads(path.read_text())
        rows = [(kind, row) for kind in KINDS for row in report.get(kind, [])]
        results.devices.add(report["device_name"])
        for kind, row in rows:
            case = Case(kind, row["variant"], row["size"], row["batch"], row["dtype"])
            if case.variant not in VARIANTS:
                raise ValueError(f"unknown variant '{case.variant}'")
            network = VRWKV if ours else COMPILED if row["compiled"] else DEIT
            results.rows.setdefault(case, {})[network] = {
                name: row[name] for name in ("images_per_s", "peak_bytes", "out_of_memory")
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        program = "vrwkv-bench model or train" if ours else "scripts/bench_deit.py"
        raise Failure(f"{'--ours' if ours else '--deit'}: {path} is no JSON of {program}: {error!r}") from error
    if not rows:
        raise Failure(f"{path} has neither 'model' nor 'train' results; measure them with vrwkv-bench model or train")


def read_results(ours, deit):
    results = Results({}, set())
    for path in ours:
        add_file(results, path, ours=True)
    for path in deit:
        add_file(results, path, ours=False)
    return results


def quantity(networks, network, name):
    return networks.get(network, {}).get(name)


def shown(networks, network, name, scale, decimals):
    if networks.get(network, {}).get("out_of_memory"):
        return "no memory"
    value = quantity(networks, network, name)
    return "-" if value is None else f"{value * scale:.{decimals}f}"


def ratio(networks, network, name):
    ours, theirs = quantity(networks, VRWKV, name), quantity(networks, network, name)
    return "-" if not ours or not theirs else f"{ours / theirs:.2f}"


def table_lines(results):
    """Title and rows as lists of cells."""
    rivals = [name for name in (DEIT, COMPILED) if any(name in networks for networks in results.rows.values())]
    titles = ["kind", "variant", "side px", "batch", "dtype", f"{VRWKV} images/s"]
    for rival in rivals:
        titles += [f"{rival} images/s", "ratio"]
    titles.append(f"{VRWKV} GB")
    for rival in rivals:
        titles += [f"{rival} GB", "ratio"]
    lines = [titles]
    for case in sorted(results.rows, key=lambda c: (c.kind, VARIANTS.index(c.variant), c.side, c.batch, c.dtype)):
        networks = results.rows[case]
        line = [KINDS[case.kind], case.variant, str(case.side), str(case.batch), case.dtype]
        for name, scale, decimals in (("images_per_s", 1, 1), ("peak_bytes", 1e-9, 2)):
            line.append(shown(networks, VRWKV, name, scale, decimals))
            for rival in rivals:
                line += [shown(networks, rival, name, scale, decimals), ratio(networks, rival, name)]
        lines.append(line)
    return lines


def plain_table(lines):
    widths = [max(map(len, column)) for column in zip(*lines)]
    left = {0, 1, 4}
    return "\n".join(
        "  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    )


def markdown_table(lines):
    titles, *rows = lines
    rule = ["---" if i in (0, 1, 4) else "---:" for i in range(len(titles))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [titles, rule, *rows])


def draw(results, path):
    """One column for each kind; images/s above, memory for an image of the batch below; a colour for each variant."""
    try:
        import matplotlib
    except ImportError as error:
        raise Failure(f"--plot needs matplotlib ({error}): pip install matplotlib, or leave --plot out") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = [kind for kind in KINDS if any(case.kind == kind for case in results.rows)]
    panels = (
        ("images/s", lambda case, row: row["images_per_s"]),
        ("peak memory, GB per image", lambda case, row: row["peak_bytes"] and row["peak_bytes"] * 1e-9 / case.batch),
    )
    styles = {VRWKV: "o-", DEIT: "s--", COMPILED: "^:"}
    variants = sorted({case.variant for case in results.rows}, key=VARIANTS.index)
    figure, axes = pyplot.subplots(2, len(kinds), figsize=(6 * len(kinds), 8), squeeze=False)
    for column, kind in enumerate(kinds):
        for axis, (label, value) in zip(axes[:, column], panels):
            for colour, variant in enumerate(variants):
                for network, style in styles.items():
                    cases = sorted(
                        (c for c in results.rows if (c.kind, c.variant) == (kind, variant)), key=lambda c: c.side
                    )
                    points = [(c.side, value(c, results.rows[c][network])) for c in cases if network in results.rows[c]]
                    points = [point for point in points if point[1]]
                    if points:
                        axis.plot(*zip(*points), style, color=f"C{colour}", label=f"{network} {variant}")
            sides = sorted({case.side for case in results.rows if case.kind == kind})
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            axis.set_xticks(sides, map(str, sides))
            axis.minorticks_off()
            axis.set(xlabel="image side, pixels", ylabel=label, title=KINDS[kind])
            axis.grid(True, alpha=0.3)
            if axis.lines:
                axis.legend(fontsize="small")
    figure.suptitle(", ".join(sorted(results.devices)))
    figure.tight_layout()
    figure.savefig(path)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", nargs="+", type=pathlib.Path, required=True, metavar="FILE", help="of vrwkv-bench")
    parser.add_argument("--deit", nargs="+", type=pathlib.Path, required=True, metavar="FILE", help="of bench_deit.py")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE", help="draw both over the image size: .svg or .png")
    args = parser.parse_args()
    if args.plot and args.plot.suffix not in (".svg", ".png"):
        parser.error(f"--plot: expected a name that ends in .svg or .png, got '{args.plot}'")
    if args.plot and not args.plot.absolute().parent.is_dir():
        parser.error(f"--plot: the folder of {args.plot} does not exist; make it first")
    return args


def main():
    args = parse_arguments()
    try:
        results = read_results(args.ours, args.deit)
        lines = table_lines(results)
        print(markdown_table(lines) if args.markdown else plain_table(lines))
        if len(results.devices) > 1:
            names = ", ".join(sorted(results.devices))
            print(f"bench_compare.py: warning: measured on different devices: {names}", file=sys.stderr)
        if args.plot:
            draw(results, args.plot)
    except Failure as error:
        print(f"bench_compare.py: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
