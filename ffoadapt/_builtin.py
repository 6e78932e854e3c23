"""What comes with the core, registered through the hooks that every other plugin uses."""

from __future__ import annotations

from ._interfaces import ExecutorSpec, FrameworkSpec
from .hookspecs import hookimpl

__all__: list[str] = []


@hookimpl
def ffoadapt_register_frameworks() -> list[FrameworkSpec]:
    """NumPy."""
    return [
        FrameworkSpec("numpy", load="ffoadapt._numpy:NumpyFramework", modules=("numpy", "scipy"))
    ]


@hookimpl
def ffoadapt_register_executors() -> list[ExecutorSpec]:
    """One thread, or one per core."""
    return [
        ExecutorSpec("serial", load="ffoadapt._executors:SerialExecutor"),
        ExecutorSpec("threads", load="ffoadapt._executors:ThreadsExecutor"),
    ]
