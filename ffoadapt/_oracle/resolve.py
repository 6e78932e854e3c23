"""The second way to a gradient, independent of active sets: solve the program again.

The solution (x_d, z_d) for q - delta v_x and b + delta v_z moves by delta (w, zeta) to first order,
since the ghost KKT matrix is symmetric. Works for any cone and any black box. The error is
O(delta) + O(tolerance/delta), with central differences O(delta^2) + O(tolerance/delta).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .._program import ProgramBatch
from .._solution import Points
from .gradient import Adjoint

__all__ = ["resolve_vjp"]

Floats = NDArray[np.float64]


def resolve_vjp(
    batch: ProgramBatch,
    points: Points,
    solve: Callable[[ProgramBatch], Points],
    v_x: Floats | None,
    v_s: Floats | None,
    v_z: Floats | None,
    *,
    delta: float = 1e-5,
    central: bool = True,
) -> Adjoint:
    """The gradient for cotangents on x (B, n), s and z (B, m), by one or two further solves.

    ``delta`` is relative to the sizes of q and b.
    """
    structure, size = batch.structure, batch.size
    v_x = np.zeros((size, structure.n)) if v_x is None else v_x
    v_z = np.zeros((size, structure.m)) if v_z is None else v_z
    if v_s is not None:
        v_x = v_x - batch.multiply("A", v_s, transpose=True)
    top = max(float(np.abs(v_x).max(initial=0.0)), float(np.abs(v_z).max(initial=0.0)))
    finite_b = batch.b[np.isfinite(batch.b)]
    reach = max(float(np.abs(batch.q).max(initial=0.0)), float(np.abs(finite_b).max(initial=0.0)))
    step = delta * (reach or 1.0) / (top or 1.0)

    def moved(sign: float) -> Points:
        return solve(batch.shifted(sign * step * v_z, -sign * step * v_x))

    ahead = moved(1.0)
    behind, width = (moved(-1.0), 2 * step) if central else (points, step)
    w, zeta = (ahead.x - behind.x) / width, (ahead.z - behind.z) / width
    if v_s is not None:
        zeta = zeta + v_s
    return Adjoint(batch, points, w, zeta)
