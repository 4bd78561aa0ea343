"""Repairs that checks propose: which of them apply to some rows now, the edits they make, and how these change the texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curation.model import FIELDS
from curation.store import Entry, spelled_out

from .changes import parts_of
from .state import Index, Verdicts


def proposed(index: Index, verdicts: Verdicts, rows: np.ndarray, checks: tuple[str, ...] = ()) -> np.ndarray:
    """Return the numbers of the flags whose repair applies to `rows`, ordered by row: (k,) int64.

    A rejected row needs none; one that a person has edited, or accepted as it is, keeps its text. Of several repairs of
    one text the surest counts: each is the whole text anew. `checks`: only theirs; () = of all.
    """
    held = np.zeros(index.n, bool)
    held[rows] = True
    held &= ~(verdicts.rejected | verdicts.accepted | verdicts.edited)
    mask = index.with_fix & held[index.flag_row]
    if checks:
        mask &= index.flag_check.mask(checks)
    at = np.flatnonzero(mask)
    field = np.array([FIELDS.index(f) for f in index.flags["field"].take(pa.array(at)).cast(pa.string()).to_pylist()], np.int64)
    surest = np.lexsort((at, -index.flags["score"].to_numpy()[at]))
    _, first = np.unique((index.flag_row[at] * len(FIELDS) + field)[surest], return_index=True)
    return np.sort(at[surest[first]])


def by_check(index: Index, flags: np.ndarray) -> dict[str, int]:
    """Return {check: how many of the flags are its}, most first."""
    names, counts = np.unique(index.flag_check.code[flags], return_counts=True)
    found = {index.flag_check.names[k]: int(n) for k, n in zip(names, counts, strict=True)}
    return dict(sorted(found.items(), key=lambda kv: (-kv[1], kv[0])))


def entries(index: Index, flags: np.ndarray) -> list[Entry]:
    """Return the edits that the repairs of these flags are."""
    mine = index.flags.select(["row", "uid", "message", "field", "fix", "check", "score"]).take(pa.array(flags))
    found = spelled_out(mine).to_pylist()
    before = {name: dict(zip(at, index.rows[name].take(pa.array(at)).to_pylist(), strict=True))
              for name in {f["field"] for f in found} if (at := sorted({f["row"] for f in found if f["field"] == name}))}
    return [Entry(f["uid"], "edit", f["message"], f["field"], before[f["field"]][f["row"]], f["fix"], f["check"], f["score"])
            for f in found]


def preview(index: Index, flags: np.ndarray, most: int) -> list[dict[str, Any]]:
    """Return how the first `most` repairs change their texts: [{"head", "say", "parts": [[op, text], ...]}]."""
    out = []
    for number in flags[:most].tolist():
        flag = index.flags.slice(number, 1).to_pylist()[0]
        before = index.rows.slice(flag["row"], 1)[flag["field"]][0].as_py() or ""
        out.append({"head": f"row {flag['row']:,} · {flag['check']} · {flag['field']}", "say": flag["message"],
                    "parts": parts_of(before, flag["fix"])})
    return out
