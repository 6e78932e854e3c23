"""What `portfolio.py` shows: progress, the table, the plot. Nothing here solves or trains."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COLORS = {"end to end": "C0", "two-stage": "C3", "no forecast": "0.6", "equal weights": "0.35"}


@dataclass(frozen=True)
class Outcome:
    """A way to invest in the test years: objective and costs in % a year, wealth by week."""

    name: str
    objective: float
    costs: float
    wealth: Any


def tracked(runs: Sequence[Any]) -> Iterator[Any]:
    """The runs, with a progress bar where rich is installed, else with a line for each."""
    if importlib.util.find_spec("rich") is None:
        for k, run in enumerate(runs, 1):
            print(f"training {k}/{len(runs)}: {run.solver}, {run.framework}", flush=True)
            yield run
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    text = TextColumn("training {task.description:16}")
    with Progress(text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("", total=len(runs))
        for run in runs:
            bar.update(task, description=f"{run.solver}, {run.framework}")
            yield run
            bar.advance(task)


def table(runs: Sequence[Any], reference: Any) -> str:
    """A line for each run; the gradient's error is relative to the reference's largest entry."""
    head = (
        f"{'solver':10} {'framework':9} {'gradient error':>14} {'seconds':>8} "
        f"{'two-stage':>10} {'end to end':>11}"
    )
    lines = [head, "-" * len(head)]
    for run in runs:
        line = f"{run.solver:10} {run.framework:9} "
        if run.skipped:
            lines.append(f"{line}skipped: {run.skipped}")
            continue
        error = abs(run.gradient - reference).max() / abs(reference).max()
        line += f"{error:14.1e} {run.seconds:8.1f} "
        lines.append(line + f"{run.scores['two-stage']:10.2f} {run.scores['end to end']:11.2f}")
    return "\n".join(lines)


def summary(runs: Sequence[Any], outcomes: Sequence[Outcome]) -> str:
    """What the columns mean, whether end to end paid, and what else one could have done."""
    better = sum(run.scores["end to end"] > run.scores["two-stage"] for run in runs)
    lines = [
        "",
        "gradient error: against finite differences; seconds: of training; the last two columns:",
        "certainty-equivalent return in the test years, % a year after costs, higher is better.",
        f"End to end beats two-stage out of sample in {better} of {len(runs)} runs. They repeat",
        "one computation, so they are one experiment; docs/demo.md says how far to trust it.",
    ]
    lines += [f"  {o.name:14}{o.objective:6.2f}  (costs {o.costs:.2f})" for o in outcomes]
    return "\n".join(lines)


def draw(runs: Sequence[Any], outcomes: Sequence[Outcome], dates: Any, path: Path) -> None:
    """Left: training, all runs over each other. Right: wealth in the test years."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    _draw_training(left, runs)
    _draw_wealth(right, outcomes, dates)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_training(axes: Any, runs: Sequence[Any]) -> None:
    """The validation objective: a dot for each run and epoch, the runs side by side."""
    import matplotlib

    palette = matplotlib.colormaps["tab20"].colors
    palette = palette[::2] + palette[1::2]  # ten strong colors, then ten pale ones
    solvers = list(dict.fromkeys(run.solver for run in runs))
    frameworks = list(dict.fromkeys(run.framework for run in runs))
    epochs = np.arange(len(runs[0].validation))
    for run, shift in zip(runs, np.linspace(-0.35, 0.35, len(runs)), strict=True):
        first = run.framework == frameworks[0]
        color = palette[solvers.index(run.solver) % len(palette)]
        label = run.solver if first else None
        fill = color if first else "white"
        axes.scatter(epochs + shift, run.validation, 22, [fill], edgecolors=[color], label=label)
    start = runs[0].validation[0]
    axes.axhline(start, color="0.4", ls=":", lw=1.2, zorder=0)
    axes.text(epochs[-1] + 0.4, start, "two-stage model", ha="right", va="bottom", color="0.3")
    filled = f", filled: {frameworks[0]}, hollow: {frameworks[1]}" if len(frameworks) > 1 else ""
    axes.set_title(f"Training end to end: {len(runs)} runs{filled}")
    axes.set(xlabel="epoch", ylabel="objective in the validation years, % a year", xticks=epochs)
    axes.legend(fontsize=9, frameon=False, ncols=2, loc="center right")


def _draw_wealth(axes: Any, outcomes: Sequence[Outcome], dates: Any) -> None:
    """Wealth that starts at 1, with the objective in the legend."""
    for outcome in sorted(outcomes, key=lambda o: -o.objective):
        fixed = outcome.name in ("no forecast", "equal weights")
        label = f"{outcome.name}: {outcome.objective:.1f} % a year"
        style = {"lw": 1.3, "ls": "--", "zorder": 1} if fixed else {"lw": 2.2, "zorder": 2}
        axes.plot(dates, outcome.wealth, color=COLORS[outcome.name], label=label, **style)
    axes.set_yscale("log")
    ticks = [1, 1.5, 2, 3, 4, 5]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set(title="Out of sample, after costs", ylabel="wealth, from 1 (log scale)")
    axes.legend(frameon=False, title="certainty-equivalent return", alignment="left")
