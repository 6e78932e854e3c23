"""Solvers that are written in JAX: inside of jit, with no callback, and with the same numbers."""

from __future__ import annotations

from functools import partial

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

import ffoadapt

REFERENCE = "clarabel"


def admm(P, q, A, l, u):
    """x, y and whether they solve l <= Ax <= u, to four digits: the rest is ffoadapt's."""
    M = jnp.linalg.inv(P + 1e-6 * jnp.eye(q.size) + A.T @ A)

    def step(_, v):
        x, z, y = v
        x = M @ (1e-6 * x - q + A.T @ (z - y))
        z = jnp.clip(A @ x + y, l, u)
        return x, z, y + A @ x - z

    x, z, y = jax.lax.fori_loop(0, 1000, step, (0 * q, jnp.zeros_like(u), jnp.zeros_like(u)))
    error = jnp.abs(jnp.concatenate((P @ x + q + A.T @ y, A @ x - z)))
    return x, y, error.max(initial=0.0) < 1e-3


class Admm(ffoadapt.Solver):
    form = "box"
    matrices = ("dense",)
    traces = ("jax",)

    def traced(self, p, options):
        return admm(p.P, p.q, p.A, p.l, p.u)

    def solve(self, program, options, session):
        raise AssertionError("called from the host")


class SplitAdmm(Admm):
    form = "split"

    def traced(self, p, options):
        A = jnp.concatenate((p.G, p.A))
        lower = jnp.concatenate((jnp.full_like(p.h, -jnp.inf), p.b))
        x, y, solved = admm(p.P, p.q, A, lower, jnp.concatenate((p.h, p.b)))
        return x, (y[: p.h.size], y[p.h.size :]), solved


class ConeAdmm(Admm):
    form = "cone"

    def traced(self, p, options):
        kinds = np.concatenate([np.full(cone.dim, cone.kind == "zero") for cone in p.cones])
        x, z, solved = admm(p.P, p.q, p.A, jnp.where(kinds, p.b, -jnp.inf), p.b)
        return x, z, solved


@pytest.fixture(scope="module", autouse=True)
def quickly():
    """XLA compiles in a third of the time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def primitives(jaxpr):
    """The names of all primitives of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from primitives(inner)


def calls_back(function, *args):
    """Whether the host is called, by the jaxpr or by the compiled program."""
    traced = jax.jit(function).trace(*args)
    names = list(primitives(traced.jaxpr.jaxpr))
    return any("callback" in name for name in names) or "callback" in traced.lower().as_text()


def data(seed=0, batch=()):
    """P, q, G, h, A, b of programs with active and inactive rows, one of them without a bound."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(*batch, 4, 4))
    x, G, A = rng.normal(size=(*batch, 4)), rng.normal(size=(5, 4)), rng.normal(size=(1, 4))
    h = x @ G.T + rng.uniform(0.0, 1.0, (*batch, 5))
    h[..., 3] = np.inf
    P = root @ root.swapaxes(-1, -2) + np.eye(4)
    return [jnp.asarray(v) for v in (P, 5 * rng.normal(size=(*batch, 4)), G, h, A, x @ A.T)]


def loss(*data, call=ffoadapt.qp, **settings):
    outputs = call(*data, **settings)
    finite = [jnp.where(jnp.isinf(o), 0.0, o).ravel() for o in outputs]
    return sum(jnp.vdot(jnp.cos(jnp.arange(v.size) + 0.1), v) for v in finite)


def gradients(*data, **settings):
    numbers = tuple(range(len(data)))
    return jax.value_and_grad(partial(loss, **settings), argnums=numbers)(*data)


def close(found, expected, tolerance=1e-8):
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


AXES = (0, 0, None, 0, None, 0)


@pytest.mark.parametrize("solver", [Admm, SplitAdmm, ConeAdmm])
def test_every_form_and_datum(solver, float64):
    """A vmapped gradient of all six data, two of them shared, is that of the host's path."""
    batch = data(batch=(3,))
    mapped = jax.vmap(partial(gradients, solver=solver), in_axes=AXES)
    assert not calls_back(mapped, *batch)
    close(jax.jit(mapped)(*batch), jax.vmap(partial(gradients, solver=REFERENCE), AXES)(*batch))


def test_others_call_back(float64):
    assert calls_back(partial(loss, solver=REFERENCE), *data())


