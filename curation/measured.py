"""What was measured of each check on labelled data: precision and recall with intervals, and on which data."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "measured.json"


@lru_cache(maxsize=1)
def measured() -> dict[str, list[dict[str, Any]]]:
    """Return {check: [{data, what, n, precision, recall}]}, as benchmarks/measured.py wrote it from benchmarks/results.

    precision and recall: {value, low, high, n}, 95 % bootstrap, or None where the data cannot tell; n: rows of the data;
    what: one phrase on what counted as right.
    """
    value: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))["checks"]
    return value
