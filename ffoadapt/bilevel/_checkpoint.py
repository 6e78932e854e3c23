"""A run in a file: NumPy's npz with a JSON text for all that is no array; nothing is unpickled."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._exceptions import ParameterError
from .._plugins.algorithm import BilevelState
from .._runtime.text import told
from ._arrays import cast
from ._ignored import near
from ._problem import BilevelProblem

__all__ = ["Saved", "load", "save", "signature"]

FORMAT = "ffoadapt.bilevel 2"

Saved = tuple[BilevelState, dict[str, list[float]], float]
"""The state, the history, and the seconds that it took."""

AGREES = 1e-6
"""How well, relative to their size, the values of one problem agree on two machines."""


def signature(
    problem: BilevelProblem, algorithm: Any, options: Mapping[str, Any], batch: Any
) -> dict[str, Any]:
    """What must be the same for a run to go on: functions by their values at two points."""
    x, y = problem.leaves(*problem.start())
    if problem.kind == "function":
        other = problem.project_x(near(x, 1.0)), problem.project_y(near(y, 2.0))
        values = [
            value(*at, batch)
            for at in ((x, y), other)
            for value in (problem.value, problem.lower_value)
        ]
    else:
        calls = problem.gradient_calls
        values = [float(problem.total(x, batch)[0])]
        problem.gradient_calls = calls
    return {
        "format": FORMAT,
        "algorithm": type(algorithm).__name__,
        "options": {name: _plain(value) for name, value in options.items()},
        "framework": type(problem.framework).__name__,
        "kind": problem.kind,
        "x": [[list(a.shape), str(a.dtype)] for a in x],
        "y": [[list(a.shape), str(a.dtype)] for a in y],
        "values": values,
    }


def _plain(value: Any) -> Any:
    """An option as JSON has it; of an object, the name of its class."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)


def save(path: Path, problem: BilevelProblem, about: Mapping[str, Any], saved: Saved) -> None:
    """Write the file, at once or not at all."""
    state, history, seconds = saved
    arrays: list[Any] = []

    def encode(value: Any) -> Any:
        return _encoded(value, arrays, problem.framework.to_numpy)

    x, y = problem.leaves(state.x, state.y)
    text = json.dumps(
        {
            **about,
            "state": encode([x, y, dict(state.memory)]),
            "step": state.step,
            "gradient_calls": state.gradient_calls,
            "seconds": seconds,
            "history": encode({name: np.asarray(column) for name, column in history.items()}),
        }
    )
    named = {f"array_{k}": array for k, array in enumerate(arrays)}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, text=np.array(text), **named)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: Path, problem: BilevelProblem, about: Mapping[str, Any]) -> Saved:
    """Read the file back.

    Raises
    ------
    ParameterError
        Where it is cut off, no checkpoint, or one of another problem.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            known = json.loads(str(file["text"]))
            arrays = [file[f"array_{k}"] for k in range(len(file.files) - 1)]
        if known["format"] != FORMAT:
            raise ValueError(f"its format is {known['format']!r}, expected {FORMAT!r}")
    except Exception as error:
        raise ParameterError(
            f"{path} is no whole checkpoint of ffoadapt.bilevel ({told(error)}): it may be cut "
            "off. Delete it to start afresh, or give another path"
        ) from error
    _check_same(path, known, about)
    model = problem.leaves(*problem.start())[0][0]

    def decode(value: Any) -> Any:
        return _decoded(value, arrays, lambda a: _array(problem, model, a))

    x, y, memory = decode(known["state"])
    state = BilevelState(
        problem.tree_x(x), problem.tree_y(y), known["step"], known["gradient_calls"], memory
    )
    history = {name: column.tolist() for name, column in decode(known["history"]).items()}
    return state, history, known["seconds"]


def _check_same(path: Path, known: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    for name, value in about.items():
        before = known.get(name)
        if name == "values":
            pairs = list(zip(before or (), value, strict=False))
            same = len(before or ()) == len(value) and all(
                math.isclose(a, b, rel_tol=AGREES, abs_tol=AGREES)
                or (math.isnan(a) and math.isnan(b))
                for a, b in pairs
            )
            what = "other values of upper and lower at the start or next to it"
        else:
            same, what = before == json.loads(json.dumps(value)), f"another {name}"
        if not same:
            raise ParameterError(
                f"{path} is a checkpoint of another run: it has {what}, {before} and not {value}. "
                "Delete it to start afresh, give another path, or go on from a result with state="
            )


def _array(problem: BilevelProblem, model: Any, array: Any) -> Any:
    with problem.framework.precise():
        restored = cast(problem.framework.from_numpy(array), str(array.dtype))
    return restored.to(model.device) if hasattr(restored, "to") else restored


def _encoded(value: Any, arrays: list[Any], to_numpy: Callable[[Any], Any]) -> Any:
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"numpy": len(arrays) - 1}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {"dict": [[k, _encoded(v, arrays, to_numpy)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encoded(v, arrays, to_numpy) for v in value]}
    if not hasattr(value, "dtype"):
        raise ParameterError(
            f"an algorithm's memory holds a {type(value).__name__}: see BilevelState"
        )
    arrays.append(np.array(to_numpy(value)))
    return {"array": len(arrays) - 1}


def _decoded(value: Any, arrays: list[Any], array: Callable[[Any], Any]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "numpy":
        return arrays[content]
    if kind == "array":
        return array(arrays[content])
    if kind == "dict":
        return {k: _decoded(v, arrays, array) for k, v in content}
    decoded = [_decoded(v, arrays, array) for v in content]
    return decoded if kind == "list" else tuple(decoded)
