"""What is compiled, `c/`, and its twins in NumPy, `reference`: one interface, chosen once.

``kernel`` has every function; `_compiled.pyi` says which. It is the compiled module, or `reference`
where the package was built without a compiler, SciPy's BLAS is not what the compiled code knows, or
``FFOADAPT_NO_KERNEL`` is set in the environment. Nobody outside asks which of the two it is, but to
tell the user: ``compiled`` is None then.
"""

from __future__ import annotations

import os
from typing import Any

from . import reference

__all__ = ["compiled", "kernel"]

compiled: Any = None
if not os.environ.get("FFOADAPT_NO_KERNEL"):
    try:
        from . import _compiled
    except ImportError:
        pass
    else:
        compiled = _compiled

kernel: Any = compiled or reference
