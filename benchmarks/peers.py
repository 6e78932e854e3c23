"""The peers: other differentiable layers, where they are installed, each a small adapter to torch.

`dense_peers`, `sparse_peers` and `cone_peers` give contestants for one program; a peer that is not
there is skipped, and `missing` says why. dQP and dXPP are not on the registry: they cannot be here.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from measure import Contestant
from problems import QP, cvxpy_problem, cvxpy_values
from reference import NAMES

__all__ = [
    "Leaves",
    "cone_peers",
    "dense_peers",
    "missing",
    "ours_cone",
    "ours_dense",
    "ours_sparse",
    "row_major",
    "sparse_peers",
]

MODULES = {
    "cvxpylayers": "cvxpylayers.torch",
    "qpth": "qpth.qp",
    "QPLayer": "proxsuite.torch.qplayer",
    "ffolayer": "ffolayer",
    "Moreau": "moreau.torch",
    "Moreau IPM": "moreau.torch",
}


def missing() -> dict[str, str]:
    """Peers that cannot run here, with the reason."""
    failures = {}
    for name, module in MODULES.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(module)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
    return failures


@dataclass
class Leaves:
    """Tensors to differentiate with respect to, and the cotangent of x."""

    tensors: dict[str, torch.Tensor]
    cotangent: torch.Tensor
    patterns: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, arrays: dict[str, Any], cotangent: Any) -> Leaves:
        leaves = {k: torch.tensor(v, requires_grad=True) for k, v in arrays.items()}
        return cls(leaves, torch.as_tensor(cotangent))

    def contestant(
        self,
        name: str,
        layer: Callable[..., torch.Tensor],
        recover: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> Contestant:
        """``layer(*tensors)`` gives x; ``recover`` maps its gradients to those to compare."""
        tensors = list(self.tensors.values())

        def backward(x: torch.Tensor) -> Any:
            return torch.autograd.grad(x, tensors, self.cotangent.reshape(x.shape))

        def gradients(parts: Any) -> dict[str, Any]:
            named = {k: g.numpy() for k, g in zip(self.tensors, parts, strict=True)}
            return recover(named) if recover else named

        return Contestant(name, lambda: layer(*tensors), backward, gradients)


# ---------------------------------------------------------------------------- dense programs


def ours_dense(problem: QP, v: Any, **settings: Any) -> Contestant:
    """`ffoadapt.qp` with gradients for all data."""
    import ffoadapt

    leaves = Leaves.of(dict(zip(NAMES, problem.data, strict=True)), v)
    return leaves.contestant("ffoadapt", lambda *data: ffoadapt.qp(*data, **settings).x)


def dense_peers(problem: QP, v: Any, skip: set[str]) -> list[Contestant]:
    """The peers with gradients for all data."""
    data = dict(zip(NAMES, problem.data, strict=True))
    makers = {
        "cvxpylayers": _cvxpylayers,
        "qpth": _qpth,
        "QPLayer": _qplayer,
        "ffolayer": _ffolayer,
        "Moreau": lambda p, d, w: _moreau(p, d, w, "active_set"),
        "Moreau IPM": lambda p, d, w: _moreau(p, d, w, "ipm"),
    }
    return [
        attempt(name, make, problem, data, v) for name, make in makers.items() if name not in skip
    ]


def attempt(name: str, make: Callable[..., Contestant], *args: Any, **more: Any) -> Contestant:
    """The contestant, or one that raises what its construction raised."""
    try:
        return make(*args, **more)
    except Exception as error:
        failure = error

    def raise_again() -> Any:
        raise failure

    return Contestant(name, raise_again)


def _cvxpylayers(problem: QP, data: dict[str, Any], v: Any) -> Contestant:
    """P enters as L with P = L'L (the DPP way); its gradient is 2 L sym(dP)."""
    from cvxpylayers.torch import CvxpyLayer

    statement, parameters, x, _ = cvxpy_problem("qp", problem.n)
    layer = CvxpyLayer(statement, parameters=parameters, variables=[x])
    L = np.linalg.cholesky(problem.P).swapaxes(-1, -2).copy()
    leaves = Leaves.of({**data, "P": L}, v)

    def recover(gradients: dict[str, Any]) -> dict[str, Any]:
        return {**gradients, "P": np.linalg.solve(L, gradients["P"]) / 2.0}

    return leaves.contestant("cvxpylayers", lambda *tensors: layer(*tensors)[0], recover)


