"""Decision-focused learning on real prices: one script, every installed solver, torch and JAX.

A linear model forecasts next week's returns of 20 stocks, and a quadratic program turns a forecast
into a portfolio. The model is trained twice: on the error of its forecasts (two-stage), and through
the program on what the portfolio earns after risk and costs (end to end). `Torch` and `Jax` are the
only lines that know a framework; no line knows a solver.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np
import show

import ffoadapt

WEEKS = 52  # a year
RISK_AVERSION = 0.05  # with returns in %; 5 with returns as fractions
LARGEST_WEIGHT = 0.2
COST = 0.1  # % of each dollar bought or sold
LOOKBACKS = ((0, 1), (1, 4), (4, 26), (26, 52))  # weeks ago: to, from
VOLATILITY_WEEKS = 13
BLOCK = 240  # weeks of one training step, at least
LEARNING_RATE = 0.01
TOLERANCE = 1e-8
EPOCHS = 4
YEARS = {  # in this order in time; docs/demo.md says how the numbers above were chosen
    "train": ("1990", "2009-12-31"),
    "validate": ("2009-12-31", "2014-12-31"),
    "test": ("2014-12-31", "2022-12-31"),
}


# -- the data


@dataclass(frozen=True)
class Weeks:
    """Consecutive weeks: features (T, n, k) known before them, returns (T, n) in them, in %."""

    features: Any
    returns: Any
    dates: Any

    def __getitem__(self, part: slice) -> Weeks:
        return Weeks(self.features[part], self.returns[part], self.dates[part])

    def between(self, start: str, end: str) -> Weeks:
        """The weeks that end after ``start`` and not after ``end``."""
        part = np.flatnonzero((self.dates > start) & (self.dates <= end))
        return self[part[0] : part[-1] + 1]

    def blocks(self) -> list[Weeks]:
        """Consecutive parts of BLOCK weeks or a few more."""
        ends = np.linspace(0, len(self.dates), max(1, len(self.dates) // BLOCK) + 1).astype(int)
        return [self[start:end] for start, end in itertools.pairwise(ends)]

    def to(self, array: Callable[[Any], Any]) -> Weeks:
        """The same weeks in a framework's arrays."""
        return Weeks(array(self.features), array(self.returns), self.dates)


def load() -> Weeks:
    """20 large US stocks, 1990 to 2022: daily prices that come inside the package skfolio."""
    from skfolio.datasets import load_sp500_dataset

    prices = load_sp500_dataset().resample("W").last()
    log, returns = np.log(prices.to_numpy()), 100 * prices.pct_change().to_numpy()
    now = np.arange(LOOKBACKS[-1][1], len(log) - 1)
    past = [log[now - a] - log[now - b] for a, b in LOOKBACKS]
    volatility = [returns[t + 1 - VOLATILITY_WEEKS : t + 1].std(axis=0) for t in now]
    raw = np.stack([*past, np.array(volatility)], axis=-1)
    # A feature says how a stock differs from the others in that week.
    features = (raw - raw.mean(axis=1, keepdims=True)) / raw.std(axis=1, keepdims=True)
    return Weeks(features, returns[now + 1], prices.index[now + 1])


# -- the decision and what it earns: the same lines in every framework and with every solver


def portfolio_layer(covariance: Any, solver: str, **settings: Any) -> ffoadapt.Layer:
    """Forecast (n,) -> weights (n,) of the long-only, diversified mean-variance portfolio."""
    n = len(covariance)
    weights, forecast = cp.Variable(n), cp.Parameter(n)
    risk = cp.quad_form(weights, cp.psd_wrap(covariance))
    problem = cp.Problem(
        cp.Maximize(forecast @ weights - 0.5 * RISK_AVERSION * risk),
        [cp.sum(weights) == 1, weights >= 0, weights <= LARGEST_WEIGHT],
    )
    settings = {"solver": solver, "solver_options": {"tolerance": TOLERANCE}, **settings}
    return ffoadapt.Layer(problem, [forecast], [weights], **settings)


def decide(layer: ffoadapt.Layer, theta: Any, weeks: Weeks) -> Any:
    """Weights (T, n) of all weeks in one batched call; theta (k,) is the linear model."""
    (weights,) = layer(weeks.features @ theta)
    return weights


def costs(weights: Any) -> Any:
    """What trading into the weights of each week but the first costs, in %."""
    return COST * abs(weights[1:] - weights[:-1]).sum(1)


def earned(weights: Any, returns: Any) -> Any:
    """Return of each week but the first after costs, in %."""
    return (weights * returns).sum(1)[1:] - costs(weights)


def objective(weights: Any, returns: Any) -> Any:
    """Certainty-equivalent return, % a year: the mean less risk aversion / 2 times the variance."""
    net = earned(weights, returns)
    variance = ((net - net.mean()) ** 2).mean()
    return WEEKS * (net.mean() - 0.5 * RISK_AVERSION * variance)


# -- the frameworks


class Torch:
    """torch's autograd."""

    def __init__(self) -> None:
        import torch

        self.array = torch.as_tensor

    def gradient(self, function: Callable[[Any], Any], theta: Any) -> Any:
        theta = theta.detach().requires_grad_()
        function(theta).backward()
        return theta.grad


class Jax:
    """JAX, in double precision."""

    def __init__(self) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)
        self.array, self.grad = jax.numpy.asarray, jax.grad

    def gradient(self, function: Callable[[Any], Any], theta: Any) -> Any:
        return self.grad(function)(theta)


FRAMEWORKS: dict[str, type] = {"torch": Torch, "jax": Jax}


# -- training


