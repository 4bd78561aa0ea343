"""The rates component: a table of rates, each with its interval and count; a click says which cell was meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .component import component

FEW = 10        # probes below which a cell is marked: its interval spans most of the scale


def cell(passed: int, n: int, low: float, high: float) -> dict[str, Any]:
    """Return what a cell draws: the rate, its interval and n, as numbers and in words."""
    return {"rate": passed / n, "low": low, "high": high, "n": n, "few": n < FEW,
            "hint": f"{passed} of {n} passed; 95 % interval {100 * low:.0f} to {100 * high:.0f} %"}


def show(
    rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], dict[str, Any]], *, chosen: tuple[str, str],
    key: str,
) -> tuple[str, str] | None:
    """Draw the table and return the (row, column) just clicked, or None. `chosen`: the cell that is marked."""
    lines = [{"name": r, "cells": [cells.get((r, c)) for c in columns]} for r in rows]
    result = component("rates", "cs-rates")(
        key=key, height="content", on_open_change=lambda: None,
        data={"columns": list(columns), "rows": lines, "chosen": list(chosen)})
    opened = result.open
    if not opened:
        return None
    row, column = opened
    return (row, column) if (row, column) in cells else None
