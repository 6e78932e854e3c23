"""Draws what the documentation shows: the measured times, and the pictures of the gallery's pages.

    python tools/pictures.py

A page of the gallery ends with `figure.savefig("NAME.svg")`: its code is run, and the file kept in
docs/assets/. The times are those of benchmarks/results/speed.csv.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "ffoadapt"  # the same numbers give the same file
matplotlib.rcParams["savefig.bbox"] = "tight"

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs" / "assets"


def main() -> None:
    os.chdir(ASSETS)
    chosen = sys.argv[1:]
    if not chosen or "speed" in chosen:
        speed()
    for page in sorted((ROOT / "docs").glob("gallery-*.md")):
        if not chosen or page.stem.removeprefix("gallery-") in chosen:
            code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
            exec(compile(code, str(page), "exec"), {"__name__": "page"})


def speed() -> None:
    """assets/speed.svg: a panel for dense and one for sparse quadratic programs."""
    import matplotlib.pyplot as plt

    lines: dict[str, dict[str, list[tuple[int, float]]]] = {
        "dense": defaultdict(list),
        "sparse": defaultdict(list),
    }
    with (ROOT / "benchmarks" / "results" / "speed.csv").open() as file:
        for row in csv.DictReader(file):
            if row["kind"] in lines and row["seconds"] not in ("", "nan"):
                point = int(row["n"]), float(row["seconds"])
                lines[row["kind"]][row["solver"]].append(point)
    names = sorted({name for panel in lines.values() for name in panel})
    colors = {name: plt.get_cmap("tab20")(2 * k % 20 + k // 10) for k, name in enumerate(names)}
    figure, axes = plt.subplots(1, 2, figsize=(8.0, 3.4), layout="constrained")
    for axis, (kind, panel) in zip(axes, lines.items(), strict=True):
        for name in names:
            points: Any = sorted(panel.get(name, []))
            if points:
                axis.loglog(*zip(*points, strict=True), "o-", ms=3, color=colors[name], label=name)
        axis.set(title=f"{kind} quadratic programs", xlabel="variables", ylabel="seconds a call")
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig("speed.svg", metadata={"Date": None}, facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    main()
