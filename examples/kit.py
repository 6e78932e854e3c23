"""What the examples of learning share: the two frameworks, a progress bar, a table."""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ffoadapt.bilevel import BilevelResult, minimize


class Torch:
    """The lines that know torch."""

    def __init__(self) -> None:
        import torch

        self.xp, self.sigmoid = torch, torch.sigmoid

    def array(self, value: Any) -> Any:
        return self.xp.tensor(np.asarray(value, dtype=np.float64))

    def integers(self, value: Any) -> Any:
        return self.xp.tensor(np.asarray(value))

    def logsumexp(self, array: Any) -> Any:
        return self.xp.logsumexp(array, -1)

    def clip(self, array: Any, low: float | None, high: float | None = None) -> Any:
        return self.xp.clamp(array, low, high)

    def ndtr(self, array: Any) -> Any:
        return self.xp.special.ndtr(array)

    def constant(self, array: Any) -> Any:
        return array.detach()

    def adam(self, rate: float) -> Any:
        return lambda parameters: self.xp.optim.Adam(parameters, lr=rate)

    def fit(self, loss: Any, parameters: dict[str, Any], rate: float, steps: int) -> dict[str, Any]:
        """The parameters after Adam's steps on ``loss(parameters)``."""
        live = {name: a.clone().requires_grad_() for name, a in parameters.items()}
        optimizer = self.xp.optim.Adam(live.values(), lr=rate)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(live).backward()
            optimizer.step()
        return {name: a.detach() for name, a in live.items()}


class Jax:
    """The lines that know JAX."""

    def __init__(self) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)
        self.xp, self.jax, self.sigmoid = jax.numpy, jax, jax.nn.sigmoid

    def array(self, value: Any) -> Any:
        return self.xp.array(np.asarray(value, dtype=np.float64))

    def integers(self, value: Any) -> Any:
        return self.xp.array(np.asarray(value))

    def logsumexp(self, array: Any) -> Any:
        return self.jax.nn.logsumexp(array, -1)

    def clip(self, array: Any, low: float | None, high: float | None = None) -> Any:
        return self.xp.clip(array, low, high)

    def ndtr(self, array: Any) -> Any:
        return self.jax.scipy.special.ndtr(array)

    def constant(self, array: Any) -> Any:
        return self.jax.lax.stop_gradient(array)

    def adam(self, rate: float) -> Any:
        import optax

        return optax.adam(rate)

    def fit(self, loss: Any, parameters: dict[str, Any], rate: float, steps: int) -> dict[str, Any]:
        """The parameters after Adam's steps on ``loss(parameters)``."""
        optimizer = self.adam(rate)

        @self.jax.jit
        def step(parameters: Any, state: Any) -> Any:
            updates, state = optimizer.update(self.jax.grad(loss)(parameters), state)
            return {name: a + updates[name] for name, a in parameters.items()}, state

        state = optimizer.init(parameters)
        for _ in range(steps):
            parameters, state = step(parameters, state)
        return parameters


FRAMEWORKS = {"torch": Torch, "jax": Jax}


def arguments(text: str, picture: str) -> argparse.ArgumentParser:
    """The options that every example has."""
    parser = argparse.ArgumentParser(description=text.partition("\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--output", type=Path, default=Path(picture), help="where the picture goes")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the steps: less for a quick look"
    )
    return parser


class Bars:
    """A bar for each run, with rich where it is installed."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def run(
        self, name: str, upper: Any, lower: Any, x: Any, y: Any, every: int = 1, **options: Any
    ) -> Any:
        """`minimize`, timed: the result, and x and y as NumPy after each step (or after some)."""
        path: list[tuple[Any, Any]] = []
        task = None if self._bar is None else self._bar.add_task(name, total=options["steps"])

        def step(state: Any, record: Any) -> None:
            if state.step % every == 0:
                path.append((copied(state.x), copied(state.y)))
            if task is not None and state.step % 20 == 0:
                self._bar.update(task, completed=state.step)

        began = time.perf_counter()
        result: BilevelResult = minimize(upper, lower, x, y, callback=step, **options)
        seconds = time.perf_counter() - began
        if task is not None:
            self._bar.update(task, completed=options["steps"])
        return result, path, seconds


def copied(tree: Any) -> Any:
    """An array, or a dict of them, as NumPy."""
    if isinstance(tree, dict):
        return {name: np.array(array) for name, array in tree.items()}
    return None if tree is None else np.array(tree)


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress of the runs inside."""
    if importlib.util.find_spec("rich") is None:
        yield Bars(None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:36}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        yield Bars(bar)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns, the first aligned to the left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, ["-" * w for w in widths], *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
