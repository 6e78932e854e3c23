"""A comparison as one self-contained HTML page: no script, no font, no image from elsewhere."""

from __future__ import annotations

import datetime
import errno
import math
import os
import platform
import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy
import scipy

from .. import __version__
from .._exceptions import ProblemError
from .console import number, seconds
from .measure import Comparison, Row
from .problem_file import ProblemFile

__all__ = ["write_page"]

NO_PLOTS = "matplotlib is not installed, so the page has no plots: pip install matplotlib"


_KINDS = {"optimal": "good", "optimal_inaccurate": "fair", "unsupported": "none"}
"""How a status is coloured; other ones are poor."""


def write_page(path: Path, problem: ProblemFile, comparison: Comparison, *, seed: int) -> str:
    """Write the page; return a note on what it lacks, or an empty string."""
    try:
        from .plots import draw_plots

        plots, note = draw_plots(comparison), ""
    except ImportError:
        plots, note = [], NO_PLOTS
    figures = [
        f"<figure><h2>{escape(title)}</h2>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        for title, caption, svg in plots
    ]
    body = [
        f"<header><h1>{escape(problem.path.name)}</h1>{_facts(problem, comparison)}</header>",
        f"<section>{_solver_table(comparison)}{_notes(comparison)}</section>",
        f'<div class="plots">{"".join(figures)}</div>' if figures else "",
        f'<p class="note">{escape(note)}</p>' if note else "",
        _gradient_table(problem, comparison),
        _footer(seed),
    ]
    title = f"{escape(problem.path.name)}: solvers compared"
    text = PAGE.format(title=title, style=STYLE, body="\n".join(part for part in body if part))
    try:
        _write(path.resolve(), text)
    except OSError as error:
        raise ProblemError(f"the page cannot be written to {path}: {error.strerror}") from error
    return note


def _write(path: Path, text: str) -> None:
    """All of it or nothing: under another name, which then becomes the page's."""
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe
        path.write_text(text, encoding="utf-8")
        return
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    new = path.with_name(f".ffoadapt-{os.getpid()}.html")
    try:
        new.write_text(text, encoding="utf-8")
        if path.exists():
            shutil.copymode(path, new)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _facts(problem: ProblemFile, comparison: Comparison) -> str:
    structure = problem.structure
    facts = [
        f"{structure.n} variables",
        f"{structure.m} rows",
        "dense" if structure.dense else "sparse",
        *(f"{kind.replace('_', ' ')} cone" for kind in sorted(structure.kinds)),
        f"solved by {len(comparison.solved)} of {len(comparison.rows)} solvers",
    ]
    return "<ul>" + "".join(f"<li>{escape(fact)}</li>" for fact in facts) + "</ul>"


