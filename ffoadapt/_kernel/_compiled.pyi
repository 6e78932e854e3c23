"""The compiled functions and their twins; arrays are C-contiguous, of float64, int64 and bool.

`c/` says what each does."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

def memory(size: int, /) -> Any: ...
def prepare(
    n: int,
    m: int,
    size: int,
    P: Floats,
    A: Floats,
    active: NDArray[np.bool_],
    U: Floats | None,
    curved: tuple[Floats, tuple[Any, ...]] | None,
    nearby: tuple[tuple[Any, int] | None, ...] | None,
    counts: NDArray[np.int64],
    reused: NDArray[np.bool_],
    /,
) -> Any: ...
def factorize(
    batch: Any, begin: int, end: int, share: float, fine: NDArray[np.bool_], /
) -> None: ...
def solve(
    batch: Any,
    begin: int,
    end: int,
    limit: float,
    v_x: Floats,
    v_z: Floats,
    w: Floats,
    zeta: Floats,
    residual: Floats,
    /,
) -> None: ...
def bounds_suffice(
    batch: Any,
    begin: int,
    end: int,
    signs_x: Floats,
    signs_z: Floats,
    squares: Floats,
    figures: Floats,
    margins: Floats,
    rounding: float,
    sure: float,
    brief: float,
    small: float,
    /,
) -> bool: ...
def cholesky(n: int, P: Floats, U: Floats, asymmetry: float, share: float, /) -> bool: ...
def all_finite(*arrays: Floats) -> bool: ...
def row_squares(m: int, n: int, A: Floats, out: Floats, /) -> None: ...
def measure(
    n: int,
    m: int,
    begin: int,
    end: int,
    P: Floats,
    q: Floats,
    A: Floats,
    b: Floats,
    squares: Floats,
    x: Floats,
    s: Floats,
    z: Floats,
    kinds: NDArray[np.int8],
    exact: bool,
    limits: tuple[float, float, float, float, float, float, float, float],
    active: NDArray[np.bool_],
    figures: Floats,
    /,
) -> None: ...
def products(
    rows: int,
    n: int,
    begin: int,
    end: int,
    sign: float,
    z: Floats,
    zeta: Floats,
    w: Floats,
    x: Floats,
    out: Floats,
    /,
) -> None: ...
def products_on_pattern(
    rows: int,
    n: int,
    group: int,
    sign: float,
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    z: Floats,
    zeta: Floats,
    w: Floats,
    x: Floats,
    out: Floats,
    /,
) -> None: ...
def equilibrate(
    rounds: int,
    near: float,
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    magnitudes: Floats,
    scale: Floats,
    /,
) -> None: ...
def same_entries(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    order: NDArray[np.int32] | None,
    rows: NDArray[np.signedinteger[Any]],
    columns: NDArray[np.signedinteger[Any]],
    /,
) -> bool: ...
def to_least_distance(
    n: int,
    m: int,
    least: float,
    pivot: float,
    dependent: float,
    P: Floats,
    q: Floats,
    A: Floats,
    l: Floats,
    u: Floats,
    U: Floats | None,
    state: Floats,
    equalities: NDArray[np.int32],
    /,
) -> None: ...
def from_least_distance(
    n: int,
    m: int,
    P: Floats,
    q: Floats,
    A: Floats,
    l: Floats,
    u: Floats,
    U: Floats | None,
    state: Floats,
    equalities: NDArray[np.int32],
    t: Floats,
    dual: Floats,
    x: Floats,
    multipliers: Floats,
    /,
) -> None: ...
def call_each(
    function: int, count: int, addresses: tuple[int, ...], steps: tuple[int, ...], /
) -> None: ...
def share_interrupts(paths: tuple[str, ...], /) -> int: ...
def watch_interrupts(seconds: float, /) -> None: ...
def interrupted_since(start: float, /) -> bool: ...
