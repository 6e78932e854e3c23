"""Of `FrameworkSuite`, the tests of batches: each element has the answer that it has alone."""

from __future__ import annotations

from functools import partial

import numpy as np

from .._program.points import Status
from ._assertions import close, expect
from ._framework_hooks import FrameworkHooks
from ._problems import problems

__all__ = ["BY_NAME", "FORMS", "FrameworkBatches"]

BY_NAME = {problem.name: problem for problem in problems()}
FORMS = {"split": "qp", "box": "box", "cone": "scrambled"}
"""The problem of each form."""


class FrameworkBatches(FrameworkHooks):
    """Batches with one axis, with two, of one element and of none."""

    def test_batch(self, form: str) -> None:
        """A leading axis is a batch; data without one are shared, their gradient is the sum."""
        problem = BY_NAME[FORMS[form]]
        elements = [problem.variant(np.random.default_rng(k), "q")["q"] for k in range(3)]
        P, _, *rest = self._arrays(problem)
        q = self._array(np.stack(elements))
        outputs = self._call(problem, [P, q, *rest])
        for i, element in enumerate(elements):
            for name, seen in zip(outputs._fields, outputs, strict=True):
                exact = self._value(problem, name, q=element)
                close(f"{name} of element {i}", self.to_numpy(seen)[i], exact, 1e-6)
        grads = self.gradient(partial(self._number, problem), [P, q, *rest])
        single = [self._vjp(problem, q=element) for element in elements]
        for datum, grad in zip(problem.data, grads, strict=True):
            parts = [getattr(vjp, datum) for vjp in single]
            exact = np.stack(parts) if datum == "q" else sum(parts)
            close(f"the gradient of {datum}", self.to_numpy(grad), exact, 1e-6)

    def test_batch_of_one(self, form: str) -> None:
        """A batch of one stays a batch, also in gradients."""
        problem = BY_NAME[FORMS[form]]
        P, q, *rest = self._arrays(problem)
        q = self._array(problem.data["q"][None])
        for name, seen in self._call(problem, [P, q, *rest])._asdict().items():
            close(name, self.to_numpy(seen), self._value(problem, name)[None], 1e-6)
        grad = self.to_numpy(self.gradient(partial(self._number, problem), [P, q, *rest])[1])
        close("the gradient of q", grad, self._vjp(problem).q[None], 1e-6)

    def test_batch_of_none(self, form: str) -> None:
        """An empty batch gives empty outputs, and no gradient to what it shares."""
        problem = BY_NAME[FORMS[form]]
        P, q, *rest = self._arrays(problem)
        q = self._array(np.zeros((0, *problem.data["q"].shape)))
        for name, seen in self._call(problem, [P, q, *rest])._asdict().items():
            exact = self._value(problem, name)
            close(name, self.to_numpy(seen), np.zeros((0, *exact.shape)), 0.0)
        grads = self.gradient(partial(self._number, problem), [P, q, *rest])
        close("the gradient of P", self.to_numpy(grads[0]), 0.0 * problem.data["P"], 0.0)
        expect(self.to_numpy(grads[1]).shape == q.shape, "the gradient of q has another shape")

    def test_status(self, form: str) -> None:
        """What is returned says how the solve went, whatever the framework does in between."""
        problem = BY_NAME[FORMS[form]]
        outputs = self._call(problem, self._arrays(problem))
        expect(outputs.status is Status.OPTIMAL, f"the status is {outputs.status}")
        P, q, *rest = self._arrays(problem)
        q = self._array(np.stack([problem.data["q"]] * 2))
        status = self._call(problem, [P, q, *rest]).status
        expect(status == [Status.OPTIMAL] * 2, f"the status of a batch of two is {status}")

    def test_two_batch_axes(self) -> None:
        """Batch axes may be several, and 1 where another argument has more."""
        problem = BY_NAME["qp"]
        q = np.stack([problem.variant(np.random.default_rng(k), "q")["q"] for k in range(2)])
        P, _, G, h, *rest = self._arrays(problem)
        h = self._array(np.stack([problem.data["h"], problem.data["h"] + 0.01])[:, None])
        outputs = self._call(problem, [P, self._array(q), G, h, *rest])
        seen = self.to_numpy(outputs.x)
        exact = [
            [self._value(problem, "x", q=v, h=problem.data["h"] + move) for v in q]
            for move in (0.0, 0.01)
        ]
        close("x", seen, np.array(exact), 1e-6)
