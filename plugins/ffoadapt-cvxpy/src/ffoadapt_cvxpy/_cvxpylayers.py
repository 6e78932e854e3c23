"""cvxpylayers' words in ffoadapt's: solver names and solver arguments.

The drop-in layers of the framework plugins take this from the modeler, with
``ffoadapt.get_plugin("modeler", "cvxpy").drop_in``, since plugins do not import each other. It
knows no framework.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from ffoadapt import (
    Layer,
    OptionError,
    Outcome,
    ParameterError,
    Resolve,
    ShapeError,
    SolveError,
)

__all__ = ["CvxpyLayers"]

_OWN_METHOD = ("diffcp",)
"""cvxpylayers' names for a way to differentiate; here every solver is differentiated the same."""

_TOLERANCES = frozenset(
    "eps tol eps_abs eps_rel abstol reltol feastol tol_gap_abs tol_gap_rel tol_feas".split()
)
_RENAMED = {
    **dict.fromkeys(("max_iter", "max_iters", "maxiter", "maxiters"), "max_iterations"),
    "time_limit_secs": "time_limit",
}
_NO_EFFECT = ("n_jobs_backward", "n_jobs_forward")
_EXACT_MODES = ("dense", "lsmr", "lsqr")
_RESOLVED_MODES = ("lpgd", "lpgd_left", "lpgd_right")
_STRENGTHS = {"tau": "step", "rho": "proximal"}
_ONLY_SCS = frozenset({"acceleration_interval", "acceleration_lookback", "use_indirect"})
"""How SCS goes about it, not what is asked for: without a meaning where no solver is named."""

_SYMMETRIC = ("symmetric", "PSD", "NSD")

_DIFFERENCE = 1e-3
"""By so much, beside 1 and the entries, a finite difference may have made a matrix asymmetric."""

_KEPT = 16


class MissingParameterError(ParameterError, AttributeError):
    """A parameter is None: with cvxpylayers that is an error of the attribute that None lacks."""


class _Called(threading.local):
    """The layer that each thread called last; a copy knows of no call."""

    layer: Layer | None = None

    def __reduce__(self) -> Any:
        return _Called, ()


