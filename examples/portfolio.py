"""Decision-focused learning on real prices: one script, every installed solver, torch and JAX.

A linear model forecasts the next week's returns of 20 stocks, and a quadratic program turns the
forecast into a portfolio. The model is trained twice: on the error of its forecasts (two-stage), and
through the program on what the portfolio earns after risk and costs (end to end). The only lines
that know a framework are `Torch` and `Jax`; no line knows a solver.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cvxpy as cp
import ffoadapt
import numpy as np

WEEKS = 52  # a year
RISK_AVERSION = 0.05  # with returns in %; 5 with returns as fractions
LARGEST_WEIGHT = 0.2
COST = 0.1  # % of each dollar bought or sold
LOOKBACKS = ((0, 1), (1, 4), (4, 26), (26, 52))  # weeks ago: from, to
BLOCK = 200  # consecutive weeks of one training step
LEARNING_RATE = 0.01
YEARS = {  # training, validation (every choice above was made here) and test, in this order in time
    "train": ("1990", "2009-12-31"),
    "validate": ("2009-12-31", "2014-12-31"),
    "test": ("2014-12-31", "2022-12-31"),
}
EPOCHS = 6


# -- the data


@dataclass(frozen=True)
class Weeks:
    """Consecutive weeks: features (T, n, k) known before them and returns (T, n) in them, in %."""

    features: Any
    returns: Any
    dates: Any

    def between(self, start: str, end: str) -> Weeks:
        """The weeks that end after ``start`` and not after ``end``."""
        part = np.flatnonzero((self.dates > start) & (self.dates <= end))
        kept = slice(part[0], part[-1] + 1)
        return Weeks(self.features[kept], self.returns[kept], self.dates[kept])

    def blocks(self) -> list[Weeks]:
        """Consecutive parts of about BLOCK weeks."""
        ends = np.linspace(0, len(self.dates), max(1, len(self.dates) // BLOCK) + 1).astype(int)
        slices = [slice(start, end) for start, end in zip(ends, ends[1:], strict=False)]
        return [Weeks(self.features[s], self.returns[s], self.dates[s]) for s in slices]

    def put(self, array: Callable[[Any], Any]) -> Weeks:
        """The same weeks as a framework's arrays."""
        return Weeks(array(self.features), array(self.returns), self.dates)


def load() -> Weeks:
    """20 large US stocks, 1990 to 2022: prices that come inside the package skfolio."""
    from skfolio.datasets import load_sp500_dataset

    prices = load_sp500_dataset().resample("W").last()
    log, returns = np.log(prices.to_numpy()), 100 * prices.pct_change().to_numpy()
    start = LOOKBACKS[-1][1]
    now = np.arange(start, len(log) - 1)
    past = [log[now - a] - log[now - b] for a, b in LOOKBACKS]
    volatility = np.array([returns[t - 12 : t + 1].std(axis=0) for t in now])
    raw = np.stack([*past, volatility], axis=-1)
    # Each feature says how a stock differs from the others in that week.
    features = (raw - raw.mean(axis=1, keepdims=True)) / raw.std(axis=1, keepdims=True)
    return Weeks(features, returns[now + 1], prices.index[now + 1])


# -- the model, the decision and what it earns: the same lines for every framework and solver


def portfolio_layer(covariance: Any, solver: str, **settings: Any) -> ffoadapt.Layer:
    """Forecast (n,) -> weights (n,) of the mean-variance portfolio, long only and diversified."""
    n = len(covariance)
    weights, forecast = cp.Variable(n), cp.Parameter(n)
    risk = cp.quad_form(weights, cp.psd_wrap(covariance))
    problem = cp.Problem(
        cp.Maximize(forecast @ weights - 0.5 * RISK_AVERSION * risk),
        [cp.sum(weights) == 1, weights >= 0, weights <= LARGEST_WEIGHT],
    )
    return ffoadapt.Layer(problem, [forecast], [weights], solver=solver, **settings)


def earned(weights: Any, returns: Any) -> Any:
    """Return of each week but the first, after the cost of trading into its weights."""
    traded = abs(weights[1:] - weights[:-1]).sum(1)
    return (weights * returns).sum(1)[1:] - COST * traded


def objective(weights: Any, returns: Any) -> Any:
    """Certainty-equivalent return, % a year: mean less risk aversion / 2 times variance."""
    net = earned(weights, returns)
    variance = ((net - net.mean()) ** 2).mean()
    return WEEKS * (net.mean() - 0.5 * RISK_AVERSION * variance)


