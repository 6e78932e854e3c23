"""A `Differentiable` as two JAX primitives, which is what grad, jvp, vmap and jit all understand.

`solve_p` gives the outputs and the packed state; `derivative_p` applies the Jacobian, or its
transpose, at that state. The first's derivative is the second; the second is linear, and its
transpose is itself the other way round: forward and reverse mode follow, and nestings with vmap.

Where values are concrete they are computed at once, so that exceptions are ours; in a jitted
function `_traced` computes them where the solver is written in JAX, and a pure_callback elsewhere.
The state travels as arrays, bit for bit (float64 as pairs of 32-bit words), so that it stays exact
also where JAX knows no float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from ffoadapt import Differentiable, DifferentiationError, TracedSolve

from . import _second, _traced

__all__ = ["solve"]

Shape = tuple[int, ...]

solve_p = Primitive("ffoadapt_solve")
derivative_p = Primitive("ffoadapt_derivative")
solve_p.multiple_results = derivative_p.multiple_results = True


def solve(function: Differentiable, dtype: Any, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """The outputs, of this dtype. All arrays have the same number of batch axes."""
    count = len(function.output_shapes([a.shape for a in arrays]))
    params = {"function": function, "dtype": np.dtype(dtype)}
    results: list[jax.Array] = solve_p.bind(*_varying_alike(arrays), **params)
    return results[:count]


# ------------------------------------------------------------------------------- the solution


def _solve_shapes(*arrays: Any, function: Differentiable, dtype: Any) -> list[Any]:
    shapes = [a.shape for a in arrays]
    outputs = [jax.ShapeDtypeStruct(s, dtype) for s in function.output_shapes(shapes)]
    words = [jax.ShapeDtypeStruct((*s, 2), np.uint32) for s in function.state_shapes(shapes)]
    return outputs + words


def _solve(*arrays: Any, function: Differentiable, dtype: Any) -> list[Any]:
    # In the type in which they came, which says what rounding may have done to them.
    values, state = function.forward([np.asarray(a) for a in arrays])
    outputs = [np.asarray(v, dtype=dtype) for v in values]
    return outputs + [_words(v) for v in function.pack(state)]


def _solve_batch(args: Any, dims: Any, **params: Any) -> Any:
    results = solve_p.bind(*_fronted(args, dims), **params)
    return results, [0] * len(results)


def _solve_jvp(primals: Any, tangents: Any, *, function: Differentiable, dtype: Any) -> Any:
    results = solve_p.bind(*primals, function=function, dtype=dtype)
    count = len(function.output_shapes([p.shape for p in primals]))
    moved = tuple(type(t) is not ad.Zero for t in tangents)
    moves = derivative_p.bind(
        *primals,
        *results[count:],
        *(t for t, on in zip(tangents, moved, strict=True) if on),
        function=function,
        moved=moved,
        dtype=dtype,
        transposed=False,
        extra=0,
    )
    return results, [*moves, *(_no_tangent(word) for word in results[count:])]


def _solve_traced(route: TracedSolve, *args: Any, **params: Any) -> list[Any]:
    values = [jnp.asarray(a, jnp.float64) for a in args]
    axes = values[0].ndim - params["function"].ndims[0]
    outputs, state = _traced.solve(route, axes, values)
    kept = [jax.lax.bitcast_convert_type(v, np.uint32) for v in state]
    return [v.astype(params["dtype"]) for v in outputs] + kept


# ----------------------------------------------------------------------------- the derivative
#
# Operands: arrays, state words, and what it is linear in: a tangent for each array that is
# ``moved``, or (``transposed``) a cotangent for each output. vmap puts its axes in front of all of
# them, ``extra`` in number, each of full size or 1.


def _split(args: Sequence[Any], params: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """(arrays, state, linear ones)."""
    function, extra = params["function"], params["extra"]
    count = len(params["moved"])
    states = len(function.state_shapes([a.shape[extra:] for a in args[:count]]))
    split = count, count + states
    return list(args[: split[0]]), list(args[split[0] : split[1]]), list(args[split[1] :])


def _derivative_shapes(*args: Any, **params: Any) -> list[Any]:
    arrays, _, _ = _split(args, params)
    extra = params["extra"]
    lead = np.broadcast_shapes(*(a.shape[:extra] for a in args))
    shapes = [a.shape[extra:] for a in arrays]
    if params["transposed"]:
        pairs = [
            (s, a.dtype) for s, a, on in zip(shapes, arrays, params["moved"], strict=True) if on
        ]
    else:
        pairs = [(s, params["dtype"]) for s in params["function"].output_shapes(shapes)]
    return [jax.ShapeDtypeStruct((*lead, *s), dtype) for s, dtype in pairs]


def _derivative(*args: Any, **params: Any) -> list[Any]:
    """An extra axis that the arrays have is a batch of solves; one that only the linear operands
    have is several right-hand sides of one solve, which share its factorization."""
    arrays, words, linear = _split([np.asarray(a) for a in args], params)
    function, moved, extra = params["function"], params["moved"], params["extra"]
    given = [_float64(a) for a in arrays]
    saved = [_floats(w) for w in words]
    full = np.broadcast_shapes(*(a.shape[:extra] for a in args))
    solved = [k for k in range(extra) if any(v.shape[k] != 1 for v in (*given, *saved))]
    several = [k for k in range(extra) if k not in solved]

    def of_solve(v: Any) -> Any:
        sizes = tuple(full[k] if k in solved else 1 for k in range(extra))
        return np.broadcast_to(v, sizes + v.shape[extra:]).squeeze(tuple(several))

    def of_linear(v: Any) -> Any:
        v = np.broadcast_to(_float64(v), full + v.shape[extra:])
        return np.moveaxis(v, several, range(len(several)))

    state = function.unpack([of_solve(v) for v in given], [of_solve(v) for v in saved])
    right = [of_linear(v) for v in linear]
    if params["transposed"]:
        parts = [g for g in function.vjp(state, right, moved) if g is not None]
    else:
        parts = _tangents(function, state, right, moved, len(several))
    results = [np.moveaxis(v, range(len(several)), several) for v in parts]
    shapes = _derivative_shapes(*args, **params)
    return [np.asarray(v, dtype=s.dtype) for v, s in zip(results, shapes, strict=True)]


def _derivative_traced(route: TracedSolve, *args: Any, **params: Any) -> list[Any]:
    """As `_derivative`: along an axis of linear operands alone, the one factorization is shared."""
    function, moved = params["function"], params["moved"]
    arrays, _, _ = _split(args, params)
    axes = arrays[0].ndim - params["extra"] - function.ndims[0]

    def one(*args: Any) -> list[Any]:
        arrays, words, linear = _split(args, {**params, "extra": 0})
        values, right = ([jnp.asarray(v, jnp.float64) for v in part] for part in (arrays, linear))
        x, *_, y = (jax.lax.bitcast_convert_type(w, jnp.float64) for w in words)
        apply = _traced.vjp if params["transposed"] else _traced.jvp
        return apply(route, axes, values, x, y, moved, right)

    parts = _traced.over(one, params["extra"])(*args)
    shapes = _derivative_shapes(*args, **params)
    return [v.astype(s.dtype) for v, s in zip(parts, shapes, strict=True)]


def _tangents(
    function: Differentiable, state: Any, right: list[Any], moved: Sequence[bool], axes: int
) -> list[Any]:
    """The tangents on the outputs, one set of directions after the other."""
    sizes = right[0].shape[:axes]
    columns = []
    for index in np.ndindex(*sizes):
        each = iter(v[index] for v in right)
        columns.append(function.jvp(state, [next(each) if on else None for on in moved]))
    if not columns:
        shapes = [v.shape for v in function.jvp(state, [None for _ in moved])]
        return [np.zeros(sizes + shape) for shape in shapes]
    return [np.stack(c).reshape((*sizes, *c[0].shape)) for c in zip(*columns, strict=True)]


def _derivative_batch(args: Any, dims: Any, **params: Any) -> Any:
    params["extra"] += 1
    results = derivative_p.bind(*_fronted(args, dims), **params)
    return results, [0] * len(results)


def _derivative_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    arrays, state, linear = _split(primals, params)
    moves = tangents[len(arrays) + len(state) :]
    if any(type(t) is not ad.Zero for t in tangents[: len(arrays)]):
        return _second_jvp(primals, tangents, params)
    results = derivative_p.bind(*primals, **params)
    if all(type(t) is ad.Zero for t in moves):
        return results, [_no_tangent(v) for v in results]
    filled = [
        jnp.zeros(v.shape, v.dtype) if type(t) is ad.Zero else t
        for t, v in zip(moves, linear, strict=True)
    ]
    return results, derivative_p.bind(*_varying_alike([*arrays, *state, *filled]), **params)


def _second_jvp(primals: Any, tangents: Any, params: Any) -> Any:
    """Second derivatives: the arrays move, too."""
    arrays, state, linear = _split(primals, params)
    function, count = params["function"], len(arrays)
    with jax.enable_x64(True):
        points = [jax.lax.bitcast_convert_type(w, jnp.float64) for w in state]
        wide = [[jnp.asarray(v, jnp.float64) for v in part] for part in (arrays, linear)]
        moves = [
            jnp.zeros(v.shape, jnp.float64) if type(t) is ad.Zero else jnp.asarray(t, jnp.float64)
            for t, v in zip(tangents, primals, strict=True)
        ]
        parts = [*moves[:count]], [*moves[count + len(state) :]]
        known = not any(isinstance(v, jax.core.Tracer) for v in (*wide[0], *points))
        if known and _second.refused(function, wide[0], points):
            raise DifferentiationError(
                "second derivatives of a solution are not available here: a row is weakly active "
                "(the gradient jumps), or the active rows or the solution are not unique. Put "
                "jax.lax.stop_gradient around the gradient, or take on_failure='nan', with NaN for "
                "these elements alone"
            )
        results = derivative_p.bind(*primals, **params)
        second = _second.moved(function, wide[0], points, wide[1], parts, params)
        return results, [v.astype(f.dtype) for v, f in zip(second, results, strict=True)]


def _derivative_transpose(cotangents: Any, *args: Any, **params: Any) -> Any:
    arrays, state, linear = _split(
        [_Shaped(a) if ad.is_undefined_primal(a) else a for a in args], params
    )
    shapes = _derivative_shapes(*arrays, *state, *linear, **params)
    bars = [
        jnp.zeros(s.shape, s.dtype) if type(c) is ad.Zero else c
        for c, s in zip(cotangents, shapes, strict=True)
    ]
    turned = {**params, "transposed": not params["transposed"]}
    pulled = derivative_p.bind(*_varying_alike([*arrays, *state, *bars]), **turned)
    summed = [_reduced(g, v.shape) for g, v in zip(pulled, linear, strict=True)]
    return [None] * (len(arrays) + len(state)) + summed


class _Shaped:
    """The shape of an operand that has no value yet."""

    def __init__(self, undefined: Any) -> None:
        self.shape, self.dtype = undefined.aval.shape, undefined.aval.dtype


def _no_tangent(value: Any) -> Any:
    return ad.Zero(_typed(value.shape, value.dtype, [value]).to_tangent_aval())


def _reduced(value: Any, shape: Shape) -> Any:
    """The sum over the axes along which an operand of this shape was broadcast."""
    pairs = enumerate(zip(value.shape, shape, strict=True))
    axes = tuple(k for k, (full, own) in pairs if full != own)
    return jnp.sum(value, axis=axes, keepdims=True) if axes else value


# ----------------------------------------------------------------------------------- shard_map
#
# Inside of `jax.shard_map` the type of an array says over which axes of the mesh it differs. Those
# of an operation must agree; where an array is made to, the transpose sums over the devices.


def _axes_of(aval: Any) -> frozenset[Any]:
    """The mesh axes over which arrays of this type differ; older releases of JAX have none."""
    kind = getattr(aval, "manual_axis_type", None)
    axes: frozenset[Any] = getattr(aval, "vma", frozenset()) if kind is None else kind.varying
    return axes


def _varying_alike(arrays: Sequence[Any]) -> Sequence[Any]:
    """The arrays as differing over the axes over which any of them does."""
    if not any(isinstance(a, jax.core.Tracer) for a in arrays):
        return arrays
    own = [_axes_of(a.aval) for a in arrays]
    common = frozenset().union(*own)
    return [
        _cast(a, tuple(common - axes)) if axes != common else a
        for a, axes in zip(arrays, own, strict=True)
    ]


def _cast(array: Any, axes: tuple[Any, ...]) -> Any:
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(array, axes, to="varying")
    former: Any = getattr(jax.lax, "pvary", None)
    return former(array, axes)


def _typed(shape: Shape, dtype: Any, like: Sequence[Any]) -> Any:
    """The type of a result that differs over the axes over which these arrays, or types, do."""
    for one in like:
        aval = getattr(one, "aval", one)
        if _axes_of(aval):
            nowhere = NamedSharding(aval.sharding.mesh, PartitionSpec())
            return aval.update(shape=shape, dtype=dtype, weak_type=False, sharding=nowhere)
    return jax.core.ShapedArray(shape, dtype)


# ------------------------------------------------------------------------------- registration


def _fronted(args: Any, dims: Any) -> list[Any]:
    """Operands with the mapped axis first, of size 1 where they have none."""
    return [
        jnp.expand_dims(a, 0) if d is None else jnp.moveaxis(a, d, 0)
        for a, d in zip(args, dims, strict=True)
    ]


def _register(primitive: Any, shapes: Any, compute: Any, compute_traced: Any) -> None:
    def evaluate(*args: Any, **params: Any) -> list[Any]:
        return [jnp.asarray(v) for v in compute(*(np.asarray(a) for a in args), **params)]

    def abstract(*args: Any, **params: Any) -> list[Any]:
        return [_typed(s.shape, s.dtype, args) for s in shapes(*args, **params)]

    def called_back(*args: Any, **params: Any) -> list[Any]:
        # float64 goes as words, for a callback may run in a thread in which JAX knows no float64.
        wide = [a.dtype == np.float64 for a in args]
        given = [
            jax.lax.bitcast_convert_type(a, np.uint32) if on else a
            for a, on in zip(args, wide, strict=True)
        ]
        wanted = shapes(*args, **params)

        def callback(*values: Any) -> list[Any]:
            sent = [_floats(v) if on else np.asarray(v) for v, on in zip(values, wide, strict=True)]
            received = compute(*sent, **params)
            return [_words(v) if v.dtype == np.float64 else v for v in received]

        words = [
            jax.ShapeDtypeStruct((*s.shape, 2), np.uint32) if s.dtype == np.float64 else s
            for s in wanted
        ]
        received = jax.pure_callback(callback, words, *given, vmap_method="sequential")
        return [
            jax.lax.bitcast_convert_type(v, np.float64) if s.dtype == np.float64 else v
            for v, s in zip(received, wanted, strict=True)
        ]

    def lower(context: Any, *args: Any, **params: Any) -> Any:
        route = params["function"].traced("jax", jnp)
        if route is None:
            return mlir.lower_fun(called_back, multiple_results=True)(context, *args, **params)
        # Each device computes on its own: constants of loops need not say where they differ.
        plain = context.replace(
            avals_in=[jax.core.ShapedArray(a.shape, a.dtype) for a in context.avals_in],
            avals_out=[jax.core.ShapedArray(a.shape, a.dtype) for a in context.avals_out],
        )
        with jax.enable_x64(True):
            compute = partial(compute_traced, route)
            return mlir.lower_fun(compute, multiple_results=True)(plain, *args, **params)

    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, lower)


_register(solve_p, _solve_shapes, _solve, _solve_traced)
_register(derivative_p, _derivative_shapes, _derivative, _derivative_traced)
batching.primitive_batchers[solve_p] = _solve_batch
batching.primitive_batchers[derivative_p] = _derivative_batch
ad.primitive_jvps[solve_p] = _solve_jvp
ad.primitive_jvps[derivative_p] = _derivative_jvp
ad.primitive_transposes[derivative_p] = _derivative_transpose


def _float64(value: Any) -> Any:
    return np.asarray(value).astype(np.float64, copy=False)


def _words(value: Any) -> Any:
    """float64 (...) as 32-bit words (..., 2)."""
    return np.asarray(value, dtype=np.float64, order="C")[..., None].view(np.uint32)


def _floats(words: Any) -> Any:
    return np.asarray(words, order="C").view(np.float64)[..., 0]
