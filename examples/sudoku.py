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
BATCH, STEPS, EVERY, RATE = 50, 400, 25, 0.05
PLENTY = 36  # hints of 81 cells
NINE_BATCH, NINE_STEPS = 8, 3


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


def small_puzzles() -> tuple[Any, Any]:
    """Puzzles of 4 x 4 and solutions, each puzzle once and with a single solution."""
    every = np.unique(boards(2, 20_000, 0), axis=0)  # there are 288
    rng = np.random.default_rng(1)
    found: dict[bytes, tuple[Any, Any]] = {}
    while len(found) < TRAIN + TEST:
        board = every[rng.integers(len(every))]
        shown = np.zeros(16, dtype=bool)
        shown[rng.permutation(16)[: rng.integers(HINTS[0], HINTS[1] + 1)]] = True
        shown = shown.reshape(4, 4)
        if ((every == board) | ~shown).all(axis=(1, 2)).sum() == 1:
            found[np.where(shown, board, -1).tobytes()] = board, shown
    digits, shown = (np.array(part) for part in zip(*found.values(), strict=True))
    return hot(digits, shown), hot(digits, np.ones_like(shown))


def large_puzzles(count: int) -> tuple[Any, Any]:
    """Boards of 9 x 9 with 36 cells shown, and whole; for timings it need not be one solution."""
    digits = boards(3, count, 0)
    rng = np.random.default_rng(1)
    shown = np.zeros((count, 81), dtype=bool)
    for row in shown:
        row[rng.permutation(81)[:PLENTY]] = True
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


def learned(kit: Any, bar: Any, rules: Rules, train: Any, steps: int, batch: int) -> Any:
    """`minimize` over the rules: the path at every EVERY-th step, and the seconds."""
    puzzles, solutions = train
    per_epoch = len(puzzles) // batch

    def batches(step: int) -> tuple[Any, Any]:
        order = np.random.default_rng((2, step // per_epoch)).permutation(len(puzzles))
        rows = kit.integers(order[step % per_epoch * batch :][:batch])
        return puzzles[rows], solutions[rows]

    return bar.run(
        "learning the rules",
        lambda _, z, puzzles, solutions: ((z - solutions) ** 2).mean(),
        lambda rules_, puzzles, solutions: rules.solve(rules_, puzzles),
        rules.start,
        None,
        every=min(EVERY, steps),
        algorithm="hypergradient",
        steps=steps,
        optimizer=kit.adam(RATE),
        batches=batches,
    )
