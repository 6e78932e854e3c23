"""The least-distance form: its solutions are those of the program, and it is not made where P or
the equalities are nearly singular."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffoadapt import BoxForm
from ffoadapt.experimental import LeastDistance

pytestmark = pytest.mark.skipif(
    not LeastDistance.available(), reason="the package was built without a compiler"
)

Case = tuple[BoxForm, Any, Any]


def program(n: int, m: int, p: int, seed: int = 0, diagonal: bool = False) -> Case:
    """A program, its x and its y: p equalities, then rows of all kinds, their order mixed."""
    rng = np.random.default_rng([seed, n, m, p])
    M = rng.standard_normal((n, n))
    P = np.diag(rng.uniform(0.5, 2.0, n)) if diagonal else M @ M.T / n + 0.1 * np.eye(n)
    A, x = rng.standard_normal((m, n)), rng.standard_normal(n)
    kind = rng.permutation(np.concatenate((np.zeros(p, int), 1 + np.arange(m - p) % 6)))
    y = np.select([kind == 0, kind == 1, kind == 2], [rng.standard_normal(m), 1.0, -1.0], 0.0)
    y[np.flatnonzero(y * (kind > 0))[max(0, (n - p) // 2) :]] = 0.0  # no more than fit
    Ax, gap = A @ x, rng.uniform(0.5, 1.5, (2, m))
    u = np.where((kind == 0) | (y > 0.0), Ax, Ax + gap[0])
    l = np.where((kind == 0) | (y < 0.0), Ax, Ax - gap[1])
    u[kind == 3] = u[kind == 5] = np.inf
    l[kind == 4] = l[kind == 5] = -np.inf
    return BoxForm(P, -P @ x - A.T @ y, A, l, u), x, y


def together(boxes: list[BoxForm], factors: bool = False) -> BoxForm:
    data = [np.stack([getattr(box, name) for box in boxes]) for name in ("P", "q", "A", "l", "u")]
    box = BoxForm(*data)
    if factors:
        box._cholesky = np.ascontiguousarray(np.linalg.cholesky(data[0]).swapaxes(1, 2))
    return box


def solution(form: LeastDistance, i: int, y: Any) -> tuple[Any, Any]:
    """t and the multipliers of its rows, those of the active rows given by ``y``: least distance
    means t + rows' dual = 0."""
    rows, lower, upper = form.program(i)
    dual = y[form.order[i, y.size - lower.size :]]
    t = -rows.T @ dual
    at, on = rows @ t, np.abs(dual) > 0.0
    np.testing.assert_allclose(at[on], np.where(dual > 0.0, upper, lower)[on], atol=1e-9)
    assert (at <= upper + 1e-9).all()
    assert (at >= lower - 1e-9).all()
    return t, dual


@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("n", [1, 2, 7, 40, 100])
@pytest.mark.parametrize(
    "share", [(0.0, 0.0), (0.0, 0.6), (0.0, 2.0), (0.3, 1.0), (0.6, 1.5), (0.6, 0.6)]
)
def test_known_solutions(n: int, share: tuple[float, float], factors: bool) -> None:
    p, m = int(share[0] * n), int(share[1] * n)
    cases = [program(n, m, p, seed) for seed in range(3)]
    form = LeastDistance(together([box for box, _, _ in cases], factors))
    if n == 1 and not p:  # P is diagonal
        assert form.equalities.tolist() == [-1, -1, -1]
        return
    assert form.equalities.tolist() == [p, p, p]
    t, dual = np.full((3, n), np.nan), np.full((3, m), np.nan)
    for i, (_, _, y) in enumerate(cases):
        t[i, : n - p], dual[i, : m - p] = solution(form, i, y)
    found_x, found_y = form.restore(t, dual)
    for i, (_, x, y) in enumerate(cases):
        np.testing.assert_allclose(found_x[i], x, atol=1e-9)
        np.testing.assert_allclose(found_y[i], y, atol=1e-9)


def test_elements_differ_in_what_they_are() -> None:
    """Of one batch: equalities in other rows and numbers, and one that has no form."""
    cases = [program(30, 40, p, seed=p) for p in (0, 5, 35, 12)]  # the third: p >= n
    form = LeastDistance(together([box for box, _, _ in cases]))
    assert form.equalities.tolist() == [0, 5, -1, 12]
    t, dual = np.zeros((4, 30)), np.zeros((4, 40))
    for i, (_, x, y) in enumerate(cases):
        k = form.equalities[i]
        if k < 0:
            t[i], dual[i] = x, y
        else:
            t[i, : 30 - k], dual[i, : 40 - k] = solution(form, i, y)
    found_x, found_y = form.restore(t, dual)
    np.testing.assert_allclose(found_x, [x for _, x, _ in cases], atol=1e-9)
    np.testing.assert_allclose(found_y, [y for _, _, y in cases], atol=1e-9)
    alone = [LeastDistance(together([box])) for box, _, _ in cases]
    for i in (0, 1, 3):
        for ours, theirs in zip(form.program(i), alone[i].program(0), strict=True):
            assert np.array_equal(ours, theirs)


