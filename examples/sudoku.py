"""The rules of Sudoku, learned as the constraints of a program from solved puzzles alone.

    python examples/sudoku.py                  # boards of 4 x 4, to the last error
    python examples/sudoku.py --nine           # a step on boards of 9 x 9, beside cvxpylayers

minimize EPSILON/2 z'z - puzzle'z subject to Az = b, z >= 0, where A is all that is learned: nothing
says what a row, a column or a block is. A board is a 0 or 1 for each cell and digit. The task is
that of OptNet (Amos and Kolter, ICML 2017), and of "A Fully First-Order Layer for Differentiable
Optimization" (arXiv 2512.02494). There b is A z0 with a learned z0, which may have no z >= 0 with
Az = b; here it is A exp(z0), which always has.
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
from kit import FRAMEWORKS, arguments, bars, table

import ffoadapt

EPSILON = 0.1
TRAIN, TEST = 2500, 500
HINTS = (6, 9)  # of 16 cells, at least and at most
ROWS = {2: 40, 3: 249}
RATES = {0.05: 250, 0.01: 250}  # of Adam: so many steps at each
BATCH, EVERY = 50, 25
NINE_HINTS, NINE_BATCH = 36, 8


def boards(side: int, count: int, seed: int) -> Any:
    """Solved boards (count, n, n) of digits from 0, n = side^2: one, its symmetries at random."""
    n = side * side
    rng = np.random.default_rng(seed)
    row, column = np.divmod(np.arange(n * n).reshape(n, n), n)
    known = (side * (row % side) + row // side + column) % n

    def lines() -> Any:
        blocks = rng.permutation(side)
        return np.concatenate([side * b + rng.permutation(side) for b in blocks])

    made = []
    for _ in range(count):
        board = rng.permutation(n)[known][lines()][:, lines()]
        made.append(board.T if rng.random() < 0.5 else board)
    return np.array(made)


def hot(digits: Any, shown: Any) -> Any:
    """(N, n^3): 1 where a cell that is shown holds the digit."""
    n = digits.shape[-1]
    return (np.eye(n)[digits] * shown[..., None]).reshape(len(digits), -1)


def true_rules() -> Any:
    """(64, 64) what a board of 4 x 4 obeys: a 1 in each row, column and block for each digit, and
    in each cell; the sums of a solved board are 1."""
    unit = np.eye(64).reshape(4, 4, 4, 64)
    blocks = unit.reshape(2, 2, 2, 2, 4, 64).sum(axis=(1, 3))
    sums = unit.sum(0), unit.sum(1), unit.sum(2), blocks
    return np.concatenate([part.reshape(-1, 64) for part in sums])


def filled(board: Any, shown: Any) -> bool:
    """Whether each cell follows from those before it: the last digit of a row, a column, a block,
    or a cell.

    Then the solution is the only z >= 0 with its hints and its sums: not so where one must guess.
    """
    open_, sums = hot(board[None], shown[None])[0] == 0, true_rules() > 0
    solution = hot(board[None], np.ones((1, 4, 4)))[0] > 0
    while True:
        settled = solution & ~open_
        now = open_ & ~(sums & (sums @ settled)[:, None]).any(axis=0)
        last = sums & now
        now = now & ~last[last.sum(axis=1) == 1].any(axis=0)
        if not now.any() or (now == open_).all():
            return not now.any()
        open_ = now


def small_puzzles() -> tuple[Any, Any]:
    """Puzzles of 4 x 4 and solutions, each puzzle once, and to be filled in without a guess."""
    every = np.unique(boards(2, 20_000, 0), axis=0)  # 192 of 288
    rng = np.random.default_rng(1)
    puzzles: dict[bytes, tuple[Any, Any]] = {}
    while len(puzzles) < TRAIN + TEST:
        board = every[rng.integers(len(every))]
        shown = np.zeros(16, dtype=bool)
        shown[rng.permutation(16)[: rng.integers(HINTS[0], HINTS[1] + 1)]] = True
        shown = shown.reshape(4, 4)
        if filled(board, shown):
            puzzles[np.where(shown, board, -1).tobytes()] = board, shown
    digits, shown = (np.array(part) for part in zip(*puzzles.values(), strict=True))
    return hot(digits, shown), hot(digits, np.ones_like(shown))


def large_puzzles(count: int) -> tuple[Any, Any]:
    """Boards of 9 x 9 with 36 cells shown, and whole; for timings it need not be one solution."""
    digits = boards(3, count, 0)
    rng = np.random.default_rng(1)
    shown = np.zeros((count, 81), dtype=bool)
    for row in shown:
        row[rng.permutation(81)[:NINE_HINTS]] = True
    shown = shown.reshape(-1, 9, 9)
    return hot(digits, shown), hot(digits, np.ones_like(shown))


class Rules:
    """The program, in a framework's arrays."""

    def __init__(self, kit: Any, side: int) -> None:
        self.kit, self.size = kit, side**6
        rng = np.random.default_rng(0)
        shape = (ROWS[side], self.size)
        self.start = {"A": kit.array(rng.random(shape)), "z0": kit.array(np.zeros(self.size))}
        eye = np.eye(self.size)
        self.P, self.G, self.h = map(kit.array, (EPSILON * eye, -eye, np.zeros(self.size)))

    def solve(self, rules: dict[str, Any], puzzles: Any) -> Any:
        """z (B, n^3)."""
        b = rules["A"] @ self.kit.xp.exp(rules["z0"])
        return ffoadapt.qp(self.P, -puzzles, self.G, self.h, rules["A"], b).x


