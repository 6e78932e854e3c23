"""``ffoadapt compare``: every installed solver on a problem of the user's."""

from __future__ import annotations

import argparse
import contextlib
from importlib import metadata
from pathlib import Path
from typing import Any

from .._exceptions import OptionError
from .._layers.inspection import solvers
from .._plugins.registry import registry
from .._runtime.progress import progress
from .console import as_json, natural, number, print_notes, print_table, seconds
from .measure import Comparison, compare_solvers
from .problem_file import ProblemFile, read_problem

__all__ = ["add"]

_DESCRIPTION = """\
Run every installed solver on a problem and compare status, objective, accuracy, gradients and time.

FILE is an .npz of the arrays P, q, A, b, cones, or P, q, G, h, A, b, or P, q, A, l, u (a sparse
matrix M as M_data, M_indices, M_indptr, M_shape), or a Python file, which is run, that leaves a
cvxpy problem as `problem` with the values of its parameters set, and, if it likes, lists of its
`parameters` and `variables`."""

_STYLES = {
    "optimal": "green",
    "optimal_inaccurate": "yellow",
    "unsupported": "dim",
    "error": "red",
    "unusable": "red",
}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "compare",
        help="run every installed solver on a problem",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help=".npz or .py")
    parser.add_argument(
        "--solver", action="append", metavar="NAME", help="only this one; may be repeated"
    )
    parser.add_argument(
        "--reference", metavar="NAME", help="whose gradient to compare with (the most accurate)"
    )
    parser.add_argument("--tolerance", type=float, help="the tolerance of all solvers (their own)")
    parser.add_argument("--runs", type=_positive, default=5, help="timed runs of each (5)")
    parser.add_argument("--seed", type=natural, default=0, help="draws the cotangent (0)")
    parser.add_argument("--html", type=Path, metavar="OUT", help="also write a page with plots")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare and print; 1 if no solver solved the problem."""
    installed = solvers()
    wanted = [registry.spelled("solver", name) for name in options.solver or ()]
    for name in wanted:
        if name not in installed:
            raise OptionError(
                f"no solver named {name!r} is ready to use; ready: {', '.join(installed)}. "
                "`ffoadapt plugins` tells why others are not"
            )
    names = list(dict.fromkeys(wanted or installed))
    problem = read_problem(options.file)
    with progress(len(names)) as tell:
        comparison = compare_solvers(
            problem,
            names,
            runs=options.runs,
            seed=options.seed,
            options={} if options.tolerance is None else {"tolerance": options.tolerance},
            reference=options.reference and registry.spelled("solver", options.reference),
            tell=tell,
        )
    if options.json:
        print(as_json(_record(problem, comparison, options)))
    else:
        _print(problem, comparison)
    if options.html is not None:
        from .page import write_page

        note = write_page(options.html, problem, comparison, seed=options.seed)
        if not options.json:
            print_notes([("page", str(options.html)), *([("plots", note)] if note else [])])
    return 0 if comparison.solved else 1


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 1")
    return value


def _print(problem: ProblemFile, comparison: Comparison) -> None:
    s = problem.structure
    kind, cones = "dense" if s.dense else "sparse", ", ".join(sorted(s.kinds)) or "none"
    print(f"{problem.path.name}: {s.n} variables, {s.m} rows, {kind}; cones: {cones}\n")
    numbers = ("objective", "KKT", "unpolished", "gradient", "forward", "backward")
    print_table(
        ("solver", "status", *numbers),
        [
            (
                row.solver,
                row.status,
                "-" if row.objective is None else f"{row.objective:.8g}",
                number(row.residual),
                number(row.raw_residual),
                "reference" if row.solver == comparison.reference else number(row.worst),
                seconds(row.forward),
                seconds(row.backward),
            )
            for row in comparison.rows
        ],
        right=numbers,
        styles=_STYLES,
    )
    data = problem.data
    if comparison.others and data:
        print(f"\nrelative difference of the gradient to that of {comparison.reference}:\n")
        columns = [row.solver for row in comparison.others]
        table = [(name, *(number(r.differences[name]) for r in comparison.others)) for name in data]
        print_table(("datum", *columns), table, right=columns)
    missing = "" if data else "the problem has no parameters, so there is none"
    versions = ", ".join(f"{row.solver} {version(row.solver)}" for row in comparison.rows)
    notes = [*comparison.notes, *([("gradient", missing)] if missing else [])]
    print_notes([*notes, ("versions", versions)])


def version(name: str) -> str:
    """That of the package of the solver itself, else that of its plugin; ``-`` where neither is
    installed as a package."""
    spec = registry.specs("solver").get(name)
    packages = metadata.packages_distributions()
    modules = [] if spec is None else spec.requires
    for distribution in (*(d for m in modules for d in packages.get(m, ())), f"ffoadapt-{name}"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return "-"


def _record(
    problem: ProblemFile, comparison: Comparison, options: argparse.Namespace
) -> dict[str, Any]:
    structure = problem.structure
    return {
        "file": str(problem.path),
        "variables": structure.n,
        "rows": structure.m,
        "sparse": not structure.dense,
        "cones": sorted(structure.kinds),
        "seed": options.seed,
        "reference": comparison.reference,
        "solvers": [
            {
                "solver": row.solver,
                "version": version(row.solver),
                "status": row.status,
                "reason": row.reason,
                "objective": row.objective,
                "kkt_residual": row.residual,
                "kkt_residual_before_polish": row.raw_residual,
                "verdict": row.report.verdict if row.report else None,
                "gradient_difference": dict(row.differences),
                "forward_seconds": row.forward,
                "backward_seconds": row.backward,
                "runs": row.runs,
            }
            for row in comparison.rows
        ],
    }
