"""Registers the modeler; imports it only at first use."""

from __future__ import annotations

from ffoadapt import ModelerSpec, hookimpl

__all__ = ["ffoadapt_register_modelers"]


@hookimpl
def ffoadapt_register_modelers() -> list[ModelerSpec]:
    """Knapsacks whose values and capacity are parameters."""
    return [
        ModelerSpec(
            "template",
            load="ffoadapt_template._modeler:TemplateModeler",
            modules=("ffoadapt_template",),  # the root packages of its problem types
        )
    ]
