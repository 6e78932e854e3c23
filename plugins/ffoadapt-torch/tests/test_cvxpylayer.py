"""`ffoadapt_torch.CvxpyLayer` in the place of `cvxpylayers.torch.CvxpyLayer`: the same code."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import warnings

import cvxpy as cp
import numpy as np
import pytest
import torch

import ffoadapt
import ffoadapt_torch


def packages():
    """The constructors that the shared examples run through."""

    def theirs():
        reason = "cvxpylayers is not installed: pip install cvxpylayers diffcp"
        module = pytest.importorskip("cvxpylayers.torch", reason=reason)
        pytest.importorskip("diffcp", reason=reason)
        return module.CvxpyLayer

    return [
        pytest.param(lambda: ffoadapt_torch.CvxpyLayer, id="ffoadapt"),
        pytest.param(theirs, id="cvxpylayers"),
    ]


@pytest.fixture(params=packages())
def layer_class(request):
    return request.param()


@pytest.fixture(autouse=True)
def _their_warnings():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="cvxpylayers|diffcp")
        yield


def tensor(value, grad=False):
    return torch.tensor(value, dtype=torch.float64, requires_grad=grad)


def least_squares():
    """x = A'b / (A'A) without the sign constraint in the way."""
    x, A, b = cp.Variable(2, name="x"), cp.Parameter((3, 2), name="A"), cp.Parameter(3, name="b")
    problem = cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b)), [x >= -10])
    return problem, [A, b], [x]


TIGHT = {"eps": 1e-10, "max_iters": 20_000}


class TestSameCode:
    def test_values_and_gradients(self, layer_class):
        layer = layer_class(*least_squares())
        rng = np.random.default_rng(0)
        A, b = tensor(rng.normal(size=(3, 2)), True), tensor(rng.normal(size=3), True)
        (x,) = layer(A, b, solver_args=TIGHT)
        closed = torch.linalg.lstsq(A, b[:, None]).solution[:, 0]
        torch.testing.assert_close(x, closed, atol=1e-6, rtol=0)
        weight = tensor([1.0, 2.0])
        found = torch.autograd.grad(x @ weight, (A, b))
        for ours, exact in zip(found, torch.autograd.grad(closed @ weight, (A, b)), strict=True):
            torch.testing.assert_close(ours, exact, atol=1e-5, rtol=0)

    def test_batch_and_broadcast(self, layer_class):
        layer = layer_class(*least_squares())
        rng = np.random.default_rng(1)
        A, b = tensor(rng.normal(size=(3, 2)), True), tensor(rng.normal(size=(4, 3)), True)
        (x,) = layer(A, b, solver_args=TIGHT)
        assert x.shape == (4, 2)
        x.sum().backward()
        assert A.grad.shape == (3, 2)
        assert b.grad.shape == (4, 3)
        (one,) = layer(A, b[:1], solver_args=TIGHT)
        assert one.shape == (1, 2)
        torch.testing.assert_close(one[0], x[0], atol=1e-6, rtol=0)

    @pytest.mark.parametrize(
        "method", ["SCS", pytest.param("Clarabel", id="Clarabel"), pytest.param("CLARABEL")]
    )
    def test_solve_method(self, layer_class, method):
        layer = layer_class(*least_squares(), solver_args={"solve_method": method})
        (x,) = layer(tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), tensor([3.0, 4.0, 5.0]))
        np.testing.assert_allclose(x, [3.0, 4.0], atol=1e-3)

    def test_diffcp_arguments(self, layer_class):
        layer = layer_class(
            *least_squares(),
            solver_args={"solve_method": "SCS", "acceleration_lookback": 0, "n_jobs_forward": 1},
        )
        (x,) = layer(
            tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
            tensor([3.0, 4.0, 5.0], True),
            solver_args={"eps": 1e-9, "max_iters": 50_000, "mode": "dense"},
        )
        np.testing.assert_allclose(x.detach(), [3.0, 4.0], atol=1e-5)

    def test_matrix_variable_and_dual(self, layer_class):
        X, C = cp.Variable((2, 3)), cp.Parameter((2, 3))
        constraint = cp.sum(X) == 1
        problem = cp.Problem(cp.Minimize(cp.sum_squares(X - C)), [constraint])
        layer = layer_class(problem, [C], [X, constraint.dual_variables[0]])
        C_value = tensor(np.arange(6.0).reshape(2, 3), True)
        X_star, dual = layer(C_value, solver_args=TIGHT)
        np.testing.assert_allclose(
            X_star.detach(), C_value.detach() - (15.0 - 1.0) / 6.0, atol=1e-5
        )
        assert dual.shape == ()
        assert dual.item() == pytest.approx(2.0 * 14.0 / 6.0, abs=1e-4)
        X_star[0, 1].backward()
        exact = -np.full((2, 3), 1 / 6)
        exact[0, 1] += 1.0
        np.testing.assert_allclose(C_value.grad, exact, atol=1e-5)

    def test_symmetric_variable(self, layer_class):
        X, C = cp.Variable((2, 2), PSD=True), cp.Parameter((2, 2))
        problem = cp.Problem(cp.Minimize(cp.sum_squares(X - C)))
        (X_star,) = layer_class(problem, [C], [X])(
            tensor([[2.0, 0.0], [0.0, -1.0]]), solver_args=TIGHT
        )
        np.testing.assert_allclose(X_star, [[2.0, 0.0], [0.0, 0.0]], atol=1e-5)

    def test_geometric_program(self, layer_class):
        """Maximize the volume of a box: the example of cvxpylayers' own tests."""
        x, y, z = (cp.Variable(pos=True) for _ in range(3))
        a, b, c = (cp.Parameter(pos=True, value=v) for v in (2.0, 1.0, 0.5))
        objective = 1 / (x * y * z)
        constraints = [a * (x * y + x * z + y * z) <= b, x >= y**c]
        problem = cp.Problem(cp.Minimize(objective), constraints)
        problem.solve(cp.CLARABEL, gp=True)
        expected = [v.value for v in (x, y, z)]
        layer = layer_class(problem, parameters=[a, b, c], variables=[x, y, z], gp=True)
        values = [tensor(2.0, True), tensor(1.0, True), tensor(0.5, True)]
        found = layer(*values, solver_args=TIGHT)
        np.testing.assert_allclose([v.item() for v in found], expected, rtol=1e-4)
        sum(found).backward()
        for k, value in enumerate(values):
            step = 1e-4
            moved = [v.detach() for v in values]
            numbers = []
            for sign in (1.0, -1.0):
                moved[k] = value.detach() + sign * step
                numbers.append(sum(layer(*moved, solver_args=TIGHT)).item())
            exact = (numbers[0] - numbers[1]) / (2 * step)
            assert value.grad.item() == pytest.approx(exact, rel=1e-3, abs=1e-4)

    def test_errors_are_value_errors(self, layer_class):
        problem, parameters, variables = least_squares()
        with pytest.raises(ValueError):
            layer_class(problem, parameters[:1], variables)
        with pytest.raises(ValueError):
            layer_class(problem, parameters, [cp.Variable(2)])
        x, p = cp.Variable(2), cp.Parameter(2)
        not_dpp = cp.Problem(cp.Minimize(cp.sum_squares(x)), [cp.multiply(p, p) @ x == 1])
        with pytest.raises(ValueError, match="DPP"):
            layer_class(not_dpp, [p], [x])
        with pytest.raises(ValueError):
            layer_class(problem, parameters, variables, gp=True)
        layer = layer_class(problem, parameters, variables)
        with pytest.raises(ValueError):
            layer(torch.ones(3, 2))
        with pytest.raises(ValueError):
            layer(torch.ones(2, 2), torch.ones(3))
        with pytest.raises(ValueError):
            layer(torch.ones(2, 3, 2), torch.ones(5, 3))

    def test_infeasible_raises(self, layer_class):
        x, p = cp.Variable(), cp.Parameter()
        problem = cp.Problem(cp.Minimize(x), [x >= p, x <= 0])
        with pytest.raises(Exception, match=r"infeasible|Infeasible"):
            layer_class(problem, [p], [x])(tensor(1.0))

    def test_in_a_model(self, layer_class):
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = torch.nn.Linear(4, 3, dtype=torch.float64)
                self.layer = layer_class(*least_squares())

            def forward(self, inputs):
                A = tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
                return self.layer(A, self.linear(inputs))[0]

        torch.manual_seed(0)
        model = Model()
        output = model(torch.randn(5, 4, dtype=torch.float64))
        output.square().sum().backward()
        assert model.linear.weight.grad.abs().max() > 0


