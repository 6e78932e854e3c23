"""What the compiled code does with arguments that are not what they should be: it says no.

`make sanitize` runs these, and the fuzz, where anything beyond an array ends the process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffoadapt import _kernel
from ffoadapt._kernel.measures import FIGURES

if _kernel.compiled is None:
    pytest.skip("the package was built without a compiler", allow_module_level=True)

kernel: Any = _kernel.kernel

FUZZ = Path(__file__).resolve().parents[1] / "tools" / "fuzz_kernel.py"

N, M, SIZE = 3, 4, 2


def test_every_function_is_fuzzed() -> None:
    """A few calls, in a process of their own; it counts the functions too."""
    command = [sys.executable, str(FUZZ), "--calls", "1500", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout and "changed" in done.stdout


# ---------------------------------------------------------------- what changes between two calls


class Batch:
    """A batch with curved cones, its arrays, and what is called with it."""

    def __init__(self, near: Any = None) -> None:
        rng = np.random.default_rng(4)
        self.P, self.A = np.eye(N)[None].copy(), rng.normal(size=(SIZE, M, N))
        self.active = np.array([[True, False, False, False], [False, True, False, False]])
        self.weight = np.array([[0.0, 0.5, 0.0, 0.0], [0.2, 0.0, 0.0, 0.0]])
        self.G, self.R = (rng.normal(size=(SIZE, 1, 2, 2)) for _ in range(2))
        self.has = np.array([[[True, False]], [[False, True]]])
        self.sigma = np.array([[[0.3, 0.0]], [[0.0, 0.4]]])
        block = 2, 1, 2, self.G, self.has, self.R, self.sigma
        curved = self.weight, (block,)
        self.counts, self.borrowed = np.empty(SIZE, np.int64), np.zeros(SIZE, bool)
        given = self.P, self.A, self.active, None, curved, near, self.counts, self.borrowed
        self.capsule = kernel.prepare(N, M, SIZE, *given)
        self.fine = np.zeros(SIZE, bool)

    def factorize(self) -> None:
        kernel.factorize(self.capsule, 0, SIZE, 1e-8, self.fine, np.empty(SIZE, np.int64))

    def solve(self) -> Any:
        v_x, v_z = np.ones((1, SIZE, N)), np.ones((1, SIZE, M))
        w, zeta, residual = np.empty_like(v_x), np.empty_like(v_z), np.empty(SIZE)
        kernel.solve(self.capsule, 0, SIZE, 1e-14, v_x, v_z, w, zeta, residual)
        return w

    def settled(self) -> None:
        given = np.ones(N), np.ones(M), np.ones((1, M)), np.ones((SIZE, FIGURES)), np.ones(SIZE)
        kernel.bounds_suffice(self.capsule, 0, SIZE, *given, 1e-16, 1e-3, 1e-3, 1e-9)


@pytest.mark.parametrize("name", ["active", "weight", "has", "sigma"])
@pytest.mark.parametrize("call", [Batch.factorize, Batch.solve, Batch.settled])
def test_rows_that_change_after_prepare(name: str, call: Callable[[Batch], Any]) -> None:
    """More rows than there is memory for, or fewer; put back, all is well again."""
    batch = Batch()
    batch.factorize()
    assert batch.fine.all() and batch.counts.tolist() == [2, 2]
    expected, array = batch.solve(), getattr(batch, name)
    for value in (True, False):
        before = array.copy()
        array[...] = value
        with pytest.raises(ValueError, match="changed since prepare"):
            call(batch)
        array[...] = before
    batch.factorize()
    assert np.array_equal(batch.solve(), expected)


@pytest.mark.parametrize("name", ["P", "A", "active", "weight", "G", "has", "R", "sigma"])
def test_arrays_that_move_after_prepare(name: str) -> None:
    """NumPy frees their memory where it is told not to look who uses it."""
    batch = Batch()
    batch.factorize()
    getattr(batch, name).resize(100_000, refcheck=False)
    for call in (batch.factorize, batch.solve, batch.settled):
        with pytest.raises(ValueError, match="changed since prepare"):
            call()


@pytest.mark.parametrize("near", [3, [None] * SIZE, (None,), (3, None), ((3, 0), None)])
def test_neighbours_that_are_none(near: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Batch(near)


def test_batches_that_are_none() -> None:
    for wrong in (None, 3, kernel.memory(8)):
        with pytest.raises(ValueError, match="PyCapsule"):
            kernel.factorize(wrong, 0, 1, 1e-8, np.empty(1, bool), np.empty(1, np.int64))


# ----------------------------------------------------------------- pointers, indices and orders

INDPTR, INDICES = np.array([0, 2, 3], np.int32), np.array([0, 1, 1], np.int32)


@pytest.mark.parametrize(
    ("indptr", "indices"),
    [
        ([0, 99, 3], [0, 1, 1]),
        ([0, -1, 3], [0, 1, 1]),
        ([1, 2, 3], [0, 1, 1]),
        ([0, 2, 4], [0, 1, 1]),
        ([0, 3], [0, 1, 1]),
        ([], [0, 1, 1]),
        ([0, 2, 3], [0, 2, 1]),
        ([0, 2, 3], [0, -1, 1]),
    ],
)
def test_patterns_that_are_none(indptr: list[int], indices: list[int]) -> None:
    at = np.array(indptr, np.int32), np.array(indices, np.int32)
    ones = [np.ones((1, 2)) for _ in range(4)]
    with pytest.raises(ValueError, match="sizes that fit"):
        kernel.products_on_pattern(2, 2, 1, 1.0, *at, *ones, np.empty((1, 3)))
    with pytest.raises(ValueError, match="sizes that fit"):
        kernel.equilibrate(3, 2.0, *at, np.ones(3), np.ones(2))
    if indices == INDICES.tolist() and indptr != [0, 3]:
        with pytest.raises(ValueError, match="sizes that fit"):
            kernel.same_entries(*at, None, np.array([0, 1, 1]), np.array([0, 0, 1]))


def test_rounds_without_end() -> None:
    """NaN is never near 1."""
    at = np.array([0, 1], np.int32), np.zeros(1, np.int32), np.full(1, np.nan), np.ones(1)
    kernel.equilibrate(1000, 2.0, *at)
    with pytest.raises(ValueError, match="too many rounds"):
        kernel.equilibrate(2**31 - 1, 2.0, *at)


def test_orders_that_are_none() -> None:
    rows, columns = np.array([0, 1, 1]), np.array([0, 0, 1])
    assert kernel.same_entries(INDPTR, INDICES, np.arange(3, dtype=np.int32), rows, columns)
    for order in ([0, 1, 3], [0, 1, -1], [0, 1]):
        with pytest.raises(ValueError, match="sizes that fit"):
            kernel.same_entries(INDPTR, INDICES, np.array(order, np.int32), rows, columns)


@pytest.mark.parametrize("what", ["count", "order"])
@pytest.mark.parametrize("value", [-2, 3, 2**31 - 1])
def test_a_form_that_is_not_what_was_left(what: str, value: int) -> None:
    """The number of equalities and the order of the rows say where multipliers are written."""
    rng = np.random.default_rng(5)
    lower, upper = np.zeros((1, M)), np.ones((1, M))
    upper[0, 2] = 0.0
    state, sizes = np.zeros((1, M * N + 2 * M + 3 * N + M // 2 + N * N)), np.empty(1, np.int32)
    arrays = np.eye(N)[None] + 1, np.ones((1, N)), rng.normal(size=(1, M, N)), lower, upper, None
    kernel.to_least_distance(N, M, 0.0, 1e-5, 1e-6, *arrays, state, sizes)
    assert sizes[0] == 1
    start = M * N + 2 * M + 3 * N
    order = state[0, start : start + M // 2].view(np.int32)
    assert order.tolist() == [2, 0, 1, 3]
    vectors = np.ones((1, N)), np.ones((1, M)), np.empty((1, N)), np.empty((1, M))
    kernel.from_least_distance(N, M, *arrays, state, sizes, *vectors)
    (sizes if what == "count" else order)[0] = value
    with pytest.raises(ValueError, match="not what distance left"):
        kernel.from_least_distance(N, M, *arrays, state, sizes, *vectors)


# ---------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("n", [2**31 - 1, 2**31, 2**61, 2**62 - 1, 2**63 - 1, -1, -(2**63)])
def test_sizes_whose_products_overflow(n: int) -> None:
    """Modulo 2^64 they fit arrays without entries."""
    none, some = np.empty(0), np.ones(1)
    pointers, entries = np.zeros(0, np.int32), np.empty(0, np.int32)
    bools, whole = np.empty(0, bool), np.empty(0, np.int64)
    calls: list[tuple[Any, ...]] = [
        (kernel.row_squares, 1, n, none, some),
        (kernel.row_squares, n, 1, none, some),
        (kernel.products, n, 1, 0, 1, 1.0, none, none, some, some, none),
        (kernel.products, 1, n, 0, 1, 1.0, some, some, none, none, none),
        (kernel.products, 1, 1, 0, n, 1.0, some, some, some, some, some.copy()),
        (kernel.products_on_pattern, 1, n, 1, 1.0, pointers, entries, none, none, none, none, none),
        (kernel.products_on_pattern, n, n, 1, 1.0, pointers, entries, none, none, none, none, none),
        (kernel.prepare, n, 1, 1, none, none, bools, None, None, None, whole, bools),
        (kernel.prepare, 0, n, 1, none, none, bools, None, None, None, whole, bools),
        (kernel.prepare, n, n, n, none, none, bools, None, None, None, whole, bools),
        (kernel.prepare, 1, 0, n, some, none, bools, None, None, None, whole, bools),
        (
            kernel.to_least_distance,
            n,
            0,
            0.0,
            0.1,
            0.1,
            *[none] * 5,
            None,
            none,
            np.ones(1, np.int32),
        ),
        (
            kernel.to_least_distance,
            1,
            n,
            0.0,
            0.1,
            0.1,
            some,
            some,
            *[none] * 3,
            None,
            none,
            entries,
        ),
    ]
    for function, *arguments in calls:
        with pytest.raises((ValueError, OverflowError, MemoryError)):
            function(*arguments)
    if n > 0:
        with pytest.raises((MemoryError, OverflowError)):
            kernel.memory(n if n >= 2**61 else n << 31)


def test_factors_of_nothing() -> None:
    """No matrices, of an order of which there can be none."""
    assert kernel.cholesky(2**15, np.empty(0), np.empty(0), 1.0, 0.1)
    for n in (2**31 - 1, -1):
        with pytest.raises(ValueError, match="same size"):
            kernel.cholesky(n, np.empty(0), np.empty(0), 1.0, 0.1)


# --------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    "A",
    [
        np.ones((1, 2, 6), np.float32),
        np.ones((1, 2, 3), np.int64),
        np.ones((1, 2, 3), ">f8"),
        np.ones((1, 2, 3), np.complex128)[:, :1],
        np.ones((1, 2, 6))[:, :, ::2],
        np.ones((1, 3, 2)).transpose(0, 2, 1),
        np.ndarray((1, 2, 3), np.float64, bytearray(49), offset=1),
        bytes(48),
        [[[1.0] * 3] * 2],
        None,
    ],
)
def test_arrays_of_another_kind(A: Any) -> None:
    out = np.empty((1, 2))
    with pytest.raises((TypeError, ValueError, BufferError)):
        kernel.row_squares(2, 3, A, out)
    kernel.row_squares(2, 3, np.full((1, 2, 3), 2.0), out)
    assert out.tolist() == [[12.0, 12.0]]


def test_an_array_that_is_written_is_nothing_else() -> None:
    both = np.ones(12)
    for A, out in ((both, both[:4]), (both[:6], both[5:7]), (both[2:8], both[6:8])):
        shape = (1, out.size, A.size // out.size)
        with pytest.raises(ValueError, match="overlaps"):
            kernel.row_squares(*shape[1:], A[: shape[1] * shape[2]].reshape(shape), out)
    kernel.row_squares(2, 3, both[:6], both[6:8])
    assert both[6:8].tolist() == [3.0, 3.0]
    alone = np.ones(6)
    alone.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        kernel.row_squares(2, 2, np.ones(4), alone[:2])


def test_calls_of_functions_by_address() -> None:
    """What `each` can see: sizes, types, and steps that lead out of the memory there is."""
    place = np.zeros(2).ctypes.data
    for wrong in (
        (0, 1, (place,), (8,)),
        (place, -1, (place,), (8,)),
        (place, 2**61, (place,), (8,)),
        (place, 2, (place,), (-(2**63),)),
        (place, 1, (0,), (8,)),
        (place, 1, (), ()),
        (place, 1, (place,) * 5, (8,) * 5),
        (place, 1, (place, place), (8,)),
    ):
        with pytest.raises(ValueError, match="each"):
            kernel.call_each(*wrong)
    with pytest.raises((TypeError, OverflowError)):
        kernel.call_each(2**70, 1, (place,), (8,))
    with pytest.raises(TypeError):
        kernel.call_each("free", 1, (place,), (8,))
