"""What a solve in NumPy gives: the solution, how it was found, and its derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from scipy import sparse

from .._exceptions import DifferentiationError, ProblemError, ShapeError
from .._models.matrix_model import MatrixModel
from .._models.reading import SPARSE, coordinates, numbers
from .._oracle.report import GradientReport, Reports
from .._program.points import Status
from .._types import Floats, Shape
from . import derivatives
from .outcome import described, infos, statuses
from .valued import optimal_value

__all__ = ["LayerResult", "Result"]


class _SolveResult:
    """What results have in common: a function, the state of a call of it, and how that ended."""

    def __init__(self, function: Any, state: Any) -> None:
        self._function, self._state = function, state
        single, points = state.axes.single, state.points
        self.status: Any = statuses(single, points.status)
        self.info: Any = infos(single, points.info, state.name)

    def _objective(self) -> Floats:
        """(B,) 1/2 x'Px + q'x."""
        return optimal_value(self._state.batch, self._state.points.x)


def _array(words: str, value: Any) -> Floats:
    return numbers(words, value).astype(np.float64, copy=False)


class Result(_SolveResult):
    """A solved program.

    Attributes
    ----------
    x, s, z
        (n,), (m,), (m,): primal, slack and dual in canonical form.
    y (after ``from_box``); z_ineq, y_eq (after ``from_split``)
        The dual as the program was stated.
    status, info, objective
        How the solve ended, what the solver said, and 1/2 x'Px + q'x.
    """

    status: Status

    def __init__(self, program: Any, function: Any, state: Any) -> None:
        super().__init__(function, state)
        self.program, points = program, state.points
        # Copies: the derivatives are those at the points, whatever becomes of these.
        self.x, self.s, self.z = points.x[0].copy(), points.s[0].copy(), points.z[0].copy()
        names = (name for name, _ in function.model.outputs)
        self._named = dict(zip(names, function.outputs(state), strict=True))
        self.objective = self._objective().item()

    def __getattr__(self, name: str) -> Any:
        named = self.__dict__.get("_named", {})
        if name in named:
            return named[name]
        raise AttributeError(f"a result of {type(self).__name__} has no {name!r}")

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(("x", "s", "z", *self._named)))
        return (
            f"Result({self.status.value}, objective={self.objective:.6g}; "
            f"solver {self.info['solver']!r}; {names})"
        )

    def report(self) -> GradientReport:
        """Why to trust the gradient here, or not."""
        with self._function.one_thread:
            return self._state.oracle.reports(None, self._state.evidence)[0]

    def vjp(
        self,
        *,
        method: Literal["direct", "resolve"] | None = None,
        delta: float = 1e-5,
        **cotangents: Any,
    ) -> SimpleNamespace:
        """The gradient of <cotangents, solution> with respect to the data as they were stated.

        Parameters
        ----------
        cotangents
            Any of x, s, z, or the names of the duals as stated (y; z_ineq, y_eq).
        method
            ``"direct"`` factorizes the ghost problem; ``"resolve"`` solves the program twice more,
            moved by ``delta``: as ``gradient=ffoadapt.Resolve(step=delta)`` does. None (the
            default) is what the settings of the call say.

        Returns
        -------
        SimpleNamespace
            One array a datum (P, q, A, b; or P, q, G, h, A, b; or P, q, A, l, u), sparse where the
            datum is. The gradient of P is that of symmetric changes.
        """
        at = self._canonical(cotangents)
        function, state, model = self._function, self._state, self.program.model
        with function.one_thread:
            how = derivatives.named(function, method, delta)
            adjoint = derivatives.vjp(function, state, at, how)
            needed = [True] * len(model.names)
            gradients: Any = derivatives.gradients(function, state, adjoint, needed)
        return SimpleNamespace(
            **{
                name: model.patterns[name].matrix(g[0]).copy() if name in model.patterns else g[0]
                for name, g in zip(model.names, gradients, strict=True)
            }
        )

    def jvp(self, **tangents: Any) -> SimpleNamespace:
        """The directional derivative (x, s, z, and the duals as stated) along data tangents."""
        function, state, model = self._function, self._state, self.program.model
        unknown = set(tangents) - set(model.names)
        if unknown:
            raise ProblemError(f"no data named {sorted(unknown)}; the data are {model.names}")
        flat = [
            _tangent(model, name, tangents[name], shape)[None] if name in tangents else None
            for name, shape in model.parameters
        ]
        with function.one_thread:
            moved = model.program_jvp(flat, state.batch, state.points.z)
            dx, ds, dz, _ = derivatives.tangents(function, state, moved)
            outputs = model.retrieve_jvp(dx, ds, dz, state.batch)
        named = {name: v[0] for (name, _), v in zip(model.outputs, outputs, strict=True)}
        return SimpleNamespace(**{**named, "x": dx[0], "s": ds[0], "z": dz[0]})

    def _canonical(
        self, cotangents: Mapping[str, Any]
    ) -> tuple[Floats | None, Floats | None, Floats | None]:
        outputs = dict(self.program.model.outputs)
        sizes = {"x": self.x.shape, "s": self.s.shape, "z": self.z.shape, **outputs}
        unknown = set(cotangents) - set(sizes)
        if unknown or not cotangents:
            raise ProblemError(
                f"cotangents are given by name, e.g. vjp(x=v); the names are {sorted(sizes)}, "
                f"got {sorted(cotangents) or 'none'}"
            )
        arrays = {name: _array(f"the cotangent on {name}", v) for name, v in cotangents.items()}
        for name, v in arrays.items():
            if v.shape != sizes[name]:
                raise ShapeError(
                    f"the cotangent on {name} has shape {v.shape}, expected {sizes[name]}"
                )
        stated = [arrays[n][None] if n in arrays else None for n in outputs]
        v_x, v_s, v_z = self.program.model.retrieve_vjp(stated, self._state.batch)
        if "s" in arrays and "s" not in outputs:
            v_s = arrays["s"][None]
        if "z" in arrays and "z" not in outputs:
            v_z = arrays["z"][None] + (0.0 if v_z is None else v_z)
        return v_x, v_s, v_z


def _tangent(model: MatrixModel, name: str, tangent: Any, shape: Shape) -> Floats:
    """The tangent of a datum as its parameter has it: of a sparse matrix, on its pattern."""
    pattern, words = model.patterns.get(name), f"the tangent of {name}"
    expected = shape if pattern is None else pattern.shape
    sparse_too = pattern is not None and isinstance(tangent, SPARSE)
    value = coordinates(words, tangent).tocsc() if sparse_too else _array(words, tangent)
    if value.shape != expected:
        raise ShapeError(f"{words} has shape {value.shape}, expected {expected}")
    if pattern is None or not pattern.nnz:
        return value if pattern is None else np.zeros(0)
    csc = sparse.csc_matrix(value, dtype=np.float64)
    return np.asarray(csc[pattern.indices, pattern.columns], dtype=np.float64).ravel()


class LayerResult(_SolveResult):
    """A solved layer, in NumPy.

    Attributes
    ----------
    variables
        The outputs, each (*batch, *shape).
    objective
        (*batch,) the user's objective (a float without batch axes).
    status, info
        A `Status` and a dict; with batch axes, lists of them in the order of the flat batch.
    """

    status: Status | list[Status]

    def __init__(self, function: Any, values: list[Any], outputs: list[Any], state: Any) -> None:
        super().__init__(function, state)
        self.variables, axes = tuple(outputs), state.axes
        flat = function.flatten(values, axes)
        objective = function.model.objective(flat, self._objective()).reshape(axes.batch)
        self.objective: Any = float(objective) if axes.single else objective

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self._function.model.outputs)
        status = described(self.status)
        return f"LayerResult({status}; solver {self._state.name!r}; variables {names or 'none'})"

    def report(self) -> GradientReport | Reports:
        """Why to trust the gradient, or not; one report, or a sequence of one a batch element."""
        reports = self._function.reports(self._state)
        return reports[0] if self._state.axes.single else reports

    def vjp(self, *cotangents: Any) -> tuple[Any, ...]:
        """Cotangents on the parameters from one a variable (None for zero).

        Each is shaped like its variable, or with one more axis in front for several at once.
        """
        names = [name for name, _ in self._function.model.outputs]
        arrays = _each("vjp", "cotangent", "variable", "on", names, cotangents)
        leads = set()
        for name, array, value in zip(names, arrays, self.variables, strict=True):
            if array is None:
                continue
            if array.shape[array.ndim - value.ndim :] != value.shape:
                raise DifferentiationError(
                    f"the cotangent on {name} has shape {array.shape}, expected {value.shape}"
                )
            leads.add(array.shape[: array.ndim - value.ndim])
        if len(leads) > 1:
            raise DifferentiationError(
                f"the cotangents have {' and '.join(map(str, sorted(leads)))} axes before those of "
                "their variables; expected the same for all"
            )
        needed = [True] * len(self._function.names)
        return tuple(self._function.vjp(self._state, arrays, needed, quiet=True))

    def jvp(self, *tangents: Any) -> tuple[Any, ...]:
        """Tangents on the variables from one a parameter (None for zero)."""
        function = self._function
        arrays = _each("jvp", "tangent", "parameter", "of", function.names, tangents)
        leads = self._state.axes.leads
        for name, array, lead, shape in zip(
            function.names, arrays, leads, function.shapes, strict=True
        ):
            if array is not None and array.shape != (*lead, *shape):
                raise DifferentiationError(
                    f"the tangent of {name} has shape {array.shape}, expected {(*lead, *shape)}"
                )
        return tuple(function.jvp(self._state, arrays))


def _each(
    method: str, what: str, of: str, word: str, names: Sequence[str], values: Sequence[Any]
) -> list[Floats | None]:
    """One array, or None, for each of these names."""
    if len(values) != len(names):
        raise DifferentiationError(
            f"{method} takes one {what} a {of}, {len(names)}, got {len(values)}"
        )
    return [
        None if value is None else _array(f"the {what} {word} {name}", value)
        for name, value in zip(names, values, strict=True)
    ]
