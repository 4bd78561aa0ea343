"""Carries what the benchmarks measured into the package, so that the report can show it beside each check.

    python benchmarks/measured.py

Reads benchmarks/results/*.json: every list called "measured" (entries {check, data, what, n, precision, recall}), and the
tables of contamination.json. Writes curation/measured.json. Nothing in that file is typed by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "curation" / "measured.json"


def entries(value: Any) -> list[dict[str, Any]]:
    """Return the entries of every list "measured" inside `value`, in order."""
    if not isinstance(value, dict):
        return []
    own = value.get("measured")
    return (list(own) if isinstance(own, list) else []) + [e for v in value.values() for e in entries(v)]


def contamination(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of contamination.json, whose tables hold [value, low, high]."""
    reworded = result["reworded"]
    n, some = reworded["n"], reworded["reworded"]

    def interval(x: list[float], of: int) -> dict[str, Any]:
        return {"value": x[0], "low": x[1], "high": x[2], "n": of}

    best = reworded["at default"]
    return [{"check": "contamination.semantic", "data": "reworded GSM8K questions and others of the same domain",
             "what": "the row is a rewording of a reference", "n": n, "precision": interval(best["precision"], some),
             "recall": interval(best["recall"], some)}]


def collect(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return {check: entries} of a folder of results; of one check on one set of data the first file by name counts."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        more = contamination(value) if path.name == "contamination.json" else []
        for entry in [*entries(value), *more]:
            mine = found.setdefault(entry["check"], [])
            if entry["data"] not in {e["data"] for e in mine} and (entry["precision"] or entry["recall"]):
                mine.append({k: entry[k] for k in ("data", "what", "n", "precision", "recall")})
    return {check: mine for check, mine in sorted(found.items()) if mine}


def main() -> None:
    value = {"made by": "python benchmarks/measured.py", "checks": collect(HERE / "results")}
    OUT.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
