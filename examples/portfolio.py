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
TIGHT = {"tolerance": 1e-10}  # of the solves that finite differences compare


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


def portfolio_layer(covariance: Any, solver: str, options: Any = None) -> ffoadapt.Layer:
    """Forecast (n,) -> weights (n,) of the mean-variance portfolio, long only and diversified."""
    n = len(covariance)
    weights, forecast = cp.Variable(n), cp.Parameter(n)
    risk = cp.quad_form(weights, cp.psd_wrap(covariance))
    problem = cp.Problem(
        cp.Maximize(forecast @ weights - 0.5 * RISK_AVERSION * risk),
        [cp.sum(weights) == 1, weights >= 0, weights <= LARGEST_WEIGHT],
    )
    return ffoadapt.Layer(problem, [forecast], [weights], solver=solver, solver_options=options)


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


def finite_differences(weeks: Weeks, covariance: Any, theta: Any, step: float = 1e-5) -> Any:
    """The gradient of the first training step by central differences of tight solves."""
    layer = portfolio_layer(covariance, "auto", TIGHT)

    def value(at: Any) -> float:
        return float(objective(decide(layer, at, weeks), weeks.returns))

    axes = step * np.eye(len(theta))
    return np.array([value(theta + e) - value(theta - e) for e in axes]) / (2 * step)
