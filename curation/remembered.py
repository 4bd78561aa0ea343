"""What several checks of a run work out of the same columns: worked out once, held while the run lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import pyarrow as pa

Value = TypeVar("Value")
Columns = Sequence[pa.Array | pa.ChunkedArray]
_HELD: ContextVar[dict[str, tuple[Columns, Any]] | None] = ContextVar("_HELD", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """While this lasts, `remembered` holds what was made last under each name; afterwards nothing is held."""
    token = _HELD.set({})
    try:
        yield
    finally:
        _HELD.reset(token)


def remembered(name: str, columns: Columns, make: Callable[[], Value]) -> Value:
    """Return make(), or what it gave before under this name for equal columns; the very same columns need no look."""
    held = _HELD.get()
    if held is None:
        return make()
    if name not in held or not _same(held[name][0], columns):
        held[name] = columns, make()
    value: Value = held[name][1]
    return value


def _same(a: Columns, b: Columns) -> bool:
    return all(type(x) is type(y) and x.equals(y) for x, y in zip(a, b, strict=True))
