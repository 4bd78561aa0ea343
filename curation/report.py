"""The report: what is known of a set and of the checks that looked at it, as plain values; written as HTML and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import calibrate, engine
from .checks import CHECKS, bias
from .checks.base import first_line
from .gate import Effective, GateResult, effective, evaluate, min_score
from .matrices import Matrix, edge_matrix, refusal_matrix
from .measured import measured
from .report_page import page
from .review import progress
from .spec import Spec
from .store import Store, atomic, write_json
from .text import shorten

AROUND = 160  # characters shown on each side of a span
CONTEXT = 40  # characters shown on each side of what a fix changes
CUT = 400  # characters shown of what a fix takes out or puts in
SHOWN = 5  # findings shown a check
BINS = 20  # bars of a histogram of scores, over [0, 1]

CANNOT = (
    "Most of these checks read form, not truth. They recompute sums, parse code and compare rows with each other; they do not "
    "know the world. A wrong answer in good form, a fact invented for a document nobody attached, or a mediocre "
    "explanation passes them all: in a random draw of a public instruction set most of the flawed rows were of that kind. "
    "The precision and recall beside a check were measured on the data named there, mostly English and partly planted by "
    "hand; on your data they may be better or worse, and curation calibrate finds out with about fifty labels. The tables "
    "on groups of people count words; they cannot show that a set is fair. So read a random queue (curation review "
    "FOLDER --queue random) before you trust a passed gate."
)


def write(store: Store, spec: Spec, folder: Path) -> dict[str, str]:
    """Write report.html and report.json into `folder` and return their paths."""
    state = effective(store, spec)
    result = evaluate(store, spec, state)
    value = build(store, state, result, spec)
    picture = folder / "map.png"  # `curation map` draws it here; the signal tells that it is of these rows
    value["map"] = "map.png" if "map_x" in state.signals.column_names and picture.exists() else None
    write_json(folder / "report.json", value)
    with atomic(folder / "report.html", "w") as f:
        f.write(page(value, picture=picture.read_bytes() if value["map"] else None))
    return {"html": str(folder / "report.html"), "json": str(folder / "report.json")}


def build(store: Store, state: Effective, result: GateResult, spec: Spec) -> dict[str, Any]:
    """Return the report as plain values.

    Findings are shown as found, before any repair; the gate, the matrices and the tables on groups of people speak of
    the rows that no verdict has rejected, with edits applied. A calibration whose threshold is no longer the spec's has
    `in_force` false; one in force stands among what was measured of its check.
    """
    current = store.current() or {"options": {}, "flags": {}}
    calibrations = [{**c, "in_force": _in_force(c, spec)} for c in calibrate.read(store)]
    checks = _checks(store, spec, current["options"], {c["check"]: _own(c) for c in calibrations if c["in_force"]})
    kept = pa.array(state.kept)
    rows, signals = state.rows.take(kept), state.signals.take(kept)
    return {
        "name": spec.name,
        "sentence": result.sentence,
        "gate": result.as_dict(),
        "rows": state.rows.num_rows,
        "kept": rows.num_rows,
        "checks": checks,
        "quiet": sorted(set(current.get("flags", {})) - {c["check"] for c in checks}),
        "calibrations": calibrations,
        "matrices": [_matrix(m) for m in (refusal_matrix(rows, signals, spec), edge_matrix(rows, signals, spec))],
        "people": _people(rows, signals, spec),
        "review": progress(store, state),
        "rows_hash": store.rows_hash(),
        "spec_hash": spec.hash,
        "cannot_see": CANNOT,
    }


def _in_force(calibration: dict[str, Any], spec: Spec) -> bool:
    """Return whether the threshold that labels have set is the one the spec holds now."""
    id, option = calibration["check"], calibration["option"]
    if id not in CHECKS:
        return False
    now = min_score(id, spec) if option == "min_score" else engine.resolve(CHECKS[id], spec, {}).model_dump().get(option)
    return now is not None and abs(float(now) - calibration["threshold"]) < 1e-9


def _own(calibration: dict[str, Any]) -> dict[str, Any]:
    """Return a calibration as an entry of what was measured of its check."""
    labels = calibration["labels"]
    n = labels["yes"] + labels["no"]
    found = f" (found: of those from a score of {calibration['from']:g} on)" if "from" in calibration else ""
    return {"data": "this set", "what": f"a person labelled the finding right{found}", "n": n,
            **{k: {**calibration[k], "n": n} for k in ("precision", "recall")}}


def _checks(
    store: Store, spec: Spec, options: dict[str, Any], own: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what each check with findings found, most rows first; `own`: what labels of this set say of a check."""
    found, rows = store.flags(), store.rows()
    names = found["check"].cast(pa.string())
    out = []
    for id in pc.unique(names).to_pylist():
        mine = found.filter(pc.equal(names, id))
        order = np.lexsort((mine["row"].to_numpy(), -mine["score"].to_numpy()))
        chosen = order[:: max(1, len(order) // SHOWN)][:SHOWN]
        given = options.get(id, {})
        out.append({
            "check": id,
            "what": first_line(CHECKS[id]),
            "flags": mine.num_rows,
            "rows": len(pc.unique(mine["row"])),
            "severities": dict(sorted((c["values"], c["counts"]) for c in pc.value_counts(
                mine["severity"].cast(pa.string())).to_pylist())),
            "options": given,
            "threshold": _threshold(id, given, spec),
            "histogram": np.histogram(mine["score"].to_numpy(), BINS, (0.0, 1.0))[0].tolist(),
            "measured": [*([own[id]] if id in own else []), *measured().get(id, [])],
            "findings": [_finding(rows, f) for f in mine.take(pa.array(chosen)).to_pylist()],
        })
    return sorted(out, key=lambda c: (-c["rows"], c["check"]))


def _threshold(id: str, options: dict[str, Any], spec: Spec) -> float | None:
    """Return the score from which a flag counts: the option `threshold` or the spec's min_score, None when neither is set."""
    own = options.get("threshold")
    least = min_score(id, spec)
    marks = [float(x) for x in (own, least or None) if isinstance(x, (int, float)) and 0.0 <= x <= 1.0]
    return max(marks) if marks else None


def _finding(rows: pa.Table, flag: dict[str, Any]) -> dict[str, Any]:
    """Return a flag with the text around its span: before, marked, after."""
    field = flag["field"] if flag["field"] != "row" else "response"
    text = rows[field][flag["row"]].as_py() or ""
    if flag["field"] == "row" and flag["turn"] >= 0:
        turns = rows["messages"][flag["row"]].as_py() or []
        text = (turns[flag["turn"]]["content"] or "") if flag["turn"] < len(turns) else text
    start, end = flag["start"], flag["end"]
    if start is None or end is None:
        start = end = 0
    low, high = max(0, start - AROUND), min(len(text), end + AROUND)
    return {
        "row": flag["row"],
        "field": field,
        "severity": flag["severity"],
        "score": round(flag["score"], 3),
        "message": flag["message"],
        "related": flag["related"][:10],
        "others": [{"row": r, "text": (rows[field][r].as_py() or "")[:AROUND]} for r in flag["related"][:1] if r < rows.num_rows],
        "fix": flag["fix"],
        "change": None if flag["fix"] is None else _change(text, flag["fix"]),
        "prompt": shorten(" ".join(rows[c][flag["row"]].as_py() or "" for c in ("instruction", "input")), 2 * AROUND),
        "before": ("…" if low else "") + text[low:start],
        "marked": text[start:end][:2000],
        "after": text[end:high] + ("…" if high < len(text) else ""),
    }


def _change(old: str, new: str) -> dict[str, str]:
    """Return what a fix changes: {before, old, new, after}, the two texts side by side with a little of what stays."""
    start = _shared(old, new)
    end = _shared(old[start:][::-1], new[start:][::-1])
    low, high = max(0, start - CONTEXT), len(old) - max(0, end - CONTEXT)
    return {
        "before": ("…" if low else "") + old[low:start],
        "old": _cut(old[start : len(old) - end]),
        "new": _cut(new[start : len(new) - end]),
        "after": old[len(old) - end : high] + ("…" if high < len(old) else ""),
    }


def _shared(a: str, b: str) -> int:
    """Return how many characters two texts share at their start."""
    return next((k for k, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _cut(text: str) -> str:
    return text if len(text) <= CUT else text[:CUT] + "…"


def _matrix(matrix: Matrix) -> dict[str, Any]:
    """Return a matrix without the row numbers but for five a cell."""
    return matrix.as_dict(rows=5)


def _people(rows: pa.Table, signals: pa.Table, spec: Spec) -> dict[str, Any] | None:
    """Return the tables on groups of people; None when the set was checked before the signal `identity` existed."""
    if "identity" not in signals.column_names:
        return None
    return {**bias.screen(rows, signals["identity"]), "swaps": bias.exchanged(rows, signals["identity"], spec)}
