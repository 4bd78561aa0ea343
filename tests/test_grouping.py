"""Groups of rows that should agree: by family, by what the data says, by the same instruction with an input of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation import grouping
from curation.grouping import groups
from curation.remembered import remembering

INPUTS = st.sampled_from(["", " ", "\u2003\n", "a", " b", "\u2003é", "é", "\x1f", "\x7f", "7"])
ASKS = st.sampled_from(["", "Add 1 and 22.", "Add 333 and 4.", "Add and .", "Add 1 and 2", "Say it.", "Nenne ٣ Städte", "0",
                        "12345678901"])
FAMILIES = st.sampled_from([None, "", "a", "b"])


def chunked(values: list[str | None], cut: int) -> pa.ChunkedArray:
    whole = pa.array(values, pa.string())
    return pa.chunked_array([whole.slice(0, cut), whole.slice(cut)])


def expected(rows: list[dict[str, object]], least: int, sure: float) -> list[tuple[str, str, list[int]]]:
    """The groups, said row by row."""
    kept: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        if row["family"] and row["score"] is not None and float(str(row["score"])) >= sure:
            kept.setdefault(("s", str(row["family"])), []).append(i)
        elif row["given"]:
            kept.setdefault(("g", str(row["given"])), []).append(i)
        elif str(row["input"]).strip() and row["instruction"]:
            kept.setdefault(("i", re.sub("[0-9]+", "0", str(row["instruction"]))), []).append(i)
    return [(f"family {name!r}" if kind != "i" else f"rows asked {name!r}", name if kind == "s" else "", at)
            for (kind, name), at in kept.items() if len(at) >= max(least, 1)]


@settings(deadline=None)
@given(data=st.data())
def test_groups_are_those_that_a_look_at_each_row_gives(data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.fixed_dictionaries({
        "instruction": ASKS, "input": INPUTS, "family": FAMILIES, "given": FAMILIES,
        "score": st.sampled_from([None, 0.0, 0.3, 0.5, 1.0])}), min_size=1, max_size=30))
    cut = data.draw(st.integers(0, len(drawn)))
    rows = pa.table({"instruction": chunked([r["instruction"] for r in drawn], cut),
                     "input": chunked([r["input"] for r in drawn], cut),
                     "family": chunked([r["given"] for r in drawn], cut).dictionary_encode()})
    family, score = chunked([r["family"] for r in drawn], cut), pa.array([r["score"] for r in drawn], pa.float32())
    least = data.draw(st.integers(0, 4))
    found = [(shown, name, at.tolist()) for shown, name, at in groups(rows, family, score, least=least, min_family=0.5)]
    assert found == expected(drawn, least, 0.5)


def test_what_an_instruction_says_beside_its_digits_keeps_rows_apart() -> None:
    asks = ["Add 1 and 2.", "Add 10 and 20.", "Add 1 and 2!", "Add 1and 2.", "Add  and ."]
    rows = make_rows([{"instruction": a, "input": f"{k}", "response": "3"} for k, a in enumerate(asks)])
    none, nought = pa.repeat("", len(asks)), pa.array(np.zeros(len(asks), np.float32))
    assert [at.tolist() for *_, at in groups(rows, none, nought, least=2, min_family=0.5)] == [[0, 1]]


def test_the_same_columns_are_read_once_and_others_anew_while_it_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    asked = grouping._asked
    monkeypatch.setattr(grouping, "_asked", lambda rows, at: read.append(rows.num_rows) or asked(rows, at))
    rows = make_rows([{"instruction": f"Add {k}.", "input": f"{k}", "response": "3"} for k in range(4)])
    none, nought = pa.chunked_array([pa.repeat("", 4)]), pa.chunked_array([pa.array(np.zeros(4, np.float32))])
    half = pa.chunked_array([pa.array([0.6, 0.6, 0.0, 0.0], pa.float32())])
    named = pa.chunked_array([pa.array(["a", "a", "", ""])])

    def found(rows: pa.Table, family: pa.ChunkedArray, score: pa.ChunkedArray, least: int, sure: float) -> list[list[int]]:
        return [at.tolist() for *_, at in groups(rows, family, score, least=least, min_family=sure)]

    with remembering():
        assert found(rows, none, nought, 2, 0.5) == [[0, 1, 2, 3]] and len(read) == 1
        assert found(rows.select(["row", "family", "instruction", "input"]), none, nought, 4, 0.5) == [[0, 1, 2, 3]]
        assert found(rows, none, nought, 5, 0.5) == [] and len(read) == 1
        assert found(rows, named, half, 2, 0.5) == [[0, 1], [2, 3]] and len(read) == 2
        assert found(rows, named, half, 2, 0.7) == [[0, 1, 2, 3]] and len(read) == 3
        other = rows.set_column(rows.column_names.index("input"), "input", pa.array(["", "1", "2", "3"]))
        assert found(other, named, half, 2, 0.7) == [[1, 2, 3]] and len(read) == 4
        assert found(rows.slice(0, 2), none.slice(0, 2), nought.slice(0, 2), 2, 0.5) == [[0, 1]] and len(read) == 5
    assert found(rows, none, nought, 2, 0.5) == found(rows, none, nought, 2, 0.5) and len(read) == 7
