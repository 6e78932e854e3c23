"""Programs of torch tensors that stay where they are: values, derivatives of both orders, failures.

There is no accelerator here. What one asks for is held by a CPU that is treated as one: whatever
takes numbers to the host then fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ffoadapt

torch = pytest.importorskip("torch")
from torch.overrides import TorchFunctionMode  # noqa: E402

from ffoadapt_torch._namespace import namespace  # noqa: E402

# What torch says of itself where it is first asked for forward mode, or compiles.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

F64 = torch.float64
EVERY = tuple(range(6))


def data(batch: tuple[int, ...] = (), seed: int = 0, n: int = 5) -> list[Any]:
    """P, q, G, h, A, b with active and inactive rows, one of them without a bound; G, A shared."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(*batch, n, n))
    P = root @ root.swapaxes(-1, -2) + 0.1 * np.eye(n)
    x, G, A = rng.normal(size=(*batch, n)), rng.normal(size=(8, n)), rng.normal(size=(1, n))
    h = x @ G.T + rng.uniform(0.0, 1.0, (*batch, 8))
    h[..., 3] = np.inf
    return [torch.from_numpy(v) for v in (P, 3 * rng.normal(size=(*batch, n)), G, h, A, x @ A.T)]


def loss(*values: Any, solver: str = "ipm", **settings: Any) -> Any:
    total: Any = 0.0
    for out in ffoadapt.qp(*values, solver=solver, **settings):
        weights = torch.cos(torch.arange(out.numel(), dtype=out.dtype) + 0.1)
        total = total + (weights * out.ravel() ** 2).sum() + (weights * out.ravel()).sum()
    return total


def gradients(values: list[Any], **settings: Any) -> Any:
    leaves = [v.clone().requires_grad_() for v in values]
    return torch.autograd.grad(loss(*leaves, **settings), leaves)


def close(found: Any, expected: Any, tolerance: float = 1e-8) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


class Fenced(TorchFunctionMode):
    """Fails where a tensor's numbers are asked for on the host; ``looks`` counts what is let by."""

    FORBIDDEN = ("cpu", "numpy", "item", "tolist", "__bool__", "__float__", "__int__", "nonzero")

    def __init__(self, allowed: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.allowed, self.looks = allowed, 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        name = getattr(function, "__name__", "")
        if name in self.FORBIDDEN:
            assert name in self.allowed, f"{name} takes numbers to the host"
            self.looks += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture
def accelerator() -> Any:
    """The CPU, as a device for which the host has to wait."""
    xp = namespace(torch.device("cpu"))
    xp.waits = True
    yield
    xp.waits = False


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
def test_every_datum(batch: tuple[int, ...]) -> None:
    values = data(batch)
    close(gradients(values), gradients(values, solver="clarabel"))


def test_numbers_stay_on_the_device(accelerator: Any) -> None:
    """Where failures raise there is one look, at the end of the solve; else there is none."""
    values = data((4,), 1)
    expected = gradients(values, solver="clarabel")
    with Fenced(("tolist",)) as fence:
        found = gradients(values)
    close(found, expected)
    assert fence.looks == 1
    leaves = [v.clone().requires_grad_() for v in values]
    with Fenced():
        value = loss(*leaves, on_failure="nan")
    with Fenced(("nonzero",)) as fence:  # a gradient asks once whether a system is singular
        found = torch.autograd.grad(value, leaves)
    close(found, expected)
    assert fence.looks <= 1
    with Fenced(), pytest.raises(AssertionError, match="to the host"):
        values[0].sum().item()


def test_auto_takes_a_solver_in_torch_for_an_accelerator(accelerator: Any) -> None:
    values = data((2,), 2)
    with Fenced(("tolist",)):
        solution = ffoadapt.qp(*values)
    assert [one["solver"] for one in solution.info] == ["ipm", "ipm"]
    assert {one.verdict for one in solution.report()} == {"differentiable"}


def test_auto_stays_on_the_host_elsewhere() -> None:
    assert ffoadapt.qp(*data()).info["solver"] != "ipm"


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: torch.func.vmap(torch.func.jacrev(f, argnums=(0, 1))),
        lambda f: torch.func.vmap(torch.func.jacfwd(f, argnums=(0, 1))),
        lambda f: lambda q, h: torch.func.jacrev(f, argnums=(0, 1))(q, h[0]),
        lambda f: torch.func.vmap(torch.func.vmap(f, (0, None)), (None, 0)),
    ],
    ids=["vmap of jacrev", "vmap of jacfwd", "jacrev of a batch", "two axes"],
)
def test_transformations(transform: Any) -> None:
    P, q, G, h, A, b = data((3,), 3)
    h[:, 3] = 10.0

    def solved(solver: str) -> Any:
        return lambda q, h: ffoadapt.qp(P[0], q, G, h, A, b[0], solver=solver).x

    found, expected = (transform(solved(s))(q, h) for s in ("ipm", "clarabel"))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def smooth_loss(*values: Any, **settings: Any) -> Any:
    out = ffoadapt.qp(*values, solver="ipm", **settings)
    return (out.x**3).sum() + (out.z_ineq**2).sum() + out.y_eq.sin().sum()


