"""Registers the executor; imports it only at first use."""

from __future__ import annotations

from ffoadapt import ExecutorSpec, hookimpl

__all__ = ["ffoadapt_register_executors"]


@hookimpl
def ffoadapt_register_executors() -> list[ExecutorSpec]:
    """Shards of a batch in a pool of threads."""
    return [ExecutorSpec("template", load="ffoadapt_template._executor:TemplateExecutor")]
