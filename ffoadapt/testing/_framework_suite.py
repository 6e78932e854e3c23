"""`FrameworkSuite`: what the arrays of a framework must do, as pytest tests. Imports no pytest.

    class TestMine(ffoadapt.testing.FrameworkSuite):
        framework = "mine"

        def array(self, value, dtype): return mine.asarray(value, dtype=dtype)
        def to_numpy(self, array): return array.numpy()
        def gradient(self, function, arrays): return mine.grad(function)(*arrays)

NumPy's own answers and `Result.vjp` are the measure; the solver is the kit's own, exact to 1e-10.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from .._exceptions import ParameterError, ShapeError, SolveError
from .._layers.layer import Layer
from .._plugins.frameworks import find_framework
from .._plugins.registry import registry
from ._assertions import close, expect
from ._declaration_checks import imports_of_registration
from ._framework_batches import BY_NAME, FORMS, FrameworkBatches
from ._subject import CheckFailure, CheckSkipped

__all__ = ["FrameworkSuite"]


class FrameworkSuite(FrameworkBatches):
    """One test for each promise, form and datum; subclass it as ``TestMine``.

    Attributes
    ----------
    framework
        The name it is registered under.
    dtypes
        The dtypes to go through, by the names that NumPy gives them.
    devices
        The devices to go through, as `to_device` takes them.
    solver
        Solves the quadratic programs of this suite.
    waive
        Reasons by the name of a test: not run, shown as skipped.

    Methods to write: `array` and `to_numpy`; `gradient` and `sparse` where the framework has them
    (else their tests are skipped); `to_device` where devices are listed; `dtype_of`, `device_of`
    and `inner` where NumPy's ways do not do.
    """

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """pytest's hook: the parameters of the tests below."""
        wanted = metafunc.fixturenames
        if "datum" in wanted:
            pairs = [(form, datum) for form, name in FORMS.items() for datum in BY_NAME[name].data]
            metafunc.parametrize(("form", "datum"), pairs, ids=["-".join(pair) for pair in pairs])
        elif "form" in wanted:
            metafunc.parametrize("form", list(FORMS))
        if "dtype" in wanted:
            metafunc.parametrize("dtype", list(self.dtypes))
        if "device" in wanted:
            metafunc.parametrize("device", list(self.devices) or [None])

    def test_found_by_type(self) -> None:
        """A call with these arrays is this framework's."""
        framework = find_framework({"q": self._array(np.ones(2))})
        expected = registry.get("framework", self.framework)
        expect(framework is expected, f"arrays belong to {framework!r}, expected {expected!r}")

    def test_lazy_import(self) -> None:
        """Registering and listing it imports neither the vendor nor the adapter."""
        spec = registry.specs("framework")[self.framework]
        heavy = imports_of_registration((*spec.requires, spec.load.partition(":")[0]))
        expect(not heavy, f"listing the plugins imported {', '.join(heavy)}")

    def test_values(self, form: str, dtype: str) -> None:
        """Outputs are NumPy's, in the dtype of the inputs."""
        problem = BY_NAME[FORMS[form]]
        outputs = self._call(problem, self._arrays(problem, dtype))
        for name, seen in zip(outputs._fields, outputs, strict=True):
            returned = self.dtype_of(seen)
            expect(
                returned == dtype, f"{name} is {returned} for {dtype} inputs; the dtype comes back"
            )
            close(name, self.to_numpy(seen), self._value(problem, name), _accuracy(dtype))

    def test_device(self, device: Any) -> None:
        """Outputs are where the inputs are."""
        if device is None:
            raise CheckSkipped("no devices are listed")
        problem = BY_NAME["qp"]
        arrays = [self.to_device(array, device) for array in self._arrays(problem)]
        where = self.device_of(arrays[0])
        for seen in self._call(problem, arrays):
            place = self.device_of(seen)
            expect(place == where, f"an output is on {place}, the inputs are on {where}")
        grads = self.gradient(partial(self._number, problem), arrays)
        for grad in grads:
            place = self.device_of(grad)
            expect(place == where, f"a gradient is on {place}, the inputs are on {where}")

    def test_gradient(self, form: str, datum: str) -> None:
        """The gradient of one datum, the others constant, is that of `Result.vjp`."""
        problem = BY_NAME[FORMS[form]]
        arrays, k = self._arrays(problem), list(problem.data).index(datum)

        def function(array: Any) -> Any:
            return self._number(problem, *arrays[:k], array, *arrays[k + 1 :])

        seen = self.to_numpy(self.gradient(function, [arrays[k]])[0])
        close(f"the gradient of {datum}", seen, getattr(self._vjp(problem), datum), 1e-6)

    def test_gradient_of_all(self, form: str) -> None:
        """All gradients at once are those of `Result.vjp`."""
        problem = BY_NAME[FORMS[form]]
        grads = self.gradient(partial(self._number, problem), self._arrays(problem))
        for datum, seen in zip(problem.data, grads, strict=True):
            exact = getattr(self._vjp(problem), datum)
            close(f"the gradient of {datum}", self.to_numpy(seen), exact, 1e-6)

    def test_gradient_dtype(self, dtype: str) -> None:
        """A gradient has the dtype of its datum."""
        problem = BY_NAME["qp"]
        for array in self.gradient(partial(self._number, problem), self._arrays(problem, dtype)):
            returned = self.dtype_of(array)
            expect(returned == dtype, f"a gradient is {returned} for {dtype} inputs")

    def test_two_calls_in_one_graph(self) -> None:
        """Calls do not share state: the gradient of f(q) + f(2q) is the sum of both gradients."""
        problem = BY_NAME["qp"]
        P, q, *rest = self._arrays(problem)

        def function(array: Any) -> Any:
            first = self._number(problem, P, array, *rest)
            return first + self._number(problem, P, 2.0 * array, *rest)

        seen = self.to_numpy(self.gradient(function, [q])[0])
        twice = self._vjp(problem, q=2.0 * problem.data["q"])
        close("the gradient of q", seen, self._vjp(problem).q + 2.0 * twice.q, 1e-6)

    def test_sparse(self) -> None:
        """Sparse matrices of the framework: NumPy's values, gradients on the pattern."""
        problem = BY_NAME["qp_sparse"]
        entries = {k: v.tocoo() for k, v in problem.data.items() if sparse.issparse(v)}
        vectors = {k: self._array(v) for k, v in problem.data.items() if k not in entries}

        def solved(*values: Any) -> Any:
            made = {
                k: self.sparse(coo.row, coo.col, v, coo.shape)
                for (k, coo), v in zip(entries.items(), values, strict=True)
            }
            data = {**made, **vectors}
            return self._call(problem, [data[k] for k in problem.data])

        values = [self._array(coo.data) for coo in entries.values()]
        for name, seen in solved(*values)._asdict().items():
            close(name, self.to_numpy(seen), self._value(problem, name), 1e-6)
        grads = self.gradient(lambda *values: self._weighted(solved(*values)), values)
        for (datum, coo), grad in zip(entries.items(), grads, strict=True):
            exact = getattr(self._vjp(problem), datum).toarray()[coo.row, coo.col]
            close(f"the gradient of {datum}", self.to_numpy(grad), exact, 1e-6)

    def test_scipy_constants(self) -> None:
        """scipy.sparse matrices are constants in a call with the framework's vectors."""
        problem = BY_NAME["qp_sparse"]
        data = [v if sparse.issparse(v) else self._array(v) for v in problem.data.values()]
        close("x", self.to_numpy(self._call(problem, data).x), self._value(problem, "x"), 1e-6)

        def function(q: Any) -> Any:
            return self._number(problem, data[0], q, *data[2:])

        seen = self.to_numpy(self.gradient(function, [data[1]])[0])
        close("the gradient of q", seen, self._vjp(problem).q, 1e-6)

    def test_numpy_in_the_same_call(self) -> None:
        """A NumPy array among the framework's is an error that names both, or a constant."""
        if self.framework == "numpy":
            raise CheckSkipped("it is NumPy")
        problem = BY_NAME["qp"]
        arrays = [problem.data["P"], *self._arrays(problem)[1:]]
        if "numpy" in registry.specs("framework")[self.framework].mixes_with:
            close(
                "x", self.to_numpy(self._call(problem, arrays).x), self._value(problem, "x"), 1e-6
            )
            return
        try:
            self._call(problem, arrays)
        except ParameterError as error:
            text = str(error)
            both = "numpy" in text and self.framework in text
            expect(both, f"the error names not both frameworks: {text}")
        else:
            raise CheckFailure("a call that mixes it with NumPy went through; expected an error")

    def test_inputs_unmodified(self, form: str) -> None:
        """The arrays of the user hold the same numbers after the call."""
        problem = BY_NAME[FORMS[form]]
        arrays = self._arrays(problem)
        self._call(problem, arrays)
        for (name, value), array in zip(problem.data.items(), arrays, strict=True):
            same = np.array_equal(self.to_numpy(array), value)
            expect(same, f"the call changed {name}")

    def test_shape_error(self) -> None:
        """A wrong shape is a ShapeError, not an error of the framework."""
        arrays = self._arrays(BY_NAME["qp"])
        arrays[3] = self._array(np.ones(99))
        self._raises(ShapeError, BY_NAME["qp"], arrays)

    def test_solve_error(self) -> None:
        """An infeasible program is a SolveError, not an error of the framework."""
        problem = BY_NAME["infeasible"]
        self._raises(SolveError, problem, self._arrays(problem))

    def test_failed_element(self) -> None:
        """With on_failure='nan', a failed element alone is NaN, and no gradient flows from it."""
        problem = BY_NAME["infeasible"]
        good = problem.repair["h"]
        P, q, G, _, *rest = self._arrays(problem)
        h = self._array(np.stack([problem.data["h"], good]))
        q = self._array(np.stack([problem.data["q"]] * 2))
        call = partial(self._call, problem, on_failure="nan")
        x = self.to_numpy(call([P, q, G, h, *rest]).x)
        expect(bool(np.isnan(x[0]).all()), f"x of the failed element is {x[0]}, expected NaN")
        close("x of the other element", x[1], self._value(problem, "x", h=good), 1e-6)

        def function(P: Any, q: Any) -> Any:
            return self._weighted(call([P, q, G, h, *rest]))

        by_P, by_q = (self.to_numpy(g) for g in self.gradient(function, [P, q]))
        exact = self._vjp(problem, h=good)
        close("the gradient of q", by_q, np.stack([0.0 * exact.q, exact.q]), 1e-6)
        close("the gradient of P, shared by the batch", by_P, exact.P, 1e-6)

    def test_layer(self) -> None:
        """A layer takes and gives its arrays, in a tuple."""
        problem = BY_NAME["qp"]
        outputs = Layer(problem.program().model, solver=self.solver)(*self._arrays(problem))
        expect(isinstance(outputs, tuple), f"it gave a {type(outputs).__name__}")
        close("x", self.to_numpy(outputs[0]), self._value(problem, "x"), 1e-6)


def _accuracy(dtype: str) -> float:
    return float(max(1e-6, 1e4 * np.finfo(np.dtype(dtype)).eps)) if dtype != "bfloat16" else 0.1
