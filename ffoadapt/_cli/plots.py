"""The plots of a comparison, as SVG to put into a page. matplotlib is imported at the call.

Text stays text in the font of the page, and takes its colour from the page, so that a plot reads
on a dark background too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .measure import Comparison, Row

__all__ = ["draw_plots"]

FORWARD, BACKWARD, RAW = "#2a6fbb", "#e08a2c", "#8a94a6"
INK = "#010203"
"""Stands for the colour of the page's text, which replaces it."""

FLOOR = 1e-17
"""Where a residual or difference of zero is drawn."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "text.usetex": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "legend.frameon": False,
}


def draw_plots(comparison: Comparison) -> list[tuple[str, str, str]]:
    """(title, caption, SVG) of each plot that has something to show.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    import matplotlib

    rows = comparison.solved
    if not rows:
        return []
    with matplotlib.rc_context(_STYLE):
        plots = [
            (
                "Time",
                "Medians, on a logarithmic scale. The fastest forward pass is on top.",
                _svg("time", _times(rows)),
            ),
            (
                "Accuracy",
                "Largest relative violation of the optimality conditions. Further left is better.",
                _svg("accuracy", _accuracy(rows)),
            ),
        ]
    return plots


def _axes(rows: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 1.25 + 0.34 * rows), layout="constrained")
    return figure, figure.add_subplot()


def _solver_axis(axes: Any, rows: Sequence[Row]) -> Any:
    places = np.arange(len(rows))
    axes.set_yticks(places, [row.solver for row in rows], parse_math=False)  # names are no formulas
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xscale("log")
    axes.grid(axis="x", color="#8888884d", linewidth=0.6)
    axes.spines["left"].set_visible(False)
    return places


def _times(rows: Sequence[Row]) -> Any:
    figure, axes = _axes(len(rows))
    places = _solver_axis(axes, rows)
    forward = [1e3 * (row.forward or np.nan) for row in rows]
    backward = [1e3 * (row.backward or np.nan) for row in rows]
    for place, pair in zip(places, zip(forward, backward, strict=True), strict=True):
        axes.plot(pair, [place, place], color="#88888866", linewidth=1.5, zorder=1)
    axes.scatter(forward, places, s=46, color=FORWARD, label="forward", zorder=2)
    axes.scatter(backward, places, s=46, color=BACKWARD, label="backward", zorder=2)
    axes.set_xlabel("milliseconds")
    _plain_ticks(axes, np.nanmax([*forward, *backward]) / np.nanmin([*forward, *backward]))
    _legend(axes)
    return figure


def _accuracy(rows: Sequence[Row]) -> Any:
    figure, axes = _axes(len(rows))
    places = _solver_axis(axes, rows)
    raw = [max(row.raw_residual or 0.0, FLOOR) for row in rows]
    final = [max(row.residual or 0.0, FLOOR) for row in rows]
    for place, pair in zip(places, zip(raw, final, strict=True), strict=True):
        axes.plot(pair, [place, place], color="#88888866", linewidth=1.5, zorder=1)
    axes.scatter(raw, places, s=46, color=RAW, label="the solver's point", zorder=2)
    axes.scatter(final, places, s=46, color=FORWARD, label="the layer's, polished", zorder=3)
    axes.set_xlabel("KKT residual")
    _legend(axes)
    return figure


def _plain_ticks(axes: Any, ratio: float) -> None:
    """0.1, 1, 10 instead of powers of ten, and 2 and 5 between them where there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio < 300 else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Any) -> None:
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0.2)


def _svg(name: str, figure: Any) -> str:
    """The figure as an SVG element without addresses, coloured by the page."""
    import matplotlib

    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", text)
    # Ids are local to a figure, but a page holds several figures.
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace(INK, "currentColor")
