"""What was measured of each check on labelled data: precision and recall with intervals, and on which data."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "measured.json"


def said(check: str) -> list[str]:
    """Return one sentence for each set of data that measured the check: how much of it was right, how much was found."""
    return [f"{_share('right', e['precision'])}{', ' if e['precision'] and e['recall'] else ''}{_share('found', e['recall'])} "
            f"on {e['data']} (right: {e['what']})" for e in measured().get(check, [])]


def favour(entry: dict[str, Any]) -> tuple[float, float]:
    """Return how well a check comes off in an entry of `measured`, for sorting: precision first, then recall."""
    precision, recall = (2.0 if x is None else x["value"] for x in (entry["precision"], entry["recall"]))
    return precision, recall


def least(check: str) -> str:
    """Return the least favourable of what is `said` of the check; "" where nothing was measured."""
    mine = measured().get(check, [])
    return said(check)[min(range(len(mine)), key=lambda k: favour(mine[k]))] if mine else ""


def _share(name: str, x: dict[str, Any] | None) -> str:
    if x is None or x.get("value") is None:
        return ""
    known = x.get("low") is not None and x.get("high") is not None
    return f"{name} {100 * x['value']:.0f} %" + (f" [{100 * x['low']:.0f}, {100 * x['high']:.0f}]" if known else "")


@lru_cache(maxsize=1)
def measured() -> dict[str, list[dict[str, Any]]]:
    """Return {check: [{data, what, n, precision, recall}]}, as benchmarks/measured.py wrote it from benchmarks/results.

    precision and recall: {value, low, high, n}, 95 % bootstrap, or None where the data cannot tell; n: rows of the data;
    what: one phrase on what counted as right.
    """
    value: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))["checks"]
    return value
