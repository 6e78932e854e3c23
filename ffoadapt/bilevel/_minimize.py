"""`minimize`: an algorithm's steps, one after the other, with all that a long run needs."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from .._exceptions import OptionError, ParameterError
from .._plugins.algorithm import Algorithm, BilevelState
from .._plugins.registry import registry
from ._checkpoint import load, signature
from ._moves import check_count
from ._problem import BilevelProblem
from ._result import BilevelResult
from ._run import Keeper, Run
from ._source import Source

__all__ = ["minimize"]


def minimize(
    upper: Callable[..., Any],
    lower: Any,
    x: Any,
    y: Any = None,
    algorithm: str | Algorithm = "bome",
    steps: int = 1000,
    *,
    batches: Any = None,
    callback: Callable[[BilevelState, Mapping[str, float]], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    project: Mapping[str, Callable[[Any], Any]] | None = None,
    state: BilevelState | None = None,
    time_limit: float | None = None,
    **options: Any,
) -> BilevelResult:
    """minimize f(x, y) over x, where y minimizes g(x, .), perhaps under constraints.

    Parameters
    ----------
    upper
        f: ``upper(x, y, *batch)`` -> scalar.
    lower
        With ``y``: g, ``lower(x, y, *batch)`` -> scalar. Without: ``lower(x, *batch)`` -> y,
        through any layer of this project (`ffoadapt.qp`, a `Layer`), or an
        `ffoadapt.bilevel.LowerProgram`.
    x, y
        Where to start: trees (dicts, lists, tuples, and in JAX any pytree) of torch or JAX arrays
        of floating-point numbers, such as ``dict(module.named_parameters())``. Not changed.
    algorithm
        A name (`ffoadapt.algorithms`), or an instance, such as ``ffoadapt.bilevel.Goldstein()``.
    steps
        How many to take.
    batches
        Where the functions take more arguments: a function from the number of a step to a tuple of
        arrays, or an iterable of these, which is begun anew when it ends (one that cannot be ends
        the run). ``{"upper": tuple, "lower": tuple}`` in place of a tuple where they differ.
    callback
        ``callback(state, record)`` after each step; a true result ends the run.
    checkpoint
        A file that is written every ten seconds and at the end. Where it exists, the run goes on
        from it, to the bit, up to ``steps`` in all, the first batches skipped; the other arguments
        must be those that it was begun with.
    project
        ``{"x": function, "y": function}``, one or both; see `BilevelProblem`.
    state
        Of an earlier result with the same algorithm: ``steps`` more from there.
    time_limit
        Seconds; the step during which it passes is the last.
    **options
        Of the algorithm: see its class.

    Returns
    -------
    BilevelResult
        At Ctrl-C too, of the steps up to there.

    Raises
    ------
    ParameterError, ShapeError
        Where upper ignores y, lower ignores x, or a structure or a shape is not the one expected.
    OptionError, UnknownPluginError
        For an unknown option or algorithm; they name the known ones.
    BilevelError
        Where a number is not finite, or a function fails after the first step; ``.result`` has all
        up to there.
    """
    chosen, used = _algorithm(algorithm, options)
    check_count("steps", steps, 0)
    _check_rest(time_limit, callback, checkpoint)
    problem = BilevelProblem(upper, lower, x, y, project)
    _check_kind(problem, chosen)
    source = Source(batches)
    run = Run(problem, chosen, callback)
    if state is not None:
        run.resume(state)
        source.start = state.step
    first = run.batch = source.first()
    path, about = None, {}
    if checkpoint is not None:
        path = Path(checkpoint)
        about = signature(problem, chosen, used, first)
        if path.exists():
            if state is not None:
                raise ParameterError(f"state= and the checkpoint {path} both say where to start")
            run.load(*load(path, problem, about))
        elif not path.parent.is_dir():
            raise ParameterError(f"the folder of the checkpoint {path} does not exist")
    if run.step == 0:
        problem.check(*problem.start(), first)
    last = run.step + steps if state is not None else steps
    return run.go(source, last, time_limit, Keeper(path, problem, about))


def _algorithm(algorithm: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The algorithm with these options, and all that it has."""
    name = repr(algorithm) if isinstance(algorithm, str) else type(algorithm).__name__
    chosen = registry.get("algorithm", algorithm) if isinstance(algorithm, str) else algorithm
    if isinstance(chosen, type) and issubclass(chosen, Algorithm):
        raise OptionError(f"algorithm is the class {chosen.__name__}; give {chosen.__name__}()")
    if not isinstance(chosen, Algorithm):
        raise OptionError(
            f"algorithm is a {type(chosen).__name__}; expected a name, one of "
            f"{', '.join(sorted(registry.ready('algorithm')))}, or an instance of an "
            "ffoadapt.Algorithm"
        )
    if not dataclasses.is_dataclass(type(chosen)):
        raise OptionError(
            f"the algorithm {name} is no dataclass, whose fields would be its options"
        )
    made: Any = chosen
    known = [f.name for f in dataclasses.fields(made)]
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise OptionError(
                f"the algorithm {name} has no option {option!r}.{hint} It has: {', '.join(known)}"
            )
    made = dataclasses.replace(made, **options) if options else made
    return made, {name: getattr(made, name) for name in known}


def _check_kind(problem: BilevelProblem, algorithm: Algorithm) -> None:
    if problem.kind in algorithm.lower:
        return
    able = []
    for name in registry.ready("algorithm"):
        with contextlib.suppress(Exception):  # one that cannot be loaded is none to name
            if problem.kind in registry.get("algorithm", name).lower:
                able.append(name)
    what = {
        "function": "a function g(x, y)",
        "map": "a callable x -> y (no y was given)",
        "program": "a program with constraints",
    }[problem.kind]
    raise ParameterError(
        f"the lower level is {what}, which {type(algorithm).__name__} cannot take; these can: "
        f"{', '.join(sorted(able))}"
    )


def _check_rest(limit: Any, callback: Any, checkpoint: Any) -> None:
    wrong = isinstance(limit, bool) or not isinstance(limit, Real) or not float(limit) > 0.0
    if limit is not None and wrong:
        raise OptionError(f"time_limit={limit!r}; expected a positive number of seconds")
    if callback is not None and not callable(callback):
        raise ParameterError(
            f"callback is a {type(callback).__name__}; expected a function of state and record"
        )
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise ParameterError(f"checkpoint is a {type(checkpoint).__name__}; expected a path")
