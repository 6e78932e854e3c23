"""Hands anything to every way in, and looks for what must not come back.

    python benchmarks/fuzz.py --calls 20000 --seed 0 --log fuzz.log    # again: it goes on
    python benchmarks/fuzz.py --seed 0 --call 4711                     # one call in detail

A finding is
- the end of the process (a signal), or no answer for `PATIENCE` seconds;
- an exception that is not an `ffoadapt.FFOAdaptError`; a TypeError for arguments that a signature
  does not have is Python's;
- an argument that is not what it was before the call, bit for bit;
- NaN in an output or a gradient of a program that is solved;
- more than `SLOW` seconds of computing.

Calls run in a child process, which is started anew after it died. Each is drawn from (seed, number)
alone; one that dies only after others is said to.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_values import Bare, mangled, odd_settings, snapshot
from scipy import sparse

import ffoadapt

PATIENCE = 60.0
"""Seconds without a sign of life after which a child is ended, where it was computing for at least
half of them; on a busy machine it may have to wait, but not ten times as long."""

SLOW = 10.0
"""Seconds of processor time: the programs are tiny, the first call of a solver imports it."""

RENEWED = 2_000
"""Calls after which a child is replaced by a fresh one."""

SOLVERS = ["auto", "clarabel", "daqp", "highs", "osqp", "piqp", "proxqp", "qpalm", "scs"]
"""The others take seconds for their first call in a process, or have licences."""

Rng = np.random.Generator


@dataclass
class Finding:
    seed: int
    call: int
    way: str
    kind: str
    what: str
    where: str = ""
    text: str = ""

    def __str__(self) -> str:
        place = f" at {self.where}" if self.where else ""
        return (
            f"{self.kind} in {self.way}: {self.what}{place} (--seed {self.seed} --call {self.call})"
        )

    @property
    def group(self) -> tuple[str, str, str]:
        return self.kind, self.what.split(":")[0] if self.kind == "exception" else "", self.where


@dataclass
class Attempt:
    """One call: what it is given, and what was seen."""

    rng: Rng
    way: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    nan: list[str] = field(default_factory=list)
    tame: bool = True
    """Whether cotangents and tangents are plain numbers."""

    def data(self, **arrays: Any) -> dict[str, Any]:
        """The arrays, with some in another guise; they are remembered."""
        count = int(self.rng.choice([0, 1, 1, 1, 2, 3]))
        for name in self.rng.permutation(list(arrays))[:count]:
            arrays[name] = mangled(self.rng, arrays[name])
        if not count and self.rng.uniform() < 0.3:  # other units, all at once or by halves
            unit = 10.0 ** self.rng.choice([-320, -310, -160, -30, -8, 8, 30, 150, 160, 300])
            with np.errstate(all="ignore"):
                every = self.rng.uniform() < 0.5
                for name in arrays:
                    if every or self.rng.uniform() < 0.5:
                        arrays[name] = arrays[name] * unit
        self.given.update(arrays)
        return arrays

    def settings(self) -> dict[str, Any]:
        found = odd_settings(self.rng, SOLVERS) if self.rng.uniform() < 0.75 else {}
        self.given["settings"] = found
        return found

    def vector(self, name: str, shape: tuple[int, ...], how: float = 0.12) -> Any:
        """A cotangent or a tangent, now and then a strange one."""
        value: Any = self.rng.standard_normal(shape)
        if self.rng.uniform() < how:
            value, self.tame = mangled(self.rng, value), False
        self.given[name] = value
        return value

    def outputs(self, names: str, values: Any) -> None:
        """Outputs of elements that were solved hold no NaN; those of failed ones are all NaN."""
        values = [np.asarray(to_numpy(v), dtype=float) for v in values]
        if not values or not values[0].size:
            return
        for name, value in zip(names.split(), values, strict=False):
            bad = np.isnan(value)
            if bad.any() and not np.isnan(values[0]).any():
                self.nan.append(f"output {name}")

    def gradients(self, names: Any, values: Any) -> None:
        for name, value in zip(names, values, strict=False):
            if value is None or not self.tame:
                continue
            value = value.data if sparse.issparse(value) else to_numpy(value)
            if np.isnan(np.asarray(value, dtype=float)).any():
                self.nan.append(f"gradient of {name}")


def to_numpy(value: Any) -> Any:
    return value.detach().numpy() if hasattr(value, "detach") else value


# --- programs that fit ----------------------------------------------------------------------------


def quadratic(rng: Rng, n: int) -> np.ndarray:
    rank = int(rng.choice([n, n, n // 2, 0]))
    L = rng.standard_normal((n, rank))
    return L @ L.T + (0.1 * np.eye(n) if rank == n else 0.0)


def batched(rng: Rng, arrays: dict[str, Any]) -> dict[str, Any]:
    """Now and then, a leading axis on some of the arrays."""
    if rng.uniform() < 0.25:
        size = int(rng.choice([0, 1, 2, 3, 9]))
        for name in list(arrays):
            if rng.uniform() < 0.5:
                arrays[name] = np.stack([arrays[name]] * size) if size else arrays[name][None][:0]
    return arrays


def split_data(rng: Rng, batch: bool = True) -> dict[str, Any]:
    n, k, p = int(rng.integers(1, 6)), int(rng.integers(0, 5)), int(rng.integers(0, 3))
    x, G, A = rng.standard_normal(n), rng.standard_normal((k, n)), rng.standard_normal((p, n))
    found = {"P": quadratic(rng, n), "q": rng.standard_normal(n), "G": G}
    found |= {"h": G @ x + rng.uniform(0.0, 1.0, k), "A": A, "b": A @ x}
    return batched(rng, found) if batch else found


def box_data(rng: Rng, batch: bool = True) -> dict[str, Any]:
    n, m = int(rng.integers(1, 6)), int(rng.integers(1, 6))
    A, x = rng.standard_normal((m, n)), rng.standard_normal(n)
    low, high = rng.choice([0.0, 0.5, 1.0, np.inf], (2, m))
    found = {"P": quadratic(rng, n), "q": rng.standard_normal(n), "A": A}
    found |= {"l": A @ x - low, "u": A @ x + high}
    return batched(rng, found) if batch else found


def cone_data(rng: Rng, batch: bool = True) -> tuple[dict[str, Any], list[Any]]:
    from hunt_cones import pair

    kinds: list[Callable[[], ffoadapt.Cone]] = [
        lambda: ffoadapt.ZeroCone(int(rng.integers(0, 3))),
        lambda: ffoadapt.NonnegativeCone(int(rng.integers(0, 4))),
        lambda: ffoadapt.SecondOrderCone(int(rng.integers(2, 5))),
        lambda: ffoadapt.PSDCone(int(rng.integers(1, 4))),
        ffoadapt.ExponentialCone,
        lambda: ffoadapt.PowerCone(float(rng.uniform(0.1, 0.9))),
    ]
    cones = [kinds[rng.integers(len(kinds))]() for _ in range(rng.integers(1, 4))]
    n, m = int(rng.integers(1, 6)), sum(cone.dim for cone in cones)
    pairs = [pair(rng, cone, "strict") for cone in cones if cone.dim]
    s, z = (np.concatenate([np.zeros(0), *(p[i] for p in pairs)]) for i in (0, 1))
    A, x, P = rng.standard_normal((m, n)), rng.standard_normal(n), quadratic(rng, n)
    found = {"P": P, "q": -P @ x - A.T @ z, "A": A, "b": A @ x + s}
    return batched(rng, found) if batch else found, odd_cones(rng, cones)


def odd_cones(rng: Rng, cones: Any) -> Any:
    if rng.uniform() > 0.06:
        return cones
    makers: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: 3,
        lambda: "cones",
        lambda: [*cones, Bare()],
        lambda: [*cones, ffoadapt.NonnegativeCone(1)],
        lambda: [],
        lambda: [ffoadapt.NonnegativeCone],
        lambda: (cone for cone in cones),
        lambda: [ffoadapt.PowerCone(rng.choice([0.0, 1.0, -1.0, np.nan, np.inf, 1e-300]))],
        lambda: [ffoadapt.NonnegativeCone(NUMBERS[rng.integers(len(NUMBERS))])],
        lambda: [ffoadapt.PSDCone(NUMBERS[rng.integers(len(NUMBERS))])],
        lambda: [ffoadapt.SecondOrderCone(NUMBERS[rng.integers(len(NUMBERS))])],
    )
    return makers[rng.integers(len(makers))]()


NUMBERS: tuple[Any, ...] = (-1, 0, 1, 2.5, "2", None, np.int64(2), True, np.nan, 1 << 40, [2])


# --- the ways in ----------------------------------------------------------------------------------


def call_qp(it: Attempt) -> None:
    data = it.data(**split_data(it.rng))
    if it.rng.uniform() < 0.2:
        absent = (("P",), ("G", "h"), ("A", "b"), ("G",), ("q",))
        for name in absent[it.rng.integers(len(absent))]:
            data[name] = it.given[name] = None
    it.outputs("x z_ineq y_eq", ffoadapt.qp(**data, **it.settings()))


def call_box_qp(it: Attempt) -> None:
    data = it.data(**box_data(it.rng))
    it.outputs("x y", ffoadapt.box_qp(**data, **it.settings()))


def call_cone_program(it: Attempt) -> None:
    arrays, cones = cone_data(it.rng)
    data = it.data(**arrays)
    it.outputs("x s z", ffoadapt.cone_program(**data, cones=cones, **it.settings()))


def program(it: Attempt) -> ffoadapt.ConeProgram:
    how = it.rng.integers(3)
    if how == 0:
        return ffoadapt.ConeProgram.from_split(**it.data(**split_data(it.rng, False)))
    if how == 1:
        return ffoadapt.ConeProgram.from_box(**it.data(**box_data(it.rng, False)))
    arrays, cones = cone_data(it.rng, False)
    return ffoadapt.ConeProgram(**it.data(**arrays), cones=cones)


def call_solve(it: Attempt) -> None:
    stated = program(it)
    result = ffoadapt.solve(stated, **it.settings())
    repr(stated), repr(result), str(result.report())
    if not result.status.solved:
        return
    it.outputs("x s z objective", (result.x, result.s, result.z, result.objective))
    sizes = {"x": stated.n, "s": stated.m, "z": stated.m, **dict(stated.model.outputs)}
    wanted = it.rng.permutation(list(sizes))[: it.rng.integers(1, 3)]
    cotangents = {k: it.vector(f"cotangent {k}", np.zeros(sizes[k]).shape) for k in wanted}
    more: dict[str, Any] = {}
    if it.rng.uniform() < 0.1:
        more["method"] = str(it.rng.choice(["resolve", "direct", "x"]))
        more["delta"] = float(it.rng.choice([1e-5, 1e-300, 0.0, -1.0, np.nan, 1e300]))
        it.tame = it.tame and more["delta"] == 1e-5
    tamed = it.tame
    with own():
        gradient = vars(result.vjp(**cotangents, **more))
        it.gradients(gradient, gradient.values())
    it.tame = tamed and "method" not in more
    names, shapes = stated.model.names, dict(stated.model.parameters)
    tangents: dict[str, Any] = {}
    for name in it.rng.permutation(names)[: it.rng.integers(1, 3)]:
        pattern = stated.model.patterns.get(name)
        shape = shapes[name] if pattern is None else pattern.shape
        tangents[name] = it.vector(f"tangent {name}", shape)
    with own():
        moved = vars(result.jvp(**tangents))
        it.gradients([f"jvp {k}" for k in moved], moved.values())


@contextlib.contextmanager
def own() -> Iterator[None]:
    """A call whose refusal leaves the next ones to be made."""
    with contextlib.suppress(ffoadapt.FFOAdaptError):
        yield


@lru_cache(maxsize=1)
def layers() -> list[tuple[str, Any, list[np.ndarray]]]:
    """Layers of cvxpy problems, with values that fit."""
    import cvxpy as cp

    rng, x, X = np.random.default_rng(0), cp.Variable(3), cp.Variable((2, 3), nonneg=True)
    A, b, c, C = cp.Parameter((2, 3)), cp.Parameter(2), cp.Parameter(3), cp.Parameter((2, 3))
    t, S, M = cp.Parameter(nonneg=True), cp.Variable((2, 2), PSD=True), cp.Parameter((2, 2))
    fit = cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b)), [cp.norm1(x) <= 1])
    move = cp.Problem(
        cp.Minimize(cp.sum(cp.multiply(C, X))), [cp.sum(X, 0) == c, cp.sum(X, 1) == b]
    )
    entropy = cp.Problem(cp.Maximize(cp.sum(cp.entr(x)) + c @ x), [cp.sum(x) == t])
    ball = cp.Problem(cp.Minimize(cp.sum_squares(x - c)), [cp.norm(x) <= t])
    matrix = cp.Problem(cp.Minimize(cp.norm(S - M, "fro")), [cp.trace(S) == t])
    free = cp.Problem(cp.Minimize(cp.sum_squares(x - c)))
    normal = rng.standard_normal
    made = (
        (fit, [A, b], [x], [normal((2, 3)), normal(2)]),
        (move, [C, c, b], [X], [normal((2, 3)), np.array([0.5, 1.0, 0.5]), np.array([1.5, 0.5])]),
        (entropy, [c, t], [x], [normal(3), np.array(1.0)]),
        (ball, [c, t], [x, ball.constraints[0].dual_variables[0]], [normal(3), np.array(1.0)]),
        (matrix, [M, t], [S], [normal((2, 2)), np.array(1.0)]),
        (free, [c], [x], [normal(3)]),
    )
    names = ("fit", "move", "entropy", "ball", "matrix", "free")
    return [
        (name, ffoadapt.Layer(problem, parameters, variables), values)
        for name, (problem, parameters, variables, values) in zip(names, made, strict=True)
    ]


def layer_of(it: Attempt) -> tuple[Any, list[Any]]:
    """A layer, of cvxpy or of a parametric program, and values for it."""
    if it.rng.uniform() < 0.25:
        form = it.rng.integers(2)
        arrays = (split_data if form else box_data)(it.rng, False)
        make = ffoadapt.ConeProgram.from_split if form else ffoadapt.ConeProgram.from_box
        layer: Any = ffoadapt.Layer(make(**arrays).model, **it.settings())
        return layer, list(it.data(**batched(it.rng, arrays)).values())
    known = layers()
    name, layer, values = known[it.rng.integers(len(known))]
    it.way += f" {name}"
    if it.rng.uniform() < 0.3:
        layer = ffoadapt.Layer(layer.program, **it.settings())
    arrays = {f"p{i}": value for i, value in enumerate(values)}
    found = list(it.data(**batched(it.rng, arrays)).values())
    if it.rng.uniform() < 0.02:
        found = found[:-1] if it.rng.uniform() < 0.5 else [*found, np.ones(2)]
    return layer, found


def call_layer(it: Attempt) -> None:
    layer, values = layer_of(it)
    options = odd_settings(it.rng, SOLVERS).get("solver_options")
    it.given["options"] = options
    if it.rng.uniform() < 0.4:
        it.outputs("0 1", layer(*values, solver_options=options))
        return
    result = layer.solve(*values, solver_options=options)
    it.outputs("0 1", result.variables)
    str(result.report()), repr(result.status), repr(result.info)
    cotangents = [it.vector(f"cotangent {i}", v.shape) for i, v in enumerate(result.variables)]
    if it.rng.uniform() < 0.05:
        cotangents = [None] * len(cotangents)
    with own():
        it.gradients(range(9), result.vjp(*cotangents))
    tangents = [it.vector(f"tangent {i}", np.shape(v)) for i, v in enumerate(values)]
    with own():
        it.gradients([f"jvp {i}" for i in range(9)], result.jvp(*tangents))


def framework_data(it: Attempt) -> tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]:
    """One of the three functions of matrices, its arrays and what else it takes."""
    how = it.rng.integers(3)
    if how == 0:
        return ffoadapt.qp, split_data(it.rng), {}
    if how == 1:
        return ffoadapt.box_qp, box_data(it.rng), {}
    arrays, cones = cone_data(it.rng)
    return ffoadapt.cone_program, arrays, {"cones": cones}


def call_torch(it: Attempt) -> None:
    import torch

    def tensor(value: Any) -> Any:
        if not isinstance(value, np.ndarray) or it.rng.uniform() < 0.05:
            return value
        try:
            return strange(torch.tensor(np.array(value)))
        except (TypeError, ValueError, RuntimeError):  # torch has no such tensor
            return value

    def strange(found: Any) -> Any:
        if not found.is_floating_point():
            return found
        dtypes = (torch.float64, torch.float64, torch.float32, torch.float16, torch.bfloat16)
        found = found.to(dtypes[it.rng.choice(5, p=(0.4, 0.2, 0.3, 0.05, 0.05))])
        if it.rng.uniform() < 0.1 and found.ndim == 2:
            kinds = (found.to_sparse, found.to_sparse_csr, found.to_sparse_csc)
            found = kinds[it.rng.integers(3)]()
        if it.rng.uniform() < 0.1 and found.ndim >= 2 and found.layout is torch.strided:
            found = found.transpose(-1, -2).contiguous().transpose(-1, -2)
        return found.requires_grad_(bool(it.rng.uniform() < 0.7))

    if it.rng.uniform() < 0.3:
        layer, values = layer_of(it)
        values = it.given["tensors"] = [tensor(v) for v in values]
        outputs = list(layer(*values))
    else:
        function, arrays, more = framework_data(it)
        data = {name: tensor(v) for name, v in it.data(**arrays).items()}
        it.given["tensors"] = list(data.values())
        outputs = list(function(**data, **more, **it.settings()))
    it.outputs("x 1 2", [v.to(torch.float64) if hasattr(v, "to") else v for v in outputs])
    live = [v for v in outputs if getattr(v, "requires_grad", False)]
    if live:
        torch.stack([v.to(torch.float64).nan_to_num().sum() for v in live]).sum().backward()
        leaves = [t for t in it.given["tensors"] if getattr(t, "grad", None) is not None]
        grads = [
            (t.grad.to_dense() if t.grad.layout is not torch.strided else t.grad) for t in leaves
        ]
        it.gradients(range(9), [g.to(torch.float64) for g in grads])


def call_jax(it: Attempt) -> None:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    rng = it.rng
    n = 3
    L, G, x = rng.standard_normal((n, n)), rng.standard_normal((2, n)), rng.standard_normal(n)
    arrays = {"P": L @ L.T, "q": rng.standard_normal(n), "G": G, "h": G @ x + 0.5}
    found = []
    for value in it.data(**arrays).values():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and rng.uniform() < 0.9:
            value = jnp.asarray(np.array(value), dtype=rng.choice(["float64", "float32"]))
        found.append(value)
    settings = it.settings()

    def run(*values: Any) -> Any:
        return tuple(ffoadapt.qp(*values, **settings))

    if rng.uniform() < 0.4 or not all(isinstance(v, jax.Array) for v in found):
        it.outputs("x z_ineq y_eq", run(*found))
        return
    outputs, back = jax.vjp(run, *found)
    it.outputs("x z_ineq y_eq", outputs)
    it.gradients(range(9), back(tuple(jnp.ones_like(v) for v in outputs)))


WAYS: dict[str, tuple[Callable[[Attempt], None], float]] = {
    "qp": (call_qp, 0.2),
    "box_qp": (call_box_qp, 0.13),
    "cone_program": (call_cone_program, 0.13),
    "solve": (call_solve, 0.24),
    "layer": (call_layer, 0.16),
    "torch": (call_torch, 0.1),
    "jax": (call_jax, 0.04),
}


# --- one call -------------------------------------------------------------------------------------


def attempt(number: int, seed: int, detail: bool = False) -> list[Finding]:
    """Make call ``number`` of the series ``seed``."""
    rng = np.random.default_rng([seed, number])
    way = str(rng.choice(list(WAYS), p=[share for _, share in WAYS.values()]))
    it = Attempt(rng, way)
    before: list[tuple[str, Any, Any]] = []
    found: list[Finding] = []
    if detail:
        print(way)

    def add(kind: str, what: str, where: str = "") -> None:
        found.append(Finding(seed, number, it.way, kind, what[:300], where, described(it.given)))

    it.given, begun = Watched(before, detail), time.process_time()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            WAYS[way][0](it)
    except ffoadapt.FFOAdaptError as error:
        if detail:
            print(f"refused: {type(error).__name__}: {error}")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [f for f in frames if is_ours(f.filename)]
        if inside or not isinstance(error, TypeError):
            last = inside[-1] if inside else frames[-1]
            where = f"{Path(last.filename).name}:{last.name}"
            words = " ".join(str(error).split()) if printable(error) else "(str() raises)"
            add("exception", f"{type(error).__name__}: {words}", where)
        if detail:
            traceback.print_exc()
    if time.process_time() - begun > SLOW:
        add("slow", f"more than {SLOW:.0f} s")
    for name, value, was in before:
        if snapshot(value) != was:
            add("changed", f"{name} is not what it was")
    for what in dict.fromkeys(it.nan):
        add("NaN", what)
    return found


def printable(error: BaseException) -> bool:
    try:
        str(error)
    except Exception:
        return False
    return True


def is_ours(filename: str) -> bool:
    """Whether a file is of ffoadapt or of one of its plugins."""
    core = str(Path(ffoadapt.__file__).parent)
    return filename.startswith(core) or "ffoadapt_" in Path(filename).parent.name


class Watched(dict[str, Any]):
    """What a call is given; each value is remembered as it was when it came in."""

    def __init__(self, before: list[tuple[str, Any, Any]], detail: bool) -> None:
        super().__init__()
        self.before, self.detail = before, detail

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.before.append((name, value, snapshot(value)))
        if self.detail:
            print(described({name: value}), flush=True)

    def update(self, *others: Any, **more: Any) -> None:
        for name, value in dict(*others, **more).items():
            self[name] = value


def described(given: Mapping[str, Any]) -> str:
    lines = []
    for name, value in given.items():
        kind = type(value).__name__
        if isinstance(value, np.ndarray):
            kind += f" {value.dtype} {value.shape}"
        elif sparse.issparse(value):
            kind += f" {value.shape}"
        try:
            words = " ".join(
                (repr(value.tolist()) if kind.startswith("ndarray") else repr(value)).split()
            )
        except Exception as error:
            words = f"(repr raises {type(error).__name__})"
        lines.append(f"  {name}: {kind} {words[:240]}")
    return "\n".join(lines)


# --- children -------------------------------------------------------------------------------------


def child(first: int, count: int, seed: int, pipe: int) -> None:
    """Make calls, each announced, and tell what they found."""
    with os.fdopen(pipe, "w", buffering=1) as out:
        for number in range(first, first + count):
            out.write(f"{number}\n")
            for finding in attempt(number, seed):
                out.write(json.dumps(asdict(finding)) + "\n")
        out.write("end\n")


def watched(first: int, count: int, seed: int) -> Iterator[int | Finding | str]:
    """The numbers of the calls as they begin and their findings; last, how the child ended."""
    reading, writing = os.pipe()
    command = [sys.executable, __file__, "--child", str(first), str(count), str(writing)]
    process = subprocess.Popen(
        [*command, "--seed", str(seed)],
        pass_fds=[writing],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    os.close(writing)
    left, ended, silent, used = b"", "", 0, 0.0
    try:
        while not ended:
            if not select.select([reading], [], [], PATIENCE)[0]:
                silent += 1
                if silent < 10 and computing(process.pid) - used < PATIENCE / 2:
                    continue
                ended = f"no answer for {PATIENCE:.0f} s"
                break
            silent, used = 0, computing(process.pid)
            chunk = os.read(reading, 1 << 16)
            *lines, left = (left + chunk).split(b"\n")
            for line in lines:
                if line == b"end":
                    ended = "end"
                elif line.startswith(b"{"):
                    yield Finding(**json.loads(line))
                else:
                    yield int(line)
            if not chunk:
                code = process.wait()
                ended = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    finally:
        process.kill()
        process.wait()
        os.close(reading)
    yield ended


def computing(pid: int) -> float:
    """The seconds of processor time that a process has used; where nobody says, endless."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fuzz(first: int, last: int, seed: int) -> Iterator[int | Finding]:
    """All calls from first to last, and the findings among them."""
    while first < last:
        latest, begun = first, time.perf_counter()
        for said in watched(first, min(RENEWED, last - first), seed):
            if isinstance(said, int):
                latest = said
                yield said
            elif isinstance(said, Finding):
                yield said
            elif said == "end":
                first = latest + 1
            else:
                alone = [s for s in watched(latest, 1, seed) if isinstance(s, str)][-1]
                words = (
                    said if alone == said else f"{said}, not alone, within {latest - first} calls"
                )
                kind = "hang" if said.startswith("no answer") else "crash"
                yield Finding(seed, latest, way_of(latest, seed), kind, words)
                if (
                    latest == first
                    and time.perf_counter() - begun < 1.0
                    and alone == "exit status 1"
                ):
                    raise RuntimeError("the child does not start; see --call")
                first = latest + 1


