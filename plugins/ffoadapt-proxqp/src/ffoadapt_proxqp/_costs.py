"""Costs with which ProxQP goes on for seconds, to no end; other units make them smaller."""

from typing import Any

import numpy as np

LARGEST = 1e12


def checked(q: Any) -> Any:
    """The costs; those above 1e12 are refused."""
    if np.abs(q).max(initial=0.0) > LARGEST:
        raise ValueError(f"ProxQP takes no costs above {LARGEST:g}")
    return q
