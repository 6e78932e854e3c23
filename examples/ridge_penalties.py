"""Ridge regression with a penalty for each feature, learned on held-out rows (diabetes data).

The lower level is a ridge regression, so that the hypergradient has a closed form to be held to:
y = (A'A/n + diag(exp x))^-1 A'b/n.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from kit import FRAMEWORKS, arguments, bars, table


def data() -> tuple[Any, Any, Any, Any, Any, Any, list[str]]:
    """Rows to fit, to choose the penalties, and to test; standardized on the first."""
    from sklearn.datasets import load_diabetes

    raw = load_diabetes()
    rng = np.random.default_rng(0)
    # Ten features of noise beside the ten real ones: what a penalty a feature is for.
    X = np.c_[raw.data / raw.data.std(axis=0), rng.normal(size=(len(raw.data), 10))]
    y = (raw.target - raw.target.mean()) / raw.target.std()
    order = rng.permutation(len(X))
    a, b, c = order[:100], order[100:250], order[250:]
    return X[a], y[a], X[b], y[b], X[c], y[c], [*raw.feature_names, *("noise",) * 10]


def solved(A: Any, b: Any, x: Any) -> Any:
    """The lower level's closed form."""
    return np.linalg.solve(A.T @ A / len(A) + np.diag(np.exp(x)), A.T @ b / len(A))


def exact_gradient(A: Any, b: Any, V: Any, c: Any, x: Any) -> Any:
    """Of the mean squared error on the other rows, in the logarithms of the penalties."""
    y = solved(A, b, x)
    H = A.T @ A / len(A) + np.diag(np.exp(x))
    return -np.exp(x) * y * np.linalg.solve(H, 2 * V.T @ (V @ y - c) / len(V))


def main() -> None:
    options = arguments(__doc__ or "", "ridge_penalties.png").parse_args()
    kit = FRAMEWORKS[options.framework]()
    A, b, V, c, T, t, names = data()
    Ak, bk, Vk, ck = map(kit.array, (A, b, V, c))
    upper = lambda x, y: ((Vk @ y - ck) ** 2).mean()  # noqa: E731
    lower = lambda x, y: (  # noqa: E731
        ((Ak @ y - bk) ** 2).mean() / 2 + (kit.xp.exp(x) * y * y).sum() / 2
    )
    start = np.full(20, -2.0)
    steps = max(2, int(options.share * 150))
    rows = []
    with bars() as bar:
        x, y = kit.array(start), kit.array(np.zeros(20))
        one, _, _ = bar.run(
            "one step", upper, lower, x, y, algorithm="hypergradient", steps=1, step_size=1.0
        )
        exact = exact_gradient(A, b, V, c, start)
        error = np.abs(start - np.asarray(one.x) - exact).max() / np.abs(exact).max()
        result, path, seconds = bar.run(
            "a penalty a feature",
            upper,
            lower,
            x,
            y,
            algorithm="hypergradient",
            steps=steps,
            optimizer=kit.adam(0.1),
        )
    common = min(
        (np.full(20, z) for z in np.linspace(-8, 4, 121)),
        key=lambda z: ((V @ solved(A, b, z) - c) ** 2).mean(),
    )
    for name, z in {
        "least squares": np.full(20, -40.0),
        "one penalty, best on the held-out rows": common,
        "a penalty a feature": np.asarray(result.x),
    }.items():
        fit = solved(A, b, z)
        rows.append([name, *(f"{((X @ fit - r) ** 2).mean():.4f}" for X, r in ((V, c), (T, t)))])
    print(table(("penalties", "held-out error", "test error"), rows))
    print(f"error of the hypergradient against the closed form: {error:.1e}, relative")
    print(f"{result.gradient_calls:,} gradient calls, {seconds:.1f} s")
    draw(np.array([x for x, _ in path]), names, options.output)
    print(f"picture: {options.output}")


def draw(path: Any, names: list[str], output: Path) -> None:
    """The penalty of every feature over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for k, name in enumerate(names):
        style: dict[str, Any] = {"color": "0.7"} if name == "noise" else {"label": name}
        axes.plot(path[:, k], **style)
    axes.set_xlabel("step")
    axes.set_ylabel("logarithm of the penalty (grey: features of noise)")
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(output, dpi=120)


if __name__ == "__main__":
    main()
