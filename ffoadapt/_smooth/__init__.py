"""Nonlinear programs that are given as functions: solved by any solver, differentiated by first
derivatives alone.

    minimize g(th, y)  subject to  h(th, y) <= 0,  e(th, y) = 0,  lo(th) <= y <= hi(th)
    L(th, y, mu) = g + z_ineq'h + z_eq'e + z_lower'(lo - y) + z_upper'(y - hi)

with z_ineq, z_lower, z_upper >= 0. A user's functions become one function of (y, weights, leaves)
(`functions`, `model`), which solvers see as a `SmoothForm` (`form`, `solvers`). What one returns is
a `place` with its `evaluation` and `duals`, judged (`solving`) and polished (`polish`). The `ghost`
problem there, with the `curvature` as a matrix or by `krylov` methods, differentiates it: `oracle`,
with what `refinement` leaves. `function` batches this for the frameworks, `layer` is what users
call.
"""

__all__: list[str] = []