def test_differences(float64):
    values = data(1)
    found = jax.jit(partial(gradients, solver=Admm))(*values)[1]
    rng = np.random.default_rng(0)
    for k, (value, gradient) in enumerate(zip(values, found, strict=True)):
        direction = rng.normal(size=value.shape)
        direction = direction + direction.T if k == 0 else direction
        ends = [
            loss(*values[:k], value + t * direction, *values[k + 1 :], solver=REFERENCE)
            for t in (1e-5, -1e-5)
        ]
        difference = float(ends[0] - ends[1]) / 2e-5
        assert float(jnp.vdot(gradient, direction)) == pytest.approx(difference, abs=1e-5)


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: lambda q, h: jax.vmap(jax.jacrev(f, argnums=(0, 1)))(q, h),
        lambda f: lambda q, h: jax.vmap(jax.jacfwd(f, argnums=(0, 1)), (0, None))(q, h[0]),
        lambda f: lambda q, h: jax.jacrev(f, argnums=(0, 1))(q, h[0]),
        lambda f: lambda q, h: jax.vmap(jax.vmap(f, (0, None)), (None, 0))(q, h),
    ],
    ids=["vmap of jacrev", "vmap of jacfwd", "jacrev of a batch", "two axes"],
)
def test_transformations(transform, float64):
    P, q, G, h, A, _ = data(batch=(3,))
    h = h.at[:, 3].set(10.0)

    def solved(solver):
        rest = A, jnp.zeros(1)
        return transform(lambda q, h: tuple(ffoadapt.qp(P[0], q, G, h, *rest, solver=solver)))

    close(jax.jit(solved(Admm))(q, h), solved(REFERENCE)(q, h))


def box_data():
    """The first row an equality in one program alone, one-sided rows, a free row."""
    P, q, G, *_ = data(batch=(3,))
    lower = jnp.array([[1.0, -0.5, -jnp.inf, -0.2, -jnp.inf]]) * jnp.ones((3, 1))
    upper = jnp.array([[1.0, 0.5, 0.3, jnp.inf, jnp.inf]]) * jnp.ones((3, 1))
    return [P, q, G, lower.at[1:, 0].set(-1.0), upper]


@pytest.mark.parametrize("solver", [Admm, SplitAdmm, ConeAdmm])
def test_box_programs(solver, float64):
    call = partial(gradients, call=ffoadapt.box_qp)
    mapped = jax.vmap(partial(call, solver=solver), (0, 0, None, 0, 0))
    expected = jax.vmap(partial(call, solver=REFERENCE), (0, 0, None, 0, 0))(*box_data())
    close(jax.jit(mapped)(*box_data()), expected)


def test_cone_programs(float64):
    P, q, G, h, A, b = data()
    cones = (ffoadapt.NonnegativeCone(2), ffoadapt.ZeroCone(1), ffoadapt.NonnegativeCone(3))
    rows, right = jnp.concatenate((G[:2], A, G[2:])), jnp.concatenate((h[:2], b, h[2:]))
    call = partial(ffoadapt.cone_program, cones=cones)
    given = (P, q, rows, right)
    found = jax.jit(partial(gradients, call=call, solver=SplitAdmm))(*given)
    close(found, gradients(*given, call=call, solver=REFERENCE))
    curved = partial(ffoadapt.cone_program, cones=(ffoadapt.SecondOrderCone(6),), solver=ConeAdmm)
    with pytest.raises(jax.errors.JaxRuntimeError, match="second_order"):  # not traced: the host's
        jax.jit(partial(loss, call=curved))(P, q, rows, jnp.ones(6)).block_until_ready()


def test_layers_of_cvxpy(float64):
    x, A, b = cp.Variable(3), cp.Parameter((4, 3)), cp.Parameter(4)
    rows = [cp.sum(x) == 1, x >= 0, A[:2] @ x <= b[:2]]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b) + cp.norm1(x)), rows)
    arguments = problem, [A, b], [x, rows[0].dual_variables[0]]
    values = data(2)[2][:4, :3], 2 + data(2)[1]

    def call(solver, *values):
        return partial(gradients, call=ffoadapt.Layer(*arguments, solver=solver))(*values)

    assert not calls_back(partial(call, Admm), *values)
    close(jax.jit(partial(call, Admm))(*values), call(REFERENCE, *values), 1e-7)


def test_sparse_matrices(float64):
    """On their patterns, made dense inside."""
    P, q, G, h, *_ = data()
    sparse = BCOO.fromdense(jnp.where(abs(G) > 0.5, G, 0.0))

    def call(solver, q, values):
        matrix = BCOO((values, sparse.indices), shape=sparse.shape)
        return jax.grad(partial(loss, solver=solver), argnums=1)(P, q, matrix, h)

    assert not calls_back(partial(call, Admm), q, sparse.data)
    close(jax.jit(partial(call, Admm))(q, sparse.data), call(REFERENCE, q, sparse.data))