def decide(layer: ffoadapt.Layer, theta: Any, weeks: Weeks) -> Any:
    """Weights (T, n) of all weeks, in one batched call."""
    (weights,) = layer(weeks.features @ theta)
    return weights


def two_stage(weeks: Weeks) -> Any:
    """The model with the least squared error of forecasts of what each stock earns over the mean."""
    target = weeks.returns - weeks.returns.mean(axis=1, keepdims=True)
    k = weeks.features.shape[-1]
    return np.linalg.lstsq(weeks.features.reshape(-1, k), target.ravel(), rcond=None)[0]


# -- the frameworks


class Torch:
    """torch: autograd."""

    def __init__(self) -> None:
        import torch

        self.array = torch.as_tensor

    def value_and_grad(self, loss: Callable[[Any], Any], theta: Any) -> tuple[Any, Any]:
        theta = theta.detach().requires_grad_()
        value = loss(theta)
        value.backward()
        return value.detach(), theta.grad


class Jax:
    """JAX, in double precision."""

    def __init__(self) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)
        self.array, self.jax = jax.numpy.asarray, jax

    def value_and_grad(self, loss: Callable[[Any], Any], theta: Any) -> tuple[Any, Any]:
        return self.jax.value_and_grad(loss)(theta)


FRAMEWORKS: dict[str, type] = {"torch": Torch, "jax": Jax}


# -- training


@dataclass
class Run:
    """What one solver did in one framework."""

    solver: str
    framework: str
    gradient: Any = None
    seconds: float = 0.0
    validation: list[float] = field(default_factory=list)  # before training and after each epoch
    theta: Any = None
    tested: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""

    @property
    def name(self) -> str:
        return f"{self.solver}, {self.framework}"


def adam(theta: Any, gradient: Any, state: tuple[Any, Any, int]) -> tuple[Any, Any]:
    """One step downhill, on the arrays of any framework."""
    mean, square, count = state[0], state[1], state[2] + 1
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient**2
    step = mean / (1 - 0.9**count) / ((square / (1 - 0.999**count)) ** 0.5 + 1e-8)
    return theta - LEARNING_RATE * step, (mean, square, count)


def train(run: Run, parts: dict[str, Weeks], start: Any, epochs: int, advance: Any) -> None:
    """Train through one solver in one framework, from the two-stage model; keep the best epoch."""
    framework = FRAMEWORKS[run.framework]()
    covariance = np.cov(parts["train"].returns, rowvar=False)
    layer = portfolio_layer(covariance, run.solver)
    array = framework.array
    blocks = [block.put(array) for block in parts["train"].blocks()]
    validate, test = parts["validate"].put(array), parts["test"].put(array)

    def score(theta: Any, weeks: Weeks) -> float:
        return float(objective(decide(layer, theta, weeks), weeks.returns))

    def step(theta: Any, block: Weeks) -> Any:
        loss = lambda t: -objective(decide(layer, t, block), block.returns)  # noqa: E731
        return framework.value_and_grad(loss, theta)[1]

    theta = array(start)
    run.gradient = -np.asarray(step(theta, blocks[0]))
    began = time.perf_counter()
    thetas, state = [theta], (0.0 * theta, 0.0 * theta, 0)
    run.validation.append(score(theta, validate))
    for _ in range(epochs):
        for block in blocks:
            theta, state = adam(theta, step(theta, block), state)
            advance(run)
        thetas.append(theta)
        run.validation.append(score(theta, validate))
    run.seconds = time.perf_counter() - began
    run.theta = thetas[int(np.argmax(run.validation))]
    for name, chosen in (("two-stage", array(start)), ("end to end", run.theta)):
        weights = decide(layer, chosen, test)
        run.tested[name] = float(objective(weights, test.returns))
        run.weights[name] = np.asarray(weights)


def finite_differences(weeks: Weeks, covariance: Any, theta: Any, step: float = 1e-6) -> Any:
    """The gradient of the first training step, from differences of polished solves alone."""
    layer = portfolio_layer(covariance, "auto", polish=True)

    def value(at: Any) -> float:
        return float(objective(decide(layer, at, weeks), weeks.returns))

    axes = step * np.eye(len(theta))
    return np.array([value(theta + e) - value(theta - e) for e in axes]) / (2 * step)


