"""Bad input, and programs without a solution: which error, and that its text helps.

Every error is one of ffoadapt's and of the built-in exception a user would expect; its text says
what came, what was expected, and what to do. Elements of a batch are named by their number.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cvxpy as cp
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import sparse

import ffoadapt
from ffoadapt import (
    ConeProgram,
    FFOAdaptError,
    MissingDependencyError,
    NonnegativeCone,
    OptionError,
    ParameterError,
    ProblemError,
    SecondOrderCone,
    ShapeError,
    SolveError,
    Status,
    UnknownPluginError,
    UnsupportedProblemError,
    ZeroCone,
)

SOLVERS = ["clarabel", "osqp", "scs"]
every_solver = pytest.mark.parametrize("solver", SOLVERS)

I, q, G, h = np.eye(2), np.array([1.0, 2.0]), np.array([[1.0, 1.0], [1.0, -1.0]]), np.ones(2)
NAN, INF = np.nan, np.inf
OUTWARD = np.array([[1.0, 0.0], [-1.0, 0.0]])
"""x_1 <= h_1, -x_1 <= h_2: without a solution where h_1 < -h_2."""


def qp(**data: Any) -> Any:
    """A good program, but for the given data."""
    return ffoadapt.qp(**{"P": I, "q": q, "G": G, "h": h, **data})


def box(**data: Any) -> Any:
    return ffoadapt.box_qp(**{"P": I, "q": q, "A": G, "l": -h, "u": h, **data})


def cone(cones: Any = None, **data: Any) -> Any:
    cones = [NonnegativeCone(2)] if cones is None else cones
    return ffoadapt.cone_program(**{"P": I, "q": q, "A": G, "b": h, **data}, cones=cones)


def caught(call: Callable[[], Any], error: type[Exception], *words: str) -> FFOAdaptError:
    """The error of the call; it is ours, of the expected types, and says all of the words."""
    with pytest.raises(error) as info:
        call()
    assert isinstance(info.value, FFOAdaptError)
    text = str(info.value)
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"
    return info.value


def test_good_programs_are_good() -> None:
    """So that what follows fails for its own reason."""
    for solution in (qp(), box(), cone()):
        assert np.isfinite(solution.x).all()


# --- the tree -------------------------------------------------------------------------------------


def test_tree() -> None:
    builtin = {
        ValueError: (
            ProblemError,
            ShapeError,
            ParameterError,
            UnsupportedProblemError,
            OptionError,
        ),
        RuntimeError: (SolveError, ffoadapt.PluginError, ffoadapt.DifferentiationError),
        ImportError: (MissingDependencyError,),
    }
    for expected, errors in builtin.items():
        for error in errors:
            assert issubclass(error, FFOAdaptError) and issubclass(error, expected)
    assert issubclass(UnknownPluginError, ValueError)


# --- shapes ---------------------------------------------------------------------------------------

SHAPES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "P": (lambda: qp(P=np.eye(3)), ["P has shape (3, 3)", "expected (2, 2)", "(batch, 2, 2)"]),
    "P a vector": (lambda: qp(P=h), ["P has shape (2,)", "expected (2, 2)"]),
    "q a number": (lambda: qp(q=1.0), ["q is a single number", "expected a vector"]),
    "q missing": (lambda: qp(q=None), ["q is missing", "expected a vector"]),
    "G columns": (lambda: qp(G=np.ones((2, 3))), ["G has shape (2, 3)", "expected (2, 2)"]),
    "G rows": (lambda: qp(h=np.ones(3)), ["G has shape (2, 2)", "expected (3, 2)"]),
    "h a number": (lambda: qp(h=1.0), ["h is a single number", "expected a vector"]),
    "G without h": (lambda: qp(h=None), ["G is given without h", "both or neither"]),
    "h without G": (lambda: qp(G=None), ["h is given without G", "both or neither"]),
    "A without b": (lambda: qp(A=G), ["A is given without b", "both or neither"]),
    "l and u": (lambda: box(u=np.ones(3)), ["u has shape (3,)", "expected (2,)"]),
    "A of a box": (lambda: box(A=np.ones((3, 2))), ["A has shape (3, 2)", "expected (2, 2)"]),
    "sparse": (
        lambda: qp(G=sparse.csc_matrix(np.ones((3, 2)))),
        ["sparse G has shape (3, 2)", "expected (2, 2)"],
    ),
    "batches": (
        lambda: qp(P=np.stack([I] * 2), q=np.ones((3, 2))),
        ["P: (2,)", "q: (3,)", "expected equal batch sizes"],
    ),
    "cones": (lambda: cone([NonnegativeCone(3)]), ["cones have 3 rows", "b has 2", "make them"]),
    "program q": (
        lambda: ConeProgram(I, I, G, h, [NonnegativeCone(2)]),
        ["q has shape (2, 2)", "expected one axis"],
    ),
    "program A": (
        lambda: ConeProgram(I, q, np.ones((2, 3)), h, [NonnegativeCone(2)]),
        ["A has shape (2, 3)", "expected (2, 2)"],
    ),
    "program cones": (
        lambda: ConeProgram(I, q, G, np.ones(3), [ZeroCone(2)]),
        ["cones have 2 rows", "ZeroCone(m=2)", "b has 3"],
    ),
    "program without A": (
        lambda: ConeProgram(I, q, None, h, [NonnegativeCone(2)]),
        ["A is missing", "2 rows"],
    ),
    "split program": (
        lambda: ConeProgram.from_split(I, q, np.ones((3, 2)), h),
        ["G has shape (3, 2)", "expected (2, 2)"],
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape(name: str) -> None:
    call, words = SHAPES[name]
    assert isinstance(caught(call, ShapeError, *words), ValueError)


@pytest.mark.parametrize("array", [torch.tensor, jnp.asarray], ids=["torch", "jax"])
def test_shape_in_frameworks(array: Any) -> None:
    words = ["G has shape (2, 3)", "expected (2, 2)"]
    data = {"P": I, "q": q, "G": np.ones((2, 3)), "h": h}
    caught(lambda: ffoadapt.qp(**{k: array(v) for k, v in data.items()}), ShapeError, *words)


# --- numbers --------------------------------------------------------------------------------------

NUMBERS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "nan in q": (lambda: qp(q=np.array([1, NAN])), ["q holds nan at index (1,)", "finite"]),
    "nan in a batch": (
        lambda: qp(q=np.array([[1.0, 2], [1, 2], [NAN, 2]])),
        ["q holds nan", "index (0,)", "batch element 2", "diverged"],
    ),
    "two batch axes": (
        lambda: qp(q=np.where(np.arange(12).reshape(2, 3, 2) == 9, INF, 1.0)),
        ["q holds inf at index (1,) of batch element 1, 1"],
    ),
    "inf in P": (lambda: qp(P=np.diag([INF, 1])), ["P holds inf at index (0, 0)"]),
    "-inf in q": (lambda: qp(q=np.array([-INF, 1])), ["q holds -inf"]),
    "inf in G": (lambda: qp(G=np.array([[1, 0], [0, INF]])), ["G holds inf at index (1, 1)"]),
    "inf in b of an equality": (lambda: qp(A=G, b=np.array([INF, 1])), ["b holds inf"]),
    "nan in a bound": (lambda: qp(h=np.array([1, NAN])), ["h holds nan", "infinite bounds"]),
    "nan in l": (lambda: box(l=np.array([NAN, -1])), ["l holds nan", "infinite bounds"]),
    "nan in a program": (
        lambda: ffoadapt.solve(ConeProgram(I, [NAN, 1], G, h, [NonnegativeCone(2)])),
        ["q holds nan"],
    ),
    "inf in a second-order cone": (
        lambda: cone([SecondOrderCone(2)], b=np.array([INF, 1])),
        ["b holds inf at index 0", "only rows in nonnegative cones"],
    ),
    "inf in a zero cone": (
        lambda: cone([NonnegativeCone(1), ZeroCone(1)], b=np.array([[INF, 1], [1, INF]])),
        ["b holds inf at index 1 of batch element 1", "only rows in nonnegative cones"],
    ),
    "asymmetric P": (
        lambda: qp(P=np.array([[1.0, 1], [0, 1]])),
        ["P is not symmetric", "up to 1", "(P + P')/2"],
    ),
    "asymmetric sparse P": (
        lambda: qp(P=sparse.csc_matrix([[1.0, 1], [0, 1]])),
        ["P is not symmetric", "(P + P')/2"],
    ),
    "indefinite P": (
        lambda: qp(P=np.stack([I, np.diag([1.0, -1])])),
        ["P of batch element 1", "not positive semidefinite", "Give P = L L'"],
    ),
    "indefinite sparse P": (
        lambda: qp(P=sparse.csc_matrix([[0.0, 1], [1, 0]])),
        ["P is not positive semidefinite"],
    ),
    "indefinite P with zero diagonal": (
        lambda: qp(P=np.array([[0.0, 1], [1, 0]])),
        ["P is not positive semidefinite"],
    ),
    "complex": (lambda: qp(q=q * 1j), ["complex", "expected real"]),
    "words": (lambda: qp(q=["a", "b"]), ["no array of numbers"]),
    "not a cone": (lambda: cone(["l", "q"]), ["cones holds 'l'", "ffoadapt.ZeroCone(m)"]),
    "a number of cones": (lambda: cone(2), ["cones is 2", "expected a list"]),
    "one cone": (lambda: cone(NonnegativeCone(2)), ["NonnegativeCone(m=2)", "expected a list"]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_number(name: str) -> None:
    call, words = NUMBERS[name]
    assert isinstance(caught(call, ProblemError, *words), ValueError)


def test_infinite_bounds_are_welcome() -> None:
    for solution in (qp(h=np.array([INF, 1.0])), box(l=-INF * h), box(u=np.array([INF, 1.0]))):
        assert np.isfinite(solution.x).all()


def test_small_asymmetry_is_rounding() -> None:
    P = np.array([[2.0, 0.3], [0.3, 1.0]])
    qp(P=P + 1e-9 * np.array([[0, 1], [0, 0]]))
    qp(P=np.array([[1.0, 1.0], [1.0, 1.0 - 1e-12]]))  # semidefinite but for rounding


# --- arguments ------------------------------------------------------------------------------------


def layer(**settings: Any) -> ffoadapt.Layer:
    """min 1/2 |x|^2 + c'x, -t <= x <= t."""
    x, c, t = cp.Variable(2), cp.Parameter(2, name="c"), cp.Parameter(name="t")
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(x) + c @ x), [x <= t, -t <= x])
    return ffoadapt.Layer(problem, [c, t], [x], **settings)