# ------------------------------------------------------------------------------- ours alone


def ours(**settings):
    return ffoadapt_torch.CvxpyLayer(*least_squares(), **settings)


A_VALUE = tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
B_VALUE = tensor([3.0, 4.0, 5.0])


@pytest.mark.parametrize("solver", [None, "DIFFCP", "SCS", cp.CLARABEL, "osqp"])
def test_solver_names(solver):
    (x,) = ours(solver=solver)(A_VALUE, B_VALUE)
    np.testing.assert_allclose(x, [3.0, 4.0], atol=1e-4)


@pytest.mark.parametrize("solver", ["scs", "clarabel", "osqp"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"eps": 1e-9},
        {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 20_000},
        {"abstol": 1e-9, "reltol": 1e-9, "feastol": 1e-9},
        {"tolerance": 1e-9, "verbose": False},
    ],
)
def test_tolerances_in_any_words(solver, arguments):
    (x,) = ours(solver=solver)(A_VALUE, B_VALUE, solver_args=arguments)
    np.testing.assert_allclose(x, [3.0, 4.0], atol=1e-7)


def test_what_is_refused():
    with pytest.raises(ffoadapt.OptionError, match="lpgd_left"):
        ours(solver_args={"mode": "newton"})
    with pytest.raises(ffoadapt.OptionError, match="derivative_kwargs"):
        ours(solver_args={"derivative_kwargs": {"tau": 1e-3}})
    with pytest.raises(ffoadapt.OptionError, match=r"ffoadapt\.Solver"):
        ours(custom_method=(lambda: None, lambda: None))
    with pytest.raises(ffoadapt.UnknownPluginError, match=r"'ecos'.*installed"):
        ours()(A_VALUE, B_VALUE, solver_args={"solve_method": "ECOS"})
    with pytest.raises(ffoadapt.OptionError, match=r"no option 'maximum'"):
        ours()(A_VALUE, B_VALUE, solver_args={"maximum": 3})


