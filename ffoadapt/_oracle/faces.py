"""Which weakly active rows are so only because of where on the face of solutions the point is.

A solution need not be unique: with x, so is every x + d that stays feasible, where Pd = 0 and
A_i d = 0 in the rows with a positive multiplier; and with z, every z + v >= 0 with A'v = 0. What
modelers make of a problem is full of this: for |x| <= 1 there is t >= x, t >= -x, t <= 1, and any t
from |x| to 1 will do. A solver that leaves t at |x| has made a row weakly active (s_i = z_i = 0)
that is not so at other solutions, and there is no kink. What counts is the relative interior of the
two faces:

- a weakly active row that some solution x + d leaves (s_i > 0) is inactive there,
- one that has a positive multiplier at some z + v is active there,
- and those that are neither, whatever the solution, are weakly active in earnest.

By the theorem of Goldman and Tucker the first are those rows B that a single d leaves at once,
A_i d < 0 in all of them and A_i d <= 0 in the rest, and the second likewise. To look for such a d
takes little: without the variables and rows that cannot move, a program falls into many independent
parts, mostly of one variable each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from .._program.batch import ProgramBatch
from .._types import Floats
from .active_set import KINK, GhostBatch, Scales
from .lapack import definite_factor

if TYPE_CHECKING:
    from .ghost import MeasuredPoints
from .._runtime.costs import FACE_SIZE

__all__ = ["Faces", "decided", "faces_at", "harmless", "weak_rows"]

Mask = NDArray[np.bool_]

NULL = 1e-11
"""A singular value below this share of the largest is 0."""

STRICT = 1e-6
"""A row of size 1 that moves by this share of the others' is taken to move."""

NOISE = 1e-11
"""A dimensionless s or z below this, or below ten times the residual of the point, may be 0."""


class Faces(NamedTuple):
    """(m,) each: the doubtful rows that are inactive, active and weakly active in earnest."""

    inactive: Mask
    active: Mask
    stuck: Mask


def weak_rows(batch: ProgramBatch, s: Floats, z: Floats, scale: Scales) -> Mask:
    """(B, m) the rows of nonnegative cones with s and z below `KINK`."""
    weak = batch.structure.nonnegative & (np.maximum(scale.slack(s), scale.dual(z)) < KINK)
    return weak if batch.unbounding is None else weak & ~batch.unbounding


def harmless(batch: ProgramBatch, active: Mask, weak: Mask) -> Mask:
    """(B,) whether no gradient depends on which of the ``weak`` rows (B, m) are active.

    That is so beyond doubt, and seen at a glance, where each of them has a variable that is in no
    other row that may hold, and which has no curvature, so that the row's multiplier does not move;
    or where the row has no other variable, and that one no curvature with others. Of variables
    that are outputs nothing is said: with them either choice is as good as the other.
    """
    structure = batch.structure
    if structure.P is None or structure.A is None:
        P, entries = (batch.P != 0.0).any(axis=0), (batch.A != 0.0).any(axis=0).astype(np.float64)
        coupled = P.sum(axis=0)
        alone = coupled == P.diagonal()
    else:
        counts = np.diff(structure.P.indptr)
        diagonal = np.zeros(structure.n, dtype=bool)
        diagonal[structure.P.indices[structure.P.diagonal]] = True
        coupled, alone = counts, counts == diagonal
        entries = structure.A.matrix(np.ones(structure.A.nnz))
    held = active | weak | (structure.row_kinds == 2)
    private = np.asarray((entries.T @ held.T.astype(np.float64)).T == 1.0)  # (B, n)
    single = np.asarray(entries.sum(axis=1)).reshape(-1) == 1.0
    own = np.asarray((entries @ (private & (coupled == 0)).T.astype(np.float64)).T > 0.0)
    decoupled = np.asarray((entries @ (private & alone).T.astype(np.float64)).T > 0.0) & single
    fine: Mask = ~(weak & ~(own | decoupled)).any(axis=-1)
    return fine


def decided(
    at: MeasuredPoints, ghost: GhostBatch, faces: Callable[[int, Mask, GhostBatch], Faces]
) -> tuple[GhostBatch, Mask | None]:
    """The ghost rows with those that are weakly active only because of where on a face the point
    is as in its interior, and which these are, where that could matter.

    ``faces`` are those of the doubtful rows of an element.
    """
    weak = weak_rows(at.batch, at.points.s, at.points.z, at.scales)
    weak[~at.solved] = False
    doubt = weak.any(axis=-1) & ~harmless(at.batch, ghost.active, weak)
    if not doubt.any():
        return ghost, None
    active, kept = ghost.active.copy(), np.zeros_like(weak)
    for i in np.flatnonzero(doubt).tolist():
        inside = faces(i, weak[i], ghost)
        active[i] = (active[i] & ~inside.inactive) | inside.active
        kept[i] = inside.inactive | inside.active
    return replace(ghost, active=active), kept


