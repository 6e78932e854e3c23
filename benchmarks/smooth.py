"""Programs of functions: gradients counted, errors against steps, overhead, times of solvers.

    python benchmarks/smooth.py                     # all tables
    python benchmarks/smooth.py steps --plot docs/assets/cg_steps.svg

`speed` are the times in the records of the solvers (`SolverSpec.speed`).
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import ffoadapt
from ffoadapt import testing
from ffoadapt._smooth import krylov
from ffoadapt._smooth.form import SmoothForm
from ffoadapt._smooth.oracle import SmoothOracle
from ffoadapt._smooth.refinement import Cotangents
from ffoadapt._smooth.solvers import SLSQP
from ffoadapt.testing import SmoothProblem

EPSILONS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
CONDITIONS = (1e1, 1e2, 1e3)


# ------------------------------------------------------------ conjugate gradients: steps


def quadratic(condition: float, n: int = 400, rows: int = 8, seed: int = 0) -> Any:
    """An oracle at the solution of a quadratic program of this condition, and v."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    H = (Q * np.geomspace(1.0 / condition, 1.0, n)) @ Q.T
    A, t = rng.standard_normal((rows, n)), rng.standard_normal(n)
    K = np.block([[H, A.T], [A, np.zeros((rows, rows))]])
    point = np.linalg.solve(K, np.concatenate((t, np.ones(rows))))

    @ffoadapt.smooth_solver
    def known(problem: Any, start: Any, options: Any) -> Any:
        return point[:n]

    problem = SmoothProblem(
        "quadratic",
        "",
        lambda y: (0.5 * y @ H @ y - t @ y, H @ y - t),
        np.zeros(n),
        equalities=lambda y: (A @ y - 1.0, A),
    )
    layer, params = problem.layer(known, curvature="cg")
    result = layer.solve(params)
    v = rng.standard_normal(n)
    exact = -np.linalg.solve(K, np.concatenate((v, np.zeros(rows))))[:n]
    return result._state.answers[0].place, result._state.bounds[0], v, exact


def steps_table() -> dict[float, list[tuple[float, int, float]]]:
    """By condition: (eps, steps, error of the gradient in the tilt, which is d)."""
    found: dict[float, list[tuple[float, int, float]]] = {}
    kept = krylov.CG_TOLERANCE
    for condition in CONDITIONS:
        place, bounds, v, exact = quadratic(condition)
        found[condition] = []
        for eps in EPSILONS:
            krylov.CG_TOLERANCE = eps
            oracle = SmoothOracle(place, bounds, "cg")
            solved = oracle.ghost.solve(v)
            error = np.linalg.norm(solved.d - exact) / np.linalg.norm(exact)
            found[condition].append((eps, oracle.ghost.steps, float(error)))
    krylov.CG_TOLERANCE = kept
    return found


def fit(x: Any, y: Any) -> tuple[float, float]:
    """The slope of a line, and R^2."""
    slope, start = np.polyfit(x, y, 1)
    rest = y - (slope * np.asarray(x) + start)
    return float(slope), float(1.0 - rest.var() / np.var(y))


def steps(plot: Path | None) -> None:
    table = steps_table()
    print("Steps of conjugate gradients (n = 400, 8 equalities); each takes two gradients\n")
    print(f"{'condition':>10}" + "".join(f"{eps:>9.0e}" for eps in EPSILONS) + "      R^2")
    for condition, rows in table.items():
        log, count = [-np.log10(eps) for eps, _, _ in rows], [k for _, k, _ in rows]
        cells = "".join(f"{k:>9d}" for k in count)
        print(f"{condition:>10.0e}{cells}{fit(log, np.array(count, float))[1]:>9.4f}")
        print(f"{'error':>10}" + "".join(f"{error:>9.0e}" for _, _, error in rows))
    if plot is not None:
        draw(table, plot)