def test_shared_matrices_are_read_once_and_not_written() -> None:
    box, _, _ = program(30, 40, 5)
    size = 3
    P, A = (np.broadcast_to(v, (size, *v.shape)) for v in (box.P, box.A))  # not writeable
    rng = np.random.default_rng(0)
    q = box.q + rng.standard_normal((size, 30))
    l, u = (np.broadcast_to(v, (size, 40)) for v in (box.l, box.u))
    whole = LeastDistance(BoxForm(P, q, A, l, u))
    for i in range(size):
        one = LeastDistance(together([BoxForm(box.P, q[i], box.A, box.l, box.u)]))
        for ours, theirs in zip(whole.program(i), one.program(0), strict=True):
            assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("order", ["C", "F"])
def test_inputs_are_not_modified(order: Any) -> None:
    box = together([program(30, 40, 5)[0]], factors=True)
    arrays = [np.array(v, order=order) for v in (box.P, box.q, box.A, box.l, box.u, box._cholesky)]
    before = [v.copy() for v in arrays]
    for array in arrays:
        array.flags.writeable = False
    given = BoxForm(*arrays[:5])
    given._cholesky = arrays[5]
    assert LeastDistance(given).equalities.tolist() == [5]
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


def _changed(**changes: Any) -> BoxForm:
    box, _, _ = program(60, 75, 10)
    for name, value in changes.items():
        setattr(box, name, value)
    return box


def _dependent(equality: bool, length: float = 2.0) -> BoxForm:
    """The first equality again, in a row that is one or is none."""
    box = _changed()
    rows = np.flatnonzero((box.l == box.u) == equality)
    first = np.flatnonzero(box.l == box.u)[0]
    box.A[rows[-1]] = length * box.A[first]
    if equality:
        box.l[rows[-1]] = box.u[rows[-1]] = length * box.u[first]
    return box


def _singular(least: float) -> BoxForm:
    box = _changed()
    V, d = np.linalg.qr(box.P)[0], np.linspace(least, 1.0, 60)
    box.P = (V * d) @ V.T
    return box


@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        (_changed(), 10),
        (program(60, 40, 0, diagonal=True)[0], -1),
        (program(60, 80, 20, diagonal=True)[0], 20),
        (program(60, 100, 65)[0], -1),
        (_dependent(True), -1),
        (_dependent(False), -1),
        (_dependent(False, length=0.0), -1),
        (_singular(1e-9), -1),
        (_singular(1e-3), 10),
    ],
    ids=[
        "plain",
        "diagonal",
        "diagonal with equalities",
        "more equalities than variables",
        "dependent equality",
        "dependent inequality",
        "empty row",
        "singular",
        "not quite singular",
    ],
)
def test_where_there_is_a_form(box: BoxForm, wanted: int, factors: bool) -> None:
    assert LeastDistance(together([box], factors)).equalities.tolist() == [wanted]


@pytest.mark.parametrize("diagonal", [np.zeros(60), np.r_[np.ones(59), 0.0], -np.ones(60)])
def test_what_is_not_strictly_convex_has_no_form(diagonal: Any) -> None:
    box = _changed(P=np.diag(diagonal))
    assert LeastDistance(together([box])).equalities.tolist() == [-1]


def test_small_programs_have_none_where_it_gains_nothing() -> None:
    box = together([program(30, 40, 5)[0]])
    size = 30 * 30 * (30 + 40 - 2 * 5)
    assert LeastDistance(box, least=size).equalities.tolist() == [5]
    assert LeastDistance(box, least=size + 1).equalities.tolist() == [-1]


@pytest.mark.parametrize("where", ["P", "q", "A"])
def test_what_is_no_number_makes_no_form_or_shows(where: str) -> None:
    box = _changed()
    getattr(box, where)[0] = np.nan
    form = LeastDistance(together([box]))
    assert form.equalities[0] == -1 or np.isnan(form.program(0)[2]).any()


def test_wrong_sizes_are_refused() -> None:
    box = together([program(30, 40, 5)[0]])
    with pytest.raises(ValueError, match="sizes"):
        LeastDistance(BoxForm(box.P, box.q[:, 1:], box.A, box.l, box.u))
    form = LeastDistance(box)
    with pytest.raises(ValueError, match="sizes"):
        form.restore(np.zeros((2, 30)), np.zeros((1, 40)))
