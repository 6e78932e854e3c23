"""The options of a solve: the common ones, which mean the same everywhere, and a solver's own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

import numpy as np

from .._exceptions import OptionError
from .._plugins.solver import Solver

__all__ = ["COMMON_OPTIONS", "check_options", "common_names", "translate_options"]

COMMON_OPTIONS = ("max_iterations", "time_limit", "tolerance", "verbose")
"""Options that mean the same for every solver."""

MANY = 2**31 - 1
"""The most iterations that solvers count; more are no limit either."""


def check_options(options: Any, auto: bool = False) -> dict[str, Any]:
    """A copy of what the user gave as ``solver_options``, the common ones as plain numbers.

    With ``auto``, where no solver is named, there are no options but the common ones: one that only
    a single solver knows would be an error, or choose that solver and leave it without a
    replacement where it fails, by what happens to be installed.

    Raises
    ------
    OptionError
        Where they are no mapping, a name is no str, or a common one has a value that it cannot.
    """
    if not isinstance(options, Mapping):
        raise OptionError(
            f"solver_options is a {type(options).__name__}; expected a mapping of names to values, "
            "such as {'tolerance': 1e-8}"
        )
    checked = {}
    for name, value in options.items():
        if not isinstance(name, str):
            raise OptionError(
                f"solver_options has the name {name!r}, a {type(name).__name__}; names are str"
            )
        read = _READ.get(name)
        if read is not None:
            value = read(name, value)
        elif auto:
            raise OptionError(
                f"solver='auto' has no option {name!r}.{_hint(_common(name))} It has the options "
                f"that all solvers share: {', '.join(COMMON_OPTIONS)}. For one that is a solver's "
                "own, name the solver as well: solver='...'"
            )
        if name != "time_limit" or value < np.inf:  # an infinite one is none
            checked[name] = value
    return checked


def _positive(name: str, value: Any) -> float:
    number = np.nan
    if not isinstance(value, bool) and isinstance(value, Real):
        with suppress(OverflowError):
            number = float(value)
    if not number > 0.0 or (number == np.inf and name != "time_limit"):
        finite = "" if name == "time_limit" else " finite"
        raise OptionError(f"{name}={value!r}; expected a positive{finite} number")
    return number


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value <= 0:
        raise OptionError(f"{name}={value!r}; expected a positive integer")
    return min(int(value), MANY)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name}={value!r}; expected True or False")
    return bool(value)


_READ: dict[str, Callable[[str, Any], Any]] = {
    "max_iterations": _count,
    "time_limit": _positive,
    "tolerance": _positive,
    "verbose": _flag,
}


def common_names(solver: Solver) -> dict[str, tuple[str, ...]]:
    """The common options that the solver has, each with the solver's own names for it."""
    alike = {_plain(name): name for name in solver.known_options() or ()}
    names: dict[str, tuple[str, ...]] = {}
    for key in COMMON_OPTIONS:
        own = solver.common_options.get(key, alike.get(_plain(key), ()))
        if own:
            names[key] = (own,) if isinstance(own, str) else tuple(own)
    return names


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


_WORDS = {
    "max_iterations": ("iter", "maxit"),
    "time_limit": ("time",),
    "tolerance": ("tol", "eps", "accuracy"),
    "verbose": ("verb", "output", "display"),
}
"""By these words in their names, options of other solvers are known for one of the common ones."""


def _common(name: str) -> list[str]:
    """The common option that one of this name probably is."""
    plain = _plain(name)
    return [key for key, words in _WORDS.items() if any(word in plain for word in words)]


def _hint(names: list[str]) -> str:
    return f" Did you mean {names[0]!r}?" if names else ""


def translate_options(solver: Solver, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The solver's own options: its defaults, then the user's, common names translated.

    A solver that cannot print needs no ``verbose``, and one without a ``time_limit`` of its own is
    waited for that long (`_watchdog`). One that declares no option at all gets all as they are.
    """
    result = dict(solver.defaults)
    if not options:
        return result
    known, common = solver.known_options(), common_names(solver)
    anything = known is None and not common
    for key, value in check_options(options).items():
        if key in common:
            result.update(dict.fromkeys(common[key], value))
        elif key in ("verbose", "time_limit") and not anything:
            continue
        elif key in COMMON_OPTIONS and not anything:
            raise OptionError(
                f"the solver {name!r} has no {key!r}; it takes {sorted(common)} of the common "
                "options"
            )
        elif known is not None and key not in known:
            everything = sorted({*known, *common})
            close = difflib.get_close_matches(key, everything, n=1)
            raise OptionError(
                f"the solver {name!r} has no option {key!r}.{_hint(close or _common(key))} It "
                f"has: {', '.join(everything)}"
            )
        else:
            result[key] = value
    return result
