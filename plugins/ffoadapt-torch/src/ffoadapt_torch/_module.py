"""`CvxpyLayer`: an `ffoadapt.Layer` as a torch module, with cvxpylayers' call."""

from typing import Any

import ffoadapt
import torch

__all__ = ["CvxpyLayer"]


class CvxpyLayer(torch.nn.Module):
    """A cvxpy problem as a torch module: parameter tensors in, variable tensors out.

    Parameters
    ----------
    problem, parameters, variables
        As in `ffoadapt.Layer`.
    settings
        Its keyword arguments (solver, solver_options, executor, on_failure, warm_start).
    """

    def __init__(self, problem: Any, parameters: Any, variables: Any, **settings: Any) -> None:
        super().__init__()
        self.layer = ffoadapt.Layer(problem, parameters, variables, **settings)

    def forward(self, *values: Any, solver_args: dict[str, Any] | None = None) -> Any:
        """The variables, in a tuple; ``solver_args`` are solver options for this call."""
        return self.layer(*values, solver_options=solver_args)
