"""`CvxpyLayer`: an `ffoadapt.Layer` that takes the place of cvxpylayers' JAX layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import jax

import ffoadapt

__all__ = ["CvxpyLayer"]


class CvxpyLayer:
    """A cvxpy problem as a function of JAX arrays: parameters in, variables out.

    Parameters
    ----------
    problem, parameters, variables
        As in `ffoadapt.Layer`: a DPP problem, all its parameters in the order of the call, and the
        variables or dual variables to return.
    solver
        A name in any case (``"SCS"``, ``cp.CLARABEL``), an `ffoadapt.Solver`, or None for the
        fastest installed. ``"DIFFCP"`` means None: every solver is differentiated the same way.
    gp
        The problem is a geometric program; solved in logarithms, returned as it is stated.
    verbose
        Let the solver print.
    canon_backend
        Without effect.
    solver_args
        Options for every call, in the solver's own words, in ffoadapt's (``tolerance``, ...) or in
        diffcp's (``eps``, ``max_iters``, ``solve_method``, ``abstol``, ...).
    custom_method
        Not supported (`ffoadapt.OptionError`): write an `ffoadapt.Solver`.
    held
        As in `ffoadapt.Layer`: parameters that each call takes at their value in cvxpy.
    settings
        As in `ffoadapt.Layer`: see `ffoadapt.SolveSettings`.

    Notes
    -----
    Unlike cvxpylayers, every solver works under jit, vmap and grad, several batch axes may lead,
    and outputs have the dtype of the inputs.
    """

    def __init__(
        self,
        problem: Any,
        parameters: Sequence[Any],
        variables: Sequence[Any],
        solver: str | ffoadapt.Solver | type[ffoadapt.Solver] | None = None,
        gp: bool = False,
        verbose: bool = False,
        canon_backend: str | None = None,
        solver_args: Mapping[str, Any] | None = None,
        *,
        custom_method: Any = None,
        held: Sequence[Any] = (),
        **settings: Unpack[ffoadapt.SolveSettings],
    ) -> None:
        drop_in = ffoadapt.get_plugin("modeler", "cvxpy").drop_in
        self._layers = drop_in(
            problem,
            parameters,
            variables,
            solver=solver,
            gp=gp,
            verbose=verbose,
            solver_args=solver_args,
            custom_method=custom_method,
            settings={**settings, "held": held},
        )

    @property
    def layer(self) -> ffoadapt.Layer:
        """The layer itself."""
        return self._layers.layer

    @property
    def last(self) -> ffoadapt.Outcome | None:
        """How the last call in this thread went (``status``, ``info``, ``report()``), or None."""
        return self._layers.last

    def __call__(
        self,
        *params: jax.Array,
        solver_args: Mapping[str, Any] | None = None,
        warm_start: bool | None = None,
    ) -> tuple[jax.Array, ...]:
        """The variables, in a tuple.

        ``solver_args`` and ``warm_start`` hold for this call, over those of the constructor.
        """
        return self._layers(params, solver_args, warm_start)

    forward = __call__