def test_missing_and_extra_parameters() -> None:
    one = layer()
    caught(lambda: one(q), ParameterError, "takes 2 parameters (c, t)", "got 1")
    caught(lambda: one(q, 1.0, 2.0), ParameterError, "takes 2 parameters (c, t)", "got 3")
    caught(lambda: one.solve(), ParameterError, "takes 2 parameters (c, t)", "got 0")
    x, c, d = cp.Variable(2), cp.Parameter(2, name="c"), cp.Parameter(2, name="d")
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x) + c @ x))
    caught(lambda: ffoadapt.Layer(problem, [], [x]), ParameterError, "'c'", "add them")
    caught(lambda: ffoadapt.Layer(problem, [c, d], [x]), ParameterError, "'d'", "does not depend")
    caught(lambda: one(np.ones(3), 1.0), ShapeError, "c has shape (3,)", "expected (2,)")


MIXED = {
    "torch and jax": (torch.eye(2), jnp.ones(2)),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_frameworks(name: str) -> None:
    P, vector = MIXED[name]
    call = lambda: ffoadapt.qp(P, vector)  # noqa: E731
    other = name.split()[-1]
    words = ["mixes frameworks", "P is torch", f"q is {other}", "Convert all"]
    assert isinstance(caught(call, ParameterError, *words), ValueError)
    mixed = lambda: layer()(torch.ones(2), vector[0])  # noqa: E731
    caught(mixed, ParameterError, "mixes frameworks", "c is torch", f"t is {other}")


def test_jax_and_torch_take_numpy_constants() -> None:
    assert isinstance(ffoadapt.qp(np.eye(2), jnp.ones(2)).x, type(jnp.ones(2)))
    assert isinstance(ffoadapt.qp(np.eye(2), torch.ones(2)).x, torch.Tensor)


def test_no_array_at_all() -> None:
    words = ["P is a builtins.dict", "installed framework", "torch", "jax", "numpy"]
    caught(lambda: qp(P={}), ParameterError, *words)
    caught(lambda: ffoadapt.Layer(3), UnsupportedProblemError, "builtins.int", "cvxpy")
    caught(lambda: ffoadapt.solve("x"), ProblemError, "ConeProgram", "got str", "ffoadapt.Layer")


def test_results_check_their_arguments() -> None:
    result = ffoadapt.solve(ConeProgram(I, q, G, h, [NonnegativeCone(2)]))
    caught(result.vjp, ProblemError, "by name", "['s', 'x', 'z']", "got none")
    caught(lambda: result.vjp(y=q), ProblemError, "['y']", "['s', 'x', 'z']")
    caught(lambda: result.vjp(x=np.ones(3)), ShapeError, "x has shape (3,), expected (2,)")
    caught(lambda: result.vjp(x=q, method="magic"), ProblemError, "'magic'", "'direct'")
    caught(lambda: result.jvp(G=q), ProblemError, "['G']", "'P', 'q', 'A', 'b'")
    caught(lambda: result.jvp(q=np.ones(3)), ShapeError, "q has shape (3,), expected (2,)")
    one = layer().solve(q, 1.0)
    derivative = ffoadapt.DifferentiationError
    caught(lambda: one.vjp(), derivative, "one cotangent a variable, 1, got 0")
    caught(lambda: one.vjp(np.ones(3)), derivative, "(3,)", "expected (2,)")
    caught(lambda: one.jvp(q), derivative, "one tangent a parameter, 2, got 1")
    caught(lambda: one.jvp(np.ones(3), None), derivative, "(3,)", "expected (2,)")


# --- solvers and options --------------------------------------------------------------------------


def test_unknown_solver() -> None:
    words = ["no solver is named 'clarable'", "installed:", "osqp", "Did you mean 'clarabel'"]
    error = caught(lambda: qp(solver="clarable"), UnknownPluginError, *words)
    assert isinstance(error, ValueError) and isinstance(error, RuntimeError)
    error = caught(lambda: layer(solver="nonesuch"), UnknownPluginError, "No plugin of ffoadapt")
    assert "pip install" not in str(error) and "ffoadapt-nonesuch" not in str(error)
    caught(lambda: layer(solver="DAQ"), UnknownPluginError, "Did you mean 'daqp'?")


def test_advice_names_packages_that_exist() -> None:
    """Those of plugins/, each by its own name, and by one with a letter wrong."""
    registry = importlib.import_module("ffoadapt._plugins.packages")
    folders = {folder.name for folder in (Path(__file__).parents[1] / "plugins").glob("ffoadapt-*")}
    assert set(registry.packages()) == folders
    for name in ("clarabel", "clarabell"):
        assert registry._advice(name).endswith("pip install ffoadapt-clarabel")
    assert "pip install" not in registry._advice("mosek")
    caught(lambda: qp(solver=3), OptionError, "solver=3 is a int", "expected a name")
    caught(lambda: qp(executor="thread"), UnknownPluginError, "'thread'", "Did you mean 'threads'")


@every_solver
def test_solver_without_its_package(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin is installed, the solver it wraps is not."""
    registry = importlib.import_module("ffoadapt._plugins.registry").registry
    entry = registry._entries["solver"][solver]
    monkeypatch.setattr(entry, "object", None)
    find = importlib.util.find_spec
    hidden = lambda name, *rest: None if name == solver else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    words = [repr(solver), f"ffoadapt-{solver}", "not installed", f"pip install {solver}"]
    error = caught(lambda: qp(solver=solver), MissingDependencyError, *words)
    assert isinstance(error, ImportError)
    assert solver not in ffoadapt.solvers()
    line = next(p for p in ffoadapt.plugins() if p.name == solver and p.kind == "solver")
    assert line.state == "missing" and f"pip install {solver}" in line.detail
    assert np.isfinite(qp().x).all()  # "auto" takes another


@every_solver
def test_unknown_option(solver: str) -> None:
    call = lambda: qp(solver=solver, solver_options={"max_iterrr": 3})  # noqa: E731
    words = [repr(solver), "'max_iterrr'", "Did you mean 'max_iter", "It has"]
    error = caught(call, OptionError, *words)
    assert isinstance(error, ValueError)
    assert "tolerance" in str(error)
    caught(lambda: layer(solver=solver, solver_options={"nonsense": 1}), OptionError, "'nonsense'")


def test_on_failure_is_checked() -> None:
    words = ["on_failure='ignore'", "'raise' or 'nan'"]
    caught(lambda: qp(on_failure="ignore"), OptionError, *words)


# --- programs without a solution ------------------------------------------------------------------


@every_solver
def test_infeasible(solver: str) -> None:
    words = [repr(solver), "primal_infeasible", "no point satisfies", "on_failure='nan'"]
    bounds = np.array([-1.0, -1.0])
    error = caught(lambda: qp(G=OUTWARD, h=bounds, solver=solver), SolveError, *words)
    assert isinstance(error, RuntimeError)
    assert error.statuses == {0: Status.PRIMAL_INFEASIBLE}
    assert "batch" not in str(error)


@every_solver
def test_unbounded(solver: str) -> None:
    words = [repr(solver), "dual_infeasible", "unbounded below", "on_failure='nan'"]
    call = lambda: qp(P=None, q=-q, G=I[:1], h=h[:1], solver=solver)  # noqa: E731
    assert caught(call, SolveError, *words).statuses == {0: Status.DUAL_INFEASIBLE}


@every_solver
def test_iteration_limit(solver: str) -> None:
    words = [repr(solver), "iteration_limit", "'max_iterations'", "'tolerance'"]
    options = {"max_iterations": 1}
    P = np.array([[3.0, 1], [1, 2]])
    call = lambda: qp(P=P, q=-9 * q, solver=solver, solver_options=options)  # noqa: E731
    assert caught(call, SolveError, *words).statuses == {0: Status.ITERATION_LIMIT}


@every_solver
def test_contradictory_bounds(solver: str) -> None:
    """Seen before any solver is asked, since some do not notice."""
    lower = np.array([[-1.0, -1], [-1, 2], [-1, -1]])
    words = ["1 of 3 programs", "batch element 1", "row 1 has lower bound 2 and upper bound 1"]
    caught(lambda: box(l=lower, solver=solver), SolveError, *words)
    caught(lambda: box(l=INF * h, u=INF * h, solver=solver), SolveError, "lower bound inf")
    caught(lambda: qp(h=-INF * h, solver=solver), SolveError, "slack of -inf")


@every_solver
def test_batch_names_every_failed_element(solver: str) -> None:
    bounds = np.tile([1.0, 1.0], (15, 1))
    failed = [2, 5, *range(6, 15)]
    bounds[failed] = -1.0
    words = ["11 of 15 programs", "batch element 2: primal_infeasible", "batch element 5", "1 more"]
    error = caught(lambda: qp(G=OUTWARD, h=bounds, solver=solver), SolveError, *words)
    assert error.statuses == dict.fromkeys(failed, Status.PRIMAL_INFEASIBLE)
    assert "batch element 3" not in str(error)


def test_what_a_solver_raises_is_chained() -> None:
    @ffoadapt.box_solver
    def broken(P: Any, q: Any, A: Any, l: Any, u: Any, options: Any) -> Any:
        raise ZeroDivisionError("inside")

    error = caught(lambda: qp(solver=broken), SolveError, "'broken'", "ZeroDivisionError: inside")
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.statuses == {0: Status.ERROR}


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        (np.ones(3), np.ones(2), "wrong shape"),
        (np.ones(2), np.ones(3), "wrong shape"),
        (np.array([NAN, 1.0]), np.ones(2), "not finite"),
        (np.ones(2), np.array([INF, 1.0]), "not finite"),
        (None, None, ""),
    ],
)
def test_what_a_solver_returns_is_checked(x: Any, y: Any, word: str) -> None:
    mine = ffoadapt.box_solver(lambda *_: (x, y))
    caught(lambda: box(solver=mine), SolveError, "error", word)
    nan = box(solver=mine, on_failure="nan")
    assert np.isnan(nan.x).all() and np.isnan(nan.y).all()
    wrong = ffoadapt.box_solver(lambda *_: (np.ones(2), np.ones(2), 1))
    caught(lambda: box(solver=wrong), SolveError, "TypeError", "expected an ffoadapt.Status")


# --- on_failure="nan" -----------------------------------------------------------------------------


def batch_of_64(form: str) -> tuple[list[np.ndarray], list[int]]:
    """P, q, G, h of 64 programs of which three have no solution."""
    rng, size, n, m = np.random.default_rng(0), 64, 4, 5
    L = rng.standard_normal((size, n, n))
    P, vectors = L @ L.swapaxes(-1, -2) + np.eye(n), rng.standard_normal((size, n))
    rows, bounds = rng.standard_normal((size, m, n)), rng.uniform(0.05, 1.0, (size, m))
    failed = [3, 17, 63]
    rows[failed, 1] = -rows[failed, 0]
    bounds[failed, :2] = -1.0
    if form == "shared":  # one P and G for all: their gradient is a sum
        P, rows = P[0], rows[0]
        rows[1] = -rows[0]
    return [P, vectors, rows, bounds], failed


def torch_run(solver: str, data: list[Any], **settings: Any) -> tuple[Any, Any]:
    leaves = [torch.tensor(v).requires_grad_() for v in data]
    solution = ffoadapt.qp(*leaves, solver=solver, **settings)
    weights = torch.linspace(-1, 1, solution.x.shape[-1], dtype=torch.float64)
    total = (solution.x * weights).sum() + solution.z_ineq.sum()
    return solution, torch.autograd.grad(total, leaves)


@every_solver
def test_nan_semantics(solver: str) -> None:
    data, failed = batch_of_64("own")
    solved = np.setdiff1d(np.arange(64), failed)
    solution, grads = torch_run(solver, data, on_failure="nan")
    for value in (solution.x, solution.z_ineq):
        assert torch.isnan(value[failed]).all()
        assert torch.isfinite(value[solved]).all()
    for grad in grads:
        assert (grad[failed] == 0).all()
        assert torch.isfinite(grad).all()
        assert (grad[solved].flatten(1).abs().sum(1) > 0).any()

    # Bit for bit what they are alone, and among programs that all have solutions.
    for i in solved:
        alone, own = torch_run(solver, [v[i] for v in data])
        assert torch.equal(solution.x[i], alone.x)
        assert torch.equal(solution.z_ineq[i], alone.z_ineq)
        for grad, expected in zip(grads, own, strict=True):
            assert torch.equal(grad[i], expected)
    healed = [v.copy() for v in data]
    for v in healed:
        v[failed] = v[0]
    other, others = torch_run(solver, healed)
    assert torch.equal(solution.x[solved], other.x[solved])
    for grad, expected in zip(grads, others, strict=True):
        assert torch.equal(grad[solved], expected[solved])


@every_solver
def test_nan_elements_of_sparse_batches_are_bitwise_what_they_are_alone(solver: str) -> None:
    data, failed = batch_of_64("shared")
    P, G = sparse.csc_matrix(data[0]), sparse.csc_matrix(data[2])
    leaves = [torch.tensor(v).requires_grad_() for v in (data[1], data[3])]
    solve = lambda q, h, how: ffoadapt.qp(P, q, G, h, solver=solver, on_failure=how)  # noqa: E731
    x = solve(*leaves, "nan").x
    grads = torch.autograd.grad(x.sum(), leaves)
    for i in range(64):
        if i in failed:
            assert torch.isnan(x[i]).all() and all((g[i] == 0).all() for g in grads)
            continue
        own = [leaf[i].detach().requires_grad_() for leaf in leaves]
        alone = solve(*own, "raise").x
        assert torch.equal(x[i], alone)
        for grad, expected in zip(grads, torch.autograd.grad(alone.sum(), own), strict=True):
            assert torch.equal(grad[i], expected)


@every_solver
def test_nan_elements_add_nothing_to_shared_data(solver: str) -> None:
    data, failed = batch_of_64("shared")
    _, grads = torch_run(solver, data, on_failure="nan")
    keep = np.setdiff1d(np.arange(64), failed)
    rest = [v[keep] if k in (1, 3) else v for k, v in enumerate(data)]
    _, expected = torch_run(solver, rest)
    for k in (0, 2):
        assert torch.allclose(grads[k], expected[k], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("framework", ["numpy", "jax"])
def test_nan_in_other_frameworks(framework: str) -> None:
    import jax

    bounds = np.array([[1.0, 0.5], [-1, -1], [2, 0.2]])
    if framework == "numpy":
        x = qp(G=OUTWARD, h=bounds, on_failure="nan").x
    else:
        call = lambda h: ffoadapt.qp(I, q, OUTWARD, h, on_failure="nan").x  # noqa: E731
        for transform in (lambda f: f, jax.jit):
            x = np.asarray(transform(call)(jnp.asarray(bounds)))
            total = lambda h: jnp.nansum(call(h))  # noqa: E731
            grad = np.asarray(transform(jax.grad(total))(jnp.asarray(bounds)))
            assert np.isfinite(grad).all() and (grad[1] == 0).all()
            assert np.abs(grad).max() > 0.5
    assert np.isnan(x[1]).all() and np.isfinite(x[[0, 2]]).all()


def test_statuses_of_results() -> None:
    one = layer(on_failure="nan", solver="clarabel")
    result = one.solve(q, np.array([1.0, -1.0, 2.0]))
    optimal, infeasible = Status.OPTIMAL, Status.PRIMAL_INFEASIBLE
    assert result.status == [optimal, infeasible, optimal]
    assert np.isnan(result.objective[1]) and np.isfinite(result.objective[[0, 2]]).all()
    assert [r.verdict == "inaccurate_solution" for r in result.report()] == [False, True, False]
    c, t = result.vjp(np.ones((3, 2)))
    assert np.isfinite(c).all() and t[1] == 0 and (t[[0, 2]] != 0).any()
    dx = result.jvp(np.ones(2), None)[0]
    assert np.isfinite(dx).all() and (dx[1] == 0).all()
    alone = one.solve(q, -1.0)
    assert alone.status is infeasible and np.isnan(alone.variables[0]).all()

    program = ConeProgram(I, q, OUTWARD, [-1.0, -1.0], [NonnegativeCone(2)])
    single = ffoadapt.solve(program, "clarabel", on_failure="nan")
    assert single.status is infeasible and np.isnan(single.x).all()
    assert (single.vjp(x=q).q == 0).all()
    assert single.report().verdict == "inaccurate_solution"


def test_empty_batch() -> None:
    """No program, no solution, no error; shared data get zero."""
    for solver in SOLVERS:
        leaves = [torch.tensor(v).requires_grad_() for v in (I, np.ones((0, 2)), G, h)]
        solution = ffoadapt.qp(*leaves, solver=solver)
        assert solution.x.shape == (0, 2) and solution.z_ineq.shape == (0, 2)
        grads = torch.autograd.grad(solution.x.sum(), leaves)
        assert grads[1].shape == (0, 2)
        assert all((g == 0).all() for g in grads)


@pytest.mark.parametrize("n", [2, 50])
def test_empty_batch_of_everything(n: int) -> None:
    shapes = ((0, n, n), (0, n), (0, 3, n), (0, 3))
    leaves = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    x = ffoadapt.qp(*leaves).x
    assert x.shape == (0, n)
    grads = torch.autograd.grad(x.sum(), leaves)
    assert [tuple(g.shape) for g in grads] == list(shapes)
