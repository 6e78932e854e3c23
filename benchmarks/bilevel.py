"""Gradient calls and seconds to a given upper value, for every algorithm; and what a step adds.

    python benchmarks/bilevel.py [--framework torch|jax]

The problem is BOME's coreset (examples/bilevel_toys.py), whose optimum F = 0.72 nobody reaches.
The authors' BOME code takes 65,000 calls (5,000 steps) to F = 0.72653 there. In the same run, where
they are installed: implicit differentiation by jaxopt (JAX), and what BOAT (boat-torch, with
higher) has of BOME and V-PBGD.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from bilevel_toys import POINTS, TARGET
from kit import FRAMEWORKS, table

from ffoadapt.bilevel import (
    BilevelProblem,
    Bome,
    F2sa,
    Goldstein,
    Hypergradient,
    Penalty,
    minimize,
)

LEVELS = (0.80, 0.74, 0.73, 0.7266)
AUTHORS = ["bome, its authors' code (their count)", "", "", "", "65,000 / ?"]


class Watch:
    """Calls and seconds until F(v) is first at most each level; its own work takes no time."""

    def __init__(self) -> None:
        self.reached: dict[float, tuple[float, float]] = {}
        self.began, self.aside = time.perf_counter(), 0.0

    def see(self, v: Any, calls: float) -> bool:
        """Whether all levels are reached."""
        now = time.perf_counter()
        v = np.asarray(v)
        mean = np.exp(v - np.logaddexp.reduce(v)) @ POINTS
        F = 0.1 * ((mean - TARGET) ** 2).sum()
        for level in LEVELS:
            if level >= F and level not in self.reached:
                self.reached[level] = (calls, now - self.began - self.aside)
        self.aside += time.perf_counter() - now
        return len(self.reached) == len(LEVELS)

    def row(self, name: str) -> list[str]:
        cells = []
        for level in LEVELS:
            calls, seconds = self.reached.get(level, (np.nan, np.nan))
            count = "?" if np.isnan(calls) else f"{calls:,.0f}"
            cells.append(f"{count} / {seconds:.1f}" if level in self.reached else "-")
        return [name, *cells]


def functions(kit: Any) -> tuple[Any, Any]:
    """f and g of the coreset."""
    X, target = kit.array(POINTS), kit.array(TARGET)
    return (
        lambda v, th: 0.1 * ((th - target) ** 2).sum(),
        lambda v, th: ((th - kit.xp.exp(v - kit.logsumexp(v)) @ X) ** 2).sum(),
    )


def race(kit: Any, name: str, steps: int, **options: Any) -> list[str]:
    """One of ours."""
    watch = Watch()
    start = kit.array(np.zeros(4)), kit.array([0.0, 3.0])
    minimize(
        *functions(kit),
        *start,
        steps=steps,
        callback=lambda state, record: watch.see(state.x, record["gradient_calls"]),
        **options,
    )
    return watch.row(name)


def jaxopt_race(steps: int) -> list[str]:
    """jaxopt's L-BFGS for the lower level, its implicit differentiation, and optax's Adam(0.1).

    Its products with the Hessian are none of the gradients that are counted here.
    """
    import jax
    import jaxopt
    import optax

    kit = FRAMEWORKS["jax"]()
    upper, lower = functions(kit)
    solver = jaxopt.LBFGS(lambda th, v: lower(v, th), tol=1e-10, maxiter=200, implicit_diff=True)
    adam = optax.adam(0.1)

    def F(v: Any, th: Any) -> Any:
        found = solver.run(th, v).params
        return upper(v, found), found

    @jax.jit
    def step(v: Any, th: Any, state: Any) -> Any:
        (_, th), slope = jax.value_and_grad(F, has_aux=True)(v, th)
        updates, state = adam.update(slope, state, v)
        return v + updates, th, state

    v, th = kit.array(np.zeros(4)), kit.array([0.0, 3.0])
    state, watch = adam.init(v), Watch()
    for _ in range(steps):
        v, th, state = step(v, th, state)
        if watch.see(v, np.nan):
            break
    return watch.row("jaxopt, implicit, Adam(0.1)")


def boat_race(operation: str, steps: int) -> list[str]:
    """BOAT's VFO (BOME with the barrier eta q) or PGDO (V-PBGD)."""
    import boat_torch
    import torch

    kit = FRAMEWORKS["torch"]()
    upper, lower = functions(kit)

    class Variable(torch.nn.Module):
        def __init__(self, start: Any) -> None:
            super().__init__()
            self.value = torch.nn.Parameter(kit.array(start))

    x, y = Variable(np.zeros(4)), Variable([0.0, 3.0])
    losses = sys.modules.setdefault("coreset_losses", SimpleNamespace())  # BOAT asks for names
    losses.upper = lambda feed, x, y: upper(x.value, y.value)
    losses.lower = lambda feed, x, y: lower(x.value, y.value)
    T, size = 10, 0.05
    config = {
        "fo_op": operation,
        "gm_op": None,
        "na_op": None,
        "lower_level_model": y,
        "upper_level_model": x,
        "lower_level_var": list(y.parameters()),
        "upper_level_var": list(x.parameters()),
        "lower_level_opt": torch.optim.SGD(y.parameters(), lr=size),
        "upper_level_opt": torch.optim.SGD(x.parameters(), lr=size),
        "lower_iters": T,
        "device": "cpu",
        "loss_log_path": None,
        "fo_ol_batch_input": False,
        "return_grad": False,
        "VFO": {"y_hat_lr": size, "eta": 0.5, "u1": 0.5},
        "PGDO": {
            "y_hat_lr": size,
            "gamma_init": 10.0,
            "gamma_max": 10.0,
            "gamma_argmax_step": 1,
            "update_y_ahead": False,
            "penalty": "difference",
        },
    }
    named = {
        f"{level}_level_loss": {"function": f"coreset_losses.{level}", "params": {}}
        for level in ("upper", "lower")
    }
    problem = boat_torch.Problem(config, named)
    problem.build_ll_solver()
    problem.build_ul_solver()
    problem.save_losses = lambda **_: None  # a file at every step
    each, watch = (2 * T + 3 if operation == "VFO" else T + 3), Watch()
    for k in range(steps):
        problem.run_iter({}, {}, k)
        if watch.see(x.value.detach(), each * (k + 1)):
            break
    return watch.row(f"BOAT, {operation}")


