"""The bars component: named lines with a bar and a number; a click says which line was meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .component import component


def line(
    name: str, parts: Sequence[tuple[float, str]], text: str, *, hint: str = "", open: str = "",
    marks: Sequence[float] = (),
) -> dict[str, Any]:
    """Return one line: `parts` = (value, tone), tone one of error, warning, info, ok, gap, plain; `marks` = goals.

    `open` makes the line a button that gives this word back.
    """
    return {"name": name, "parts": [{"value": v, "tone": t} for v, t in parts], "text": text, "hint": hint,
            "open": open, "marks": list(marks)}


def show(groups: Sequence[tuple[str, Sequence[dict[str, Any]]]], *, key: str) -> str:
    """Draw groups of lines and return the `open` word of the line just clicked, or ""."""
    result = component("bars", "cb-bars")(
        key=key, height="content", on_open_change=lambda: None,
        data={"groups": [{"name": n, "lines": list(lines)} for n, lines in groups]})
    return result.open or ""
