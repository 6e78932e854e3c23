"""Programs of the hunt in torch's own arrays: solved and differentiated without the host.

What comes back stands for an `ffoadapt.Result`: its verdict is the report's, asked of the solution.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hunt_programs import Case

import ffoadapt
from ffoadapt import NonnegativeCone, Status, ZeroCone

__all__ = ["solve_in_torch", "traceable"]


def traceable(case: Case) -> bool:
    """Whether a solver that is traced can have the program."""
    return all(isinstance(cone, ZeroCone | NonnegativeCone) for cone in case.cones)


class TracedResult:
    """Status, points, gradients and report of a solve in torch."""

    def __init__(self, case: Case, settings: dict[str, Any]) -> None:
        self.case, P_q_A_b = case, case.data
        self.leaves = [torch.from_numpy(np.array(v)).requires_grad_() for v in P_q_A_b]
        P, q, A, b = self.leaves
        self.status, self.info, self.x = Status.ERROR, {}, np.full(len(q), np.nan)
        try:
            if case.box:
                lower = torch.from_numpy(np.array(case.lower)).requires_grad_()
                self.leaves.append(lower)
                self.solution: Any = ffoadapt.box_qp(P, q, A, lower, b, **settings)
            else:
                self.solution = ffoadapt.cone_program(P, q, A, b, case.cones, **settings)
        except ffoadapt.SolveError as error:
            self.status, self.info = error.statuses.get(0, Status.ERROR), {"message": str(error)}
            return
        except ffoadapt.FFOAdaptError as error:
            self.info = {"message": str(error)}
            return
        self.status, self.info = self.solution.status, self.solution.info
        self.x = self.solution.x.detach().numpy()

    def vjp(self, **cotangents: np.ndarray) -> SimpleNamespace:
        """Gradients of P, q, A, b; of l and u in the place of b where there are bounds."""
        outputs = {"x": 0, "z": 1} if self.case.box else {"x": 0, "s": 1, "z": 2}
        total = sum(
            (self.solution[outputs[name]] * torch.from_numpy(np.array(bar))).sum()
            for name, bar in cotangents.items()
        )
        found = torch.autograd.grad(total, self.leaves, allow_unused=True, materialize_grads=True)
        P, q, A, b, *lower = (g.numpy() for g in found)
        if self.case.form == "sparse":  # gradients on the pattern
            P, A = P * (self.case.P != 0), A * (self.case.A != 0)
        return SimpleNamespace(P=P, q=q, A=A, b=b, u=b, l=lower[0] if lower else None)

    def report(self) -> Any:
        return self.solution.report()


def solve_in_torch(case: Case, settings: dict[str, Any]) -> TracedResult:
    """The program, by a solver that is traced in torch."""
    return TracedResult(case, settings)
