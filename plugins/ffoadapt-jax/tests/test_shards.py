"""Derivatives through `jax.shard_map`, in a process of two devices; and outcomes of JAX calls."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

import ffoadapt
from ffoadapt import Status

PROGRAM = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, jax.numpy as jnp, numpy as np, ffoadapt
from jax.sharding import Mesh, PartitionSpec as S

mesh = Mesh(np.array(jax.devices()), ("b",))
rng = np.random.default_rng(5)
q, v, w = (jnp.asarray(rng.normal(size=(4, 3)), jnp.float32) for _ in range(3))
L = rng.normal(size=(3, 3))
P = jnp.asarray(L @ L.T + np.eye(3), jnp.float32)
G, h = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32), 0.3 * jnp.ones(2)

def plain(P, q):
    return ffoadapt.qp(P, q, G, h).x

def close(found, exact):
    np.testing.assert_allclose(found, exact, rtol=2e-4, atol=2e-5)

def mapped(function, *inside, out=S("b"), **more):
    return jax.shard_map(function, mesh=mesh, in_specs=inside, out_specs=out, **more)
"""

CASES = {
    "gradients": """
sharded = mapped(plain, S(), S("b"))
loss = lambda solve: lambda P, q: (w * solve(P, q)).sum()
exact = jax.grad(loss(plain), (0, 1))(P, q)
for found, right in zip(jax.jit(jax.grad(loss(sharded), (0, 1)))(P, q), exact): close(found, right)
close(jax.grad(loss(sharded), 1)(P, q), exact[1])  # without jit
unchecked = mapped(plain, S(), S("b"), check_vma=False)
gradients = jax.jit(jax.grad(loss(unchecked), (0, 1)))(P, q)
for found, right in zip(gradients, exact): close(found, right)
""",
    "tangents": """
sharded = mapped(plain, S(), S("b"))
moved = lambda solve: lambda: jax.jvp(solve, (P, q), (0.1 * P, v))[1]
close(jax.jit(moved(sharded))(), moved(plain)())
of_q = lambda solve: lambda q: solve(P, q).sum(0)
for mode in (jax.jacrev, jax.jacfwd):
    close(jax.jit(mode(of_q(sharded)))(q), mode(of_q(plain))(q))
""",
    "inside": """
exact = jax.grad(lambda P: (w * plain(P, q)).sum())(P)
gradient = lambda P, q, w: jax.grad(lambda q: (w * plain(P, q)).sum())(q)
close(jax.jit(mapped(gradient, S(), S("b"), S("b")))(P, q, w), gradient(P, q, w))
summed = lambda P, q, w: jax.lax.psum((w * plain(P, q)).sum(), "b")
total = mapped(summed, S(), S("b"), S("b"), out=S())
close(jax.jit(jax.grad(total))(P, q, w), exact)
mapped_each = mapped(lambda q: jax.vmap(lambda q: plain(P, q))(q), S("b"))
close(jax.jit(jax.grad(lambda q: (w * mapped_each(q)).sum()))(q), gradient(P, q, w))
step = lambda q: jax.lax.scan(lambda c, _: (plain(P, c), None), q, None, length=2)[0]
close(jax.jit(mapped(step, S("b")))(q), plain(P, plain(P, q)))
""",
    "pmap": """
pairs, weights = q.reshape(2, 2, 3), w.reshape(2, 2, 3)
exact = jax.grad(lambda q: (w * plain(P, q)).sum())(q).reshape(2, 2, 3)
gradient = lambda q, w: jax.grad(lambda q: (w * plain(P, q)).sum())(q)
close(jax.pmap(gradient)(pairs, weights), exact)
through = jax.pmap(lambda q: plain(P, q))
close(jax.grad(lambda q: (weights * through(q)).sum())(pairs), exact)
""",
    "traced": """
jax.config.update("jax_disable_most_optimizations", True)

class Steps(ffoadapt.Solver):
    form, matrices, traces = "box", ("dense",), ("jax",)

    def traced(self, p, options):  # steps of y along the dual function's gradient
        step = 1.0 / (jnp.linalg.norm(p.A) ** 2)  # the eigenvalues of P are at least 1
        def move(_, carry):
            x, y = carry
            x = x - (p.P @ x + p.q + p.A.T @ y) / jnp.linalg.norm(p.P)
            return x, jnp.maximum(y + 0.1 * step * (p.A @ x - p.u), 0.0)
        start = jnp.zeros(p.q.size), jnp.zeros(p.u.size)
        x, y = jax.lax.fori_loop(0, 5000, move, start)
        return x, y, True

    def solve(self, program, options, session):
        raise AssertionError("called from the host")

solve = lambda q: ffoadapt.qp(P, q, G, h, solver=Steps).x
close(jax.jit(solve)(q), plain(P, q))
exact = jax.jit(jax.grad(lambda q: (w * solve(q)).sum()))(q)
sharded = mapped(solve, S("b"))
close(jax.jit(jax.grad(lambda q: (w * sharded(q)).sum()))(q), exact)
""",
}


