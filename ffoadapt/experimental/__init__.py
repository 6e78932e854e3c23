"""What adapters of a few solvers need: documented and tested, but it may change in any release.

`Solutions` is what `ffoadapt.Solver.solve_batch` returns. The rest is for solvers with a C
interface: `call_each` calls a C function for every element of a batch, `LeastDistance` is the
form of a quadratic program that dual active-set methods work on, and `elements` cuts such batches.
`BoxOracle` is the oracle of dense programs on the arrays of any library, for frameworks in which a
solver is traced or stays on a device; its systems are `BoxGhost`s. It, and solvers that are written
once for all libraries, ask the `Algebra` of a library for what its array namespace lacks:
`NumpyAlgebra` is NumPy's, `algebra_of` finds it for an array.
`Keyed` is for what a framework compiles: its graphs carry keys where they take no objects.
A name that proves useful to several solvers moves to `ffoadapt`, with an entry in the changelog.
"""

from __future__ import annotations

from .._kernel.algebra import Algebra, NumpyAlgebra
from .._kernel.boxes import BoxGhost, BoxOracle
from .._plugins.frameworks import algebra_of
from .._program.points import Solutions
from ._call_each import call_each
from ._keyed import Keyed
from ._least_distance import LeastDistance, elements

__all__ = [
    "Algebra",
    "BoxGhost",
    "BoxOracle",
    "Keyed",
    "LeastDistance",
    "NumpyAlgebra",
    "Solutions",
    "algebra_of",
    "call_each",
    "elements",
]
