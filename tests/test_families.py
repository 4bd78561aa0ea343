"""Families proposed from the data are the same every time, and named by what they ask."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation.families import suggest

NOUNS = ["cat", "river", "city", "train", "garden", "piano", "winter", "bread", "moon", "letter"]


def _rows(n=60, given=False):
    data = []
    for i in range(n):
        noun = NOUNS[i % len(NOUNS)]
        data.append([
            {"instruction": f"Translate the phrase about the {noun} into Italian.", "response": f"Il {noun} bello."},
            {"instruction": f"Summarize the passage on the {noun}.", "input": f"The {noun} is big. It is old. " * 5,
             "response": f"It tells how old the {noun} is and why it matters to people."},
            {"instruction": "Classify the sentiment of the review as Positive or Negative.", "input": f"Nice {noun}!",
             "response": "Positive"},
        ][i % 3])
        if given:
            data[-1]["family"] = ("translate", "summarise", "sentiment")[i % 3]
    return data


def test_no_rows_no_proposals():
    assert suggest(make_rows([])) == []


def test_suggest_takes_what_the_data_gives():
    found = suggest(make_rows(_rows(60, given=True)))
    assert [(x["id"], round(x["share"], 3)) for x in found] == [("translate", 0.333), ("summarise", 0.333), ("sentiment", 0.333)]
    by_meta = suggest(make_rows([{"instruction": f"q{i}", "response": "a", "category": "ab"[i % 2]} for i in range(10)]))
    assert sorted(x["id"] for x in by_meta) == ["a", "b"]


def test_suggest_clusters_are_named_and_repeatable():
    rows = make_rows(_rows(300))
    found = suggest(rows, k=3, seed=0)
    assert found == suggest(rows, k=3, seed=0)
    assert abs(sum(x["share"] for x in found) - 1) < 1e-9
    assert {x["id"].split("-")[0] for x in found} == {"translate", "summarize", "classify"}
    assert all(1 <= len(x["examples"]) <= 4 and x["description"] for x in found)
    assert suggest(rows.slice(0, 5))
