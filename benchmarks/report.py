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
    found: dict[tuple[str, int, int], dict[str, Cell]] = {}
    for cell in cells:
        found.setdefault((cell.row, cell.n, cell.batch), {})[cell.name] = cell
    return found


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
    """Total ms of everyone, and of ours: forward, backward, and the two ratios."""
    names = [n for n in dict.fromkeys(c.name for c in cells) if n not in (OURS, LIMIT)]
    heads = ["program", "n", "B", "**ffoadapt**", "forward", "backward", *names, "limit"]
    heads += ["best peer / ours", "ours / limit"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for (row, n, B), group in groups(cells).items():
        ours, bound = group.get(OURS), group.get(LIMIT)
        if ours is None:
            continue
        rival = best_peer(list(group.values()))
        words = [row, f"{n:,}", str(B), f"**{_entry(ours)}**"]
        words += [_number(ours.forward), _number(ours.backward)]
        words += [_entry(group.get(name)) for name in names]
        words += [_number(bound.total) if bound else "-"]
        words += [f"{rival.ratio:.2f}" if rival else "-"]
        words += [f"{1.0 / bound.ratio:.2f}" if bound and bound.ratio > 0 else "-"]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def summary(cells: Sequence[Cell]) -> list[str]:
    """Geometric means, and where the targets are missed."""
    rival, behind, over, slow, wrong = [], [], [], [], []
    against: dict[str, list[float]] = {}
    for (row, n, B), group in groups(cells).items():
        ours, where = group.get(OURS), f"{row} n={n} B={B}"
        if ours is None or not ours.right:
            wrong.append(f"{where}: ffoadapt {ours.note if ours else 'absent'}")
            continue
        peer, bound = best_peer(list(group.values())), group.get(LIMIT)
        if peer is not None:
            rival.append(peer.ratio)
            if peer.ratio < 1.0:
                behind.append(f"{where}: {peer.name} takes {peer.ratio:.2f} of our time")
        for cell in group.values():
            if cell.name not in (OURS, LIMIT) and not cell.right:
                why = cell.note or f"gradients off by {cell.error:.1e}"
                wrong.append(f"{where}: {cell.name}: {why}")
            elif cell.name not in (OURS, LIMIT):
                against.setdefault(cell.name, []).append(cell.ratio)
        if bound is not None and bound.ratio > 0 and 1.0 / bound.ratio > (0.8 if B > 1 else 1.35):
            over.append(f"{where}: {1.0 / bound.ratio:.2f} x limit")
        if n >= 200 and ours.backward > 0.35 * ours.forward:
            slow.append(f"{where}: backward / forward {ours.backward / ours.forward:.2f}")
    lines = []
    if rival:
        lines.append(f"best peer / ours, geometric mean of {len(rival)} cells: {_mean(rival):.2f}")
    for name, ratios in against.items():
        lines.append(f"{name} / ours, geometric mean of {len(ratios)} cells: {_mean(ratios):.1f}")
    for head, found in (
        ("slower than the best peer", behind),
        ("above the target against the limit (1.35; batches 0.8)", over),
        ("backward above 0.35 of forward at n >= 200", slow),
        (f"failed, or gradients wrong (relative error above {RIGHT:g})", wrong),
    ):
        lines.append(f"{head}: {len(found)}")
        lines += [f"  - {line}" for line in found]
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
