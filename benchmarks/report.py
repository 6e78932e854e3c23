"""Cells as CSV, Markdown tables (which docs/benchmarks.md includes), text and plots."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rows import LIMIT, OURS, RIGHT, Cell, best_peer

__all__ = ["groups", "markdown", "plot", "save", "save_facts", "summary"]


def groups(cells: Iterable[Cell]) -> dict[tuple[str, int, int], dict[str, Cell]]:
    """{(row, n, B): {contestant: cell}}."""
    groups: dict[tuple[str, int, int], dict[str, Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.row, cell.n, cell.batch), {})[cell.name] = cell
    return groups


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _entry(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    if cell.note:
        return "fails"
    return _number(cell.total) + ("" if cell.right else " (wrong)")


def markdown(cells: Sequence[Cell]) -> str:
    """Total ms of everyone, forward and backward of ours, and the ratios: wall clock (CPU)."""
    names = [n for n in dict.fromkeys(c.name for c in cells) if n not in (OURS, LIMIT)]
    heads = ["program", "n", "B", "**ffoadapt**", "forward", "backward", *names, "limit"]
    heads += ["best peer / ours", "ours / limit"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for (row, n, B), group in groups(cells).items():
        ours, bound = group.get(OURS), group.get(LIMIT)
        if ours is None:
            continue
        words = [row, f"{n:,}", str(B), f"**{_entry(ours)}**"]
        words += [_number(ours.forward), _number(ours.backward)]
        words += [_entry(group.get(name)) for name in names]
        words += [_number(bound.total) if bound else "-"]
        rivals = [best_peer(list(group.values()), part) for part in PARTS]
        words += [_pair([getattr(c, p) if c else None for c, p in zip(rivals, PARTS, strict=True)])]
        words += [_pair([1.0 / getattr(bound, p) if bound else None for p in PARTS])]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


PARTS = ("ratio", "cpu_ratio")


def _pair(values: Sequence[float | None]) -> str:
    """Wall clock (CPU)."""
    wall, cpu = ("-" if v is None else f"{v:.2f}" for v in values)
    return "-" if wall == "-" else f"{wall} ({cpu})"


def summary(cells: Sequence[Cell]) -> list[str]:
    """Geometric means, and where the targets are missed; wall clock (CPU)."""
    rival: dict[str, list[float]] = {part: [] for part in PARTS}
    against: dict[str, dict[str, list[float]]] = {}
    behind, over, slow, wrong = [], [], [], []
    for (row, n, B), group in groups(cells).items():
        ours, where = group.get(OURS), f"{row} n={n} B={B}"
        if ours is None or not ours.right:
            wrong.append(f"{where}: ffoadapt {ours.note if ours else 'absent'}")
            continue
        best = {part: best_peer(list(group.values()), part) for part in PARTS}
        peer, bound = best["ratio"], group.get(LIMIT)
        for part, cell in best.items():
            if cell is not None:
                rival[part].append(getattr(cell, part))
        if peer is not None and min(peer.ratio, rival["cpu_ratio"][-1]) < 1.0:
            both = _pair([peer.ratio, peer.cpu_ratio])
            behind.append(f"{where}: {peer.name} takes {both} of our time")
        for cell in group.values():
            if cell.name in (OURS, LIMIT):
                continue
            if not cell.right:
                why = cell.note or f"gradients off by {cell.error:.1e}"
                wrong.append(f"{where}: {cell.name}: {why}")
            if not cell.note:
                head = cell.name if cell.right else f"{cell.name} (wrong gradients)"
                lists = against.setdefault(head, {part: [] for part in PARTS})
                for part in PARTS:
                    lists[part].append(getattr(cell, part))
        if bound is not None:
            target = 0.8 if B > 1 else 1.35
            ratios = [1.0 / getattr(bound, part) for part in PARTS]
            if ratios[0] > target:
                over.append(f"{where}: {_pair(ratios)} x limit")
        if n >= 200 and ours.backward > 0.35 * ours.forward:
            slow.append(f"{where}: backward / forward {ours.backward / ours.forward:.2f}")
    lines = []
    for name, lists in {"best peer": rival, **against}.items():
        if count := len(lists["ratio"]):
            means = _pair([_mean(lists[part]) for part in PARTS])
            lines.append(f"{name} / ours, geometric mean of {count} cells: {means}")
    for head, listed in (
        ("slower than the best peer", behind),
        ("above the target against the limit (1.35; batches 0.8)", over),
        ("backward above 0.35 of forward at n >= 200", slow),
        (f"failed, or gradients wrong (relative error above {RIGHT:g})", wrong),
    ):
        lines.append(f"{head}: {len(listed)}")
        lines += [f"  - {line}" for line in listed]
    return lines


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def save(cells: Sequence[Cell], name: str, folder: Path) -> None:
    """name.csv and name.md."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Cell)])
        writer.writeheader()
        for cell in cells:
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in _row(cell)})
    (folder / f"{name}.md").write_text(markdown(cells) + "\n")


def _row(cell: Cell) -> Iterable[tuple[str, Any]]:
    return asdict(cell).items()


def save_facts(facts: Sequence[dict[str, Any]], name: str, folder: Path) -> str:
    """Facts that are no cells (memory, scaling) as JSON lines and as Markdown; gives the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text("\n".join(map(json.dumps, facts)) + "\n")
    lines = ["| what | n | measured |", "|---|---|---|"]
    for fact in facts:
        rest = {k: v for k, v in fact.items() if k not in ("what", "n")}
        words = ", ".join(f"{k.replace('_', ' ')} {_fact(v)}" for k, v in rest.items())
        lines.append(f"| {fact['what']} | {fact.get('n', '')} | {words} |")
    text = "\n".join(lines)
    (folder / f"{name}.md").write_text(text + "\n")
    return text


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(_fact(v) for v in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def plot(cells: Sequence[Cell], name: str, folder: Path) -> None:
    """Total time over n, a curve a contestant, right gradients only, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ffoadapt"  # the same numbers give the same file
    from matplotlib import pyplot

    batches = sorted({cell.batch for cell in cells})
    figure, axes = pyplot.subplots(
        1, len(batches), figsize=(5.2 * len(batches), 3.8), squeeze=False
    )
    for axis, B in zip(axes[0], batches, strict=True):
        for who in dict.fromkeys(cell.name for cell in cells):
            mine = sorted(
                (c.n, c.total) for c in cells if c.name == who and c.batch == B and c.right
            )
            if mine:
                style = {OURS: "k-o", LIMIT: "k:"}.get(who, "-o")
                axis.loglog(*zip(*mine, strict=True), style, label=who, markersize=4, lw=1.4)
        axis.set_xlabel("variables")
        axis.set_ylabel("forward + backward, ms")
        axis.set_title(f"B = {B}", fontsize=10)
        axis.grid(alpha=0.3, which="both", lw=0.4)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)
