"""CVXPY problems as ffoadapt layers: the plugin's light half, which imports no cvxpy."""

from __future__ import annotations

from ffoadapt import ModelerSpec, hookimpl

__all__ = ["ffoadapt_register_modelers"]


@hookimpl
def ffoadapt_register_modelers() -> list[ModelerSpec]:
    """The modeler for `cvxpy.Problem`."""
    return [
        ModelerSpec(
            "cvxpy",
            load="ffoadapt_cvxpy._modeler:CvxpyModeler",
            requires=("cvxpy",),
            modules=("cvxpy",),
        )
    ]
