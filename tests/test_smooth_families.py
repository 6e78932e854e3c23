"""Gradients of ten families of smooth programs, against dense KKT systems with exact Hessians.

Whatever solves them: sequential quadratic programming, an interior point, an augmented Lagrangian
without multipliers. See smooth_families.py for the families and the reference.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

import ffoadapt

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent))
from smooth_families import NAMES, REGULAR, dense_kkt, error_of, families  # noqa: E402

EXACT = 1e-8
"""What the gradients of all leaves must reach."""

ROUNDING = 2e-11
"""A relative error that differences in float64 cannot tell from none."""


@ffoadapt.smooth_solver
def augmented(problem, start, options):
    """An augmented Lagrangian; its multipliers stay with it."""
    y, z, nu, rho = start, np.zeros(problem.m_ineq), np.zeros(problem.m_eq), 10.0
    bounds = optimize.Bounds(problem.lower, problem.upper)

    def value(y):
        up = np.maximum(z + rho * problem.inequalities(y), 0.0)
        eq = nu + rho * problem.equalities(y)
        rows = up @ problem.inequality_jacobian(y) + eq @ problem.equality_jacobian(y)
        total = problem.objective(y) + (up @ up + eq @ eq) / (2.0 * rho)
        return total, problem.gradient(y) + rows

    for _ in range(30):
        options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 2000}
        y = optimize.minimize(
            value, y, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        ).x
        z = np.maximum(z + rho * problem.inequalities(y), 0.0)
        nu = nu + rho * problem.equalities(y)
        if problem.violation(y) < 1e-9:
            break
        rho = min(3.0 * rho, 1e5)
    return y


SOLVERS = {
    "slsqp": "slsqp",
    "ipopt": "ipopt",
    "nlopt": "nlopt",
    "augmented": augmented,
}
MISSING = {"ipopt": "cyipopt", "nlopt": "nlopt"}


def array(value):
    return torch.tensor(np.asarray(value, dtype=np.float64))


TORCH = families(torch, array)


def layer_of(family, solver, **settings):
    params = family.given(array)
    made = ffoadapt.SmoothLayer(
        family.objective,
        family.inequalities,
        family.equalities,
        family.bounds,
        start=family.start,
        params=params,
        solver=solver,
        **{**family.settings, **settings},
    )
    return made, params


def cotangent(family):
    return np.random.default_rng(1).normal(size=family.start.shape)


@cache
def solved(name, solver, curvature="auto"):
    """The result, the gradient, and the exact one."""
    if solver in MISSING and importlib.util.find_spec(MISSING[solver]) is None:
        pytest.skip(f"{MISSING[solver]} is not installed")
    family = TORCH[name]
    layer, params = layer_of(family, SOLVERS[solver], curvature=curvature)
    result, v = layer.solve(params), cotangent(family)
    return result, result.vjp(y=v), dense_kkt(family, result, v)


def true_error(found, exact):
    """As reports have it: relative to the largest gradient of all."""
    largest = max(np.abs(g).max() for g in exact.values())
    return max(np.abs(found[k] - exact[k]).max() for k in exact) / largest


# ------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "vertex"])
def test_gradients_are_those_of_exact_hessians(name, solver):
    result, found, exact = solved(name, solver)
    assert set(found) == set(exact)
    assert error_of(found, exact) < EXACT
    report = result.report()
    expected = "differentiable" if name in REGULAR else "dependent_constraints"
    assert report.verdict == expected
    assert report.kkt_residual < 1e-12


@pytest.mark.parametrize("name", [name for name in NAMES if name != "vertex"])
def test_gradients_by_conjugate_gradients(name):
    result, found, exact = solved(name, "slsqp", "cg")
    assert error_of(found, exact) < EXACT
    oracle = result._state.oracles[0]
    calls = result.report().gradient_calls
    assert calls <= len(oracle.ghost.rows) + 2 * oracle.ghost.steps + 20


@pytest.mark.parametrize("name", REGULAR)
def test_solvers_agree(name):
    """On every leaf, each with each."""
    found = {}
    for solver in SOLVERS:
        if solver not in MISSING or importlib.util.find_spec(MISSING[solver]):
            found[solver] = solved(name, solver)[1]
    for one in found:
        for other in found:
            assert error_of(found[one], found[other]) < EXACT, (one, other)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_degenerate_vertex_is_told(solver):
    """Four rows meet in three dimensions: which of them a solver calls active is its own."""
    result, found, _ = solved("vertex", solver)
    assert result.report().verdict in ("weakly_active", "dependent_constraints")
    assert all(np.isfinite(g).all() for g in found.values())


@pytest.mark.parametrize("solver", ["trust-constr"])
@pytest.mark.parametrize("name", REGULAR)
def test_gradients_with_trust_constr(name, solver):
    family = TORCH[name]
    layer, params = layer_of(family, solver)
    result, v = layer.solve(params), cotangent(family)
    assert error_of(result.vjp(y=v), dense_kkt(family, result, v)) < EXACT


@cache
def in_jax(name):
    """The family and its params there."""
    jax = pytest.importorskip("jax")

    def convert(a):
        return jax.numpy.asarray(np.asarray(a, np.float64))

    with jax.enable_x64(True):
        family = families(jax.numpy, convert)[name]
        return jax, family, family.given(convert)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_jax(name, solver):
    if solver in MISSING:
        pytest.importorskip(MISSING[solver])
    jax, family, params = in_jax(name)
    with jax.enable_x64(True):
        layer = ffoadapt.SmoothLayer(
            family.objective,
            family.inequalities,
            family.equalities,
            family.bounds,
            start=family.start,
            params=params,
            solver=SOLVERS[solver],
            **family.settings,
        )
        result, v = layer.solve(params), cotangent(family)
        found, report = result.vjp(y=v), result.report()
    if name == "vertex":
        assert report.verdict in ("weakly_active", "dependent_constraints")
        return
    assert report.verdict == ("differentiable" if name in REGULAR else "dependent_constraints")
    assert error_of(found, dense_kkt(TORCH[name], result, v)) < EXACT
    if name in REGULAR:
        assert error_of(found, solved(name, solver)[1]) < EXACT


@pytest.mark.parametrize("name", REGULAR)
def test_forward_mode_is_the_transpose(name):
    result, gradient, _ = solved(name, "slsqp")
    rng = np.random.default_rng(2)
    for leaf, value in TORCH[name].params.items():
        tangent = rng.normal(size=value.shape) * max(np.abs(value).max(), 1e-3)
        moved = result.jvp({**dict.fromkeys(gradient), leaf: tangent}).y
        forward = float(cotangent(TORCH[name]) @ moved)
        size = np.abs(gradient[leaf] * tangent).sum()
        largest = max(np.abs(g).max() for g in gradient.values())
        assert abs(forward - np.vdot(gradient[leaf], tangent)) < EXACT * max(size, largest)


@pytest.mark.parametrize("name", ["ellipsoid", "inequalities", "hs071", "rosenbrock"])
def test_autograd_gives_the_same(name):
    family = TORCH[name]
    layer, params = layer_of(family, "slsqp")
    leaves = {k: v.requires_grad_() for k, v in params.items()}
    (layer(leaves) @ array(cotangent(family))).backward()
    found = {k: v.grad.numpy() for k, v in leaves.items()}
    assert error_of(found, solved(name, "slsqp")[1]) < EXACT


# ---------------------------------------------------------------------------------- units


def rescaled(family, objective=1.0, rows=1.0):
    def times(function, factor):
        if function is None:
            return None

        def moved(p, y):
            found = function(p, y)
            return [factor * v for v in found] if isinstance(found, list) else factor * found

        return moved

    return replace(
        family,
        objective=times(family.objective, objective),
        inequalities=times(family.inequalities, rows),
        equalities=times(family.equalities, rows),
    )


@pytest.mark.parametrize(
    ("objective", "rows"), [(1e-8, 1.0), (1e8, 1.0), (1.0, 1e4), (1.0, 1e-3), (1e8, 1e-3)]
)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "vertex"])
def test_units_change_nothing(name, objective, rows):
    family = rescaled(TORCH[name], objective, rows)
    layer, params = layer_of(family, "slsqp")
    result = layer.solve(params)
    found, exact = result.vjp(y=cotangent(family)), solved(name, "slsqp")[2]
    assert error_of(found, exact) < EXACT
    assert result.report().verdict == solved(name, "slsqp")[0].report().verdict


@pytest.mark.parametrize("solver", ["ipopt", "nlopt"])
@pytest.mark.parametrize(("objective", "rows"), [(1e-8, 1.0), (1e8, 1e-3), (1.0, 1e4)])
@pytest.mark.parametrize("name", ["inequalities", "hs071"])
def test_units_change_nothing_whatever_solves(name, objective, rows, solver):
    pytest.importorskip(MISSING[solver])
    family = rescaled(TORCH[name], objective, rows)
    layer, params = layer_of(family, solver)
    result = layer.solve(params)
    assert error_of(result.vjp(y=cotangent(family)), solved(name, "slsqp")[2]) < EXACT
    assert result.report().verdict == "differentiable"


# -------------------------------------------------------------------------- no derivative


@ffoadapt.smooth_solver
def stays(problem, start, options):
    """Where it starts, the gradient is zero."""
    return start


CURVATURES = ["auto", "differences", "cg", "exact"]


@pytest.mark.parametrize("curvature", CURVATURES)
def test_a_saddle_is_no_minimum(curvature):
    layer = ffoadapt.SmoothLayer(
        lambda p, y: y[0] ** 2 - 3.0 * y[1] ** 2 + y[2] ** 2 + p @ y,
        start=np.zeros(3),
        solver=stays,
        curvature=curvature,
    )
    result = layer.solve(torch.zeros(3, dtype=torch.float64))
    gradient = result.vjp(y=np.array([1.0, 2.0, 3.0]))
    assert result.report().verdict == "inaccurate_solution"
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0.1


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("n", [3, 80])
def test_curvature_that_is_none_in_a_direction(curvature, n):
    """|B y - p|^2 determines y but for a direction: the least-squares gradient, and a word."""
    rng = np.random.default_rng(3)
    B = rng.normal(size=(n - 1, n))
    layer = ffoadapt.SmoothLayer(
        lambda p, y: ((array(B) @ y - p) ** 2).sum(),
        start=np.zeros(n),
        solver="slsqp",
        curvature=curvature,
    )
    result = layer.solve(array(rng.normal(size=n - 1)))
    gradient = result.vjp(y=rng.normal(size=n))
    assert result.report().verdict == "not_unique"
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0.01
    w = rng.normal(size=n - 1)
    determined = layer.solve(array(rng.normal(size=n - 1))).vjp(y=B.T @ w)  # of (B y)'w = p'w
    np.testing.assert_allclose(determined, w, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("solver", ["slsqp", "ipopt", "nlopt"])
def test_a_row_that_holds_without_a_multiplier(solver, curvature):
    if solver in MISSING:
        pytest.importorskip(MISSING[solver])
    t = array([0.5, -1.0, 0.25])
    layer = ffoadapt.SmoothLayer(
        lambda p, y: ((y - t) ** 2).sum() + (y**4).sum() / 8.0,
        lambda p, y: y[0] - p,
        start=np.zeros(3),
        solver=solver,
        curvature=curvature,
    )
    free = layer.solve(array(10.0)).y[0]
    result = layer.solve(array(free))
    gradient = result.vjp(y=np.array([1.0, 0.0, 0.0]))
    assert result.report().verdict == "weakly_active"
    assert np.isfinite(gradient).all()
    assert -1e-6 < float(gradient) < 1.0 + 1e-6  # an element of the generalized derivative


# ------------------------------------------------------------------------ errors reported


@pytest.mark.parametrize("curvature", ["auto", "cg"])
@pytest.mark.parametrize("name", REGULAR)
def test_no_error_is_larger_than_reported(name, curvature):
    result, found, exact = solved(name, "slsqp", curvature)
    reported, true = result.report().error, true_error(found, exact)
    assert true <= max(10.0 * reported, ROUNDING)
    assert reported <= max(10.0 * true, ROUNDING)


def in_float32(function):
    """The function, evaluated in float32 whatever it is given."""
    if function is None:
        return None

    def narrow(p, y):
        found = function({k: v.to(torch.float32) for k, v in p.items()}, y.to(torch.float32))
        if isinstance(found, list):
            return [part.to(torch.float64) for part in found]
        return found.to(torch.float64)

    return narrow


@pytest.mark.parametrize("name", [name for name in NAMES if name != "vertex"])
def test_functions_in_float32_have_their_error_reported(name):
    narrow = families(torch, lambda a: array(a).to(torch.float32))[name]
    functions = {
        what: in_float32(getattr(narrow, what))
        for what in ("objective", "inequalities", "equalities")
    }
    family = replace(TORCH[name], **functions)
    layer, params = layer_of(family, "slsqp", solver_options={"tolerance": 1e-7})
    result, v = layer.solve(params), cotangent(family)
    found, exact = result.vjp(y=v), dense_kkt(TORCH[name], result, v)
    true, report = true_error(found, exact), result.report()
    assert true > 1e-6  # it is float32
    assert 0.1 * true <= report.error <= 10.0 * true
    assert report.verdict == "inaccurate_solution"


@pytest.mark.parametrize("name", ["ellipsoid", "inequalities", "hs071"])
def test_float32_params_have_float64_gradients(name):
    family = TORCH[name]
    layer, _ = layer_of(family, "slsqp")
    leaves = {k: array(v).to(torch.float32).requires_grad_() for k, v in family.params.items()}
    y = layer(leaves)
    assert y.dtype == torch.float32
    (y @ array(cotangent(family)).to(torch.float32)).backward()
    rounded = replace(family, params={k: v.detach().double().numpy() for k, v in leaves.items()})
    result = layer.solve(rounded.given(array))
    exact = dense_kkt(rounded, result, cotangent(family).astype(np.float32).astype(np.float64))
    found = {k: v.grad.numpy() for k, v in leaves.items()}
    assert error_of(found, exact) < 1e-6


# ----------------------------------------------------------------- first derivatives alone


class SecondDerivative(Exception):  # noqa: N818
    """Somebody took one."""


class Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cotangent, *gradients):
        return tuple(cotangent * g for g in gradients)

    @staticmethod
    def backward(ctx, *cotangents):
        raise SecondDerivative


class Value(torch.autograd.Function):
    """A function's value, with gradients that cannot be differentiated."""

    @staticmethod
    def forward(ctx, function, *arrays):
        with torch.enable_grad():
            given = [a.detach().requires_grad_() for a in arrays]
            value = function(*given)
            found = torch.autograd.grad(value, given, allow_unused=True)
        ctx.save_for_backward(
            *(torch.zeros_like(a) if g is None else g for a, g in zip(arrays, found, strict=True))
        )
        return value.detach()

    @staticmethod
    def backward(ctx, cotangent):
        return None, *Gradient.apply(cotangent, *ctx.saved_tensors)


