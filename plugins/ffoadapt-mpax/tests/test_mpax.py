"""ffoadapt-mpax: the conformance suite, and what is particular to MPAX."""

from typing import ClassVar

import numpy as np
import pytest

import ffoadapt
from ffoadapt.testing import SolverSuite

pytest.importorskip("mpax", reason="MPAX is not installed: pip install mpax")

import jax
import jax.numpy as jnp

SLOW = ("qp_sparse", "equality_only", "simplex", "scrambled", "batch", "recovery", "tolerance")


class TestMPAX(SolverSuite):
    solver = "mpax"
    waive: ClassVar = dict.fromkeys(SLOW, "every shape takes XLA seconds to compile")


class TestInsideOfJit:
    """One batch, so that XLA compiles once: quadratic, linear, infeasible, without a bound."""

    @staticmethod
    def batch():
        rng = np.random.default_rng(0)
        root, G, A = rng.normal(size=(4, 4, 4)), rng.normal(size=(6, 4)), rng.normal(size=(1, 4))
        P = root @ root.swapaxes(-1, -2) + np.eye(4)
        q, x = 5 * rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
        h = x @ G.T + rng.uniform(0.0, 1.0, (4, 6))
        P[1], q[1] = 0.0, -G.T @ rng.uniform(0.5, 1.0, 6)
        G[5] = -G[4]
        h[:, 5], h[2, 5], h[3, 2] = 5.0 - h[:, 4], -1.0 - h[2, 4], np.inf
        return P, q, G, h, A, x @ A.T

    @staticmethod
    def gradients(solver, options, *batch):
        def loss(*data):
            found = ffoadapt.qp(*data, solver=solver, solver_options=options, on_failure="nan")
            return sum(jnp.vdot(v, jnp.cos(jnp.arange(v.size) + 0.1)) for v in found)

        each = jax.value_and_grad(loss, argnums=tuple(range(6)))
        return jax.vmap(each, in_axes=(0, 0, None, 0, None, 0))(*batch)

    def test_as_on_the_host(self):
        with jax.enable_x64(True):
            given = [jnp.asarray(v) for v in self.batch()]
            lowered = jax.jit(lambda *v: self.gradients("mpax", {"max_iterations": 8_000}, *v))
            lowered = lowered.lower(*given)
            assert "callback" not in lowered.as_text()
            value, found = lowered.compile({"xla_backend_optimization_level": 0})(*given)
            host, expected = self.gradients("clarabel", {}, *given)
        assert np.isnan(value).tolist() == [False, False, True, False]
        np.testing.assert_allclose(value, host, rtol=1e-8)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)

    def test_without_rows(self):
        x = jax.jit(lambda P, q: ffoadapt.qp(P, q, solver="mpax").x)(2 * jnp.eye(2), jnp.ones(2))
        np.testing.assert_allclose(x, [-0.5, -0.5], atol=1e-6)
