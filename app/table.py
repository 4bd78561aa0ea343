"""A page of rows as a table with selection; what is selected comes back as row numbers, never as positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from .state import Index, Key, Verdicts, short_hash, table_of

MARKS = {"error": "✖", "warning": "▲", "info": "●", "": ""}
HEIGHT = 640


@dataclass(frozen=True)
class Picked:
    """What is selected in a table page: ticked rows, and the row whose cell was clicked last (None = no cell)."""

    rows: tuple[int, ...]
    opened: int | None


def rows_table(
    key: Key, index: Index, verdicts: Verdicts, rows: np.ndarray, *, nonce: int,
    tags: Mapping[str, np.ndarray] | None = None, scores: Mapping[int, float] | None = None,
) -> Picked:
    """Draw the rows and return what is selected in them. `tags`: rows that carry each; `scores`: a number a row to show.

    A keyed table keeps its selection by position when its data change, so the key holds everything that decides
    which rows stand where, and `nonce`, which a bulk action raises to empty the selection.
    """
    columns = table_of(index, verdicts, rows)
    columns["flags"] = [" ".join((MARKS[w], ", ".join(c))).strip()
                        for w, c in zip(columns.pop("worst"), columns.pop("checks"), strict=True)]
    for tag, held in (tags or {}).items():
        columns["verdict"] = [f"{v} #{tag}".strip() if held[i] else v for v, i in zip(columns["verdict"], rows, strict=True)]
    names = ["row", "verdict", "flags", "prompt", "response", "family"]
    if scores:
        columns["alike"] = [scores.get(int(i)) for i in rows]
        names.insert(1, "alike")
    frame = pd.DataFrame(columns)[names]
    event = st.dataframe(
        frame, key=f"rows-{short_hash(key.rows_hash, key.flags, rows.tolist(), nonce)}", hide_index=True, height=HEIGHT,
        on_select="rerun", selection_mode=["multi-row", "single-cell"], lazy=False, alt="Rows in this filter",
        column_config={
            "row": st.column_config.NumberColumn("row", width=60, format="%d"),
            "alike": st.column_config.NumberColumn("alike", width=60, format="%.2f", help="How like the first row, 1 = the same"),
            "verdict": st.column_config.TextColumn("verdict", width=90),
            "flags": st.column_config.TextColumn("flags", width=150, help="✖ error, ▲ warning, ● info: the worst one"),
            "prompt": st.column_config.TextColumn("prompt", width=230),
            "response": st.column_config.TextColumn("response", width=230),
            "family": st.column_config.TextColumn("family", width=95),
        })
    selection = event["selection"]
    cells = selection.get("cells", [])
    return Picked(tuple(int(rows[i]) for i in selection["rows"] if i < len(rows)),
                  int(rows[cells[0][0]]) if cells and cells[0][0] < len(rows) else None)