# -- what is shown


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[Run], None]]:
    """A bar where rich is installed, else a line for each run."""
    try:
        from rich.progress import Progress
    except ImportError:
        seen: set[str] = set()

        def tell(run: Run) -> None:
            if run.name not in seen:
                print(f"training: {run.name}", flush=True)
                seen.add(run.name)

        yield tell
        return
    with Progress() as bar:
        task = bar.add_task("training", total=total)
        yield lambda run: bar.update(task, advance=1, description=f"{run.name:16}")


def table(runs: list[Run], reference: Any) -> str:
    """One line a run; gradient error relative to the largest entry of the reference."""
    head = f"{'solver':10} {'framework':9} {'gradient error':>14} {'seconds':>8} "
    head += f"{'two-stage':>10} {'end to end':>11}"
    lines = [head, "-" * len(head)]
    for run in runs:
        start = f"{run.solver:10} {run.framework:9} "
        if run.skipped:
            lines.append(f"{start}skipped: {run.skipped}")
            continue
        error = abs(run.gradient - reference).max() / abs(reference).max()
        scores = f"{run.tested['two-stage']:10.2f} {run.tested['end to end']:11.2f}"
        lines.append(f"{start}{error:14.1e} {run.seconds:8.1f} {scores}")
    return "\n".join(lines)


def draw(runs: list[Run], fixed: dict[str, Any], test: Weeks, path: Path) -> None:
    """Left: training, all runs over each other. Right: wealth in the test years, after costs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    for run, width in zip(runs, np.linspace(7, 1.2, len(runs)), strict=True):
        left.plot(run.validation, lw=width, label=run.name)
    left.axhline(runs[0].validation[0], color="0.4", ls="--", lw=1)
    left.annotate(
        "two-stage model",
        (len(runs[0].validation) - 1, runs[0].validation[0]),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
        color="0.3",
    )
    left.set(
        title=f"Training end to end: {len(runs)} runs, drawn over each other",
        xlabel="epoch",
        ylabel="objective in validation years, % a year",
    )
    left.legend(fontsize=8, frameon=False, ncols=2)
    styles = {"end to end": ("C0", 2.4, "-"), "two-stage": ("C3", 2.0, "-")}
    for name, weights in {**runs[0].weights, **fixed}.items():
        color, width, dash = styles.get(name, ("0.55", 1.2, "--" if "no" in name else ":"))
        wealth = np.cumprod(1 + earned(weights, test.returns) / 100)
        right.plot(test.dates[1:], wealth, color=color, lw=width, ls=dash, label=name)
    right.set(title="Out of sample, after costs", ylabel="wealth, from 1")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def arguments() -> argparse.Namespace:
    """The command line."""
    ready = [name for name in FRAMEWORKS if name in ffoadapt.frameworks()]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--solvers", nargs="+", default=ffoadapt.solvers(), metavar="NAME")
    parser.add_argument("--frameworks", nargs="+", default=ready, choices=list(FRAMEWORKS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "output" / "portfolio.png"
    )
    return parser.parse_args()


def main() -> None:
    """Train with every solver in every framework, print the table, draw the plot."""
    options = arguments()
    weeks = load()
    parts = {name: weeks.between(*years) for name, years in YEARS.items()}
    covariance = np.cov(parts["train"].returns, rowvar=False)
    start, test = two_stage(parts["train"]), parts["test"]
    blocks = parts["train"].blocks()
    reference = finite_differences(blocks[0], covariance, start)
    runs = [Run(solver, name) for solver in options.solvers for name in options.frameworks]
    with progress(len(runs) * options.epochs * len(blocks)) as advance:
        for run in runs:
            try:
                train(run, parts, start, options.epochs, advance)
            except ffoadapt.FFOAdaptError as error:
                run.skipped = str(error).splitlines()[0]
    print(table(runs, reference))
    done = [run for run in runs if not run.skipped]
    if not done:
        return
    fixed = {
        "minimum variance (no forecast)": decide(
            portfolio_layer(covariance, "auto"), 0 * start, test
        ),
        "equal weights": np.full_like(test.returns, 1 / test.returns.shape[1]),
    }
    for name, weights in fixed.items():
        print(f"{name}: {objective(weights, test.returns):.2f}")
    draw(done, fixed, test, options.output)
    print(f"plot: {options.output}")


if __name__ == "__main__":
    main()
