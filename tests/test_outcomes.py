"""How a call went: solutions of `qp` and its like, `Layer.last`, and the warning of inaccuracy."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import ConeProgram, InaccurateSolutionWarning, NonnegativeCone, Status

EYE = np.eye(3)
Q = np.array([1.0, -0.5, 0.25])


def qp(q: Any = Q, **settings: Any) -> Any:
    return ffoadapt.qp(EYE, q, -EYE, np.zeros(3), **settings)


def box_qp(q: Any = Q, **settings: Any) -> Any:
    return ffoadapt.box_qp(EYE, q, EYE, np.zeros(3), np.full(3, np.inf), **settings)


def cone_program(q: Any = Q, **settings: Any) -> Any:
    return ffoadapt.cone_program(EYE, q, -EYE, np.zeros(3), [NonnegativeCone(3)], **settings)


CALLS = [qp, box_qp, cone_program]


def layer(**settings: Any) -> ffoadapt.Layer:
    """q -> x, the others constant."""
    program = ConeProgram(EYE, Q, -EYE, np.zeros(3), [NonnegativeCone(3)])
    return ffoadapt.Layer(program.model, **settings)


def at(q: Any = Q) -> tuple[Any, ...]:
    return EYE, q, -EYE, np.zeros(3)


@ffoadapt.box_solver
def vague(P: Any, q: Any, A: Any, l: Any, u: Any, options: Any) -> Any:
    """Of P = I, x >= 0 and A = I or -I: right to 1e-7, and it says that it is not sure."""
    x = np.maximum(-q, 0.0)
    return x + 1e-7, -A.T @ (x + q), Status.OPTIMAL_INACCURATE


@pytest.mark.parametrize("call", CALLS)
def test_a_solution_says_how_it_went(call: Callable[..., Any]) -> None:
    solution = call()
    assert solution.status is Status.OPTIMAL
    assert isinstance(solution.info["solver"], str)
    assert solution.report().verdict == "differentiable"
    assert ffoadapt.gradient_report(solution) == solution.report()
    assert isinstance(solution, tuple) and len(solution) == len(solution._fields)
    assert solution._asdict()["x"] is solution.x is solution[0]


@pytest.mark.parametrize("call", CALLS)
def test_of_a_batch_in_flat_order(call: Callable[..., Any]) -> None:
    q = np.stack([np.stack([Q, np.zeros(3), Q]), np.stack([2 * Q, Q, -Q])])
    solution = call(q)
    assert solution.status == [Status.OPTIMAL] * 6
    assert [info["solver"] for info in solution.info] == [solution.info[0]["solver"]] * 6
    verdicts = solution.report().verdicts
    assert verdicts == ["differentiable", "weakly_active", *["differentiable"] * 4]


def test_failed_elements_are_named() -> None:
    h = np.array([[1.0, -1.0], [1.0, -2.0], [3.0, -1.0]])  # x <= h[0] and x >= -h[1]
    G = np.array([[1.0], [-1.0]])
    solution = ffoadapt.qp(np.eye(1), np.ones(1), G, h, on_failure="nan")
    assert solution.status == [Status.OPTIMAL, Status.PRIMAL_INFEASIBLE, Status.OPTIMAL]
    assert [report.verdict == "inaccurate_solution" for report in solution.report()] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s)), lambda s: s._replace()],
)
def test_copies_have_the_arrays_alone(copied: Callable[[Any], Any]) -> None:
    solution = qp()
    other = copied(solution)
    assert type(other) is type(solution)
    assert other.status is None and other.info is None
    for one, same in zip(other, solution, strict=True):
        np.testing.assert_array_equal(one, same)
    with pytest.raises(ffoadapt.DifferentiationError, match="a copy"):
        other.report()


def test_the_arrays_alone_keep_nothing_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Any]] = []
    original = ffoadapt.ProgramBatch.__init__

    def watched(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(weakref.ref(self))

    monkeypatch.setattr(ffoadapt.ProgramBatch, "__init__", watched)
    solution = qp()
    solution.report()
    assert made and any(ref() is not None for ref in made)
    x = solution.x
    del solution
    gc.collect()
    assert [ref() for ref in made] == [None] * len(made)
    assert x[1] == pytest.approx(0.5)


def test_a_solver_may_make_such_calls() -> None:
    @ffoadapt.box_solver
    def outer(P: Any, q: Any, A: Any, l: Any, u: Any, options: Any) -> Any:
        found = ffoadapt.box_qp(P, q, A, l, u)
        assert found.status is Status.OPTIMAL
        return found

    solution = box_qp(solver=outer)
    assert solution.info["solver"] == "outer"


def test_the_last_call_of_a_layer() -> None:
    solve = layer()
    assert solve.last is None
    (x, *_) = solve(*at())
    assert solve.last is not None and solve.last.status is Status.OPTIMAL
    assert solve.last.info["solver"]
    assert solve.last.report().verdict == "differentiable"
    solve(*at(np.stack([Q, np.zeros(3)])))
    assert solve.last.status == [Status.OPTIMAL] * 2
    assert solve.last.report().verdicts == ["differentiable", "weakly_active"]
    assert ffoadapt.gradient_report(solve.last)[1].verdict == "weakly_active"
    np.testing.assert_allclose(x, np.maximum(-Q, 0.0), atol=1e-9)


def test_the_last_call_with_other_options() -> None:
    solve = layer(solver="clarabel")
    solve(*at(np.stack([Q, Q])))
    solve(*at(), solver_options={"tolerance": 1e-7})
    assert solve.last is not None and solve.last.status is Status.OPTIMAL


def test_the_last_call_is_that_of_the_thread() -> None:
    solve = layer()
    solve(*at())
    seen: list[Any] = []

    def other() -> None:
        seen.append(solve.last)
        solve(*at(np.stack([Q, Q])))
        seen.append(solve.last.status)  # type: ignore[union-attr]

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [None, [Status.OPTIMAL] * 2]
    assert solve.last is not None and solve.last.status is Status.OPTIMAL


def test_the_last_call_that_failed() -> None:
    """The error names the elements; so does the layer, and not what was before."""
    program = ConeProgram.from_split(np.eye(1), np.ones(1), np.array([[1.0], [-1.0]]), np.ones(2))
    solve = ffoadapt.Layer(program.model)
    good = [
        np.eye(1),
        np.ones(1),
        np.array([[1.0], [-1.0]]),
        np.ones(2),
        np.zeros((0, 1)),
        np.zeros(0),
    ]
    solve(*good)
    bad = [*good]
    bad[3] = np.array([[1.0, 1.0], [1.0, -2.0]])
    with pytest.raises(ffoadapt.SolveError):
        solve(*bad)
    assert solve.last is not None
    assert solve.last.status == [Status.OPTIMAL, Status.PRIMAL_INFEASIBLE]
    with pytest.raises(ffoadapt.ShapeError):
        solve(*good[:3], np.ones(7), *good[4:])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
def test_a_copied_layer_knows_of_no_call(copied: Callable[[Any], Any]) -> None:
    solve = layer()
    solve(*at())
    other = copied(solve)
    assert other.last is None
    other(*at())
    assert other.last.status is Status.OPTIMAL


def test_checking_gradients_is_no_call_of_the_user() -> None:
    solve = layer()
    solve(*at(np.stack([Q, Q])))
    solve.check_gradients(*at())
    assert solve.last is not None and len(solve.last.status) == 2  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ the warning


def test_an_inaccurate_solution_warns_where_it_is_called() -> None:
    for call in (qp, box_qp, cone_program):
        with pytest.warns(InaccurateSolutionWarning, match="optimal_inaccurate") as caught:
            solution = call(solver=vague, polish=False)
        assert solution.status is Status.OPTIMAL_INACCURATE
        assert [warning.filename for warning in caught] == [__file__]


def test_it_is_one_of_its_own() -> None:
    assert issubclass(InaccurateSolutionWarning, UserWarning)
    assert not issubclass(InaccurateSolutionWarning, ffoadapt.FFOAdaptError)
    assert "InaccurateSolutionWarning" in ffoadapt.__all__


def test_a_line_in_a_loop_warns_once_by_default() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for k in range(5):
            ffoadapt.qp(EYE, Q + k, -EYE, np.zeros(3), solver=vague, polish=False)
    assert len(caught) == 1


def test_a_layer_warns_once() -> None:
    solve = layer(solver=vague, polish=False)
    with pytest.warns(InaccurateSolutionWarning) as caught:
        for _ in range(3):
            solve(*at())
        solve(*at(np.stack([Q, 2 * Q])))
    assert len(caught) == 1 and caught[0].filename == __file__
    assert solve.last is not None
    assert solve.last.status == [Status.OPTIMAL_INACCURATE] * 2
    with pytest.warns(InaccurateSolutionWarning):
        layer(solver=vague, polish=False)(*at())


def test_as_an_error_it_stays_one() -> None:
    """Warnings are errors in these tests: a layer that was stopped once is stopped again."""
    solve = layer(solver=vague, polish=False)
    for _ in range(2):
        with pytest.raises(InaccurateSolutionWarning):
            solve(*at())
    with pytest.raises(InaccurateSolutionWarning):
        qp(solver=vague, polish=False)


def test_who_gets_the_status_is_not_warned() -> None:
    """`solve`, `Layer.solve` and `check_gradients`; nor who made it a failure."""
    program = ConeProgram(*at(), [NonnegativeCone(3)])
    assert ffoadapt.solve(program, vague, polish=False).status is Status.OPTIMAL_INACCURATE
    solve = layer(solver=vague, polish=False)
    assert solve.solve(*at()).status is Status.OPTIMAL_INACCURATE
    refusing = {"solver": vague, "polish": False, "accept_inaccurate": False}
    assert np.isnan(qp(on_failure="nan", **refusing).x).all()
    with pytest.raises(ffoadapt.SolveError):
        qp(**refusing)