@pytest.mark.parametrize("case", list(CASES))
def test_shards(case: str) -> None:
    if not hasattr(jax, "shard_map"):
        pytest.skip("this JAX has no jax.shard_map")
    run = [sys.executable, "-W", "ignore", "-c", PROGRAM + CASES[case]]
    found = subprocess.run(run, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]


def qp(q: Any) -> Any:
    return ffoadapt.qp(jnp.eye(2), q, -jnp.eye(2), jnp.zeros(2))


Q = jnp.array([-1.0, 0.5])


def test_solutions_say_how_it_went() -> None:
    solution = qp(Q)
    assert solution.status is Status.OPTIMAL and solution.info["solver"]
    assert ffoadapt.gradient_report(solution).verdict == "differentiable"
    assert qp(jnp.stack([Q, Q])).status == [Status.OPTIMAL] * 2


def test_inside_of_transformations_nothing_is_known() -> None:
    seen: list[Any] = []

    def function(q: Any) -> Any:
        solution = qp(q)
        seen.append(solution.status)
        return solution

    for transformed in (jax.jit(function), jax.vmap(function)):
        found = transformed(jnp.stack([Q, 2 * Q]))
        assert type(found) is ffoadapt.QPSolution and found.status is None
        np.testing.assert_allclose(found.x, qp(jnp.stack([Q, 2 * Q])).x, atol=1e-6)
        with pytest.raises(ffoadapt.DifferentiationError, match="jit"):
            found.report()
    assert seen == [None, None]
    jax.grad(lambda q: function(q).x.sum())(Q)  # here the numbers are known
    assert seen[2:] == [Status.OPTIMAL]
    assert jax.tree.map(lambda v: v, qp(Q)).status is None


def test_layers_tell_of_their_last_call() -> None:
    cp = pytest.importorskip("cvxpy")
    from ffoadapt_jax import CvxpyLayer

    x, p = cp.Variable(2), cp.Parameter(2)
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x - p)), [x >= 0]), [p], [x])
    assert layer.last is None
    layer(jnp.stack([Q, Q]))
    assert layer.last.status == [Status.OPTIMAL] * 2
    layer(Q, solver_args={"tolerance": 1e-7})
    assert layer.last.status is Status.OPTIMAL
    assert layer.last.report().verdict == "differentiable"


@pytest.mark.parametrize(
    "transformed",
    [
        lambda f: f,
        jax.jit,
        jax.vmap,
        lambda f: jax.grad(lambda q: f(q).sum()),
        lambda f: jax.jit(jax.vmap(jax.grad(lambda q: f(q).sum()))),
        lambda f: lambda q: jax.jvp(f, (q,), (q,))[1],
    ],
    ids=["eager", "jit", "vmap", "grad", "jit-vmap-grad", "jvp"],
)
def test_batch_of_none(transformed: Any) -> None:
    cones = [ffoadapt.SecondOrderCone(3)]
    A, b = -jnp.eye(3), jnp.array([1.0, 0.0, 0.0])

    def ball(q: Any) -> Any:
        return ffoadapt.cone_program(jnp.eye(3), q, A, b, cones).x

    assert transformed(lambda q: qp(q).x)(jnp.zeros((0, 2))).shape == (0, 2)
    assert transformed(ball)(jnp.zeros((0, 3))).shape == (0, 3)


def test_sparse_matrices_that_are_none_of_two_axes() -> None:
    one = np.arange(2)
    each = np.stack([one, one], axis=-1)
    batches = [
        sparse.BCOO((np.ones((2, 2)), np.stack([each, each])), shape=(2, 2, 2)),
        sparse.BCOO((np.ones(2), np.stack([one, one, one], axis=-1)), shape=(2, 2, 2)),
    ]
    for P in batches:
        with pytest.raises(ffoadapt.ShapeError, match=r"sparse P has shape.*no batch axes"):
            ffoadapt.qp(P, Q)
    rows = [
        sparse.BCOO((np.ones((2, 1)), one[:, None, None]), shape=(2, 2)),
        sparse.BCOO((np.eye(2), one[:, None]), shape=(2, 2)),
    ]
    for P in rows:
        with pytest.raises(ffoadapt.ShapeError, match="P: a BCOO matrix with n_batch"):
            ffoadapt.qp(P, Q)
    with pytest.raises(ffoadapt.ParameterError, match="P: a BCSR matrix"):
        ffoadapt.qp(sparse.BCSR((np.ones(2), one, np.arange(3)), shape=(2, 2)), Q)


def test_padding_of_a_sparse_matrix_is_no_entry() -> None:
    padded = sparse.BCOO.fromdense(2.0 * jnp.eye(2), nse=5)

    def solve(data: Any) -> Any:
        return ffoadapt.qp(sparse.BCOO((data, padded.indices), shape=(2, 2)), Q).x

    np.testing.assert_allclose(solve(padded.data), -Q / 2, atol=1e-6)
    gradient = jax.grad(lambda data: solve(data).sum())(padded.data)
    np.testing.assert_allclose(gradient, [*(Q / 4), 0.0, 0.0, 0.0], atol=1e-6)