def _table(header: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """``header`` holds (class, text); the cells of ``rows`` are HTML."""
    head = "".join(f'<th class="{kind}">{text}</th>' for kind, text in header)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{cell}</td>' for (kind, _), cell in zip(header, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _solver_table(comparison: Comparison) -> str:
    header = [
        ("word", "solver"),
        ("word", "status"),
        ("figure", "objective"),
        ("figure", "KKT residual"),
        ("figure", "before polishing"),
        ("figure", "gradient difference"),
        ("figure", "forward"),
        ("figure", "backward"),
    ]
    return _table(header, [_solver_row(row, comparison.reference) for row in comparison.rows])


def _solver_row(row: Row, reference: str | None) -> list[str]:
    kind = _KINDS.get(row.status, "poor")
    return [
        f"<b>{escape(row.solver)}</b>",
        f'<span class="status {kind}">{escape(row.status.replace("_", " "))}</span>',
        "-" if row.objective is None else f"{row.objective:.8g}",
        number(row.residual),
        number(row.raw_residual),
        "reference" if row.solver == reference else number(row.worst),
        seconds(row.forward),
        seconds(row.backward),
    ]


def _listed(items: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in items)


def _notes(comparison: Comparison) -> str:
    items = "".join(
        f"<dt>{escape(who)}</dt><dd>{escape(what)}</dd>" for who, what in comparison.notes
    )
    return f"<dl>{items}</dl>" if items else ""


def _gradient_table(problem: ProblemFile, comparison: Comparison) -> str:
    data = problem.data
    if not data:
        return '<p class="note">The problem has no parameters, so there is no gradient.</p>'
    if not comparison.others:
        return ""
    header = [("word", "datum"), *(("figure", escape(row.solver)) for row in comparison.others)]
    rows = [
        [f"<b>{escape(name)}</b>", *(_shaded(row.differences[name]) for row in comparison.others)]
        for name in data
    ]
    return (
        f"<section><h2>Gradients, relative to that of {escape(str(comparison.reference))}</h2>"
        f"{_table(header, rows)}</section>"
    )


def _shaded(difference: float) -> str:
    """The darker, the further away: nothing at 1e-12, full at 1."""
    depth = min(max(1.0 + math.log10(max(difference, 1e-12)) / 12.0, 0.0), 1.0)
    colour = f"rgba(224, 102, 43, {0.7 * depth:.2f})"
    return f'<span class="shade" style="background: {colour}">{number(difference)}</span>'


def _footer(seed: int) -> str:
    day = datetime.date.today().isoformat()
    versions = (
        f"ffoadapt {__version__}, numpy {numpy.__version__}, scipy {scipy.__version__}, "
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    return f"<footer><p>{READING.format(seed=seed)}</p><p>{escape(versions)}; {day}.</p></footer>"


READING = """\
Residuals are the largest violation of the optimality conditions, relative to the size of the data.
The gradient is that of &lt;v, solution&gt; for one random v (seed {seed}); differences are
|g &minus; g<sub>ref</sub>| / |g<sub>ref</sub>|, and the reference is the solver with the smallest
residual (1e-12 is as good as 0), or the one that was asked for. Times are medians of whole calls of
a layer: checks, solve and polishing forward; factorization and gradients of all data backward."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --line: #dfe4ea;
  --paper: #ffffff; --back: #f4f6f8; --good: #1c7c45; --fair: #a86400; --poor: #b3382c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9ca7b6; --line: #2e3744;
  --paper: #19202a; --back: #11161d; --good: #58c98a; --fair: #e2a74a; --poor: #f08578; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 40px 24px 32px; color: var(--ink);
  background: var(--back); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue",
  "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 26px; letter-spacing: -0.01em; }
h2 { margin: 0 0 12px; font-size: 16px; }
header ul { display: flex; flex-wrap: wrap; gap: 8px; margin: 12px 0 24px; padding: 0;
  list-style: none; }
header li { padding: 2px 10px; border: 1px solid var(--line); border-radius: 12px;
  background: var(--paper); color: var(--soft); font-size: 13px; }
section, figure { margin: 0 0 20px; padding: 20px; border: 1px solid var(--line);
  border-radius: 10px; background: var(--paper); }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { padding: 4px 10px 8px; color: var(--soft); font-size: 13px; font-weight: 500;
  vertical-align: bottom; }
td { padding: 7px 10px; border-top: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
.word { text-align: left; } .figure { text-align: right; }
.status { font-weight: 600; } .good { color: var(--good); } .fair { color: var(--fair); }
.poor { color: var(--poor); }
.none { color: var(--soft); }
.shade { padding: 2px 8px; border-radius: 4px; margin: 0 -8px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr));
  gap: 20px; margin-bottom: 20px; }
.plots figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; }
figcaption, footer, .note { color: var(--soft); font-size: 13px; }
figcaption { margin-top: 8px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 16px; margin: 0;
  font-size: 14px; }
.wide + dl { margin-top: 16px; padding-top: 14px; border-top: 1px solid var(--line); }
dt { max-width: 220px; font-weight: 600; } dd { margin: 0; color: var(--soft);
  overflow-wrap: anywhere; }
footer p { margin: 6px 0; }
"""
