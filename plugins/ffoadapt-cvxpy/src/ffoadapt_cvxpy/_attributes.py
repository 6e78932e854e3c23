"""What cvxpy parameters declare (``nonneg=True``, ...), checked at every call.

cvxpy's rules for the curvature of a problem rest on it: where the weight of a norm is negative, the
canonical program is another one than the user's. So values are held to it as by cvxpy's own
``parameter.value = v``, but for three things. What rounding explains counts as kept, in the dtype
in which the values came; all attributes of a parameter count, where cvxpy looks at none of several;
and an entry that is outside of its bounds by rounding alone is taken as the bound itself, for any
negative weight lets go of what it weighs.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ffoadapt import ParameterError

__all__ = ["Declared", "Positive", "checked", "declared"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ENTRIES = 1e-10
"""What cvxpy allows an entry, in its own units."""

EIGENVALUES = 1e-8
"""What cvxpy allows an eigenvalue, in its own units."""

ROUNDINGS = 8.0
"""So many roundings of the largest entry, or of 1 where that is larger, are allowed an entry: a
difference of two numbers near 1 is off by that. An eigenvalue is allowed sqrt(n) times as many, as
far as independent errors of the entries move it."""

FLOAT64 = float(np.finfo(np.float64).eps)


class Rule(ABC):
    """One attribute. Values are (B, *shape), B >= 0."""

    words: str
    """The attribute as a user declares it."""

    advice: ClassVar[str] = (
        "cvxpy's rules for the problem rest on what parameters declare: give such values, project "
        "them before the layer, or declare less; check_attributes=False takes them as they are"
    )

    @abstractmethod
    def kept(self, values: Floats) -> bool:
        """Whether all values keep to it beyond doubt: cheap, and the usual case."""

    @abstractmethod
    def broken(self, values: Floats, eps: float) -> Mask:
        """The elements (B,) that do not, for a unit roundoff."""

    @abstractmethod
    def told(self, value: Floats, eps: float) -> str:
        """What is wrong with one element (*shape)."""

    def mended(self, values: Floats) -> Floats:
        """The values where no element is broken, without what is left of rounding."""
        return values


class EntryRule(Rule):
    """An attribute that says something of every entry."""

    @abstractmethod
    def excess(self, values: Floats) -> Floats:
        """By how much each entry is off, (B, *shape); 0 or less where it is not."""

    @abstractmethod
    def entry(self, value: Floats, at: tuple[int, ...]) -> str:
        """What is wrong with that entry of one element."""

    def kept(self, values: Floats) -> bool:
        return not (self.excess(values) > 0.0).any()

    def broken(self, values: Floats, eps: float) -> Mask:
        axes = tuple(range(1, values.ndim))
        worst: Floats = self.excess(values).max(axis=axes, initial=0.0)
        return worst > _allowance(values, eps)

    def told(self, value: Floats, eps: float) -> str:
        excess = self.excess(value[None])[0]
        at = tuple(int(k) for k in np.unravel_index(int(excess.argmax()), excess.shape))
        allowed = float(_allowance(value[None], eps)[0])
        return f"{self.entry(value, at)}; {allowed:.2g} would count as rounding"


@dataclass(frozen=True, eq=False)
class Bounds(EntryRule):
    """lower <= value <= upper: signs and bounds. One that is None does not exist."""

    words: str
    lower: Any = None
    upper: Any = None

    def kept(self, values: Floats) -> bool:
        below = self.lower is None or bool((values >= self.lower).all())
        return below and (self.upper is None or bool((values <= self.upper).all()))

    def excess(self, values: Floats) -> Floats:
        total = np.zeros(values.shape)
        if self.lower is not None:
            total = np.maximum(total, self.lower - values)
        if self.upper is not None:
            total = np.maximum(total, values - self.upper)
        return total

    def entry(self, value: Floats, at: tuple[int, ...]) -> str:
        above = self.lower is None or value[at] >= np.broadcast_to(self.lower, value.shape)[at]
        bound = np.broadcast_to(self.upper if above else self.lower, value.shape)[at]
        return f"{_entry(value, at)}, {'above' if above else 'below'} {bound:g}"

    def mended(self, values: Floats) -> Floats:
        return np.clip(values, self.lower, self.upper)


@dataclass(frozen=True, eq=False)
class Positive(Rule):
    """Entries have a logarithm: there is nothing that rounding explains."""

    words: str = "pos=True"
    advice: ClassVar[str] = "The parameters of a geometric program (gp=True) must be positive"

    def kept(self, values: Floats) -> bool:
        return bool((values > 0.0).all())

    def broken(self, values: Floats, eps: float) -> Mask:
        return np.asarray((values <= 0.0).any(axis=tuple(range(1, values.ndim))))

    def told(self, value: Floats, eps: float) -> str:
        at = np.unravel_index(int(np.argmin(value)), value.shape)
        return _entry(value, tuple(map(int, at)))


@dataclass(frozen=True, eq=False)
class Whole(EntryRule):
    """Where the mask is True, entries are integers, or 0 or 1."""

    words: str
    mask: Mask
    boolean: bool

    def excess(self, values: Floats) -> Floats:
        near = np.round(np.clip(values, 0.0, 1.0) if self.boolean else values)
        return np.where(self.mask, np.abs(values - near), 0.0)

    def entry(self, value: Floats, at: tuple[int, ...]) -> str:
        return f"{_entry(value, at)}, which is not {'0 or 1' if self.boolean else 'an integer'}"


@dataclass(frozen=True, eq=False)
class Zeros(EntryRule):
    """Entries outside of a pattern are 0; the mask is True there."""

    words: str
    mask: Mask

    def excess(self, values: Floats) -> Floats:
        return np.where(self.mask, np.abs(values), 0.0)

    def entry(self, value: Floats, at: tuple[int, ...]) -> str:
        return f"{_entry(value, at)}, where it should be 0"


@dataclass(frozen=True, eq=False)
class Symmetric(EntryRule):
    """The last two axes may be exchanged."""

    words: str

    def kept(self, values: Floats) -> bool:
        return bool((values == values.swapaxes(-1, -2)).all())

    def excess(self, values: Floats) -> Floats:
        # The symmetric part is what is used, and each entry is half of the difference from it.
        return 0.5 * np.abs(values - values.swapaxes(-1, -2))

    def entry(self, value: Floats, at: tuple[int, ...]) -> str:
        across = (*at[:-2], at[-1], at[-2])
        return f"{_entry(value, at)} and {value[across]:g} at {_index(across)}: it is not symmetric"


@dataclass(frozen=True, eq=False)
class Definite(Rule):
    """The symmetric part has no eigenvalue of the other sign than ``sign``."""

    words: str
    sign: float

    def kept(self, values: Floats) -> bool:
        return _factorizes(self.sign * values)

    def broken(self, values: Floats, eps: float) -> Mask:
        shifts = self._allowance(values, eps)
        shifted = 0.5 * self.sign * (values + values.swapaxes(-1, -2))
        np.einsum("...ii->...i", shifted)[...] += shifts.reshape(-1, *(1,) * (values.ndim - 2))
        if _factorizes(shifted):
            return np.zeros(len(values), dtype=bool)
        # What is not finite is found, and said, elsewhere.
        return np.array([np.isfinite(v).all() and not _factorizes(v) for v in shifted], dtype=bool)

    def told(self, value: Floats, eps: float) -> str:
        roots = np.linalg.eigvalsh(0.5 * (value + value.swapaxes(-1, -2)))
        worst = roots.min() if self.sign > 0 else roots.max()
        allowed = float(self._allowance(value[None], eps)[0])
        return f"has an eigenvalue of {worst:g}; {allowed:.2g} would count as rounding"

    @staticmethod
    def _allowance(values: Floats, eps: float) -> Floats:
        size = np.abs(values).max(axis=tuple(range(1, values.ndim)), initial=0.0)
        return np.maximum(EIGENVALUES, ROUNDINGS * eps * np.sqrt(values.shape[-1]) * size)


@dataclass(frozen=True)
class Declared:
    """The attributes of one parameter, the k-th of a layer."""

    k: int
    name: str
    rules: tuple[Rule, ...]


def declared(parameters: Sequence[Any]) -> list[Declared]:
    """Those of real `cvxpy.Parameter` objects, which most declare nothing."""
    declared = (Declared(k, p.name(), tuple(_rules(p))) for k, p in enumerate(parameters))
    return [one for one in declared if one.rules]


def checked(
    attributes: Sequence[Declared], values: Sequence[Floats], precision: Sequence[float] | None
) -> list[Floats] | None:
    """The values, each (B or 1, *shape), as they enter the program; None where as they are.

    Raises `ParameterError`, which knows the elements, where one does not keep to what is declared.
    """
    if all(rule.kept(values[one.k]) for one in attributes for rule in one.rules):
        return None
    mended, broken, words = list(values), np.zeros(1, dtype=bool), ""
    size = _size(values)
    if not size:
        return None
    for one in attributes:
        value = values[one.k]
        for rule in one.rules:
            if rule.kept(value):
                continue
            eps = FLOAT64 if precision is None else max(FLOAT64, float(precision[one.k]))
            bad = rule.broken(value, eps)
            if not bad.any():
                mended[one.k] = rule.mended(mended[one.k])
                continue
            if not words:
                i = int(bad.argmax())
                where = f" of batch element {i}" if len(value) > 1 else ""
                words = f"the parameter {one.name!r} is declared {rule.words}, and its value{where}"
                words = f"{words} {rule.told(value[i], eps)}. {rule.advice}"
            broken = broken | bad  # a value that all elements share is in each of them
    if words:
        elements = np.flatnonzero(np.broadcast_to(broken, (size,)))
        if size > 1:
            words = f"{words} (so it is in {elements.size} of {size} elements)"
        raise ParameterError(words, elements=elements.tolist())
    return None if all(map(operator.is_, mended, values)) else mended


def _size(values: Sequence[Floats]) -> int:
    """B of values that are (B or 1, *shape)."""
    sizes = {len(value) for value in values} - {1}
    return sizes.pop() if sizes else 1


def _rules(leaf: Any) -> list[Rule]:
    given, rules = leaf.attributes, list[Rule]()
    for name in ("nonneg", "pos"):  # cvxpy takes 0 for positive
        if given[name]:
            rules.append(Bounds(f"{name}=True", lower=0.0))
    for name in ("nonpos", "neg"):
        if given[name]:
            rules.append(Bounds(f"{name}=True", upper=0.0))
    if given["bounds"] is not None:
        lower, upper = (b.toarray() if sparse.issparse(b) else b for b in given["bounds"])
        rules.append(Bounds("with bounds", lower, upper))
    for name, at in (("boolean", leaf.boolean_idx), ("integer", leaf.integer_idx)):
        if given[name]:
            mask = np.zeros(leaf.shape or (1,), dtype=bool)
            mask[at] = True
            words = f"{name}=True" if given[name] is True else f"{name} there"
            rules.append(Whole(words, mask.reshape(leaf.shape), name == "boolean"))
    if given["diag"]:
        rules.append(Zeros("diag=True", ~np.eye(leaf.shape[-1], dtype=bool)))
    if given["sparsity"]:
        mask = np.ones(leaf.shape, dtype=bool)
        mask[leaf.sparse_idx] = False
        rules.append(Zeros("with a sparsity", mask))
    for name, sign in (("symmetric", 0.0), ("PSD", 1.0), ("NSD", -1.0)):
        if given[name]:
            rules.append(Symmetric(f"{name}=True"))
            if sign:
                rules.append(Definite(f"{name}=True", sign))
    return rules


def _allowance(values: Floats, eps: float) -> Floats:
    """What is allowed the entries of each element, (B,)."""
    size = np.abs(values).max(axis=tuple(range(1, values.ndim)), initial=1.0)
    return np.maximum(ENTRIES, ROUNDINGS * eps * size)


def _factorizes(matrices: Floats) -> bool:
    try:
        np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        return False
    return True


def _entry(value: Floats, at: tuple[int, ...]) -> str:
    return f"holds {value[at]:g}" + (f" at {_index(at)}" if at else "")


def _index(at: tuple[int, ...]) -> str:
    return f"index {at[0] if len(at) == 1 else at}"