def first_only(function, names):
    """Each value of the function as one that has first derivatives alone."""
    if function is None:
        return None

    def values(p, y):
        def entry(k):
            def one(y, *leaves):
                found = function(dict(zip(names, leaves, strict=True)), y)
                parts = found if isinstance(found, list) else [found]
                return torch.cat([part.reshape(-1) for part in parts])[k]

            return one

        with torch.no_grad():
            found = function(p, y)
            parts = found if isinstance(found, list) else [found]
            count = sum(part.numel() for part in parts)
        leaves = [p[name] for name in names]
        rows = torch.stack([Value.apply(entry(k), y, *leaves) for k in range(count)])
        return rows if isinstance(found, list) else rows.reshape(found.shape)

    return values


PATHS = ["auto", "differences", "cg", "resolve"]


def first_only_family(name):
    family = TORCH[name]
    functions = {
        what: first_only(getattr(family, what), list(family.params))
        for what in ("objective", "inequalities", "equalities")
    }
    return replace(family, **functions)


@pytest.mark.parametrize("curvature", PATHS)
@pytest.mark.parametrize("name", ["hs071", "ellipsoid", "dependent", "rosenbrock"])
def test_no_second_derivative_is_taken(name, curvature):
    family = first_only_family(name)
    layer, params = layer_of(family, "slsqp", curvature=curvature)
    result, v = layer.solve(params), cotangent(family)
    exact = dense_kkt(TORCH[name], result, v)
    assert error_of(result.vjp(y=v), exact) < (1e-5 if curvature == "resolve" else EXACT)
    if curvature != "resolve":
        tangents = {k: np.ones_like(a) for k, a in family.params.items()}
        forward = float(v @ result.jvp(tangents).y)
        backward = sum(float(exact[k].sum()) for k in exact)
        assert forward == pytest.approx(backward, rel=1e-6, abs=1e-7)
    leaves = {k: p.requires_grad_() for k, p in params.items()}
    (layer(leaves) @ array(v)).backward()
    assert layer.last.report().verdict in ("differentiable", "dependent_constraints")


