"""Registers JAX; imports it only at first use."""

from typing import Any

from ffoadapt import FrameworkSpec, hookimpl

__all__ = ["CvxpyLayer"]


@hookimpl
def ffoadapt_register_frameworks() -> list[FrameworkSpec]:
    """JAX arrays and transformations."""
    return [
        FrameworkSpec(
            "jax",
            load="ffoadapt_jax._framework:JaxFramework",
            requires=("jax",),
            modules=("jax", "jaxlib"),
            mixes_with=("numpy",),
        )
    ]


def __getattr__(name: str) -> Any:
    if name == "CvxpyLayer":
        from ._module import CvxpyLayer

        return CvxpyLayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
