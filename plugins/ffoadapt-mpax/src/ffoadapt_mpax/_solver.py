"""MPAX: primal-dual hybrid gradients in JAX, dense and sparse.

XLA compiles the method once for every shape, number of nonzeros and set of options, which takes
seconds; from then on a solve takes as long as its iterations.
"""

from typing import Any

import jax
import mpax
import numpy as np
from jax.experimental.sparse import BCOO
from mpax.utils import TerminationStatus

from ffoadapt import Options, Session, Solution, Solver, SplitForm, Status

from . import MATRICES
from ._traced import optimize, traced, without_rows


class MPAXSolver(Solver):
    """See https://github.com/MIT-Lu-Lab/MPAX; options are the fields of its `raPDHG`."""

    form = "split"
    matrices = MATRICES
    common_options = {"tolerance": ("eps_abs", "eps_rel"), "max_iterations": "iteration_limit"}
    defaults = {"eps_abs": 1e-8, "eps_rel": 1e-8, "iteration_limit": 100_000}
    releases_gil = True
    traces = ("jax",)
    waive = {"unconstrained": "MPAX's step sizes are undefined without constraints"}

    def known_options(self) -> list[str]:
        return list(mpax.raPDHG.__dataclass_fields__)

    def solve(self, program: SplitForm, options: Options, session: Session) -> Solution:
        p, k = program, program.b.size
        if not k + np.isfinite(p.h).sum():
            return without_rows(p)
        with jax.enable_x64(True):
            wrap = np.asarray if isinstance(p.A, np.ndarray) else BCOO.from_scipy_sparse
            data = (wrap(p.P), p.q, wrap(p.A), p.b, wrap(p.G), p.h, not abs(p.P).max())
            x, y, code, count = map(np.array, optimize(*data, tuple(options.items())))
        name, info = TerminationStatus(int(code)).name, {"iterations": int(count)}
        return Solution(x, (y[k:], -y[:k]), None, Status.read(name), info)

    def traced(self, program: SplitForm, options: Options) -> tuple[Any, Any, Any]:
        return traced(program, options)
