"""``solver="auto"``: the fastest installed solver for a program, from measured solve times.

Every solver's record carries the times that benchmarks/ measured for it on programs of a few sizes;
they are interpolated (log-log) to the size at hand. No solver is named here.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import qdldl
from scipy import sparse

from .._exceptions import UnsupportedProblemError
from .._oracle.workspace import Workspace
from .._plugins.records import SolverSpec
from .._plugins.registry import registry
from .._program.pattern import Pattern
from .._program.structure import Structure
from .._runtime.costs import SLOW_CALL

__all__ = ["SolverChoice", "choose", "is_slow", "ranking", "smooth_ranking"]

CURVED = {
    "psd": "psd",
    "exponential": "exponential",
    "power": "exponential",  # is not measured by itself
    "second_order": "second_order",
}
"""The columns of the table of measured times for curved cones; the slowest kind first."""

GROWTH = {"sparse": 1.5}
"""The least power of n with which solve times grow beyond what was measured; else 3."""

FILLED = 5.0
"""From this much fill on, other solvers are the fastest."""

LARGEST = 1_000_000
"""Nonzeros."""

KNOWN = 64
"""So many rankings are kept, until the solvers that can be used are looked at again."""


class _Known(threading.local):
    """The rankings that a thread has made of the ``usable`` solvers."""

    def __init__(self) -> None:
        self.usable: Mapping[str, SolverSpec] | None = None
        self.rankings: dict[Any, list[SolverChoice]] = {}


_known = _Known()


@dataclass(frozen=True)
class SolverChoice:
    """A solver's name, and why it was chosen."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def kind_of(structure: Structure) -> str:
    """``"dense"`` or ``"sparse"``; with curved cones, the kind of that which takes the longest."""
    curved = next((kind for kind in CURVED if kind in structure.kinds), None)
    if curved is not None:
        return CURVED[curved]
    return "dense" if structure.dense else "sparse"


def column_of(structure: Structure) -> str:
    """The column of the table of measured times: the kind, or ``"filled"`` where the matrices are
    sparse, but their factors are not."""
    kind = kind_of(structure)
    return "filled" if kind == "sparse" and fill(structure) > FILLED else kind


@lru_cache(maxsize=64)
def fill(structure: Structure) -> float:
    """How many times more entries the LDL' factor of [I A'; A -I] has than the matrix.

    Not computed for matrices with more than `LARGEST` entries: were they filled, nobody could solve
    them.
    """
    A = structure.A
    if A is None or A.nnz > LARGEST or not structure.n:
        return 1.0
    eye = Pattern.of(sparse.identity(structure.n))[0]
    space = Workspace.of(None, eye, *A.by_rows())
    data = space.filled(np.ones(structure.n), np.ones(A.nnz))
    data[space.last] = np.repeat((1.0, -1.0), (structure.n, structure.m))
    factors = qdldl.Solver(space.upper.matrix(data), upper=True).factors()
    return float(factors[0].nnz / data.size)


def ranking(structure: Structure) -> list[SolverChoice]:
    """All installed solvers that can, the fastest first; unmeasured ones come last, by name."""
    kind, usable = column_of(structure), registry.usable("solver")
    key = kind, structure.kinds, structure.n, structure.m
    if _known.usable is not usable or len(_known.rankings) >= KNOWN:
        _known.usable, _known.rankings = usable, {}
    ranked = _known.rankings.get(key)
    if ranked is None:
        able = [
            (predicted(spec.speed, kind, structure.n), name)
            for name, spec in registry.having(structure.kinds).items()
        ]
        ranked = _known.rankings[key] = [
            SolverChoice(name, _reason(time, kind, structure)) for time, name in sorted(able)
        ]
    return list(ranked)


def smooth_ranking(kinds: frozenset[str], n: int) -> list[SolverChoice]:
    """All installed solvers of functions that take these kinds of constraint, the fastest first."""
    column = "smooth" if kinds - {"bounds"} else "bounds"
    able = [
        (predicted(spec.speed, column, n), name)
        for name, spec in registry.ready("solver").items()
        if spec.form == "smooth" and kinds <= (spec.cones or frozenset())
    ]
    what = f"functions of {n} variables with {' and '.join(sorted(kinds)) or 'no constraints'}"
    return [
        SolverChoice(name, f"expected {1e3 * time:.3g} ms for {what}, by benchmarks/")
        for time, name in sorted(able)
    ]


def choose(structure: Structure) -> SolverChoice:
    """The fastest installed solver for programs of this structure."""
    ranked = ranking(structure)
    if ranked:
        return ranked[0]
    cones = {name: sorted(kinds) for name, kinds in registry.cones_of_all().items()}
    if not cones:
        raise UnsupportedProblemError(
            "no solver is installed: pip install 'ffoadapt[recommended]'. `ffoadapt plugins` tells "
            "of those that are there and cannot be used"
        )
    raise UnsupportedProblemError(
        f"no installed solver supports the cones {sorted(structure.kinds)}; installed: {cones}. "
        "Install one, e.g. pip install ffoadapt-clarabel"
    )


def is_slow(name: str, structure: Structure) -> bool:
    """Whether a solve takes so long that threads pay: handing over the GIL costs them tens of
    microseconds. So it is for solvers whose speed is not known; fill only makes solves longer."""
    spec = registry.spec("solver", name)
    return spec is None or predicted(spec.speed, kind_of(structure), structure.n) > SLOW_CALL


def predicted(speed: Mapping[tuple[str, int], float], kind: str, n: int) -> float:
    """Seconds for one solve, by linear interpolation of log time in log n; inf if unmeasured.

    Beyond the largest size the time grows at least with the power that is usual for the kind: a
    solver is not measured further when it has become too slow.
    """
    table = sorted((size, time) for (k, size), time in speed.items() if k == kind)
    if not table:
        return math.inf
    last, time = table[-1]
    if n <= table[0][0] or (n <= last and len(table) == 1):
        return table[0][1]
    k = next((j for j in range(1, len(table) - 1) if n <= table[j][0]), len(table) - 1)
    slope = 0.0
    if k:
        (n0, t0), (n1, t1) = table[k - 1], table[k]
        slope = math.log(t1 / t0) / math.log(n1 / n0)
        if n <= last:
            return t0 * (n / n0) ** slope
    return time * (n / last) ** max(slope, GROWTH.get(kind, 3.0))


def _reason(time: float, kind: str, structure: Structure) -> str:
    what = f"program ({kind}) with {structure.n} variables and {structure.m} rows"
    if math.isinf(time):
        return f"it supports the cones; its speed on a {what} was not measured"
    return f"expected {time * 1e3:.3g} ms for a {what}, by the times measured in benchmarks/"
