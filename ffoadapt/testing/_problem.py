"""`Problem`: a small program whose answer is known, and other programs of the same structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy import sparse

from .._cones import Cone
from .._layers.cone_program import ConeProgram
from .._program.points import Status
from .._types import Floats

__all__ = ["Problem"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A program in one of the three forms, and what is known of it from theory.

    Attributes
    ----------
    name, about
        A word, and a line on what it is there to catch.
    form
        ``"cone"`` (P, q, A, b), ``"split"`` (P, q, G, h, A, b) or ``"box"`` (P, q, A, l, u).
    data
        The data by those names; None where there are none.
    cones
        For the form ``"cone"``.
    status
        The status that a solver should report.
    x, dual
        The exact solution: x, and the dual as stated (z; z_ineq and y_eq; y), where it is unique.
    jacobian
        dx/d(datum) from a closed form: (n, size of the datum), for the data where there is one.
    repair
        For a problem without a solution: data with which it has one.
    """

    name: str
    about: str
    form: Literal["cone", "split", "box"]
    data: Mapping[str, Any]
    cones: tuple[Cone, ...] = ()
    status: Status = Status.OPTIMAL
    x: Floats | None = None
    dual: Mapping[str, Floats] = field(default_factory=dict)
    jacobian: Mapping[str, Floats] = field(default_factory=dict)
    repair: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Problem({self.name!r}: {self.about})"

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of cones that a solver needs."""
        kinds: frozenset[str] = self._program.structure.kinds
        return kinds

    @cached_property
    def objective_kind(self) -> str:
        """``"linear"``, ``"convex"`` or ``"strictly_convex"``, see `ffoadapt.Solver.objectives`."""
        P = self._program.P
        eigenvalues = np.linalg.eigvalsh(P.toarray() if sparse.issparse(P) else P)
        if not np.abs(eigenvalues).max(initial=0.0):
            return "linear"
        return "strictly_convex" if eigenvalues[0] > 1e-9 * eigenvalues[-1] else "convex"

    @property
    def solvable(self) -> bool:
        """Whether it has a solution."""
        return self.status.solved

    @property
    def objective(self) -> float:
        """1/2 x'Px + q'x at the exact solution."""
        program = self._program
        assert self.x is not None
        return float(0.5 * self.x @ (program.P @ self.x) + program.q @ self.x)

    @cached_property
    def _program(self) -> ConeProgram:
        return self.program()

    def program(self, **changes: Any) -> ConeProgram:
        """The program, its arrays fresh copies, with some data replaced."""
        data = {
            name: None if value is None else value.copy()
            for name, value in {**self.data, **changes}.items()
        }
        if self.form == "cone":
            return ConeProgram(**data, cones=self.cones)
        if self.form == "split":
            return ConeProgram.from_split(**data)
        return ConeProgram.from_box(**data)

    def variant(self, rng: np.random.Generator, *names: str) -> dict[str, Any]:
        """Other numbers for these data (all, without names): same zeros, some percent away.

        P moves by a congruence, so that it stays semidefinite; l and u by one factor, so that
        equal bounds stay equal.
        """
        factors = 1.0 + 0.05 * rng.uniform(-1.0, 1.0, 4096)  # one stream whatever is asked for
        changes = {}
        for k, (name, value) in enumerate(self.data.items()):
            if value is None or (names and name not in names):
                continue
            if name == "P":
                scale = sparse.diags(factors[: value.shape[0]])
                changes[name] = scale @ value @ scale
            elif name in ("l", "u"):
                changes[name] = value * factors[: value.size]
            elif sparse.issparse(value):
                changes[name] = value.copy()
                changes[name].data = value.data * factors[100 * k : 100 * k + value.nnz]
            else:
                changes[name] = value * factors[100 * k : 100 * k + value.size].reshape(value.shape)
        return changes

    def directions(self, datum: str, rng: np.random.Generator) -> dict[str, Any]:
        """A tangent of length 1 that moves a datum: symmetric for P, on a sparse pattern.

        The bounds of an equality row move together, infinite ones not at all.
        """
        value = self.data[datum]
        step = rng.standard_normal(value.shape)
        if sparse.issparse(value):
            step = sparse.csc_matrix(value.astype(bool).multiply(step))
        else:
            step = np.where(np.isfinite(value), step, 0.0)
        if datum == "P":
            step = (step + step.T) / 2.0
        if datum in ("l", "u"):
            equal = self.data["l"] == self.data["u"]
            step = np.where(equal, 0.0, step) if datum == "l" else step
        size = float(np.sqrt((step.multiply(step) if sparse.issparse(step) else step**2).sum()))
        moved = {datum: step / size}
        if datum == "u":
            moved["l"] = np.where(equal, moved["u"], 0.0)
        return moved
