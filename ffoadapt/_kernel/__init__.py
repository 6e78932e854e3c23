"""What is compiled, `c/`, and its twins in NumPy, `reference`: one interface, chosen once.

``kernel`` has every function of `reference`, which says what the arguments are. It is the compiled
module, or `reference` itself where the package was built without a compiler, SciPy's BLAS is not
what the compiled code knows, or ``FFOADAPT_NO_KERNEL`` is set in the environment. Nobody outside
asks which of the two it is, but to tell the user: ``compiled`` is None then.
"""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING

from . import reference

__all__ = ["compiled", "kernel"]

compiled: ModuleType | None = None
if not os.environ.get("FFOADAPT_NO_KERNEL"):
    with suppress(ImportError):
        compiled = importlib.import_module("._compiled", __package__)

if TYPE_CHECKING:
    kernel = reference
else:
    kernel = compiled or reference
