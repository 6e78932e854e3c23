"""What a solver did not solve: is it impossible, or can it be solved another way?

1. Claims that a program has no solution are proved by a certificate (`_feasibility`), found with
   whichever installed solver can; without one they are no more than a failure.
2. What is left goes to the same solver once more, in better units and without equalities that
   follow from others (`_conditioning`), and with ``solver="auto"`` to the next fastest ones.
3. What is still left may be contradictory by the rounding of its data alone: then the nearest
   feasible program is solved in its place, and ``info`` says by how much it differs. Or it is
   contradictory indeed, and that is what is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._oracle.acceptance import UNSEEN, unbalanced
from .._oracle.gradient import Oracle
from .._program.batch import EPS, ProgramBatch, allowance
from .._program.points import Points, Status
from .._program.structure import Structure
from .._types import Floats, Ints
from .conditioning import Conditioned, solve_conditioned
from .feasibility import Nearest, is_refutation, nearest_program, ray_program
from .settings import Settings
from .settle import Run, settle

__all__ = ["Parts", "Solvers", "rescue"]

Mask = NDArray[np.bool_]

CLAIMS = {
    Status.PRIMAL_INFEASIBLE: "that no point satisfies the constraints",
    Status.DUAL_INFEASIBLE: "that the objective is unbounded below",
}

TRIED = 3
"""How many solvers look for a certificate."""


@dataclass(frozen=True, eq=False)
class Solvers:
    """Who may be asked: the solver chosen, what ``"auto"`` falls back on, and whoever can solve
    programs of another structure; each with its name."""

    first: tuple[str, Run]
    others: Callable[[], Iterator[tuple[str, Run]]]
    able: Callable[[Structure], Iterator[tuple[str, Run]]]


def rescue(
    batch: ProgramBatch,
    points: Points,
    solvers: Solvers,
    settings: Settings,
    unlike: NDArray[np.bool_],
) -> tuple[ProgramBatch, Points, Floats | None]:
    """The points with what can be solved solved, and honest statuses for the rest.

    ``batch`` holds the programs in good units, and ``unlike`` (B,) says which of them the solver
    was given in others. The programs come back too, for where their data contradict each other by
    their rounding they are others: then the last result is by how much (B,), beside the sizes of
    the rows.
    """
    points, _ = settle(batch, _unjudged(points), settings)
    work = _Rescue(batch, points, solvers, settings)
    work.solve_again([i for i in work.left() if unlike[i]], conditioned=True)
    moved = work.prove(work.claims())
    work.again(moved)
    work.again([i for i in work.left() if i not in moved])
    work.again(work.prove(work.doubtful()))
    work.look_down()
    work.conclude()
    return work.result()


def _unjudged(points: Points) -> Points:
    """The points as the solver gave them, without what was found of them in other units."""
    status, info = list(points.status), list(points.info)
    for i, known in enumerate(info):
        if "kkt_residual" in known:
            judged = ("kkt_residual", "violation", "message", "said")
            status[i] = Status(known.get("said", Status.OPTIMAL.value))
            info[i] = {k: v for k, v in known.items() if k not in judged}
    at = points.x, points.s, points.z
    return Points(*at, status, info, points.exact, points.paired)


class Parts:
    """The solutions of a batch, put together from those of parts of it."""

    def __init__(self, batch: ProgramBatch) -> None:
        size, n, m = batch.size, batch.structure.n, batch.structure.m
        self.batch = batch
        self._x, self._s, self._z = (np.full((size, k), np.nan) for k in (n, m, m))
        self._status = [Status.ERROR] * size
        self._info: list[Mapping[str, Any]] = [{}] * size
        self._impossible: set[int] = set()
        self._lent: dict[int, Any] = {}
        self._shift, self._bend = np.zeros((size, m)), np.zeros((size, n))
        self._unmet = np.zeros(size)
        self._exact = self._paired = True

    def fail(self, i: int, status: Status, info: Mapping[str, Any]) -> None:
        """Element ``i`` has no solution, and need not be given to a solver."""
        self._impossible.add(i)
        self._status[i], self._info[i] = status, dict(info)

    def left(self, also: NDArray[np.bool_] | None = None) -> Ints:
        """The possible elements that are not solved, and those of ``also`` (B,)."""
        states = enumerate(self._status)
        left = [i for i, s in states if s is not Status.OPTIMAL or (also is not None and also[i])]
        return np.array([i for i in left if i not in self._impossible], dtype=np.intp)

    def take(self, part: Ints) -> ProgramBatch:
        """The programs of a part."""
        return self.batch if part.size == self.batch.size else self.batch.take(part)

    def points(self, part: Ints) -> Points:
        """The points of a part."""
        status, info = ([v[i] for i in part.tolist()] for v in (self._status, self._info))
        at = self._x[part], self._s[part], self._z[part]
        return Points(*at, status, info, self._exact, self._paired)

    def put(self, part: Ints, points: Points, oracle: Oracle | None) -> None:
        """The points of a part, and where they come from a polish its oracle."""
        self._x[part], self._s[part], self._z[part] = points.x, points.s, points.z
        for j, i in enumerate(part.tolist()):
            if i in self._impossible:
                continue
            self._status[i], self._info[i] = points.status[j], points.info[j]
            self._lent.pop(i, None)
            if oracle is not None and j in oracle.lent:
                self._lent[i] = oracle.lent[j]
        self._exact, self._paired = self._exact & points.exact, self._paired & points.paired

    def move(self, part: Ints, units: Conditioned, moved: ProgramBatch, unmet: Floats) -> None:
        """Some programs of a part are others now, see `rescue`; these are in ``units``."""
        with np.errstate(invalid="ignore"):
            shift, bend = moved.b - units.batch.b, moved.q - units.batch.q
        shift = np.where(np.isfinite(shift), shift, 0.0)
        self._shift[part] = np.ldexp(shift, -units.rows)
        self._bend[part] = np.ldexp(bend, -units.columns - units.objective)
        self._unmet[part] = unmet

    def joined(self) -> tuple[ProgramBatch, Points, Oracle]:
        """The programs, their points, and an oracle there."""
        failed = [i for i, status in enumerate(self._status) if not status.solved]
        self._x[failed] = self._s[failed] = self._z[failed] = np.nan
        at = self._x, self._s, self._z
        points = Points(*at, self._status, self._info, self._exact, self._paired)
        batch = self.batch
        if self._unmet.any():
            batch = batch.shifted(self._shift, self._bend)
        oracle = Oracle(batch, points)
        # The derivatives of what was solved at once are what they are without the others.
        oracle.borrow(self._lent)
        oracle.unmet = self._unmet if self._unmet.any() else None
        return batch, points, oracle


class _Rescue:
    """The state of a rescue: points that become better."""

    def __init__(
        self,
        batch: ProgramBatch,
        points: Points,
        solvers: Solvers,
        settings: Settings,
    ) -> None:
        self.batch, self.solvers, self.settings = batch, solvers, settings
        self.x, self.s, self.z = points.x.copy(), points.s.copy(), points.z.copy()
        self.status, self.info = list(points.status), list(points.info)
        self.exact, self.paired = points.exact, points.paired
        self.shift: Floats | None = None  # of b, (B, m)
        self.bend = np.zeros((0, 0))  # of q, (B, n)
        self.unmet = np.zeros(batch.size)
        self.proved: set[int] = {
            i for i, info in enumerate(self.info) if info.get("proof") is not None
        }
        self.searched: set[int] = set()  # for a certificate
        self.feasible: set[int] = set()
        self.level: set[int] = set()  # searched for rays

    def left(self) -> list[int]:
        """The elements of which there is neither a solution nor a proof that there is none."""
        states = enumerate(self.status)
        return [i for i, s in states if s is not Status.OPTIMAL and i not in self.proved]

    def claims(self) -> list[int]:
        """Those that are called infeasible or unbounded without a proof."""
        return [i for i in self.left() if self.status[i] in CLAIMS and i not in self.searched]

    def doubtful(self) -> list[int]:
        """Those that may have no solution: their points are inaccurate, or nobody whom ``"auto"``
        asks, or to whom coarse numbers are given, has solved them."""
        anybody = self.settings.solver == "auto" or self.batch.precision > EPS
        return [
            i
            for i in self.left()
            if i not in self.searched
            and self.status[i] is not Status.TIME_LIMIT
            and (anybody or self._has_point(i))
        ]

    def _has_point(self, i: int) -> bool:
        """Whether the solver gave a point, though none that could be accepted."""
        return self.status[i].solved or "kkt_residual" in self.info[i]

    # ------------------------------------------------------------------------------- proofs

    def prove(self, elements: list[int]) -> list[int]:
        """Proves what is claimed of these elements, or finds that they are feasible; those whose b
        was moved to make them so."""
        self.searched.update(elements)
        unbounded = [i for i in elements if self.status[i] is Status.DUAL_INFEASIBLE]
        moved = self._prove_unbounded(unbounded)
        moved += self._prove_infeasible([i for i in elements if i not in unbounded])
        doubtful = [i for i in elements if i in self.feasible and i not in moved]
        return moved + self._prove_unbounded([i for i in doubtful if i not in unbounded])

    def _prove_infeasible(self, elements: list[int]) -> list[int]:
        moved: list[int] = []
        for part, some in self._parts(elements):
            nearest = nearest_program(some)
            for _, run in self._able(nearest.program.structure):
                refuted, feasible, shift, beside = self._look(nearest, run)
                for j in np.flatnonzero(refuted | feasible).tolist():
                    i = part[j]
                    if refuted[j]:
                        self._has_none(i, Status.PRIMAL_INFEASIBLE)
                        continue
                    self.feasible.add(i)
                    if beside[j] > UNSEEN:
                        self._move(i, shift[j], None, float(beside[j]))
                        moved.append(i)
                rest = np.flatnonzero(~(refuted | feasible))
                if not rest.size:
                    break
                part, some = [part[j] for j in rest.tolist()], some.take(rest)
                nearest = nearest_program(some)
        return moved

    def _look(self, nearest: Nearest, run: Run) -> tuple[Mask, Mask, Floats, Floats]:
        """(B,) whether the programs have no solution, and whether they have one; how b must change
        for that, and by how much beside the sizes of the rows."""
        batch, allowed = nearest.batch, allowance(self.batch.precision)
        found = run(nearest.program)
        for polished in (False, True):
            if polished:
                found, _ = settle(nearest.program, found, self._plain)
            known = np.asarray(
                np.isfinite(found.x).all(axis=-1) & np.isfinite(found.z).all(axis=-1)
            )
            z = np.where(known[:, None], found.z, 0.0)
            refuted: Mask = is_refutation(batch, z, allowed)
            shift = _needed(batch, found.x[:, : batch.structure.n])
            beside = nearest.beside(shift)
            feasible: Mask = np.asarray(beside <= allowed)
            if (refuted | feasible | ~known).all():
                break
        return refuted, feasible, shift, beside

    def look_down(self) -> None:
        """Points whose objective may fall for ever along some variable are no solutions where it
        does: in the units that make a program easy that may be too little to be seen."""
        solved = [i for i, s in enumerate(self.status) if s is Status.OPTIMAL]
        solved = [i for i in solved if i not in self.level]
        for part, some in self._parts(solved):
            at = self.x[part], self.s[part], self.z[part]
            doubtful = unbalanced(some, Points(*at, [Status.OPTIMAL] * len(part), [{}] * len(part)))
            self._prove_unbounded([i for i, d in zip(part, doubtful, strict=True) if d], False)

    def _prove_unbounded(self, elements: list[int], move: bool = True) -> list[int]:
        """As `_prove_infeasible`; those whose q was moved so that the objective is bounded."""
        self.level.update(elements)
        moved: list[int] = []
        allowed = allowance(self.batch.precision)
        for part, some in self._parts(elements):
            for _, run in self._able(ray_program(some).program.structure):
                search = ray_program(some)
                found, _ = settle(search.program, run(search.program), self._plain)
                d = np.nan_to_num(found.x)
                known = np.isfinite(found.x).all(axis=-1)
                bend, beside = search.bend(d)
                rays = search.are_rays(d, allowed) & (beside > UNSEEN)
                level = known & ~rays & (beside <= allowed)
                for j in np.flatnonzero(rays | level).tolist():
                    i = part[j]
                    if rays[j]:
                        self._has_none(i, Status.DUAL_INFEASIBLE)
                    elif move and beside[j] > UNSEEN:
                        self._move(i, None, bend[j], float(beside[j]))
                        moved.append(i)
                rest = np.flatnonzero(~(rays | level))
                if not rest.size:
                    break
                part, some = [part[j] for j in rest.tolist()], some.take(rest)
        return moved

    def _has_none(self, i: int, status: Status) -> None:
        self.proved.add(i)
        info = {k: v for k, v in self.info[i].items() if k != "message"}  # of another failure
        self.status[i], self.info[i] = status, {**info, "proof": "certificate"}

    def _move(self, i: int, shift: Floats | None, bend: Floats | None, beside: float) -> None:
        if self.shift is None:
            self.shift = np.zeros((self.batch.size, self.batch.structure.m))
            self.bend = np.zeros((self.batch.size, self.batch.structure.n))
        if shift is not None:
            self.shift[i] = shift
        if bend is not None:
            self.bend[i] = bend
        self.unmet[i] = max(self.unmet[i], beside)

    # ----------------------------------------------------------------------- further solves

    def solve_again(self, elements: list[int], conditioned: bool = False) -> None:
        """Solves programs that are others now than when the same solver was asked."""
        name, run = self.solvers.first
        out = Status.TIME_LIMIT
        elements = [i for i in elements if self.status[i] is not out]
        self._take(elements, name, partial(solve_conditioned, run) if conditioned else run)

    def again(self, elements: list[int]) -> None:
        """Solves these with the same solver where it was wrong, and then with the others."""
        self.solve_again([i for i in elements if self.unmet[i]])
        left = [i for i in elements if i in self.left()]
        wrong = [i for i in left if self.status[i] in CLAIMS or self._has_point(i)]
        name, run = self.solvers.first
        self._take(wrong, name, partial(solve_conditioned, run))
        others = self.solvers.others()  # each is imported when it is asked for
        while left := [i for i in elements if i in self.left()]:
            other = next(others, None)
            if other is None:
                return
            self._take(left, *other)

    def _take(self, elements: list[int], name: str, run: Run) -> None:
        first = self.solvers.first[0]
        for part, some in self._parts(elements):
            found, _ = settle(some, run(some), self.settings)
            for j, i in enumerate(part):
                if found.status[j] is not Status.OPTIMAL:
                    continue
                note = self.info[i].get("message") or self.status[i].value
                self.x[i], self.s[i], self.z[i] = found.x[j], found.s[j], found.z[j]
                self.exact, self.paired = self.exact & found.exact, self.paired & found.paired
                info = {**found.info[j]}
                if name != first:
                    info |= {"solver": name, "fallback_from": note}
                if self.unmet[i]:
                    info["violation"] = float(self.unmet[i])
                self.status[i], self.info[i] = Status.OPTIMAL, info

    # ------------------------------------------------------------------------------ the end

    def conclude(self) -> None:
        """What is claimed without a proof is a failure, unless a second solver says the same."""
        for i in [i for i in self.left() if self.status[i] in CLAIMS]:
            claim = self.status[i]
            if i not in self.feasible and self._agreed(i, claim):
                self.info[i] = {**self.info[i], "proof": "agreement of two solvers"}
                continue
            said = f"it claims {CLAIMS[claim]}, "
            if claim is Status.PRIMAL_INFEASIBLE and i in self.feasible:
                said += "but there is such a point"
            else:
                said += "but there is no proof of it in the data"
            self.status[i], self.info[i] = Status.ERROR, {**self.info[i], "message": said}

    def _agreed(self, i: int, claim: Status) -> bool:
        """Whether another solver makes the same claim of a program with curved cones: those may
        have no certificate, while polyhedral ones have one whenever the claim is true."""
        if self.batch.structure.polyhedral:
            return False
        one = self._moved().take(slice(i, i + 1))
        for name, run in self._able(one.structure):
            if name != self.solvers.first[0]:
                return run(one).status[0] is claim
        return False

    def result(self) -> tuple[ProgramBatch, Points, Floats | None]:
        at = self.x, self.s, self.z
        points = Points(*at, self.status, self.info, self.exact, self.paired)
        return self._moved(), points, self.unmet if self.unmet.any() else None

    # --------------------------------------------------------------------------------- tools

    def _moved(self) -> ProgramBatch:
        return self.batch if self.shift is None else self.batch.shifted(self.shift, self.bend)

    def _parts(self, elements: list[int]) -> Iterable[tuple[list[int], ProgramBatch]]:
        """The elements as a batch, if there are any."""
        if not elements:
            return []
        whole = elements == list(range(self.batch.size))
        batch = self._moved()
        return [(elements, batch if whole else batch.take(np.array(elements, dtype=np.intp)))]

    def _able(self, structure: Structure) -> Iterator[tuple[str, Run]]:
        for k, (name, run) in enumerate(self.solvers.able(structure)):
            if k == TRIED:
                return
            yield name, run

    @property
    def _plain(self) -> Settings:
        return Settings()


def _needed(batch: ProgramBatch, x: Floats) -> Floats:
    """(B, m) the least change of b with which points x (B, n) are feasible."""
    structure, free = batch.structure, batch.unbounding
    b = batch.b if free is None else np.where(free, 0.0, batch.b)
    s = b - batch.multiply("A", x)
    inside = np.zeros_like(s)
    for cone, start, count in structure.groups:
        rows = slice(start, start + count * cone.dim)
        at = np.nan_to_num(s[:, rows].reshape(-1, cone.dim))
        inside[:, rows] = cone.project(at).reshape(len(s), -1)
    shift = inside - s
    return shift if free is None else np.where(free, 0.0, shift)
