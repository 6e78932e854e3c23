"""The compiled code, `_compiled/`; None where the package was built without a compiler."""

from __future__ import annotations

from typing import Any

try:
    from . import _kernel
except ImportError:
    kernel: Any = None
else:
    kernel = _kernel

__all__ = ["kernel"]
