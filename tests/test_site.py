"""The site needs no network, has a picture for each page of the gallery, and can be cited."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ffoadapt

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_what_pages_load_is_part_of_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in text
    listed = [
        line.strip()[2:]
        for part in re.findall(r"^extra_(?:css|javascript):\n((?:  - .*\n)+)", text, re.MULTILINE)
        for line in part.splitlines()
    ]
    assert len(listed) == 4
    for name in listed:
        assert (DOCS / name).is_file(), name


def test_the_fonts_of_formulas_are_there() -> None:
    folder = DOCS / "assets" / "katex"
    names = re.findall(r"url\((.*?)\)", (folder / "katex.min.css").read_text())
    assert len(names) >= 20
    for name in names:
        assert (folder / name).is_file(), name
    assert "MIT" in (folder / "LICENSE").read_text()


@pytest.mark.parametrize("page", sorted(DOCS.glob("gallery-*.md")), ids=lambda page: page.stem)
def test_a_page_of_the_gallery_shows_the_picture_that_it_draws(page: Path) -> None:
    text = page.read_text()
    assert f'savefig("{page.stem}.svg"' in text
    (shown,) = re.findall(r"^!\[(.+)\]\(assets/(.+)\)$", text, re.MULTILINE)
    assert shown[1] == f"{page.stem}.svg" and len(shown[0]) > 20
    assert (DOCS / "assets" / shown[1]).read_text().lstrip().startswith("<?xml")
    assert f"]({page.name})" in (DOCS / "gallery.md").read_text()
    assert f": {page.name}" in (ROOT / "mkdocs.yml").read_text()


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    assert len(targets) > 15
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_citations_have_the_version() -> None:
    version = ffoadapt.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"version = {{{version}}}" in (DOCS / "cite.md").read_text()
