"""How to solve and differentiate a smooth program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np

from .._exceptions import OptionError
from .._solve.options import check_options
from .._types import Floats

__all__ = ["Curvature", "SmoothSettings"]


Curvature = Literal["auto", "differences", "cg", "exact", "resolve"]


@dataclass(frozen=True)
class SmoothSettings:
    """Keyword arguments of `smooth` and `SmoothLayer`.

    Attributes
    ----------
    solver_options, on_failure, accept_inaccurate, warm_start
        As in `SolveSettings`.
    polish
        Newton steps on the optimality conditions make the solver's point accurate, where they lower
        the residual and violate no constraint more; False leaves it as it is.
    curvature
        Where the derivative has the Lagrangian's curvature from: ``"differences"`` of gradients
        along all variables, ``"cg"`` conjugate gradients whose products are differences of
        gradients, ``"auto"`` the first up to 64 variables and the second beyond, ``"exact"`` second
        derivatives of the framework, ``"resolve"`` from two further solves of a tilted program.
    typical
        Typical sizes of the variables, where they differ by orders of magnitude: one number, or an
        array like y.
    step
        Of ``"resolve"``: the tilt, by default 1e-4 of the objective's gradient.
    """

    solver: Any = "auto"
    solver_options: Mapping[str, Any] = field(default_factory=dict)
    on_failure: Literal["raise", "nan"] = "raise"
    accept_inaccurate: bool = True
    warm_start: bool = False
    polish: bool = True
    curvature: Curvature = "auto"
    typical: Any = None
    step: float | None = None

    @classmethod
    def of(cls, solver: Any, given: Mapping[str, Any]) -> SmoothSettings:
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                raise OptionError(
                    f"there is no setting {name!r}. The settings are {', '.join(known)}; options "
                    "of the solver go into solver_options={...}"
                )
        return cls(solver, **given)

    def __post_init__(self) -> None:
        choices = {
            "on_failure": ("raise", "nan"),
            "curvature": get_args(Curvature),
            "accept_inaccurate": (True, False),
            "warm_start": (True, False),
            "polish": (True, False),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if not isinstance(value, str | bool | np.bool_) or value not in allowed:
                expected = " or ".join(map(repr, allowed))
                raise OptionError(f"{name}={value!r}; expected {expected}")
        auto = isinstance(self.solver, str) and self.solver == "auto"
        object.__setattr__(self, "solver_options", check_options(self.solver_options or {}, auto))
        if self.typical is not None:
            try:
                sizes = np.asarray(self.typical, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise OptionError(f"typical={self.typical!r}; expected positive numbers") from error
            if not (np.isfinite(sizes).all() and (sizes > 0.0).all()):
                raise OptionError(f"typical={self.typical!r}; expected positive numbers")
        if self.step is not None and not 0.0 < self.step < np.inf:
            raise OptionError(f"step={self.step!r}; expected a positive number")

    def typical_of(self, n: int) -> Floats | None:
        """(n,) the typical sizes, None where there are none."""
        if self.typical is None:
            return None
        sizes = np.asarray(self.typical, dtype=np.float64).reshape(-1)
        if sizes.size not in (1, n):
            raise OptionError(f"typical has {sizes.size} numbers; expected 1 or {n}")
        return np.broadcast_to(sizes, (n,)).copy()
