"""``ffoadapt plugins``: what is installed, what it can do, and what keeps it from working."""

from __future__ import annotations

import argparse
from typing import Any

from .._layers.inspection import plugins
from .._plugins.records import SolverSpec
from .._plugins.registry import PluginInfo
from .console import as_json, print_notes, print_table

__all__ = ["add"]

KINDS = ("solver", "framework", "modeler", "executor", "algorithm")

_STATES = {"missing": "missing dependency"}
_STYLES = {
    "ready": "green",
    "missing dependency": "yellow",
    "failed": "red",
    "duplicate": "red",
    "disabled": "dim",
}
_CONSTRAINTS = ("bounds", "inequalities", "equalities")
_MATRICES = ("dense", "sparse")
_CONES = ("zero", "nonnegative", "second_order", "psd", "exponential", "power")


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "plugins",
        help="list the installed plugins",
        description="List the installed plugins, the unusable ones with the reason. A plugin that "
        "could not be loaded has no kind and is always listed.",
    )
    parser.add_argument("--kind", choices=KINDS, help="only plugins of this kind")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the listing."""
    rows = [p for p in plugins() if options.kind in (None, p.kind) or p.kind not in KINDS]
    if options.json:
        print(as_json([_record(row) for row in rows]))
        return 0
    print_table(
        ("kind", "name", "state", "distribution", "version", "matrices", "cones"),
        [
            (
                row.kind,
                row.name,
                _STATES.get(row.state, row.state),
                row.distribution,
                row.version,
                _words(row, "matrices", ", "),
                _words(row, "cones", " "),
            )
            for row in rows
        ],
        styles=_STYLES,
    )
    notes = [(f"{r.kind} {r.name} ({r.distribution})", r.detail) for r in rows if r.detail]
    print_notes([*notes, ("kernel", kernel())])
    return 0


def kernel() -> str:
    """Whether the compiled code is in use."""
    from .. import _kernel

    if _kernel.compiled is not None:
        return "compiled kernel in use"
    return (
        "no compiled kernel: the same results, dense programs at a lower speed. It is built where "
        "a C compiler is found at installation"
    )


def _declared(row: PluginInfo, what: str) -> list[str] | None:
    """What the record says; None where it leaves that to the class, which is not imported here."""
    if not isinstance(row.spec, SolverSpec):
        return []
    declared = getattr(row.spec, what)
    known = *_CONES, *_CONSTRAINTS, *_MATRICES
    return None if declared is None else [name for name in known if name in declared]


def _words(row: PluginInfo, what: str, joint: str) -> str:
    declared = _declared(row, what)
    return "as its class says" if declared is None else joint.join(declared)


def _record(row: PluginInfo) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "name": row.name,
        "distribution": row.distribution,
        "version": row.version,
        "state": row.state,
        "detail": row.detail,
        "matrices": _declared(row, "matrices"),
        "cones": _declared(row, "cones"),
    }