def test_call_arguments_keep_their_layer():
    layer = ours(solver="osqp")
    first = layer._layers.at({"eps": 1e-9}, None)
    assert layer._layers.at({"eps": 1e-9}, None) is first
    assert layer._layers.at(None, None) is layer.layer
    assert layer._layers.at(None, False) is layer.layer
    assert layer._layers.at(None, True) is not layer.layer


def test_settings_are_those_of_layers():
    with pytest.raises(ffoadapt.OptionError, match="'on_failure'"):
        ours(on_fail="nan")
    ours(on_failure="nan", executor="serial", polish=False, solver_options={"tolerance": 1e-8})


def test_verbose_prints(capfd):
    ours(solver="scs", verbose=True)(A_VALUE, B_VALUE)
    assert "SCS" in capfd.readouterr().out


def test_dtype_comes_back():
    (x,) = ours()(A_VALUE.float(), B_VALUE.float())
    assert x.dtype == torch.float32


def test_more_batch_axes():
    (x,) = ours()(A_VALUE, B_VALUE.expand(2, 5, 3))
    assert x.shape == (2, 5, 2)


def test_gp_dual():
    """min. x, x >= a: the log of the value is that of a, so the multiplier between them is 1."""
    x, a = cp.Variable(pos=True), cp.Parameter(pos=True, value=1.0)
    constraint = x >= a
    problem = cp.Problem(cp.Minimize(x), [constraint])
    layer = ffoadapt_torch.CvxpyLayer(problem, [a], constraint.dual_variables, gp=True)
    np.testing.assert_allclose(layer(tensor(2.0))[0], 1.0, atol=1e-6)
    with pytest.raises(ffoadapt.ProblemError, match=r"subset of problem\.variables"):
        ffoadapt_torch.CvxpyLayer(problem, [a], [cp.Variable(pos=True)], gp=True)
    with pytest.raises(ffoadapt.ParameterError, match="takes 1 parameters, got 2"):
        layer(tensor(1.0), tensor(2.0))


class TestSurvives:
    @staticmethod
    def check(layer):
        b = B_VALUE.clone().requires_grad_()
        (x,) = layer(A_VALUE, b)
        x.sum().backward()
        np.testing.assert_allclose(x.detach(), [3.0, 4.0], atol=1e-6)
        np.testing.assert_allclose(b.grad, [1.0, 1.0, 0.0], atol=1e-6)

    def test_deepcopy(self):
        layer = ours()
        self.check(layer)
        self.check(copy.deepcopy(layer))
        self.check(layer)

    def test_pickle(self):
        layer = ours(solver="clarabel", solver_args={"eps": 1e-10})
        self.check(layer)
        self.check(pickle.loads(pickle.dumps(layer)))

    def test_torch_save(self):
        buffer = io.BytesIO()
        torch.save(ours(), buffer)
        buffer.seek(0)
        self.check(torch.load(buffer, weights_only=False))

    def test_state_dict(self):
        model = torch.nn.Sequential(torch.nn.Linear(2, 2))
        model.add_module("layer", ours())
        assert set(model.state_dict()) == {"0.weight", "0.bias"}
        model.load_state_dict(model.state_dict())
        theirs = {**model.state_dict(), "layer.q": torch.ones(2), "layer.A": torch.ones(2)}
        model.load_state_dict(theirs)  # a checkpoint of a model with cvxpylayers' layer
        with pytest.raises(RuntimeError, match="other"):
            model.load_state_dict({**theirs, "layer.other": torch.ones(2)})

    def test_half_precision_model_and_train_modes(self):
        layer = ours().to(torch.float16).eval()
        self.check(layer)

    def test_no_grad(self):
        with torch.no_grad(), contextlib.nullcontext():
            (x,) = ours()(A_VALUE, B_VALUE.clone().requires_grad_())
        assert not x.requires_grad
