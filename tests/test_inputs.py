"""What comes in is checked where it enters, belongs to nobody else, and options are heard."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import sparse

import ffoadapt
from ffoadapt import (
    ConeProgram,
    FFOAdaptError,
    NonnegativeCone,
    OptionError,
    ParameterError,
    ShapeError,
    SolveError,
    Status,
)
from ffoadapt._solve.options import translate_options

n = 4
rng = np.random.default_rng(11)
half = rng.normal(size=(n, n))
P, q = half @ half.T + np.eye(n), rng.normal(size=n)
G, h = rng.normal(size=(3, n)), np.array([0.2, 1.0, 0.1])


def qp(**data: Any) -> Any:
    return ffoadapt.qp(**{"P": P, "q": q, "G": G, "h": h, **data})


def program(**data: Any) -> ConeProgram:
    return ConeProgram.from_split(**{"P": P, "q": q, "G": G, "h": h, **data})


WAYS: dict[str, Callable[..., Any]] = {"qp": qp, "program": program}
every_way = pytest.mark.parametrize("way", WAYS)


def layer(**settings: Any) -> ffoadapt.Layer:
    x, p = cp.Variable(n), cp.Parameter(n)
    objective = cp.Minimize(cp.sum_squares(x - p) + cp.norm1(x))
    return ffoadapt.Layer(cp.Problem(objective, [x <= 1]), [p], [x], **settings)


# --- numbers --------------------------------------------------------------------------------------

NO_NUMBERS: dict[str, tuple[Any, str]] = {
    "words": (np.array(["1", "2", "3", "4"]), "words"),
    "bytes": (np.array([b"1"] * n), "words"),
    "dates": (np.arange(n).astype("datetime64[s]"), "dates"),
    "spans": (np.arange(n).astype("timedelta64[s]"), "spans of time"),
    "complex": (q + 0j, "complex"),
    "None": ([None, 1.0, 2.0, 3.0], "NoneType"),
    "ragged": ([[1.0, 2.0], [3.0]], "inhomogeneous"),
    "sequences": (np.array([1.0, [1, 2], 3.0, 4.0], dtype=object), "list"),
    "too large": ([10**350, 1, 2, 3], "too large"),
    "records": (np.zeros(n, dtype=[("x", float)]), "dtype"),
    "masked": (np.ma.array(q, mask=[False, True, False, False]), "1 masked"),
    "sparse": (sparse.csc_matrix(q), "sparse csc_matrix"),
}


@every_way
@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_no_numbers(way: str, kind: str) -> None:
    value, words = NO_NUMBERS[kind]
    with pytest.raises(ParameterError, match=f"(?s)q is .*{words}"):
        WAYS[way](q=value)


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_no_numbers_in_a_layer(kind: str) -> None:
    value, words = NO_NUMBERS[kind]
    found = layer()
    for call in (found, found.solve, found.check_gradients):
        with pytest.raises(ParameterError, match=words):
            call(value)
    result = found.solve(q)
    with pytest.raises(ParameterError, match=f"(?s)cotangent on .*{words}"):
        result.vjp(value)
    with pytest.raises(ParameterError, match=f"(?s)tangent of .*{words}"):
        result.jvp(value)


NUMBERS: dict[str, Any] = {
    "list": q.tolist(),
    "memory map": None,
    "big endian": q.astype(">f8"),
    "extended": q.astype(np.longdouble),
    "nothing masked": np.ma.array(q),
    "reversed": q[::-1].copy()[::-1],
    "objects": np.array([Fraction(v) for v in q], dtype=object),
}


@every_way
@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers(way: str, kind: str, tmp_path: Any) -> None:
    value = NUMBERS[kind]
    if kind == "memory map":
        value = np.memmap(tmp_path / "q", dtype=float, mode="w+", shape=n)
        value[:] = q
    value = value if isinstance(value, list) else value.copy() if kind != "reversed" else value
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    found = WAYS[way](q=value)
    x = ffoadapt.solve(found).x if way == "program" else found.x
    assert np.array_equal(x, qp().x)


def test_byte_order_in_a_call_of_jax() -> None:
    found = qp(q=jnp.asarray(q), h=h.astype(">f8")).x
    assert np.allclose(found, qp().x, atol=1e-5)


def test_integers_beyond_64_bits_are_numbers() -> None:
    many = [10**25, -(10**25), 1, 0]
    assert np.array_equal(ConeProgram.from_split(P, many).q, np.array(many, dtype=float))
    with pytest.raises(FFOAdaptError):
        qp(q=jnp.asarray(q), h=[10**400] * 3)


# --- sparse matrices ------------------------------------------------------------------------------


def _high(matrix: Any) -> None:
    matrix.indices[-1] = 17


def _low(matrix: Any) -> None:
    matrix.indices[0] = -3


def _far(matrix: Any) -> None:
    matrix.indptr[2] = 10**6


def _down(matrix: Any) -> None:
    matrix.indptr[1] = matrix.indptr[2] + 1


def _start(matrix: Any) -> None:
    matrix.indptr[0] = -1


def _fewer(matrix: Any) -> None:
    matrix.data = matrix.data[:-1]


def _short(matrix: Any) -> None:
    matrix.indptr = matrix.indptr[:-1]


def _fractions(matrix: Any) -> None:
    matrix.indptr = matrix.indptr + 0.5


DAMAGES = [_high, _low, _far, _down, _start, _fewer, _short, _fractions]


@every_way
@pytest.mark.parametrize("form", ["csc", "csr"])
@pytest.mark.parametrize(
    "damage",
    [_high, _low, _far, _down, _start, _fewer, _short, _fractions],
    ids=lambda f: f.__name__,
)
def test_damaged_matrix(way: str, form: str, damage: Callable[[Any], None]) -> None:
    matrix = sparse.csc_matrix(G).asformat(form)
    damage(matrix)
    with pytest.raises(ParameterError, match="the sparse G state no matrix"):
        WAYS[way](G=matrix)


@every_way
def test_other_matrices(way: str) -> None:
    expected = qp().x
    for form in ("csc", "csr", "coo", "bsr", "lil", "dia", "dok"):
        found = WAYS[way](G=sparse.csc_array(G).asformat(form))
        x = ffoadapt.solve(found).x if way == "program" else found.x
        assert np.allclose(x, expected, atol=1e-8), form
    unsorted = sparse.csr_matrix(G)
    unsorted.sort_indices()
    unsorted.indices[:2] = unsorted.indices[:2][::-1].copy()  # its flags still say sorted
    unsorted.data[:2] = unsorted.data[:2][::-1].copy()
    spare = sparse.csc_matrix(G)
    spare.indices, spare.data = np.r_[spare.indices, 99], np.r_[spare.data, np.nan]
    wide = sparse.csc_matrix(G)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    for matrix in (unsorted, spare, wide):
        for solver in ("osqp", "clarabel"):
            found = WAYS[way](G=matrix, **({} if way == "program" else {"solver": solver}))
            x = ffoadapt.solve(found, solver).x if way == "program" else found.x
            assert np.allclose(x, expected, atol=1e-6)
    with pytest.raises(ParameterError, match=r"the sparse G .*complex"):
        WAYS[way](G=sparse.csc_matrix(G + 0j))
    with pytest.raises(ShapeError, match="expected a matrix"):
        WAYS[way](G=sparse.coo_array(np.ones(3)))


def test_torch_indices_out_of_range() -> None:
    at, values = torch.tensor([[0, 5], [0, 1]]), torch.ones(2, dtype=torch.float64)
    try:
        bad = torch.sparse_coo_tensor(at, values, (3, n), check_invariants=False)
    except RuntimeError:
        pytest.skip("torch checks it by itself")
    bad = bad._coalesced_(True)
    tensors = {"P": torch.tensor(P), "q": torch.tensor(q), "G": bad, "h": torch.tensor(h)}
    with pytest.raises(ParameterError, match="the sparse G"):
        ffoadapt.qp(**tensors)


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csc_matrix])
def test_no_variables(wrap: Any) -> None:
    assert ffoadapt.qp(wrap(np.zeros((0, 0))), np.zeros(0)).x.shape == (0,)


def test_batches_of_none() -> None:
    found = qp(G=np.zeros((0, 3, n)), A=np.ones((1, n)), b=np.zeros(1))
    assert [v.shape for v in found] == [(0, n), (0, 3), (0, 1)]
    x, a, b = cp.Variable(n), cp.Parameter(n), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - a)), [x[:2] <= b])
    assert ffoadapt.Layer(problem, [a, b], [x])(np.zeros((0, n)), np.zeros(2))[0].shape == (0, n)


# --- A = None -------------------------------------------------------------------------------------

lower, upper = np.full(n, -0.3), np.array([0.2, 0.4, np.inf, 0.1])


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csc_matrix, lambda P: None])
def test_bounds_without_a_matrix(wrap: Any) -> None:
    stated, u = wrap(P), np.minimum(upper, 5.0)
    found = ffoadapt.box_qp(stated, q, None, lower, u)
    expected = ffoadapt.box_qp(stated, q, np.eye(n), lower, u)
    result = ffoadapt.solve(ConeProgram.from_box(stated, q, None, lower, u))
    for x, y in ((found.x, found.y), (result.x, result.y)):
        assert np.allclose(x, expected.x, atol=1e-9) and np.allclose(y, expected.y, atol=1e-8)
    assert (np.abs(found.y) > 1e-3).any()


@pytest.mark.parametrize("make_sparse", [False, True])
def test_gradient_of_bounds_without_a_matrix(make_sparse: bool) -> None:
    def leaves() -> list[Any]:
        return [torch.tensor(v, requires_grad=True) for v in (P, q, lower, np.minimum(upper, 5.0))]

    gradients = []
    for A in (None, torch.eye(n, dtype=torch.float64)):
        p, *rest = given = leaves()
        stated = p.to_sparse_coo() if make_sparse else p
        x = ffoadapt.box_qp(stated, rest[0], A, *rest[1:]).x
        gradients.append(torch.autograd.grad((x * torch.arange(1.0, n + 1)).sum(), given))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-9)
    assert gradients[0][2].abs().sum() + gradients[0][3].abs().sum() > 0.1


def test_bounds_of_another_length() -> None:
    for call in (ffoadapt.box_qp, ConeProgram.from_box):
        with pytest.raises(ShapeError, match=r"A is None.*expected 4 of each, got 3"):
            call(P, q, None, -np.ones(3), np.ones(3))
    with pytest.raises(ShapeError, match="l has 3 entries and u has 2"):
        ConeProgram.from_box(P, q, G, -np.ones(3), np.ones(2))


def test_cones_without_a_matrix() -> None:
    with pytest.raises(ShapeError, match="b is given without A"):
        ffoadapt.cone_program(P, q, None, h, [NonnegativeCone(3)])
    free = ffoadapt.cone_program(P, q, None, None, [])
    assert np.allclose(P @ free.x, -q)


# --- whose arrays they are ------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [np.array, sparse.csc_matrix])
def test_results_and_data_are_apart(wrap: Any) -> None:
    """Neither what is written to a result nor what becomes of the data changes a derivative."""
    v = np.arange(1.0, n + 1)
    mine = {"P": wrap(P), "q": q.copy(), "G": wrap(G), "h": h.copy()}
    result = ffoadapt.solve(program(**mine))
    expected = ffoadapt.solve(program(P=wrap(P), G=wrap(G))).vjp(x=v)
    for array in (result.x, result.s, result.z, result.z_ineq):
        array *= 7.0
    for value in mine.values():
        value *= 3.0
    first = result.vjp(x=v)
    if sparse.issparse(first.P):
        first.G.data[:] = 0.0
        first.G.eliminate_zeros()  # a pattern of its own
    for name in ("q", "h"):
        assert np.array_equal(getattr(result.vjp(x=v), name), getattr(expected, name))
    for name in ("P", "G"):
        difference = getattr(result.vjp(x=v), name) - getattr(expected, name)
        assert abs(difference).max() == 0.0


def test_programs_are_copies() -> None:
    mine = q.copy()
    made = program(q=mine)
    mine *= 2.0
    assert np.array_equal(made.q, q)
    for array in (made.P, made.q, made.A, made.b):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_layer_results_are_apart() -> None:
    values, v = rng.normal(size=(2, n)), np.ones((2, n))
    for made in (layer(), ffoadapt.Layer(program().model)):
        shapes = [shape for _, shape in made.program.parameters]
        given = [np.array(values)] if len(shapes) == 1 else [P.copy(), values, G.copy(), h.copy()]
        given += [np.zeros((0, n)), np.zeros(0)] if len(shapes) > 1 else []
        cotangents = [np.ones_like(out) for out in made.solve(*given).variables]
        expected = made.solve(*given).vjp(*cotangents)
        result = made.solve(*given)
        for array in (*given, *result.variables):
            array *= 5.0
        result.status.clear()
        for found, right in zip(result.vjp(*cotangents), expected, strict=True):
            assert np.array_equal(found, right)
        values = values / 5.0
    assert v.shape == values.shape


def test_constants_of_jax_are_copies() -> None:
    """JAX would share large NumPy arrays."""
    jax.config.update("jax_enable_x64", True)
    size = 64
    constant, point = np.eye(size), np.zeros(size)
    point[:] = 1.0
    out, pull = jax.vjp(lambda c: ffoadapt.qp(constant, c).x, jnp.asarray(point.copy()))
    constant *= 100.0
    assert np.allclose(pull(jnp.ones(size))[0], -1.0) and np.allclose(out, -1.0)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("form", ["box", "split", "conic"])
def test_solvers_get_what_they_cannot_write_to(form: str, batch: tuple[int, ...]) -> None:
    seen: list[str] = []

    def solve(*data: Any) -> Any:
        for k, array in enumerate(data[:-1]):
            parts = (
                (array.data, array.indices, array.indptr) if sparse.issparse(array) else (array,)
            )
            for part in parts:
                if isinstance(part, np.ndarray) and part.flags.writeable:
                    seen.append(f"{form} {k}")
        raise ArithmeticError

    for matrices in ("dense", "sparse"):
        solver = getattr(ffoadapt, f"{form}_solver")(solve, matrices=matrices)
        with pytest.raises(SolveError, match="ArithmeticError"):
            qp(q=np.broadcast_to(q, (*batch, n)).copy(), solver=solver, executor="serial")
    # The two parts of a sparse matrix by rows are made for the split form alone.
    assert set(seen) <= ({"split 2", "split 4"} if form == "split" else set())


def test_what_a_solver_writes_reaches_nobody() -> None:
    @ffoadapt.split_solver
    def greedy(P: Any, q: Any, G: Any, h: Any, A: Any, b: Any, options: Any) -> Any:
        q -= 1.0
        return np.zeros(n), np.zeros(3), np.zeros(0)

    mine = torch.tensor(q)
    tensors = {"P": torch.tensor(P), "q": mine, "G": torch.tensor(G), "h": torch.tensor(h)}
    with pytest.raises(SolveError, match="read-only"):
        ffoadapt.qp(**tensors, solver=greedy)
    assert np.array_equal(mine.numpy(), q)


# --- what solvers answer --------------------------------------------------------------------------

SHORT: dict[str, Any] = {
    "one": np.array([0.1]),
    "scalar": 0.1,
    "column": np.full((n, 1), 0.1),
    "row": np.full((1, n), 0.1),
    "complex": np.full(n, 0.1 + 0j),
    "words": np.full(n, "0.1"),
    "objects": np.full(n, 0.1, dtype=object),
}


@pytest.mark.parametrize("kind", SHORT)
@pytest.mark.parametrize("which", ["x", "dual", "slack"])
def test_answers_are_not_broadcast(kind: str, which: str) -> None:
    parts = {"x": np.zeros(n), "slack": np.ones(n), "dual": np.zeros(n), which: SHORT[kind]}

    @ffoadapt.conic_solver
    def mine(P: Any, q: Any, A: Any, b: Any, cones: Any, options: Any) -> Any:
        return parts["x"], parts["slack"], parts["dual"]

    def solve() -> Any:
        return qp(P=np.eye(n), q=np.zeros(n), G=np.eye(n), h=np.ones(n), solver=mine, polish=False)

    with pytest.raises(SolveError, match="wrong shape or type"):
        solve()
    parts[which] = np.ones(n) if which == "slack" else np.zeros(n).tolist()
    assert np.array_equal(solve().x, np.zeros(n))


def test_statuses_and_infos_are_checked() -> None:
    class Mine(ffoadapt.Solver):
        form = "split"
        matrices = ("dense",)
        answer: Any = None

        def solve(self, program: Any, options: Any, session: Any) -> Any:
            return self.answer

    mine, points = Mine(), (np.zeros(n), (np.zeros(3), np.zeros(0)), None)
    for status, info in (("optimal", {}), (Status.OPTIMAL, None), (None, {})):
        mine.answer = ffoadapt.Solution(*points, status, info)  # type: ignore[arg-type]
        with pytest.raises(SolveError, match="TypeError: solve returned a Solution with"):
            qp(solver=mine)


# --- options --------------------------------------------------------------------------------------

BAD_OPTIONS: dict[str, list[Any]] = {
    "tolerance": [0.0, -1e-6, np.nan, np.inf, "tight", None, True, 1j, 10**400, np.ones(1)],
    "max_iterations": [0, -3, 10.0, "many", None, True],
    "time_limit": [0.0, -1.0, np.nan, "long", None, True],
    "verbose": [1, 0, "yes", None],
}


@pytest.mark.parametrize("solver", ["auto", *ffoadapt.solvers()])
@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_values_of_common_options(solver: str, name: str) -> None:
    for value in BAD_OPTIONS[name]:
        with pytest.raises(OptionError, match=f"{name}=.*expected"):
            qp(solver=solver, solver_options={name: value})


def test_options_are_a_mapping_of_words() -> None:
    made = layer()
    for options, words in (({3: 4}, "names are str"), ([("tolerance", 1)], "a list"), ("x", "str")):
        for call in (lambda o: qp(solver_options=o), lambda o: made(q, solver_options=o)):
            with pytest.raises(OptionError, match=words):
                call(options)
    assert np.array_equal(qp(solver_options={}).x, qp().x)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(("eps", "tolerance"), ("abstol", "tolerance"), ("tol_feas", "tolerance")),
        *(("max_iters", "max_iterations"), ("maxit", "max_iterations")),
        *(("time_limit_secs", "time_limit"), ("OutputFlag", "verbose")),
    ],
)
def test_auto_has_the_common_options_alone(name: str, meant: str) -> None:
    for call in (qp, layer):
        with pytest.raises(OptionError, match=f"'auto' has no option '{name}'.*'{meant}'"):
            call(solver_options={name: 1})
    with pytest.raises(OptionError, match="name the solver"):
        qp(solver_options={"eta_prox": 1e-8})
    assert np.allclose(qp(solver="daqp", solver_options={"eta_prox": 1e-8}).x, qp().x)


def test_options_of_numpy_are_plain_ones_for_solvers() -> None:
    given = {
        "tolerance": np.float32(1e-6),
        "max_iterations": np.int64(10**12),
        "verbose": np.False_,
        "time_limit": np.inf,
    }
    found = translate_options(ffoadapt.get_plugin("solver", "osqp"), "osqp", given)
    assert [type(found[k]) for k in ("eps_abs", "max_iter", "verbose")] == [float, int, bool]
    assert found["max_iter"] == 2**31 - 1 and "time_limit" not in found


def test_options_are_told_apart_by_type() -> None:
    """1 and True are equal, but not the same option."""
    seen: list[Any] = []

    class Mine(ffoadapt.Solver):
        form = "split"
        matrices = ("dense",)

        def solve(self, program: Any, options: Any, session: Any) -> Any:
            seen.append(options["level"])
            return ffoadapt.Solution(np.linalg.solve(P, -q), (np.zeros(0), np.zeros(0)))

    mine = Mine()
    for value in (1, True, 1.0):
        ffoadapt.qp(P, q, solver=mine, solver_options={"level": value})
    assert list(map(type, seen)) == [int, bool, float]


def printed(capfd: pytest.CaptureFixture[str]) -> str:
    """What the process has printed since, compiled code included."""
    ctypes.CDLL(None).fflush(None)
    found = capfd.readouterr()
    return found.out + found.err


@pytest.mark.parametrize("solver", ["auto", *ffoadapt.solvers()])
def test_common_options_are_heard(solver: str, capfd: pytest.CaptureFixture[str]) -> None:
    stated = program()
    expected = ffoadapt.solve(stated, "clarabel").x

    def solve(**options: Any) -> Any:
        return ffoadapt.solve(
            stated, solver, solver_options=options, on_failure="nan", polish=False
        )

    for options in ({"tolerance": 1e-9}, {"time_limit": 60.0}, {"max_iterations": 10**9}):
        result = solve(**options)
        assert result.status is Status.OPTIMAL and np.allclose(result.x, expected, atol=1e-6)
    few = solve(max_iterations=1)
    assert few.status in (Status.ITERATION_LIMIT, Status.OPTIMAL)
    if few.status is Status.OPTIMAL:
        assert np.allclose(few.x, expected, atol=1e-6)
    loose, tight = solve(tolerance=1e-2), solve(tolerance=1e-9)
    steps = [r.info.get("iterations") for r in (loose, tight)]
    assert None in steps or solver == "auto" or steps[0] <= steps[1]
    printed(capfd)
    solve(verbose=False)
    assert printed(capfd) == ""
    solve(verbose=True)
    assert bool(printed(capfd)) == (solver not in ("auto", "daqp", "ipm"))  # which cannot print


def test_settings_of_other_types() -> None:
    for name in ("polish", "on_failure", "warm_start", "degenerate", "accept_inaccurate"):
        for value in (np.array([1, 2]), torch.ones(2), [], object()):
            with pytest.raises(OptionError, match=name):
                qp(**{name: value})
    for value in ([], 3, None):
        with pytest.raises(OptionError, match="executor"):
            qp(executor=value)
    for value in (int, np.ndarray):
        with pytest.raises(OptionError, match="solver="):
            qp(solver=value)


# --- ways through solvers -------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csc_matrix])
@pytest.mark.parametrize("far", [1e7, 1e11, 1e20, 1e30, 1e90])
@pytest.mark.skipif("piqp" not in ffoadapt.solvers(), reason="not installed")
def test_far_bounds_of_piqp(wrap: Any, far: float, capfd: pytest.CaptureFixture[str]) -> None:
    A = np.vstack([G, np.eye(n)])
    l, u = np.r_[-np.ones(3), np.full(n, -far)], np.r_[np.full(3, far), np.full(n, 0.4)]
    none = [np.where(np.abs(v) >= far, np.copysign(np.inf, v), v) for v in (l, u)]
    printed(capfd)
    found = ffoadapt.box_qp(wrap(P), q, wrap(A), l, u, solver="piqp")
    assert printed(capfd) == ""
    assert np.allclose(found.x, ffoadapt.box_qp(P, q, A, *none).x, atol=1e-7)


@pytest.mark.skipif("piqp" not in ffoadapt.solvers(), reason="not installed")
def test_far_bounds_that_hold() -> None:
    one = np.eye(1)
    x = ffoadapt.box_qp(0 * one, [-1.0], one, [-3e7], [2e7], solver="piqp").x
    assert np.allclose(x, 2e7)


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csc_matrix])
@pytest.mark.skipif("mpax" not in ffoadapt.solvers(), reason="not installed")
def test_mpax_without_rows(wrap: Any) -> None:
    assert np.allclose(ffoadapt.qp(wrap(P), q, solver="mpax").x, np.linalg.solve(P, -q))
    loose = ffoadapt.qp(wrap(P), q, wrap(G), np.full(3, np.inf), solver="mpax")
    assert np.allclose(loose.x, np.linalg.solve(P, -q)) and not loose.z_ineq.any()
    flat = ffoadapt.qp(wrap(np.diag([1.0, 0.0])), np.ones(2), solver="mpax", on_failure="nan")
    assert np.isnan(flat.x).all()


def test_choice_for_a_layer_of_a_box_program() -> None:
    for wrap in (np.asarray, sparse.csc_matrix):
        stated = ConeProgram.from_box(wrap(P), q, wrap(G), -h, h)
        made = ffoadapt.Layer(stated.model)
        assert ffoadapt.choose_solver(made).name == ffoadapt.choose_solver(stated).name
