"""The toys of the bilevel papers, with every algorithm, its gradient calls and its path.

The coreset, the non-singleton and the minimax toy of BOME (Liu et al., NeurIPS 2022), the toy of
V-PBGD (Shen and Chen, ICML 2023), and two functions with kinks for the Goldstein certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kit import FRAMEWORKS, arguments, bars, table

POINTS = np.array([[1.0, 3.0], [3.0, 1.0], [-2.0, 2.0], [-3.0, -2.0]])
TARGET = np.array([3.0, -2.0])
MINIMA = np.array([0.38236, 1.21515, 2.82964])  # of V-PBGD's f(x, -x), by a grid
BOX = 10.0


@dataclass
class Study:
    """Runs, their rows in the table, and what is drawn of them."""

    kit: Any
    bar: Any
    share: float
    rows: list[list[str]] = field(default_factory=list)
    paths: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(
        self, toy: str, name: str, functions: Any, start: Any, told: Any, **options: Any
    ) -> Any:
        """`minimize` and a row that ends with ``told(result)``; the path of (x, y)."""
        options["steps"] = max(2, int(self.share * options["steps"]))
        x, y = (None if a is None else self.kit.array(a) for a in start)
        result, path, seconds = self.bar.run(f"{toy}: {name}", *functions, x, y, **options)
        calls = f"{result.gradient_calls:,}"
        self.rows.append([toy, name, calls, f"{seconds:.1f}", told(result)])
        return path

    def keep(self, toy: str, name: str, path: Any) -> None:
        """Draw these numbers for an algorithm."""
        self.paths.setdefault(toy, {})[name] = np.array(path)


def coreset(study: Study) -> None:
    """Weights softmax(v) of four points, whose mean shall be near another one."""
    kit = study.kit
    X, target = kit.array(POINTS), kit.array(TARGET)

    def mean(v: Any) -> Any:
        return kit.xp.exp(v - kit.logsumexp(v)) @ X

    upper = lambda v, th: 0.1 * ((th - target) ** 2).sum()  # noqa: E731
    lower = lambda v, th: ((th - mean(v)) ** 2).sum()  # noqa: E731
    for name, options in {
        "BOME": {"algorithm": "bome", "steps": 5000},
        "F2SA": {"algorithm": "f2sa", "steps": 2000, "penalty": 1.0, "penalty_growth": 0.01},
        "V-PBGD": {"algorithm": "penalty", "steps": 3000, "step_size": 0.3, "lower_step_size": 0.1},
        "hypergradient, Adam": {
            "algorithm": "hypergradient",
            "steps": 500,
            "optimizer": kit.adam(0.1),
        },
        "Goldstein": {"algorithm": "goldstein", "steps": 500, "delta": 0.01},
    }.items():
        path = study.run(
            "coreset",
            name,
            (upper, lower),
            (np.zeros(4), [0.0, 3.0]),
            lambda result: f"F = {float(upper(result.x, mean(result.x))):.5f}",
            **options,
        )
        weights = np.array([np.exp(v - np.logaddexp.reduce(v)) for v, _ in path])
        study.keep("coreset", name, weights @ POINTS)


def non_singleton(study: Study) -> None:
    """g leaves one variable free: f shall choose it. The answer is (1, 1, 1)."""
    upper = lambda w, x: 0.5 * (w - x[1]) ** 2 + 0.5 * (x[0] - 1) ** 2  # noqa: E731
    lower = lambda w, x: x[0] ** 2 / 2 - w * x[0]  # noqa: E731

    def told(result: Any) -> str:
        point = np.append(np.asarray(result.x), np.asarray(result.y))
        return "({:.2f}, {:.2f}, {:.2f})".format(*point) + f", off by {abs(point - 1).max():.0e}"

    for name, options in {
        "BOME": {"algorithm": "bome", "step_size": 0.5, "lower_steps": 1},
        "F2SA": {"algorithm": "f2sa", "step_size": 0.3, "penalty": 100.0},
        "V-PBGD": {"algorithm": "penalty", "step_size": 0.5, "penalty": 10.0},
        "hypergradient": {"algorithm": "hypergradient", "step_size": 0.5},
        "Goldstein": {"algorithm": "goldstein", "delta": 0.01},
    }.items():
        start = 0.0, [0.0, 0.0]
        path = study.run("non-singleton", name, (upper, lower), start, told, steps=1000, **options)
        study.keep("non-singleton", name, [abs(np.append(x, y) - 1).max() for x, y in path])


def minimax(study: Study) -> None:
    """min over x of max over w of x w, in a box: descent and ascent circle, the answer is 0.

    The last two take the lower level's answer, BOX sign(x), with which f(x, w(x)) is BOX |x|.
    """
    kit = study.kit
    box = lambda a: kit.clip(a, -BOX, BOX)  # noqa: E731
    upper, lower = lambda x, w: x * w, lambda x, w: -x * w
    answer = lambda x: BOX * kit.xp.sign(x)  # noqa: E731

    def told(result: Any) -> str:
        return f"({float(result.x):.3f}, {float(result.y):.3f})"

    for name, options in {
        "BOME": {"algorithm": "bome"},
        "F2SA": {"algorithm": "f2sa"},
        "V-PBGD": {"algorithm": "penalty"},
        "hypergradient": {"algorithm": "hypergradient"},
        "Goldstein": {"algorithm": "goldstein", "delta": 0.01},
    }.items():
        maps = name in ("hypergradient", "Goldstein")
        path = study.run(
            "minimax",
            name,
            (upper, answer if maps else lower),
            (4.0, None if maps else 4.0),
            told,
            steps=200,
            project={"x": box} if maps else {"x": box, "y": box},
            **options,
        )
        points = [(float(x), BOX * np.sign(x) if maps else float(w)) for x, w in path]
        study.keep("minimax", name, [(4.0, BOX if maps else 4.0), *points])


def many_starts(study: Study) -> None:
    """V-PBGD's toy: 200 starts at once; how far from a local minimum of f(x, -x) they end."""
    kit = study.kit
    exp, log, cos = kit.xp.exp, kit.xp.log, kit.xp.cos

    def off(x: Any) -> Any:
        return np.abs(np.asarray(x)[:, None] - MINIMA).min(axis=1)

    for penalty in (10.0, 100.0):
        rng = np.random.default_rng(0)
        name = f"V-PBGD, penalty {penalty:.0f}"
        path = study.run(
            "200 starts",
            name,
            (
                lambda x, y: (
                    cos(4 * y + 2) / (1 + exp(2 - 4 * x)) + log((4 * x - 2) ** 2 + 1) / 2
                ).sum(),
                lambda x, y: ((x + y) ** 2).sum(),
            ),
            (rng.uniform(0, 3, 200), rng.uniform(-10, 10, 200)),
            lambda result: f"mean {off(result.x).mean():.4f}, max {off(result.x).max():.4f}",
            steps=1000,
            algorithm="penalty",
            penalty=penalty,
            step_size=0.1,
            lower_steps=1,
            project={"x": lambda x: kit.clip(x, 0.0, 3.0)},
        )
        study.keep("200 starts", name, [off(x).max() for x, _ in path])


