"""The six cones of a canonical program, one file each behind one interface."""

from __future__ import annotations

from ffoadapt._cones._base import Cone, GhostRows
from ffoadapt._cones._exponential import ExponentialCone
from ffoadapt._cones._nonnegative import NonnegativeCone
from ffoadapt._cones._power import PowerCone
from ffoadapt._cones._psd import PSDCone, curvatures, smat, svec
from ffoadapt._cones._second_order import SecondOrderCone
from ffoadapt._cones._zero import ZeroCone

__all__ = [
    "Cone",
    "ExponentialCone",
    "GhostRows",
    "NonnegativeCone",
    "PSDCone",
    "PowerCone",
    "SecondOrderCone",
    "ZeroCone",
    "curvatures",
    "smat",
    "svec",
]
