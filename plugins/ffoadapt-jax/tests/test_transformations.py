"""grad, jvp, vmap, jit and their nestings, against closed forms and finite differences."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ffoadapt

SOLVER = "clarabel"


@pytest.fixture(params=[True, False], ids=["x64", "x32"])
def x64(request):
    with jax.enable_x64(request.param):
        yield request.param


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def project(c, radius=1.0):
    """The projection of c onto the simplex of this size: 1/2 |x - c|^2, x >= 0, sum x = radius."""
    n = c.shape[-1]
    eye = jnp.eye(n, dtype=c.dtype)
    return ffoadapt.qp(
        eye,
        -c,
        -eye,
        jnp.zeros(n, c.dtype),
        jnp.ones((1, n), c.dtype),
        radius * jnp.ones(1, c.dtype),
        solver=SOLVER,
    ).x


def closed(c, radius=1.0):
    """The same in JAX's own operations (Held, Wolfe and Crowder)."""
    ordered = jnp.flip(jnp.sort(c, axis=-1), axis=-1)
    sums = jnp.cumsum(ordered, axis=-1) - radius
    counts = jnp.arange(1, c.shape[-1] + 1)
    active = jnp.sum(ordered * counts > sums, axis=-1, keepdims=True)
    level = jnp.take_along_axis(sums, active - 1, axis=-1) / active
    return jnp.maximum(c - level, 0.0)


C = np.array([0.9, 0.4, -0.3, 0.6, 0.1])
V = np.array([1.0, -2.0, 0.5, 0.3, 2.0])
BATCH = np.random.default_rng(0).normal(size=(3, 5))

