"""What a solver did not solve: is it impossible, or can it be solved another way?

1. Claims that a program has no solution are proved by a certificate (`feasibility`), found with
   whichever installed solver can; without one they are no more than a failure.
2. What is left goes to the same solver once more, in better units and without equalities that
   follow from others (`conditioning`), and with ``solver="auto"`` to the next fastest ones.
3. What is still left may be contradictory by the rounding of its data alone: then the nearest
   feasible program is solved in its place, and ``info`` says by how much it differs. Or it is
   contradictory indeed, and that is what is said.
4. What is left then has a solution, for all that is known: the same solver gets easier programs
   that lead to it (`regularized`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from .._oracle.acceptance import UNSEEN, unbalanced
from .._program.batch import EPS, ProgramBatch
from .._program.points import Points, Status
from .._program.structure import Structure
from .._types import Floats
from .acceptance import Run, accept, unjudged
from .conditioning import solve_conditioned
from .feasibility import nearest_program, ray_program
from .proofs import Verdict, prove_infeasible, prove_unbounded
from .regularized import solve_in_steps
from .settings import Settings

__all__ = ["Solvers", "rescue"]

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
    points, _ = accept(batch, unjudged(points), settings)
    work = _Rescue(batch, points, solvers, settings)
    work.solve_first([i for i in work.left() if unlike[i]], conditioned=True)
    changed = work.prove(work.claims())
    work.solve_with_all(changed)
    work.solve_with_all([i for i in work.left() if i not in changed])
    work.solve_with_all(work.prove(work.doubtful()))
    work.solve_in_steps()
    work.look_down()
    work.conclude()
    return work.changed(), work.points, work.unmet if work.unmet.any() else None


class _Rescue:
    """The state of a rescue: points that become better."""

    def __init__(
        self, batch: ProgramBatch, points: Points, solvers: Solvers, settings: Settings
    ) -> None:
        self.batch, self.solvers, self.settings = batch, solvers, settings
        x, s, z = points.x.copy(), points.s.copy(), points.z.copy()
        status, info = list(points.status), list(points.info)
        self.points = Points(x, s, z, status, info, points.exact, points.paired)
        self.shift_b: Floats | None = None  # (B, m)
        self.shift_q: Floats | None = None  # (B, n)
        self.unmet = np.zeros(batch.size)
        self.proved = {i for i, known in enumerate(info) if known.get("proof") is not None}
        self.searched: set[int] = set()  # for a certificate
        self.feasible: set[int] = set()
        self.level: set[int] = set()  # searched for rays

    def left(self) -> list[int]:
        """The elements of which there is neither a solution nor a proof that there is none."""
        states = enumerate(self.points.status)
        return [i for i, s in states if s is not Status.OPTIMAL and i not in self.proved]

    def claims(self) -> list[int]:
        """Those that are called infeasible or unbounded without a proof, and those of which the
        only solver asked has no point: a proof takes less time than to fail again."""
        status, alone = self.points.status, self.settings.solver != "auto"
        return [
            i
            for i in self.left()
            if i not in self.searched
            and (status[i] in CLAIMS or (alone and not self._has_point(i) and not self._gave_up(i)))
        ]

    def doubtful(self) -> list[int]:
        """Those that may have no solution: their points are inaccurate, or nobody whom ``"auto"``
        asks, or to whom coarse numbers are given, has solved them."""
        anybody = self.settings.solver == "auto" or self.batch.precision > EPS
        return [
            i
            for i in self.left()
            if i not in self.searched
            and self.points.status[i] is not Status.TIME_LIMIT
            and (anybody or not self._gave_up(i))
        ]

    def changed(self) -> ProgramBatch:
        """The programs, those moved that had to be."""
        if self.shift_b is None:
            return self.batch
        return self.batch.shifted(self.shift_b, self.shift_q)

    def prove(self, elements: list[int]) -> list[int]:
        """Proves what is claimed of these elements, or finds that they are feasible; those whose b
        or q was moved to make them so."""
        self.searched.update(elements)
        unbounded = [i for i in elements if self.points.status[i] is Status.DUAL_INFEASIBLE]
        moved = self._prove_unbounded(unbounded)
        moved += self._prove_infeasible([i for i in elements if i not in unbounded])
        doubtful = [i for i in elements if i in self.feasible and i not in moved]
        return moved + self._prove_unbounded([i for i in doubtful if i not in unbounded])

    def solve_first(self, elements: list[int], conditioned: bool = False) -> None:
        """Solves programs that are others now than when the same solver was asked."""
        name, run = self.solvers.first
        elements = [i for i in elements if self.points.status[i] is not Status.TIME_LIMIT]
        self._solve(elements, name, partial(solve_conditioned, run) if conditioned else run)

    def solve_with_all(self, elements: list[int]) -> None:
        """Solves these with the same solver where it was wrong, and then with the others."""
        self.solve_first([i for i in elements if self.unmet[i]])
        again = [i for i in elements if i in self.left() and not self._gave_up(i)]
        self.solve_first(again, conditioned=True)
        others = self.solvers.others()  # each is imported when it is asked for
        while left := [i for i in elements if i in self.left()]:
            other = next(others, None)
            if other is None:
                return
            self._solve(left, *other)

    def solve_in_steps(self) -> None:
        """Solves what has no solution yet with the same solver, by a sequence of programs that are
        easier each."""
        given, (name, run) = self.settings.solver_options or {}, self.solvers.first
        for i in [i for i in self.left() if not self._gave_up(i)]:
            if self._has_point(i) and self.settings.polish is False:
                continue  # it is as accurate as it shall be
            end = time.perf_counter() + given.get("time_limit", np.inf)
            for points in solve_in_steps(self._part([i]), run):
                self._take([i], accept(self._part([i]), points, self.settings)[0], name)
                if self.points.status[i] is Status.OPTIMAL or time.perf_counter() > end:
                    break

    def look_down(self) -> None:
        """Points whose objective may fall for ever along some variable are no solutions where it
        does: in the units that make a program easy that may be too little to be seen."""
        status, at = self.points.status, self.points
        solved = [i for i, s in enumerate(status) if s is Status.OPTIMAL and i not in self.level]
        if solved:
            x, s, z = (v[solved] for v in (at.x, at.s, at.z))
            points = Points(x, s, z, [Status.OPTIMAL] * len(solved), [{}] * len(solved))
            doubtful = unbalanced(self._part(solved), points)
            self._prove_unbounded([solved[j] for j in np.flatnonzero(doubtful)], move=False)

    def conclude(self) -> None:
        """What is claimed without a proof is a failure, unless a second solver says the same."""
        status, info = self.points.status, self.points.info
        for i in [i for i in self.left() if status[i] in CLAIMS]:
            claim = status[i]
            if i not in self.feasible and self._agreed(i, claim):
                info[i] = {**info[i], "proof": "agreement of two solvers"}
                continue
            said = f"it claims {CLAIMS[claim]}, "
            if claim is Status.PRIMAL_INFEASIBLE and i in self.feasible:
                said += "but there is such a point"
            else:
                said += "but there is no proof of it in the data"
            status[i], info[i] = Status.ERROR, {**info[i], "message": said}

    # ------------------------------------------------------------------------------- pieces

    def _gave_up(self, i: int) -> bool:
        """Whether the solver raised, or did the work that the user allows, without a point."""
        status, ended = self.points.status[i], "exception" in self.points.info[i]
        ended |= "max_iterations" in (self.settings.solver_options or {})
        pending = status in CLAIMS or self._has_point(i)
        return status is Status.TIME_LIMIT or (ended and not pending)

    def _has_point(self, i: int) -> bool:
        """Whether the solver gave a point, though none that could be accepted."""
        return self.points.status[i].solved or "kkt_residual" in self.points.info[i]

    def _prove_infeasible(self, elements: list[int]) -> list[int]:
        if not elements:
            return []
        some = self._part(elements)
        verdicts = prove_infeasible(some, self._able(nearest_program(some).program.structure))
        self.feasible |= {elements[j] for j, verdict in verdicts.items() if verdict.solution}
        return self._judge(elements, verdicts, Status.PRIMAL_INFEASIBLE)

    def _prove_unbounded(self, elements: list[int], move: bool = True) -> list[int]:
        self.level.update(elements)
        if not elements:
            return []
        some = self._part(elements)
        verdicts = prove_unbounded(some, self._able(ray_program(some).program.structure))
        return self._judge(elements, verdicts, Status.DUAL_INFEASIBLE, move)

    def _judge(
        self, elements: list[int], verdicts: dict[int, Verdict], status: Status, move: bool = True
    ) -> list[int]:
        """Records the verdicts, by place in ``elements``; the elements that are others now."""
        moved = []
        for j, verdict in verdicts.items():
            i = elements[j]
            if not verdict.solution:
                self.proved.add(i)
                # Without the message, which was of another failure.
                info = {k: v for k, v in self.points.info[i].items() if k != "message"}
                self.points.info[i] = {**info, "proof": "certificate"}
                self.points.status[i] = status
            elif move and verdict.beside > UNSEEN:
                self._move(i, verdict, status is Status.PRIMAL_INFEASIBLE)
                moved.append(i)
        return moved

    def _move(self, i: int, verdict: Verdict, rows: bool) -> None:
        """Element ``i`` has another b (``rows``) or q from now on."""
        if self.shift_b is None or self.shift_q is None:
            size, n, m = self.batch.size, self.batch.structure.n, self.batch.structure.m
            self.shift_b, self.shift_q = np.zeros((size, m)), np.zeros((size, n))
        (self.shift_b if rows else self.shift_q)[i] = verdict.change
        self.unmet[i] = max(self.unmet[i], verdict.beside)

    def _solve(self, elements: list[int], name: str, run: Run) -> None:
        """Takes over what this solver solves of the elements."""
        if not elements:
            return
        some = self._part(elements)
        self._take(elements, accept(some, run(some), self.settings)[0], name)

    def _take(self, elements: list[int], solved: Points, name: str) -> None:
        at = self.points
        for j, i in enumerate(elements):
            if solved.status[j] is not Status.OPTIMAL or at.status[i] is Status.OPTIMAL:
                continue
            info = {**solved.info[j]}
            if name != self.solvers.first[0]:
                failed = at.info[i].get("message") or at.status[i].value
                info |= {"solver": name, "fallback_from": failed}
            if self.unmet[i]:
                info["violation"] = float(self.unmet[i])
            at.x[i], at.s[i], at.z[i] = solved.x[j], solved.s[j], solved.z[j]
            at.exact, at.paired = at.exact & solved.exact, at.paired & solved.paired
            at.status[i], at.info[i] = Status.OPTIMAL, info

    def _agreed(self, i: int, claim: Status) -> bool:
        """Whether another solver makes the same claim of a program with curved cones: those may
        have no certificate, while polyhedral ones have one whenever the claim is true."""
        if self.batch.structure.polyhedral:
            return False
        program = self.changed().take(slice(i, i + 1))
        able = islice(self.solvers.able(program.structure), TRIED)
        others = (run for name, run in able if name != self.solvers.first[0])
        return any(run(program).status[0] is claim for run in islice(others, 1))

    def _part(self, elements: list[int]) -> ProgramBatch:
        """The programs of these elements as they are now."""
        batch = self.changed()
        if elements == list(range(batch.size)):
            return batch
        return batch.take(np.array(elements, dtype=np.intp))

    def _able(self, structure: Structure) -> Iterable[Run]:
        return (run for _, run in islice(self.solvers.able(structure), TRIED))
