"""Builds a ROWS table from plain dictionaries, for tests and benchmarks that call checks without a store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from curation.model import ROWS
from curation.text import uid_of


def _turns(given: Mapping[str, Any]) -> list[dict[str, str]]:
    if given.get("messages"):
        return [{"role": m["role"], "content": m["content"]} for m in given["messages"]]
    instruction, extra = given.get("instruction") or "", given.get("input") or ""
    turns = [{"role": "system", "content": given["system"]}] if given.get("system") else []
    turns.append({"role": "user", "content": f"{instruction}\n{extra}" if extra else instruction})
    turns.append({"role": "assistant", "content": given.get("response") or given.get("output") or ""})
    return turns


def make_rows(given: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return a ROWS table, one row for each mapping.

    Keys read: instruction, input, response (or output), system, messages, family, source, split, id; the rest goes to
    `meta`. Identical rows get "#k" after their uid, as in an import.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ROWS.names}
    copies: Counter[str] = Counter()
    known = {*ROWS.names, "output"}
    for i, row in enumerate(given):
        turns = _turns(row)
        uid = uid_of((t["role"], t["content"]) for t in turns)
        k = copies[uid]
        copies[uid] += 1

        def last(role: str, turns: list[dict[str, str]] = turns) -> str:
            return next((t["content"] for t in reversed(turns) if t["role"] == role), "")

        values = {
            "row": i, "uid": f"{uid}#{k}" if k else uid, "id": str(row.get("id", i)), "messages": turns,
            "system": last("system"),
            "instruction": row.get("instruction") or ("" if "instruction" in row else last("user")),
            "input": row.get("input") or "", "response": last("assistant"),
            "family": row.get("family"), "source": row.get("source", "test"), "split": row.get("split"),
            "meta": json.dumps({k: v for k, v in row.items() if k not in known}, default=str),
        }
        for name, value in values.items():
            columns[name].append(value)
    arrays = [
        pa.array(columns[f.name], f.type.value_type).dictionary_encode() if pa.types.is_dictionary(f.type)
        else pa.array(columns[f.name], f.type)
        for f in ROWS
    ]
    return pa.table(arrays, schema=ROWS)
