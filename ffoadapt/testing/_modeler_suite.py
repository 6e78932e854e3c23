"""`ModelerSuite`: what a modeler must get right on problems that it is given, as pytest tests.

class TestMine(ffoadapt.testing.ModelerSuite):
    modeler = "mine"

    def cases(self):
        yield ModelerCase("lp", problem, [c], [c_value], [x], reference)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .._exceptions import ParameterError, ProblemError
from .._layers.layer import Layer
from .._oracle.gradient import Adjoint
from .._plugins.registry import registry
from .._plugins.solver import Solver
from .._program.batch import ProgramBatch
from .._program.points import Points, Status
from .._types import Floats
from ._assertions import WithWaivers, close, expect
from ._declaration_checks import imports_of_registration
from ._subject import CheckFailure

__all__ = ["ModelerCase", "ModelerSuite"]


@dataclass(frozen=True, eq=False)
class ModelerCase:
    """A problem of the modeler, values for its parameters, and the answer from elsewhere.

    Attributes
    ----------
    problem, parameters, variables
        As for `ffoadapt.Layer`.
    values
        One array a parameter, at which the solution is unique and differentiable.
    reference
        ``reference(*values)`` gives the exact variables, one array each, without this library.
    tolerance
        How well the answers agree, relative to their size.
    """

    name: str
    problem: Any
    parameters: Sequence[Any]
    values: Sequence[Any]
    variables: Sequence[Any]
    reference: Callable[..., Sequence[Any]]
    tolerance: float = 1e-5

    @cached_property
    def arrays(self) -> list[Floats]:
        """The values as arrays."""
        return [np.asarray(value, dtype=np.float64) for value in self.values]


class ModelerSuite(WithWaivers):
    """One test for each promise and case; subclass it as ``TestMine`` and write `cases`.

    Attributes
    ----------
    modeler
        The name it is registered under.
    solver, solver_options
        What solves the canonical programs, tightly.
    waive
        Reasons by the name of a test: not run, shown as skipped.
    """

    modeler: ClassVar[str]
    solver: ClassVar[str | Solver | type[Solver]] = "auto"
    solver_options: ClassVar[Mapping[str, Any]] = {}

    def cases(self) -> Iterable[ModelerCase]:
        """The problems to go through."""
        raise NotImplementedError("cases() is to be written by the suite's subclass")

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """pytest's hook: one test a case."""
        if "case" in metafunc.fixturenames:
            cases = list(self.cases())
            metafunc.parametrize("case", cases, ids=[case.name for case in cases])

    # -- the tests

    def test_found_by_type(self, case: ModelerCase) -> None:
        """The problem's class is known to be this modeler's."""
        spec = registry.by_module("modeler", type(case.problem))
        modeler = None if spec is None else spec.name
        expect(modeler == self.modeler, f"the modeler of the problem is {modeler!r}")

    def test_lazy_import(self) -> None:
        """Registering and listing it imports neither the vendor nor the adapter."""
        spec = registry.specs("modeler")[self.modeler]
        heavy = imports_of_registration((*spec.requires, spec.load.partition(":")[0]))
        expect(not heavy, f"listing the plugins imported {', '.join(heavy)}")

    def test_solution(self, case: ModelerCase) -> None:
        """Variables equal the reference's."""
        exact, outputs = case.reference(*case.arrays), self._layer(case)(*case.arrays)
        for k, (seen, wanted) in enumerate(zip(outputs, exact, strict=True)):
            close(f"variable {k}", seen, np.asarray(wanted, dtype=np.float64), case.tolerance)

    def test_batch(self, case: ModelerCase) -> None:
        """A batch gives what its elements give; a parameter without the axis is shared."""
        layer, elements = self._layer(case), _batch_of(case.arrays)
        if not elements[0]:
            return
        stacked = [np.stack(parts) for parts in zip(*elements, strict=True)]
        self._elements_agree(case, layer, stacked, elements)
        shared = [[v[0], *case.arrays[1:]] for v in elements]
        self._elements_agree(case, layer, [stacked[0], *case.arrays[1:]], shared)

    def _elements_agree(self, case: ModelerCase, layer: Layer, stacked: Any, elements: Any) -> None:
        batch = layer.solve(*stacked)
        cotangents = [np.ones_like(v) for v in batch.variables]
        grads = batch.vjp(*cotangents)
        for i, values in enumerate(elements):
            alone = layer.solve(*values)
            for k, (seen, exact) in enumerate(zip(batch.variables, alone.variables, strict=True)):
                close(f"variable {k} of element {i}", seen[i], exact, case.tolerance)
            gap = abs(batch.objective[i] - alone.objective)
            expect(gap <= case.tolerance * max(1.0, abs(alone.objective)), "objectives differ")
        first = sum(layer.solve(*v).vjp(*(c[0] for c in cotangents))[-1] for v in elements)
        last = grads[-1] if grads[-1].shape == first.shape else grads[-1].sum(axis=0)
        close("the gradient of the last parameter", last, first, 100 * case.tolerance)

    def test_program_jvp(self, case: ModelerCase) -> None:
        """program_jvp is the derivative of program."""
        model, tangents = self._layer(case).program, _tangents(case)
        step = 1e-4

        def at(sign: float) -> ProgramBatch:
            moved = [v + sign * step * t for v, t in zip(case.arrays, tangents, strict=True)]
            made: ProgramBatch = model.program([v[None] for v in moved], 1)
            return made

        ahead, behind, here = at(1.0), at(-1.0), at(0.0)
        z = np.random.default_rng(1).standard_normal((1, here.structure.m))
        told = model.program_jvp([t[None] for t in tangents], here, z)
        for name in ("P", "q", "A", "b"):
            seen = (getattr(ahead, name) - getattr(behind, name)) / (2 * step)
            exact = np.broadcast_to(told.get(name, np.zeros(1)), seen.shape)
            close(f"the tangent of {name}", seen, exact, 1e-6)

    def test_program_transpose(self, case: ModelerCase) -> None:
        """program_vjp is the transpose of program_jvp."""
        model, tangents = self._layer(case).program, _tangents(case)
        batch = model.program([v[None] for v in case.arrays], 1)
        points, w, zeta = _random_points(batch)
        adjoint = Adjoint(batch, points, w, zeta)
        back = model.program_vjp(adjoint, [True] * len(tangents))
        forth = model.program_jvp([t[None] for t in tangents], batch, points.z)
        left = sum(float(np.sum(adjoint[name] * t)) for name, t in forth.items())
        _equal("program_jvp and program_vjp", left, _inner(back, tangents))

    def test_retrieve_transpose(self, case: ModelerCase) -> None:
        """retrieve_vjp is the transpose of retrieve_jvp, and that the linear part of retrieve."""
        model = self._layer(case).program
        batch = model.program([v[None] for v in case.arrays], 1)
        points, dx, dz = _random_points(batch)
        ds = np.random.default_rng(2).standard_normal(dz.shape)
        forth = model.retrieve_jvp(dx, ds, dz, batch)
        x, s, z = points.x, points.s, points.z
        ahead = model.retrieve(x + dx, s + ds, z + dz, batch)
        for seen, after, before in zip(forth, ahead, model.retrieve(x, s, z, batch), strict=True):
            close("retrieve_jvp", seen, after - before, 1e-8)
        rng = np.random.default_rng(3)
        cotangents = [rng.standard_normal(out.shape) for out in forth]
        back = model.retrieve_vjp(cotangents, batch)
        left, right = _inner(cotangents, forth), _inner(back, (dx, ds, dz))
        _equal("retrieve_jvp and retrieve_vjp", left, right)

    def test_gradient(self, case: ModelerCase) -> None:
        """The gradient of each parameter agrees with differences of solutions."""
        layer, step = self._layer(case), 1e-4
        result = layer.solve(*case.arrays)
        rng = np.random.default_rng(4)
        cotangents = [rng.standard_normal(v.shape) for v in result.variables]
        grads = result.vjp(*cotangents)
        for k, (direction, grad) in enumerate(zip(_tangents(case), grads, strict=True)):
            ends = []
            for sign in (1.0, -1.0):
                moved = list(case.arrays)
                moved[k] = moved[k] + sign * step * direction
                variables = layer.solve(*moved).variables
                ends.append(_inner(cotangents, variables))
            seen, told = (ends[0] - ends[1]) / (2 * step), float(np.sum(grad * direction))
            limit = max(1e-4, 100 * case.tolerance) * max(1.0, abs(seen))
            expect(
                abs(told - seen) <= limit,
                f"the derivative along a direction of parameter {k} is {told:.6g}, differences of "
                f"solutions give {seen:.6g}. The report: {result.report()}",
            )

    def test_result_transpose(self, case: ModelerCase) -> None:
        """The jvp and the vjp of a result are transposes."""
        result, tangents = self._layer(case).solve(*case.arrays), _tangents(case)
        rng = np.random.default_rng(5)
        cotangents = [rng.standard_normal(v.shape) for v in result.variables]
        forth, back = result.jvp(*tangents), result.vjp(*cotangents)
        _equal("jvp and vjp", _inner(cotangents, forth), _inner(back, tangents), 1e-5)

    def test_errors(self, case: ModelerCase) -> None:
        """Too many values, a wrong shape and a NaN are errors that say so."""
        layer, values = self._layer(case), case.arrays
        self._raises(ParameterError, layer, [*values, np.zeros(1)])
        if values:
            self._raises(ProblemError, layer, [np.zeros((*values[0].shape, 7)), *values[1:]])
            self._raises(ProblemError, layer, [np.full_like(values[0], np.nan), *values[1:]])

    # -- helpers

    def _layer(self, case: ModelerCase) -> Layer:
        return Layer(
            case.problem,
            case.parameters,
            case.variables,
            solver=self.solver,
            solver_options=self.solver_options,
        )

    def _raises(self, kind: type[Exception], layer: Layer, values: Sequence[Any]) -> None:
        try:
            layer(*values)
        except kind:
            return
        raise CheckFailure(f"expected ffoadapt.{kind.__name__}, and nothing was raised")


