"""``ffoadapt check``: the conformance checks of an installed solver."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from .._exceptions import OptionError
from .console import as_json, natural, silenced

__all__ = ["add"]


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "check",
        help="run the conformance checks of a solver",
        description="Run the conformance checks of an installed solver: signs, statuses, options, "
        "gradients. Exit code 1 if one fails.",
    )
    parser.add_argument("name", metavar="NAME", help="the name of an installed solver")
    parser.add_argument("--seed", type=natural, default=0, help="draws the problems (default 0)")
    parser.add_argument(
        "--waive",
        action="append",
        default=[],
        metavar="PATTERN=REASON",
        help="skip a check, check-problem, or pattern of these ('*-lp'); may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report; 1 if a check failed."""
    from ..testing import check_solver

    waive = {}
    for waived in options.waive:
        pattern, _, reason = waived.partition("=")
        if not pattern or not reason:
            raise OptionError(f"--waive {waived!r}; expected PATTERN=REASON, such as '*-lp=no LPs'")
        waive[pattern] = reason
    with silenced():
        report = check_solver(options.name, seed=options.seed, waive=waive)
    if options.json:
        results = [asdict(result) for result in report.results]
        print(as_json({"solver": report.solver, "ok": report.ok, "results": results}))
    else:
        print(report)
    return 0 if report.ok else 1