def test_exact_curvature_takes_second_derivatives():
    """So that the tests above can fail."""
    layer, params = layer_of(first_only_family("hs071"), "slsqp", curvature="exact", polish=False)
    with pytest.raises(SecondDerivative):
        layer.solve(params).vjp(y=np.ones(4))


def first_only_in_jax(jax, function):
    def apply(*arrays):
        @jax.custom_vjp
        def value(*arrays):
            return forward(*arrays)[0]

        def forward(*arrays):
            shape = jax.ShapeDtypeStruct((), arrays[0].dtype)
            shapes = (shape, *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays))
            one = jax.value_and_grad(function, tuple(range(len(arrays))))

            def on_the_host(*given):
                found, gradients = one(*map(jax.numpy.asarray, given))
                return tuple(map(np.asarray, (found, *gradients)))

            found, *gradients = jax.pure_callback(
                on_the_host, shapes, *arrays, vmap_method="sequential"
            )
            return found, tuple(gradients)

        value.defvjp(forward, lambda kept, c: tuple(c * g for g in kept))
        return value(*arrays)

    return apply


@pytest.mark.parametrize("curvature", [*PATHS, "exact"])
def test_no_second_derivative_is_taken_in_jax(curvature):
    jax = pytest.importorskip("jax")
    cost = first_only_in_jax(jax, lambda y, k: k * y[0] * y[3] * (y[0] + y[1] + y[2]) + y[2])
    area = first_only_in_jax(jax, lambda y, a: a - y.prod())
    ball = first_only_in_jax(jax, lambda y, r: y @ y - r)
    with jax.enable_x64(True):
        family = TORCH["hs071"]
        params = {k: jax.numpy.asarray(a) for k, a in family.params.items()}
        layer = ffoadapt.SmoothLayer(
            lambda p, y: cost(y, p["k"]),
            lambda p, y: area(y, p["area"]),
            lambda p, y: ball(y, p["r"]),
            lambda p: (p["lo"], p["hi"]),
            start=family.start,
            params=params,
            solver="slsqp",
            curvature=curvature,
            polish=curvature != "exact",
        )
        result = layer.solve(params)
        if curvature == "exact":
            with pytest.raises(Exception, match=r"JVP|jvp|differentiat"):
                result.vjp(y=cotangent(family))
            return
        found = result.vjp(y=cotangent(family))
    exact = solved("hs071", "slsqp")[2]
    assert error_of(found, exact) < (1e-5 if curvature == "resolve" else EXACT)