class CvxpyLayers:
    """The `ffoadapt.Layer` of a CvxpyLayer, and those for other solver arguments of single calls.

    Parameters are those of ``CvxpyLayer``. Layers for the arguments of calls are kept, so that a
    training loop which passes the same ``solver_args`` at every step keeps its sessions.
    """

    def __init__(
        self,
        problem: Any,
        parameters: Sequence[Any],
        variables: Sequence[Any],
        *,
        solver: Any,
        gp: bool,
        verbose: bool,
        solver_args: Mapping[str, Any] | None,
        custom_method: Any,
        settings: Mapping[str, Any],
    ) -> None:
        if custom_method is not None:
            raise OptionError(
                "custom_method is not supported: write the method as an ffoadapt.Solver (or a "
                "function decorated with ffoadapt.box_solver) and pass it as solver="
            )
        self._symmetric = [
            k for k, p in enumerate(parameters) if any(map(p.attributes.get, _SYMMETRIC))
        ]
        self._names = [p.name() for p in parameters]
        self.settings = dict(settings)
        self._held = tuple(self.settings.pop("held", ()))
        self.solver = "auto" if solver is None else solver
        self.options = {**(self.settings.pop("solver_options", None) or {}), **(solver_args or {})}
        if verbose:
            self.options["verbose"] = True
        given = problem, parameters, variables, gp
        self.layer = self._layer(given, self.options, self.settings)
        self._others: dict[Any, Layer] = {}
        self._called = _Called()

    @property
    def last(self) -> Outcome | None:
        """As `ffoadapt.Layer.last`, with whichever arguments the call was made."""
        layer = self._called.layer
        return None if layer is None else layer.last

    def __call__(
        self,
        values: Sequence[Any],
        solver_args: Mapping[str, Any] | None,
        warm_start: bool | None,
    ) -> tuple[Any, ...]:
        """The variables at these values."""
        names = self._names
        if len(values) != len(names):
            raise ParameterError(
                f"A tensor must be provided for each CVXPY parameter: the layer takes {len(names)} "
                f"parameters, got {len(values)} (expected: {', '.join(names) or 'none'})"
            )
        missing = [name for name, v in zip(names, values, strict=True) if v is None]
        if missing:
            raise MissingParameterError(
                f"A tensor must be provided for each CVXPY parameter: {', '.join(missing)} is None"
            )
        layer = self._called.layer = self.at(solver_args, warm_start)
        try:
            outputs = self._outputs(layer, values)
        except ShapeError as error:
            raise ShapeError(f"{self._words(values)}: {error}") from error
        except SolveError as error:
            _also_of_diffcp(error)
            raise
        return tuple(outputs)

    def _outputs(self, layer: Layer, values: Sequence[Any]) -> tuple[Any, ...]:
        """What the layer returns; also for matrices that a finite difference has made asymmetric.

        cvxpylayers takes these, so that ``torch.autograd.gradcheck`` goes through: of a parameter
        that is declared symmetric, the symmetric part is used.
        """
        try:
            return tuple(layer(*values))
        except ParameterError:
            if not self._symmetric:
                raise
            values = list(values)
            for k in self._symmetric:
                values[k] = _nearly_symmetric(values[k])
            return tuple(layer(*values))

    def _words(self, values: Sequence[Any]) -> str:
        """What cvxpylayers calls it that these shapes do not fit."""
        parameters = self.layer.program.parameters[: len(values)]
        for value, (_, core) in zip(values, parameters, strict=True):
            extra = len(value.shape) - len(core)
            if extra not in (0, 1):
                return "Invalid parameter dimensionality"
            if tuple(value.shape[extra:]) != tuple(core):
                return "Invalid parameter shape"
        return "Inconsistent batch sizes"

    def at(self, solver_args: Mapping[str, Any] | None, warm_start: bool | None) -> Layer:
        """The layer for the arguments of one call."""
        settings = self.settings
        usual = bool(settings.get("warm_start", False))
        warm = usual if warm_start is None else bool(warm_start)
        if warm != usual:
            settings = {**settings, "warm_start": warm}
        elif not solver_args:
            return self.layer
        try:
            key = (_frozen(solver_args or {}), warm)
            layer = self._others.get(key)
        except TypeError:  # an argument that has no hash
            key, layer = None, None
        if layer is None:
            options = {**self.options, **(solver_args or {})}
            layer = self._layer((self.layer.program, (), (), False), options, settings)
            if key is not None:
                if len(self._others) >= _KEPT:
                    self._others.clear()
                self._others[key] = layer
        return layer

    def _layer(
        self,
        given: tuple[Any, Sequence[Any], Sequence[Any], bool],
        options: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> Layer:
        """The layer of ``given`` (problem, parameters, variables, gp) with these options: in the
        solver's own words, else in diffcp's.

        Words about how SCS goes about it say nothing to another solver, and are left out there.
        Where the solver is not named, words that are another's must not choose it: they are read
        as diffcp's at once, which every solver understands.
        """
        solver, rest, settings = _arguments(self.solver, options, settings)
        common = _common(rest)
        ways = [rest, common]
        if solver != "scs":
            told = {k: v for k, v in common.items() if k not in _ONLY_SCS}
            ways = [told] if solver == "auto" else [*ways, told]
        first: OptionError | None = None
        for way in ways:
            try:
                return self._made(given, solver, way, settings)
            except OptionError as error:
                first, last = first or error, error
        raise last from (None if first is last else first)

    def _made(self, given: tuple[Any, Sequence[Any], Sequence[Any], bool], *how: Any) -> Layer:
        solver, options, settings = how
        problem, parameters, variables, gp = given
        layer = Layer(
            problem,
            parameters,
            variables,
            solver=solver,
            gp=gp,
            held=self._held,
            solver_options=options,
            **settings,
        )
        return layer


def _arguments(
    solver: Any, options: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Solver, options and settings, without the arguments that are diffcp's alone."""
    rest, settings = dict(options), dict(settings)
    method = rest.pop("solve_method", None)
    if method is not None:
        solver = method
    if isinstance(solver, str):
        solver = solver.lower()
        solver = "auto" if solver in _OWN_METHOD else solver
    how = _gradient(rest.pop("mode", None), rest.pop("derivative_kwargs", None))
    if how is not None:
        settings["gradient"] = how
    for name in _NO_EFFECT:
        rest.pop(name, None)
    if not rest.get("use_indirect", True):  # the usual way
        del rest["use_indirect"]
    if "warm_start" in rest:
        settings["warm_start"] = bool(rest.pop("warm_start"))
    if "eps" in rest:
        rest["tolerance"] = rest.pop("eps")
    return solver, rest, settings


def _gradient(mode: Any, parameters: Any) -> Any:
    """diffcp's ``mode`` and ``derivative_kwargs`` as the setting ``gradient``; None for no choice.

    Its tau and rho are in the units of the problem, step and proximal are relative to its numbers:
    they name the same two strengths, and are of the same order where these are near one.
    """
    given = dict(parameters or {})
    if mode in _RESOLVED_MODES:
        unknown = sorted(set(given) - set(_STRENGTHS))
        if unknown:
            raise OptionError(
                f"derivative_kwargs has {', '.join(unknown)}; the parameters of mode={mode!r} are "
                "tau and rho"
            )
        strengths = {_STRENGTHS[name]: value for name, value in given.items()}
        return Resolve(**strengths, central=mode == "lpgd")
    if mode is not None and mode not in _EXACT_MODES:
        raise OptionError(
            f"mode={mode!r} is not known; {', '.join(_EXACT_MODES)} all mean the exact derivative, "
            f"and {', '.join(_RESOLVED_MODES)} one with a finite step (ffoadapt.Resolve)"
        )
    if given:
        raise OptionError(
            f"derivative_kwargs belong to the modes {', '.join(_RESOLVED_MODES)}; got them with "
            f"mode={mode!r}"
        )
    return None


def _common(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the names of SCS, ECOS, OSQP and Clarabel in ffoadapt's common ones: the
    smallest of several tolerances."""
    tolerances = [v for k, v in options.items() if k in _TOLERANCES or k == "tolerance"]
    renamed = {_RENAMED.get(k, k): v for k, v in options.items() if k not in _TOLERANCES}
    if tolerances:
        wrong = [v for v in tolerances if not isinstance(v, Real) or not float(v) > 0.0]
        renamed["tolerance"] = (
            wrong[0] if wrong else min(tolerances)
        )  # a wrong one is refused there
    return renamed


def _frozen(arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments as a key, with those that are mappings themselves (``derivative_kwargs``)."""
    items = sorted(arguments.items())
    return tuple((k, _frozen(v) if isinstance(v, Mapping) else v) for k, v in items)


def _nearly_symmetric(value: Any) -> Any:
    """The value with its symmetric part where the two triangles differ by a finite difference.

    By arithmetic alone, which is the same in every framework.
    """
    if getattr(value, "ndim", 0) < 2 or value.shape[-1] != value.shape[-2]:
        return value
    other = value.swapaxes(-1, -2)
    near = abs(value - other) <= _DIFFERENCE * (1.0 + abs(value) + abs(other))
    return value + near * 0.5 * (other - value)


def _also_of_diffcp(error: SolveError) -> None:
    """Let who catches diffcp's error, which cvxpylayers passes on, catch this one.

    Only where diffcp has been imported, by whoever names its error.
    """
    theirs = getattr(sys.modules.get("diffcp"), "SolverError", None)
    if isinstance(theirs, type) and type(error) is SolveError:
        error.__class__ = type("SolveError", (SolveError, theirs), {"__module__": __name__})
