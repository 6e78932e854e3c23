"""MPAX: primal-dual hybrid gradients in JAX, dense and sparse.

XLA compiles the method once for every shape, number of nonzeros and set of options, which takes
seconds; from then on a solve takes as long as its iterations.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import mpax
import numpy as np
from jax.experimental.sparse import BCOO

from ffoadapt import Session, Solution, Solver, SplitForm, Status

from ._traced import optimize, traced

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
    traces = ("jax",)

    def known_options(self) -> list[str]:
        return [field.name for field in dataclasses.fields(mpax.raPDHG)]

    def solve(self, program: SplitForm, options: Mapping[str, Any], session: Session) -> Solution:
        p, linear, k = program, not abs(program.P).max(), program.b.size
        with jax.enable_x64(True):
            P, A, G = (
                M if isinstance(M, np.ndarray) else BCOO.from_scipy_sparse(M)
                for M in (p.P, p.A, p.G)
            )
            x, y, code, count = map(
                np.array, optimize(P, p.q, A, p.b, G, p.h, linear, tuple(options.items()))
            )
        status, info = _STATUS.get(int(code), Status.ERROR), {"iterations": int(count)}
        return Solution(x, (y[k:], -y[:k]), None, status, info)

    def traced(self, program: SplitForm, options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        return traced(program, options)