def faces_at(at: MeasuredPoints, i: int, ghost: GhostBatch, doubtful: Mask) -> Faces:
    """The ``doubtful`` rows (m,) of element ``i`` sorted.

    An s or z that is no noise, given the residual of the point, is not 0; in rows that are at no
    kink both may be.
    """
    batch, scale = at.batch, at.scales
    s_hat, z_hat = scale.slack(at.points.s)[i], scale.dual(at.points.z)[i]
    unsure = doubtful & (np.maximum(s_hat, z_hat) >= KINK)
    noise = max(NOISE, 10.0 * at.measured.kkt.item(i))
    loose = doubtful & (unsure | (z_hat <= noise))
    tight = doubtful & (unsure | (s_hat <= noise))
    held = ghost.active[i] & ~doubtful
    A = sparse.csr_array(batch.matrix("A", i))
    equal, curved, sigma = _curved_rows(ghost, i)
    R = curved @ A
    H = sparse.csr_array(batch.matrix("P", i)) + R.T @ sparse.diags_array(sigma) @ R
    fixed = sparse.vstack((A[held | (doubtful & ~loose)], equal @ A), "csr")
    inactive = np.zeros_like(doubtful)
    inactive[loose] = _movable(H, fixed, A[loose])
    tight &= ~inactive
    active = np.zeros_like(doubtful)
    if tight.any():
        rows = np.flatnonzero(held | tight)
        C = sparse.vstack((A[rows], equal @ A), "csr")
        wanted = np.flatnonzero(tight[rows])
        signs = -np.ones(wanted.size), (np.arange(wanted.size), wanted)
        moves = sparse.csr_array(signs, shape=(wanted.size, C.shape[0]))
        nothing = sparse.csr_array((C.shape[0], C.shape[0]))
        active[rows[wanted]] = _movable(nothing, C.T.tocsr(), moves)
    return Faces(inactive, active, doubtful & ~inactive & ~active)


def _curved_rows(ghost: GhostBatch, i: int) -> tuple[Any, Any, Floats]:
    """The ghost rows besides the unit rows, as sparse (rows, m): G, R, and the signs of R."""
    m = ghost.active.shape[1]
    weighted = np.flatnonzero(ghost.weight[i]) if ghost.weight.size else np.zeros(0, np.intp)
    equal, curved = [sparse.csr_array((0, m))], [sparse.csr_array((weighted.size, m))]
    if weighted.size:
        at = np.sqrt(ghost.weight[i, weighted]), (np.arange(weighted.size), weighted)
        curved = [sparse.csr_array(at, shape=(weighted.size, m))]
    signs = [np.ones(weighted.size)]
    for block in ghost.blocks:
        there, start, dim = block.sigma[i] != 0.0, block.start, block.dim
        for rows, on, out in ((block.G[i], block.has[i], equal), (block.R[i], there, curved)):
            which, _ = np.nonzero(on)
            columns = start + dim * which[:, None] + np.arange(dim)
            places = np.repeat(np.arange(which.size), dim), columns.reshape(-1)
            out.append(sparse.csr_array((rows[on].reshape(-1), places), shape=(which.size, m)))
        signs.append(block.sigma[i][there])
    return sparse.vstack(equal, "csr"), sparse.vstack(curved, "csr"), np.concatenate(signs)


