"""What benchmarks/smooth.py measures holds: steps, and slopes of errors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import smooth


@pytest.fixture(scope="module")
def steps():
    return smooth.steps_table()


@pytest.mark.parametrize("condition", smooth.CONDITIONS)
def test_steps_are_linear_in_the_logarithm_of_the_accuracy(steps, condition):
    log = [-np.log10(eps) for eps, _, _ in steps[condition]]
    count = np.array([k for _, k, _ in steps[condition]], dtype=float)
    slope, squared = smooth.fit(log, count)
    assert slope > 0.0
    assert squared > 0.99
    for eps, _, error in steps[condition]:
        assert error < 3.0 * eps


def test_errors_fall_with_the_step_as_they_should():
    slopes = {name: slope for name, (slope, _) in smooth.slopes_table().items()}
    assert slopes["forward differences"] == pytest.approx(1.0, abs=0.1)
    assert slopes["central differences"] == pytest.approx(2.0, abs=0.1)
    assert slopes["resolve"] == pytest.approx(2.0, abs=0.1)


def test_a_pass_asks_for_no_more_than_it_needs():
    """Evaluations and gradients of the functions in a forward and backward pass of a program of
    four variables beyond those of its solver, which takes six points or sixty, as rounding has it:
    five points of the oracle, and two batches."""
    table = smooth.overhead_table(runs=1)
    assert 0 < table["evaluations"] <= 30
    assert 0.0 < table["functions"] < table["total"]