def judged(rules: Rules, learned: dict[str, Any], parts: Any) -> tuple[float, int]:
    """Mean squared error, and how many boards are wrong."""
    puzzles, solutions = parts
    z = np.asarray(rules.solve(learned, puzzles))
    n = round(z.shape[1] ** (1 / 3))
    digits = z.reshape(len(z), -1, n).argmax(axis=-1)
    truth = np.asarray(solutions).reshape(len(z), -1, n).argmax(axis=-1)
    return float(((z - np.asarray(solutions)) ** 2).mean()), int((digits != truth).any(1).sum())


def mean_squares(_: Any, z: Any, __: Any, solutions: Any) -> Any:
    """The upper function."""
    return ((z - solutions) ** 2).mean()


def learn(kit: Any, bar: Any, rules: Rules, train: Any, share: float) -> Any:
    """`minimize` over the rules, rate after rate: (step, rules) on the way, and the seconds."""
    puzzles, solutions = train
    point, path, seconds, begun = rules.start, [(0, rules.start)], 0.0, 0
    for rate, steps in RATES.items():
        steps = max(2, int(share * steps))

        def batch(step: int, begun: int = begun) -> tuple[Any, Any]:
            chosen = np.random.default_rng((2, begun + step)).permutation(TRAIN)[:BATCH]
            rows = kit.integers(chosen)
            return puzzles[rows], solutions[rows]

        result, part, more = bar.run(
            f"learning the rules, rate {rate}",
            mean_squares,
            lambda learned, puzzles, _: rules.solve(learned, puzzles),
            point,
            None,
            every=min(EVERY, steps),
            algorithm="hypergradient",
            steps=steps,
            optimizer=kit.adam(rate),
            batches=batch,
        )
        every = min(EVERY, steps)
        path += [(begun + every * (k + 1), x) for k, (x, _) in enumerate(part)]
        point, seconds, begun = result.x, seconds + more, begun + steps
    return [(k, {n: kit.array(a) for n, a in x.items()}) for k, x in path], seconds


def small(kit: Any, options: Any) -> None:
    """Boards of 4 x 4."""
    puzzles, solutions = small_puzzles()
    train, test = (
        (kit.array(puzzles[part]), kit.array(solutions[part]))
        for part in (slice(TRAIN), slice(TRAIN, None))
    )
    rules = Rules(kit, 2)
    with bars() as bar:
        path, seconds = learn(kit, bar, rules, train, options.share)
    curve = [(k, *judged(rules, learned, test)) for k, learned in path]
    rows = [[str(k), f"{error:.1e}", f"{wrong} of {TEST}"] for k, error, wrong in curve[::4]]
    if (len(curve) - 1) % 4:
        rows.append([str(curve[-1][0]), f"{curve[-1][1]:.1e}", f"{curve[-1][2]} of {TEST}"])
    print(table(("step", "error of held-out boards", "wrong"), rows))
    print(f"{seconds:.1f} s of training")
    draw(curve, np.asarray(path[-1][1]["A"]), options.output)
    print(f"picture: {options.output}")


