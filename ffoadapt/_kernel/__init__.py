"""The compiled code, `_kernel/c/`; None where the package was built without a compiler."""

from __future__ import annotations

from typing import Any

try:
    from . import _compiled
except ImportError:
    kernel: Any = None
else:
    kernel = _compiled

__all__ = ["kernel"]
