"""Registers torch; imports it only at first use."""

from typing import Any

from ffoadapt import FrameworkSpec, hookimpl

__all__ = ["CvxpyLayer", "prepare_compile"]


@hookimpl
def ffoadapt_register_frameworks() -> list[FrameworkSpec]:
    """torch tensors, autograd, torch.func."""
    return [
        FrameworkSpec(
            "torch",
            load="ffoadapt_torch._framework:TorchFramework",
            requires=("torch",),
            modules=("torch",),
            mixes_with=("numpy",),
        )
    ]


def prepare_compile() -> None:
    """Let `torch.compile` take ``ffoadapt.qp``, ``box_qp``, ``cone_program`` and `Layer` whole.

    Once in a process, before compiled code runs; imports torch's compiler (seconds). Without it
    they are graph breaks, with the same numbers. `CvxpyLayer` does not need it.
    """
    from ._compiled import prepare

    prepare()


def __getattr__(name: str) -> Any:
    if name == "CvxpyLayer":
        from ._module import CvxpyLayer

        return CvxpyLayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
