"""What a solver adapter hands back for a program: a status, a primal, a dual, a slack."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._types import Floats, Ints

__all__ = ["Points", "Solution", "Solutions", "Status"]


class Status(Enum):
    """How a solve ended. Adapters translate their vendor's statuses into these; see `read`."""

    OPTIMAL = "optimal"
    OPTIMAL_INACCURATE = "optimal_inaccurate"
    PRIMAL_INFEASIBLE = "primal_infeasible"
    DUAL_INFEASIBLE = "dual_infeasible"
    ITERATION_LIMIT = "iteration_limit"
    TIME_LIMIT = "time_limit"
    ERROR = "error"

    @property
    def solved(self) -> bool:
        """Whether a primal and a dual solution come with this status."""
        return self in _SOLVED

    @classmethod
    def read(cls, words: str) -> Status:
        """The status that a vendor's own words stand for; what is not known here is `ERROR`.

        ``"MAX_ITER_REACHED"``, ``"MaxIterations"`` and ``"maximum iterations reached"`` read the
        same: case, underscores, hyphens and parentheses do not count, and a capital after a small
        letter begins a word. Nothing else may stand there (``...`` in the table is anything), so
        ``"not solved"`` is an `ERROR`, and a prefix is the adapter's to take off
        (``name.removeprefix("VENDOR_")``).

        | words | status |
        |---|---|
        | solved, optimal | `OPTIMAL` |
        | these two, almost before or inaccurate after | `OPTIMAL_INACCURATE` |
        | (almost) (primal) infeasible (inaccurate ...) | `PRIMAL_INFEASIBLE` |
        | solved closest primal feasible | `PRIMAL_INFEASIBLE` |
        | (almost) dual infeasible, (almost) unbounded (inaccurate ...) | `DUAL_INFEASIBLE` |
        | ... max or maximum iter, iters, iterations; iteration limit ... | `ITERATION_LIMIT` |
        | ... max or maximum time; time limit ... | `TIME_LIMIT` |

        A solver that cannot tell which (``"infeasible or unbounded"``) has told neither: `ERROR`.
        """
        return _read(words)


@lru_cache(maxsize=256)
def _read(words: str) -> Status:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s_()-]+", " ", words).strip().lower()
    matching = (status for status, known in _WORDS.items() if re.fullmatch(known, spaced))
    return next(matching, Status.ERROR)


_SOLVED = (Status.OPTIMAL, Status.OPTIMAL_INACCURATE)

_WORDS = {
    Status.OPTIMAL: "solved|optimal",
    Status.OPTIMAL_INACCURATE: "almost (solved|optimal)|(solved|optimal) inaccurate",
    Status.PRIMAL_INFEASIBLE: (
        "(almost )?(primal )?infeasible( inaccurate.*)?|solved closest primal feasible"
    ),
    Status.DUAL_INFEASIBLE: "(almost )?(dual infeasible|unbounded)( inaccurate.*)?",
    Status.ITERATION_LIMIT: "(.* )?(max(imum)? iter(ation)?s?|iteration limit)( .*)?",
    Status.TIME_LIMIT: "(.* )?(max(imum)? time|time limit)( .*)?",
}
"""What `Status.read` knows, spaced and in lower case; the first that matches in full counts."""


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer of a solver to one program, in the conventions of the view that it was given.

    Attributes
    ----------
    x
        (n,) primal; ignored unless ``status.solved``.
    dual
        For a `ConeProgram`, z of shape (m,) in the dual cone with Px + q + A'z = 0. For a
        `BoxForm`, y of shape (m,), y > 0 where u holds and y < 0 where l holds. For a `SplitForm`,
        the pair (z_ineq >= 0, y_eq). In all three Px + q + (constraints)'dual = 0.
    slack
        (m,) s in the cone, if the solver has one of its own; None means b - Ax.
    status
        A `Status`.
    info
        Whatever else is worth keeping: iterations, a message, and as ``"status"`` the vendor's own
        word. A `Status.ERROR` whose word is that it was interrupted is no failure, but Ctrl-C.
    """

    x: Floats | None = None
    dual: Any = None
    slack: Floats | None = None
    status: Status = Status.OPTIMAL
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Solutions:
    """The answers of a solver to all B programs of a batch, as `Solution` has them for one.

    Attributes
    ----------
    x
        (B, n); a row is ignored unless its status is solved.
    dual
        z (B, m) or y (B, m), or the pair z_ineq, y_eq with B rows each.
    status, info
        Of each element, as in a `Solution`.
    """

    x: Floats
    dual: Any
    status: list[Status]
    info: list[Mapping[str, Any]]


@dataclass(slots=True, eq=False)
class Points:
    """The solutions of a batch in canonical form; NaN where ``status`` is not solved.

    ``x`` is (B, n), ``s`` and ``z`` are (B, m); ``status`` and ``info`` have B entries. ``exact``
    says that s is b - Ax to the last digit, computed so; ``paired`` that s and z are projections of
    one point onto cone and polar cone.
    """

    x: Floats
    s: Floats
    z: Floats
    status: list[Status]
    info: list[Mapping[str, Any]]
    exact: bool = False
    paired: bool = False

    @property
    def optimal(self) -> bool:
        """Whether all are `Status.OPTIMAL`."""
        return self.status.count(Status.OPTIMAL) == len(self.status)

    def having(self, *statuses: Status) -> list[int]:
        """The elements with one of these statuses."""
        if self.optimal and Status.OPTIMAL not in statuses:
            return []
        return [i for i, status in enumerate(self.status) if status in statuses]

    @property
    def solved(self) -> NDArray[np.bool_]:
        """(B,) whether there is a solution."""
        if self.optimal:
            solved = np.empty(len(self.status), dtype=bool)
            solved.fill(True)
            return solved
        return np.array([status.solved for status in self.status], dtype=bool)

    def take(self, part: slice | Ints) -> Points:
        """Those of a part of the elements."""
        at = range(len(self.status))[part] if isinstance(part, slice) else part.tolist()
        status, info = [self.status[i] for i in at], [self.info[i] for i in at]
        vectors = self.x[part], self.s[part], self.z[part]
        return Points(*vectors, status, info, self.exact, self.paired)

    @classmethod
    def join(cls, parts: Sequence[Points]) -> Points:
        """One batch after the other."""
        if len(parts) == 1:
            return parts[0]
        x, s, z = (np.concatenate([getattr(p, name) for p in parts]) for name in ("x", "s", "z"))
        return cls(
            x,
            s,
            z,
            [status for part in parts for status in part.status],
            [info for part in parts for info in part.info],
            all(part.exact for part in parts),
        )
