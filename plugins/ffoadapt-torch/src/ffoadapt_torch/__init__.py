"""Registers torch; imports it only at first use."""

from typing import Any

from ffoadapt import FrameworkSpec, hookimpl

__all__ = ["CvxpyLayer"]


@hookimpl
def ffoadapt_register_frameworks() -> list[FrameworkSpec]:
    """torch tensors, autograd, torch.func."""
    return [
        FrameworkSpec(
            "torch",
            load="ffoadapt_torch._framework:TorchFramework",
            requires=("torch",),
            modules=("torch",),
        )
    ]


def __getattr__(name: str) -> Any:
    if name == "CvxpyLayer":
        from ._module import CvxpyLayer

        return CvxpyLayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
