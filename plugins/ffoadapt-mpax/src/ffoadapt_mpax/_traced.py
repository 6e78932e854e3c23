"""MPAX in JAX arrays: what the adapter calls from the host, and what a jitted function calls."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import mpax
import numpy as np
from jax.experimental.sparse import BCOO

from ffoadapt import Options, Solution, SplitForm, Status

__all__ = ["optimize", "traced", "without_rows"]


@jax.jit(static_argnums=(6, 7))
def optimize(P: Any, q: Any, A: Any, b: Any, G: Any, h: Any, linear: bool, options: Any) -> Any:
    """Solve with rows that have h = inf as 0'x <= 1; MPAX's own test of P = 0 does not trace."""
    free, loose = jnp.full(q.shape, jnp.inf), jnp.isposinf(h)
    G, h = -G * ~loose[:, None], jnp.where(loose, -1.0, -h)
    problem = mpax.create_qp(P, q, A, b, G, h, -free, free, isinstance(P, BCOO))
    return mpax.raPDHG(**dict(options)).optimize(dataclasses.replace(problem, is_lp=linear))[:4]


def without_rows(program: SplitForm) -> Solution:
    """The solution of a program of which no row has a finite bound: MPAX's step sizes are undefined
    for it. Px = -q, or there is none."""
    P = program.P if isinstance(program.P, np.ndarray) else program.P.toarray()
    x = np.linalg.lstsq(P, -program.q)[0]
    off = np.linalg.norm(P @ x + program.q)
    if not off <= 1e-9 * np.linalg.norm(program.q):
        return Solution(status=Status.DUAL_INFEASIBLE)
    return Solution(x, (np.zeros(program.h.size), np.zeros(0)))


def traced(program: SplitForm, options: Options) -> tuple[Any, Any, Any]:
    """As `ffoadapt.Solver.traced`. Whether P = 0 is not known there, but MPAX's method for
    quadratic programs solves linear ones too, if P is not 0 altogether."""
    p, k = program, program.b.size
    if not k + p.h.size:
        x = jnp.linalg.lstsq(p.P, -p.q)[0]
        return x, (p.h, p.b), jnp.allclose(p.P @ x, -p.q)
    P = jnp.where(p.P.any(), p.P, 1e-12 * jnp.eye(p.q.size))
    x, y, code, _ = optimize(P, p.q, p.A, p.b, p.G, p.h, False, tuple(options.items()))
    return x, (y[k:], -y[:k]), code == 2