def _movable(H: Any, C: Any, B: Any) -> Mask:
    """(k,) the largest set of rows of B (k, n) that a single d makes negative, Bd <= 0 in all rows,
    Hd = 0 and Cd = 0, for H positive semidefinite; fewer in parts of the program that are large."""
    movable = np.zeros(B.shape[0], dtype=bool)
    free = ~_definite(H)
    E = sparse.vstack((H[free], C), "csr")[:, free]
    E.eliminate_zeros()
    kept = np.ones(E.shape[1], dtype=bool)
    while True:  # an equation of one variable fixes it
        E = E[np.diff(E.indptr) > 0]
        single = np.diff(E.indptr) == 1
        if not single.any():
            break
        kept[E[single].indices] = False
        E = (E @ sparse.diags_array(kept.astype(np.float64))).tocsr()
        E.eliminate_zeros()
    columns = np.flatnonzero(free)[kept]
    E, B = E[:, kept].tocsr(), B[:, columns].tocsr()
    B.eliminate_zeros()
    if not B.nnz:
        return movable
    both = sparse.vstack((E, B), "csr")
    graph = sparse.block_array([[None, both], [both.T, None]])
    _, labels = connected_components(graph, directed=False)
    of_E, of_B, of_x = np.split(labels, np.cumsum((E.shape[0], B.shape[0])))
    counts = np.bincount(of_x, minlength=labels.max() + 1)
    equations = np.bincount(of_E, minlength=counts.size)
    # Parts of one variable, which is in no equation: it can go one way, if all rows agree.
    simple = ((counts == 1) & (equations == 0))[of_B]
    rows, low, high = (np.zeros(counts.size) for _ in range(3))
    entries = B.tocoo()
    np.minimum.at(low, of_x[entries.col], entries.data)
    np.maximum.at(high, of_x[entries.col], entries.data)
    movable[simple] = ((low == 0.0) | (high == 0.0))[of_B[simple]]
    np.add.at(rows, of_B, 1.0)
    for label in np.unique(of_B[~simple & (np.diff(B.indptr) > 0)]).tolist():
        if max(counts[label], equations[label], rows[label]) > FACE_SIZE:
            continue
        at, here, eq = of_x == label, of_B == label, of_E == label
        movable[here] = _negative(E[eq][:, at].toarray(), B[here][:, at].toarray())
    return movable


def _definite(H: Any) -> Mask:
    """(n,) variables in which H is positive definite beyond doubt: where Hd = 0, these are 0."""
    diagonal = H.diagonal()
    definite: Mask = np.zeros(diagonal.size, dtype=bool)
    if not H.nnz:
        return definite
    count, labels = connected_components(H, directed=False)
    sizes = np.bincount(labels, minlength=count)
    definite[:] = (sizes[labels] == 1) & (diagonal > 0.0)
    for label in np.flatnonzero((sizes > 1) & (sizes <= 2 * FACE_SIZE)).tolist():
        at = np.flatnonzero(labels == label)
        definite[at] = (
            diagonal[at].min() > 0.0 and definite_factor(H[at][:, at].toarray()) is not None
        )
    return definite


def _negative(E: Floats, B: Floats) -> Mask:
    """The same for small dense matrices, and no H."""
    scale = np.maximum(np.abs(E).max(axis=0, initial=0.0), np.abs(B).max(axis=0, initial=0.0))
    scale[scale == 0.0] = 1.0
    E, B = _unit(E / scale), _unit(B / scale)
    negative = np.zeros(len(B), dtype=bool)
    left = np.arange(len(B))
    while left.size:
        # Rows that do not move at all along what is left.
        B_left = B[left] @ _null_space(E)
        moves = np.linalg.norm(B_left, axis=1) > STRICT
        left, B_left = left[moves], _unit(B_left[moves])
        if not left.size:
            break
        stuck = _blocked(B_left)
        if not stuck.any():
            negative[left] = True
            break
        E = np.vstack((E, B[left[stuck]]))
        left = left[~stuck]
    return negative


def _blocked(B: Floats) -> Mask:
    """Rows that cannot be negative where Bc <= 0: those in a sum of rows that is 0.

    The nearest point to (1, ..., 1) of the cone of such sums, w >= 0 and B'w = 0, is
    w = 1 + Bc + y, where y >= 0 makes it smallest. Where it is 0, Bc <= -1 in all rows.
    """
    from scipy.optimize import nnls

    target = -np.ones(len(B))
    if (B @ np.linalg.lstsq(B, target, rcond=None)[0]).max() < -0.5:
        return np.zeros(len(B), dtype=bool)
    U, values, _ = np.linalg.svd(B, full_matrices=False)
    U = U[:, values > NULL * values[0]]
    project = np.eye(len(B)) - U @ U.T
    try:
        y, _ = nnls(project, project @ target)
    except RuntimeError:  # too many iterations
        return np.ones(len(B), dtype=bool)
    weights = project @ (y - target)
    blocked: Mask = weights > STRICT
    return blocked


def _unit(rows: Floats) -> Floats:
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, size, out=np.zeros_like(rows), where=size > 0.0)


def _null_space(E: Floats) -> Floats:
    """An orthonormal basis (n, r) of where the unit rows of E are 0."""
    if not len(E):
        return np.eye(E.shape[1])
    _, values, V = np.linalg.svd(E, full_matrices=True)
    rank = int(np.count_nonzero(values > NULL * max(E.shape) * values[0]))
    return V[rank:].T