def hessian_errors(values: list[Any], hessian: Any, gradient: Any) -> list[float]:
    """Each block beside central differences of the gradient along a direction of each datum."""
    rng, errors, step = torch.Generator().manual_seed(0), [], 1e-5
    for k, value in enumerate(values):
        along = torch.randn(value.shape, generator=rng, dtype=F64)
        along = along + along.T if k == 0 else along
        ends = [gradient(*values[:k], value + t * along, *values[k + 1 :]) for t in (step, -step)]
        for j, (up, down) in enumerate(zip(*ends, strict=True)):
            slope = (up - down) / (2 * step)
            found = (hessian[j][k] * along).sum(tuple(range(-along.ndim, 0)))
            found = (found + found.T) / 2 if j == 0 else found
            errors.append(float((slope - found).abs().max() / (1 + found.abs().max())))
    return errors


def test_second_derivatives_of_every_pair_of_data() -> None:
    values = data(seed=4)
    values[3][3] = 10.0
    hessian = torch.func.hessian(smooth_loss, argnums=EVERY)(*values)
    gradient = torch.func.grad(smooth_loss, argnums=EVERY)
    errors = hessian_errors(values, hessian, gradient)
    assert len(errors) == 36
    assert max(errors) < 1e-6
    assert min(float(abs(block).max()) for block in hessian[1]) > 1e-3, "nothing is shown"


def test_double_backward_is_the_hessian() -> None:
    values = data(seed=5)
    values[3][3] = 10.0
    leaves = [v.clone().requires_grad_() for v in values]
    first = torch.autograd.grad(smooth_loss(*leaves), leaves, create_graph=True)
    rng = torch.Generator().manual_seed(1)
    along = [torch.randn(v.shape, generator=rng, dtype=F64) for v in values]
    product = sum((g * d).sum() for g, d in zip(first, along, strict=True))
    found = torch.autograd.grad(product, leaves)
    _, expected = torch.func.jvp(
        torch.func.grad(smooth_loss, argnums=EVERY), tuple(values), tuple(along)
    )
    for k, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        theirs = (theirs + theirs.T) / 2 if k == 0 else theirs
        ours = (ours + ours.T) / 2 if k == 0 else ours
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def nearest(c: Any, **settings: Any) -> Any:
    """The point of the unit box nearest to c: at a kink where an entry is 0 or 1."""
    eye, n = torch.eye(c.shape[-1], dtype=c.dtype), c.shape[-1]
    zero = torch.zeros(n, dtype=c.dtype)
    return ffoadapt.box_qp(eye, -c, eye, zero, zero + 1.0, solver="ipm", **settings).x


def test_no_second_derivatives_at_a_kink() -> None:
    c = torch.tensor([0.3, 1.0, 2.0], dtype=F64)
    total = lambda c, **settings: (nearest(c, **settings) ** 3).sum()  # noqa: E731
    with pytest.raises(ffoadapt.DifferentiationError, match="weakly active"):
        torch.func.hessian(total)(c)
    leaf = c.clone().requires_grad_()
    (first,) = torch.autograd.grad(total(leaf), leaf, create_graph=True)
    assert first[0].item() == pytest.approx(3 * 0.3**2)
    with pytest.raises(ffoadapt.DifferentiationError, match="weakly active"):
        torch.autograd.grad(first.sum(), leaf)
    both = torch.stack((c, c - 0.2))
    found = torch.func.vmap(torch.func.hessian(lambda c: total(c, on_failure="nan")))(both)
    assert found[0].isnan().any()
    close([found[1]], [torch.diag(torch.tensor([0.6, 4.8, 0.0], dtype=F64))], 1e-9)


def test_a_failed_element_is_nan_alone() -> None:
    P, q, G, h, A, b = data((4,), 6)
    G, h = torch.cat((G, -G[:1])), torch.cat((h, 1 - h[:, :1]), dim=1)
    h[1, 8], h[2, 0] = -1 - h[1, 0], torch.nan  # infeasible; no number
    P[3] -= 20 * torch.eye(5, dtype=F64)  # not convex
    values = [P, q, G, h, A, b]
    x = ffoadapt.qp(*values, solver="ipm", on_failure="nan").x
    assert x.isnan().any(-1).tolist() == [False, True, True, True]
    leaves = [v.clone().requires_grad_() for v in values]
    value = ffoadapt.qp(*leaves, solver="ipm", on_failure="nan").x[0].sum()
    found = torch.autograd.grad(value, leaves)
    alone = [v.clone().requires_grad_() for v in (P[0], q[0], G, h[0], A, b[0])]
    expected = torch.autograd.grad(ffoadapt.qp(*alone, solver="clarabel").x.sum(), alone)
    for k, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        close([ours if k in (2, 4) else ours[0]], [theirs])
        assert k in (2, 4) or (ours[1:] == 0.0).all()
    h[2, 0] = 1.0
    with pytest.raises(ffoadapt.ProblemError, match="element 3"):
        ffoadapt.qp(*values, solver="ipm")
    with pytest.raises(ffoadapt.SolveError, match="element 1: primal_infeasible"):
        ffoadapt.qp(P[:3], q[:3], G, h[:3], A, b[:3], solver="ipm")
    with pytest.raises(ffoadapt.SolveError, match="no solution"):
        torch.func.vmap(lambda h: ffoadapt.qp(P[0], q[0], G, h, A, b[0], solver="ipm").x)(h[:3])


