"""How time grows: exponents of fits in log-log over n, nonzeros and batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import peers
from measure import race
from problems import dense_qp, sparse_qp

__all__ = ["measure"]


def measure(quick: bool) -> Iterator[dict[str, Any]]:
    """{"what", "sizes", "forward" and "backward" in ms, and their exponents}."""
    dense = (50, 100, 200) if quick else (100, 200, 500, 1000)
    batch = (8, 64, 512) if quick else (8, 32, 128, 512, 2048)
    nonzeros = (1_000, 10_000, 30_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    yield _fit("n, dense", dense, lambda n: peers.ours_dense(dense_qp(n), np.ones(n)), quick)
    yield _fit(
        "batch, n = 20", batch, lambda B: peers.ours_dense(dense_qp(20, B), np.ones((B, 20))), quick
    )

    def local(n: int) -> Any:
        return peers.ours_sparse(peers.row_major(sparse_qp(n)), np.ones(n))

    yield _fit("nonzeros, sparse (4.9 a variable)", nonzeros, local, quick)


def _fit(what: str, sizes: tuple[int, ...], make: Any, quick: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"what": what, "sizes": list(sizes), "forward": [], "backward": []}
    for size in sizes:
        timing = race([make(size)], 0.3 if quick else 3.0, slowest=10.0)["ffoadapt"]
        if timing.failure:
            return {**row, "failure": timing.failure}
        for part in ("forward", "backward"):
            row[part].append(timing.median(part) * 1e3)
    for part in ("forward", "backward"):
        slope = np.polyfit(np.log(sizes), np.log(row[part]), 1)[0]
        row[f"{part}_exponent"] = round(float(slope), 2)
    return row
