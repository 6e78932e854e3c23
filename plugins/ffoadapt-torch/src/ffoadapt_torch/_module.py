"""`CvxpyLayer`: an `ffoadapt.Layer` as a torch module that takes the place of cvxpylayers'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch

import ffoadapt
from ffoadapt.experimental import Keyed

__all__ = ["CvxpyLayer"]


class _Kept(Keyed):
    """What a module passes its calls to, with a key for graphs."""

    def __init__(self, layers: Any) -> None:
        self.layers = layers


class CvxpyLayer(torch.nn.Module):
    """A cvxpy problem as a torch module: parameter tensors in, variable tensors out.

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
        Of cvxpylayers 0.1; not supported (`ffoadapt.OptionError`): write an `ffoadapt.Solver`.
    held
        As in `ffoadapt.Layer`: parameters that each call takes at their value in cvxpy.
    settings
        As in `ffoadapt.Layer`: see `ffoadapt.SolveSettings`.

    Notes
    -----
    Unlike cvxpylayers, outputs have the dtype of the inputs, several batch axes may lead, and
    gradients of dual variables, several calls in one graph and ``torch.func`` work. The module has
    no state: of a checkpoint made with cvxpylayers' layer, its buffers are skipped.
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
        super().__init__()
        drop_in = ffoadapt.get_plugin("modeler", "cvxpy").drop_in
        self._kept = _Kept(
            drop_in(
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
        )

    @property
    def _layers(self) -> Any:
        return self._kept.layers

    def extra_repr(self) -> str:
        return str(self._layers.layer)

    @property
    def layer(self) -> ffoadapt.Layer:
        """The layer itself."""
        return self._layers.layer

    @property
    def last(self) -> ffoadapt.Outcome | None:
        """How the last call in this thread went (``status``, ``info``, ``report()``), or None."""
        return self._layers.last

    def forward(
        self,
        *params: torch.Tensor,
        solver_args: Mapping[str, Any] | None = None,
        warm_start: bool | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """The variables, in a tuple.

        ``solver_args`` and ``warm_start`` hold for this call, over those of the constructor.
        """
        if torch.compiler.is_compiling():
            from . import _compiled

            arguments: dict[str, Any] = {}
            if solver_args is not None:
                arguments["solver_args"] = dict(solver_args)
            if warm_start is not None:
                arguments["warm_start"] = warm_start
            return _compiled.call(self._kept.key, params, arguments)
        return self._layers(params, solver_args, warm_start)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for buffer in ("P", "q", "A"):  # of cvxpylayers' layer: follow from the problem
            state_dict.pop(prefix + buffer, None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
