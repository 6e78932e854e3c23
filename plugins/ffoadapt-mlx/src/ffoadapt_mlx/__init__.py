"""Registers MLX; imports it only at first use."""

from ffoadapt import FrameworkSpec, hookimpl

__all__ = ["ffoadapt_register_frameworks"]


@hookimpl
def ffoadapt_register_frameworks() -> list[FrameworkSpec]:
    """MLX arrays and their transformations."""
    return [
        FrameworkSpec(
            "mlx",
            load="ffoadapt_mlx._framework:MlxFramework",
            requires=("mlx",),
            modules=("mlx",),
            mixes_with=("numpy",),
        )
    ]
