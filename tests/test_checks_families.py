"""Signals of a row: families given stay, others go to the nearest; sizes are counted."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation.checks import families as f
from curation.spec import Spec, parse

SPEC = parse("""
families:
  - id: translate
    description: Translate a text into another language
    examples: ["Translate the sentence into French.", "Translate this text to German", "Translate 'good morning' into Spanish"]
  - id: summarise
    description: Summarise a text
    examples: ["Summarize the following article.", "Give a short summary of this passage.", "Summarize the text in one sentence"]
  - id: sentiment
    description: Classify the sentiment of a review
    examples: ["Classify the sentiment of the review as Positive or Negative.", "Is this review positive or negative?"]
""")
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


def test_given_family_counts_and_unknown_names_do_not():
    rows = make_rows([{"instruction": "Do it.", "response": "x", "family": "translate"},
                      {"instruction": "zzz qqq", "response": "x", "family": "cooking"}])
    out = f.family(rows, SPEC)
    assert out["family"].to_pylist() == ["translate", ""]
    assert out["family_score"].to_pylist()[0] == 1.0


def test_rows_go_to_the_family_they_ask_like():
    out = f.family(make_rows(_rows()), SPEC)
    wanted = ["translate", "summarise", "sentiment"] * 20
    got = out["family"].to_pylist()
    assert sum(a == b for a, b in zip(got, wanted)) >= 54
    assert all(0 <= s < 1 for s in out["family_score"].to_pylist())


def test_given_rows_teach_the_rest():
    rows = _rows(90, given=True)
    for row in rows[60:]:
        row.pop("family")
    out = f.family(make_rows(rows), SPEC)["family"].to_pylist()
    assert out[60:] == ["translate", "summarise", "sentiment"] * 10


def test_no_families_leave_rows_unassigned():
    out = f.family(make_rows(_rows(6)), Spec())
    assert set(out["family"].to_pylist()) == {""} and set(out["family_score"].to_pylist()) == {0.0}


def test_far_prompts_stay_unassigned():
    rows = make_rows([{"instruction": "qwx zzv 88 ppk", "response": "x"}])
    assert f.family(rows, SPEC)["family"].to_pylist() == [""]


def test_empty_table():
    rows = make_rows([])
    assert len(f.family(rows, SPEC)["family"]) == 0 and len(f.n_chars(rows)["n_chars"]) == 0


def test_sizes():
    rows = make_rows([{"instruction": "Hi", "response": " one two\nthree "}, {"instruction": "Hé", "response": ""}])
    assert f.n_words(rows)["n_words"].to_pylist() == [3, 0]
    assert f.n_chars(rows)["n_chars"].to_pylist() == [17, 2]
    assert f.n_chars(rows.slice(1))["n_chars"].to_pylist() == [2]