def peers(share: float) -> list[list[str]]:
    """The rows of those that are installed."""
    rows = []
    for needed, name, run in (
        (("jaxopt", "optax"), "jaxopt", lambda: [jaxopt_race(max(2, int(share * 1000)))]),
        (
            ("boat_torch", "higher"),
            "BOAT",
            lambda: [boat_race(op, max(2, int(share * 5000))) for op in ("VFO", "PGDO")],
        ),
    ):
        missing = [module for module in needed if importlib.util.find_spec(module) is None]
        if missing:
            print(f"{name}: left out, for {' and '.join(missing)} is not installed")
            continue
        rows += run()
        print(f"{name} done", file=sys.stderr, flush=True)
    return rows


class Seen(BilevelProblem):
    """Notes which gradients are asked for: (function, blocks)."""

    def upper(self, x: Any, y: Any, batch: Any = (), needed: str = "xy") -> Any:
        self.seen.append((self.upper_function, needed))
        return super().upper(x, y, batch, needed)

    def lower(self, x: Any, y: Any, batch: Any = (), needed: str = "xy") -> Any:
        self.seen.append((self.lower_function, needed))
        return super().lower(x, y, batch, needed)

    def descend(self, x: Any, y: Any, batch: Any, size: float, share: Any = None) -> Any:
        self.seen += [(self.lower_function, "y")] + [(self.upper_function, "y")] * bool(share)
        return super().descend(x, y, batch, size, share)


def own(kit: Any, function: Any, blocks: str) -> Any:
    """What a user would call for the gradient, in these blocks, with nothing of this project."""
    if hasattr(kit, "jax"):
        return kit.jax.jit(kit.jax.value_and_grad(function, tuple(map("xy".index, blocks))))

    def gradient(x: Any, y: Any) -> Any:
        given = [a.detach().requires_grad_(name in blocks) for name, a in (("x", x), ("y", y))]
        value = function(*given)
        return value.detach(), kit.xp.autograd.grad(value, [a for a in given if a.requires_grad])

    return gradient


