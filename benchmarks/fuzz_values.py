"""Arguments for `fuzz`: what fits, and what people and programs hand in instead."""

from __future__ import annotations

import array
import tempfile
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

__all__ = ["mangled", "odd_settings", "snapshot"]

Rng = np.random.Generator

EXTREME = (
    *(np.nan, np.inf, -np.inf, 1e308, -1e308, 1.7e308, 5e-324, 1e-310, -1e-310, 1e-300),
    *(1e160, -1e160, 1e-160, 1e30, -1e30, 1e20, 1e16, -1e16, 1e-16, 0.0, -0.0, -1.0),
)

DTYPES = (
    *("f2", "f4", "f4", "f4", "g", "i1", "i4", "i8", "u1", "u8", "?", "c8", "c16", "O", "U6", "S6"),
    *(">f8", "<f8", "M8[s]", "m8[s]", "V8"),
)


class Mine(np.ndarray):
    """A subclass of ndarray."""


class Bare:
    """An object that is no array at all."""

    def __repr__(self) -> str:
        return "Bare()"


class Arrays:
    """An object with __array__ alone."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.value, dtype=dtype)


# --- one value turned into another ----------------------------------------------------------------


def number(rng: Rng, a: np.ndarray) -> Any:
    """One entry, a few or all of them become extreme."""
    a, value = a.astype(float), EXTREME[rng.integers(len(EXTREME))]
    how = rng.integers(3)
    if how == 0 and a.size:
        a.flat[rng.integers(a.size)] = value
    elif how == 1:
        a[rng.uniform(size=a.shape) < 0.5] = value
    else:
        a = np.full(a.shape, value)
    return a


def scaled(rng: Rng, a: np.ndarray) -> Any:
    with np.errstate(all="ignore"):
        return a * 10.0 ** rng.choice([-320, -310, -160, -30, -16, -8, 8, 16, 30, 160, 308])


def symmetric(rng: Rng, a: np.ndarray) -> Any:
    """Of a square matrix: extreme entries on its diagonal, so that it stays symmetric."""
    a = np.array(a, dtype=float)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2] or not a.size:
        return number(rng, a)
    k = rng.integers(a.shape[-1])
    a[..., k, :] = a[..., :, k] = 0.0
    a[..., k, k] = EXTREME[rng.integers(len(EXTREME))]
    return a


def typed(rng: Rng, a: np.ndarray) -> Any:
    dtype = np.dtype(DTYPES[rng.integers(len(DTYPES))])
    if dtype.kind in "Mm":
        return a.astype("i8").astype(dtype)
    return np.zeros(a.shape, dtype) if dtype.kind == "V" else a.astype(dtype)


def reshaped(rng: Rng, a: np.ndarray) -> Any:
    makers: tuple[Callable[[], Any], ...] = (
        lambda: a[None],
        lambda: a[None][:0],
        lambda: np.stack([a, a]),
        lambda: np.stack([a, a, a]),
        lambda: np.stack([a, a])[:, None],
        lambda: a[0] if a.ndim else a,
        lambda: a.T,
        lambda: a[..., :-1] if a.ndim else a,
        lambda: np.append(a, 1.0),
        lambda: a.ravel(),
        lambda: np.float64(1.5),
        lambda: np.zeros(0),
        lambda: np.zeros((0, 0)),
        lambda: np.zeros((*a.shape, 0)),
        lambda: a[..., None],
        lambda: np.zeros((1,) * 40),
    )
    return makers[rng.integers(len(makers))]()


def laid_out(rng: Rng, a: np.ndarray) -> Any:
    """The same numbers elsewhere in memory, or in another kind of array."""
    makers: tuple[Callable[[], Any], ...] = (
        lambda: np.asfortranarray(a),
        lambda: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
        lambda: a[..., ::-1].copy()[..., ::-1] if a.ndim else a,
        lambda: np.broadcast_to(a[..., :1], a.shape) if a.ndim and a.size else a,
        lambda: a.view(Mine),
        lambda: on_disk(a),
        lambda: np.ma.array(a),
        lambda: np.ma.array(a, mask=rng.uniform(size=a.shape) < 0.5),
        lambda: np.ma.array(a, mask=True),
        lambda: np.asmatrix(a) if a.ndim <= 2 else a,
        lambda: unaligned(a),
        lambda: a.astype(">f8"),
        lambda: np.rec.array(a),
    )
    found = makers[rng.integers(len(makers))]()
    if rng.uniform() < 0.5 and type(found) in (np.ndarray, Mine):
        found.flags.writeable = False
    return found


@lru_cache(maxsize=1)
def folder() -> Any:
    return tempfile.TemporaryDirectory(prefix="fuzz")


def on_disk(a: np.ndarray) -> np.ndarray:
    """A memory map, read-only."""
    if not a.size:
        return a
    path = Path(folder().name) / "map"
    path.unlink(missing_ok=True)
    path.write_bytes(np.ascontiguousarray(a, dtype=float).tobytes())
    return np.memmap(path, dtype=float, mode="r", shape=a.shape)


def unaligned(a: np.ndarray) -> np.ndarray:
    raw = np.zeros(a.size * 8 + 1, np.uint8)
    found = raw[1:].view(float).reshape(a.shape)
    found[...] = a
    return found


def python(rng: Rng, a: np.ndarray) -> Any:
    """No array: lists and worse."""
    makers: tuple[Callable[[], Any], ...] = (
        a.tolist,
        lambda: tuple(a.tolist()) if a.ndim else a.tolist(),
        lambda: [*a.tolist(), [1.0, 2.0]] if a.ndim else [[1.0], [1.0, 2.0]],
        lambda: [1.0, [1.0, 2.0]],
        lambda: np.array([1.0, [1, 2]], dtype=object),
        lambda: None,
        lambda: "abc",
        lambda: b"abc",
        lambda: ["x"] * max(a.size, 1),
        lambda: {"a": 1.0},
        lambda: {1.0, 2.0},
        lambda: (v for v in a.ravel().tolist()),
        lambda: range(a.size),
        lambda: array.array("d", a.ravel().tolist()),
        lambda: memoryview(np.ascontiguousarray(a)),
        lambda: [10**400] * max(a.size, 1),
        lambda: np.array([10**400] * a.size, dtype=object).reshape(a.shape),
        lambda: [Fraction(1, 3)] * a.size,
        lambda: [Decimal("0.1")] * a.size,
        lambda: [None] * a.size,
        lambda: [np.nan] * a.size,
        lambda: [True] * a.size,
        lambda: 3,
        lambda: 1.5,
        lambda: 10**400,
        lambda: True,
        lambda: 1j,
        lambda: Bare(),
        lambda: Arrays(a),
        lambda: Bare,
        lambda: [Bare()] * max(a.size, 1),
        lambda: [],
        lambda: [[]],
    )
    return makers[rng.integers(len(makers))]()


def compressed(rng: Rng, a: np.ndarray) -> Any:
    """A scipy matrix of any kind, whole or broken."""
    if a.ndim != 2:
        a = np.atleast_2d(a) if a.ndim < 2 else a.reshape(-1, a.shape[-1])
    if rng.uniform() < 0.4:
        a = a * (rng.uniform(size=a.shape) < 0.6)
    kinds: tuple[Callable[[Any], Any], ...] = (
        *(sparse.csc_matrix, sparse.csr_matrix, sparse.coo_matrix, sparse.csc_array),
        *(sparse.csr_array, sparse.coo_array, sparse.lil_matrix, sparse.dia_matrix),
        *(sparse.dok_matrix, sparse.bsr_matrix),
    )
    found = kinds[rng.integers(len(kinds))](a)
    how = rng.integers(12)
    values = getattr(found, "data", None)
    if how == 0 and isinstance(values, np.ndarray) and values.dtype == float and values.size:
        values.flat[rng.integers(values.size)] = EXTREME[rng.integers(len(EXTREME))]
    elif how == 1:
        found = found.astype([np.float32, np.int64, np.complex128, bool][rng.integers(4)])
    elif how == 2:
        found = sparse.coo_array(np.stack([a, a])) if hasattr(sparse, "coo_array") else found
    elif how >= 6 and hasattr(found, "indptr"):
        corrupt(rng, found)
    elif how == 3 and isinstance(found, sparse.coo_matrix | sparse.coo_array) and found.nnz:
        rows = found.coords[0] if hasattr(found, "coords") else found.row
        if rows.flags.writeable:
            rows[rng.integers(rows.size)] = rng.choice([-1, 10**6, 2**31 - 1])
    return found


def corrupt(rng: Rng, matrix: Any) -> None:
    """Break the indices of a compressed matrix."""
    which = matrix.indices if rng.uniform() < 0.6 else matrix.indptr
    if not which.size:
        return
    how = rng.integers(5)
    if how == 0:
        which[rng.integers(which.size)] = rng.choice([-1, -5, 7, 99, 10**6, 2**31 - 1, -(2**31)])
    elif how == 1:
        which[:] = which[::-1].copy()
    elif how == 2:
        which[:] = which[0]
    elif how == 3:
        matrix.data = matrix.data[:-1]
    else:
        matrix.indices = matrix.indices[:-1]


WAYS: tuple[tuple[Callable[[Rng, np.ndarray], Any], float], ...] = (
    (number, 0.2),
    (scaled, 0.13),
    (symmetric, 0.08),
    (typed, 0.13),
    (reshaped, 0.13),
    (laid_out, 0.13),
    (python, 0.1),
    (compressed, 0.1),
)


def mangled(rng: Rng, value: Any) -> Any:
    """Something else in the place of an array."""
    way = WAYS[rng.choice(len(WAYS), p=[share for _, share in WAYS])][0]
    with np.errstate(all="ignore"):
        try:
            found = way(rng, np.asarray(value, dtype=float))
        except (ValueError, TypeError, OverflowError, IndexError):  # it cannot be made of this one
            return value
    if type(found) is np.ndarray and found.ndim and rng.uniform() < 0.2:
        found.flags.writeable = False
    return found


# --- settings -------------------------------------------------------------------------------------

NUMBERS = (
    *(1e-6, 1e-9, 1e-12, 1e-3, 0, 0.0, -1, -1.0, 1, 2, 5, 2.5, 1e-300, 1e300, 10**400, True),
    *(np.nan, np.inf, -np.inf, "tight", "1e-6", None, np.float32(1e-5), np.int64(10), 1j, [1e-6]),
    *((), {}, np.array(1e-6), np.array([1e-6, 1e-6]), Bare(), b"1", 2**31, 2**63, 10**30),
)


def odd_settings(rng: Rng, solvers: list[str]) -> dict[str, Any]:
    """Keyword arguments next to the data: mostly fitting."""
    found: dict[str, Any] = {}

    def pick(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    if rng.uniform() < 0.45:
        found["solver"] = str(rng.choice(solvers))
    elif rng.uniform() < 0.04:
        found["solver"] = pick(None, 3, "", "nothing", Bare(), Bare, [], ["osqp"], b"osqp", np.nan)
    if rng.uniform() < 0.12:
        options: dict[Any, Any] = {}
        for _ in range(int(rng.integers(1, 3))):
            names = ("tolerance", "max_iterations", "time_limit", "verbose", "eps", "max_iters")
            name = pick(*names, *names, "nothing", "", 1, None, b"tol", ("a",))
            options[name] = NUMBERS[rng.integers(len(NUMBERS))]
        found["solver_options"] = options
    elif rng.uniform() < 0.01:
        found["solver_options"] = pick([], 3, "tolerance", [("tolerance", 1e-6)], {}, Bare(), ())
    if rng.uniform() < 0.3:
        found["on_failure"] = "nan"
    odd = rng.uniform()
    if odd < 0.02:
        found["on_failure"] = pick("none", None, 3, np.nan, np.array(["nan", "nan"]))
    elif odd < 0.05:
        found["polish"] = pick(True, False, "auto", "no", None, np.array([1, 2]), 1)
    elif odd < 0.07:
        found["degenerate"] = pick("keep", "drop", "least_squares", "auto", "x", None, 1)
    elif odd < 0.09:
        found["smoothing"] = pick(0.1, 1e-6, 0, -1, np.nan, np.inf, "x", None, True, 10**400, 1e300)
    elif odd < 0.11:
        found["executor"] = pick("serial", "threads", "auto", "x", None, 3, Bare())
    elif odd < 0.13:
        found["accept_inaccurate"] = pick(True, False, None, "x", 1)
    elif odd < 0.15:
        found["warm_start"] = pick(True, False, None, "x")
    elif odd < 0.16:
        found[pick("nothing", "tolerance", "solver_option", "P")] = 1
    return found


# --- whether anybody wrote into an argument -------------------------------------------------------


def snapshot(value: Any) -> Any:
    """What a value is, bit for bit, to compare with later."""
    if isinstance(value, np.ma.MaskedArray):
        return snapshot(value.data), snapshot(np.ma.getmaskarray(value))
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return repr(value.tolist())
        return value.shape, str(value.dtype), value.tobytes(), value.flags.writeable
    if sparse.issparse(value):
        names = ("data", "indices", "indptr", "row", "col", "offsets")
        parts = (getattr(value, name, None) for name in names)
        kept = tuple(snapshot(v) if isinstance(v, np.ndarray) else None for v in parts)
        return type(value).__name__, value.shape, kept
    if isinstance(value, dict):
        return tuple((repr(k), snapshot(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(snapshot, value))
    if hasattr(value, "detach"):
        return snapshot(value.detach().cpu().numpy())
    return repr(value) if isinstance(value, int | float | str | bytes) else type(value).__name__
