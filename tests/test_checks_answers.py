"""Answers against their question: embeddings stand in as a table here, so that the test needs no model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation.checks.answers import final_answer, majority, mismatch
from curation.past import NoPast


class Table:
    """Vectors by topic: texts of the sea one way, all others across."""

    def of(self, uids, texts, model=""):
        assert len(uids) == len(texts)
        return np.array([[1.0, 0.0] if "sea" in t or "waves" in t else [0.0, 1.0] for t in texts], np.float32)


def test_mismatch():
    long = "Bread needs steam in the oven while baking, which keeps the crust soft until the crumb has risen."
    near = "Tides come from the pull of the moon, and waves from wind blowing across open water for many miles."
    rows = make_rows(
        [
            {"instruction": "Why is the sea salty?", "response": long},
            {"instruction": "Why is the sea salty?", "response": near},
            {"instruction": "How is bread baked?", "response": long},
            {"instruction": "Why is the sea salty?", "response": "Rivers."},
        ]
    )
    flags = mismatch(rows, Table(), embed=True).to_pylist()
    assert [(f["row"], f["start"], f["end"]) for f in flags] == [(0, 0, len(long))]
    assert "far from it in meaning (cosine 0.00)" in flags[0]["message"]


class Refuses:
    """Vectors that must not be asked for."""

    def of(self, uids, texts, model=""):
        raise AssertionError("embeddings were computed though nobody asked for them")


def test_mismatch_by_words_alone_is_an_info_on_questions():
    long = "Bread needs steam in the oven while baking, which keeps the crust soft until the crumb has risen."
    rows = make_rows(
        [
            {"instruction": "Why is the sea salty?", "response": long},
            {"instruction": "Write a text about the sea.", "response": long},
            {"instruction": "How is bread baked?", "response": long},
            {"instruction": "Why is the sea salty?", "response": "Rivers."},
        ]
    )
    flags = mismatch(rows, Refuses()).to_pylist()
    assert [(f["row"], f["start"], f["end"], f["severity"], f["message"]) for f in flags] == [
        (0, 0, len(long), "info", "The response shares no word with the question.")
    ]
    assert mismatch(rows.slice(0, 0), Refuses()).num_rows == 0


def test_majority():
    ask = "How many figs are left?"
    rows = make_rows(
        [{"instruction": ask, "response": f"So the answer is {n}."} for n in (4, 4, 5, 4)]
        + [{"instruction": "How many plums?", "response": str(n)} for n in (1, 2)]
    )
    flags = majority(rows, NoPast(len(rows))).to_pylist()
    assert [(f["row"], f["related"], f["message"]) for f in flags] == [
        (2, [0, 1, 3], "3 of 4 answers to this question say '4'; this one says '5'.")
    ]


def test_final_answer():
    assert final_answer("It is 3 * 4 = 12.\n#### 1,200", True) == "1200"
    assert final_answer("No numbers here.", True) is None
    assert final_answer(" Positive. ", False) == "positive"
    assert final_answer("It is a long sentence about things.", False) is None
