"""The bars component: named lines with a bar and a number; a click says which line was meant; coverage as such lines."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from curation.coverage import Line

from .component import component

#: What the kinds of a line of coverage are called.
KINDS = {"family": "Families", "refused": "Refused, by kind of harm", "answered": "Look-alikes answered, by kind of harm",
         "refusal_share": "Refusals in all", "edge_case": "Edge cases"}


def line(
    name: str, parts: Sequence[tuple[float, str]], text: str, *, hint: str = "", open: str = "",
    marks: Sequence[float] = (),
) -> dict[str, Any]:
    """Return one line: `parts` = (value, tone), tone one of error, warning, info, ok, gap, plain; `marks` = goals.

    `open` makes the line a button that gives this word back.
    """
    return {"name": name, "parts": [{"value": v, "tone": t} for v, t in parts], "text": text, "hint": hint,
            "open": open, "marks": list(marks)}


def of_coverage(found: Iterable[Line], *, opens: Collection[str] = KINDS) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return coverage as groups of lines by kind, goals as strokes; in the kinds `opens` a line with rows gives KIND|ID back."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for c in found:
        goals = [x for x in (c.least, c.most) if x is not None]
        wanted = f"{c.least:,}–{c.most:,}" if c.least is not None and c.most is not None else \
            f"≥ {c.least:,}" if c.least is not None else f"≤ {c.most:,}" if c.most is not None else ""
        tone = "plain" if not goals else "ok" if c.met else "gap"
        text = f"{'' if c.met else '✖ '}{c.have:,}" + (f"  ({wanted})" if wanted else "")
        groups.setdefault(KINDS[c.kind], []).append(
            line(c.id if c.kind != "refusal_share" else "all refusals", [(c.have, tone)], text, hint=c.message,
                 open=f"{c.kind}|{c.id}" if c.have and c.kind in opens else "", marks=goals))
    return list(groups.items())


def show(groups: Sequence[tuple[str, Sequence[dict[str, Any]]]], *, key: str) -> str:
    """Draw groups of lines and return the `open` word of the line just clicked, or ""."""
    result = component("bars", "cb-bars")(
        key=key, height="content", on_open_change=lambda: None,
        data={"groups": [{"name": n, "lines": list(lines)} for n, lines in groups]})
    return result.open or ""
