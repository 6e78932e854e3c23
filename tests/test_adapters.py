"""What the core does so that adapters stay short: statuses, common options, cones by kind."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import ffoadapt
from ffoadapt import Status
from ffoadapt._solve.options import common_names, translate_options
from ffoadapt.testing import ReferenceSolver

OK, INACCURATE, PRIMAL, DUAL, STEPS, TIME, ERROR = Status

# --- statuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status"),
    [
        *((w, OK) for w in ("Solved", "OPTIMAL", "optimal")),
        *((w, INACCURATE) for w in ("AlmostSolved", "solved inaccurate", "SOLVED_INACCURATE")),
        *((w, INACCURATE) for w in ("almost_optimal", "optimal (inaccurate)")),
        *((w, PRIMAL) for w in ("infeasible", "PrimalInfeasible", "AlmostPrimalInfeasible")),
        *((w, PRIMAL) for w in ("primal infeasible inaccurate", "infeasible (inaccurate)")),
        *((w, DUAL) for w in ("unbounded", "DUAL_INFEASIBLE", "AlmostDualInfeasible")),
        *((w, STEPS) for w in ("max_iter", "MAX_ITER_REACHED", "maximum iterations reached")),
        *((w, STEPS) for w in ("MaxIterations", "Iteration limit reached")),
        *((w, TIME) for w in ("MaxTime", "time limit exceeded", "run time limit reached")),
        # An inaccurate point where a limit was hit is none that the solver vouches for.
        ("solved (inaccurate - reached max_iters)", STEPS),
        ("solved (inaccurate - reached time_limit_secs)", TIME),
        ("unbounded (inaccurate - reached max_iters)", DUAL),
    ],
)
def test_words_are_read(words: str, status: Status) -> None:
    assert Status.read(words) is status


@pytest.mark.parametrize(
    "words",
    """not solved|unsolved|UNSOLVED|NotSolved|un-solved|suboptimal|sub-optimal|SUBOPTIMAL|resolved
    |locally optimal|LOCALLY_SOLVED|solved?|!solved|~solved|0 solved|solved 0|solved, not optimal
    |almost|inaccurate|almost inaccurate|nearly solved|partially solved|solved to 1e-2|kOptimal
    |USER_OBJ_LIMIT|user objective limit|SOLUTION_LIMIT|cutoff|interrupted|feasible|INF_OR_UNBD
    |Unbounded or infeasible|Primal infeasible or unbounded|dual feasible|InsufficientProgress
    |solver error|Solve error||-|unknown""".split("|"),
)
def test_what_is_not_known_is_an_error(words: str) -> None:
    assert Status.read(words) is ERROR


@given(st.text(), st.text(), st.sampled_from(["solved", "optimal", "Solved", "OPTIMAL"]))
def test_nothing_but_the_known_words_reads_as_solved(before: str, after: str, word: str) -> None:
    if re.sub(r"[\s_()-]", "", before + after):
        found = Status.read(before + word + after)
        assert not found.solved or "almost" in before.lower() or "inaccurate" in after.lower()


def _members(found: Any, prefix: str = "") -> list[str]:
    return [name.removeprefix(prefix) for name in found.__members__]


def _constants(found: Any) -> list[str]:
    return [name for name in dir(found) if name[0].isupper()]


INTERIOR = {
    **{"Solved": OK, "AlmostSolved": INACCURATE, "MaxIterations": STEPS, "MaxTime": TIME},
    **{"PrimalInfeasible": PRIMAL, "AlmostPrimalInfeasible": PRIMAL},
    **{"DualInfeasible": DUAL, "AlmostDualInfeasible": DUAL},
}
"""Clarabel's words, which are Moreau's too."""

COMMON = {"SOLVED": OK, "PRIMAL_INFEASIBLE": PRIMAL, "DUAL_INFEASIBLE": DUAL}
LIMITS = {"ITERATION_LIMIT": STEPS, "TIME_LIMIT": TIME}

# Module; all its status words, as the adapter reads them; what those mean that are no error.
VENDORS: dict[str, tuple[Callable[[Any], Iterable[str]], dict[str, Status]]] = {
    "clarabel": (lambda m: _constants(m.SolverStatus), INTERIOR),
    "moreau": (lambda m: _members(m.SolverStatus), INTERIOR),
    "osqp": (
        lambda m: _members(m.SolverStatus, "OSQP_"),
        {
            **COMMON,
            **{"SOLVED_INACCURATE": INACCURATE, "PRIMAL_INFEASIBLE_INACCURATE": PRIMAL},
            **{"DUAL_INFEASIBLE_INACCURATE": DUAL, "MAX_ITER_REACHED": STEPS},
            **{"TIME_LIMIT_REACHED": TIME},
        },
    ),
    "scs": (
        lambda m: [name for name in dir(m) if name.isupper() and isinstance(getattr(m, name), int)],
        {
            **{"SOLVED": OK, "SOLVED_INACCURATE": INACCURATE, "INFEASIBLE": PRIMAL},
            **{"INFEASIBLE_INACCURATE": PRIMAL, "UNBOUNDED": DUAL, "UNBOUNDED_INACCURATE": DUAL},
        },
    ),
    "piqp": (lambda m: _members(m.Status, "PIQP_"), {**COMMON, "MAX_ITER_REACHED": STEPS}),
    "proxsuite": (
        lambda m: _members(m.proxqp.QPSolverOutput, "PROXQP_"),
        {**COMMON, "MAX_ITER_REACHED": STEPS, "SOLVED_CLOSEST_PRIMAL_FEASIBLE": PRIMAL},
    ),
    "qpalm": (
        lambda m: [name for name in _constants(m.Info) if name.isupper()],
        {**COMMON, "MAX_ITER_REACHED": STEPS, "TIME_LIMIT_REACHED": TIME},
    ),
    "highspy": (
        lambda m: _members(m.HighsModelStatus, "k"),
        {
            **{"Optimal": OK, "Infeasible": PRIMAL, "Unbounded": DUAL},
            **{"IterationLimit": STEPS, "TimeLimit": TIME},
        },
    ),
    "gurobipy": (
        lambda m: _constants(m.GRB.Status),
        {"OPTIMAL": OK, "INFEASIBLE": PRIMAL, "UNBOUNDED": DUAL, **LIMITS},
    ),
    "mpax.utils": (
        lambda m: _members(m.TerminationStatus),
        {"OPTIMAL": OK, "PRIMAL_INFEASIBLE": PRIMAL, "DUAL_INFEASIBLE": DUAL, **LIMITS},
    ),
}
"""All but DAQP, whose statuses are numbers without names."""


@pytest.mark.parametrize("module", VENDORS)
def test_every_word_of_every_vendor(module: str) -> None:
    words, meant = VENDORS[module]
    seen = list(words(pytest.importorskip(module)))
    assert set(meant) <= set(seen), "the vendor has renamed a status"
    assert {word: Status.read(word) for word in seen} == dict.fromkeys(seen, ERROR) | meant


# --- options --------------------------------------------------------------------------------------


class Camel(ReferenceSolver):
    common_options = {"max_iterations": "Steps", "verbose": ()}

    def known_options(self) -> tuple[str, ...]:
        return ("Steps", "TimeLimit", "verbose", "Tol")


def test_a_common_name_of_its_own_needs_no_entry() -> None:
    assert common_names(Camel()) == {"max_iterations": ("Steps",), "time_limit": ("TimeLimit",)}
    options = translate_options(Camel(), "camel", {"time_limit": 3.0, "max_iterations": 7})
    assert options == {**Camel.defaults, "TimeLimit": 3.0, "Steps": 7}
    with pytest.raises(ffoadapt.OptionError, match=r"no 'tolerance'.*'time_limit'\]"):
        translate_options(Camel(), "camel", {"tolerance": 1})
    # Who cannot print is quiet.
    assert translate_options(Camel(), "camel", {"verbose": True}) == Camel.defaults


@pytest.mark.parametrize("solver", ffoadapt.solvers())
def test_every_solver_has_a_tolerance_and_a_limit(solver: str) -> None:
    found = common_names(ffoadapt.get_plugin("solver", solver))
    assert {"tolerance", "max_iterations"} <= set(found)


# --- cones ----------------------------------------------------------------------------------------


def form(cones: Iterable[ffoadapt.Cone]) -> ffoadapt.ConeForm:
    cones = tuple(cones)
    m = sum(cone.dim for cone in cones)
    return ffoadapt.ConeForm(np.eye(1), np.ones(1), np.ones((m, 1)), np.arange(float(m)), cones)


def test_sizes_and_rows_by_kind() -> None:
    program = form(
        [
            *(ffoadapt.SecondOrderCone(2), ffoadapt.PowerCone(0.3), ffoadapt.NonnegativeCone(1)),
            *(ffoadapt.PSDCone(2), ffoadapt.SecondOrderCone(1), ffoadapt.ExponentialCone()),
            *(ffoadapt.ZeroCone(0), ffoadapt.ZeroCone(1)),
        ]
    )
    sizes = program.sizes()
    assert list(sizes.items()) == [
        *(("zero", 1), ("nonnegative", 2), ("second_order", [2])),
        *(("psd", [2]), ("exponential", 1), ("power", [0.3])),
    ]
    by_kind = [13, 5, 9, 0, 1, 6, 7, 8, 10, 11, 12, 2, 3, 4]
    assert program.b[program.rows(sizes)].tolist() == by_kind
    # 3 x 3: the lower triangle by columns is 11 21 31 22 32 33, the upper 11 12 22 13 23 33.
    upper = form([ffoadapt.PSDCone(3)]).rows(psd="upper")
    assert np.arange(6)[upper].tolist() == [0, 1, 3, 2, 4, 5]


def test_rows_that_stay_are_a_slice() -> None:
    program = form([ffoadapt.ZeroCone(1), ffoadapt.NonnegativeCone(2), ffoadapt.PSDCone(1)])
    assert program.rows() == program.rows(program.sizes(), psd="upper") == slice(None)
    assert form([]).rows([]) == slice(None)


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csc_matrix])
def test_matrices_in_the_order_of_the_rows(wrap: Any) -> None:
    rng = np.random.default_rng(0)
    cones = (ffoadapt.NonnegativeCone(2), ffoadapt.PSDCone(3), ffoadapt.ZeroCone(1))
    P, A = (np.where(rng.random(shape) < 0.6, 1.0, 0.0) for shape in ((4, 4), (9, 4)))
    P = P + P.T
    program = ffoadapt.ConeForm(wrap(P), np.ones(4), wrap(A), np.ones(9), cones)
    for rows in (program.rows(), program.rows(program.sizes(), psd="upper")):
        found = program.A_rows(rows)
        assert found.has_sorted_indices
        np.testing.assert_array_equal(found.toarray(), A[rows])
    np.testing.assert_array_equal(program.P_upper().toarray(), np.triu(P))
    program.P = wrap(np.diag(P.diagonal()))
    np.testing.assert_array_equal(program.P_upper().toarray(), np.diag(P.diagonal()))
    sizes = program.sizes()
    sizes["psd"].append(7)  # a dict of the caller's own
    assert program.sizes()["psd"] == [3]


# --- their length ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counter() -> ModuleType:
    path = Path(__file__).parents[1] / "tools" / "adapter_lines.py"
    spec = importlib.util.spec_from_file_location("adapter_lines", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_adapters_are_short(counter: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert counter.main() == 0, capsys.readouterr().out


def test_lines_of_code_are_physical_lines(counter: ModuleType) -> None:
    source = '"""Why.\n\nMore."""\n\n# A comment.\nx = [\n    1,  # one\n\n    2,\n]\n'
    assert counter.code_lines(source + 'y = """\n\n"""\n') == 4 + 3
    with pytest.raises(ValueError, match="line 1"):
        counter.code_lines("# fmt: off\nx = 1\n")
