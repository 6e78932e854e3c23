"""The command line, ``ffoadapt`` or ``python -m ffoadapt``. Nothing else in ffoadapt imports it.

One module a command, each with ``add(commands)``, which declares its arguments, and a function that
runs it and returns the exit code: 0, 1 where the answer is bad news, 2 where there is no answer.
"""

from __future__ import annotations

from .parser import main

__all__ = ["main"]
