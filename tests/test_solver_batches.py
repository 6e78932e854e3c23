"""Solvers that take a whole batch: what they are given, what may come back, and `call_each`."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import ffoadapt
from ffoadapt import Session, Solution, Status, _kernel
from ffoadapt.experimental import Solutions, call_each
from ffoadapt.testing import ReferenceSolver

SIZE, N = 5, 3


class Together(ReferenceSolver):
    """Solves a batch by solving its elements, and keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.alone = 0

    def solve(self, program, options, session):
        self.alone += 1
        return super().solve(program, options, session)

    def solve_batch(self, programs, options, session):
        self.given.append(programs)
        names = "P", "q", "G", "h", "A", "b"
        found = [
            super(Together, self).solve(
                ffoadapt.SplitForm(*(getattr(programs, name)[i] for name in names)),
                options,
                session,
            )
            for i in range(len(programs.q))
        ]
        x = np.array([one.x for one in found])
        dual = tuple(np.array(part) for part in zip(*(one.dual for one in found), strict=True))
        return Solutions(x, dual, [one.status for one in found], [{"i": i} for i in range(len(x))])


def data(seed: int = 0) -> dict[str, Any]:
    """Programs that share P, A and G."""
    rng = np.random.default_rng(seed)
    return {
        "P": np.eye(N) + 0.1,
        "q": rng.standard_normal((SIZE, N)),
        "G": rng.standard_normal((2, N)),
        "h": rng.uniform(0.1, 1.0, (SIZE, 2)),
        "A": np.ones((1, N)),
        "b": rng.standard_normal((SIZE, 1)),
    }


def solved(numbers: dict[str, Any], solver: Any, **settings: Any) -> Any:
    """A `LayerResult`, which has statuses and infos."""
    one = (v[0] if len(v) == SIZE else v for v in numbers.values())
    program = ffoadapt.ConeProgram.from_split(*one)
    layer = ffoadapt.Layer(program.model, solver=solver, **settings)
    return layer.solve(*numbers.values())


def test_a_batch_is_handed_over_at_once() -> None:
    solver = Together()
    sol = solved(data(), solver, executor="serial")
    assert (len(solver.given), solver.alone) == (1, 0)
    programs = solver.given[0]
    shapes = [getattr(programs, name).shape for name in ("P", "q", "G", "h", "A", "b")]
    assert shapes == [(5, 3, 3), (5, 3), (5, 2, 3), (5, 2), (5, 1, 3), (5, 1)]
    assert programs.P.strides[0] == 0  # shared, not copied
    expected = ffoadapt.qp(**data(), solver=ReferenceSolver, executor="serial")
    for ours, theirs in zip(sol.variables, expected, strict=True):
        assert np.array_equal(ours, theirs)
    assert [info["i"] for info in sol.info] == list(range(SIZE))


@pytest.mark.parametrize("form", ["box", "cone"])
def test_other_views(form: str) -> None:
    class Viewed(ffoadapt.Solver):
        matrices = ("dense",)
        given: Any = None

        def solve(self, program, options, session):
            raise AssertionError

        def solve_batch(self, programs, options, session):
            Viewed.given = Viewed.given or programs  # the first, before anything else is tried
            rows = programs.A.shape[1]
            status = [Status.ERROR] * SIZE
            return Solutions(np.zeros((SIZE, N)), np.zeros((SIZE, rows)), status, [{}] * SIZE)

    Viewed.form = form
    numbers = data()
    numbers["h"][2, 1] = np.inf
    sol = ffoadapt.qp(**numbers, solver=Viewed, on_failure="nan")
    assert np.isnan(sol.x).all()
    given = Viewed.given
    if form == "box":
        assert given.l.shape == given.u.shape == (SIZE, 3)
        assert np.array_equal(given.l == given.u, np.tile([True, False, False], (SIZE, 1)))
        assert given.u[2, 2] == np.inf
    else:  # a row that constrains nothing has become 0'x + s = 1
        assert given.b.shape == (SIZE, 3)
        assert given.b[2, 2] == 1.0
        assert not given.A[2, 2].any()
        assert given.A[1, 2].any()
        assert [cone.kind for cone in given.cones] == ["zero", "nonnegative"]


def test_what_it_does_not_take_is_solved_one_by_one() -> None:
    class Picky(Together):
        def solve_batch(self, programs, options, session):
            return None

    solver = Picky()
    ffoadapt.qp(**data(), solver=solver)
    assert solver.alone == SIZE


