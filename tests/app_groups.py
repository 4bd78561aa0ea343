"""A small dataset folder with copies, conflicts and a map, for the tests of the pages Duplicates and Map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.model import CODES, FLAGS, SIGNALS
from curation.store import Store, write_arrow

from .rows import make_rows

N = 120
CROWD = 60          # rows 0 to 59 lie lower left on the map, the others upper right
SCRIPT = "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
LINK = "[a](http://evil.example/x) ![p](http://evil.example/p.png)"
TEXTS: dict[int, tuple[str, str]] = {
    0: ("Name a red fruit.", "The apple is red and sweet."), 1: ("Name one red fruit.", "The apple is red and very sweet."),
    2: ("Say hello to Tom.", "Hello, Tom!"), 3: ("Say hello to Tom now.", "Hello, Tom!"),
    4: ("Say hello to Tom please.", "Hello, Tom!"),
    5: (f"Look: {SCRIPT}", LINK), 6: (f"Look: {SCRIPT}", LINK),
    7: ("Is a whale a fish?", "No."), 8: ("Is a whale a fish?", "Yes."), 9: ("Is a whale a fish?", "Yes, it is."),
    10: ("Spell cat backwards.", "tac"), 11: ("Spell the word cat backwards.", "It is tac."),
}
#: (check, severity, score, row, related)
FLAGGED: list[tuple[str, str, float, int, list[int]]] = [
    ("dup.near", "warning", 0.9, 1, [0]), ("dup.near", "warning", 0.85, 3, [2, 4]), ("dup.near", "warning", 0.95, 4, [2, 3]),
    ("dup.exact", "error", 1.0, 6, [5]), ("dup.near", "info", 0.7, 11, [10]), ("dup.near", "info", 0.8, 13, [12]),
    ("dup.conflict", "error", 1.0, 7, [8, 9]), ("dup.conflict", "error", 1.0, 8, [7]), ("dup.conflict", "error", 1.0, 9, [7]),
    ("response.empty", "error", 1.0, 0, []),
]
SPEC = """
version: 1
name: groups
families: [{id: qa, min_rows: 10}, {id: rewrite, min_rows: 90}]
"""


def make_groups(path: Path, *, laid_out: bool = True) -> Store:
    """Make the folder: rows, spec, flags and signals, and unless told otherwise the map."""
    store = Store.create(path)
    given: list[dict[str, Any]] = []
    for i in range(N):
        ask, answer = TEXTS.get(i, (f"Question number {i} about {'zebras' if i < CROWD else 'engines'}?", f"Answer number {i}."))
        given.append({"instruction": ask, "response": answer, "family": "qa" if i < CROWD else "rewrite"})
    given[-1]["family"] = SCRIPT
    store.import_rows(make_rows(given).to_batches(), source="given.jsonl", detected="Alpaca")
    (path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    rows = store.rows()
    checks = sorted({f[0] for f in FLAGGED})
    for check in checks:
        write_arrow(store.flags_path(f"{check}@1-0000"), _flags(rows, [f for f in FLAGGED if f[0] == check]))
    values: dict[str, list[Any]] = {
        "family": rows["family"].cast(pa.string()).to_pylist(), "family_score": [1.0] * N, "refusal": ["comply"] * N,
        "harm": [0.0] * N, "harm_category": [""] * N, "n_words": [3] * N}
    signals = rows.select(["row", "uid"])
    for name, column in values.items():
        signals = signals.append_column(name, pa.array(column, SIGNALS[name]))
    write_arrow(path / "signals" / "given@1-0000.arrow", signals)
    store.write_current({
        "rows_version": store.version, "rows_hash": store.rows_hash(), "spec_hash": "",
        "flags": {c: f"{c}@1-0000" for c in checks}, "signals": {"given": "given@1-0000"},
        "options": {"dup.near": {"threshold": 0.8, "floor": 0.6}}})
    if laid_out:
        lay_out(store)
    return store


def places() -> np.ndarray:
    """(N, 2) float32: a crowd around (-0.5, -0.5) and one around (0.5, 0.5), each within 0.3 of its middle."""
    rng = np.random.default_rng(0)
    middle = np.where(np.arange(N)[:, None] < CROWD, -0.5, 0.5)
    return (middle + rng.uniform(-0.2, 0.2, (N, 2))).astype(np.float32)


def lay_out(store: Store) -> None:
    xy = places()
    store.add_signals("map", {"map_x": pa.array(xy[:, 0]), "map_y": pa.array(xy[:, 1])})


def _flags(rows: pa.Table, found: list[tuple[str, str, float, int, list[int]]]) -> pa.Table:
    n = len(found)
    columns: dict[str, list[Any]] = {
        "row": [f[3] for f in found], "uid": [rows["uid"][f[3]].as_py() for f in found], "check": [f[0] for f in found],
        "severity": [f[1] for f in found], "score": [f[2] for f in found], "field": ["row"] * n, "turn": [-1] * n,
        "start": [None] * n, "end": [None] * n, "message": [f"{f[0]} <b>says</b> so of row {f[3]}." for f in found],
        "related": [f[4] for f in found], "fix": [None] * n}
    table = pa.table({f.name: pa.array(columns[f.name], pa.string()).dictionary_encode().cast(CODES)
                      if f.type == CODES else pa.array(columns[f.name], f.type) for f in FLAGS}, schema=FLAGS)
    return table.sort_by("row")