TRANSFORMED = {
    "value": lambda f: f(jnp.asarray(C)),
    "grad": lambda f: jax.grad(lambda c: f(c) @ V)(jnp.asarray(C)),
    "grad of two": lambda f: jax.grad(lambda c, r: f(c, r) @ V, argnums=(0, 1))(
        jnp.asarray(C), jnp.asarray(1.5)
    ),
    "jvp": lambda f: jax.jvp(f, (jnp.asarray(C),), (jnp.asarray(V),))[1],
    "jvp of two": lambda f: jax.jvp(
        f, (jnp.asarray(C), jnp.asarray(1.5)), (jnp.asarray(V), jnp.asarray(0.7))
    )[1],
    "jacrev": lambda f: jax.jacrev(f)(jnp.asarray(C)),
    "jacfwd": lambda f: jax.jacfwd(f)(jnp.asarray(C)),
    "linearize": lambda f: jax.linearize(f, jnp.asarray(C))[1](jnp.asarray(V)),
    "linear transpose": lambda f: jax.linear_transpose(
        jax.linearize(f, jnp.asarray(C))[1], jnp.asarray(C)
    )(jnp.asarray(V))[0],
    "vmap": lambda f: jax.vmap(f)(jnp.asarray(BATCH)),
    "vmap in two axes": lambda f: jax.vmap(jax.vmap(f, (0, None)), (None, 0))(
        jnp.asarray(BATCH), jnp.asarray([1.0, 2.0])
    ),
    "vmap of axis 1": lambda f: jax.vmap(f, in_axes=1, out_axes=1)(jnp.asarray(BATCH).T),
    "batch": lambda f: f(jnp.asarray(BATCH)),
    "vmap of grad": lambda f: jax.vmap(jax.grad(lambda c: f(c) @ V))(jnp.asarray(BATCH)),
    "grad of vmap": lambda f: jax.grad(lambda b: jnp.sum(jax.vmap(f)(b) * V))(jnp.asarray(BATCH)),
    "grad of vmap, shared": lambda f: jax.grad(
        lambda r: jnp.sum(jax.vmap(f, (0, None))(jnp.asarray(BATCH), r) * V)
    )(jnp.asarray(1.5)),
    "vmap of jvp": lambda f: jax.vmap(lambda c: jax.jvp(f, (c,), (jnp.asarray(V),))[1])(
        jnp.asarray(BATCH)
    ),
    "vmap of jacrev": lambda f: jax.vmap(jax.jacrev(f))(jnp.asarray(BATCH)),
    "vmap of jacfwd": lambda f: jax.vmap(jax.jacfwd(f))(jnp.asarray(BATCH)),
    "jacrev of a batch": lambda f: jax.jacrev(f)(jnp.asarray(BATCH)),
    "jacfwd of a batch": lambda f: jax.jacfwd(f)(jnp.asarray(BATCH)),
    "jacrev of vmap": lambda f: jax.jacrev(jax.vmap(f))(jnp.asarray(BATCH)),
    "jacfwd of vmap": lambda f: jax.jacfwd(jax.vmap(f))(jnp.asarray(BATCH)),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(lambda c: f(c) @ V))(jnp.asarray(C)),
    "scan": lambda f: jax.grad(
        lambda c: jnp.sum(jax.lax.scan(lambda s, _: (f(s * 1.1) + 0.1 * c, s @ V), c, None, 3)[1])
    )(jnp.asarray(C)),
    "while": lambda f: jax.lax.fori_loop(0, 3, lambda _, c: f(1.5 * c), jnp.asarray(C)),
    "cond": lambda f: jax.grad(
        lambda c: jax.lax.cond(c[0] > 0, lambda c: f(c) @ V, lambda c: 0.0 * c[0], c)
    )(jnp.asarray(C)),
}


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", TRANSFORMED)
def test_as_the_closed_form(name, jit, x64):
    transformed = TRANSFORMED[name]
    run = (lambda: transformed(project)) if not jit else jax.jit(lambda: transformed(project))
    found, exact = run(), transformed(closed)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-7 if x64 else 2e-5)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_forward_and_reverse_are_transposes(jit, float64):
    """In all data at once, on a problem whose numbers are all different."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    data = [
        root @ root.T + np.eye(4),
        rng.normal(size=4),
        rng.normal(size=(3, 4)),
        rng.uniform(0.1, 1.0, 3),
        rng.normal(size=(1, 4)),
        rng.normal(size=1),
    ]
    data = [jnp.asarray(v) for v in data]
    moves = [jnp.asarray(rng.normal(size=v.shape)) for v in data]
    moves[0] = moves[0] + moves[0].T

    def function(*values):
        return tuple(ffoadapt.qp(*values, solver=SOLVER))

    def both(data, moves):
        outputs, tangents = jax.jvp(function, tuple(data), tuple(moves))
        bars = tuple(jnp.cos(jnp.arange(o.size, dtype=o.dtype)) for o in outputs)
        grads = jax.vjp(function, *data)[1](bars)
        forward = sum(jnp.vdot(b, t) for b, t in zip(bars, tangents, strict=True))
        reverse = sum(jnp.vdot(g, m) for g, m in zip(grads, moves, strict=True))
        return forward, reverse

    forward, reverse = (jax.jit(both) if jit else both)(data, moves)
    assert abs(forward - reverse) < 1e-10 * max(1.0, abs(forward))


def test_directional_derivative_by_differences(float64):
    step = 1e-5
    _, tangent = jax.jvp(project, (jnp.asarray(C),), (jnp.asarray(V),))
    difference = (project(jnp.asarray(C + step * V)) - project(jnp.asarray(C - step * V))) / 2
    np.testing.assert_allclose(tangent, difference / step, atol=1e-5)


def test_only_what_is_asked_for_is_computed(float64, monkeypatch):
    """A gradient of q alone forms none of P, G, A."""
    from ffoadapt._layers.function import SolveFunction

    seen = []
    plain = SolveFunction.vjp

    def recorded(self, state, cotangents, needed):
        seen.append(list(needed))
        return plain(self, state, cotangents, needed)

    monkeypatch.setattr(SolveFunction, "vjp", recorded)
    jax.grad(lambda c: project(c) @ V)(jnp.asarray(C))
    jax.jit(jax.grad(lambda c: project(c) @ V))(jnp.asarray(C)).block_until_ready()
    assert [on for each in seen for on in each] == [False, True, False, False, False, False] * 2


@pytest.mark.parametrize(
    "second",
    [
        lambda f: jax.hessian(f),
        lambda f: jax.jacrev(jax.jacrev(f)),
        lambda f: jax.jacfwd(jax.jacfwd(f)),
        lambda f: jax.jit(jax.hessian(f)),
        lambda f: lambda c: jax.vmap(jax.hessian(f))(jnp.stack((c, c)))[1],
    ],
    ids=["hessian", "jacrev", "jacfwd", "jit", "vmap"],
)
def test_second_derivatives(second, float64):
    """Of a projection, which is linear as long as the active rows stay; beside JAX's own."""
    weighted = lambda project: lambda c: project(c) ** 3 @ V  # noqa: E731
    found = second(weighted(project))(jnp.asarray(C))
    np.testing.assert_allclose(found, jax.hessian(weighted(closed))(jnp.asarray(C)), atol=1e-9)


