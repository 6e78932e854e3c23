"""The toys of the bilevel papers, with every algorithm, its gradient calls and its path.

The coreset, the non-singleton and the minimax toy of BOME (Liu et al., NeurIPS 2022), the toy of
V-PBGD (Shen and Chen, ICML 2023), and |x| for the Goldstein certificate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from kit import FRAMEWORKS, arguments, bars, table

POINTS = np.array([[1.0, 3.0], [3.0, 1.0], [-2.0, 2.0], [-3.0, -2.0]])
TARGET = np.array([3.0, -2.0])
MINIMA = np.array([0.38236, 1.21515, 2.82964])  # of V-PBGD's f(x, -x), by a grid


def coreset(kit: Any, bar: Any, share: float) -> tuple[list[list[str]], dict[str, Any]]:
    """Weights softmax(v) of four points, whose mean shall be near another one."""
    X, target = kit.array(POINTS), kit.array(TARGET)

    def mean(v: Any) -> Any:
        return kit.xp.exp(v - kit.logsumexp(v)) @ X

    upper = lambda v, th: 0.1 * ((th - target) ** 2).sum()  # noqa: E731
    lower = lambda v, th: ((th - mean(v)) ** 2).sum()  # noqa: E731
    settings: dict[str, dict[str, Any]] = {
        "BOME": {"algorithm": "bome", "steps": 5000},
        "F2SA": {"algorithm": "f2sa", "steps": 2000, "penalty": 1.0, "penalty_growth": 0.01},
        "V-PBGD": {"algorithm": "penalty", "steps": 3000, "step_size": 0.3, "lower_step_size": 0.1},
        "hypergradient, Adam": {
            "algorithm": "hypergradient",
            "steps": 500,
            "optimizer": kit.adam(0.1),
        },
        "Goldstein": {"algorithm": "goldstein", "steps": 500, "delta": 0.01},
    }
    rows, paths = [], {}
    for name, options in settings.items():
        options["steps"] = max(2, int(share * options["steps"]))
        start = kit.array(np.zeros(4)), kit.array([0.0, 3.0])
        result, path, seconds = bar.run(f"coreset: {name}", upper, lower, *start, **options)
        value = float(upper(result.x, mean(result.x)))
        rows.append(
            ["coreset", name, f"{result.gradient_calls:,}", f"{seconds:.1f}", f"F = {value:.5f}"]
        )
        weights = np.array([np.exp(x - np.logaddexp.reduce(x)) for x, _ in path])
        paths[name] = weights @ POINTS
    return rows, paths


def non_singleton(kit: Any, bar: Any, share: float) -> tuple[list[list[str]], dict[str, Any]]:
    """g leaves one variable free: f shall choose it. The answer is (1, 1, 1)."""
    rows, paths = [], {}
    for name, options in {
        "BOME": {"algorithm": "bome", "step_size": 0.5, "lower_steps": 1},
        "F2SA": {"algorithm": "f2sa", "step_size": 0.3, "penalty": 100.0},
        "V-PBGD": {"algorithm": "penalty", "step_size": 0.5, "penalty": 10.0},
    }.items():
        result, path, seconds = bar.run(
            f"non-singleton: {name}",
            lambda w, x: 0.5 * (w - x[1]) ** 2 + 0.5 * (x[0] - 1) ** 2,
            lambda w, x: x[0] ** 2 / 2 - w * x[0],
            kit.array(0.0),
            kit.array([0.0, 0.0]),
            steps=max(2, int(share * 1000)),
            **options,
        )
        point = np.append(np.asarray(result.x), np.asarray(result.y))
        off = f"off by {np.abs(point - 1).max():.1e}"
        rows.append(["non-singleton", name, f"{result.gradient_calls:,}", f"{seconds:.1f}", off])
        paths[name] = np.abs([np.append(x, y) - 1 for x, y in path]).max(axis=1)
    return rows, paths


def minimax(kit: Any, bar: Any, share: float) -> tuple[list[list[str]], dict[str, Any]]:
    """min over x of max over w of x w, in a box: descent and ascent circle, the answer is 0."""
    box = lambda a: kit.clip(a, -10.0, 10.0)  # noqa: E731
    result, path, seconds = bar.run(
        "minimax: BOME",
        lambda x, w: x * w,
        lambda x, w: -x * w,
        kit.array(4.0),
        kit.array(4.0),
        algorithm="bome",
        steps=max(2, int(share * 200)),
        project={"x": box, "y": box},
    )
    x, w = float(result.x), float(result.y)
    row = ["minimax", "BOME", f"{result.gradient_calls:,}", f"{seconds:.1f}", f"({x:.3f}, {w:.3f})"]
    return [row], {"BOME": np.array([[float(a), float(b)] for a, b in path])}


def many_starts(kit: Any, bar: Any, share: float) -> list[list[str]]:
    """V-PBGD's toy: 200 starts at once; how far from a local minimum of f(x, -x) they end."""
    exp, log, cos = kit.xp.exp, kit.xp.log, kit.xp.cos
    rows = []
    for penalty in (10.0, 100.0):
        rng = np.random.default_rng(0)
        result, _, seconds = bar.run(
            f"200 starts: V-PBGD, penalty {penalty:.0f}",
            lambda x, y: (
                cos(4 * y + 2) / (1 + exp(2 - 4 * x)) + log((4 * x - 2) ** 2 + 1) / 2
            ).sum(),
            lambda x, y: ((x + y) ** 2).sum(),
            kit.array(rng.uniform(0, 3, 200)),
            kit.array(rng.uniform(-10, 10, 200)),
            algorithm="penalty",
            steps=max(2, int(share * 1000)),
            penalty=penalty,
            step_size=0.1,
            lower_steps=1,
            project={"x": lambda x: kit.clip(x, 0.0, 3.0)},
        )
        off = np.abs(np.asarray(result.x)[:, None] - MINIMA).min(axis=1)
        name, words = (
            f"V-PBGD, penalty {penalty:.0f}",
            f"mean {off.mean():.4f}, max {off.max():.4f}",
        )
        rows.append(["200 starts", name, f"{result.gradient_calls:,}", f"{seconds:.1f}", words])
    return rows


