"""Words for texts of ours."""

from __future__ import annotations

__all__ = ["told", "words"]


def told(error: BaseException) -> str:
    """The kind and the words of an exception of others, whatever its ``str`` does."""
    return f"{type(error).__name__}: {words(error)}"


def words(error: BaseException) -> str:
    """The words alone."""
    try:
        return str(error)
    except Exception as broken:
        return f"(without words: its str() raised {type(broken).__name__})"
