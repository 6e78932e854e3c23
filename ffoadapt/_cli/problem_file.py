"""Reads the problem of ``ffoadapt compare``: matrices in an .npz file, or a Python file.

An .npz file holds the arrays of one program under their names:

    P, q, A, b, cones       1/2 x'Px + q'x,  Ax + s = b,  s in the cones
    P, q, G, h, A, b        Gx <= h,  Ax = b  (either pair may be missing)
    P, q, A, l, u           l <= Ax <= u

P may be missing (zero). A sparse matrix M is stored by its CSC parts as M_data, M_indices, M_indptr
and M_shape. ``cones`` is an array of strings, "kind:size" or "power:alpha", or "exponential".

A Python file is run; it leaves a ``problem`` of an installed modeler, and, if it likes, its
``parameters`` (with values) and ``variables`` in lists.
"""

from __future__ import annotations

import contextlib
import math
import os
import runpy
import sys
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from .._cones import (
    Cone,
    ExponentialCone,
    NonnegativeCone,
    PowerCone,
    PSDCone,
    SecondOrderCone,
    ZeroCone,
)
from .._exceptions import ParameterError, ProblemError
from .._layers.cone_program import ConeProgram
from .._layers.layer import Layer
from .._models.checks import check_finite, checked_program
from .._plugins.modeler import ParametricProgram
from .._program.structure import Structure
from .._types import Floats
from .console import reason

__all__ = ["ProblemFile", "read_problem"]


_SIZED: dict[str, type[Any]] = {
    "zero": ZeroCone,
    "nonnegative": NonnegativeCone,
    "second_order": SecondOrderCone,
    "psd": PSDCone,
}
_FORMS = {
    "cone": ({"P", "q", "A", "b", "cones"}, {"q", "A", "b", "cones"}),
    "box": ({"P", "q", "A", "l", "u"}, {"q", "A", "l", "u"}),
    "split": ({"P", "q", "G", "h", "A", "b"}, {"q"}),
}


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class ProblemFile:
    """A family of programs, the numbers of one of them, and which outputs to differentiate."""

    path: Path
    program: ParametricProgram
    values: list[Floats]
    outputs: int
    """The first so many outputs get a cotangent: x of matrices, all variables of a modeler."""
    structure: Structure
    """Sizes and cones of the canonical program."""

    @property
    def data(self) -> list[str]:
        """The names of the parameters, without those that have no entries."""
        pairs = zip(self.program.parameters, self.values, strict=True)
        return [name for (name, _), value in pairs if value.size]


def read_problem(path: Path) -> ProblemFile:
    """The problem in a file.

    Raises
    ------
    ProblemError
        The file is missing, unreadable, or does not state a problem; says what is wrong with it.
    """
    try:
        missing = not path.is_file() and ("no such" if not path.exists() else "no regular")
    except OSError as error:  # a directory that nobody may look into, a name that is too long
        raise ProblemError(f"{path}: {error.strerror}") from error
    if missing:
        raise ProblemError(f"{path}: there is {missing} file")
    if path.suffix not in (".npz", ".py"):
        raise ProblemError(
            f"{path}: the name ends in {path.suffix!r}; expected .npz (matrices) or .py (a problem)"
        )
    try:
        return _read_npz(path) if path.suffix == ".npz" else _read_python(path)
    except ProblemError as error:
        text = reason(error)
        raise ProblemError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def _checked(
    path: Path, program: ParametricProgram, values: list[Floats], outputs: int
) -> ProblemFile:
    """The problem, if its numbers are finite (bounds may be infinite) and it is convex."""
    for (name, shape), value in zip(program.parameters, values, strict=True):
        check_finite(name, value, len(shape), name in program.unbounded)
    flat = [value[None] for value in values]
    structure = checked_program(program, flat, 1).structure
    return ProblemFile(path, program, values, outputs, structure)


# ------------------------------------------------------------------------------------- .npz


def _read_npz(path: Path) -> ProblemFile:
    try:
        arrays = _arrays(path)
    except ProblemError:
        raise
    except MemoryError as error:
        raise ProblemError(f"its arrays do not fit in memory: {reason(error)}") from error
    except Exception as error:  # whatever zlib, zipfile or NumPy say of bytes that are not theirs
        raise ProblemError(
            f"it is no .npz file of plain arrays ({reason(error)}); write it with numpy.savez, a "
            "sparse matrix by its parts"
        ) from error
    try:
        program = _program(_matrices(arrays))
        return _checked(path, program.model, program.values, 1)
    except MemoryError as error:
        raise ProblemError(
            f"a program of its sizes does not fit in memory: {reason(error)}"
        ) from error
    except ProblemError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ProblemError(f"its arrays are no program: {reason(error)}") from error


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays, if they are as large as they say, and no larger than the memory there is."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        size, memory = sum(entry.file_size for entry in entries), _memory()
        if size > memory:
            raise ProblemError(
                f"its arrays take {size / 1e9:.3g} GB unpacked, and this machine has "
                f"{memory / 1e9:.3g} GB of memory"
            )
        return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Any:
    """One array; NumPy would allocate whatever the header says."""
    name = entry.filename.removesuffix(".npy")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:  # the third is for names of fields
            raise ValueError(f"{name} is no array of numbers or words")
        shape, _, dtype = _HEADERS[version](file)
        if dtype.kind not in "biufSU":  # objects above all: to read them runs what they say
            raise ValueError(f"{name} holds {dtype}, expected numbers or words")
        expected, there = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
        if min(shape, default=0) < 0 or expected != there:
            raise ValueError(f"{name} is said to have shape {shape}, but has {there} bytes")
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _memory() -> float:
    """Bytes of memory that the machine has; infinite where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _matrices(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays, with the parts of each sparse matrix put together."""
    data = dict(arrays)
    for name in "PAG":
        keys = [f"{name}_{part}" for part in ("data", "indices", "indptr", "shape")]
        present = [key for key in keys if key in data]
        if not present:
            continue
        if present != keys:
            missing = ", ".join(key for key in keys if key not in data)
            raise ProblemError(f"the sparse matrix {name} lacks {missing}")
        values, indices, indptr, shape = (data.pop(key) for key in keys)
        try:
            data[name] = sparse.csc_matrix((values, indices, indptr), shape=tuple(shape))
            data[name].check_format()
        except (ValueError, TypeError, OverflowError, IndexError) as error:
            raise ProblemError(f"the parts of {name} are no CSC matrix: {reason(error)}") from error
    return data


