"""A small dataset folder with known flags, for the tests of the workbench; some of its texts are hostile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.model import CODES, FLAGS, SIGNALS
from curation.store import Store, write_arrow

from .rows import make_rows

N = 260
SCRIPT = "<script>window.pwned=1;alert(1)</script><img src=x onerror='window.pwned=1;alert(2)'>"
LINK = "[a link](http://evil.example/x) ![pic](http://evil.example/p.png) http://evil.example www.evil.example me@evil.example"
RTL = "שלום עולם \u202e reversed"
HOSTILE_FAMILY = "![x](http://evil.example/f.png) <b onclick=alert(3)>bold</b> http://evil.example/f"
LONG = "word " * 210_000        # a little more than 1 MB
SPEC = """
version: 1
name: "set [x](http://evil.example) <script>alert(4)</script>"
families:
  - {id: qa, min_rows: 10}
  - {id: rewrite, min_rows: 400}
gate: {max_error_rate: 0.0, max_warning_rate: 0.5, min_rows: 10, coverage: true}
"""
#: check -> (severity, rows)
FLAGGED: dict[str, tuple[str, range]] = {
    "response.empty": ("error", range(0, 12)), "dup.near": ("warning", range(10, 20)), "privacy.pii": ("error", range(30, 31)),
}


def given() -> list[dict[str, Any]]:
    """Return the rows: 260, families qa and rewrite, hostile texts at 100 to 104, several turns at 105."""
    rows: list[dict[str, Any]] = [
        {"instruction": f"Question number {i}?", "response": "" if i < 12 else f"Answer number {i}, from the 東京 office.",
         "family": "rewrite" if i % 4 == 0 else "qa", "split": "train"} for i in range(N)]
    rows[30]["response"] = "Write to 𝒜nna at anna@example.org please."
    rows[100]["instruction"], rows[100]["response"] = SCRIPT, SCRIPT
    rows[101]["instruction"], rows[101]["response"] = LINK, LINK
    rows[102]["response"] = RTL
    rows[103]["response"] = LONG
    rows[104]["family"] = HOSTILE_FAMILY
    rows[105] = {"family": "qa", "split": "train", "messages": [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "First turn, about zebras."},
        {"role": "assistant", "content": "One."}, {"role": "user", "content": "Second turn."},
        {"role": "assistant", "content": "Two."}]}
    return rows


def flags_table(store: Store) -> dict[str, pa.Table]:
    """Return {check: FLAGS}: the flags of FLAGGED; privacy.pii has a span on the address, dup.near a related row."""
    uids = store.rows(columns=["uid"])["uid"].to_pylist()
    out = {}
    for check, (severity, rows) in FLAGGED.items():
        n, span = len(rows), check == "privacy.pii"
        text = store.rows()["response"][30].as_py()
        start = text.index("anna@")
        columns = {
            "row": list(rows), "uid": [uids[i] for i in rows], "check": [check] * n, "severity": [severity] * n,
            "score": [0.9] * n, "field": ["response"] * n, "turn": [-1] * n,
            "start": [start if span else None] * n, "end": [start + len("anna@example.org") if span else None] * n,
            "message": [f"{check} says <i>so</i> of row {i}." for i in rows],
            "related": [[i + 1] if check == "dup.near" else [] for i in rows], "fix": [None] * n}
        out[check] = pa.table({f.name: pa.array(columns[f.name], pa.string()).dictionary_encode().cast(CODES)
                               if f.type == CODES else pa.array(columns[f.name], f.type) for f in FLAGS}, schema=FLAGS)
    return out


def make_folder(path: Path, *, checked: bool = True) -> Store:
    """Make the folder, with spec, rows, and unless told otherwise the flags and signals of a check run."""
    store = Store.create(path)
    table = make_rows(given())
    store.import_rows(table.to_batches(), source="given.jsonl", detected="Alpaca, 260 rows")
    (path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    if checked:
        write_check(store)
    return store


def write_check(store: Store) -> None:
    """Leave flags and signals in the folder as a check run would."""
    keys = {check: f"{check}@1-0000" for check in FLAGGED}
    for check, table in flags_table(store).items():
        write_arrow(store.flags_path(keys[check]), table)
    rows = store.rows()
    n = rows.num_rows
    values: dict[str, list[Any]] = {
        "family": [f if f in ("qa", "rewrite") or "evil" in f else "" for f in rows["family"].cast(pa.string()).to_pylist()],
        "family_score": [1.0] * n, "refusal": ["comply"] * n, "harm": [0.0] * n, "harm_category": [""] * n, "n_words": [4] * n}
    signals = rows.select(["row", "uid"])
    for name, column in values.items():
        signals = signals.append_column(name, pa.array(column, SIGNALS[name]))
    write_arrow(store.path / "signals" / "given@1-0000.arrow", signals)
    store.write_current({"rows_version": store.version, "rows_hash": store.rows_hash(), "spec_hash": "", "flags": keys,
                         "signals": {"given": "given@1-0000"}, "options": {}})
