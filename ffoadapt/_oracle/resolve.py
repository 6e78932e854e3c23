"""The second way to a gradient, independent of active sets: solve the program again.

The solution (x_d, z_d) for q - delta v_x and b + delta v_z moves by delta (w, zeta) to first order,
since the ghost KKT matrix is symmetric. Works for any cone and any black box. With a small step it
is the derivative, up to O(delta) + O(tolerance/delta), with central differences O(delta^2). With a
large one it is that of a function without the kinks and flat parts of the solution: Lagrangian
proximal gradient descent (Paulus et al., arXiv 2407.05920), and for linear programs the
differentiation of black boxes (Vlastelica et al., arXiv 1912.02175).

The gradient is the difference of the gradients of the Lagrangian by the data at the two solutions,
over the step. As L is bilinear in what moves, that is the vector form of `Adjoint` with the mean of
the two solutions in the place of (x, z): for A, z1 x1' - z0 x0' = z (x1 - x0)' + (z1 - z0) x'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from scipy import sparse

from .._exceptions import DifferentiationError, OptionError
from .._program.batch import ProgramBatch
from .._program.pattern import Pattern
from .._program.points import Points
from .._types import Floats, Ints
from .gradient import Adjoint, Oracle, Tangents, folded

__all__ = ["Resolve", "Resolved"]


SHORTER, TRIES = 0.1, 4
"""Where a moved program has no solution the step is shortened by this factor, so many times."""


@dataclass(frozen=True)
class Resolve:
    """Differentiate by solving again, with a finite step: for ``gradient=``.

    Parameters
    ----------
    step
        > 0. How far the objective's gradient q is moved along the cotangent on x: the largest entry
        of the change, relative to the largest among those of q, Px and A'z. Likewise b along the
        cotangent on z. 1 (the default) moves costs by as much as they are: far enough to see other
        vertices of a linear program. 1e-5 gives the derivative where there is one.
    proximal
        >= 0. Adds a term of this weight times |x - x*|^2 / 2 to the moved programs, with x* the
        solution: how far x may move is then held as well. At 1 moving x by its largest entry costs
        as much as that entry costs by q.
    central
        True takes the difference of two moved solutions, forward and backward; False that of x* and
        the one with lower loss, in half of the time, and with an error of the order of the step
        rather than of its square.
    """

    step: float = 1.0
    proximal: float = 0.0
    central: bool = True

    def __post_init__(self) -> None:
        for name, least in (("step", "> 0"), ("proximal", ">= 0")):
            value: Any = getattr(self, name)
            number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
            if not number or not 0.0 <= value < np.inf or (least == "> 0" and not value):
                raise OptionError(f"Resolve({name}={value!r}); expected a finite number {least}")
            object.__setattr__(self, name, float(value))
        if not isinstance(self.central, bool | np.bool_):
            raise OptionError(f"Resolve(central={self.central!r}); expected True or False")
        object.__setattr__(self, "central", bool(self.central))


class Resolved:
    """A `Derivative` at the points of an oracle by further solves.

    ``solve`` gives the solutions of a batch of programs, NaN where there is none. An element of
    which no moved program has a solution raises `DifferentiationError`; where such failures are to
    be ``contained``, it has a zero gradient.
    """

    def __init__(
        self,
        oracle: Oracle,
        solve: Callable[[ProgramBatch], Points],
        how: Resolve,
        contain: bool = False,
    ) -> None:
        self._oracle, self._solve, self._how, self._contain = oracle, solve, how, contain

    def vjp(self, v_x: Floats | None, v_s: Floats | None, v_z: Floats | None) -> Adjoint:
        """See `Derivative`; several cotangents have their own solves, one after the other."""
        oracle, batch, points = self._oracle, self._oracle.batch, self._oracle.points
        v_x, v_z = folded(batch, v_x, v_s, v_z)
        w, zeta, x, z = (np.empty(v.shape) for v in (v_x, v_z, v_x, v_z))
        for k in np.ndindex(v_x.shape[:-2]):
            w[k], zeta[k], mean = self._difference(v_x[k], v_z[k])
            x[k], z[k] = mean.x, mean.z
        if v_s is not None:
            zeta += np.where(oracle.solved[:, None], v_s, 0.0)
        return Adjoint(batch, replace(points, x=x, z=z), w, zeta)

    def jvp(self, tangents: Mapping[str, Floats]) -> Tangents:
        """See `Derivative`."""
        return self._oracle.jvp(tangents, lambda v_x, v_z: self._difference(v_x, v_z)[:2])

    def _difference(self, v_x: Floats, v_z: Floats) -> tuple[Floats, Floats, Points]:
        """(w, zeta) for right-hand sides (B, n) and (B, m), and the middle of the two solutions."""
        oracle, how = self._oracle, self._how
        points = oracle.points
        w, zeta = np.zeros_like(points.x), np.zeros_like(points.z)
        mean = replace(points, x=points.x.copy(), z=points.z.copy())
        moves = (v_x != 0.0).any(axis=-1) | (v_z != 0.0).any(axis=-1)
        left = np.flatnonzero(oracle.solved & moves)
        if not left.size:
            return w, zeta, mean
        step, sizes = self._steps(v_x, v_z)
        for _ in range(TRIES):
            ahead, behind = self._moved(left, step[left], v_x[left], v_z[left], sizes)
            pairs = [ahead, behind]
            complete = ~np.any([np.isnan(v).any(axis=-1) for pair in pairs for v in pair], axis=0)
            at, (x1, z1), (x0, z0) = left[complete], *((x[complete], z[complete]) for x, z in pairs)
            width = step[at, None] * (2.0 if how.central else 1.0)
            w[at], zeta[at] = (x1 - x0) / width, (z1 - z0) / width
            mean.x[at], mean.z[at] = 0.5 * (x1 + x0), 0.5 * (z1 + z0)
            left = left[~complete]
            if not left.size:
                return w, zeta, mean
            step[left] *= SHORTER
        if not self._contain:
            raise DifferentiationError(
                f"batch elements {left.tolist()}: the programs that gradient='resolve' solves have "
                f"no solution, with a step of {how.step:g} and with shorter ones down to "
                f"{how.step * SHORTER ** (TRIES - 1):g}: moved costs make the program unbounded, "
                "or moved right-hand sides make it infeasible. Bound the variables, choose a "
                "smaller ffoadapt.Resolve(step=...) or gradient='exact', or contain such elements "
                "with on_failure='nan'"
            )
        return w, zeta, mean

    def _steps(self, v_x: Floats, v_z: Floats) -> tuple[Floats, Floats]:
        """(B,) the step in the units of the cotangents, and (B,) the largest entries of q, Px, A'z
        over those of x, in whose units the proximal weight is."""
        batch, points = self._oracle.batch, self._oracle.points
        multiply = batch.multiply
        forces = batch.q, multiply("P", points.x), multiply("A", points.z, transpose=True)
        force = np.max([np.broadcast_to(_top(v), (batch.size,)) for v in forces], axis=0)
        bounds = np.where(np.isfinite(batch.b), batch.b, 0.0)
        sides = bounds, multiply("A", points.x)
        reach = np.max([np.broadcast_to(_top(v), (batch.size,)) for v in sides], axis=0)
        force, reach, x = (np.where(v > 0.0, v, 1.0) for v in (force, reach, _top(points.x)))
        with np.errstate(divide="ignore"):
            longest = np.minimum(force / _top(v_x), reach / _top(v_z))
        return self._how.step * np.where(np.isfinite(longest), longest, 1.0), force / x

    def _moved(
        self, at: Ints, step: Floats, v_x: Floats, v_z: Floats, sizes: Floats
    ) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """(x, z) of the elements ``at`` moved ahead, or as they are, and behind: in one batch."""
        points, count = self._oracle.points, at.size
        # Costs that grow along the loss's gradient (-1) lead to where the loss is lower.
        signs = (1.0, -1.0) if self._how.central else (-1.0,)
        some = self._oracle.batch.take(np.tile(at, len(signs)))
        shift, bend = (
            np.concatenate([sign * step[:, None] * v for sign in signs]) for v in (v_z, -v_x)
        )
        if self._how.proximal:
            weight = np.tile(self._how.proximal * sizes[at], len(signs))
            bend -= weight[:, None] * np.tile(points.x[at], (len(signs), 1))
            some = _curved(some, weight)
        solved = self._solve(some.shifted(shift, bend))
        first, behind = (solved.x[:count], solved.z[:count]), (solved.x[-count:], solved.z[-count:])
        return (first if self._how.central else (points.x[at], points.z[at])), behind


def _top(values: Floats) -> Floats:
    """(B,) the largest magnitudes of (B, k)."""
    return np.abs(values).max(axis=-1, initial=0.0)


def _curved(batch: ProgramBatch, weight: Floats) -> ProgramBatch:
    """The programs with weight_i / 2 |x|^2 more in the objective of each."""
    structure, n = batch.structure, batch.structure.n
    if structure.P is None:
        return replace(batch, P=batch.P + weight[:, None, None] * np.eye(n), P_factor=None)
    identity = Pattern.of(sparse.identity(n))[0]
    union = Pattern.of(structure.P.matrix(np.ones(structure.P.nnz)) + identity.matrix(np.ones(n)))
    pattern = union[0]
    values = np.zeros((batch.size, pattern.nnz))
    # Entries by columns are in the order of these numbers.
    keys, own = (p.columns.astype(np.intp) * n + p.indices for p in (pattern, structure.P))
    values[:, np.searchsorted(keys, own)] = batch.P
    values[:, pattern.diagonal] += weight[:, None]
    with_diagonal = replace(structure, P=pattern)
    return replace(batch, structure=with_diagonal, P=values, P_factor=None)
