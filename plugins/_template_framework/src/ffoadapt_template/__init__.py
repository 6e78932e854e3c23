"""Registers the framework; imports it only at first use."""

from __future__ import annotations

from ffoadapt import FrameworkSpec, hookimpl

__all__ = ["ffoadapt_register_frameworks"]


@hookimpl
def ffoadapt_register_frameworks() -> list[FrameworkSpec]:
    """Arrays that remember how they came about."""
    return [
        FrameworkSpec(
            "template",
            load="ffoadapt_template._framework:TemplateFramework",
            modules=("ffoadapt_template",),  # the root packages of its array types
            mixes_with=("numpy",),  # NumPy arrays in the same call are constants
        )
    ]
