"""Every public name is documented, once, on a page of docs/reference/."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import ffoadapt
from ffoadapt import experimental
from ffoadapt._solve.settings import Settings, SolveSettings

DOCS = Path(__file__).parents[1] / "docs"
ENTRY = re.compile(r"^::: ffoadapt\.(\S+)$", re.MULTILINE)

PLAIN = {"__version__", "testing"}
"""Names that are no objects to document."""

entries = Counter(
    name
    for page in sorted((DOCS / "reference").glob("*.md"))
    for name in ENTRY.findall(page.read_text())
)


@pytest.mark.parametrize("name", sorted(set(ffoadapt.__all__) - PLAIN))
def test_a_public_name_is_documented_once(name: str) -> None:
    found = entries[name]
    assert found == 1, (
        f"{name} is on {found} pages: write `::: ffoadapt.{name}` on one of docs/reference/*.md, "
        "and a link to it in docs/api.md"
    )
    assert f"[`{name}`](reference/" in (DOCS / "api.md").read_text()
    value: Any = getattr(ffoadapt, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__ and value.__doc__.strip(), f"{name} has no docstring"


@pytest.mark.parametrize("name", experimental.__all__)
def test_an_experimental_name_is_documented_once(name: str) -> None:
    assert entries[f"experimental.{name}"] == 1
    link = f"reference/experimental.md#ffoadapt.experimental.{name})"
    assert link in (DOCS / "api.md").read_text()
    assert inspect.getdoc(getattr(experimental, name))


def test_what_is_documented_exists() -> None:
    for name in entries:
        module, _, rest = name.partition(".")
        assert module in ffoadapt.__all__, name
        assert not rest or hasattr(getattr(ffoadapt, module), rest), name


def test_every_link_of_the_overview_has_its_entry() -> None:
    text = (DOCS / "api.md").read_text()
    for page, name in re.findall(r"\(reference/([\w-]+)\.md#ffoadapt\.([\w.]+)\)", text):
        assert f"::: ffoadapt.{name}\n" in (DOCS / "reference" / f"{page}.md").read_text()


def test_every_setting_is_explained() -> None:
    """Those of the class are those that are taken, each with a paragraph of its own."""
    names = set(SolveSettings.__annotations__)
    assert names == set(Settings.__dataclass_fields__) - {"solver"}
    about = inspect.getdoc(SolveSettings)
    assert about is not None
    for name in names:
        assert re.search(rf"^(\w+, )*{name}(, \w+)*$", about, re.MULTILINE), name
