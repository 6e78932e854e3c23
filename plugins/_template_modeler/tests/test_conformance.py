"""Everything that ffoadapt asks of a modeler: solutions, transposes, batches, gradients."""

from collections.abc import Iterator

import numpy as np

import ffoadapt.testing
from ffoadapt.testing import ModelerCase
from ffoadapt_template._knapsack import Knapsack

WEIGHTS = np.array([1.0, 2.0, 0.5, 1.5])


def exact(value: np.ndarray, capacity: np.ndarray) -> list[np.ndarray]:
    """By bisection over the multiplier of the capacity."""
    low, high = 0.0, 100.0
    for _ in range(200):
        multiplier = (low + high) / 2
        x = np.clip(value - multiplier * WEIGHTS, 0.0, 1.0)
        low, high = (multiplier, high) if WEIGHTS @ x > capacity else (low, multiplier)
    return [x]


class TestTemplate(ffoadapt.testing.ModelerSuite):
    modeler = "template"
    solver = ffoadapt.testing.ReferenceSolver  # "auto" where a solver is installed

    def cases(self) -> Iterator[ModelerCase]:
        names, variables = ["value", "capacity"], ["fractions"]
        for name, value, capacity in (
            ("tight", np.array([0.9, 1.4, 0.6, 2.5]), 1.7),
            ("loose", np.array([0.5, -0.3, 0.4, 0.2]), 9.0),
        ):
            problem = Knapsack(WEIGHTS)
            yield ModelerCase(name, problem, names, [value, capacity], variables, exact)
