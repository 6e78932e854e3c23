"""Words for texts of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

__all__ = ["counted", "told", "words"]


def counted(names: Iterable[str]) -> str:
    """``"3 optimal, 1 time_limit"``: how often each is there, the most frequent first."""
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())


def told(error: BaseException) -> str:
    """The kind and the words of an exception of others, whatever its ``str`` does."""
    return f"{type(error).__name__}: {words(error)}"


def words(error: BaseException) -> str:
    """The words alone."""
    try:
        return str(error)
    except Exception as broken:
        return f"(without words: its str() raised {type(broken).__name__})"
