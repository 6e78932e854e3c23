"""`qp`, `box_qp` and `cone_program`: solve from matrices, in the framework of the arguments."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, Unpack, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .. import _kernel
from .._cones import Cone
from .._exceptions import ParameterError, ShapeError
from .._models.raw import BoxModel, ConeModel, SplitModel
from .._models.reading import SPARSE, checked, coordinates, foreign, numbers, odd_size, plain
from .._oracle.report import GradientReport, Reports
from .._plugins.framework import Framework
from .._plugins.frameworks import find_framework
from .._plugins.modeler import ParametricProgram
from .._plugins.solver import Solver
from .._program.pattern import Pattern
from .._program.points import Status
from .._solve.settings import Settings, SolveSettings
from .function import SolveFunction
from .outcome import Outcome, described, unknown
from .problem import check_bounds, check_cones, identity

__all__ = ["BoxSolution", "ConeSolution", "QPSolution", "box_qp", "cone_program", "qp"]


class _Solution:
    """What solutions have in common: how the call went, next to its arrays.

    That is no entry of the tuple, so what a framework makes of a solution (``jit``, ``vmap``, a map
    over its arrays) and copies of it, pickled ones too, have the arrays alone.
    """

    @property
    def _outcome(self) -> Outcome | None:
        return self.__dict__.get("outcome")

    @property
    def status(self) -> Status | list[Status] | None:
        """A `Status`; with batch axes a list of them in the order of the flat batch.

        None where it is not known: in ``jit``, ``vmap`` and ``torch.compile``, and of copies.
        """
        outcome = self._outcome
        return None if outcome is None else outcome.status

    @property
    def info(self) -> Any:
        """A dict of what the solver said, and its name; lists and None as for `status`."""
        outcome = self._outcome
        return None if outcome is None else outcome.info

    def report(self) -> GradientReport | Reports:
        """Why to trust the gradient, or not; one report, or a sequence of one a batch element.

        Raises `DifferentiationError` where `status` is None.
        """
        outcome = self._outcome
        if outcome is None:
            raise unknown()
        return outcome.report()

    def __repr__(self) -> str:
        made = cast("_QPArrays", self)
        fields = zip(made._fields, made, strict=True)
        arrays = ", ".join(f"{name}={value!r}" for name, value in fields)
        return f"{type(self).__name__}({arrays}; {described(self.status)})"

    def __reduce__(self) -> Any:
        return type(self), tuple(cast("tuple[Any, ...]", self))


def _flat(cls: type[Named]) -> type[Named]:
    """The named tuple as a child of `tuple` alone, which is how frameworks tell named tuples."""
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base not in (tuple, object):
            members |= {name: v for name, v in vars(base).items() if name not in _OWN}
    members["__repr__"] = _Solution.__repr__
    made: type[Named] = type(cls.__name__, (tuple,), members)
    return made


Named = TypeVar("Named", bound=tuple[Any, ...])

_OWN = ("__slots__", "__dict__", "__weakref__")
"""Each class makes its own: slots keep instances of named tuples from having attributes."""


class _QPArrays(NamedTuple):
    x: Any
    z_ineq: Any
    y_eq: Any


class _BoxArrays(NamedTuple):
    x: Any
    y: Any


class _ConeArrays(NamedTuple):
    x: Any
    s: Any
    z: Any


@_flat
class QPSolution(_QPArrays, _Solution):
    """x (*batch, n); z_ineq (*batch, rows of G) >= 0; y_eq (*batch, rows of A).

    A tuple of these; ``status``, ``info`` and ``report()`` say how the solve went.
    """


@_flat
class BoxSolution(_BoxArrays, _Solution):
    """x (*batch, n); y (*batch, m), positive where u holds and negative where l holds.

    A tuple of these; ``status``, ``info`` and ``report()`` say how the solve went.
    """


@_flat
class ConeSolution(_ConeArrays, _Solution):
    """x (*batch, n); slack s and dual z (*batch, m).

    A tuple of these; ``status``, ``info`` and ``report()`` say how the solve went.
    """


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
    (G, h), (A, b) = _rows_or_none(G, h), _rows_or_none(A, b)
    data = {"P": P, "q": q, "G": G, "h": h, "A": A, "b": b}
    framework = _read(data)
    n = _size("q", q)
    k, p = _rows("G", G, "h", h), _rows("A", A, "b", b)
    shapes = {"P": (n, n), "G": (k, n), "A": (p, n)}
    sizes = {"q": n, "h": k, "b": p}
    solution: QPSolution = _call(
        QPSolution, "split", framework, data, shapes, sizes, (k, p), chosen
    )
    return solution


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
    framework = _read(data)
    n = _size("q", q)
    m = _size("l", l)
    if A is None:
        check_bounds(n, m)
        data["A"] = identity(n, dense=P is not None and not _is_sparse(framework, P))
    shapes = {"P": (n, n), "A": (m, n)}
    sizes = {"q": n, "l": m, "u": m}
    solution: BoxSolution = _call(BoxSolution, "box", framework, data, shapes, sizes, (m,), chosen)
    return solution


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
    framework = _read(data)
    n = _size("q", q)
    cones = check_cones(cones)
    m = sum(cone.dim for cone in cones)
    if _rows("A", A, "b", b) != m:
        raise ShapeError(
            f"the cones have {m} rows in all ({', '.join(map(repr, cones))}) but b has "
            f"{_rows('A', A, 'b', b)}; make them equal"
        )
    shapes = {"P": (n, n), "A": (m, n)}
    sizes, rest = {"q": n, "b": m}, (cones, m)
    solution: ConeSolution = _call(
        ConeSolution, "cone", framework, data, shapes, sizes, rest, chosen
    )
    return solution


_ASIDE = (type(None), *SPARSE)
_MATRICES = frozenset({"P", "G", "A"})

_MODELS: dict[str, Callable[..., ParametricProgram]] = {
    "split": SplitModel,
    "box": BoxModel,
    "cone": ConeModel,
}

_cache: OrderedDict[Any, SolveFunction] = OrderedDict()
_cache_lock = threading.Lock()
_CACHED = 64


def _read(data: dict[str, Any]) -> Framework:
    """The framework of the arguments, which hold numbers then."""
    framework = find_framework(data, aside=_ASIDE)
    for name, value in data.items():
        kind = type(value)
        if kind is np.ndarray:
            if not plain(value):
                data[name] = numbers(name, value)
        elif kind not in foreign:
            data[name] = checked(name, value, sparse_too=name in _MATRICES)
    return framework


def _call(
    kind: Any,
    form: str,
    framework: Framework,
    data: dict[str, Any],
    *rest: Any,
) -> Any:
    """The solution; where shapes do not fit, the error names the argument that the others
    outvote."""
    given = data.copy()
    try:
        return _applied(kind, form, framework, data, *rest)
    except ShapeError as error:
        if (odd := odd_size(given)) is None:
            raise
        raise ShapeError(odd) from error


def _applied(
    kind: Any,
    form: str,
    framework: Framework,
    data: dict[str, Any],
    shapes: Mapping[str, tuple[int, int]],
    sizes: Mapping[str, int],
    rest: tuple[Any, ...],
    settings: Settings,
) -> Any:
    parts: dict[str, tuple[Any, Any, Any]] = {}
    for name, shape in shapes.items():
        part = _sparse_parts(framework, name, data[name], shape)
        if part is not None:
            parts[name] = part
    patterns: dict[str, Pattern] = {}
    orders: dict[str, NDArray[np.int32]] = {}
    if parts:
        for name, shape in shapes.items():
            given = parts.get(name)
            patterns[name], order, data[name] = _on_pattern(name, data[name], given, shape)
            if order is not None:
                orders[name] = order
    for name, value in data.items():
        if value is None:
            # Of a type that decides no other.
            data[name] = np.zeros(shapes[name] if name in shapes else sizes[name], dtype=bool)
    function = _function(form, sizes["q"], patterns, orders, rest, settings)
    latest = function.latest
    place: list[Outcome] = []
    before = latest.place  # a solver may make such calls itself
    latest.place = place
    try:
        solution = kind(*framework.apply(function, list(data.values())))
    finally:
        latest.place = before
    # Inside of vmap the call has more batch axes than who made it knows of.
    if place and place[-1].axes == solution.x.ndim - 1:
        solution.__dict__["outcome"] = place[-1]
    return solution


def _function(
    form: str,
    n: int,
    patterns: Mapping[str, Pattern],
    orders: Mapping[str, NDArray[np.int32]],
    rest: tuple[Any, ...],
    settings: Settings,
) -> SolveFunction:
    """The function of a structure and settings; the latest are kept, with their sessions."""

    def make() -> SolveFunction:
        return SolveFunction(_MODELS[form](n, patterns, *rest), settings, orders)

    if settings.key is None:
        return make()
    by_name = tuple([(name, p.key, id(orders.get(name))) for name, p in patterns.items()])
    key = (form, n, rest, by_name, settings.key)
    with _cache_lock:
        found = _cache.get(key)
        if found is None:
            # The entry holds the solver and the orders, so that their ids are not given away.
            found = _cache[key] = make()
            if len(_cache) > _CACHED:
                _cache.popitem(last=False)
        else:
            _cache.move_to_end(key)
    return found


def _sparse_parts(
    framework: Framework, name: str, value: Any, shape: tuple[int, int]
) -> tuple[Any, Any, Any] | None:
    if value is None or type(value) is np.ndarray:
        return None
    if isinstance(value, SPARSE):
        coo = coordinates(name, value)
        parts: tuple[Any, Any, Any] | None = (coo.row, coo.col, coo.data)
    else:
        try:
            parts = framework.sparse_parts(value)
        except (ParameterError, ShapeError) as error:
            raise type(error)(f"{name}: {error}") from error
    if parts is not None and tuple(value.shape) != shape:
        batched = (
            ""
            if len(value.shape) < 3
            else (
                ". A sparse matrix has no batch axes: make the batch dense, or solve its programs "
                "one by one"
            )
        )
        raise ShapeError(
            f"the sparse {name} has shape {tuple(value.shape)}; expected {shape}{batched}"
        )
    return parts


def _on_pattern(
    name: str, value: Any, parts: tuple[Any, Any, Any] | None, shape: tuple[int, int]
) -> tuple[Pattern, NDArray[np.int32] | None, Any]:
    """The pattern, the order of the given values in it (None: as they are), and the values."""
    if parts is not None:
        rows, columns, values = parts
        return *_known(rows, columns, shape, name), values
    if value is None:
        pattern, none = Pattern.of(sparse.csc_matrix(shape))
        return pattern, None, none
    if not hasattr(value, "shape"):
        value = np.asarray(value, dtype=np.float64)
    if tuple(value.shape[-2:]) != shape:
        raise ShapeError(f"{name} has shape {tuple(value.shape)}; expected {shape}")
    lead = tuple(value.shape[:-2])
    values = value.swapaxes(-1, -2).reshape(*lead, shape[0] * shape[1])
    return Pattern.full(shape), None, values


_patterns: list[tuple[Pattern, NDArray[np.int32] | None]] = []


def _known(
    rows: Any, columns: Any, shape: tuple[int, int], name: str = "matrix"
) -> tuple[Pattern, NDArray[np.int32] | None]:
    """The pattern with these entries and their order in it; the latest are kept.

    They are compared, not hashed: that takes a third of the time, and no copy of the indices,
    which the caller may write to.
    """
    with _cache_lock:
        latest = list(_patterns)
    found = next((one for one in latest if _same(*one, rows, columns, shape)), None)
    if found is None:
        found = _ordered(rows, columns, shape, name)
    with _cache_lock:
        others = [one for one in _patterns if one is not found]
        _patterns[:] = [found, *others[: _CACHED - 1]]
    return found


_SIGNED = (np.dtype(np.int32), np.dtype(np.int64))


def _same(
    pattern: Pattern,
    order: NDArray[np.int32] | None,
    rows: Any,
    columns: Any,
    shape: tuple[int, int],
) -> bool:
    """Whether these entries are those of the pattern, in this order."""
    if pattern.shape != shape or pattern.nnz != len(rows):
        return False
    if _kernel.kernel is not None and rows.dtype == columns.dtype and rows.dtype in _SIGNED:
        entries = map(np.ascontiguousarray, (rows, columns))
        return bool(_kernel.kernel.same(pattern.indptr, pattern.indices, order, *entries))
    if order is not None:
        rows = rows[order]
    if not (pattern.indices == rows).all():
        return False
    if order is not None:
        columns = columns[order]
    return bool((pattern.columns == columns).all())


def _ordered(
    rows: Any, columns: Any, shape: tuple[int, int], name: str = "matrix"
) -> tuple[Pattern, NDArray[np.int32] | None]:
    count = len(rows)
    numbers = np.arange(1.0, count + 1.0)  # from 1: a value of 0 would be dropped
    try:
        matrix = sparse.coo_matrix((numbers, (rows, columns)), shape=shape)
    except ValueError as error:  # out of range
        raise ParameterError(f"the sparse {name} has indices of no entry: {error}") from error
    pattern, numbered = Pattern.of(matrix)
    if pattern.nnz != count:
        raise ShapeError(
            f"the sparse {name} has duplicate entries; sum them first (coalesce() in torch, "
            "sum_duplicates() in JAX)"
        )
    order = numbered.astype(np.int32) - np.int32(1)
    return pattern, None if (order == np.arange(count)).all() else order


def _is_sparse(framework: Framework, value: Any) -> bool:
    return isinstance(value, SPARSE) or framework.sparse_parts(value) is not None


def _size(name: str, value: Any) -> int:
    """Length of the last axis of a vector argument."""
    if value is None:
        raise ShapeError(f"{name} is missing; expected a vector, or a batch of vectors")
    shape = value.shape if hasattr(value, "shape") else np.shape(value)
    if len(shape) == 0:
        raise ShapeError(f"{name} is a single number; expected a vector, or a batch of vectors")
    return int(shape[-1])


def _rows_or_none(matrix: Any, vector: Any) -> tuple[Any, Any]:
    """None for both where both are empty vectors, which is how other packages write no rows."""
    if getattr(matrix, "shape", None) == (0,) == getattr(vector, "shape", None):
        return None, None
    return matrix, vector


def _rows(matrix_name: str, matrix: Any, name: str, value: Any) -> int:
    if (matrix is None) != (value is None):
        missing, other = (name, matrix_name) if value is None else (matrix_name, name)
        raise ShapeError(f"{other} is given without {missing}; give both or neither")
    return 0 if value is None else _size(name, value)