@pytest.mark.parametrize(
    "more", [{"warm_start": True}, {"solver_options": {"time_limit": 60.0}}], ids=str
)
def test_starts_and_time_limits_are_for_one_by_one(more: dict[str, Any]) -> None:
    class Patient(Together):
        def known_options(self):
            return (*super().known_options(), "time_limit")

        def solve(self, program, options, session):
            options = {k: v for k, v in options.items() if k != "time_limit"}
            return super().solve(program, options, session)

    solver = Patient()
    ffoadapt.qp(**data(), solver=solver, **more)
    assert (len(solver.given), solver.alone) == (0, SIZE)


def test_an_element_without_a_chance_sends_the_batch_one_by_one() -> None:
    solver = Together()
    numbers = data()
    numbers["h"][1, 0] = -np.inf
    sol = solved(numbers, solver, on_failure="nan")
    assert (len(solver.given), solver.alone) == (0, SIZE - 1)
    assert sol.status == [Status.OPTIMAL, Status.PRIMAL_INFEASIBLE, *[Status.OPTIMAL] * 3]


def test_one_program_is_solved_as_one() -> None:
    solver = Together()
    numbers = {k: v[0] if len(v) == SIZE else v for k, v in data().items()}
    ffoadapt.qp(**numbers, solver=solver)
    assert (len(solver.given), solver.alone) == (0, 1)


def test_sparse_programs_are_solved_one_by_one() -> None:
    class Sparse(Together):
        matrices = ("sparse",)

        def solve(self, program, options, session):
            dense = (program.P.toarray(), program.q, program.G.toarray(), program.h)
            split = ffoadapt.SplitForm(*dense, program.A.toarray(), program.b)
            return super().solve(split, options, session)

    solver = Sparse()
    ffoadapt.qp(**data(), solver=solver)
    assert (len(solver.given), solver.alone) == (0, SIZE)


def test_failed_elements_are_nan_and_the_others_are_not() -> None:
    class Half(Together):
        def solve_batch(self, programs, options, session):
            found = super().solve_batch(programs, options, session)
            found.status[1] = Status.ITERATION_LIMIT
            found.x[3, 0] = np.nan
            return found

    limited = {"max_iterations": 60}  # and so nothing else is tried
    sol = solved(data(), Half, on_failure="nan", polish=False, solver_options=limited)
    assert [status.solved for status in sol.status] == [True, False, True, False, True]
    assert sol.status[3] is Status.ERROR
    assert np.isnan(sol.variables[0][[1, 3]]).all()
    assert np.isfinite(sol.variables[0][[0, 2, 4]]).all()
    with pytest.raises(ffoadapt.SolveError, match="batch element 1"):
        ffoadapt.qp(**data(), solver=Half, polish=False, solver_options=limited)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: Solutions(s.x[0], s.dual, s.status, s.info), r"shape \(3,\), not \(5, 3\)"),
        (lambda s: Solutions(s.x, s.dual[:1], s.status, s.info), "ValueError"),
        (lambda s: Solutions(s.x, s.dual, s.status[:2], s.info), "not 5 statuses"),
        (lambda s: Solutions(s.x, s.dual, ["optimal"] * SIZE, s.info), "AttributeError"),
        (lambda s: [Solution(s.x[0], s.dual)], "AttributeError"),
    ],
    ids=["x", "dual", "status", "words", "list"],
)
def test_what_is_no_answer_is_an_error(change: Any, words: str) -> None:
    class Wrong(Together):
        def solve_batch(self, programs, options, session):
            return change(super().solve_batch(programs, options, session))

    with pytest.raises(ffoadapt.SolveError, match=f"solve_batch: .*{words}"):
        ffoadapt.qp(**data(), solver=Wrong)


def test_the_session_is_empty_after_an_exception() -> None:
    class Raising(Together):
        sessions: list[Session] = []

        def solve_batch(self, programs, options, session):
            Raising.sessions.append(session)
            session["kept"] = 1
            raise RuntimeError("no more")

    with pytest.raises(ffoadapt.SolveError, match="no more") as caught:
        ffoadapt.qp(**data(), solver=Raising, executor="serial")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert Raising.sessions == [{}]


def test_rows_in_any_order() -> None:
    """The duals of a split view go to their canonical rows, wherever these are."""
    rng = np.random.default_rng(1)
    cones = [ffoadapt.NonnegativeCone(1), ffoadapt.ZeroCone(1), ffoadapt.NonnegativeCone(2)]
    A = np.vstack((np.eye(N)[:1], np.ones(N), np.eye(N)[1:]))  # x <= b and a sum
    b, q = rng.uniform(0.1, 1.0, (SIZE, 4)), 5.0 * rng.standard_normal((SIZE, N))
    solver = Together()
    together = ffoadapt.cone_program(np.eye(N), q, A, b, cones, solver=solver, executor="serial")
    assert len(solver.given) == 1
    alone = ffoadapt.cone_program(np.eye(N), q, A, b, cones, solver=ReferenceSolver)
    for ours, theirs in zip(together, alone, strict=True):
        assert np.array_equal(ours, theirs)
    assert (np.abs(together.z[:, 1]) > 1e-3).any()
    assert (np.abs(together.z[:, [0, 2, 3]]) > 1e-3).any(axis=0).all()