def test_without_rows_and_without_programs() -> None:
    P, q = torch.diag(torch.tensor([2.0, 4.0], dtype=F64)), torch.tensor([[-2.0, 2.0]] * 3).to(F64)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda q: ffoadapt.qp(P, q, solver="ipm").x))(q)
    close([jacobian], [torch.diag(torch.tensor([-0.5, -0.25], dtype=F64)).expand(3, 2, 2)])
    total = lambda q: (ffoadapt.qp(P, q, solver="ipm").x ** 3).sum()  # noqa: E731
    hessian = torch.func.hessian(total)(q[0])
    close([hessian], [torch.diag(torch.tensor([1.5, -0.1875], dtype=F64))])
    assert ffoadapt.qp(P, q[:0], solver="ipm").x.shape == (0, 2)


def test_singular_systems() -> None:
    """Repeated active rows, and a linear program with a vertex: as on the host, but for the share
    that each of the repeated rows has in their multiplier, which is the solver's choice."""
    eye = torch.eye(3, dtype=F64)
    P, q = torch.stack((eye, 0 * eye)), torch.tensor([[-3.0, -2.5, 0.5], [-1.0, -3.0, 1.0]])
    G = torch.ones(3, 3, dtype=F64) * torch.tensor([[1.0], [1.0], [2.0]])
    h = torch.tensor([1.0, 1.0, 2.0, 0.0, 0.0, 0.0], dtype=F64)
    values = [P, q.to(F64), torch.cat((G, -eye)), h.expand(2, 6)]

    def gradient(solver: str) -> Any:
        leaves = [v.clone().requires_grad_() for v in values]
        x = ffoadapt.qp(*leaves, solver=solver).x
        return torch.autograd.grad((x * torch.tensor([1.0, 2.0, 5.0])).sum(), leaves)

    for k, (ours, theirs) in enumerate(zip(gradient("ipm"), gradient("clarabel"), strict=True)):
        if k == 2:
            ours, theirs = (torch.cat((v[:1] + v[1:2] + 2 * v[2:3], v[3:])) for v in (ours, theirs))
        close([ours], [theirs], 1e-7)


def test_float32_is_solved_in_float64() -> None:
    values = data((3,), 7)
    values[3][:, 3] = 5.0
    narrow = [v.float() for v in values]
    found = gradients(narrow)
    assert {g.dtype for g in found} == {torch.float32}
    close(found, [g.float() for g in gradients([v.double() for v in narrow])], 1e-5)


def test_what_cannot_stay_on_a_device() -> None:
    values = data()
    with pytest.raises(ffoadapt.ParameterError, match=r"bfloat16.*\.float\(\)"):
        ffoadapt.qp(*(v.bfloat16() for v in values), solver="ipm")
    elsewhere = [*values[:5], values[5].to("meta")]
    with pytest.raises(ffoadapt.ParameterError, match="P on cpu, b on meta"):
        ffoadapt.qp(*elsewhere, solver="ipm")


def test_layers_of_cvxpy_and_sparse_matrices() -> None:
    cp = pytest.importorskip("cvxpy")
    x, A, b = cp.Variable(3), cp.Parameter((4, 3)), cp.Parameter(4)
    rows = [cp.sum(x) == 1, x >= 0, A[:2] @ x <= b[:2]]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b) + cp.norm1(x)), rows)
    rng = np.random.default_rng(0)
    values = [torch.from_numpy(rng.normal(size=(2, 4, 3))), torch.from_numpy(rng.normal(size=4))]
    each = []
    for solver in ("ipm", "clarabel"):
        layer = ffoadapt.Layer(problem, [A, b], [x, rows[0].dual_variables[0]], solver=solver)
        leaves = [v.clone().requires_grad_() for v in (values[0], values[1].abs() + 2.0)]
        outputs = layer(*leaves)
        total = outputs[0].cos().sum() + (outputs[1] ** 2).sum()
        each.append(torch.autograd.grad(total, leaves))
    close(*each, 1e-7)
    P, q, G, h, *_ = data(seed=8)
    grads = []
    for solver in ("ipm", "clarabel"):
        sparse = torch.where(G.abs() > 0.5, G, 0.0).to_sparse().requires_grad_()
        ffoadapt.qp(P, q, sparse, h, solver=solver).x.sum().backward()
        grads.append(sparse.grad.to_dense())
    close(grads[:1], grads[1:])


def test_in_a_graph() -> None:
    from ffoadapt_torch import prepare_compile

    prepare_compile()
    values = data((2,), 9)
    leaves = [v.clone().requires_grad_() for v in values]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    value = compiled(*leaves)
    close([value], [loss(*values)])
    close(torch.autograd.grad(value, leaves), gradients(values))