@dataclass
class Run:
    """One solver in one framework: what to train with, and what came of it."""

    solver: str
    framework: str
    gradient: Any = None  # of the objective of each block of weeks, at the two-stage model
    seconds: float = 0.0  # of training
    validation: list[float] = field(default_factory=list)  # before training and after each epoch
    weights: dict[str, Any] = field(default_factory=dict)  # in the test years, of both models
    scores: dict[str, float] = field(default_factory=dict)  # their objectives
    skipped: str = ""  # why


def two_stage(weeks: Weeks) -> Any:
    """The model of least squared error; it forecasts a return less the mean over the stocks."""
    target = weeks.returns - weeks.returns.mean(axis=1, keepdims=True)
    rows = weeks.features.reshape(-1, weeks.features.shape[-1])
    return np.linalg.lstsq(rows, target.ravel(), rcond=None)[0]


def finite_differences(weeks: Weeks, covariance: Any, theta: Any, step: float = 1e-6) -> Any:
    """The gradient of the objective from solves alone, each brought to full accuracy."""
    layer = portfolio_layer(covariance, "auto", polish=True)
    ends = [
        [objective(decide(layer, theta + e, weeks), weeks.returns) for e in (axis, -axis)]
        for axis in step * np.eye(len(theta))
    ]
    return np.array([(up - down) / (2 * step) for up, down in ends])


def adam(theta: Any, gradient: Any, state: tuple[Any, Any, int]) -> tuple[Any, Any]:
    """One step uphill (Kingma and Ba, 2015), on the arrays of any framework."""
    mean, square, count = 0.9 * state[0] + 0.1 * gradient, state[1], state[2] + 1
    square = 0.999 * square + 0.001 * gradient**2
    step = mean / (1 - 0.9**count) / ((square / (1 - 0.999**count)) ** 0.5 + 1e-8)
    return theta + LEARNING_RATE * step, (mean, square, count)


def train(run: Run, parts: dict[str, Weeks], covariance: Any, start: Any, epochs: int) -> None:
    """From the two-stage model uphill through the solver; test the epoch that validates best."""
    framework = FRAMEWORKS[run.framework]()
    layer = portfolio_layer(covariance, run.solver)
    parts = {name: weeks.to(framework.array) for name, weeks in parts.items()}

    def score(theta: Any, weeks: Weeks) -> Any:
        return objective(decide(layer, theta, weeks), weeks.returns)

    def gradient(theta: Any, weeks: Weeks) -> Any:
        return framework.gradient(lambda t: score(t, weeks), theta)

    theta = framework.array(start)
    blocks = parts["train"].blocks()
    run.gradient = np.array([gradient(theta, block) for block in blocks])
    began = time.perf_counter()
    thetas, state = [theta], (0 * theta, 0 * theta, 0)
    for _ in range(epochs):
        for block in blocks:
            theta, state = adam(theta, gradient(theta, block), state)
        thetas.append(theta)
    run.validation = [float(score(theta, parts["validate"])) for theta in thetas]
    run.seconds = time.perf_counter() - began
    for name, theta in ("two-stage", thetas[0]), ("end to end", thetas[np.argmax(run.validation)]):
        run.weights[name] = np.asarray(decide(layer, theta, parts["test"]))
        run.scores[name] = float(score(theta, parts["test"]))


def outcome(name: str, weights: Any, weeks: Weeks) -> show.Outcome:
    """What holding these weights (T, n) comes to."""
    wealth = np.cumprod(1 + earned(weights, weeks.returns) / 100)
    value, cost = objective(weights, weeks.returns), WEEKS * costs(weights).mean()
    return show.Outcome(name, float(value), float(cost), wealth)


def arguments() -> argparse.Namespace:
    """The command line."""
    ready = [name for name in FRAMEWORKS if name in ffoadapt.frameworks()]
    of_functions = ffoadapt.solvers("smooth")  # this program is one of matrices
    solvers = [plugin.name for plugin in ffoadapt.plugins() if plugin.kind == "solver"]
    solvers = [name for name in solvers if name not in of_functions]
    output = Path(__file__).parent / "output" / "portfolio.png"
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--solvers", nargs="+", default=solvers, help="default: all installed")
    parser.add_argument("--frameworks", nargs="+", default=ready, choices=list(FRAMEWORKS))
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=output, help="the plot; a PNG file")
    return parser.parse_args()


def main() -> None:
    """Train with every solver in every framework, print the table, draw the plot."""
    options = arguments()
    weeks = load()
    parts = {name: weeks.between(*years) for name, years in YEARS.items()}
    covariance = np.cov(parts["train"].returns, rowvar=False)
    start, test = two_stage(parts["train"]), parts["test"]
    blocks = parts["train"].blocks()
    reference = np.array([finite_differences(block, covariance, start) for block in blocks])
    runs = [Run(solver, name) for solver in options.solvers for name in options.frameworks]
    for run in show.tracked(runs):
        try:
            train(run, parts, covariance, start, options.epochs)
        except ffoadapt.FFOAdaptError as error:
            run.skipped = str(error).partition("\n")[0]
    print(show.table(runs, reference))
    done = [run for run in runs if not run.skipped]
    if not done:
        raise SystemExit("no solver could be used; see `python -m ffoadapt plugins`")
    weights = {
        **done[0].weights,
        "no forecast": decide(portfolio_layer(covariance, "auto"), 0 * start, test),
        "equal weights": np.full_like(test.returns, 1 / len(covariance)),
    }
    outcomes = [outcome(name, w, test) for name, w in weights.items()]
    print(show.summary(done, outcomes))
    show.draw(done, outcomes, test.dates[1:], options.output)
    print(f"plot: {options.output}")


if __name__ == "__main__":
    main()