def test_without_rows_and_in_float32():
    P, q = np.diag([2.0, 4.0, 0.0]).astype(np.float32), np.array([-2.0, 2.0, 0.0], np.float32)
    function = jax.jit(lambda P, q: jax.jacrev(lambda q: ffoadapt.qp(P, q, solver=Admm).x)(q))
    assert function(P, q).dtype == np.float32
    np.testing.assert_allclose(function(P, q), np.diag([-0.5, -0.25, 0.0]), atol=1e-6)
    x = jax.jit(lambda P, q: ffoadapt.qp(P, q, solver=Admm).x)(P, q)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, [1.0, -0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("on_failure", ["raise", "nan"])
def test_a_failed_element_is_nan_alone(on_failure, float64):
    P, q, G, h, A, b = data(batch=(4,))
    G, h = jnp.concatenate((G, -G[:1])), jnp.concatenate((h, 1 - h[:, :1]), axis=1)
    h = h.at[1, 5].set(-1 - h[1, 0]).at[2, 0].set(jnp.nan)  # infeasible; no number
    P = P.at[3].add(-20 * jnp.eye(4))  # not convex
    call = partial(gradients, on_failure=on_failure)
    value, grads = jax.jit(jax.vmap(partial(call, solver=Admm), AXES))(P, q, G, h, A, b)
    good = [v[:1] for v in (P, q)] + [G, h[:1], A, b[:1]]
    expected = jax.vmap(partial(call, solver=REFERENCE), AXES)(*good)
    assert np.isnan(value).tolist() == [False, True, True, True]
    close((value[:1], [g[:1] for g in grads]), expected)
    for gradient in grads:
        assert (np.isnan(gradient[1:]) if on_failure == "raise" else gradient[1:] == 0.0).all()


def test_debugging_nans_names_the_element(float64):
    def bounded(h):
        G = jnp.array([[1.0], [-1.0]])
        return ffoadapt.qp(jnp.eye(1), jnp.zeros(1), G, jnp.stack([h, -1.0]), solver=Admm).x

    with jax.debug_nans(True), pytest.raises(ffoadapt.SolveError, match="batch element 1"):
        jax.jit(jax.vmap(bounded))(jnp.array([2.0, 0.0]))


def test_inaccurate_points_are_refused_where_asked(float64):
    class Loose(Admm):
        def traced(self, p, options):
            x, y, _ = admm(p.P, p.q, p.A, p.l, p.u)
            return x + 0.01, y, True

    values = data()
    for refuse in (False, True):
        call = partial(loss, solver=Loose, polish=False, accept_inaccurate=not refuse)
        assert np.isnan(jax.jit(call)(*values)) == refuse


def test_where_there_is_no_unique_answer(float64):
    """Repeated active rows, and a linear program with an edge of solutions: as on the host."""
    eye, q = jnp.eye(3), jnp.array([-3.0, -2.5, 0.5])
    G, h = jnp.ones((3, 3)) * jnp.array([[1.0], [1.0], [2.0]]), jnp.array([1.0, 1.0, 2.0])
    programs = jnp.stack((eye, 0 * eye, eye)), jnp.stack((q, -jnp.ones(3), 0 * q - 1.0))

    def jacobian(solver, P, q):
        def solved(q, h):
            bounds = jnp.concatenate((h, jnp.zeros(3)))
            return ffoadapt.qp(P, q, jnp.concatenate((G, -eye)), bounds, solver=solver).x

        return jax.jacrev(solved, argnums=(0, 1))(q, h)

    found = jax.jit(jax.vmap(partial(jacobian, Admm)))(*programs)
    assert all(np.isfinite(v).all() for v in found)
    host = jax.vmap(partial(jacobian, REFERENCE))(*programs)
    close([v[jnp.array([0, 2])] for v in found], [v[jnp.array([0, 2])] for v in host], 1e-7)
    assert abs(found[1][1]).max() <= 1.0 + 1e-9  # least squares: bounded, whichever rows are kept


@pytest.mark.parametrize(
    "settings",
    [{"executor": "threads"}, {"degenerate": "drop"}, {"smoothing": 1e-3}, {"warm_start": True}],
    ids=str,
)
def test_settings_of_the_host_go_there(settings, float64):
    assert calls_back(partial(loss, solver=Admm, **settings), *data())


def test_a_report_is_asked_from_the_host(float64):
    x, c = cp.Variable(2), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - c)), [x >= 0])
    layer = ffoadapt.Layer(problem, [c], [x], solver=Admm)
    assert not calls_back(layer, jnp.ones(2))
    layer.on_report = print
    assert calls_back(lambda c: layer(c), jnp.ones(2))


def test_options_are_translated_and_checked(float64):
    class Picky(Admm):
        common_options = {"max_iterations": "steps"}

        def known_options(self):
            return ["steps"]

        def traced(self, p, options):
            assert options == {"steps": 7}
            return super().traced(p, options)

    jax.jit(partial(loss, solver=Picky, solver_options={"max_iterations": 7}))(*data())
    with pytest.raises(ffoadapt.OptionError, match="stepz"):
        jax.jit(partial(loss, solver=Picky, solver_options={"stepz": 7}))(*data())


def test_second_derivatives(float64):
    """Without a callback, and as on the host's path."""
    P, q, *rest = data()

    def hessian(solver):
        return jax.jit(jax.hessian(lambda q: loss(P, q, *rest, solver=solver) ** 2))

    assert "callback" not in hessian(Admm).lower(q).as_text()
    close(hessian(Admm)(q), hessian(REFERENCE)(q), 1e-7)
