"""What changed from one vetted set to the next, or to the folder as it stands: rows added, removed and edited, with reasons."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import CurationError
from .gate import Effective
from .store import Store
from .text import shorten

KINDS = ("added", "removed", "edited")
CHANGES = pa.schema([
    ("change", pa.string()),    # one of KINDS
    ("row", pa.int64()),        # in the newest version; null for a row that is no longer in the folder
    ("uid", pa.string()),
    ("prompt", pa.string()),    # shortened
    ("why", pa.string()),       # one sentence
    ("actor", pa.string()),     # who decided, "" = nobody: the rows themselves came or went
])


@dataclass(frozen=True)
class Side:
    """One of the two sets that are compared. Arrays over the rows of its folder at that time."""

    name: str
    uids: pa.Array
    kept: np.ndarray            # (n,) bool: rows that are in the set
    rows: np.ndarray            # (n,) int64: row numbers
    turns: dict[str, Any]       # how to get at the turns of kept rows: {"table", "at"}
    why: Any                    # row position -> (reason, actor)


def vetted_sets(store: Store) -> list[dict[str, Any]]:
    """Return the manifests of the vetted sets, newest first, each with its folder under "path" and number under "number"."""
    found = [p for p in (store.path / "vetted").glob("*") if p.name.isdigit() and (p / "manifest.json").exists()]
    return [{**json.loads((p / "manifest.json").read_text(encoding="utf-8")), "path": str(p), "number": int(p.name)}
            for p in sorted(found, key=lambda p: -int(p.name))]


def vetted(store: Store, number: int) -> Side:
    """Return a vetted set as a side. Raises CurationError when there is none of that number."""
    folder = store.path / "vetted" / str(number)
    if not (folder / "ledger.parquet").exists():
        known = ", ".join(str(m["number"]) for m in vetted_sets(store)) or "none"
        raise CurationError(f"there is no vetted set {number}", f"sets: {known}")
    ledger = pq.read_table(folder / "ledger.parquet", columns=["row", "uid", "outcome", "reason", "actor"])
    table = pa.concat_tables([pq.read_table(folder / f"{part}.parquet", columns=["uid", "messages"])
                              for part in ("train", "validation")])
    kept = np.asarray(pc.not_equal(ledger["outcome"], "dropped"))
    uids = ledger["uid"].combine_chunks()

    def why(i: int) -> tuple[str, str]:
        actor = ledger["actor"][i].as_py() or ""
        return ledger["reason"][i].as_py() or ("decided by a person" if actor else ""), actor

    at = np.asarray(pc.fill_null(pc.index_in(uids, value_set=table["uid"]), -1))
    return Side(f"vetted/{number}", uids, kept, ledger["row"].to_numpy(), {"table": table, "at": at}, why)


def present(state: Effective) -> Side:
    """Return the folder as it would be exported now as a side."""
    uids = state.rows["uid"].combine_chunks()

    def why(i: int) -> tuple[str, str]:
        d = state.decisions.get(uids[i].as_py())
        return (d.reason or f"decided by a {d.kind}", d.actor) if d else ("no verdict against it", "")

    table = state.rows.select(["uid", "messages"])
    return Side("now", uids, ~state.rejected, state.rows["row"].to_numpy(), {"table": table, "at": np.arange(len(uids))}, why)


def changes(old: Side, new: Side, *, limit: int | None = None) -> tuple[dict[str, int], pa.Table]:
    """Return ({kind of change: rows}, the changes as a table of CHANGES), at most `limit` rows of each kind.

    A row is one by its uid. Edited: in both sets, and its turns differ.
    """
    was = np.asarray(pc.fill_null(pc.index_in(new.uids, value_set=old.uids), -1))     # new -> old
    before = (was >= 0) & old.kept[was]
    is_ = np.asarray(pc.fill_null(pc.index_in(old.uids, value_set=new.uids), -1))     # old -> new
    after = (is_ >= 0) & new.kept[is_]
    added = np.flatnonzero(new.kept & ~before)
    removed = np.flatnonzero(old.kept & ~after)
    both = np.flatnonzero(new.kept & before)
    edited = both[_differ(old, was[both], new, both)]
    counts = {"added": len(added), "removed": len(removed), "edited": len(edited)}
    out: dict[str, list[Any]] = {name: [] for name in CHANGES.names}

    def put(kind: str, row: int | None, uid: str, prompt: str, why: tuple[str, str]) -> None:
        for name, value in zip(CHANGES.names, (kind, row, uid, prompt, *why), strict=True):
            out[name].append(value)

    for i in added[:limit].tolist():
        put("added", int(new.rows[i]), new.uids[i].as_py(), _prompt(new, i), _why_added(old, new, int(was[i]), i))
    for i in removed[:limit].tolist():
        j = int(is_[i])
        why = new.why(j) if j >= 0 else ("the row is no longer in the rows of the folder", "")
        put("removed", int(new.rows[j]) if j >= 0 else None, old.uids[i].as_py(), _prompt(old, i), why)
    for i in edited[:limit].tolist():
        put("edited", int(new.rows[i]), new.uids[i].as_py(), _prompt(new, i), new.why(i))
    return counts, pa.table(out, schema=CHANGES)


def _why_added(old: Side, new: Side, was: int, i: int) -> tuple[str, str]:
    if was < 0:
        return "the row came since", ""
    reason, actor = new.why(i)
    return f"was left out ({old.why(was)[0]}); now: {reason}", actor


def _differ(old: Side, at: np.ndarray, new: Side, here: np.ndarray) -> np.ndarray:
    """Return (k,) bool: whether the turns of the k rows differ between the sides."""
    if not len(here):
        return np.zeros(0, bool)
    one, two = (_turns(side, rows) for side, rows in ((old, at), (new, here)))
    size = [np.asarray(pc.list_value_length(x)) for x in (one, two)]
    differ = size[0] != size[1]
    same = np.flatnonzero(~differ)
    flat = [pc.list_flatten(x.take(pa.array(same))) for x in (one, two)]
    unlike = np.asarray(pc.or_(*(pc.not_equal(pc.struct_field(flat[0], f), pc.struct_field(flat[1], f))
                                 for f in ("role", "content"))))
    parent = np.repeat(same, size[0][same])
    differ[parent[unlike]] = True
    return differ


def _turns(side: Side, at: np.ndarray) -> Any:
    found = side.turns["table"]["messages"].take(pa.array(side.turns["at"][at]))
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _prompt(side: Side, i: int) -> str:
    at = int(side.turns["at"][i])
    messages = side.turns["table"]["messages"][at].as_py() if at >= 0 else []
    return shorten(next((m["content"] for m in reversed(messages) if m["role"] == "user"), ""), 120)


def named(store: Store, word: str) -> int:
    """Return the number of the vetted set that "vetted" (the newest) or "vetted/3" names. Raises CurationError for neither."""
    found = re.fullmatch(r"vetted(?:/(\d+))?/?", word)
    if found is None:
        raise CurationError(f"{word!r} names no vetted set", "vetted for the newest, or vetted/NUMBER")
    if found[1]:
        return int(found[1])
    sets = vetted_sets(store)
    if not sets:
        raise CurationError(f"{store.path} has no vetted set yet", f"curation export {store.path}")
    return int(sets[0]["number"])
