"""Measures every installed solver on one problem: how it ends, how exact, how fast, which gradient.

Each solver gets what a user of `ffoadapt.Layer` gets, polishing included. The gradient is that of
<v, outputs> for one random v, and is compared with that of the reference solver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np

from .._exceptions import FFOAdaptError, OptionError, UnsupportedProblemError
from .._layers.layer import Layer
from .._layers.result import LayerResult
from .._oracle.report import GradientReport
from .._plugins.registry import registry
from .._program.points import Status
from .._types import Floats
from .console import reason, silenced
from .problem_file import ProblemFile

__all__ = ["Comparison", "Row", "compare_solvers"]


ENOUGH = 10.0
"""Seconds after which a solver is not run again, whatever the number of runs asked for."""

EXACT = 1e-12
"""A residual below this counts as this: among such solvers the reference goes by name."""


@dataclass(frozen=True)
class Row:
    """What one solver did; the numbers are there where it ``solved``.

    Attributes
    ----------
    status
        A `Status`' value, ``"unsupported"`` where it cannot take the problem, or ``"unusable"``.
    reason
        Why there is no solution.
    objective
        The user's objective.
    residual, raw_residual
        Largest relative violation of the optimality conditions by the layer's point, and by the
        solver's own, before polishing.
    report
        How far to trust the gradient.
    forward, backward
        Seconds, medians of ``runs``: from numbers to outputs, and from cotangents to gradients.
    differences
        By datum: |g - g_ref| / |g_ref|. Where g_ref vanishes, relative to the largest gradient.
    """

    solver: str
    status: str
    solved: bool = False
    reason: str = ""
    objective: float | None = None
    residual: float | None = None
    raw_residual: float | None = None
    report: GradientReport | None = None
    forward: float | None = None
    backward: float | None = None
    runs: int = 0
    gradient: Mapping[str, Floats] = field(default_factory=dict, repr=False)
    differences: Mapping[str, float] = field(default_factory=dict)

    @property
    def worst(self) -> float | None:
        """The largest of the differences."""
        return max(self.differences.values(), default=None)


@dataclass(frozen=True)
class Comparison:
    """All rows, the solved ones first and the fastest of these first; ``reference`` is a name."""

    rows: tuple[Row, ...]
    reference: str | None

    @property
    def solved(self) -> list[Row]:
        """The rows with numbers."""
        return [row for row in self.rows if row.solved]

    @property
    def others(self) -> list[Row]:
        """The solved rows whose gradient is compared with that of the reference."""
        return [row for row in self.solved if row.solver != self.reference]

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(solvers, what there is to say of them): why not solved, how far to trust a gradient."""
        said: dict[str, list[str]] = {}
        for row in self.rows:
            text = row.reason
            if row.report is not None and row.report.verdict != "differentiable":
                text = f"{row.report.verdict.replace('_', ' ')}. {row.report.advice}"
            if text:
                said.setdefault(text, []).append(row.solver)
        return [(", ".join(names), text) for text, names in said.items()]


def compare_solvers(
    problem: ProblemFile,
    solvers: Sequence[str],
    *,
    runs: int = 5,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    reference: str | None = None,
    tell: Callable[[str], None] = lambda name: None,
) -> Comparison:
    """Run each solver on the problem.

    Parameters
    ----------
    runs
        How often each is timed, after one run that is not.
    seed
        Draws v.
    options
        Solver options for all; a solver that lacks one gets a row that says so.
    reference
        Whose gradient is compared with; by default the solver's with the smallest residual.
    tell
        Called with the name of each solver before it runs.
    """
    rng = np.random.default_rng(seed)
    outputs = problem.program.outputs
    cotangents = [
        rng.standard_normal(shape) if k < problem.outputs else None
        for k, (_, shape) in enumerate(outputs)
    ]
    rows = []
    for name in solvers:
        tell(name)
        with silenced():
            rows.append(_row(name, problem, cotangents, runs, options or {}))
    solved = sorted((r for r in rows if r.solved), key=lambda r: r.forward or 0.0)
    best = _reference(solved, reference)
    compared = [replace(r, differences=_differences(r.gradient, best)) for r in solved]
    rest = sorted((r for r in rows if not r.solved), key=lambda r: (r.status, r.solver))
    return Comparison((*compared, *rest), best.solver if best else None)


