"""What newcomers stumble over: names in capitals, mixed arrays, sizes that do not fit, reprs."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cvxpy as cp
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.experimental import sparse as jax_sparse
from scipy import sparse

import ffoadapt
import ffoadapt_torch
from ffoadapt import ConeProgram, NonnegativeCone, OptionError, ParameterError, ShapeError
from ffoadapt._cli.parser import main
from ffoadapt._plugins.registry import Registry, registry

P, q = np.diag([2.0, 1.0]), np.array([-1.0, -2.0])
G, h = np.ones((1, 2)), np.ones(1)
EXPECTED = ffoadapt.qp(P, q, G, h).x


def layer(**settings: Any) -> ffoadapt.Layer:
    x, c = cp.Variable(2, name="x"), cp.Parameter(2, name="c")
    return ffoadapt.Layer(cp.Problem(cp.Minimize(cp.sum_squares(x - c))), [c], [x], **settings)


# --- names


@pytest.mark.parametrize("name", [cp.OSQP, cp.CLARABEL, "Scs", "PIQP"])
def test_a_solver_has_its_name_in_capitals_too(name: str) -> None:
    program = ConeProgram.from_split(P, q, G, h)
    assert ffoadapt.qp(P, q, G, h, solver=name).info["solver"] == name.lower()
    assert ffoadapt.solve(program, name).info["solver"] == name.lower()
    assert layer(solver=name).solve(np.ones(2)).info["solver"] == name.lower()
    assert ffoadapt.gradient_report(program, solver=name).verdict == "differentiable"  # type: ignore[union-attr]
    own = ffoadapt.get_plugin("solver", name.lower())
    assert ffoadapt.get_plugin("solver", name) is own


def test_names_that_differ_in_capitals_alone_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    names = registry._entries["solver"]
    monkeypatch.setitem(registry._entries, "solver", dict(names))
    solver = ffoadapt.get_plugin("solver", "clarabel")
    for name in ("Mine", "MINE"):
        ffoadapt.register_solver(name, solver)
        assert ffoadapt.qp(P, q, G, h, solver=name).info["solver"] == name
    with pytest.raises(ffoadapt.UnknownPluginError, match="Did you mean"):
        ffoadapt.qp(P, q, G, h, solver="mine")


@pytest.mark.parametrize("name", ["auto", "Auto"])
def test_a_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(ffoadapt.PluginError, match="cannot name a solver"):
        ffoadapt.register_solver(name, ffoadapt.get_plugin("solver", "clarabel"))


def test_a_plugin_with_a_reserved_name_is_refused() -> None:
    class Builtin:
        @staticmethod
        @ffoadapt.hookimpl
        def ffoadapt_register_solvers() -> list[ffoadapt.SolverSpec]:
            return [ffoadapt.SolverSpec("auto", load="nowhere:Nothing")]

    found = Registry(Builtin)
    assert "auto" not in found.specs("solver")
    failed = [row for row in found.listing() if row.state == "failed"]
    assert any("cannot name a solver" in row.detail for row in failed)


def test_without_solvers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._entries, "solver", {})
    program = ConeProgram.from_split(P, q, G, h)
    with pytest.raises(ffoadapt.UnsupportedProblemError, match=r"no solver is installed.*pip inst"):
        ffoadapt.solve(program)


def test_without_the_plugin_of_a_framework_it_says_what_to_install() -> None:
    code = (
        "import torch, ffoadapt\n"
        "import ffoadapt._plugins.registry as r\n"
        "r._packages = lambda: ['ffoadapt-jax', 'ffoadapt-torch']\n"
        "try: ffoadapt.qp(torch.eye(2), torch.ones(2))\n"
        "except ffoadapt.ParameterError as error: print(error)\n"
    )
    environment = {**os.environ, "FFOADAPT_DISABLE_PLUGINS": "ffoadapt-torch"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert "pip install ffoadapt-torch" in done.stdout


# --- arrays


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_takes_numpy_constants(dtype: torch.dtype) -> None:
    tensor = torch.tensor(q, dtype=dtype, requires_grad=True)
    constant = P.copy()
    constant.flags.writeable = False  # torch warns of such, where it shares them
    solution = ffoadapt.qp(constant, tensor, G, h)
    assert solution.x.dtype is dtype
    np.testing.assert_allclose(solution.x.detach(), EXPECTED, atol=1e-6)
    solution.x[0].backward()
    every = [torch.tensor(v, dtype=torch.float64) for v in (P, q, G, h)]
    every[1].requires_grad_()
    ffoadapt.qp(*every).x[0].backward()
    assert tensor.grad is not None and every[1].grad is not None
    np.testing.assert_allclose(tensor.grad, every[1].grad, atol=1e-6)


def test_a_constant_that_changes_later_changes_nothing() -> None:
    tensor, constant = torch.tensor(q, requires_grad=True), P.copy()
    x = ffoadapt.qp(constant, tensor, G, h).x
    constant[:] = 100.0
    x[0].backward()
    other = torch.tensor(q, requires_grad=True)
    ffoadapt.qp(P, other, G, h).x[0].backward()
    assert tensor.grad is not None and other.grad is not None
    np.testing.assert_array_equal(tensor.grad, other.grad)


@pytest.mark.parametrize(
    "entries", [torch.tensor(q), jnp.array(q), torch.tensor(q, requires_grad=True)]
)
def test_a_list_of_a_frameworks_arrays_is_refused(entries: Any) -> None:
    for given in (list(entries), tuple(entries), [1.0, entries[0]]):
        with pytest.raises(ParameterError, match=r"q is a (list|tuple) that holds a .*Join"):
            ffoadapt.qp(P, given, G, h)
    with pytest.raises(ParameterError, match="c is a list that holds"):
        layer()(list(entries))


def test_lists_of_numbers_are_arrays() -> None:
    rows = [np.ones(2)], [np.float32(1.0)]
    np.testing.assert_array_equal(ffoadapt.qp(P.tolist(), list(q), *rows).x, EXPECTED)


def test_empty_tensors_stand_for_no_rows() -> None:
    """As in the packages that have no None for them; they decide no dtype."""
    e = torch.Tensor()
    data = [torch.tensor(v) for v in (P, q, G, h)]
    solution = ffoadapt.qp(*data, e, e)
    assert solution.x.dtype is torch.float64 and solution.y_eq.shape == (0,)
    np.testing.assert_allclose(solution.x, EXPECTED)
    free = ffoadapt.qp(*data[:2], e, e, e, e).x
    np.testing.assert_allclose(free, [0.5, 2.0])
    with pytest.raises(ShapeError, match="G has shape"):
        ffoadapt.qp(*data[:2], e, data[3])


def test_sparse_matrices_that_are_not_taken() -> None:
    data = jnp.array(q), jnp.array(G), jnp.array(h)
    with pytest.raises(ParameterError, match=r"P: a BCSR matrix; convert it with .to_bcoo()"):
        ffoadapt.qp(jax_sparse.BCSR.fromdense(jnp.array(P)), *data)
    both = torch.stack([torch.tensor(P)] * 2).to_sparse()
    with pytest.raises(ShapeError, match="A sparse matrix has no batch axes"):
        ffoadapt.qp(both, torch.tensor(q))


# --- sizes: what the other arguments outvote is named

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "q": ({"q": np.ones(3)}, r"q has shape \(3,\), but .*P has .* and G .*; expected \(2,\)"),
    "batch of q": ({"q": np.ones((7, 3))}, r"q has shape \(7, 3\), but .*P .*; expected \(2,\)"),
    "h": ({"h": np.ones(4)}, r"G has shape \(1, 2\); .*h of shape \(4,\), or h of shape \(1,\)"),
    "b": ({"A": np.eye(2), "b": np.ones(3)}, r"A has shape \(2, 2\); .*or b of shape \(2,\)"),
    "G": ({"G": np.ones((1, 3))}, r"G has shape \(1, 3\); expected \(1, 2\)"),
    "P": ({"P": np.eye(3)}, r"P has shape \(3, 3\); expected \(2, 2\)"),
    "P not square": ({"P": np.ones((3, 2))}, r"P has shape \(3, 2\); expected \(2, 2\)"),
}


@pytest.mark.parametrize("which", WRONG)
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, jnp.asarray])
def test_the_argument_at_fault_is_named(which: str, make: Any) -> None:
    changes, expected = WRONG[which]
    data = {"P": P, "q": q, "G": G, "h": h, **changes}
    with pytest.raises(ShapeError, match=expected):
        ffoadapt.qp(**{name: make(value) for name, value in data.items()})
    if data["q"].ndim == 1:
        with pytest.raises(ShapeError, match=expected):
            ConeProgram.from_split(**data)
        data["P"] = sparse.csc_matrix(data["P"])
        with pytest.raises(ShapeError, match=expected):
            ConeProgram.from_split(**data)


def test_the_bound_at_fault_is_named() -> None:
    A, l, u = np.eye(2), -np.ones(2), np.ones(2)
    with pytest.raises(ShapeError, match=r"u has shape \(3,\); expected \(2,\), because A"):
        ffoadapt.box_qp(P, q, A, l, np.ones(3))
    with pytest.raises(ShapeError, match=r"l has shape \(3,\); expected \(2,\), because A"):
        ffoadapt.box_qp(P, q, A, np.ones(3), u)
    for call in (ffoadapt.box_qp, ConeProgram.from_box):
        with pytest.raises(ShapeError, match=r"A has shape \(2, 2\); expected \(3, 2\)"):
            call(P, q, A, np.ones(3), np.ones(3))
        with pytest.raises(ShapeError, match=r"q has shape \(4,\), but P"):
            call(P, np.ones(4), A, l, u)
    with pytest.raises(ShapeError, match=r"or b of shape \(2,\)"):
        ffoadapt.cone_program(P, q, A, np.ones(3), [NonnegativeCone(3)])


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("side", ["upper", "lower"])
def test_a_triangle_for_P_gets_its_hint(side: str, as_sparse: bool) -> None:
    half = np.array([[2.0, 1.0], [0.0, 2.0]])
    half = half if side == "upper" else half.T
    with pytest.raises(ffoadapt.ProblemError, match=f"the {side} triangle alone"):
        ffoadapt.qp(sparse.csc_matrix(half) if as_sparse else half, q)
    full = half + half.T - np.diag(np.diag(half))
    assert ffoadapt.qp(sparse.csc_matrix(full) if as_sparse else full, q).status
    with pytest.raises(ffoadapt.ProblemError) as caught:
        ffoadapt.qp(np.array([[2.0, 1.0], [0.5, 2.0]]), q)
    assert "triangle" not in str(caught.value)


def test_options_are_a_mapping_everywhere() -> None:
    options: Any = [("tolerance", 1e-3)]
    program = ConeProgram.from_split(P, q, G, h)
    calls = [
        lambda: ffoadapt.qp(P, q, solver_options=options),
        lambda: ffoadapt.solve(program, solver_options=options),
        lambda: ffoadapt.gradient_report(program, solver_options=options),
        lambda: layer(solver_options=options),
        lambda: layer()(np.ones(2), solver_options=options),
    ]
    for call in calls:
        with pytest.raises(OptionError, match="solver_options is a list; expected a mapping"):
            call()


def test_geometric_programs_are_told_of_gp() -> None:
    x, a = cp.Variable(2, pos=True), cp.Parameter(pos=True)
    problem = cp.Problem(cp.Minimize(x[0] / x[1] + a * x[1] / x[0]))
    with pytest.raises(ffoadapt.UnsupportedProblemError, match="gp=True"):
        ffoadapt.Layer(problem, [a], [x])
    with pytest.raises(OptionError, match="gp=True is for problems of a modeler"):
        ffoadapt.Layer(layer().program, gp=True)


# --- what things print


def test_reprs_say_what_is_there() -> None:
    one = layer(solver="OSQP")
    assert repr(one) == "Layer(c(2,) -> x(2,); solver 'OSQP')"
    assert one.last is None
    batch = one.solve(np.ones((3, 2)))
    assert repr(batch) == "LayerResult(3 elements: 3 optimal; solver 'osqp'; variables x)"
    assert repr(batch.report()) == "Reports(3 differentiable)"
    one(np.ones(2))
    assert repr(one.last) == "Outcome(optimal; solver 'osqp')"
    result = ffoadapt.solve(ConeProgram.from_split(P, q, G, h), "scs")
    assert repr(result).startswith("Result(optimal, objective=-1.5")
    assert repr(result).endswith("; solver 'scs'; x, s, z, z_ineq, y_eq)")
    kink = ffoadapt.qp(np.eye(1), np.array([[0.0], [1.0], [2.0]]), -np.eye(1), np.zeros(1))
    assert repr(kink.report()) == "Reports(2 differentiable, 1 weakly_active)"
    assert repr(kink).startswith("QPSolution(x=array([[") and "; 3 elements: 3 opt" in repr(kink)
    x, c = cp.Variable(2, name="x"), cp.Parameter(2, name="c")
    module = ffoadapt_torch.CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x - c))), [c], [x])
    assert repr(module) == "CvxpyLayer(Layer(c(2,) -> x(2,); solver 'auto'))"


def test_no_negative_zeros_in_reports() -> None:
    for target in (np.zeros(2), q):
        report = ffoadapt.solve(ConeProgram.from_split(np.eye(2), -target)).report()
        assert "-0.0e" not in str(report) and "-0.0" not in repr(report)


def test_compare_says_the_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "file.npz", P=P, q=q, G=G, h=h, A=np.zeros((0, 2)), b=np.zeros(0))
    solvers = ["--solver", "SCS", "--solver", "osqp", "--runs", "1"]
    assert main(["compare", str(tmp_path / "file.npz"), *solvers, "--reference", "SCS"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in ("scs", "osqp"):
        assert f"{name} {importlib.metadata.version(name)}" in text
