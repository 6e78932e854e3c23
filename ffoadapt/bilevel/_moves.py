"""How x moves along a direction: plain steps with momentum, or an optimizer of the framework."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from .._exceptions import OptionError
from .._runtime.text import told
from ._arrays import constant
from ._problem import BilevelProblem

__all__ = ["Number", "check_count", "check_number", "each", "move_x", "move_y", "start_x"]

Number = float | Mapping[str, float]
"""A number for x and y, or one for each: ``{"x": 100.0, "y": 0.1}``."""

Arrays = list[Any]


def each(value: Number) -> tuple[float, float]:
    """The numbers for x and for y."""
    if isinstance(value, Mapping):
        return float(value["x"]), float(value["y"])
    return float(value), float(value)


def check_number(name: str, value: Any, *, zero: bool = False, most: float = np.inf) -> None:
    """Raise `OptionError` unless positive (or zero), for x and y alike where it is a mapping."""
    if isinstance(value, Mapping):
        if set(value) != {"x", "y"}:
            raise OptionError(f"{name} has the keys {sorted(map(str, value))}; expected x and y")
        for key, part in value.items():
            check_number(f"{name}[{key!r}]", part, zero=zero, most=most)
        return
    right = isinstance(value, Real) and not isinstance(value, bool)
    if not right or not (0.0 <= float(value) <= most) or (value == 0 and not zero):
        kind = "a number >= 0" if zero else "a positive number"
        bound = f" and at most {most:g}" if most < np.inf else ""
        raise OptionError(f"{name}={value!r}; expected {kind}{bound}")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise `OptionError` unless an integer of at least that."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise OptionError(f"{name}={value!r}; expected an integer >= {least}")


def start_x(problem: BilevelProblem, x: Arrays, algorithm: Any) -> Any:
    """What `move_x` keeps from one step to the next."""
    optimizer = algorithm.optimizer
    if optimizer is None:
        return None
    if hasattr(optimizer, "init") and hasattr(optimizer, "update"):
        try:
            state = optimizer.init(x)
        except Exception as error:
            raise OptionError(
                f"optimizer cannot start from the arrays of x, {type(x[0]).__module__}."
                f"{type(x[0]).__name__}: {told(error)}. Give one of their framework"
            ) from error
        return list(problem.framework.flatten(state)[0])
    return _copied(_live(problem, x, algorithm, None)[0].state_dict())


def move_x(
    problem: BilevelProblem, x: Arrays, direction: Arrays, memory: Any, algorithm: Any
) -> tuple[Arrays, Any]:
    """x after a step against ``direction``, and what is kept.

    ``algorithm`` has ``step_size``, ``momentum`` and ``optimizer``. Without an optimizer,
    v = momentum v + direction; x - step_size v.
    """
    optimizer = algorithm.optimizer
    if optimizer is None:
        direction, kept = _heavy(problem, direction, memory, each(algorithm.momentum)[0])
        return problem.project_x(problem.plus(x, direction, -each(algorithm.step_size)[0])), kept
    if hasattr(optimizer, "init") and hasattr(optimizer, "update"):
        rebuild = problem.cache.get("optimizer state")
        if rebuild is None:
            rebuild = problem.framework.flatten(optimizer.init(x))[1]
            problem.cache["optimizer state"] = rebuild
        updates, state = optimizer.update(direction, rebuild(memory), x)
        return problem.project_x(problem.plus(x, updates)), list(
            problem.framework.flatten(state)[0]
        )
    return _stepped(problem, x, direction, memory, algorithm)


def move_y(
    problem: BilevelProblem, y: Arrays, direction: Arrays, memory: Any, algorithm: Any
) -> tuple[Arrays, Any]:
    """y likewise, always by plain steps."""
    direction, kept = _heavy(problem, direction, memory, each(algorithm.momentum)[1])
    return problem.project_y(problem.plus(y, direction, -each(algorithm.step_size)[1])), kept


def _heavy(
    problem: BilevelProblem, direction: Arrays, velocity: Any, momentum: float
) -> tuple[Arrays, Any]:
    """The direction of a heavy ball, and its velocity, which is the same; None without momentum."""
    if not momentum:
        return direction, None
    if velocity is not None:
        direction = problem.plus(direction, velocity, momentum)
    return direction, direction


def _stepped(
    problem: BilevelProblem, x: Arrays, direction: Arrays, memory: Any, algorithm: Any
) -> tuple[Arrays, Any]:
    """A step of an optimizer that changes its parameters and its state in place.

    It is kept, and loaded with the state only where it did not leave it behind itself.
    """
    live, parameters, left = _live(problem, x, algorithm, memory)
    problem.cache.pop("optimizer", None)  # an interrupt may leave it in between
    if left is not memory:
        live.load_state_dict(_copied(memory))
    for parameter, value, gradient in zip(parameters, x, direction, strict=True):
        parameter.detach().copy_(value)
        parameter.grad = gradient
    live.step()
    moved = problem.project_x([constant(p) for p in parameters])
    kept = _copied(live.state_dict())
    problem.cache["optimizer"] = (live, parameters, kept)
    return moved, kept


def _live(problem: BilevelProblem, x: Arrays, algorithm: Any, memory: Any) -> Any:
    """The optimizer, its parameters, and a copy of the state in which it is."""
    if memory is not None and (known := problem.cache.get("optimizer")) is not None:
        return known
    optimizer = algorithm.optimizer
    if not callable(optimizer):
        raise OptionError(
            f"optimizer={optimizer!r}; expected a torch.optim class, a function of the list of "
            "parameters that makes such an optimizer, or an optax transformation"
        )
    parameters = [constant(a).requires_grad_(True) for a in x]
    if isinstance(optimizer, type):
        live = optimizer(parameters, lr=each(algorithm.step_size)[0])
    else:
        live = optimizer(parameters)
    if not all(hasattr(live, name) for name in ("step", "state_dict", "load_state_dict")):
        raise OptionError(f"optimizer made a {type(live).__name__}, which is no optimizer")
    return live, parameters, None


def _copied(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_copied(value) for value in state)
    return constant(state) if hasattr(state, "detach") else state
