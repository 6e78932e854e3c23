"""Calls every function of the compiled code with right and with wrong arguments, drawn from a seed.

Right arguments have to be accepted, and leave what is only read as it was. Wrong ones have to be
refused with an exception of Python's or be harmless: nothing may be read or written beyond an
array, which the sanitizers of `make sanitize` see. What decides where something is read or written
is changed between two calls, and by other threads during a call.

    python tools/fuzz_kernel.py --calls 20000 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ffoadapt import _kernel
from ffoadapt._kernel.measures import FIGURES
from ffoadapt._kernel.polyhedral import LIMITS

REFUSALS = (ValueError, TypeError, IndexError, OverflowError, MemoryError, BufferError)
"""What a wrong argument may raise; a `SystemError` would be a mistake of ours."""

NUMBERS = [0, 1, -1, 2, 3, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**61 - 1, 2**61, 2**62 - 1]
NUMBERS += [2**62, 2**62 + 1, 2**63 - 1, 2**63, 2**64, -(2**31), -(2**62), -(2**63), None, 1.5]

LARGE = 40
"""The order of matrices from which on the functions release the GIL."""

Rng = np.random.Generator


@dataclass
class Call:
    """Right arguments of a function, which of them are written, and which are none to replace."""

    name: str
    arguments: list[Any]
    written: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    arrays: list[Any] = field(default_factory=list)
    """Those that a batch looks into, for whoever wants to change them."""

    def __call__(self) -> Any:
        return getattr(_kernel.kernel, self.name)(*self.arguments)


# -------------------------------------------------------------------------- right arguments


def sizes(rng: Rng, large: bool) -> tuple[int, int, int]:
    """n, m and B; also 0."""
    if large:
        return LARGE, int(rng.integers(1, LARGE)), int(rng.integers(4, 9))
    return int(rng.integers(0, 6)), int(rng.integers(0, 6)), int(rng.integers(0, 4))


def definite(rng: Rng, count: int, n: int) -> Any:
    """(count, n, n)"""
    root = rng.normal(size=(count, n, n))
    return root @ root.transpose(0, 2, 1) + np.eye(n)


def shared(rng: Rng, size: int) -> int:
    """How many elements an array has: all, or one for all."""
    return 1 if rng.random() < 0.3 else size


def memory(rng: Rng, large: bool) -> Call:
    return Call("memory", [int(rng.integers(0, 1 << 20 if large else 1 << 8))])


def cholesky(rng: Rng, large: bool) -> Call:
    n, _, size = sizes(rng, large)
    P = definite(rng, size, n)
    return Call("cholesky", [n, P, np.empty_like(P), 1e-9, 1e-8], (2,))


def all_finite(rng: Rng, large: bool) -> Call:
    return Call("all_finite", [rng.normal(size=sizes(rng, large)[0])])


def row_squares(rng: Rng, large: bool) -> Call:
    n, m, size = sizes(rng, large)
    return Call("row_squares", [m, n, rng.normal(size=(size, m, n)), np.empty((size, m))], (3,))


def measure(rng: Rng, large: bool) -> Call:
    n, m, size = sizes(rng, large)
    P, A = definite(rng, shared(rng, size), n), rng.normal(size=(shared(rng, size), m, n))
    q, b = rng.normal(size=(shared(rng, size), n)), rng.normal(size=(shared(rng, size), m))
    x, s, z = rng.normal(size=(size, n)), rng.normal(size=(size, m)), rng.normal(size=(size, m))
    kinds = rng.integers(0, 3, m).astype(np.int8)
    begin, end = part(rng, size)
    at = [n, m, begin, end, P, q, A, b, (A**2).sum(-1), x, s, z, kinds, bool(rng.integers(2))]
    out = np.empty((size, m), bool), np.empty((size, FIGURES))
    return Call("measure", [*at, LIMITS, *out], (15, 16))


def vectors(rng: Rng, rows: int, n: int, count: int) -> list[Any]:
    """z, zeta, w and x of products."""
    few = int(rng.integers(1, count + 1)) if count else 0
    return [rng.normal(size=(k, d)) for k, d in ((few, rows), (count, rows), (count, n), (few, n))]


def products(rng: Rng, large: bool) -> Call:
    n, rows, count = (1 + k for k in sizes(rng, large))
    given = [rows, n, *part(rng, count), -1.0, *vectors(rng, rows, n, count)]
    return Call("products", [*given, np.empty((count, rows, n))], (9,))


def pattern(rng: Rng, rows: int, n: int) -> tuple[Any, Any]:
    """indptr and indices"""
    there = rng.random((n, rows)) < 0.4
    indptr = np.concatenate(([0], np.cumsum(there.sum(1)))).astype(np.int32)
    return indptr, np.nonzero(there)[1].astype(np.int32)


def products_on_pattern(rng: Rng, large: bool) -> Call:
    n, rows, count = (1 + k for k in sizes(rng, large))
    n, rows = (3 * n, 3 * rows) if large else (n, rows)
    indptr, indices = pattern(rng, rows, n)
    group = count if rng.random() < 0.5 else 1
    given = [rows, n, group, 1.0, indptr, indices, *vectors(rng, rows, n, count)]
    return Call("products_on_pattern", [*given, np.empty((count // group, indices.size))], (10,))


def equilibrate(rng: Rng, large: bool) -> Call:
    n = 4 * LARGE if large else int(rng.integers(0, 8))
    indptr, indices = pattern(rng, n, n)
    given = [4, 2.0, indptr, indices, rng.random(indices.size)]
    return Call("equilibrate", [*given, np.ones(n)], (4, 5))


def same_entries(rng: Rng, large: bool) -> Call:
    n, rows, _ = sizes(rng, large)
    indptr, indices = pattern(rng, rows, n)
    order = rng.permutation(indices.size)
    kind = rng.choice([np.int32, np.int64])
    mixed = [np.empty(indices.size, kind) for _ in range(2)]
    mixed[0][order], mixed[1][order] = indices, np.repeat(np.arange(n), np.diff(indptr))
    return Call("same_entries", [indptr, indices, order.astype(np.int32), *mixed])


def forms(rng: Rng, large: bool) -> tuple[int, int, int, list[Any]]:
    """n, m, B and the arrays of `distance`."""
    n, m, size = sizes(rng, large)
    n += 1
    P, A = definite(rng, shared(rng, size), n), rng.normal(size=(shared(rng, size), m, n))
    q, lower = rng.normal(size=(shared(rng, size), n)), rng.normal(size=(size, m))
    upper = np.where(rng.random((size, m)) < 0.3, lower, lower + 1.0)
    U = np.linalg.cholesky(P).transpose(0, 2, 1).copy() if rng.random() < 0.5 else None
    room = m * n + 2 * m + 3 * n + (m + 1) // 2 + (n * n if U is None else 0)
    state = np.zeros((size, room))
    return n, m, size, [P, q, A, lower, upper, U, state, np.empty(size, np.int32)]


def to_least_distance(rng: Rng, large: bool) -> Call:
    n, m, _, arrays = forms(rng, large)
    return Call("to_least_distance", [n, m, 0.0, 1e-5, 1e-6, *arrays], (11, 12))


def from_least_distance(rng: Rng, large: bool) -> Call:
    n, m, size, arrays = forms(rng, large)
    _kernel.kernel.to_least_distance(n, m, 0.0, 1e-5, 1e-6, *arrays)
    t, found = rng.normal(size=(size, n)), rng.normal(size=(size, m))
    out = np.empty((size, n)), np.empty((size, m))
    return Call("from_least_distance", [n, m, *arrays, t, found, *out], (12, 13))


def part(rng: Rng, size: int) -> tuple[int, int]:
    begin, end = sorted(int(k) for k in rng.integers(0, size + 1, 2))
    return (0, size) if rng.random() < 0.5 else (begin, end)


def prepare(rng: Rng, large: bool, batch: Any = None) -> Call:
    n, m, size = sizes(rng, large)
    P, A = definite(rng, shared(rng, size), n), rng.normal(size=(shared(rng, size), m, n))
    active = rng.random((size, m)) < 0.3
    active[:, n:] = False
    if rng.random() < 0.3:  # rows that depend on each other
        A[:, m // 2 :] = 2.0 * A[:, : m - m // 2]
        active |= rng.random((size, m)) < 0.7
    U = np.linalg.cholesky(P).transpose(0, 2, 1).copy() if rng.random() < 0.3 else None
    curved, arrays = None, [P, A, active]
    if m > 2 and rng.random() < 0.5:
        U, (curved, more) = None, cones(rng, m, size)
        arrays += more
    near = None if batch is None else tuple([(batch[0], i % batch[1]) for i in range(size)])
    near = near if batch is None or batch[1] else None
    given = [n, m, size, P, A, active, U, curved, near]
    counts, borrowed = np.empty(size, np.int64), np.empty(size, bool)
    return Call("prepare", [*given, counts, borrowed], (9, 10), arrays=arrays)


def cones(rng: Rng, m: int, size: int) -> tuple[Any, list[Any]]:
    """The weights and blocks of `prepare`, and their arrays."""
    blocks, arrays = [], [np.where(rng.random((size, m)) < 0.5, 0.0, rng.random((size, m)))]
    for _ in range(int(rng.integers(0, 3))):
        dim = int(rng.integers(1, 4))
        count = int(rng.integers(1, max(m // dim, 1) + 1)) if m >= dim else 1
        dim = dim if m >= dim else 1
        start = int(rng.integers(0, m - count * dim + 1))
        g, r = int(rng.integers(0, 3)), int(rng.integers(0, 3))
        G, has = rng.normal(size=(size, count, g, dim)), rng.random((size, count, g)) < 0.5
        R, sigma = rng.normal(size=(size, count, r, dim)), rng.normal(size=(size, count, r))
        blocks.append((start, count, dim, G, has, R, sigma))
        arrays += [G, has, R, sigma]
    return (arrays[0], tuple(blocks)), arrays


def made(rng: Rng, large: bool) -> tuple[Any, Call]:
    """A batch, perhaps with factors of another one, and how it was made."""
    first = prepare(rng, large)
    batch = first()
    size = first.arguments[2]
    _kernel.kernel.factorize(batch, 0, size, 1e-8, np.empty(size, bool), np.empty(size, np.int64))
    if rng.random() < 0.5:
        return batch, first
    first = prepare(rng, large)
    near = tuple([None if rng.random() < 0.2 else (batch, i % size) for i in range(size)])
    if size == first.arguments[2]:
        first.arguments[8] = near
    return first(), first


def factorize(rng: Rng, large: bool) -> Call:
    batch, call = made(rng, large)
    size = call.arguments[2]
    at = [batch, *part(rng, size), 1e-8, np.empty(size, bool), np.empty(size, np.int64)]
    return Call("factorize", at, (4, 5), arrays=call.arrays)


def solve(rng: Rng, large: bool) -> Call:
    batch, call = made(rng, large)
    n, m, size = call.arguments[:3]
    _kernel.kernel.factorize(batch, 0, size, 1e-8, np.empty(size, bool), np.empty(size, np.int64))
    K = int(rng.integers(0, 4))
    K = K if n + m else 0
    v_x, v_z = rng.normal(size=(K, size, n)), rng.normal(size=(K, size, m))
    limit = np.inf if rng.random() < 0.5 else 1e-14
    out = np.empty_like(v_x), np.empty_like(v_z), np.empty(size)
    at = [batch, *part(rng, size), limit, v_x, v_z, *out]
    return Call("solve", at, (6, 7, 8), arrays=call.arrays)


def bounds_suffice(rng: Rng, large: bool) -> Call:
    batch, call = made(rng, large)
    n, m, size = call.arguments[:3]
    _kernel.kernel.factorize(batch, 0, size, 1e-8, np.empty(size, bool), np.empty(size, np.int64))
    given = rng.normal(size=n), rng.normal(size=m), rng.random((shared(rng, size), m))
    at = [batch, *part(rng, size), *given, rng.random((size, FIGURES)), rng.random(size)]
    return Call("bounds_suffice", [*at, 1e-16, 1e-3, 1e-3, 1e-9], arrays=call.arrays)


@ctypes.CFUNCTYPE(None, *[ctypes.POINTER(ctypes.c_double)] * 2)
def write(out: Any, given: Any) -> None:
    out[0] = given[0]


def call_each(rng: Rng, large: bool) -> Call:
    count = int(rng.integers(0, 5))
    arrays = [np.zeros(count), rng.normal(size=count)]
    places = tuple([array.ctypes.data for array in arrays])
    address = ctypes.cast(write, ctypes.c_void_p).value
    # Which addresses are good nobody can check: `wrong_each` has the rest.
    return Call("call_each", [address, count, places, (8, 8)], kept=(0, 1, 2, 3), arrays=arrays)


def share_interrupts(rng: Rng, large: bool) -> Call:
    """Paths of libraries that are none: handlers of this process stay what they are."""
    count = int(rng.integers(0, 100 if large else 4))
    return Call("share_interrupts", [tuple([f"/nothing/{k}/lib.so" for k in range(count)])])


def interrupted_since(rng: Rng, large: bool) -> Call:
    return Call("interrupted_since", [float(rng.normal(scale=1e6))])


def watch_interrupts(rng: Rng, large: bool) -> Call:
    return Call("watch_interrupts", [float(rng.normal())])


RIGHT: dict[str, Callable[[Rng, bool], Call]] = {
    function.__name__: function
    for function in (
        *(memory, cholesky, all_finite, row_squares, measure, products, products_on_pattern),
        *(equilibrate, same_entries, to_least_distance, from_least_distance),
        *(prepare, factorize, solve, bounds_suffice, call_each),
        *(share_interrupts, watch_interrupts, interrupted_since),
    )
}


# -------------------------------------------------------------------------- wrong arguments


def wrong_array(rng: Rng, array: Any, others: list[Any]) -> Any:
    """An array that is something else: another size, type, order, place, or other numbers."""
    flat, plain = array.ravel(), np.uint64 if array.dtype.hasobject else array.dtype
    ways: list[Callable[[], Any]] = [
        lambda: flat[: max(flat.size - int(rng.integers(1, 4)), 0)].copy(),
        lambda: np.concatenate((flat, flat[:1], flat)),
        lambda: flat[:0].copy(),
        lambda: np.repeat(flat, 2)[::2],
        lambda: np.asfortranarray(array),
        lambda: array.astype(array.dtype.newbyteorder()),
        lambda: flat.astype(rng.choice([np.float32, np.int64, np.int8, np.complex128, object])),
        lambda: np.ndarray(array.shape, plain, bytes(array.nbytes)),
        lambda: np.ndarray(array.shape, plain, bytearray(array.nbytes + 1), offset=1),
        lambda: bytes(array.nbytes),
        lambda: memoryview(flat).cast("B") if flat.size else memoryview(b""),
        lambda: others[int(rng.integers(len(others)))],
        lambda: rng.choice([None, 3, "x"]),
        lambda: array.tolist(),
        lambda: wild(rng, array),
        lambda: wild(rng, array),
    ]
    return ways[int(rng.integers(len(ways)))]()


def wild(rng: Rng, array: Any) -> Any:
    """The same array with some other numbers in it."""
    found = np.array(array)
    if found.dtype.kind == "i":
        values = np.array([-1, 0, 1, 2, 5, 99, 2**31 - 1, -(2**31)])
    elif found.dtype.kind == "b":
        values = np.array([True, False])
    else:
        values = np.array([np.nan, np.inf, -np.inf, 0.0, 1e308, 5e-324, -1.0])
    some = rng.random(found.shape) < 0.5
    found[some] = rng.choice(values, int(some.sum())).astype(found.dtype)
    return found


def spoil(rng: Rng, call: Call) -> None:
    """Replaces one or two arguments."""
    places = [k for k in range(len(call.arguments)) if k not in call.kept]
    if not places:
        call.arguments.append(None)
        return
    for k in rng.choice(places, int(rng.integers(1, 3))):
        call.arguments[k] = spoiled(rng, call, call.arguments[k])


def spoiled(rng: Rng, call: Call, value: Any) -> Any:
    arrays = [a for a in call.arguments if isinstance(a, np.ndarray)]
    if isinstance(value, np.ndarray):
        return wrong_array(rng, value, arrays)
    if isinstance(value, bool | float):
        return rng.choice(np.array([np.nan, np.inf, -1.0, 0.0, None, "x"], dtype=object))
    if isinstance(value, int):
        return [*NUMBERS, value - 1, value + 1][int(rng.integers(len(NUMBERS) + 2))]
    if isinstance(value, tuple) and value:
        parts = list(value)
        k = int(rng.integers(len(parts)))
        if rng.random() < 0.2:
            parts.pop(k)
        else:
            parts[k] = spoiled(rng, call, parts[k])
        return tuple(parts)
    return [None, 3, (), (None,), object(), value][int(rng.integers(6))]


def wrong_each(rng: Rng) -> Call:
    """What `each` can see to be wrong."""
    place, address = np.zeros(2).ctypes.data, ctypes.cast(write, ctypes.c_void_p).value
    ways: list[list[Any]] = [
        [0, 1, (place, place), (8, 8)],
        [address, -1, (place, place), (8, 8)],
        [address, 2**62, (place, place), (8, 8)],
        [address, 4, (place, place), (8, 2**63 - 1)],
        [address, 3, (place, place), (-(2**63), 8)],
        [address, 1, (place, 0), (8, 8)],
        [address, 1, (place, "x"), (8, 8)],
        [address, 1, (place, place), (8,)],
        [address, 1, (), ()],
        [address, 1, (place,) * 5, (8,) * 5],
        [2**64, 1, (place, place), (8, 8)],
        [address, 1, (place, 2**70), (8, 8)],
        [address, 1, [place, place], (8, 8)],
        [write, 1, (place, place), (8, 8)],
    ]
    return Call("call_each", ways[int(rng.integers(len(ways)))])


# -------------------------------------------------------------------------------- the trials


def accepted(call: Call) -> None:
    """Right arguments are, and what is only read does not change."""
    read = [k for k in range(len(call.arguments)) if k not in call.written]
    arrays = [call.arguments[k] for k in read if isinstance(call.arguments[k], np.ndarray)]
    before = [array.copy() for array in arrays]
    found = call()
    for array, old in zip(arrays, before, strict=True):
        assert np.array_equal(array, old), f"{call.name} has changed an array that it only reads"
    if call.name == "memory":
        np.frombuffer(found, np.uint8)[:] = 1
    if call.name == "same_entries":
        assert found, "the entries of a pattern are not recognized"
    if call.name == "call_each":
        assert np.array_equal(*call.arrays)


def refused(rng: Rng, call: Call) -> bool:
    """Whether wrong arguments are; they may also be harmless."""
    try:
        found = call()
    except REFUSALS:
        return True
    if call.name == "prepare":  # what it made has to be good for something, or to say no
        size = call.arguments[2]
        with contextlib.suppress(*REFUSALS):
            _kernel.kernel.factorize(found, 0, size, 1e-8, np.empty(size, bool))
    return False


def changed(rng: Rng, call: Call) -> None:
    """What a batch looks into changes before it is used."""
    array = call.arrays[int(rng.integers(len(call.arrays)))]
    matters, before = array.dtype.kind == "b" or array.ndim == 2, array.copy()
    if rng.random() < 0.3 and array.size:
        array.resize(int(rng.integers(0, 3)), refcheck=False)
    elif array.size:
        array[...] = wild(rng, array)
    same = array.tobytes() == before.tobytes()
    try:
        call()
    except ValueError:
        assert not same, f"{call.name} has seen a change where there is none"
    else:
        assert same or (array.size == before.size and not matters), f"{call.name} saw no change"


def disturbed(rng: Rng, call: Call) -> None:
    """Two threads call it with the same arguments, while a third changes its arrays."""
    arrays = [a for a in [*call.arguments, *call.arrays] if isinstance(a, np.ndarray)]
    numbers = [wild(rng, array) for array in arrays]
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            for array, other in zip(arrays, numbers, strict=True):
                array[...], other[...] = other.copy(), array.copy()

    def work() -> None:
        for _ in range(2):
            with contextlib.suppress(*REFUSALS):
                call()

    threads = [threading.Thread(target=target) for target in (work, work, change)]
    for thread in threads:
        thread.start()
    for thread in threads[:2]:
        thread.join()
    done.set()
    threads[2].join()


def fuzz(calls: int, seed: int) -> Counter[str]:
    """So many calls, in turn of all functions; what they were."""
    names = {name for name in dir(_kernel.kernel) if not name.startswith("_")}
    assert names == set(RIGHT), f"functions that are not called here, or gone: {names ^ set(RIGHT)}"
    seen: Counter[str] = Counter()
    for k in range(calls):
        rng = np.random.default_rng((seed, k))
        name = list(RIGHT)[k % len(RIGHT)]
        kind = rng.choice(["right", "wrong", "changed", "disturbed"], p=[0.2, 0.63, 0.14, 0.03])
        call = RIGHT[name](rng, bool(rng.random() < (0.8 if kind == "disturbed" else 0.05)))
        if kind == "changed" and name in ("factorize", "solve", "bounds_suffice"):
            if call.arguments[1] < call.arguments[2]:
                changed(rng, call)
        elif kind == "disturbed" and name not in ("call_each", "memory"):
            disturbed(rng, call)
        elif kind == "wrong":
            call = wrong_each(rng) if name == "call_each" else call
            if name != "call_each":
                spoil(rng, call)
            kind = "refused" if refused(rng, call) else "harmless"
            assert name != "call_each" or kind == "refused", call.arguments
        else:
            kind = "right"
            accepted(call)
        seen[str(kind)] += 1
    return seen


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if _kernel.compiled is None:
        raise SystemExit("the package was built without a compiler: there is nothing to call")
    sys.setswitchinterval(1e-4)  # threads take turns often
    with np.errstate(all="ignore"):
        seen = fuzz(options.calls, options.seed)
    print(f"{options.calls} calls, seed {options.seed}: {dict(seen)}")


if __name__ == "__main__":
    main()
