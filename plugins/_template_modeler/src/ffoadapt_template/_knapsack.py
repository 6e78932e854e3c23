"""A problem class: it stands where the modeling language that you adapt will be.

It knows nothing of ffoadapt, as a vendor's package would not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Knapsack"]


@dataclass(frozen=True, eq=False)
class Knapsack:
    """maximize value'x - 1/2 |x|^2 subject to weights'x <= capacity, 0 <= x <= 1.

    ``weights`` (n,) are constant; the parameters are "value" (n,) and "capacity", a number; the
    variable is "fractions" (n,).
    """

    weights: Any
