"""Registers Ray; imports it only at first use."""

from typing import Any

from ffoadapt import ExecutorSpec, hookimpl

__all__ = ["RayExecutor"]


@hookimpl
def ffoadapt_register_executors() -> list[ExecutorSpec]:
    """The workers of a Ray cluster."""
    return [ExecutorSpec("ray", load="ffoadapt_ray._executor:RayExecutor", requires=("ray",))]


def __getattr__(name: str) -> Any:
    if name == "RayExecutor":
        from ._executor import RayExecutor

        return RayExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