def kink(kit: Any, bar: Any, share: float) -> tuple[list[list[str]], dict[str, Any]]:
    """|x| from pi/3: a certificate, and what plain descent does on it."""
    rows, paths = [], {}
    for name, options in {
        "Goldstein": {"algorithm": "goldstein", "delta": 1e-3, "epsilon": 0.05},
        "plain descent": {"algorithm": "hypergradient", "step_size": 0.05},
    }.items():
        result, path, seconds = bar.run(
            f"|x|: {name}",
            lambda x, y: abs(y),
            lambda x: 1.0 * x,
            kit.array(np.pi / 3),
            None,
            steps=max(2, int(share * 500)),
            **options,
        )
        words = f"|x| = {abs(float(result.x)):.1e}"
        if result.certificate is not None:
            words += f", certified {result.certificate.norm:.0e}"
        rows.append(["|x|", name, f"{result.gradient_calls:,}", f"{seconds:.1f}", words])
        paths[name] = np.array([abs(float(x)) for x, _ in path])
    return rows, paths


def draw(paths: dict[str, dict[str, Any]], output: Path) -> None:
    """Four panels, a line an algorithm."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    a.scatter(*POINTS.T, color="0.3", zorder=3)
    a.scatter(*TARGET, marker="*", s=120, color="C3", zorder=3)
    for name, path in paths["coreset"].items():
        a.plot(*path.T, label=name)
    a.set_title("coreset: the mean of the weighted points")
    for name, path in paths["non_singleton"].items():
        b.semilogy(np.arange(len(path)) + 1, path + 1e-17, label=name)
    b.set_title("non-singleton: distance of (1, 1, 1)")
    b.set_xlabel("step")
    for name, path in paths["minimax"].items():
        c.plot(*path.T, label=name)
    c.plot(0, 0, "k+", markersize=12)
    c.set_title("minimax: x and w")
    for name, path in paths["kink"].items():
        d.semilogy(np.arange(len(path)) + 1, path + 1e-17, label=name)
    d.set_title("|x|")
    d.set_xlabel("gradient call")
    for axes in (a, b, c, d):
        axes.legend(fontsize="small")
    figure.savefig(output, dpi=120)


def main() -> None:
    options = arguments(__doc__ or "", "bilevel_toys.png").parse_args()
    kit = FRAMEWORKS[options.framework]()
    rows: list[list[str]] = []
    paths: dict[str, dict[str, Any]] = {}
    with bars() as bar:
        for toy in (coreset, non_singleton, minimax, kink):
            more, paths[toy.__name__] = toy(kit, bar, options.share)
            rows += more
        rows[-2:-2] = many_starts(kit, bar, options.share)
    print(table(("toy", "algorithm", "gradient calls", "seconds", "result"), rows))
    draw(paths, options.output)
    print(f"picture: {options.output}")


if __name__ == "__main__":
    main()
