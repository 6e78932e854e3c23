"""Every hook is documented with its signature, and every public name is somewhere in the docs."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from ffoadapt import hookspecs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "hooks.md"
HOOKS = [name for name in hookspecs.__all__ if name.startswith("ffoadapt_")]


@pytest.mark.parametrize("name", HOOKS)
def test_hook_is_documented(name: str) -> None:
    hook = getattr(hookspecs, name)
    text = PAGE.read_text()
    assert inspect.getdoc(hook)
    assert f"::: ffoadapt.hookspecs.{name}" in text
    returned = str(inspect.signature(hook).return_annotation).removeprefix("Iterable")
    assert f"def {name}() -> list{returned}:" in text


def test_every_spec_of_a_hook_is_a_hook() -> None:
    marked = [name for name in vars(hookspecs) if name.startswith("ffoadapt_")]
    assert sorted(marked) == sorted(HOOKS)


def test_conformance_page_lists_every_check() -> None:
    from ffoadapt.testing import CHECKS, SMOOTH_CHECKS

    page = (PAGE.parent / "conformance.md").read_text()
    listed = [line for line in page.splitlines() if line.startswith("| `")]
    assert listed == [f"| `{check.name}` | {check.about} |" for check in (*CHECKS, *SMOOTH_CHECKS)]
