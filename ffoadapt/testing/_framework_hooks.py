"""What `FrameworkSuite` asks of its subclass, and the small things that its tests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._layers.cone_program import solve
from .._layers.matrices import box_qp, cone_program, qp
from .._layers.result import Result
from .._plugins.solver import Solver
from .._runtime.text import told
from .._types import Floats
from ._assertions import WithWaivers
from ._problem import Problem
from ._reference import ReferenceSolver
from ._subject import CheckFailure, CheckSkipped

__all__ = ["FrameworkHooks"]


class FrameworkHooks(WithWaivers):
    """The base of `FrameworkSuite`."""

    framework: ClassVar[str]
    dtypes: ClassVar[Sequence[str]] = ("float32", "float64")
    devices: ClassVar[Sequence[Any]] = ()
    solver: ClassVar[str | Solver | type[Solver]] = ReferenceSolver

    # -- hooks: what only the framework knows

    def array(self, value: NDArray[Any], dtype: str) -> Any:
        """The framework's array with these numbers."""
        raise NotImplementedError("array(value, dtype) is to be written by the suite's subclass")

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """The numbers of an array, without gradient."""
        raise NotImplementedError("to_numpy(array) is to be written by the suite's subclass")

    def gradient(self, function: Callable[..., Any], arrays: Sequence[Any]) -> Sequence[Any]:
        """The gradients of ``function(*arrays)``, a number, with respect to each array."""
        raise CheckSkipped("the framework has no automatic differentiation")

    def sparse(self, rows: Any, columns: Any, values: Any, shape: tuple[int, int]) -> Any:
        """The framework's sparse matrix of these entries; ``values`` is an array of its own."""
        raise CheckSkipped("the framework has no sparse matrices")

    def to_device(self, array: Any, device: Any) -> Any:
        """The array on that device."""
        raise NotImplementedError("to_device(array, device) is needed where devices are listed")

    def device_of(self, array: Any) -> Any:
        """Where an array is."""
        return array.device

    def dtype_of(self, array: Any) -> str:
        """The dtype of an array, by the name that NumPy gives it."""
        return str(array.dtype).rpartition(".")[-1]

    def inner(self, a: Any, b: Any) -> Any:
        """sum a * b, differentiable."""
        return (a * b).sum()

    # -- helpers

    def _array(self, value: NDArray[Any], dtype: str = "float64") -> Any:
        return self.array(value, dtype)

    def _arrays(self, problem: Problem, dtype: str = "float64") -> list[Any]:
        return [None if v is None else self._array(v, dtype) for v in problem.data.values()]

    def _call(self, problem: Problem, arrays: Sequence[Any], **more: Any) -> Any:
        if problem.form == "cone":
            P, q, A, b = arrays
            return cone_program(P, q, A, b, problem.cones, solver=self.solver, **more)
        function: Any = qp if problem.form == "split" else box_qp
        return function(*arrays, solver=self.solver, **more)

    def _number(self, problem: Problem, *arrays: Any) -> Any:
        """A number that depends on all outputs."""
        return self._weighted(self._call(problem, arrays))

    def _weighted(self, outputs: Any) -> Any:
        parts = [
            self.inner(out, self._array(np.broadcast_to(_weight(out.shape[-1]), out.shape).copy()))
            for out in outputs
            if out.shape[-1]
        ]
        return sum(parts[1:], parts[0])

    def _solved(self, problem: Problem, **changes: Any) -> Result:
        return solve(problem.program(**changes), self.solver)

    def _value(self, problem: Problem, name: str, **changes: Any) -> Floats:
        value: Floats = getattr(self._solved(problem, **changes), name)
        return value

    def _vjp(self, problem: Problem, **changes: Any) -> Any:
        result = self._solved(problem, **changes)
        names = [name for name, _ in result.program.model.outputs]
        sizes = {name: getattr(result, name).size for name in names}
        cotangents: Any = {name: _weight(size) for name, size in sizes.items() if size}
        return result.vjp(**cotangents)

    def _raises(self, kind: type[Exception], problem: Problem, arrays: Sequence[Any]) -> None:
        try:
            self._call(problem, arrays)
        except kind:
            return
        except Exception as error:
            raise CheckFailure(f"expected ffoadapt.{kind.__name__}, got {told(error)}") from error
        raise CheckFailure(f"expected ffoadapt.{kind.__name__}, and nothing was raised")


def _weight(size: int) -> Floats:
    """Fixed weights of an output's entries, none of them zero, no two alike."""
    made: Floats = np.cos(np.arange(size)) + 0.1
    return made
