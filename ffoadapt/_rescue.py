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

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._conditioning import solve_conditioned
from ._feasibility import is_ray, is_refutation, nearest_program, ray_program
from ._oracle.acceptance import UNSEEN
from ._oracle.gradient import Oracle
from ._program import ProgramBatch, allowance
from ._settings import Settings
from ._settle import Run, settle
from ._solution import Points, Status
from ._structure import Structure

__all__ = ["Solvers", "rescue"]

Floats = NDArray[np.float64]

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
    batch: ProgramBatch, points: Points, solvers: Solvers, settings: Settings
) -> tuple[ProgramBatch, Points, Oracle, Floats | None]:
    """The points with what can be solved solved, and honest statuses for the rest.

    The programs come back too, for where their data contradict each other by their rounding they
    are others: then the last result is by how much (B,), beside the sizes of the rows.
    """
    work = _Rescue(batch, points, solvers, settings)
    left = work.left()
    work.prove([i for i in left if work.status[i] in CLAIMS])
    work.again()
    if work.left():
        moved = work.prove([i for i in work.left() if not work.claimed(i)])
        if moved:
            work.again(moved)
        work.conclude()
    return work.result()


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
        self.exact = points.exact
        self.shift: Floats | None = None  # of b, (B, m)
        self.unmet = np.zeros(batch.size)
        self.proved: set[int] = {
            i for i, info in enumerate(self.info) if info.get("proof") is not None
        }
        self.feasible: set[int] = set()

    def left(self) -> list[int]:
        """The elements of which there is neither a solution nor a proof that there is none."""
        return [
            i
            for i, status in enumerate(self.status)
            if status is not Status.OPTIMAL
            and status is not Status.TIME_LIMIT
            and i not in self.proved
        ]

    def claimed(self, i: int) -> bool:
        """Whether a certificate for what is claimed of the element was looked for in vain."""
        return self.status[i] in CLAIMS and i in self.feasible

    # ------------------------------------------------------------------------------- proofs

    def prove(self, elements: list[int]) -> list[int]:
        """Proves what is claimed of these elements, or finds that they are feasible; those whose b
        was moved to make them so."""
        unbounded = [i for i in elements if self.status[i] is Status.DUAL_INFEASIBLE]
        self._prove_unbounded(unbounded)
        moved = self._prove_infeasible([i for i in elements if i not in unbounded])
        doubtful = [i for i in elements if i in self.feasible and i not in moved]
        self._prove_unbounded([i for i in doubtful if self.status[i] not in CLAIMS])
        return moved

    def _prove_infeasible(self, elements: list[int]) -> list[int]:
        moved: list[int] = []
        for part, some in self._parts(elements):
            nearest = nearest_program(some)
            for _, run in self._able(nearest.program.structure):
                found, _ = settle(nearest.program, run(nearest.program), self._plain)
                ok = np.isfinite(found.x).all(axis=-1) & np.isfinite(found.z).all(axis=-1)
                z = np.where(ok[:, None], found.z, 0.0)
                x = np.where(ok[:, None], found.x[:, : some.structure.n], np.nan)
                refuted = is_refutation(some, z, allowance(self.batch.precision))
                shift = _needed(some, x)
                beside = nearest.beside(shift)
                feasible = beside <= allowance(self.batch.precision)
                for j in np.flatnonzero(refuted | feasible).tolist():
                    i = part[j]
                    if refuted[j]:
                        self._has_none(i, Status.PRIMAL_INFEASIBLE)
                        continue
                    self.feasible.add(i)
                    if beside[j] > UNSEEN:
                        self._move(i, shift[j], float(beside[j]))
                        moved.append(i)
                rest = np.flatnonzero(~(refuted | feasible))
                if not rest.size:
                    break
                part, some = [part[j] for j in rest.tolist()], some.take(rest)
                nearest = nearest_program(some)
        return moved

    def _prove_unbounded(self, elements: list[int]) -> None:
        for part, some in self._parts(elements):
            program = ray_program(some)
            for _, run in self._able(program.structure):
                found, _ = settle(program, run(program), self._plain)
                rays = is_ray(some, np.nan_to_num(found.x))
                for j in np.flatnonzero(rays).tolist():
                    self._has_none(part[j], Status.DUAL_INFEASIBLE)
                rest = np.flatnonzero(~rays)
                if not rest.size or all(s.solved for s in found.status):
                    break
                part, some = [part[j] for j in rest.tolist()], some.take(rest)
                program = ray_program(some)

    def _has_none(self, i: int, status: Status) -> None:
        self.proved.add(i)
        info = {k: v for k, v in self.info[i].items() if k != "message"}  # of another failure
        self.status[i], self.info[i] = status, {**info, "proof": "certificate"}

    def _move(self, i: int, shift: Floats, beside: float) -> None:
        if self.shift is None:
            self.shift = np.zeros((self.batch.size, self.batch.structure.m))
        self.shift[i], self.unmet[i] = shift, beside

    # ----------------------------------------------------------------------- further solves

    def again(self, elements: list[int] | None = None) -> None:
        """Solves what is left with the same solver in better units, and then with the others."""
        left = self.left() if elements is None else elements
        left = [
            i for i in left if self.status[i] is not Status.ITERATION_LIMIT or i in self.feasible
        ]
        name, run = self.solvers.first
        if left:
            self._take(left, name, lambda batch: solve_conditioned(run, batch))
        for name, run in self.solvers.others():
            left = self.left() if elements is None else [i for i in elements if i in self.left()]
            left += [i for i in self._out_of_time() if elements is None]
            if not left:
                return
            self._take(left, name, run)

    def _out_of_time(self) -> list[int]:
        return [i for i, status in enumerate(self.status) if status is Status.TIME_LIMIT]

    def _take(self, elements: list[int], name: str, run: Run) -> None:
        first = self.solvers.first[0]
        for part, some in self._parts(elements):
            found, _ = settle(some, run(some), self.settings)
            for j, i in enumerate(part):
                if found.status[j] is not Status.OPTIMAL:
                    continue
                note = self.info[i].get("message") or self.status[i].value
                self.x[i], self.s[i], self.z[i] = found.x[j], found.s[j], found.z[j]
                self.exact &= found.exact
                info = {**found.info[j]}
                if name != first:
                    info |= {"solver": name, "fallback_from": note}
                if self.unmet[i]:
                    info["violation"] = float(self.unmet[i])
                self.status[i], self.info[i] = Status.OPTIMAL, info

    # ------------------------------------------------------------------------------ the end

    def conclude(self) -> None:
        """What is claimed without a proof is a failure, unless a second solver says the same."""
        for i in self.left():
            claim = self.status[i]
            if claim not in CLAIMS:
                continue
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
        """Whether another solver makes the same claim."""
        one = self._moved().take(slice(i, i + 1))
        for name, run in self._able(one.structure):
            if name != self.solvers.first[0]:
                return run(one).status[0] is claim
        return False

    def result(self) -> tuple[ProgramBatch, Points, Oracle, Floats | None]:
        failed = [i for i, status in enumerate(self.status) if not status.solved]
        self.x[failed] = self.s[failed] = self.z[failed] = np.nan
        points = Points(self.x, self.s, self.z, self.status, self.info, exact=self.exact)
        batch = self._moved()
        unmet = self.unmet if self.unmet.any() else None
        return batch, points, Oracle(batch, points), unmet

    # --------------------------------------------------------------------------------- tools

    def _moved(self) -> ProgramBatch:
        return self.batch if self.shift is None else self.batch.shifted(self.shift)

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