def way_of(number: int, seed: int) -> str:
    rng = np.random.default_rng([seed, number])
    return str(rng.choice(list(WAYS), p=[share for _, share in WAYS.values()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--log", type=Path, help="findings as JSON lines; it goes on where it ended"
    )
    parser.add_argument("--call", type=int, default=None, help="make this one call, here")
    parser.add_argument("--child", type=int, nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        first, count, pipe = options.child
        return child(first, count, options.seed, pipe)
    if options.call is not None:
        faulthandler.enable()
        for finding in attempt(options.call, options.seed, detail=True):
            print(finding)
        return None
    first, findings = options.first, []
    if options.log is not None and options.log.exists():
        for line in map(json.loads, options.log.read_text().splitlines()):
            if line.get("seed") != options.seed:
                continue
            if "done" in line:
                first = max(first, line["done"] + 1)
            else:
                findings.append(Finding(**line))
    findings = [f for f in findings if f.call < first]

    def note(line: Mapping[str, Any]) -> None:
        if options.log is not None:
            with options.log.open("a") as file:
                file.write(json.dumps(line) + "\n")

    start, last = time.perf_counter(), options.first + options.calls
    kept: list[Finding] = []
    number = first
    for said in fuzz(first, last, options.seed):
        if isinstance(said, int):
            number = said
            if number % 100 == 99:
                for finding in kept:
                    note(asdict(finding))
                kept = []
                note({"seed": options.seed, "done": number - 1})
        else:
            findings.append(said)
            kept.append(said)
            print(said, flush=True)
    for finding in kept:
        note(asdict(finding))
    note({"seed": options.seed, "done": number})
    print(f"\n{last - first} calls, seed {options.seed}, {time.perf_counter() - start:.0f} s")
    for group, count in Counter(f.group for f in findings).most_common():
        one = next(f for f in findings if f.group == group)
        name = " ".join(filter(None, group))
        print(f"{count} times {name}; e.g. --call {one.call}: {one.what[:100]}")
    print(f"{len(findings)} findings")
    return None


if __name__ == "__main__":
    main()
