"""Rows by their content: what is taken from columns of many chunks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from curation import contents
from curation.contents import taken

TEXTS = [f"{'ä' * (i % 3)} row {i}" * (i % 5) for i in range(400)]


def chunked(texts: list[str | None], kind: pa.DataType) -> pa.ChunkedArray:
    """Chunks of unequal length, empty ones and slices of longer arrays among them."""
    cuts = [0, 0, 7, 8, 100, 100, 250, 400]
    whole = pa.array(texts, kind)
    return pa.chunked_array([whole.slice(a, b - a) if a % 2 else pa.array(texts[a:b], kind)
                             for a, b in pairwise(cuts)], kind)


@pytest.mark.parametrize("at", [[], [0], [399], [6, 7, 8, 99, 100, 249, 250], [250, 3, 3, 399, 0, 8]])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("gap", [None, "", "x"])
def test_taken_gives_what_take_gives(at: list[int], kind: pa.DataType, gap: str | None) -> None:
    column = chunked([gap, *TEXTS[1:-1], gap], kind)
    found = taken(column, np.array(at, np.int64))
    found.validate(full=True)
    assert found.type == kind and found.to_pylist() == [column[i].as_py() for i in at]


def test_taken_from_empty_texts_and_more_than_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = pa.chunked_array([pa.array([""] * 50)] * 3)
    assert taken(empty, np.array([0, 149])).to_pylist() == ["", ""]
    monkeypatch.setattr(contents, "ONE_PIECE", 10)
    column = chunked(TEXTS, pa.string())
    found = taken(column, np.array([3, 120, 399]))
    assert found.num_chunks == 3 and found.to_pylist() == [TEXTS[3], TEXTS[120], TEXTS[399]]