def draw(curve: list[Any], A: Any, output: Path) -> None:
    """Left: boards wrong. Right: the rows that were learned."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    steps, _, wrong = zip(*curve, strict=True)
    left.plot(steps, wrong, marker=".")
    left.set(xlabel="step", ylabel=f"held-out boards wrong, of {TEST}", ylim=(0, None))
    image = right.imshow(A, aspect="auto", cmap="viridis")
    right.set(xlabel="cell and digit", ylabel="row", title="A as learned")
    figure.colorbar(image, ax=right)
    figure.savefig(output, dpi=120)


# -- boards of 9 x 9: a timing


def ours(rules: Rules, puzzles: Any, solutions: Any) -> Any:
    """Seconds forward and back, the gradient of A, and z, by ffoadapt in torch."""
    A = rules.start["A"].clone().requires_grad_()
    began = time.perf_counter()
    z = rules.solve({**rules.start, "A": A}, puzzles)
    between = time.perf_counter()
    mean_squares(None, z, None, solutions).backward()
    return between - began, time.perf_counter() - between, A.grad.numpy(), z.detach().numpy()


def peers(rules: Rules, puzzles: Any, solutions: Any) -> Any:
    """The same by cvxpylayers."""
    import cvxpy as cp
    from cvxpylayers.torch import CvxpyLayer

    rows, n = rules.start["A"].shape
    z, p, A, b = cp.Variable(n), cp.Parameter(n), cp.Parameter((rows, n)), cp.Parameter(rows)
    objective = cp.Minimize(0.5 * EPSILON * cp.sum_squares(z) - p @ z)
    layer = CvxpyLayer(cp.Problem(objective, [A @ z == b, z >= 0]), [p, A, b], [z])
    A = rules.start["A"].clone().requires_grad_()
    began = time.perf_counter()
    (solved,) = layer(puzzles, A, A @ rules.start["z0"].exp())
    between = time.perf_counter()
    mean_squares(None, solved, None, solutions).backward()
    return between - began, time.perf_counter() - between, A.grad.numpy(), solved.detach().numpy()


def large() -> None:
    """A step on boards of 9 x 9, and what cvxpylayers takes for it in the same run."""
    kit = FRAMEWORKS["torch"]()
    rules = Rules(kit, 3)
    puzzles, solutions = map(kit.array, large_puzzles(NINE_BATCH))
    ours(rules, puzzles, solutions)  # the first call of a shape also sets up
    times = {"ffoadapt": ours(rules, puzzles, solutions)}
    if importlib.util.find_spec("cvxpylayers") is None:
        print("cvxpylayers is not installed, left out: pip install cvxpylayers")
    else:
        times["cvxpylayers"] = peers(rules, puzzles, solutions)
    A, b = rules.start["A"].numpy(), rules.start["A"].numpy().sum(axis=1)  # z0 = 0
    rows = []
    for name, (forward, back, slope, z) in times.items():
        off = max(abs(z @ A.T - b).max(), -z.min())
        value = (0.5 * EPSILON * z * z - puzzles.numpy() * z).sum(axis=1).mean()
        cells = [*(f"{s:.2f}" for s in (forward, back, forward + back)), f"{off:.0e}"]
        rows.append([name, *cells, f"{value:.5f}", f"{abs(slope).max():.4f}"])
    header = ("9 x 9, a batch of 8", "s forward", "s back", "s in all", "violation")
    print(table((*header, "objective", "largest slope"), rows))
    if "cvxpylayers" in times:
        share = sum(times["ffoadapt"][:2]) / sum(times["cvxpylayers"][:2])
        print(f"share of its seconds: {share:.3f}")


def main() -> None:
    parser = arguments(__doc__ or "", "sudoku.png")
    parser.add_argument("--nine", action="store_true", help="time a step on boards of 9 x 9, torch")
    options = parser.parse_args()
    if options.nine:
        large()
    else:
        small(FRAMEWORKS[options.framework](), options)


if __name__ == "__main__":
    main()
