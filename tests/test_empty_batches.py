"""A batch of no programs: outputs, derivatives and reports of the right shapes, nothing solved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

import ffoadapt
from ffoadapt import (
    ConeProgram,
    ExponentialCone,
    NonnegativeCone,
    PowerCone,
    PSDCone,
    SecondOrderCone,
)

BATCHES = [(0,), (0, 4), (3, 0)]
CONES = [NonnegativeCone(3), SecondOrderCone(3), PSDCone(2), ExponentialCone(), PowerCone(0.3)]


class Broken(ffoadapt.Executor):
    """An executor that does not know of empty batches."""

    def run(self, job: Any, batch: Any) -> Any:
        raise ZeroDivisionError


@pytest.mark.parametrize("cone", CONES, ids=lambda cone: cone.kind)
@pytest.mark.parametrize("batch", BATCHES)
def test_cones(cone: Any, batch: tuple[int, ...]) -> None:
    program = ConeProgram(np.eye(3), np.ones(3), -np.eye(3), np.array([0.1, 0.2, 1.0]), [cone])
    layer = ffoadapt.Layer(program.model, executor=Broken(), polish=True)
    values = np.eye(3), np.zeros((*batch, 3)), -np.eye(3), np.array([0.1, 0.2, 1.0])
    assert [out.shape for out in layer(*values)] == [(*batch, 3)] * 3
    result = layer.solve(*values)
    assert result.status == [] and result.info == [] and result.objective.shape == batch
    assert list(result.report()) == [] and result.report().verdicts == []
    gradients = result.vjp(*(np.zeros((*batch, 3)) for _ in range(3)))
    assert [g.shape for g in gradients] == [(3, 3), (*batch, 3), (3, 3), (3,)]
    assert not any(g.any() for g in gradients)
    several = result.vjp(np.zeros((5, *batch, 3)), None, None)
    assert [g.shape for g in several] == [(5, 3, 3), (5, *batch, 3), (5, 3, 3), (5, 3)]
    moved = result.jvp(np.ones((3, 3)), np.zeros((*batch, 3)), None, None)
    assert [m.shape for m in moved] == [(*batch, 3)] * 3


@pytest.mark.parametrize("on_failure", ["raise", "nan"])
@pytest.mark.parametrize("matrix", [np.asarray, sparse.csc_matrix], ids=["dense", "sparse"])
def test_quadratic_programs(matrix: Any, on_failure: Any) -> None:
    P, G, q, h = matrix(np.eye(2)), matrix(np.eye(2)), np.zeros((0, 2)), np.ones(2)
    found = ffoadapt.qp(P, q, G, h, matrix(np.ones((1, 2))), np.ones(1), on_failure=on_failure)
    assert [v.shape for v in found] == [(0, 2), (0, 2), (0, 1)]
    assert found.status == [] and found.report().verdicts == []
    assert [v.shape for v in ffoadapt.box_qp(P, q, G, -h, h)] == [(0, 2), (0, 2)]
    unbounded = ffoadapt.box_qp(P, q, G, np.full(2, -np.inf), h, on_failure=on_failure)
    assert unbounded.x.shape == (0, 2)
    with pytest.raises(ffoadapt.ShapeError):
        ffoadapt.qp(P, np.zeros((0, 3)), G, h)


def test_a_parameter_on_which_nothing_depends() -> None:
    cp = pytest.importorskip("cvxpy")
    x, p, scale = cp.Variable(2), cp.Parameter(2), cp.Parameter(nonneg=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p) + scale * cp.norm1(x)), [x >= 0])
    layer = ffoadapt.Layer(problem, [p, scale], [x])
    # One argument is an empty batch, the other none, one of one, or the same.
    for of_scale in ((), (1,), (0,)):
        result = layer.solve(np.zeros((0, 2)), np.zeros(of_scale))
        assert result.variables[0].shape == (0, 2)
        assert [g.shape for g in result.vjp(np.zeros((0, 2)))] == [(0, 2), of_scale]
    fixed = ffoadapt.Layer(cp.Problem(cp.Minimize(cp.sum_squares(x)), [x >= 1]), [], [x])
    assert fixed()[0].shape == (2,)


def test_shared_values_that_are_no_numbers() -> None:
    """Nothing is wrong with elements that are not there, unless the user wants errors."""
    bad = np.array([np.nan, 1.0])
    with pytest.raises(ffoadapt.ProblemError, match="h holds nan"):
        ffoadapt.qp(np.eye(2), np.zeros((0, 2)), np.eye(2), bad)
    found = ffoadapt.qp(np.eye(2), np.zeros((0, 2)), np.eye(2), bad, on_failure="nan")
    assert found.x.shape == (0, 2) and found.status == []