def test_threads_do_parts() -> None:
    solver = Together()
    sol = ffoadapt.qp(**data(), solver=solver, executor="threads")
    sizes = [len(programs.q) for programs in solver.given]
    assert sum(sizes) == SIZE
    assert np.array_equal(sol.x, ffoadapt.qp(**data(), solver=ReferenceSolver).x)


def test_the_check_tells_a_batch_of_its_own_mind() -> None:
    class Rough(Together):
        def solve_batch(self, programs, options, session):
            found = super().solve_batch(programs, options, session)
            return Solutions(found.x + 1e-13, found.dual, found.status, found.info)

    good, bad = (ffoadapt.check_solver(solver) for solver in (Together, Rough))
    assert good.ok, str(good)
    assert sum(r.check == "solve_batch" and r.outcome == "passed" for r in good.results)
    failed = {result.check for result in bad.failures}
    assert failed == {"solve_batch"}


# --------------------------------------------------------------------------------- call_each


@pytest.fixture(params=["compiled", "ctypes"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "ctypes":
        monkeypatch.setattr(_kernel, "kernel", _kernel.reference)
    elif _kernel.compiled is None:
        pytest.skip("the package was built without a compiler")


def function(pointers: int, seen: list[Any]) -> Any:
    """A C function that writes the sum of what it reads to where its first pointer shows."""
    number = ctypes.POINTER(ctypes.c_double)

    def call(*at: Any) -> None:
        seen.append(tuple(place[0] for place in at))
        at[0][0] = sum(seen[-1])

    return ctypes.CFUNCTYPE(None, *[number] * pointers)(call)


@pytest.mark.parametrize("pointers", [1, 2, 3, 4])
def test_each_element_is_called_once(kernel: None, pointers: int) -> None:
    seen: list[Any] = []
    arrays = [100.0 * k + np.arange(12.0).reshape(4, 3) for k in range(pointers)]
    before = [array.copy() for array in arrays]
    call_each(function(pointers, seen), *arrays)
    assert seen == [tuple(array[k, 0] for array in before) for k in range(4)]
    assert np.array_equal(arrays[0][:, 0], np.sum(seen, axis=1))
    assert np.array_equal(arrays[0][:, 1:], before[0][:, 1:])


def test_what_is_shared_and_what_has_strides(kernel: None) -> None:
    seen: list[Any] = []
    wide, one = np.arange(12.0).reshape(2, 6)[:, ::2], np.array([7.0])
    every_second = np.arange(4.0)[::2]
    call_each(function(3, seen), wide, every_second, one)
    assert seen == [(0.0, 0.0, 7.0), (6.0, 2.0, 7.0)]
    call_each(function(1, seen), np.empty((0, 3)))
    assert len(seen) == 2


def test_arrays_of_several_lengths_are_refused(kernel: None) -> None:
    with pytest.raises(ValueError, match="they have 4, 3"):
        call_each(function(2, []), np.zeros(4), np.zeros(3))
    with pytest.raises(ValueError, match="one to four"):
        call_each(function(1, []))
    with pytest.raises(ValueError, match="one to four"):
        call_each(function(1, []), *[np.zeros(1)] * 5)


def test_a_structure_may_hold_addresses(kernel: None) -> None:
    """As adapters use it: structures whose fields point to numbers elsewhere."""
    kind = np.dtype([("n", "i4"), ("at", "u8")], align=True)
    numbers, given = np.arange(6.0).reshape(3, 2), np.zeros(3, kind)
    given["n"], given["at"] = 2, numbers.ctypes.data + 16 * np.arange(3)
    out = np.zeros(3)

    class Given(ctypes.Structure):
        _fields_ = (("n", ctypes.c_int), ("at", ctypes.POINTER(ctypes.c_double)))

    def total(result: Any, one: Any) -> None:
        result[0] = sum(one[0].at[k] for k in range(one[0].n))

    kinds = ctypes.POINTER(ctypes.c_double), ctypes.POINTER(Given)
    call_each(ctypes.CFUNCTYPE(None, *kinds)(total), out, given)
    assert out.tolist() == [1.0, 5.0, 9.0]


def test_programs_without_rows() -> None:
    solver = Together()
    q = np.arange(6.0).reshape(3, 2)
    sol = ffoadapt.qp(np.eye(2), q, solver=solver)
    np.testing.assert_allclose(sol.x, -q, atol=1e-9)
