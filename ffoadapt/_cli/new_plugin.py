"""``ffoadapt new-plugin``: a working plugin under a name of one's own.

The files are those of plugins/_template (a solver) and plugins/_template_KIND, in which the word
"template" stands for the name and for nothing else. Wheels carry them inside of ffoadapt/.
"""

from __future__ import annotations

import argparse
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from .._exceptions import OptionError, PluginError
from .._plugins.loading import KINDS
from .._plugins.registry import RESERVED, registry

__all__ = ["add", "create", "template_directory"]

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
PACKAGE = Path(__file__).resolve().parents[1]


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "new-plugin",
        help="start a plugin from a working, tested one",
        description="Write DIRECTORY/ffoadapt-NAME: a working plugin to start from.",
    )
    parser.add_argument("name", metavar="NAME", help="the name that users will give: solver=NAME")
    parser.add_argument("--kind", choices=tuple(KINDS), default="solver", help="kind of plugin")
    parser.add_argument(
        "--directory", type=Path, default=Path(), help="where to put it (default: here)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the plugin and say what comes next."""
    target = create(options.name, options.directory, options.kind)
    print(f"created {target}. Next:")
    print(f"  pip install -e '{target}[test]'")
    if options.kind == "solver":
        print(f"  ffoadapt check {options.name}")
    print(f"  (cd {target} && pytest)")
    print(f"  {target / 'README.md'} says what to change")
    return 0


def create(name: str, directory: Path, kind: str = "solver") -> Path:
    """Write ``directory/ffoadapt-name``, a plugin of that kind, and return it.

    Raises
    ------
    OptionError
        The name is not allowed or taken, or the directory is there already.
    """
    _check_name(name, kind)
    target = directory / f"ffoadapt-{name}"
    if target.exists():
        raise OptionError(f"{target} exists already; remove it, or choose another name")
    source = template_directory(kind)
    try:
        for path in sorted(source.rglob("*")):
            relative = path.relative_to(source)
            if path.is_dir() or not _is_source(relative):
                continue
            copy = target / _renamed(relative.as_posix(), name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(_renamed(path.read_text(encoding="utf-8"), name), encoding="utf-8")
    except BaseException:  # a full disk: half of a plugin is none
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target


def template_directory(kind: str = "solver") -> Path:
    """Where the files are: in the installed package, or in the repository that it runs from."""
    folder = "_template" if kind == "solver" else f"_template_{kind}"
    for candidate in (PACKAGE / folder, PACKAGE.parent / "plugins" / folder):
        if (candidate / "pyproject.toml").is_file():
            return candidate
    raise PluginError(
        f"the files to start from are not where ffoadapt is installed ({PACKAGE}); reinstall it: "
        "pip install --force-reinstall --no-deps ffoadapt"
    )


def _check_name(name: str, kind: str) -> None:
    if not NAME.fullmatch(name):
        close = re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("ffoadapt")).strip(
            "-0123456789"
        )
        hint = f", e.g. {close!r}" if NAME.fullmatch(close) else ""
        raise OptionError(
            f"{name!r} cannot name a plugin; expected lowercase letters and digits, words joined "
            f"by single hyphens, a letter first{hint}"
        )
    if name.startswith("ffoadapt-"):
        raise OptionError(
            f"{name!r} would give the distribution ffoadapt-{name}; leave the prefix out: "
            f"{name.removeprefix('ffoadapt-')!r}"
        )
    if name in RESERVED.get(kind, ()):
        raise OptionError(
            f"{name!r} cannot name a {kind}: {kind}={name!r} leaves the choice to ffoadapt"
        )
    taken = next((p for p in registry.listing() if (p.kind, p.name) == (kind, name)), None)
    if taken is not None:
        raise OptionError(
            f"the {kind} name {name!r} is taken by {taken.distribution} {taken.version}; "
            "choose another one"
        )
    try:
        version = metadata.version(f"ffoadapt-{name}")
    except metadata.PackageNotFoundError:
        return
    raise OptionError(f"ffoadapt-{name} {version} is installed already; choose another name")


def _is_source(relative: Path) -> bool:
    """Whether a file belongs to the plugin, and is not what a tool left behind."""
    hidden = any(part.startswith(".") for part in relative.parts)
    return not hidden and "__pycache__" not in relative.parts


def _renamed(text: str, name: str) -> str:
    """``text`` with the three spellings of the name: module, class and the name itself."""
    words = "".join(word.capitalize() for word in name.split("-"))
    for kind in map(str.capitalize, KINDS):
        stem = re.sub(f"{kind}$", "", words, flags=re.IGNORECASE) or words
        text = text.replace(f"Template{kind}", f"{stem}{kind}")
    return (
        text.replace("ffoadapt_template", f"ffoadapt_{name.replace('-', '_')}")
        .replace("TestTemplate", f"Test{words}")
        .replace("template", name)
    )