def kinks(study: Study) -> None:
    """|x| from pi/3, and a maximum of 30 affine functions in 10 variables, by plain descent too."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(30, 10)), rng.normal(size=30)
    cost, rows = np.append(np.zeros(10), 1.0), np.c_[A, -np.ones(30)]
    best = linprog(cost, rows, -b, bounds=[(None, None)] * 11).fun
    Ak, bk = study.kit.array(A), study.kit.array(b)
    same = lambda x: 1.0 * x  # noqa: E731
    for toy, function, least, start, steps, goldstein in (
        ("|x|", abs, 0.0, np.pi / 3, 500, {"delta": 1e-3, "epsilon": 0.05}),
        (
            "maximum",
            lambda y: (Ak @ y + bk).max(),
            best,
            rng.normal(size=10),
            5000,
            {"delta": 0.01, "epsilon": 0.02},
        ),
    ):

        def told(result: Any, least: float = least) -> str:
            words = f"F - F* = {result.value - least:.1e}"
            if result.certificate is not None:
                words += f", certified {result.certificate.norm:.0e}"
            return words

        for name, options in {
            "Goldstein": {"algorithm": "goldstein", **goldstein},
            "plain descent": {"algorithm": "hypergradient", "step_size": 0.05},
        }.items():
            functions = (lambda x, y, function=function: function(y)), same
            path = study.run(toy, name, functions, (start, None), told, steps=steps, **options)
            at = [abs(float(x)) if toy == "|x|" else (A @ x + b).max() - least for x, _ in path]
            study.keep(toy, name, at)


def draw(paths: dict[str, dict[str, Any]], output: Path) -> None:
    """A panel a toy, a line an algorithm."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")
    axes = dict(zip(paths, panels.flat, strict=True))
    axes["coreset"].scatter(*POINTS.T, color="0.3", zorder=3)
    axes["coreset"].scatter(*TARGET, marker="*", s=120, color="C3", zorder=3)
    axes["minimax"].plot(0, 0, "k+", markersize=12)
    titles = {
        "coreset": "coreset: the mean of the weighted points",
        "non-singleton": "non-singleton: distance of (1, 1, 1), by step",
        "minimax": "minimax: x and w",
        "200 starts": "200 starts: the farthest from a minimum, by step",
        "|x|": "|x|, by gradient call",
        "maximum": "maximum of 30 affine pieces: F - F*, by gradient call",
    }
    for toy, lines in paths.items():
        for name, path in lines.items():
            if path.ndim == 2:
                axes[toy].plot(*path.T, label=name, linewidth=1)
            else:
                axes[toy].semilogy(np.arange(len(path)) + 1, path + 1e-17, label=name, linewidth=1)
        axes[toy].set_title(titles[toy], fontsize="medium")
        axes[toy].legend(fontsize="small")
    figure.savefig(output, dpi=120)


def main() -> None:
    options = arguments(__doc__ or "", "bilevel_toys.png").parse_args()
    with bars() as bar:
        study = Study(FRAMEWORKS[options.framework](), bar, options.share)
        for toy in (coreset, non_singleton, minimax, many_starts, kinks):
            toy(study)
    print(table(("toy", "algorithm", "gradient calls", "seconds", "result"), study.rows))
    draw(study.paths, options.output)
    print(f"picture: {options.output}")


if __name__ == "__main__":
    main()
