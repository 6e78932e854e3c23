"""`qp`, `box_qp` and `cone_program`: solve from matrices, in the framework of the arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from .._cones import Cone
from .._exceptions import ParameterError, ShapeError
from .._models import reading
from .._models.box import BoxModel
from .._models.cone import ConeModel
from .._models.matrix_model import MATRICES, MatrixModel
from .._models.patterns import Orders, Parts, put_on_patterns
from .._models.split import SplitModel
from .._plugins.framework import Framework
from .._plugins.frameworks import find_framework
from .._plugins.solver import Solver
from .._program.pattern import Pattern
from .._solve.settings import Settings, SolveSettings
from .cache import function_of
from .outcome import Outcome
from .solutions import BoxSolution, ConeSolution, QPSolution

__all__ = ["box_qp", "cone_program", "qp"]


def qp(
    P: Any,
    q: Any,
    G: Any = None,
    h: Any = None,
    A: Any = None,
    b: Any = None,
    *,
    solver: str | Solver | type[Solver] = "auto",
    **settings: Unpack[SolveSettings],
) -> QPSolution:
    """minimize 1/2 x'Px + q'x subject to Gx <= h, Ax = b, differentiable in all six.

    The data are arrays of one framework, each with batch axes in front or not; NumPy arrays among
    those of another framework are constants. P, G and A may be the framework's sparse matrices (the
    gradient is on their pattern) or scipy.sparse constants. G and h, and A and b, may be left out.

    Parameters
    ----------
    P
        (n, n), symmetric positive semidefinite; None means zero: a linear program.
    q
        (n,).
    G
        (k, n), optional, together with h.
    h
        (k,), optional, together with G; an entry may be inf (no bound).
    A
        (p, n), optional, together with b.
    b
        (p,), optional, together with A.
    solver
        A name from `ffoadapt.solvers`, a `Solver` object or class, a decorated function, or
        ``"auto"`` for the fastest installed.
    settings
        See `ffoadapt.SolveSettings`.

    Returns
    -------
    QPSolution
        ``x``, ``z_ineq``, ``y_eq`` with Px + q + G'z_ineq + A'y_eq = 0. The gradient of P is that
        of symmetric changes.

    Raises
    ------
    ProblemError, SolveError
    """
    chosen = Settings.of(solver, settings)
    data = {"P": P, "q": q, "G": G, "h": h, "A": A, "b": b}
    framework = _framework(data)
    n, k, p = _size("q", q), _rows(data, "G", "h"), _rows(data, "A", "b")
    rows = {"P": n, "q": n, "G": k, "h": k, "A": p, "b": p}
    return _solved(QPSolution, framework, SplitModel, data, rows, (k, p), chosen)


def box_qp(
    P: Any,
    q: Any,
    A: Any,
    l: Any,
    u: Any,
    *,
    solver: str | Solver | type[Solver] = "auto",
    **settings: Unpack[SolveSettings],
) -> BoxSolution:
    """minimize 1/2 x'Px + q'x subject to l <= Ax <= u, differentiable in all five.

    Arrays are as in `qp`. l = u makes an equality, whose gradient goes to the bound that its
    multiplier pushes at.

    Parameters
    ----------
    P
        (n, n), symmetric positive semidefinite; None means zero.
    q
        (n,).
    A
        (m, n); None stands for the identity: l <= x <= u.
    l
        (m,); an entry may be -inf.
    u
        (m,); an entry may be inf.
    solver, settings
        As in `qp`.

    Returns
    -------
    BoxSolution
        ``x`` and ``y`` with Px + q + A'y = 0, y > 0 where u holds and y < 0 where l holds.
    """
    chosen = Settings.of(solver, settings)
    data = {"P": P, "q": q, "A": A, "l": l, "u": u}
    framework = _framework(data)
    n, m = _size("q", q), _size("l", l)
    if A is None:
        reading.check_bounds(n, m)
        data["A"] = reading.identity(
            n, dense=P is not None and not _sparse_parts(framework, "P", P)
        )
    rows = {"P": n, "q": n, "A": m, "l": m, "u": m}
    return _solved(BoxSolution, framework, BoxModel, data, rows, (m,), chosen)


def cone_program(
    P: Any,
    q: Any,
    A: Any,
    b: Any,
    cones: Sequence[Cone],
    *,
    solver: str | Solver | type[Solver] = "auto",
    **settings: Unpack[SolveSettings],
) -> ConeSolution:
    """minimize 1/2 x'Px + q'x subject to Ax + s = b, s in K, differentiable in P, q, A, b.

    Arrays are as in `qp`.

    Parameters
    ----------
    P
        (n, n), symmetric positive semidefinite; None means zero.
    q
        (n,).
    A
        (m, n).
    b
        (m,); an entry in a nonnegative row may be inf.
    cones
        The cones of K in the order of the rows, m rows in all.
    solver, settings
        As in `qp`.

    Returns
    -------
    ConeSolution
        ``x``, ``s``, ``z`` with Px + q + A'z = 0, s in K, z in the dual cone, s'z = 0.
    """
    chosen = Settings.of(solver, settings)
    data = {"P": P, "q": q, "A": A, "b": b}
    framework = _framework(data)
    n, cones = _size("q", q), reading.check_cones(cones)
    m, given = sum(cone.dim for cone in cones), _rows(data, "A", "b")
    if given != m:
        raise ShapeError(
            f"the cones have {m} rows in all ({', '.join(map(repr, cones))}) but b has {given}; "
            "make them equal"
        )
    rows = {"P": n, "q": n, "A": m, "b": m}
    return _solved(ConeSolution, framework, ConeModel, data, rows, (cones, m), chosen)


_ASIDE = (type(None), *reading.SPARSE)


def _framework(data: dict[str, Any]) -> Framework:
    """The framework of the arguments, which hold numbers then."""
    framework = find_framework(data, aside=_ASIDE)
    for name, value in data.items():
        kind = type(value)
        if kind is np.ndarray:
            if not reading.plain(value):
                data[name] = reading.numbers(name, value)
        elif kind not in reading.OTHERS:
            data[name] = reading.checked(name, value, sparse_too=name in MATRICES)
    return framework


def _solved(
    kind: Any,
    framework: Framework,
    model: type[MatrixModel],
    data: dict[str, Any],
    rows: Mapping[str, int],
    rest: tuple[Any, ...],
    settings: Settings,
) -> Any:
    """The solution; where shapes do not fit, the error names what the others outvote."""
    n, given, parts, missing = rows["q"], data, dict[str, Parts](), False
    patterns: Mapping[str, Pattern] = {}
    orders: Orders = {}
    try:
        for name, value in data.items():
            if value is None:
                missing = True
            elif name in MATRICES and (part := _sparse_parts(framework, name, value)):
                parts[name] = part
        if parts or missing:
            data = data.copy()
            shapes = {name: (rows[name], n) for name in data if name in MATRICES}
            if parts:
                patterns, orders = put_on_patterns(data, shapes, parts)
            for name, value in data.items():
                if value is None:
                    # Of a type that decides no other.
                    data[name] = np.zeros(shapes.get(name, rows[name]), dtype=bool)
        function, place = function_of(model, (n, rest), patterns, orders, settings), list[Outcome]()
        latest = function.latest
        before, latest.place = latest.place, place  # a solver may make such calls itself
        try:
            arrays = framework.apply(function, list(data.values()))
        finally:
            latest.place = before
    except ShapeError as error:
        if (odd := reading.odd_size(given)) is None:
            raise
        raise ShapeError(odd) from error
    value = [arrays.pop()] if settings.objective else []
    solution = kind(*arrays)
    if value:
        solution.__dict__["objective"] = value[0]
    # Inside of vmap the call has more batch axes than who made it knows of.
    if place and place[-1].axes == solution.x.ndim - 1:
        solution.__dict__["outcome"] = place[-1]
    return solution


def _sparse_parts(framework: Framework, name: str, value: Any) -> Parts | None:
    """Rows, columns and values of a sparse matrix; None for other arrays."""
    if value is None or type(value) is np.ndarray:
        return None
    if isinstance(value, reading.SPARSE):
        coo = reading.coordinates(name, value)
        return coo.row, coo.col, coo.data
    try:
        return framework.sparse_parts(value)
    except (ParameterError, ShapeError) as error:
        raise type(error)(f"{name}: {error}") from error


def _size(name: str, value: Any) -> int:
    """Length of the last axis of a vector argument."""
    if value is None:
        raise ShapeError(f"{name} is missing; expected a vector, or a batch of vectors")
    try:
        shape = value.shape
    except AttributeError:
        shape = np.shape(value)
    if shape:
        return int(shape[-1])
    raise ShapeError(f"{name} is a single number; expected a vector, or a batch of vectors")


def _rows(data: dict[str, Any], matrix: str, vector: str) -> int:
    """How many rows a matrix and its right-hand side have, which are given together or not at all.

    Empty vectors for both, which is how other packages write no rows, become None.
    """
    M, v = data[matrix], data[vector]
    if (M is None) != (v is None):
        missing, other = (vector, matrix) if v is None else (matrix, vector)
        raise ShapeError(f"{other} is given without {missing}; give both or neither")
    if v is None:
        return 0
    rows = _size(vector, v)
    if not rows and np.shape(v) == (0,) == np.shape(M):
        data[matrix] = data[vector] = None
    return rows