def _program(data: dict[str, Any]) -> ConeProgram:
    form = "cone" if "cones" in data else "box" if data.keys() & {"l", "u"} else "split"
    allowed, needed = _FORMS[form]
    unknown, missing = sorted(data.keys() - allowed), sorted(needed - data.keys())
    if unknown or missing:
        forms = "; ".join(", ".join(sorted(names)) for names, _ in _FORMS.values())
        raise ProblemError(
            f"it holds {', '.join(sorted(data)) or 'nothing'}: "
            + (f"{', '.join(unknown)} is not expected" if unknown else "")
            + (" and " if unknown and missing else "")
            + (f"{', '.join(missing)} is missing" if missing else "")
            + f". Expected the arrays of one form ({forms}; P may be missing)"
        )
    P, q, A = data.get("P"), data["q"], data.get("A")
    if form == "cone":
        return ConeProgram(P, q, A, data["b"], _cones(data["cones"]))
    if form == "box":
        return ConeProgram.from_box(P, q, A, data["l"], data["u"])
    return ConeProgram.from_split(P, q, data.get("G"), data.get("h"), A, data.get("b"))


def _cones(words: Any) -> list[Cone]:
    return [_cone(str(word)) for word in np.atleast_1d(words)]


def _cone(word: str) -> Cone:
    kind, _, size = word.partition(":")
    try:
        if kind in _SIZED:
            cone: Cone = _SIZED[kind](int(size))
            return cone
        if kind == "power":
            return PowerCone(float(size))
    except ValueError as error:
        raise ProblemError(f"the cone {word!r} has no valid size: {error}") from error
    if word == "exponential":
        return ExponentialCone()
    raise ProblemError(
        f"{word!r} is no cone; expected one of {', '.join(f'{k}:SIZE' for k in _SIZED)}, "
        "exponential, power:ALPHA"
    )


# -------------------------------------------------------------------------------------- .py


def _read_python(path: Path) -> ProblemFile:
    names = _run(path)
    problem = names.get("problem")
    if problem is None:
        raise ProblemError("it defines no `problem` (e.g. a cvxpy.Problem)")
    if isinstance(problem, ConeProgram):
        return _checked(path, problem.model, problem.values, 1)
    parameters = _listed(names, problem, "parameters")
    variables = _listed(names, problem, "variables")
    program = Layer(problem, parameters, variables).program
    values = [
        _value(parameter, name, shape)
        for parameter, (name, shape) in zip(parameters, program.parameters, strict=True)
    ]
    return _checked(path, program, values, len(program.outputs))


def _listed(names: Mapping[str, Any], problem: Any, what: str) -> list[Any]:
    """The file's own list, or what the problem says when asked (as those of cvxpy do)."""
    if what in names:
        return list(names[what])
    ask = getattr(problem, what, None)
    if not callable(ask):
        raise ProblemError(f"it defines a `problem` but no list of `{what}`")
    return list(ask())


def _value(parameter: Any, name: str, shape: tuple[int, ...]) -> Floats:
    value = getattr(parameter, "value", None)
    if value is None:
        raise ParameterError(f"the parameter {name!r} has no value; set {name}.value in the file")
    if sparse.issparse(value):
        value = value.toarray()
    return np.asarray(value, dtype=np.float64).reshape(shape)


def _run(path: Path) -> dict[str, Any]:
    """What the file leaves behind; what it prints goes to stderr."""
    with _importable(path.parent), contextlib.redirect_stdout(sys.stderr):
        try:
            return runpy.run_path(str(path), run_name="__ffoadapt__")
        except (Exception, SystemExit) as error:
            frames = [
                f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)
            ]
            line = error.lineno if isinstance(error, SyntaxError) else None
            if frames:
                line = frames[-1].lineno
            where = f", line {line}" if line else ""
            text = f"{type(error).__name__}: {reason(error)}"
            raise ProblemError(f"{path}{where}: {text}") from error


@contextlib.contextmanager
def _importable(directory: Path) -> Iterator[None]:
    """The file may import its neighbours, as it may when run by itself."""
    entry = str(directory.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)
