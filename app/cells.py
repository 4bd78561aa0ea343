"""The matrices of refusals and edge cases for the page: as of the last check, what each cell shows, what a click means."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import streamlit as st

from curation import drafts
from curation.errors import CurationError
from curation.matrices import SIDES, Matrix, edge_matrix, refusal_matrix
from curation.spec import Spec
from curation.store import Store

from . import state
from .component import component
from .memory import let_go

Cell = drafts.Cell


@dataclass(frozen=True)
class Checked:
    """The rows of the last check that the newest rows begin with, and their signals."""

    version: str
    rows: pa.Table
    signals: pa.Table
    behind: int         # rows that were added since and have not been looked at


def last_checked(store: Store) -> Checked | None:
    """Return the rows of the last check with their signals; None when the newest rows do not begin with them.

    Rows that were written or appended since come behind them, so that row numbers are those of the newest version.
    """
    current = store.current()
    if current is None or not store.versions():
        return None
    version, n = store.version, store.rows(columns=["row"]).num_rows
    while store.rows_hash(version) != current["rows_hash"]:
        before = store.about(version).get("appended_to")
        if before is None or before not in store.versions():
            return None
        version = before
    rows = store.rows(version)
    signals = rows.select(["row", "uid"])
    for key in current["signals"].values():
        for name, column in store.signal_columns(key).items():
            signals = signals.append_column(name, column)
    return Checked(version, rows, signals, n - rows.num_rows)


@st.cache_resource(max_entries=4, show_spinner=False)
def _last_checked(folder: str, rows_hash: str, flags: int) -> Checked | None:
    return last_checked(Store(folder))


def checked_at(key: state.Key) -> Checked | None:
    return _last_checked(*key.checked)


@st.cache_resource(max_entries=8, show_spinner="Counting the cells …")
def _matrix(checked: tuple[str, str, int], decided: tuple[str, str, int] | None, spec: int, name: str) -> Matrix:
    found = _last_checked(*checked)
    assert found is not None, "asked for a matrix of rows that have not been checked"
    rows, signals = found.rows, found.signals
    if decided is not None:
        stays = pa.array(~state.read_verdicts(Store(decided[0]), rows).rejected)
        rows, signals = rows.select(["row"]).filter(stays), signals.filter(stays)     # no text is copied
    if name == "edges" and "edge" not in signals.column_names:
        raise CurationError("these rows were checked before edge cases were looked for", f"curation check {checked[0]}")
    matrix = (edge_matrix if name == "edges" else refusal_matrix)(
        rows, signals, state.spec_at(checked[0], spec), texts=found.rows)
    let_go(Path(checked[0]))
    return matrix


def matrix_at(key: state.Key, name: str, *, kept: bool) -> Matrix:
    """Return the matrix `name` ("refusals" or "edges"); `kept` leaves rejected rows out."""
    return _matrix(key.checked, key.decided if kept else None, key.spec, name)


# ---- what the grid shows


def least_of(cell: Cell, spec: Spec) -> int:
    """Return how many rows the spec wants in a cell, 0 = it does not say."""
    category, side, answer = cell
    for c in spec.refusals.categories:
        if c.id == category:
            wanted = {("should refuse", "refused"): c.min_refused, ("should comply", "answered"): c.min_answered}
            return wanted.get((side, answer), 0)
    return next((e.min_rows for e in spec.edge_cases if e.id == category and side == e.expect), 0)


def grid_of(matrix: Matrix, spec: Spec) -> dict[str, Any]:
    """Return what the grid component draws: groups of columns and one line a category with a cell for each column."""
    refusals = matrix.name == "refusals"
    groups = [{"name": side.capitalize(), "columns": list(matrix.answers)} for side in SIDES] if refusals else \
        [{"name": "What the response does", "columns": list(matrix.answers)}]
    by: dict[str, list[dict[str, Any]]] = {}
    found = matrix.cells.select(["category", "side", "answer", "count", "right"]).to_pylist()
    filled = {(c["category"], c["side"]) for c in found if c["right"] and c["count"]}    # a refusal and a redirection are right
    for one in found:
        by.setdefault(one["category"], []).append(_shown(matrix, one, spec, (one["category"], one["side"]) in filled))
    lines = []
    for category in matrix.categories:
        cells = by.get(category, [])
        note = "" if refusals else f"should {cells[0]['cell'][1].replace('_', ' ')}"
        lines.append({"name": category, "note": note, "cells": cells})
    return {"groups": groups, "lines": lines}


def _shown(matrix: Matrix, found: Mapping[str, Any], spec: Spec, filled: bool) -> dict[str, Any]:
    cell = (found["category"], found["side"], found["answer"])
    offered, least, count = drafts.offered(matrix, cell), least_of(cell, spec), found["count"]
    where = f"{cell[0]}, {cell[1].replace('_', ' ')}, {cell[2]}"
    if not found["right"]:
        tone = "wrong" if count else ""
    else:
        tone = "gap" if offered and (not filled or count < least) else "right" if count else ""
    text = f"{count:,} of {least:,}" if offered and count < least else f"{count:,}" if count else ""
    hint = f"{where}: {count:,} rows" + (f", the spec wants {least:,}" if least else "")
    return {"cell": list(cell), "text": text, "tone": tone, "count": count, "add": offered, "hint": hint}


def clicked(word: str, matrix: Matrix) -> tuple[str, Cell] | None:
    """Return (rows or write, cell) that a click on the grid meant; None for a cell that the matrix does not have."""
    if not word:
        return None
    value = json.loads(word)
    cell = tuple(value["cell"])
    return (value["do"], cell) if cell in all_cells(matrix) else None


def all_cells(matrix: Matrix) -> list[Cell]:
    return [(c["category"], c["side"], c["answer"])
            for c in matrix.cells.select(["category", "side", "answer"]).to_pylist()]


def named(word: str, matrix: Matrix) -> Cell | None:
    """Return the cell that the address of the page names ("category|side|answer"), None when there is none."""
    return next((c for c in all_cells(matrix) if "|".join(c) == word), None)


def words_of(cell: Cell) -> str:
    """Return a cell in words, as a condition of Browse and as a title."""
    return f"{cell[0]} · {cell[1].replace('_', ' ')} · {cell[2]}"


def rows_behind(matrix: Matrix, cell: Cell) -> np.ndarray:
    return np.array(matrix.rows(*cell), np.int64)


# ---- the grid component


def grid(shown: Mapping[str, Any], *, key: str, chosen: Sequence[str] = ()) -> str:
    """Draw the grid and return the click as a word for `clicked`, or ""."""
    result = component("grid", "cg-grid")(
        key=key, height="content", on_open_change=lambda: None, data={**shown, "chosen": list(chosen)})
    return result.open or ""
