"""MPAX: primal-dual hybrid gradients in JAX, dense and sparse.

XLA compiles the method once for every shape, number of nonzeros and set of options, which takes
seconds; from then on a solve takes as long as its iterations.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import mpax
import numpy as np
from jax.experimental.sparse import BCOO

from ffoadapt import Session, Solution, Solver, SplitForm, Status

_STATUS = {
    2: Status.OPTIMAL,
    3: Status.PRIMAL_INFEASIBLE,
    4: Status.DUAL_INFEASIBLE,
    5: Status.TIME_LIMIT,
    6: Status.ITERATION_LIMIT,
}


class MPAXSolver(Solver):
    """See https://github.com/MIT-Lu-Lab/MPAX; options are the fields of its `raPDHG`."""

    form = "split"
    matrices = ("dense", "sparse")
    common_options: ClassVar = {
        "tolerance": ("eps_abs", "eps_rel"),
        "max_iterations": "iteration_limit",
        "verbose": "verbose",
    }
    defaults: ClassVar = {"eps_abs": 1e-8, "eps_rel": 1e-8, "iteration_limit": 100_000}
    releases_gil = True

    def known_options(self) -> list[str]:
        return [field.name for field in dataclasses.fields(mpax.raPDHG)]

    def solve(self, program: SplitForm, options: Mapping[str, Any], session: Session) -> Solution:
        p, data = program, (program.P, program.q, program.A, program.b, -program.G, -program.h)
        linear, k = not abs(p.P).max(), p.b.size
        with jax.enable_x64(True):
            arrays = [v if isinstance(v, np.ndarray) else BCOO.from_scipy_sparse(v) for v in data]
            x, y, code, count = map(np.array, _solve(*arrays, linear, tuple(options.items())))
        status, info = _STATUS.get(int(code), Status.ERROR), {"iterations": int(count)}
        return Solution(x, (y[k:], -y[:k]), None, status, info)


@partial(jax.jit, static_argnums=(6, 7))
def _solve(P: Any, q: Any, A: Any, b: Any, G: Any, h: Any, linear: bool, options: Any) -> Any:
    """Solve Gx >= h, Ax = b; whether P is zero is said, because MPAX's own test does not trace."""
    free, sparse = jnp.full(q.shape, jnp.inf), isinstance(P, BCOO)
    problem = mpax.create_qp(P, q, A, b, G, h, -free, free, use_sparse_matrix=sparse)
    found = mpax.raPDHG(**dict(options)).optimize(dataclasses.replace(problem, is_lp=linear))
    return (
        found.primal_solution,
        found.dual_solution,
        found.termination_status,
        found.iteration_count,
    )