def overhead(kit: Any, algorithm: Any, size: int = 20, repeats: int = 300) -> list[str]:
    """Milliseconds of a step, and of its gradients as a user would take them, in turn.

    Each is the mean of the fastest fiftieth. An algorithm that decides by NumPy's numbers
    (hypergradient, Goldstein) waits for each gradient, and so do those that it is held to.
    """
    rng = np.random.default_rng(0)
    M, t = kit.array(rng.normal(size=(size, size)) / size), kit.array(np.ones(size))
    f = lambda x, y: ((y - t) ** 2).sum() / 2 + 0.05 * (x * x).sum()  # noqa: E731
    g = lambda x, y: ((y - M @ x) ** 2).sum() / 2  # noqa: E731
    zero = kit.array(np.zeros(size))
    problem, noted = (kind(f, g, zero, zero) for kind in (BilevelProblem, Seen))
    state = algorithm.init(problem, zero, zero)
    for _ in range(25):
        state, _ = algorithm.step(problem, state)
    noted.seen = []
    algorithm.step(noted, state)
    known = {key: own(kit, *key) for key in set(noted.seen)}
    calls = [known[key] for key in noted.seen]
    waits = isinstance(algorithm, Hypergradient | Goldstein)
    whole, alone = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        algorithm.step(problem, state)
        whole.append(time.perf_counter() - began)
        began = time.perf_counter()
        for k, call in enumerate(calls):
            value, _ = call(state.x, state.y)
            if waits or k == len(calls) - 1:
                float(value)
        alone.append(time.perf_counter() - began)
    ms = [1e3 * np.sort(v)[: max(1, repeats // 50)].mean() for v in (whole, alone)]
    name = type(algorithm).__name__
    for option in ("lower_steps", "central"):
        if getattr(algorithm, option, False):
            name += f", {option}={getattr(algorithm, option)}"
    return [name, str(len(calls)), *(f"{v:.3f}" for v in (*ms, ms[0] - ms[1]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    kit = FRAMEWORKS[options.framework]()
    runs: dict[str, dict[str, Any]] = {
        "bome": {"algorithm": "bome", "steps": 5000},
        "f2sa, penalty + 0.01 a step": {
            "algorithm": "f2sa",
            "steps": 5000,
            "penalty": 1.0,
            "penalty_growth": 0.01,
        },
        "f2sa, central": {"algorithm": "f2sa", "steps": 2000, "central": True},
        "penalty 10": {
            "algorithm": "penalty",
            "steps": 5000,
            "step_size": 0.3,
            "lower_step_size": 0.1,
        },
        "hypergradient, Adam(0.1)": {
            "algorithm": "hypergradient",
            "steps": 500,
            "optimizer": kit.adam(0.1),
        },
        "goldstein": {"algorithm": "goldstein", "steps": 3000, "delta": 1e-3, "epsilon": 1e-3},
        "hypergradient, plain steps": {
            "algorithm": "hypergradient",
            "steps": 1000,
            "step_size": 0.5,
        },
    }
    rows = []
    for name, settings in runs.items():
        steps = max(2, int(options.share * settings.pop("steps")))
        rows.append(race(kit, name, steps, **settings))
        print(f"{name} done", file=sys.stderr, flush=True)
    rows = [AUTHORS, *rows, *peers(options.share)]
    print(f"gradient calls / seconds until F(v) is at most ({options.framework})\n")
    print(table(("algorithm", *map(str, LEVELS)), rows))
    print()
    algorithms = (
        Bome(lower_steps=1),
        Bome(),
        Penalty(),
        Penalty(central=True),
        F2sa(lower_steps=1),
        F2sa(),
        F2sa(central=True),
        Hypergradient(),
        Goldstein(),
    )
    repeats = max(50, int(options.share * 1000))
    rows = [overhead(kit, algorithm, repeats=repeats) for algorithm in algorithms]
    print(table(("a step of", "calls", "ms", "gradients alone", "difference"), rows))


if __name__ == "__main__":
    main()
