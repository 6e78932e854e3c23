"""Programs that take a solver of functions to its limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._plugins.solver import Solver
from ._smooth_problem import SmoothProblem

__all__ = ["smooth_extremes"]


def smooth_extremes(solver: Solver, seed: int = 0) -> Iterator[tuple[str, Any]]:
    """Forms that take a solver to its limits, each with a name: see `check_survives`."""
    rng = np.random.default_rng(seed)
    t = rng.standard_normal(3)
    row = (np.array([t.sum()]), t[None])
    rows: dict[str, dict[str, Any]] = {"none": {}}
    if "bounds" in solver.cones:
        rows["bounds"] = {"lower": np.zeros(3), "upper": np.array([0.0, 1.0, np.inf])}
        rows["fixed"] = {"lower": np.zeros(3), "upper": np.zeros(3)}
    if "inequalities" in solver.cones:
        rows["a row"] = {"inequalities": lambda y: (row[0] + t @ y, row[1])}
        rows["a row of zeros"] = {"inequalities": lambda y: (np.ones(1), np.zeros((1, 3)))}
    if "equalities" in solver.cones:
        eye = np.eye(3)
        more = np.concatenate((eye, eye))
        rows["more equalities than variables"] = {"equalities": lambda y: (more @ y - 1.0, more)}

    def square(scale: float) -> Any:
        return lambda y: (scale * (y - t) @ (y - t), 2.0 * scale * (y - t))

    def holed(value: float) -> Any:
        return lambda y: (
            (value if np.abs(y).max() > 0.1 else (y - t) @ (y - t)),
            (np.full(3, value) if np.abs(y).max() > 0.1 else 2.0 * (y - t)),
        )

    objectives = {f"an objective of {s:g}": square(s) for s in (1e-300, 1e-30, 1e30, 1e150)}
    objectives["a constant"] = lambda y: (0.0, np.zeros(3))
    objectives["NaN beside the start"] = holed(np.nan)
    objectives["infinity beside the start"] = holed(np.inf)
    objectives["no end below"] = lambda y: (-float(y @ y), -2.0 * y)
    for what, objective in objectives.items():
        for with_, constraints in rows.items():
            problem = SmoothProblem("extreme", what, objective, np.zeros(3), **constraints)
            with np.errstate(all="ignore"):
                yield f"{what}, {with_}", problem.form()
