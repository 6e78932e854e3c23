"""One program, every solver, every framework, every way of writing it: the same numbers.

The reference is `ffoadapt.solve` on a NumPy program, element by element, whose gradients
test_closed_forms.py holds to closed forms.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.experimental.sparse import BCOO
from scipy import sparse

import ffoadapt
import ffoadapt_torch
from ffoadapt import ConeProgram, NonnegativeCone, SecondOrderCone, ZeroCone

SOLVERS = ["clarabel", "osqp", "scs"]
FRAMEWORKS = ["numpy", "torch", "jax"]
OPTIONS = {"tolerance": 1e-9}
CLOSE = 1e-6
"""Frameworks repeat the reference's computation, but batches may be linear algebra of their own."""

pytestmark = [
    # torch's own, once a process: its beta state, and what its first jacfwd imports.
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]
every_solver = pytest.mark.parametrize("solver", SOLVERS)
every_framework = pytest.mark.parametrize("framework", FRAMEWORKS)
every_gradient = pytest.mark.parametrize("framework", ["torch", "jax"])


# --- what is compared -----------------------------------------------------------------------------


def spd(rng: np.random.Generator, n: int) -> np.ndarray:
    L = rng.standard_normal((n, n)) / np.sqrt(n)
    return L @ L.T + 0.5 * np.eye(n)