def draw(table: dict[float, list[tuple[float, int, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "ffoadapt"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.0, 3.4), layout="constrained")
    for condition, rows in table.items():
        log, count = [-np.log10(eps) for eps, _, _ in rows], [k for _, k, _ in rows]
        slope, start = np.polyfit(log, count, 1)
        squared = fit(log, np.array(count, float))[1]
        name = f"condition {condition:.0f}, $R^2$ = {squared:.4f}"
        (line,) = axes.plot(log, count, "o", label=name)
        axes.plot(log, slope * np.array(log) + start, "-", color=line.get_color(), lw=1)
    axes.set_yscale("log")
    axes.set_xlabel(r"$\log_{10}(1/\varepsilon)$")
    axes.set_ylabel("steps")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    print(f"\nwrote {path}")


# -------------------------------------------------------------------- errors against steps


def hs071_functions() -> tuple[Any, dict[str, Any]]:
    """Objective, inequality and equality of Hock-Schittkowski 71, and params."""
    import torch

    values = {"k": 1.0, "area": 25.0, "r": 40.0}
    params = {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}
    functions = (
        lambda p, y: p["k"] * y[0] * y[3] * y[:3].sum() + y[2],
        lambda p, y: p["area"] - y.prod(),
        lambda p, y: y @ y - p["r"],
    )
    return functions, params


def hs071(functions: Any = None, **settings: Any) -> tuple[Any, dict[str, Any]]:
    own, params = hs071_functions()
    layer = ffoadapt.SmoothLayer(
        *(functions or own),
        (1.0, 5.0),
        start=[1.0, 5.0, 5.0, 1.0],
        params=params,
        **{"solver": "slsqp", **settings},
    )
    return layer, params


def regression(**settings: Any) -> tuple[Any, Any]:
    """Logistic regression in three unknowns under a budget: what it is a function of enters in
    curves, so that no difference is exact."""
    import torch

    rng = np.random.default_rng(0)
    X = torch.tensor(rng.standard_normal((20, 3)))
    labels = torch.tensor(np.sign(rng.standard_normal(20)))

    def objective(X: Any, y: Any) -> Any:
        loss = torch.nn.functional.softplus(-labels * (X @ y)).mean()
        return loss + 0.05 * (y * y).sum()

    layer = ffoadapt.SmoothLayer(
        objective,
        equalities=lambda X, y: torch.sinh(y).sum() - 0.5,
        start=np.zeros(3),
        params=X,
        **{"solver": "slsqp", **settings},
    )
    return layer, X


def slopes_table() -> dict[str, tuple[float, list[tuple[float, float]]]]:
    """By method: the slope of log error in log step, and (step, error)."""
    layer, X = regression()
    v = np.array([1.0, -0.5, 0.3])
    result = layer.solve(X)
    oracle = result._function._oracle(result._state, 0)
    exact = oracle.vjp(Cotangents(v))[0]
    found = oracle.ghost.solve(v)
    place, w = oracle.place, oracle.ghost.weights(found)

    def at(t: float) -> Any:
        return place.model.at(place.y + t * found.d, place.weights + t * w, True)[2][0]

    def resolved(t: float) -> Any:
        layer, X = regression(curvature="resolve", step=t)
        return layer.solve(X).vjp(y=v)

    methods: dict[str, Callable[[float], Any]] = {
        "forward differences": lambda t: (at(t) - at(0.0)) / t,
        "central differences": lambda t: (at(t) - at(-t)) / (2.0 * t),
        "resolve": resolved,
    }
    ranges = {"resolve": np.geomspace(1e-3, 3e-2, 5)}
    table = {}
    for name, method in methods.items():
        sizes = ranges.get(name, np.geomspace(1e-3, 3e-2, 5))
        errors = [float(np.abs(method(t) - exact).max() / np.abs(exact).max()) for t in sizes]
        slope = fit(np.log(sizes), np.log(errors))[0]
        table[name] = (slope, list(zip(sizes.tolist(), errors, strict=True)))
    return table


def slopes() -> None:
    print("Errors of the gradient against the step (logistic regression)\n")
    for name, (slope, rows) in slopes_table().items():
        cells = "  ".join(f"{t:.0e}: {error:.1e}" for t, error in rows)
        print(f"{name:<22} slope {slope:.2f}   {cells}")


# ---------------------------------------------------------------------------------- counts


def counts() -> None:
    print("Gradients of the functions that one derivative takes (SLSQP, the kit's ten families)\n")
    head = ("family", "n", "rows", "active", "dense", "cg", "steps", "error reported", "verdict")
    print("{:<13}{:>4}{:>6}{:>8}{:>7}{:>6}{:>7}{:>16}  {}".format(*head))
    for problem in testing.smooth_problems()[:10]:
        calls, oracle, report = [], None, None
        for curvature in ("differences", "cg"):
            layer, params = problem.layer("slsqp", curvature=curvature)
            result = layer.solve(params)
            result.vjp(y=np.random.default_rng(1).standard_normal(problem.n))
            report = result.report()
            calls.append(report.gradient_calls)
            oracle = result._state.oracles[0]
        assert oracle is not None and report is not None
        rows = len(oracle.ghost.rows)
        bound = rows + 2 * oracle.ghost.steps + 20
        assert calls[1] <= bound, f"{problem.name}: {calls[1]} gradients, expected {bound}"
        cells = f"{problem.name:<13}{problem.n:>4}{rows:>6}{report.active:>8}{calls[0]:>7}"
        print(f"{cells}{calls[1]:>6}{oracle.ghost.steps:>7}{report.error:>16.0e}  {report.verdict}")


# ------------------------------------------------------------------------ many unknowns


def denoising(n: int, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """Smoothed total variation of a signal of levels below, between and above its bounds, so that
    most of what is at a bound stays there."""
    import torch

    rng = np.random.default_rng(seed)
    levels = np.repeat(rng.choice([-0.5, 0.5, 1.5], n // 1000 + 1), 1000)[:n]
    params = {
        "signal": torch.tensor(levels + rng.uniform(-0.1, 0.1, n)),
        "weight": torch.tensor(0.05, dtype=torch.float64),
        "width": torch.tensor(0.3, dtype=torch.float64),
    }

    def objective(p: Any, y: Any) -> Any:
        step = y[1:] - y[:-1]
        bent = torch.sqrt(step * step + p["width"] ** 2).sum()
        return 0.5 * ((y - p["signal"]) ** 2).sum() + p["weight"] * bent

    start = np.full(n, 0.5)
    return ffoadapt.SmoothLayer(objective, bounds=(0.0, 1.0), start=start, params=params), params


def large(n: int = 1_000_000) -> None:
    print(f"A derivative with n = {n}, bounds alone (denoising), and differences of two solves\n")
    layer, params = denoising(n)
    begin = time.perf_counter()
    result = layer.solve(params)
    took = time.perf_counter() - begin
    v = np.random.default_rng(1).standard_normal(n)
    with Peak() as peak:
        begin = time.perf_counter()
        found = result.vjp(y=v)
        back = time.perf_counter() - begin
    report = result.report()
    held = int(((result.y == 0.0) | (result.y == 1.0)).sum())
    print(f"forward {took:.1f} s, backward {back:.1f} s, {report.gradient_calls} gradient calls")
    print(f"backward at most {peak.grown / 1e9:.2f} GB more; {held} at a bound; {report.verdict}")
    for name in ("weight", "width"):
        for step in (1e-3, 1e-4):
            ends = [layer.solve(params | {name: params[name] + s}, result.y) for s in (step, -step)]
            crossed = sum(
                int(((ends[0].y == bound) != (ends[1].y == bound)).sum()) for bound in (0.0, 1.0)
            )
            slope = float(v @ (ends[0].y - ends[1].y)) / (2.0 * step)
            error = abs(float(found[name]) - slope) / abs(slope)
            print(f"{name:>8} by +-{step:g}: {error:.1e} apart, {crossed} kinks between the solves")


class Peak:
    """How much more memory the process holds at most while it is open."""

    def __enter__(self) -> Peak:
        self.before, self.most, self.over = held_memory(), 0, threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self) -> None:
        while not self.over.wait(0.002):
            self.most = max(self.most, held_memory())

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    @property
    def grown(self) -> int:
        return max(0, self.most - self.before)


def held_memory() -> int:
    """Bytes that are resident (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# -------------------------------------------------------------------------------- overhead


class Tape:
    """What one forward and backward pass asks of torch and of the solver, to be done again without
    anything around it: the user's functions evaluated and differentiated, one by one or batched,
    and the solver on a program whose answers are known."""

    METHODS = (
        "objective",
        "gradient",
        "inequalities",
        "equalities",
        "inequality_jacobian",
        "equality_jacobian",
        "violation",
    )

    def __init__(self, functions: Any, names: Any) -> None:
        self.functions, self.names, self.open = functions, sorted(names), True
        self.work: list[Callable[[], Any]] = []
        self.answers: dict[str, list[Any]] = {}
        self.form: Any = None

    def wrapped(self, function: Any) -> Any:
        """One of the user's functions; its evaluations are on the tape."""

        def asked(p: Any, y: Any) -> Any:
            if self.open:
                self.work.append(lambda: function(p, y))
            return function(p, y)

        return asked

    def record(self, run: Callable[[], Any]) -> None:
        """Of this pass."""
        import torch

        grad, vmap, call = torch.autograd.grad, torch.func.vmap, SLSQP.solve
        kept = {name: getattr(SmoothForm, name) for name in self.METHODS}

        def noted(outputs: Any, inputs: Any, cotangents: Any, again: bool, **more: Any) -> Any:
            self.work.append(lambda: grad(outputs, inputs, cotangents, True, **more))
            return grad(outputs, inputs, cotangents, True, **more)

        def batched(function: Any, in_dims: Any) -> Any:
            bare = vmap(self._bare, in_dims=in_dims)

            def asked(*given: Any) -> Any:
                self.work.append(lambda: bare(*given))
                self.open = False
                found = vmap(function, in_dims=in_dims)(*given)
                self.open = True
                return found

            return asked

        def solving(solver: Any, form: Any, options: Any, session: Any) -> Any:
            self.form = form, options
            for name, method in kept.items():
                self.answers[name] = []
                setattr(SmoothForm, name, self._answering(name, method))
            try:
                return call(solver, form, options, session)
            finally:
                for name, method in kept.items():
                    setattr(SmoothForm, name, method)

        torch.autograd.grad, torch.func.vmap, SLSQP.solve = noted, batched, solving
        try:
            run()
        finally:
            torch.autograd.grad, torch.func.vmap, SLSQP.solve = grad, vmap, call

    def _bare(self, y: Any, *leaves: Any) -> Any:
        p = dict(zip(self.names, leaves, strict=True))
        return tuple(function(p, y) for function in self.functions)

    def _answering(self, name: str, method: Any) -> Any:
        def asked(form: Any, y: Any) -> Any:
            found = method(form, y)
            self.answers[name].append(found)
            return found

        return asked

    def functions_again(self) -> None:
        """All evaluations and gradients."""
        for piece in self.work:
            piece()

    def solver_again(self) -> None:
        """The solver, on the answers that it had."""
        form, options = self.form
        known = type("Known", (), {})()
        for name in ("n", "m_ineq", "m_eq", "start", "lower", "upper", "kinds"):
            setattr(known, name, getattr(form, name))
        for name, answers in self.answers.items():
            each = iter(answers)
            setattr(known, name, lambda y, each=each: next(each))
        SLSQP().solve(known, options, ffoadapt.Session())


def overhead_table(runs: int = 200) -> dict[str, float]:
    """Milliseconds of the thread, the least of the runs: of a forward and backward pass, of the
    user's functions and their gradients in it, of the solver; the three take turns."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    functions, params = hs071_functions()
    tape = Tape(functions, params)
    plain, _ = hs071()
    noted, _ = hs071(functions=[tape.wrapped(f) for f in functions])

    def both(layer: Any) -> None:
        leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
        layer(leaves).sum().backward()

    for layer in (plain, noted) * 5:  # what is found out once
        tape.work.clear()
        both(layer)
    tape.work.clear()
    tape.record(lambda: both(noted))
    parts = {
        "total": lambda: both(plain),
        "functions": tape.functions_again,
        "solver": tape.solver_again,
    }
    least = dict.fromkeys(parts, np.inf)
    for _ in range(runs):
        for name, part in parts.items():
            start = time.thread_time()
            part()
            least[name] = min(least[name], 1e3 * (time.thread_time() - start))
    torch.set_num_threads(threads)
    least["rest"] = least["total"] - least["functions"] - least["solver"]
    of_solver = 3 * sum(len(tape.answers[name]) for name in ("inequalities", "gradient"))
    least["evaluations"] = len(tape.work) - of_solver  # three functions, and as many gradients
    return least


def overhead() -> None:
    print(
        "Milliseconds of a forward and backward pass (Hock-Schittkowski 71, torch, SLSQP): in all,"
        "\nof the same evaluations and gradients of the functions in a bare loop, of the solver on"
        "\nanswers that are known, and what is left\n"
    )
    print(", ".join(f"{name} {value:.2f}" for name, value in overhead_table().items()))


# ------------------------------------------------------------------------ times of solvers


def sized(n: int, seed: int = 0) -> dict[str, SmoothProblem]:
    """A program with rows, and one with bounds alone, of n variables."""
    rng = np.random.default_rng(seed)
    m = max(2, n // 5)
    A, q, a = rng.standard_normal((m, n)), 1.0 + rng.standard_normal(n), rng.standard_normal(n)
    A /= np.sqrt(n)

    def objective(y: Any) -> Any:
        value = np.exp(y).sum() - q @ y + 0.05 * (y @ y) ** 2 / n
        return value, np.exp(y) - q + 0.2 * (y @ y) * y / n

    def inequalities(y: Any) -> Any:
        Ay = A @ y
        return Ay**2 - 0.05, 2.0 * Ay[:, None] * A

    low, high, start = np.full(n, -1.0), np.full(n, 0.6), np.zeros(n)
    smooth = SmoothProblem(
        "smooth",
        "",
        objective,
        start,
        inequalities,
        lambda y: (np.array([a @ y - 0.1]), a[None]),
        low,
        high,
    )
    d = np.geomspace(0.3, 3.0, n)

    def valley(y: Any) -> Any:
        gap = y - np.roll(y, 1)
        slope = 2.0 * gap - 2.0 * np.roll(gap, -1)
        value, gradient = objective(y)
        return value + gap @ gap + 0.5 * (d * y) @ y, gradient + slope + d * y

    return {
        "smooth": smooth,
        "bounds": SmoothProblem("bounds", "", valley, start, lower=low, upper=high),
    }


def speed(sizes: tuple[int, ...] = (10, 100, 300), limit: float = 3.0) -> None:
    print("Seconds of a solve (of this process alone), for `SolverSpec.speed`\n")
    for name in ffoadapt.solvers("smooth"):
        solver = ffoadapt.get_plugin("solver", name)
        found = {}
        for column in ("smooth", "bounds"):
            for n in sizes:
                problem = sized(n)[column]
                if not problem.kinds <= frozenset(solver.cones):
                    continue
                times: list[float] = []
                while len(times) < 7 and sum(times) < limit:
                    form, start = problem.form(), time.process_time()
                    answer = solver.solve(form, dict(solver.defaults), ffoadapt.Session())
                    times.append(time.process_time() - start)
                assert answer.status.solved, (name, column, n, answer.status)
                found[column, n] = float(f"{median(times):.2g}")
                if times[0] > limit:
                    break
        print(f"{name}: {found}", flush=True)


def main() -> None:
    tables = {"steps": steps, "slopes": slopes, "counts": counts, "overhead": overhead}
    tables |= {"large": large, "speed": speed}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", nargs="*", choices=[*tables, []], help="all without")
    parser.add_argument("--plot", type=Path, help="where to write the picture of the steps")
    options = parser.parse_args()
    for name in options.table or tables:
        if name == "steps":
            steps(options.plot)
        else:
            tables[name]()
        print()


if __name__ == "__main__":
    main()
