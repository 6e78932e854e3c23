"""Programs that take a solver, and the process with it, to its limits: see `check_survives`.

Numbers from the smallest to the largest, rows that are zero or there twice, no rows, no variables.
Most have no solution that anybody could find; the one thing asked is that the process goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .._cones import (
    Cone,
    ExponentialCone,
    NonnegativeCone,
    PowerCone,
    PSDCone,
    SecondOrderCone,
    ZeroCone,
)
from .._exceptions import FFOAdaptError
from .._layers.cone_program import ConeProgram
from .._plugins.solver import Session, Solver
from .._solve.options import translate_options
from ._smooth_extremes import smooth_extremes
from ._subject import AnySolver, load, view_of

__all__ = ["extremes", "run"]


SCALES = (1e-320, 1e-300, 1e-160, 1e-30, 1e-9, 1e9, 1e16, 1e20, 1e30, 1e100, 1e160, 1e300, 1.7e308)

BUDGET = 5.0
"""Seconds after which no further program is begun: compiling ones take that long for each shape."""

_CURVED: dict[str, tuple[Cone, ...]] = {
    "second_order": (SecondOrderCone(3), SecondOrderCone(1)),
    "psd": (PSDCone(2), PSDCone(1)),
    "exponential": (ExponentialCone(),),
    "power": (PowerCone(0.5), PowerCone(1e-3)),
}


def extremes(kinds: frozenset[str], seed: int = 0) -> Iterator[tuple[str, ConeProgram]]:
    """Programs in cones of these kinds, each with a name."""
    split, rng = ConeProgram.from_split, np.random.default_rng(seed)
    n, m = 3, 4
    eye, q, G, h = np.eye(n), rng.standard_normal(n), rng.standard_normal((m, n)), np.ones(m)
    yield "a curvature of 1e16 beside none", split(np.diag([1e16, 0.0]), q[:2], -np.eye(2), h[:2])
    yield "no variables", split(np.zeros((0, 0)), np.zeros(0))
    yield "no variables, one row", split(np.zeros((0, 0)), np.zeros(0), np.zeros((1, 0)), h[:1])
    yield "no rows", split(eye, q)
    yield "no rows and no curvature", split(np.zeros((n, n)), np.zeros(n))
    yield "a zero row", split(eye, q, G * np.array([[1.0], [1.0], [0.0], [1.0]]), h)
    yield "a zero row that asks for more", split(eye, q, 0.0 * G, -h)
    yield "zero equalities", split(eye, q, None, None, 0.0 * G[:2], np.array([0.0, 1.0]))
    yield "each row twice", split(eye, q, G[[0, 0, 1, 1]], h, G[[2, 2]], np.zeros(2))
    yield "more equalities than variables", split(eye, q, None, None, G, h)
    yield "bounds that are all infinite", split(eye, q, G, np.full(m, np.inf))
    yield "a matrix of rank 1", split(np.ones((n, n)), q, G, h)
    yield "one variable, one row", split(np.eye(1), q[:1], np.ones((1, 1)), h[:1])
    for where in ("P", "q", "G", "h", "all"):
        for scale in SCALES:
            by = {name: scale if where in (name, "all") else 1.0 for name in "PqGh"}
            data = (by["P"] * eye, by["q"] * q, by["G"] * np.clip(G, -1, 1), by["h"] * h)
            yield f"{where} of {scale:g}", split(*data)
    for k in range(8):
        wide = [10.0 ** rng.uniform(-300.0, 300.0, shape) for shape in (n, n, (m, n), m)]
        yield f"numbers of all sizes ({k})", split(np.diag(wide[0]), *wide[1:])
    for kind in sorted(kinds & set(_CURVED)):
        cones = (ZeroCone(1), NonnegativeCone(1), *_CURVED[kind])
        rows = sum(cone.dim for cone in cones)
        A, b = rng.standard_normal((rows, n)), rng.standard_normal(rows)
        yield f"{kind}: zero rows", ConeProgram(eye, q, 0.0 * A, b, cones)
        for scale in SCALES:
            yield (
                f"{kind}: A of {scale:g}",
                ConeProgram(eye, q, scale * np.clip(A, -1, 1), b, cones),
            )
            yield (
                f"{kind}: b of {scale:g}",
                ConeProgram(eye, q, A, scale * np.clip(b, -1, 1), cones),
            )


def run(solver: Solver, name: str, options: Any, seed: int, say: Callable[[str], object]) -> None:
    """Have all of them solved; says the name of each before, and an empty one at the end.

    What the solver answers or raises does not count.
    """
    end = time.monotonic() + BUDGET
    translated = translate_options(solver, name, options)
    smooth = solver.form == "smooth"
    programs: Iterator[tuple[str, Any]] = (
        smooth_extremes(solver, seed) if smooth else extremes(frozenset(solver.cones), seed)
    )
    while time.monotonic() < end:
        try:
            about, program = next(programs)
        except StopIteration:
            break
        except FFOAdaptError:
            continue
        with contextlib.suppress(FFOAdaptError), np.errstate(all="ignore"):
            view = program if smooth else view_of(solver, program)
            if view is not None:
                say(about)
                with contextlib.suppress(Exception):
                    solver.solve(view, translated, Session())
    say("")


def main(solver: AnySolver, options: str, seed: str) -> None:
    """`run` in a process of its own, that says the names on its standard output."""
    import warnings

    warnings.simplefilter("ignore")
    out = os.dup(1)
    sink = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(sink, stream)
    loaded, name = load(solver)
    run(
        loaded,
        name,
        json.loads(options),
        int(seed),
        lambda word: os.write(out, f"{word}\n".encode()),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
