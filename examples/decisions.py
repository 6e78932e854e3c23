"""Decisions from predicted prices: a model trained on its errors, then through the program.

minimize 1/2 z'Qz + y'z subject to -1 <= z <= 0 and sum z >= -BUDGET, for 200 variables whose costs
are coupled by Q = I/10 + 4BB'/n and by the budget. y is predicted from ten features by a linear
model, though it is cubic in them. The task is that of the synthetic experiment in "A Fully
First-Order Layer for Differentiable Optimization" (arXiv 2512.02494), with a program that leaves a
decision to make.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from kit import FRAMEWORKS, arguments, bars, table

import ffoadapt

SIZE, FEATURES, RANK = 200, 10, 20
BUDGET = 5.0
TRAIN, TEST, BATCH, EPOCHS = 160, 100, 16, 3
RATE = 0.03


def data(seed: int) -> tuple[Any, Any, Any]:
    """Q (n, n), features with a constant (N, 11), and prices (N, n), of mean zero."""
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(SIZE, RANK))
    features = rng.normal(size=(TRAIN + TEST, FEATURES))
    hidden = features @ rng.normal(size=(FEATURES, SIZE)) / FEATURES**0.5
    prices = hidden**3 / 3 + 0.1 * rng.normal(size=hidden.shape)
    Q = 0.1 * np.eye(SIZE) + 4 * B @ B.T / SIZE
    return Q, np.c_[features, np.ones(len(features))], prices - prices.mean()


class Task:
    """The program of one seed, in a framework's arrays."""

    def __init__(self, kit: Any, seed: int) -> None:
        Q, features, prices = data(seed)
        self.Q = kit.array(Q)
        self.rows = kit.array(np.r_[np.eye(SIZE), np.ones((1, SIZE))])
        self.low = kit.array(np.append(-np.ones(SIZE), -BUDGET))
        self.high = kit.array(np.append(np.zeros(SIZE), np.inf))
        self.train = kit.array(features[:TRAIN]), kit.array(prices[:TRAIN])
        self.test = kit.array(features[TRAIN:]), kit.array(prices[TRAIN:])
        self.two_stage = np.linalg.lstsq(features[:TRAIN], prices[:TRAIN], rcond=None)[0]
        self.best = self.costs(self.decide(self.test[1]), self.test[1])

    def decide(self, prices: Any) -> Any:
        """The decisions (B, n) that are best for the prices (B, n)."""
        return ffoadapt.box_qp(self.Q, prices, self.rows, self.low, self.high).x

    def costs(self, z: Any, prices: Any) -> Any:
        """(B,)"""
        return 0.5 * ((z @ self.Q) * z).sum(-1) + (prices * z).sum(-1)

    def regrets(self, theta: Any) -> Any:
        """(TEST,) what deciding by the model costs more than deciding by the true prices."""
        features, prices = self.test
        return np.asarray(self.costs(self.decide(features @ theta), prices) - self.best)

    def error(self, theta: Any) -> float:
        """The model's mean squared error on the test set."""
        features, prices = self.test
        return float(((features @ theta - prices) ** 2).mean())


def trained(kit: Any, bar: Any, task: Task, seed: int, share: float) -> Any:
    """`minimize` over the model, from the two-stage one, through the program."""
    features, prices = task.train
    per_epoch = TRAIN // BATCH
    orders = [np.random.default_rng((seed, k)).permutation(TRAIN) for k in range(EPOCHS)]

    def batch(step: int) -> tuple[Any, Any]:
        start = step % per_epoch * BATCH
        rows = kit.integers(orders[step // per_epoch][start : start + BATCH])
        return features[rows], prices[rows]

    return bar.run(
        f"seed {seed}: end to end",
        lambda theta, z, features, prices: task.costs(z, prices).mean(),
        lambda theta, features, prices: task.decide(features @ theta),
        kit.array(task.two_stage),
        None,
        algorithm="hypergradient",
        steps=max(2, int(share * EPOCHS * per_epoch)),
        optimizer=kit.adam(RATE),
        batches=batch,
    )


def draw(curves: list[Any], pairs: Any, output: Path) -> None:
    """Left: regret on the way. Right: each decision of the last seed, both models."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for seed, curve in enumerate(curves):
        left.plot(*zip(*curve, strict=True), marker="o", label=f"seed {seed}")
    left.set(xlabel="step", ylabel="mean regret on the test set", ylim=(0, None))
    left.legend()
    before, after = pairs
    top = max(before.max(), after.max())
    right.plot([0, top], [0, top], color="0.7")
    right.plot(before, after, ".")
    right.set(xlabel="regret of the two-stage model", ylabel="regret end to end")
    figure.savefig(output, dpi=120)


def main() -> None:
    parser = arguments(__doc__ or "", "decisions.png")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    kit = FRAMEWORKS[options.framework]()
    rows, curves, changes, pairs = [], [], [], None
    with bars() as bar:
        for seed in range(options.seeds):
            task = Task(kit, seed)
            result, path, seconds = trained(kit, bar, task, seed, options.share)
            ends = [*range(9, len(path) - 1, 10), len(path) - 1]
            before = task.regrets(kit.array(task.two_stage))
            along = [task.regrets(kit.array(path[k][0])) for k in ends]
            curve = zip(ends, along, strict=True)
            curves.append([(0, before.mean()), *((k + 1, r.mean()) for k, r in curve)])
            pairs = before, along[-1]
            changes.append(1 - along[-1].mean() / before.mean())
            errors = task.error(kit.array(task.two_stage)), task.error(result.x)
            rows.append(
                [
                    f"seed {seed}",
                    f"{before.mean():.3f}",
                    f"{along[-1].mean():.3f}",
                    f"{100 * changes[-1]:.0f} %",
                    *(f"{error:.3f}" for error in errors),
                    f"{seconds:.1f}",
                ]
            )
    header = ("", "regret, two-stage", "end to end", "lower by", "error, two-stage", "end to end")
    print(table((*header, "seconds"), rows))
    print(f"regret lower by {100 * np.mean(changes):.0f} % in the mean")
    draw(curves, pairs, options.output)
    print(f"picture: {options.output}")


if __name__ == "__main__":
    main()
