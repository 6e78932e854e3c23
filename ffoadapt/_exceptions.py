"""Every error that ffoadapt raises on purpose.

    FFOAdaptError
    ├── ProblemError (ValueError)            the data do not state a problem we can solve
    │   ├── ShapeError                       a shape is not the one the problem needs
    │   ├── UnsupportedProblemError          no way to hand this problem to that solver or modeler
    │   └── ParameterError                   arguments: missing, mixed, undeclared, no numbers
    ├── OptionError (ValueError)             an unknown or ill-typed option
    ├── PluginError (RuntimeError)           a plugin cannot be used
    │   ├── UnknownPluginError (ValueError)  no plugin of that kind and name
    │   ├── MissingDependencyError (ImportError)  the plugin is there, its package is not
    │   └── DuplicatePluginError             two distributions register one name
    ├── SolveError (RuntimeError)            a solver did not return a solution; names the elements
    └── DifferentiationError (RuntimeError)  a derivative was asked for that does not exist here

Those a user would catch as a built-in exception are that exception too. Next to the tree there are
two warnings, `InaccurateSolutionWarning` and `ZeroGradientWarning` (both UserWarning).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "DifferentiationError",
    "DuplicatePluginError",
    "FFOAdaptError",
    "InaccurateSolutionWarning",
    "MissingDependencyError",
    "OptionError",
    "ParameterError",
    "PluginError",
    "ProblemError",
    "ShapeError",
    "SolveError",
    "UnknownPluginError",
    "UnsupportedProblemError",
    "ZeroGradientWarning",
]


class FFOAdaptError(Exception):
    """The root of the tree: catch this to catch everything ffoadapt raises on purpose."""


class ProblemError(FFOAdaptError, ValueError):
    """The data do not state a problem that can be solved.

    Attributes
    ----------
    elements
        Flat batch indices of the elements whose values are at fault, where the others are known
        not to be; else None.
    """

    def __init__(self, message: str, elements: Sequence[int] | None = None) -> None:
        super().__init__(message)
        self.elements = None if elements is None else tuple(elements)


class ShapeError(ProblemError):
    """An array has not the shape that the problem needs."""


class UnsupportedProblemError(ProblemError):
    """The chosen solver or modeler cannot take this problem."""


class ParameterError(ProblemError):
    """The arguments of a call are missing, surplus, from several frameworks, no real numbers, or
    not what their parameters declare."""


class OptionError(FFOAdaptError, ValueError):
    """An option is unknown to the solver, or its value has the wrong type."""


class PluginError(FFOAdaptError, RuntimeError):
    """A plugin cannot be used."""


class UnknownPluginError(PluginError, ValueError):
    """There is no plugin of that kind under that name."""


class MissingDependencyError(PluginError, ImportError):
    """A plugin is installed, but a package it needs is not."""


class DuplicatePluginError(PluginError):
    """Two distributions registered the same name."""


class SolveError(FFOAdaptError, RuntimeError):
    """A solver did not return a solution.

    Attributes
    ----------
    statuses
        ``{flat batch index: Status}`` of the elements that failed.
    """

    def __init__(self, message: str, statuses: Mapping[int, Any] | None = None) -> None:
        super().__init__(message)
        self.statuses = dict(statuses or {})


class InaccurateSolutionWarning(UserWarning):
    """A solution that is used is only `Status.OPTIMAL_INACCURATE`."""


class ZeroGradientWarning(UserWarning):
    """The gradient of a linear program by its costs is zero, and nobody has asked for that one."""


class DifferentiationError(FFOAdaptError, RuntimeError):
    """A derivative was asked for that does not exist here (second order, integer input, ...)."""
