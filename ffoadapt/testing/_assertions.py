"""What the suites of frameworks and modelers share: waivers, and two assertions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ._subject import CheckFailure, CheckSkipped

__all__ = ["WithWaivers", "close", "expect"]


class WithWaivers:
    """Tests that a subclass may leave out: ``waive = {"test_sparse": "reason"}``."""

    waive: ClassVar[Mapping[str, str]] = {}

    def setup_method(self, method: Any) -> None:
        """pytest's and unittest's hook before each test."""
        odd = [name for name in self.waive if not hasattr(self, name)]
        expect(not odd, f"waive names {odd}, which are no tests of {type(self).__name__}")
        if method.__name__ in self.waive:
            raise CheckSkipped(f"waived: {self.waive[method.__name__]}")


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise CheckFailure(message)


def close(name: str, seen: Any, exact: Any, tolerance: float) -> None:
    seen, exact = np.asarray(seen, dtype=np.float64), np.asarray(exact)
    expect(seen.shape == exact.shape, f"{name} has shape {seen.shape}, expected {exact.shape}")
    limit = tolerance * max(1.0, float(np.abs(exact).max(initial=0.0)))
    error = float(np.abs(seen - exact).max(initial=0.0))
    expect(error <= limit, f"{name} is off by {error:.3g}, expected at most {limit:.1g}")