def _batch_of(arrays: Sequence[Floats]) -> list[list[Floats]]:
    """Three elements, each parameter times a number near 1: signs and symmetry stay."""
    rng = np.random.default_rng(0)
    return [[v * (1.0 + 0.01 * rng.uniform(-1, 1)) for v in arrays] for _ in range(3)]


def _tangents(case: ModelerCase) -> list[Floats]:
    rng = np.random.default_rng(6)
    return [rng.standard_normal(v.shape) for v in case.arrays]


def _random_points(batch: ProgramBatch) -> tuple[Points, Floats, Floats]:
    """Points that solve nothing, and w, zeta: maps are linear, so any will do."""
    rng = np.random.default_rng(7)
    n, m = batch.structure.n, batch.structure.m
    x, w = rng.standard_normal((2, 1, n))
    s, z, zeta = rng.standard_normal((3, 1, m))
    return Points(x, s, z, [Status.OPTIMAL], [{}]), w, zeta


def _inner(first: Sequence[Any], second: Sequence[Any]) -> float:
    """The inner product of two lists of arrays; None is zero."""
    return sum(float(np.sum(a * b)) for a, b in zip(first, second, strict=True) if a is not None)


def _equal(what: str, left: float, right: float, tolerance: float = 1e-9) -> None:
    expect(
        abs(left - right) <= tolerance * max(1.0, abs(left)),
        f"{what} are no transposes: inner products {left:.12g} and {right:.12g}",
    )