def _row(
    name: str,
    problem: ProblemFile,
    cotangents: Sequence[Floats | None],
    runs: int,
    options: Mapping[str, Any],
) -> Row:
    cones = registry.specs("solver")[name].cones  # None: an error below says what it lacks
    lacking = frozenset() if cones is None else problem.structure.kinds - cones
    if lacking:
        return Row(name, "unsupported", reason=f"it lacks the cones {', '.join(sorted(lacking))}")
    try:
        layer = Layer(problem.program, solver=name, solver_options=options, on_failure="nan")
        result = layer.solve(*problem.values)
        status, report = _status(result), _report(result)
        if not status.solved:
            return Row(name, status.value, reason=str(result.info.get("message", "")))
        gradient = _gradient(problem, result, cotangents)
        raw = Layer(
            problem.program, solver=name, solver_options=options, on_failure="nan", polish=False
        ).solve(*problem.values)
        forward, backward = _times(layer, problem, cotangents, runs)
        return Row(
            name,
            status.value,
            solved=True,
            objective=result.objective,
            residual=report.kkt_residual,
            raw_residual=_report(raw).kkt_residual,
            report=report,
            forward=median(forward),
            backward=median(backward) if gradient else None,
            runs=len(forward),
            gradient=gradient,
        )
    except (UnsupportedProblemError, OptionError) as error:
        return Row(name, "unsupported", reason=reason(error))
    except FFOAdaptError as error:
        return Row(name, "unusable", reason=reason(error))
    except Exception as error:  # a solver's mistake is its own row, and no other's
        return Row(name, "error", reason=f"{type(error).__name__}: {reason(error)}")


def _status(result: LayerResult) -> Status:
    """Of a result without batch axes, as all are here."""
    assert isinstance(result.status, Status)
    return result.status


def _report(result: LayerResult) -> GradientReport:
    report = result.report()
    assert isinstance(report, GradientReport)
    return report


def _gradient(
    problem: ProblemFile, result: LayerResult, cotangents: Sequence[Floats | None]
) -> dict[str, Floats]:
    if not problem.data:
        return {}
    names = [name for name, _ in problem.program.parameters]
    gradients = dict(zip(names, result.vjp(*cotangents), strict=True))
    return {name: gradients[name] for name in problem.data}


def _times(
    layer: Layer, problem: ProblemFile, cotangents: Sequence[Floats | None], runs: int
) -> tuple[list[float], list[float]]:
    """Seconds of the forward and of the backward pass, of each run."""
    forward: list[float] = []
    backward: list[float] = []
    start = time.perf_counter()
    while not forward or (len(forward) < runs and time.perf_counter() - start < ENOUGH):
        before = time.perf_counter()
        result = layer.solve(*problem.values)
        between = time.perf_counter()
        result.vjp(*cotangents)  # a result keeps what it factorized: each run needs its own
        backward.append(time.perf_counter() - between)
        forward.append(between - before)
    return forward, backward


def _reference(solved: Sequence[Row], wanted: str | None) -> Row | None:
    if wanted is None:
        return min(
            solved, key=lambda row: (max(row.residual or 0.0, EXACT), row.solver), default=None
        )
    reference = next((row for row in solved if row.solver == wanted), None)
    if reference is None:
        names = ", ".join(row.solver for row in solved) or "none"
        raise OptionError(
            f"the reference {wanted!r} did not solve the problem; solvers that did: {names}"
        )
    return reference


def _differences(gradient: Mapping[str, Floats], best: Row | None) -> dict[str, float]:
    if best is None:
        return {}
    sizes = {name: float(np.linalg.norm(g)) for name, g in best.gradient.items()}
    largest = max(sizes.values(), default=0.0)
    differences = {}
    for name, size in sizes.items():
        difference = float(np.linalg.norm(gradient[name] - best.gradient[name]))
        scale = size if size > 1e-12 * largest else largest
        differences[name] = difference / scale if scale else difference
    return differences
