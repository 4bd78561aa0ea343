"""The strip of bars above a table: how values are spread, all rows behind and the filter's in front; a click is a filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .component import component


def panel(
    name: str, title: str, labels: Sequence[str], all_: Sequence[int], some: Sequence[int], *, held: Sequence[bool] = (),
    ends: tuple[str, str] = ("", ""), marks: Sequence[tuple[float, str]] = (), options: Sequence[str] = (), single: bool = False,
) -> dict[str, Any]:
    """Return one panel: a bar for each label with its count of `all_` rows and of `some`, those of the filter.

    `held`: the bars that the filter asks for now; `ends`: words at the two ends of the axis; `marks`: lines (place from
    0 to 1, words); `options`: what else the panel could show, offered in place of the title; `single`: a category a bar,
    so that only one can be asked for.
    """
    return {"name": name, "title": title, "single": single, "ends": list(ends), "options": list(options),
            "marks": [{"at": at, "text": text} for at, text in marks], "held": any(held),
            "bars": [{"label": label, "all": int(a), "some": int(s), "on": bool(held[k]) if len(held) else False}
                     for k, (label, a, s) in enumerate(zip(labels, all_, some, strict=True))]}


def show(panels: Sequence[dict[str, Any]], *, key: str, on_range: Callable[[], None], on_option: Callable[[], None]) -> None:
    """Draw the panels side by side.

    A click or a drag over bars leaves {"name", "first", "last"} in the session state under `key` as "range" (first -1:
    take the condition away) and calls `on_range`; a choice of another column leaves its name as "option".
    """
    component("strip", "cs-strip")(
        key=key, height="content", data={"panels": list(panels)}, on_range_change=on_range, on_option_change=on_option)