def test_second_derivatives_by_matrices(float64):
    """By every datum, beside differences of the gradient."""
    rng = np.random.default_rng(3)
    root, x, G = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=(3, 3))
    A = rng.normal(size=(1, 3))
    h = G @ x + rng.uniform(0.0, 1.0, 3)
    P = root @ root.T + 0.1 * np.eye(3)
    data = tuple(map(jnp.asarray, (P, 3 * rng.normal(size=3), G, h, A, A @ x)))

    def loss(*data):
        x, z, y = ffoadapt.qp(*data, solver=SOLVER)
        return jnp.sum(x**3) + jnp.sum(z**2) + jnp.sum(jnp.sin(y))

    gradient = jax.grad(loss, argnums=tuple(range(6)))
    along = [rng.normal(size=v.shape) for v in data]
    along[0] = along[0] + along[0].T
    _, found = jax.jvp(gradient, data, tuple(map(jnp.asarray, along)))
    ends = [gradient(*(v + t * d for v, d in zip(data, along, strict=True))) for t in (1e-5, -1e-5)]
    for k, (ours, up, down) in enumerate(zip(found, *ends, strict=True)):
        ours = (ours + ours.T) / 2 if k == 0 else ours
        np.testing.assert_allclose(ours, (up - down) / 2e-5, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_a_clear_error(float64):
    """Of curved cones, and at a kink."""
    eye, zero, q = jnp.eye(2), jnp.zeros(2), jnp.array([-0.3, 0.5])
    cones = [ffoadapt.SecondOrderCone(2)]

    def curved(q):
        return ffoadapt.cone_program(eye, q, -eye, zero, cones, solver=SOLVER).x @ q

    with pytest.raises(ffoadapt.DifferentiationError, match=r"second derivatives.*nonnegative"):
        jax.hessian(curved)(q)

    def boxed(q):
        return ffoadapt.box_qp(eye, -q, eye, zero, zero + 0.5, solver=SOLVER).x @ q

    with pytest.raises(ffoadapt.DifferentiationError, match=r"second derivatives.*weakly active"):
        jax.hessian(boxed)(q)


def infeasible(h):
    """x <= h and x >= 1."""
    G = jnp.array([[1.0], [-1.0]])
    return ffoadapt.qp(
        jnp.eye(1), jnp.zeros(1), G, jnp.stack([h, -jnp.ones_like(h)]), solver=SOLVER
    ).x


class TestErrors:
    def test_eager(self, float64):
        with pytest.raises(ffoadapt.SolveError, match="primal_infeasible"):
            infeasible(jnp.asarray(0.0))
        with pytest.raises(ffoadapt.SolveError, match="primal_infeasible"):
            jax.grad(lambda h: infeasible(h)[0])(jnp.asarray(0.0))

    def test_vmap_names_the_element(self, float64):
        with pytest.raises(ffoadapt.SolveError, match="batch element 1: primal_infeasible"):
            jax.vmap(infeasible)(jnp.array([2.0, 0.0]))

    def test_jit_carries_the_message(self, float64):
        with pytest.raises(jax.errors.JaxRuntimeError, match="primal_infeasible"):
            jax.jit(infeasible)(jnp.asarray(0.0)).block_until_ready()

    def test_shapes_at_trace_time(self, float64):
        with pytest.raises(ffoadapt.ShapeError):
            jax.jit(lambda q: ffoadapt.qp(jnp.eye(3), q, solver=SOLVER).x)(jnp.ones(2))


def test_threads_and_jit(float64):
    compiled = jax.jit(jax.value_and_grad(lambda c: project(c) @ V))
    inputs = [jnp.asarray(np.random.default_rng(k).normal(size=5)) for k in range(8)]
    expected = [jax.value_and_grad(lambda c: closed(c) @ V)(c) for c in inputs]
    found = [None] * 8

    def work(k):
        with jax.enable_x64(True):  # of this thread
            for _ in range(5):
                value, grad = compiled(inputs[k])
                found[k] = (float(value), np.asarray(grad))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[0] == pytest.approx(float(theirs[0]), abs=1e-7)
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-7)
