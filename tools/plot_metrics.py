#!/usr/bin/env python3
"""Compares training runs: plots a metric with gnuplot and prints each run's last values.

    tools/plot_metrics.py runs/demo/hybrid runs/demo/transformer --svg runs/demo/validation.svg

A run is the folder of a recipe: it holds metrics.jsonl and timing.jsonl, one JSON object a line. Needs only
Python's standard library, and gnuplot.
"""
import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

LABELS = {
    "step": "step",
    "tokens": "training tokens",
    "loss": "training loss (nats per token)",
    "validation_loss": "validation loss (nats per token)",
    "validation_bits_per_byte": "validation bits per byte",
    "tokens_per_second": "tokens per second",
}
# Okabe and Ito (2008): told apart by colour-blind readers too.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]


def read_lines(path):
    """The file's objects in order. A last line that was cut off by a crash is left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    objects = []
    for number, line in enumerate(lines, 1):
        try:
            objects.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                sys.exit(f"plot_metrics: {path}:{number}: not JSON: {error.msg}")
    return objects


def read_run(folder):
    """All that a run has written about itself; rates, which no two runs share, are in a file of their own."""
    metrics, timing = Path(folder) / "metrics.jsonl", Path(folder) / "timing.jsonl"
    try:
        return (read_lines(timing) if timing.exists() else []) + read_lines(metrics)
    except OSError as error:
        sys.exit(f"plot_metrics: {metrics}: {error.strerror}; train first: braid train RECIPE")


def curve(metrics, x, y):
    """Points (x, y) by rising x. A resumed run may have written a step twice: the later line counts."""
    points = {line[x]: line[y] for line in metrics if x in line and y in line}
    return sorted(points.items())


def plot_commands(curves, terminal, x, y):
    """A gnuplot script with its data inside, so that nothing else need exist."""
    script = [f"set terminal {terminal} noenhanced", "set key top right", "set grid", 'set format x "%.1s%c"',
              f'set xlabel "{LABELS.get(x, x)}"', f'set ylabel "{LABELS.get(y, y)}"']
    plots = []
    for i, (name, points) in enumerate(curves.items()):
        script += [f"$run{i} << EOD"] + [f"{a} {b}" for a, b in points] + ["EOD"]
        colour = COLOURS[i % len(COLOURS)]
        plots.append(f'$run{i} with linespoints lw 2 pt {2 * i + 5} ps 0.5 lc rgb "{colour}" title "{name}"')
    return "\n".join(script + ["plot " + ", ".join(plots), ""])


def gnuplot(script):
    try:
        return subprocess.run(["gnuplot"], input=script, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        sys.exit("plot_metrics: gnuplot is missing; scripts/setup.sh installs it")
    except subprocess.CalledProcessError as error:
        sys.exit(f"plot_metrics: gnuplot: {error.stderr.strip()}")


def text_plot(curves, x, y):
    """The same plot in characters; markers only, with a letter for each run."""
    script = plot_commands(curves, "dumb size 78, 20", x, y).replace("set grid", "unset grid")
    for i, name in enumerate(curves):
        script = script.replace(f"$run{i} with linespoints lw 2 pt {2 * i + 5} ps 0.5",
                                f'$run{i} with linespoints pt "{name[:1].upper()}"')
    lines = "\n".join(line.rstrip() for line in gnuplot(script).strip("\f").splitlines()).strip("\n")
    return f"{LABELS.get(y, y)}\n{lines}"


def table(runs):
    """The last value of each validation metric, and the median speed."""
    rows = [("run", "steps", "tokens", "validation loss", "bits per byte", "tokens/s")]
    for name, metrics in runs.items():
        last = {}
        for line in metrics:
            last.update(line)
        speeds = [line["tokens_per_second"] for line in metrics if "tokens_per_second" in line]
        shown = [("step", "{}"), ("tokens", "{}"), ("validation_loss", "{:.4f}"),
                 ("validation_bits_per_byte", "{:.4f}")]
        rows.append((name, *(f.format(last[key]) if key in last else "-" for key, f in shown),
                     f"{statistics.median(speeds):.0f}" if speeds else "-"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for name, *values in rows:
        lines.append("  ".join([name.ljust(widths[0]), *(v.rjust(w) for v, w in zip(values, widths[1:]))]))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of runs")
    parser.add_argument("--x", default="tokens", help="metric across (tokens)")
    parser.add_argument("--y", default="validation_bits_per_byte",
                        help="metric up (validation_bits_per_byte)")
    parser.add_argument("--svg", help="also draw the plot into this file")
    arguments = parser.parse_args()

    names = [Path(folder).name for folder in arguments.runs]
    if len(set(names)) < len(names):
        names = arguments.runs
    runs = {name: read_run(folder) for name, folder in zip(names, arguments.runs)}
    curves = {name: curve(metrics, arguments.x, arguments.y) for name, metrics in runs.items()}
    for name, points in curves.items():
        if not points:
            sys.exit(f"plot_metrics: {name}: no line of its metrics has '{arguments.x}' and '{arguments.y}'")
    if arguments.svg:
        terminal = 'svg size 900,520 background rgb "white" font "sans,14"'
        image = gnuplot(plot_commands(curves, terminal, arguments.x, arguments.y))
        Path(arguments.svg).write_text(image, encoding="utf-8")
    print(text_plot(curves, arguments.x, arguments.y))
    print()
    print(table(runs))
    if arguments.svg:
        print(f"\nplot: {arguments.svg}")


if __name__ == "__main__":
    main()