class Kind:
    """A way of writing a program: its data, the call under test, and the reference."""

    names: Sequence[str]
    outputs: Sequence[str]

    def data(self, seed: int) -> list[np.ndarray]:
        raise NotImplementedError

    def call(self, solver: Any, *data: Any, **settings: Any) -> tuple[Any, ...]:
        raise NotImplementedError

    def program(self, *data: np.ndarray) -> ConeProgram:
        raise NotImplementedError

    def reference(
        self, solver: Any, data: Sequence[Any], cotangents: Sequence[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        result = ffoadapt.solve(self.program(*data), solver, solver_options=OPTIONS)
        grad = result.vjp(**dict(zip(self.outputs, cotangents, strict=True)))
        return [getattr(result, o) for o in self.outputs], [getattr(grad, n) for n in self.names]


class Qp(Kind):
    names = ("P", "q", "G", "h", "A", "b")
    outputs = ("x", "z_ineq", "y_eq")

    def data(self, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        G, x = rng.standard_normal((3, 4)), rng.standard_normal(4)
        h = G @ x + np.array([-0.5, 0.1, 1.0])
        return [spd(rng, 4), rng.standard_normal(4), G, h, rng.standard_normal((1, 4)), 0.1 * x[:1]]

    def call(self, solver: Any, *data: Any, **settings: Any) -> tuple[Any, ...]:
        return ffoadapt.qp(*data, solver=solver, solver_options=OPTIONS, **settings)

    def program(self, *data: np.ndarray) -> ConeProgram:
        return ConeProgram.from_split(*data)


class BoxQp(Kind):
    names = ("P", "q", "A", "l", "u")
    outputs = ("x", "y")

    def data(self, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        lower = np.array([-0.1, -np.inf, 0.05, -0.2])
        upper = np.array([0.2, 0.1, 0.05, np.inf])
        return [spd(rng, 4), 3 * rng.standard_normal(4), rng.standard_normal((4, 4)), lower, upper]

    def call(self, solver: Any, *data: Any, **settings: Any) -> tuple[Any, ...]:
        return ffoadapt.box_qp(*data, solver=solver, solver_options=OPTIONS, **settings)

    def program(self, *data: np.ndarray) -> ConeProgram:
        return ConeProgram.from_box(*data)


class Cones(Kind):
    """Polyhedral, so that OSQP can."""

    names = ("P", "q", "A", "b")
    outputs = ("x", "s", "z")
    cones = (NonnegativeCone(2), ZeroCone(1), NonnegativeCone(1))

    def data(self, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        A, x = rng.standard_normal((4, 4)), rng.standard_normal(4)
        return [spd(rng, 4), rng.standard_normal(4), A, A @ x + np.array([0.1, -0.3, 0, 2])]

    def call(self, solver: Any, *data: Any, **settings: Any) -> tuple[Any, ...]:
        options = {"solver_options": OPTIONS, **settings}
        return ffoadapt.cone_program(*data, self.cones, solver=solver, **options)

    def program(self, *data: np.ndarray) -> ConeProgram:
        return ConeProgram(*data, self.cones)


class SecondOrder(Cones):
    """A curved cone next to a polyhedral one."""

    cones = (SecondOrderCone(3), NonnegativeCone(1))

    def data(self, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        A = np.vstack((np.zeros(4), -np.eye(4)[:2], np.eye(4)[2]))
        q = np.array([2.0, -1.5, -3, 0.3]) + 0.1 * rng.standard_normal(4)
        return [spd(rng, 4), q, A, np.array([0.3, 0.0, 0.1, 0.2])]


def cvxpy_problem() -> tuple[Any, list[Any], list[Any]]:
    """min 1/2 |x|^2 + c'x, Gx <= h, 1'x = t; with a matrix parameter, a scalar one, and a dual."""
    x = cp.Variable(4, name="x")
    c, G = cp.Parameter(4, name="c"), cp.Parameter((3, 4), name="G")
    h, t = cp.Parameter(3, name="h"), cp.Parameter(name="t")
    rows = G @ x <= h
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(x) + c @ x), [rows, cp.sum(x) == t])
    return problem, [c, G, h, t], [x, rows.dual_variables[0]]


class Cvxpy(Kind):
    names = ("c", "G", "h", "t")
    outputs = ("x", "dual")

    def __init__(self) -> None:
        self.layers: dict[Any, ffoadapt.Layer] = {}

    def layer(self, solver: Any, **settings: Any) -> ffoadapt.Layer:
        key = (solver, *settings.items())
        if key not in self.layers:
            self.layers[key] = ffoadapt.Layer(
                *cvxpy_problem(), solver=solver, solver_options=OPTIONS, **settings
            )
        return self.layers[key]

    def data(self, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        G, x = rng.standard_normal((3, 4)), rng.standard_normal(4)
        return [rng.standard_normal(4), G, G @ x + np.array([-0.5, 0.1, 1.0]), np.array(0.3)]

    def call(self, solver: Any, *data: Any, **settings: Any) -> tuple[Any, ...]:
        return self.layer(solver, **settings)(*data)

    def reference(
        self, solver: Any, data: Sequence[Any], cotangents: Sequence[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        result = self.layer(solver).solve(*data)
        return list(result.variables), list(result.vjp(*cotangents))


KINDS: dict[str, Kind] = {"qp": Qp(), "box_qp": BoxQp(), "cone_program": Cones(), "cvxpy": Cvxpy()}
every_kind = pytest.mark.parametrize("kind", KINDS)


# --- frameworks -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def x64():
    """float64 in JAX, for these tests alone."""
    with jax.enable_x64(True):
        yield


def to(framework: str, array: Any, dtype: Any = np.float64) -> Any:
    array = np.asarray(array, dtype=dtype)
    if framework == "torch":
        return torch.tensor(array)
    return jnp.asarray(array) if framework == "jax" else array


def gradients(
    framework: str, function: Callable[..., Any], data: Sequence[Any], cotangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Values of the function, and the gradient of <cotangents, values> by the framework."""
    if framework == "torch":
        leaves = [to("torch", v).requires_grad_() for v in data]
        values = function(*leaves)
        total = sum((v * to("torch", c)).sum() for v, c in zip(values, cotangents, strict=True))
        grads = torch.autograd.grad(total, leaves)
        return [v.detach().numpy() for v in values], [g.numpy() for g in grads]
    assert framework == "jax"
    arrays = [to("jax", v) for v in data]
    values, pull = jax.vjp(lambda *args: tuple(function(*args)), *arrays)
    grads = pull(tuple(to("jax", c) for c in cotangents))
    return [np.asarray(v) for v in values], [np.asarray(g) for g in grads]


def close(found: Any, expected: Any, relative: float = CLOSE) -> bool:
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return False
    size = max(np.linalg.norm(expected), 1e-3)
    return bool(np.linalg.norm(found - expected) <= relative * size)


def random_cotangents(values: Sequence[Any], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(np.shape(v)) for v in values]


def batched_reference(
    kind: Kind, solver: Any, data: Sequence[np.ndarray], batch: tuple[int, ...], cotangents: Any
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Element by element; the gradient of data shared by elements is the sum over them."""
    cores = [np.ndim(v) for v in kind.data(0)]
    values: list[np.ndarray] = [np.empty_like(c) for c in cotangents]
    grads = [np.zeros(v.shape) for v in data]
    for index in np.ndindex(*batch):
        own = []
        for v, core in zip(data, cores, strict=True):
            lead = v.shape[: v.ndim - core]
            at = index[len(index) - len(lead) :]
            own.append(tuple(0 if size == 1 else i for i, size in zip(at, lead, strict=True)))
        element = [v[at] for v, at in zip(data, own, strict=True)]
        found, back = kind.reference(solver, element, [c[index] for c in cotangents])
        for store, value in zip(values, found, strict=True):
            store[index] = value
        for store, at, grad in zip(grads, own, back, strict=True):
            store[at] += grad
    return values, grads


def stacked(kind: Kind, leads: Sequence[tuple[int, ...]], small: float = 0.02) -> list[np.ndarray]:
    """The data with these batch axes, each element near the others (same structure, convex)."""
    rng, base = np.random.default_rng(99), kind.data(1)
    out = []
    for k, (v, lead) in enumerate(zip(base, leads, strict=True)):
        v = np.asarray(v, dtype=float)
        noise = small * rng.standard_normal((*lead, *v.shape))
        if kind.names[k] == "P":
            noise = noise @ noise.swapaxes(-1, -2)
        if kind.names[k] in ("l", "u"):
            noise = np.zeros_like(noise)  # an equality stays one
        out.append(v + noise)
    return out


# --- values and gradients -------------------------------------------------------------------------


@every_kind
@every_framework
@every_solver
def test_values(solver: str, framework: str, kind: str) -> None:
    k = KINDS[kind]
    data = k.data(1)
    found = k.call(solver, *(to(framework, v) for v in data))
    expected, _ = k.reference(solver, data, random_cotangents(found))
    for value, reference in zip(found, expected, strict=True):
        assert type(value) is type(to(framework, [0.0])), "the arrays of the framework come back"
        assert close(np.asarray(value), reference, 1e-9)


@every_kind
@every_gradient
@every_solver
def test_gradients(solver: str, framework: str, kind: str) -> None:
    k = KINDS[kind]
    data = k.data(1)
    cotangents = random_cotangents(k.call(solver, *data))
    expected, grads = k.reference(solver, data, cotangents)
    values, found = gradients(framework, lambda *d: k.call(solver, *d), data, cotangents)
    for value, reference in zip(values, expected, strict=True):
        assert close(value, reference, 1e-9)
    assert any(np.linalg.norm(g) > 0.01 for g in grads)
    for name, value, reference in zip(k.names, found, grads, strict=True):
        assert close(value, reference), name


@every_gradient
@pytest.mark.parametrize("solver", ["clarabel", "scs"])
def test_curved_cone(solver: str, framework: str) -> None:
    k = SecondOrder()
    data = k.data(1)
    cotangents = random_cotangents(k.call(solver, *data))
    values, found = gradients(framework, lambda *d: k.call(solver, *d), data, cotangents)
    expected, grads = k.reference(solver, data, cotangents)
    assert np.linalg.norm(values[2][:3]) > 0.1  # the cone is active
    for name, value, reference in zip(k.names, found, grads, strict=True):
        assert close(value, reference), name
    assert close(values[0], expected[0], 1e-9)


def lead_patterns(kind: Kind) -> list[list[tuple[int, ...]]]:
    """The batch axis on each parameter alone, on all, on all but one; of one; two axes."""
    count = len(kind.names)
    alone = [[(3,) if i == j else () for i in range(count)] for j in range(count)]
    two = [((2, 3), (3,), (2, 1), ())[i % 4] for i in range(count)]
    ones = [[(1,)] * count, [(1,)] + [()] * (count - 1), [(3,)] + [(1,)] * (count - 1)]
    return [*alone, [(3,)] * count, *ones, two, [(2, 3)] * count]


@every_kind
@every_framework
def test_batches(framework: str, kind: str) -> None:
    k = KINDS[kind]
    for leads in lead_patterns(k):
        data = stacked(k, leads)
        batch = np.broadcast_shapes(*leads)
        values = k.call("clarabel", *(to(framework, v) for v in data))
        for value in values:
            assert tuple(value.shape[: len(batch)]) == batch, leads
        cotangents = random_cotangents(values)
        expected, grads = batched_reference(k, "clarabel", data, batch, cotangents)
        for value, reference in zip(values, expected, strict=True):
            assert close(np.asarray(value), reference, 1e-6), leads
        if framework == "numpy":
            continue
        _, found = gradients(framework, lambda *d: k.call("clarabel", *d), data, cotangents)
        for name, value, reference in zip(k.names, found, grads, strict=True):
            assert close(value, reference, 1e-5), (leads, name)


def test_layer_result_of_a_batch() -> None:
    """NumPy users differentiate results: vjp and jvp of a batch, and what comes with it."""
    k = Cvxpy()
    layer = k.layer("clarabel")
    data = stacked(k, [(3,), (), (3,), ()])
    result = layer.solve(*data)
    cotangents = random_cotangents(result.variables)
    expected, grads = batched_reference(k, "clarabel", data, (3,), cotangents)
    found = result.vjp(*cotangents)
    for value, reference in zip(found, grads, strict=True):
        assert close(value, reference)
    tangents = random_cotangents(data, 1)
    forward = result.jvp(*tangents)
    total = sum(np.vdot(c, f) for c, f in zip(cotangents, forward, strict=True))
    back = sum(np.vdot(t, f) for t, f in zip(tangents, found, strict=True))
    assert total == pytest.approx(back, rel=1e-9)
    assert [status.value for status in result.status] == ["optimal"] * 3
    c, x = data[0], expected[0]
    assert close(result.objective, 0.5 * (x * x).sum(-1) + (c * x).sum(-1), 1e-6)
    assert [report.verdict for report in result.report()] == ["differentiable"] * 3
    several = result.vjp(np.stack([cotangents[0]] * 2), None)
    assert close(several[0][0], several[0][1]) and several[0].shape == (2, 3, 4)


@every_kind
@every_framework
def test_dtype_is_kept(framework: str, kind: str) -> None:
    k = KINDS[kind]
    data = k.data(1)
    exact = k.call("clarabel", *data)
    for dtype in (np.float32, np.float64):
        found = k.call("clarabel", *(to(framework, v, dtype) for v in data))
        for value, reference in zip(found, exact, strict=True):
            assert np.asarray(value).dtype == dtype
            assert close(np.asarray(value), reference, 1e-4)
    if framework == "torch":
        leaves = [to("torch", v, np.float32).requires_grad_() for v in data]
        k.call("clarabel", *leaves)[0].sum().backward()
        assert all(leaf.grad.dtype == torch.float32 for leaf in leaves)
    if framework == "jax":
        arrays = [to("jax", v, np.float32) for v in data]
        total = lambda *a: k.call("clarabel", *a)[0].sum()  # noqa: E731
        for g in jax.grad(total, argnums=tuple(range(len(data))))(*arrays):
            assert g.dtype == jnp.float32


@every_framework
def test_mixed_dtypes_promote(framework: str) -> None:
    k = KINDS["qp"]
    data = [to(framework, v, np.float32) for v in k.data(1)]
    data[1] = to(framework, k.data(1)[1], np.float64)
    assert np.asarray(k.call("clarabel", *data)[0]).dtype == np.float64


@every_gradient
@every_solver
def test_equalities_of_some_elements(solver: str, framework: str) -> None:
    """A row with l = u in one element of a batch and l < u in another: as each element alone."""
    k = KINDS["box_qp"]
    P, q, A, _, _ = k.data(1)
    lower = np.array([[-0.1, -0.2, 0.1, 0.0], [0.05, -0.2, -0.3, -9], [-0.2, 0.1, 0.1, -0.1]])
    upper = np.array([[0.2, 0.1, 0.1, 0.0], [0.05, 0.3, 0.2, 9.0], [0.2, 0.1, 0.1, 0.3]])
    data = [P, q, A, lower, upper]
    cotangents = random_cotangents(k.call(solver, *data))
    expected, grads = batched_reference(k, solver, data, (3,), cotangents)
    values, found = gradients(framework, lambda *d: k.call(solver, *d), data, cotangents)
    for value, reference in zip(values, expected, strict=True):
        assert close(value, reference)
    for name, value, reference in zip(k.names, found, grads, strict=True):
        assert close(value, reference), name


# --- sparse matrices ------------------------------------------------------------------------------


def sparse_qp() -> tuple[list[Any], list[np.ndarray], list[Any]]:
    """Dense data of a program with zeros in P, G and A; the reference gradients on the pattern."""
    k = Qp()
    P, q, G, h, A, b = k.data(3)
    P = P * (np.abs(np.subtract.outer(np.arange(4), np.arange(4))) <= 1) + np.eye(4)
    G = np.where(np.arange(12).reshape(3, 4) % 5 == 1, 0.0, G)
    A = np.array([[1.0, 0, 2, 0]])
    data = [P, q, G, h, A, b]
    cotangents = random_cotangents(k.call("clarabel", *data))
    _, grads = k.reference("clarabel", data, cotangents)
    return data, cotangents, grads


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_torch_sparse(layout: str) -> None:
    data, cotangents, grads = sparse_qp()
    leaves: list[Any] = []
    for v in data:
        t = torch.tensor(v)
        if v.ndim == 2:
            t = t.to_sparse_coo() if layout == "coo" else t.to_sparse_csr()
        leaves.append(t.detach().requires_grad_())
    values = KINDS["qp"].call("clarabel", *leaves)
    sum((v * torch.tensor(c)).sum() for v, c in zip(values, cotangents, strict=True)).backward()
    for v, leaf, expected in zip(data, leaves, grads, strict=True):
        if v.ndim == 2:
            expected = np.where(v != 0, expected, 0.0)
            assert leaf.grad.layout == leaf.layout
            assert close(leaf.grad.to_dense().numpy(), expected)
        else:
            assert close(leaf.grad.numpy(), expected)


def test_torch_sparse_uncoalesced() -> None:
    """Duplicate entries are summed, and each gets the gradient of the sum."""
    data, cotangents, grads = sparse_qp()
    A = data[4]
    index = torch.tensor([[0, 0, 0], [2, 0, 2]])
    values = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    coo = torch.sparse_coo_tensor(index, values, A.shape)
    given = [torch.tensor(v) for v in data]
    given[4] = coo
    found = KINDS["qp"].call("clarabel", *given)
    sum((v * torch.tensor(c)).sum() for v, c in zip(found, cotangents, strict=True)).backward()
    expected = grads[4][0, [2, 0, 2]]
    assert close(values.grad.numpy(), expected)


def test_jax_bcoo() -> None:
    data, cotangents, grads = sparse_qp()
    matrices = {i: BCOO.fromdense(jnp.asarray(v)) for i, v in enumerate(data) if v.ndim == 2}

    def total(values: dict[int, Any], vectors: dict[int, Any]) -> Any:
        args = [
            BCOO((values[i], matrices[i].indices), shape=v.shape) if i in matrices else vectors[i]
            for i, v in enumerate(data)
        ]
        found = KINDS["qp"].call("clarabel", *args)
        return sum((v * c).sum() for v, c in zip(found, cotangents, strict=True))

    vectors = {i: jnp.asarray(v) for i, v in enumerate(data) if i not in matrices}
    values = {i: m.data for i, m in matrices.items()}
    for transform in (lambda f: f, jax.jit):
        by_matrix, by_vector = transform(jax.grad(total, argnums=(0, 1)))(values, vectors)
        for i, g in by_vector.items():
            assert close(g, grads[i])
        for i, g in by_matrix.items():
            rows, columns = np.asarray(matrices[i].indices).T
            assert close(g, grads[i][rows, columns])


@every_framework
def test_scipy_sparse_constants(framework: str) -> None:
    data, cotangents, grads = sparse_qp()
    constant = {0: sparse.csc_matrix(data[0]), 2: sparse.coo_array(data[2])}
    constant[4] = sparse.csr_matrix(data[4])
    free = [i for i in range(6) if i not in constant]

    def call(*vectors: Any) -> Any:
        given = dict(zip(free, vectors, strict=True)) | constant
        return KINDS["qp"].call("clarabel", *(given[i] for i in range(6)))

    expected = KINDS["qp"].call("clarabel", *data)
    vectors = [data[i] for i in free]
    for value, reference in zip(call(*(to(framework, v) for v in vectors)), expected, strict=True):
        assert close(np.asarray(value), reference, 1e-7)
    if framework != "numpy":
        _, found = gradients(framework, call, vectors, cotangents)
        for i, g in zip(free, found, strict=True):
            assert close(g, grads[i])


# --- torch ----------------------------------------------------------------------------------------


def torch_solution(q: Any, b: Any) -> Any:
    """x of a fixed program as a function of q and h, both differentiable."""
    P, _, G, _, A, c = (torch.tensor(v) for v in KINDS["qp"].data(1))
    return ffoadapt.qp(P, q, G, b, A, c, solver="clarabel", solver_options=OPTIONS).x


def torch_point() -> tuple[torch.Tensor, torch.Tensor]:
    data = KINDS["qp"].data(1)
    return torch.tensor(data[1]), torch.tensor(data[3])


@pytest.mark.parametrize("kind", ["qp", "box_qp", "cone_program", "second_order", "cvxpy"])
def test_torch_gradcheck(kind: str) -> None:
    """Against finite differences, by torch's own standard; P moves among symmetric matrices."""
    k = SecondOrder() if kind == "second_order" else KINDS[kind]
    # Finite bounds only, and no l = u: finite differences would cross it.
    data = [np.clip(np.asarray(v), -5, 5) for v in k.data(1)]
    if kind == "box_qp":
        data[3][2] = -4.0
    leaves = [torch.tensor(v, dtype=torch.float64).requires_grad_() for v in data]

    def function(*args: Any) -> Any:
        if k.names[0] == "P":
            args = (0.5 * (args[0] + args[0].T), *args[1:])
        return tuple(k.call("clarabel", *args))

    tolerances = {"eps": 1e-5, "atol": 1e-4, "rtol": 1e-3}
    assert torch.autograd.gradcheck(function, leaves, **tolerances)
    batch = [
        leaf.detach().repeat(2, *[1] * leaf.ndim) if i == 1 else leaf
        for i, leaf in enumerate(leaves)
    ]
    batch[1] = batch[1].clone().requires_grad_()
    if k.names[0] == "P" or kind == "cvxpy":
        assert torch.autograd.gradcheck(function, batch, fast_mode=True, **tolerances)


def test_torch_forward_mode() -> None:
    q, h = torch_point()
    reverse = torch.func.jacrev(torch_solution, argnums=(0, 1))(q, h)
    forward = torch.func.jacfwd(torch_solution, argnums=(0, 1))(q, h)
    for r, f in zip(reverse, forward, strict=True):
        assert torch.linalg.norm(r) > 0.1
        assert close(f.numpy(), r.numpy(), 1e-9)
    rng = np.random.default_rng(0)
    dq, dh = (torch.tensor(rng.standard_normal(v.shape)) for v in (q, h))
    value, tangent = torch.func.jvp(torch_solution, (q, h), (dq, dh))
    assert close(tangent.numpy(), (reverse[0] @ dq + reverse[1] @ dh).numpy(), 1e-9)
    assert close(value.numpy(), torch_solution(q, h).numpy(), 1e-12)


def test_torch_vmap_nested_both_ways() -> None:
    q, h = torch_point()
    rng = np.random.default_rng(1)
    qs = q + 0.1 * torch.tensor(rng.standard_normal((3, 4)))
    hs = h + 0.1 * torch.tensor(rng.standard_normal((2, 3)))
    each = torch.stack([torch_solution(v, h) for v in qs])
    one = torch.func.vmap(torch_solution, in_dims=(0, None))
    assert close(one(qs, h).numpy(), each.numpy(), 1e-7)
    assert close(torch.func.vmap(torch_solution, (1, None))(qs.T, h).numpy(), each.numpy(), 1e-7)
    grid = torch.stack([torch.stack([torch_solution(v, w) for v in qs]) for w in hs])
    two = torch.func.vmap(one, in_dims=(None, 0))
    assert close(two(qs, hs).numpy(), grid.numpy(), 1e-7)

    jac = {
        name: torch.stack([transform(torch_solution)(v, h) for v in qs])
        for name, transform in (("rev", torch.func.jacrev), ("fwd", torch.func.jacfwd))
    }
    assert close(jac["rev"].numpy(), jac["fwd"].numpy(), 1e-9)
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        inside = torch.func.vmap(transform(torch_solution), in_dims=(0, None))(qs, h)
        assert close(inside.numpy(), jac["rev"].numpy(), 1e-6), transform
        outside = transform(one)(qs, h)  # (3, 4, 3, 4), zero between elements
        for i in range(3):
            for j in range(3):
                expected = jac["rev"][i] if i == j else torch.zeros(4, 4)
                assert close(outside[i, :, j].numpy(), expected.numpy(), 1e-6), transform
    # Twice vmapped Jacobians, and a vjp of a vmap with respect to what the elements share.
    twice = torch.func.vmap(
        torch.func.vmap(torch.func.jacrev(torch_solution), (0, None)), (None, 0)
    )(qs, hs)
    for i, w in enumerate(hs):
        for j, v in enumerate(qs):
            expected = torch.func.jacrev(torch_solution)(v, w)
            assert close(twice[i, j].numpy(), expected.numpy(), 1e-6)
    shared = torch.func.grad(lambda w: one(qs, w).sum())(h)
    parts = [torch.func.grad(lambda w, v=v: torch_solution(v, w).sum())(h) for v in qs]
    assert close(shared.numpy(), sum(parts).numpy(), 1e-6)


def test_torch_vmap_over_a_batch() -> None:
    """A vmapped axis in front of a batch axis; cotangents over both."""
    q, h = torch_point()
    qs = q + 0.1 * torch.tensor(np.random.default_rng(2).standard_normal((2, 3, 4)))
    found = torch.func.vmap(torch_solution, (0, None))(qs, h)
    each = torch.stack([torch_solution(v, h) for v in qs])
    assert close(found.numpy(), each.numpy(), 1e-7)
    jac = torch.func.vmap(torch.func.jacrev(torch_solution), (0, None))(qs, h)
    expected = torch.stack([torch.func.jacrev(torch_solution)(v, h) for v in qs])
    assert close(jac.numpy(), expected.numpy(), 1e-6)


def test_torch_retained_graphs() -> None:
    """Backward twice; two graphs of one layer alive at once, differentiated in either order."""
    layer = KINDS["cvxpy"].layer("clarabel")
    graphs = []
    for seed in (1, 2):
        leaves = [torch.tensor(v).requires_grad_() for v in KINDS["cvxpy"].data(seed)]
        graphs.append((leaves, layer(*leaves)[0].sum()))
    first = [torch.autograd.grad(t, ls, retain_graph=True) for ls, t in graphs]
    again = [torch.autograd.grad(t, ls, retain_graph=True) for ls, t in reversed(graphs)][::-1]
    for one, two, seed in zip(first, again, (1, 2), strict=True):
        cotangents = [np.ones(4), np.zeros(3)]
        _, grads = KINDS["cvxpy"].reference("clarabel", KINDS["cvxpy"].data(seed), cotangents)
        for a, b, reference in zip(one, two, grads, strict=True):
            assert torch.equal(a, b)
            assert close(a.numpy(), reference)


def test_torch_second_derivative() -> None:
    """x is linear in q as long as the active rows stay, so its own second derivative is zero."""
    q, h = torch_point()
    q.requires_grad_()
    (grad,) = torch.autograd.grad(torch_solution(q, h).sum(), q, create_graph=True)
    assert grad.any()
    (second,) = torch.autograd.grad(grad.square().sum(), q)
    assert not second.any()


def test_torch_partial_gradients() -> None:
    """Only what requires a gradient gets one; without any, no graph is kept."""
    data = [torch.tensor(v) for v in KINDS["qp"].data(1)]
    assert not KINDS["qp"].call("clarabel", *data)[0].requires_grad
    data[3].requires_grad_()
    x, _, _ = KINDS["qp"].call("clarabel", *data)
    x.sum().backward()
    assert data[3].grad is not None and data[1].grad is None
    with torch.no_grad():
        assert not KINDS["qp"].call("clarabel", *data)[0].requires_grad


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("module", [False, True])
def test_copies_of_layers(module: bool, how: str) -> None:
    make = ffoadapt_torch.CvxpyLayer if module else ffoadapt.Layer
    layer = make(*cvxpy_problem(), solver="clarabel", solver_options=OPTIONS)
    data = [torch.tensor(v).requires_grad_() for v in KINDS["cvxpy"].data(1)]
    before = layer(*data)  # with what a call may leave behind
    twin = copy.deepcopy(layer) if how == "deepcopy" else pickle.loads(pickle.dumps(layer))
    after = twin(*data)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b)
    one, two = (torch.autograd.grad(v[0].sum(), data) for v in (before, after))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    if module:
        assert list(twin.parameters()) == [] and isinstance(twin, torch.nn.Module)
        assert isinstance(copy.deepcopy(torch.nn.Sequential(layer)), torch.nn.Sequential)


def test_torch_module_options_for_one_call() -> None:
    layer = ffoadapt_torch.CvxpyLayer(*cvxpy_problem(), solver="scs")
    data = [torch.tensor(v) for v in KINDS["cvxpy"].data(1)]
    with pytest.raises(ffoadapt.SolveError, match="iteration_limit"):
        layer(*data, solver_args={"max_iterations": 1})
    assert layer(*data)[0].shape == (4,)


# --- JAX ------------------------------------------------------------------------------------------


def jax_solution(q: Any, h: Any) -> Any:
    P, _, G, _, A, b = KINDS["qp"].data(1)
    return ffoadapt.qp(P, q, G, h, A, b, solver="clarabel", solver_options=OPTIONS).x


def jax_point() -> tuple[Any, Any]:
    data = KINDS["qp"].data(1)
    return jnp.asarray(data[1]), jnp.asarray(data[3])


def test_jax_agrees_with_torch_jacobian() -> None:
    q, h = jax_point()
    expected = torch.func.jacrev(torch_solution, argnums=(0, 1))(*torch_point())
    for transform in (lambda f: f, jax.jit):
        found = transform(jax.jacrev(jax_solution, argnums=(0, 1)))(q, h)
        for a, b in zip(found, expected, strict=True):
            assert close(a, b.numpy(), 1e-7)
        value = transform(jax_solution)(q, h)
        assert close(value, torch_solution(*torch_point()).numpy(), 1e-12)
        grad = transform(jax.grad(lambda q, h: jax_solution(q, h).sum()))(q, h)
        assert close(grad, expected[0].sum(0).numpy(), 1e-7)


def test_jax_vmap_nested_both_ways() -> None:
    q, h = jax_point()
    rng = np.random.default_rng(1)
    qs, hs = q + 0.1 * rng.standard_normal((3, 4)), h + 0.1 * rng.standard_normal((2, 3))
    each = np.stack([jax_solution(v, h) for v in qs])
    one = jax.vmap(jax_solution, in_axes=(0, None))
    jac = np.stack([jax.jacrev(jax_solution)(v, h) for v in qs])
    grid = np.stack([np.stack([jax_solution(v, w) for v in qs]) for w in hs])
    for transform in (lambda f: f, jax.jit):
        assert close(transform(one)(qs, h), each, 1e-7)
        moved = jax.vmap(jax_solution, in_axes=(1, None), out_axes=1)
        assert close(transform(moved)(qs.T, h), each.T, 1e-7)
        assert close(transform(jax.vmap(one, in_axes=(None, 0)))(qs, hs), grid, 1e-7)
        inside = transform(jax.vmap(jax.jacrev(jax_solution), in_axes=(0, None)))(qs, h)
        assert close(inside, jac, 1e-6)
        outside = transform(jax.jacrev(one))(qs, h)
        for i in range(3):
            for j in range(3):
                assert close(outside[i, :, j], jac[i] if i == j else np.zeros((4, 4)), 1e-6)
        twice = jax.vmap(jax.vmap(jax.jacrev(jax_solution), (0, None)), (None, 0))
        found = transform(twice)(qs, hs)
        for i, w in enumerate(hs):
            for j, v in enumerate(qs):
                assert close(found[i, j], jax.jacrev(jax_solution)(v, w), 1e-6)
        shared = transform(jax.grad(lambda w: one(qs, w).sum()))(h)
        parts = [jax.grad(lambda w, v=v: jax_solution(v, w).sum())(h) for v in qs]
        assert close(shared, sum(parts), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_jax_jit_of_every_kind(kind: str) -> None:
    k = KINDS[kind]
    data = [jnp.asarray(v) for v in k.data(1)]
    cotangents = random_cotangents(k.call("clarabel", *k.data(1)))

    @jax.jit
    def both(*args: Any) -> Any:
        values, pull = jax.vjp(lambda *a: tuple(k.call("clarabel", *a)), *args)
        return values, pull(tuple(jnp.asarray(c) for c in cotangents))

    values, found = both(*data)
    expected, grads = k.reference("clarabel", k.data(1), cotangents)
    for value, reference in zip(values, expected, strict=True):
        assert close(value, reference, 1e-9)
    for name, value, reference in zip(k.names, found, grads, strict=True):
        assert close(value, reference), name


@pytest.mark.parametrize("on", [True, False])
def test_jax_precision(on: bool) -> None:
    """Without x64 arrays are float32, and so are solutions; the gradient is as exact as that."""
    q, h = KINDS["qp"].data(1)[1], KINDS["qp"].data(1)[3]
    expected = jax.grad(lambda v: jax_solution(v, h).sum())(jnp.asarray(q))
    with jax.enable_x64(on):
        dtype = jnp.float64 if on else jnp.float32
        for transform in (lambda f: f, jax.jit):
            value = transform(jax_solution)(jnp.asarray(q), jnp.asarray(h))
            assert value.dtype == dtype
            total = lambda v: jax_solution(v, jnp.asarray(h)).sum()  # noqa: E731
            grad = transform(jax.grad(total))(jnp.asarray(q))
            assert grad.dtype == dtype
            assert close(grad, expected, 1e-9 if on else 1e-5)


def test_jax_errors_are_ours_outside_jit() -> None:
    q, h = jax_point()
    P, _, G, _, _, _ = KINDS["qp"].data(1)
    both, bounds = np.vstack((G[:1], -G[:1])), jnp.asarray([-1.0, -1.0])
    with pytest.raises(ffoadapt.SolveError, match="primal_infeasible"):
        ffoadapt.qp(P, q, both, bounds, solver="clarabel")
    with pytest.raises(ffoadapt.ShapeError, match=r"G has shape \(3, 4\); expected \(2, 4\)"):
        ffoadapt.qp(P, q, G, h[:2], solver="clarabel")
    with pytest.raises(ffoadapt.ProblemError, match="nan"):
        jax_solution(q.at[0].set(jnp.nan), h)


# --- threads, cones -------------------------------------------------------------------------------


@every_solver
def test_threads_share_a_layer(solver: str) -> None:
    """Bit for bit what one thread gives."""
    layer = KINDS["cvxpy"].layer(solver)
    many = [KINDS["cvxpy"].data(seed) for seed in range(1, 9)]

    def work(data: list[np.ndarray]) -> tuple[Any, ...]:
        leaves = [torch.tensor(v).requires_grad_() for v in data]
        x, dual = layer(*leaves)
        grads = torch.autograd.grad(x.sum() + dual.sum(), leaves)
        return (x.detach(), dual.detach(), *grads)

    serial = [work(data) for data in many]
    with ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(work, many * 3))
    for k, found in enumerate(parallel):
        for a, b in zip(found, serial[k % len(many)], strict=True):
            assert torch.equal(a, b)


@every_framework
def test_osqp_has_no_second_order_cone(framework: str) -> None:
    data = [to(framework, v) for v in SecondOrder().data(1)]
    with pytest.raises(ffoadapt.UnsupportedProblemError) as caught:
        SecondOrder().call("osqp", *data)
    text = str(caught.value)
    assert "'osqp'" in text and "second_order" in text
    assert "clarabel" in text and "scs" in text

    x, c = cp.Variable(3), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(c @ x), [cp.norm(x) <= 1])
    with pytest.raises(ffoadapt.UnsupportedProblemError, match=r"second_order.*clarabel"):
        ffoadapt.Layer(problem, [c], [x], solver="osqp")
