"""What the report of every gradient costs: training steps with it and without, in turn.

``layer`` is a torch layer made of a cvxpy problem with `Layer.on_report` set to a function that
counts the verdicts; ``qp`` is `solve`, `Result.vjp` and `Result.report` in NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from measure import Contestant, median_ratio, race
from problems import cvxpy_problem, dense_qp

__all__ = ["measure"]


def measure(quick: bool) -> Iterator[dict[str, Any]]:
    """{"what", "n", "batch", "solver", "ms" without, "report_ms", "share" in percent}."""
    layers = [("qp", 10, 1), ("qp", 50, 1), ("qp", 100, 1), ("qp", 200, 1)]
    layers += [("qp", 10, 256), ("soc", 50, 1), ("entropy", 50, 1), ("sdp", 10, 1)]
    for kind, n, batch in layers[:2] if quick else layers:
        yield _facts(f"layer, {kind}", n, batch, *_layers(kind, n, batch), quick)
    programs = [(10, "daqp"), (100, "daqp"), (100, "piqp"), (100, "osqp"), (100, "clarabel")]
    for n, solver in programs[:1] if quick else programs:
        yield _facts("qp", n, 1, *_programs(n, solver), quick, solver=solver)


def _facts(
    what: str,
    n: int,
    batch: int,
    without: Contestant,
    given: Contestant,
    quick: bool,
    **more: str,
) -> dict[str, Any]:
    timings = race([without, given], 1.0 if quick else 6.0, rounds=2000)
    plain, asked = timings["without"], timings["with"]
    ratio, alone = median_ratio(asked, plain), plain.median() * 1e3
    return {
        **{"what": what, "n": n, "batch": batch, **more, "ms": alone},
        "report_ms": (ratio - 1.0) * alone,
        "share": 100.0 * (ratio - 1.0),
    }


def _layers(kind: str, n: int, batch: int) -> tuple[Contestant, Contestant]:
    import torch

    import ffoadapt

    problem, parameters, variable, values = cvxpy_problem(kind, n)
    leaves = [torch.tensor(v) for v in values]
    if batch > 1:
        leaves = [leaf.expand(batch, *leaf.shape).clone() for leaf in leaves]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    plain, reporting = (ffoadapt.Layer(problem, parameters, [variable]) for _ in range(2))
    seen: dict[str, int] = {}

    def count(reports: Any) -> None:
        for verdict in reports.verdicts:
            seen[verdict] = seen.get(verdict, 0) + 1

    reporting.on_report = count

    def contestant(name: str, layer: Any) -> Contestant:
        def backward(x: Any) -> Any:
            return torch.autograd.grad(x.sum(), leaves)

        return Contestant(name, lambda: layer(*leaves)[0], backward)

    return contestant("without", plain), contestant("with", reporting)


def _programs(n: int, solver: str) -> tuple[Contestant, Contestant]:
    import ffoadapt

    program, v = ffoadapt.ConeProgram.from_split(*dense_qp(n).data), np.ones(n)

    def forward() -> Any:
        return ffoadapt.solve(program, solver)

    def with_report(result: Any) -> None:
        result.vjp(x=v)
        result.report()

    without = Contestant("without", forward, lambda result: result.vjp(x=v))
    return without, Contestant("with", forward, with_report)