def _qpth(problem: QP, data: dict[str, Any], v: Any) -> Contestant:
    from qpth.qp import QPFunction

    run = QPFunction(verbose=-1, check_Q_spd=False)
    return Leaves.of(data, v).contestant("qpth", run)


def _qplayer(problem: QP, data: dict[str, Any], v: Any) -> Contestant:
    from proxsuite.torch.qplayer import QPFunction

    run, lower = QPFunction(omp_parallel=problem.batch > 1), torch.as_tensor(problem.h * 0 - 1e20)
    return Leaves.of(data, v).contestant(
        "QPLayer", lambda P, q, G, h, A, b: run(P, q, A, b, G, lower, h)[0]
    )


def _ffolayer(problem: QP, data: dict[str, Any], v: Any) -> Contestant:
    """Its default solver is dQP with Gurobi, which the registry lacks; PDIPM is qpth's."""
    import ffolayer

    run = ffolayer.FFOQPLayer(solver="PDIPM", verbose=-1)
    return Leaves.of(data, v).contestant("ffolayer", lambda *tensors: run(*tensors)[0])


def _moreau(problem: QP, data: dict[str, Any], v: Any, solver: str) -> Contestant:
    n, m = problem.n, problem.h.shape[-1] + problem.b.shape[-1]

    def full(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.arange(0, rows * n + 1, n), torch.arange(n).repeat(rows)

    layer = _moreau_solver(problem, n, m, (*full(n), *full(m)), solver)

    def run(P: Any, q: Any, G: Any, h: Any, A: Any, b: Any) -> Any:
        rows = torch.cat([A, G], dim=-2).flatten(-2)
        return layer.solve(P.flatten(-2), rows, q, torch.cat([b, h], dim=-1)).x

    name = "Moreau" if solver == "active_set" else "Moreau IPM"
    return Leaves.of(data, v).contestant(name, run)


def _moreau_solver(problem: QP, n: int, m: int, pattern: Any, solver: str) -> Any:
    import moreau
    import moreau.torch

    p = problem.b.shape[-1]
    return moreau.torch.Solver(
        n,
        m,
        *pattern,
        moreau.Cones(num_zero_cones=p, num_nonneg_cones=m - p),
        moreau.Settings(solver=solver, device="cpu", batch_size=problem.batch, enable_grad=True),
    )


# --------------------------------------------------------------------------- sparse programs


def ours_sparse(problem: QP, v: Any, **settings: Any) -> Contestant:
    """`ffoadapt.qp` of sparse tensors: gradients for the nonzeros of P, G, A and for q, h, b."""
    import ffoadapt

    leaves, indices, shapes = _sparse_leaves(problem, v)

    def run(P: Any, q: Any, G: Any, h: Any, A: Any, b: Any) -> Any:
        matrices = {
            k: torch.sparse_coo_tensor(
                indices[k], values, shapes[k], is_coalesced=True, check_invariants=False
            )
            for k, values in (("P", P), ("G", G), ("A", A))
        }
        return ffoadapt.qp(matrices["P"], q, matrices["G"], h, matrices["A"], b, **settings).x

    return leaves.contestant("ffoadapt", run)


def _sparse_leaves(problem: QP, v: Any) -> tuple[Leaves, dict[str, Any], dict[str, Any]]:
    """Leaves whose matrices are values in row-major order (as torch keeps coalesced tensors)."""
    arrays, indices, shapes = dict(zip(NAMES, problem.data, strict=True)), {}, {}
    for name in ("P", "G", "A"):
        coo = arrays[name].tocsr().tocoo()
        arrays[name] = coo.data
        indices[name] = torch.as_tensor(np.stack([coo.row, coo.col]).astype(np.int64))
        shapes[name] = coo.shape
    return Leaves.of(arrays, v), indices, shapes


def row_major(problem: QP) -> QP:
    """The same program with matrices whose COO order is row-major, for `reference`."""
    P, q, G, h, A, b = problem.data
    return QP(P.tocsr(), q, G.tocsr(), h, A.tocsr(), b, problem.x, problem.z, problem.y)


def sparse_peers(problem: QP, v: Any, skip: set[str]) -> list[Contestant]:
    """Moreau with gradients for all nonzeros; cvxpylayers for q, h and b alone (P, G, A fixed)."""
    cells = []
    if "Moreau IPM" not in skip:
        cells.append(attempt("Moreau IPM", _moreau_sparse, problem, v))
    if "cvxpylayers" not in skip:
        cells.append(attempt("cvxpylayers", _cvxpylayers_sparse, problem, v))
    return cells


def _moreau_sparse(problem: QP, v: Any) -> Contestant:
    leaves, _, _ = _sparse_leaves(problem, v)
    P, A, G = (getattr(problem, k).tocsr() for k in ("P", "A", "G"))
    offsets = np.concatenate((A.indptr, A.indptr[-1] + G.indptr[1:]))
    columns = np.concatenate((A.indices, G.indices))
    pattern = [torch.as_tensor(a.astype(np.int64)) for a in (P.indptr, P.indices, offsets, columns)]
    layer = _moreau_solver(problem, problem.n, A.shape[0] + G.shape[0], pattern, "ipm")
    return leaves.contestant(
        "Moreau IPM",
        lambda P, q, G, h, A, b: layer.solve(P, torch.cat([A, G]), q, torch.cat([b, h])).x,
    )


def _cvxpylayers_sparse(problem: QP, v: Any) -> Contestant:
    import cvxpy as cp
    from cvxpylayers.torch import CvxpyLayer

    x = cp.Variable(problem.n)
    q, h, b = (cp.Parameter(value.size) for value in (problem.q, problem.h, problem.b))
    statement = cp.Problem(
        cp.Minimize(0.5 * cp.sum_squares(x) + q @ x), [problem.G @ x <= h, problem.A @ x == b]
    )
    layer = CvxpyLayer(statement, parameters=[q, h, b], variables=[x])
    leaves = Leaves.of({"q": problem.q, "h": problem.h, "b": problem.b}, v)
    return leaves.contestant("cvxpylayers", lambda *tensors: layer(*tensors)[0])


# ------------------------------------------------------------------------------ cone programs


def ours_cone(kind: str, n: int, v: Any, **settings: Any) -> Contestant:
    """`ffoadapt_torch.CvxpyLayer`; a batch where ``v`` has an axis more than x."""
    from ffoadapt_torch import CvxpyLayer

    return _cone(kind, n, v, "ffoadapt", lambda *a: CvxpyLayer(*a, **settings))


def cone_peers(kind: str, n: int, v: Any, skip: set[str]) -> list[Contestant]:
    """cvxpylayers with its default and with Clarabel, and FFOLayer."""
    cells = []
    if "cvxpylayers" not in skip:
        options = {"solver_args": {"solve_method": "Clarabel"}}
        cells.append(attempt("cvxpylayers", _cone_cvxpylayers, kind, n, v))
        cells.append(attempt(CLARABEL, _cone_cvxpylayers, kind, n, v, CLARABEL, **options))
    if "ffolayer" not in skip:
        cells.append(attempt("ffolayer", _cone_ffolayer, kind, n, v))
    return cells


CLARABEL = "cvxpylayers (Clarabel)"


def _cone_cvxpylayers(
    kind: str, n: int, v: Any, name: str = "cvxpylayers", **options: Any
) -> Contestant:
    from cvxpylayers.torch import CvxpyLayer as Theirs

    return _cone(kind, n, v, name, Theirs, **options)


def _cone_ffolayer(kind: str, n: int, v: Any) -> Contestant:
    import ffolayer

    return _cone(kind, n, v, "ffolayer", ffolayer.FFOLayer)


def _cone(
    kind: str, n: int, v: Any, name: str, make: Callable[..., Any], **options: Any
) -> Contestant:
    statement, parameters, x, values = cvxpy_problem(kind, n)
    layer = make(statement, parameters, [x])
    if v.ndim > x.ndim:
        each = zip(*cvxpy_values(kind, n, len(v)), strict=True)
        values = [np.stack(one) for one in each]
    leaves = Leaves.of({f"p{k}": value for k, value in enumerate(values)}, v)
    return leaves.contestant(name, lambda *tensors: layer(*tensors, **options)[0])
