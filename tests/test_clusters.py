"""Clusters of duplicates as they are listed, and the word diff."""

import itertools
import random

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import clusters
from curation.model import FLAGS

from .rows import make_rows

PIECES = st.lists(st.sampled_from(["a", "b", "c", " ", "  ", "\n", ".", "é", "word", "🙂", "don't"]), max_size=40).map("".join)


def joined(ops, without):
    return "".join(text for op, text in ops if op != without)


def flags(*found):
    return pa.Table.from_pylist(
        [{"row": r, "uid": f"u{r}", "check": c, "severity": s, "score": x, "field": "row", "turn": -1, "start": None, "end": None,
          "message": m, "related": related, "fix": None} for r, c, s, x, m, related in found], schema=FLAGS)


@settings(deadline=None, max_examples=200)
@given(PIECES, PIECES)
def test_word_diff_gives_both_texts_back(a, b):
    ops = clusters.word_diff(a, b)
    assert joined(ops, "insert") == a and joined(ops, "delete") == b
    assert all(text for _, text in ops) and all(x[0] != y[0] for x, y in itertools.pairwise(ops))


@settings(deadline=None, max_examples=60)
@given(PIECES, PIECES)
def test_word_diff_split_at_rare_words(a, b):
    cells, clusters.CELLS = clusters.CELLS, 4
    try:
        ops = clusters.word_diff(a, b)
    finally:
        clusters.CELLS = cells
    assert joined(ops, "insert") == a and joined(ops, "delete") == b


def test_word_diff_says_what_changed():
    assert clusters.word_diff("Boil the water for nine minutes.", "Boil the water for eight long minutes.") == [
        ("equal", "Boil the water for "), ("delete", "nine"), ("insert", "eight long"), ("equal", " minutes.")]
    assert clusters.word_diff("same", "same") == [("equal", "same")] and clusters.word_diff("", "") == []


def test_word_diff_of_a_megabyte_ends():
    rng = random.Random(3)
    words = [f"w{rng.randrange(50)}" for _ in range(300_000)]
    other = [w if rng.random() > 0.01 else "changed" for w in words]
    for a, b in ((words, other), (words, rng.sample(words, len(words))), (["a"] * 400_000, ["b", "a"] * 200_000)):
        a, b = " ".join(a), " ".join(b)
        ops = clusters.word_diff(a, b)
        assert joined(ops, "insert") == a and joined(ops, "delete") == b


def test_listing():
    texts = [("Say hello", "Hello there, my friend."), ("Other", "Answer"), ("say hello", "Hello there, my friend."),
             ("Say hello", "Hello there, my dear friend."), ("Other!", "Answer")]
    rows = make_rows({"instruction": a, "response": b} for a, b in texts)
    found = flags((2, "dup.exact", "error", 1.0, "says the same as row 0, which is kept", [0]),
                  (3, "dup.near", "warning", 0.75, "near-duplicate (0.80) of row 0, which is kept", [0]),
                  (4, "dup.near", "info", 0.7, "resembles row 1", [1]), (1, "text.odd", "info", 1.0, "odd", []))
    table = clusters.listing(rows, found)
    assert table.schema == clusters.LISTING
    lines = table.to_pylist()
    assert [(x["cluster"], x["row"], x["kept"], x["check"]) for x in lines] == [
        (0, 0, True, ""), (0, 2, False, "dup.exact"), (0, 3, False, "dup.near")]
    assert lines[1]["similarity"] == 1.0 and lines[2]["instruction"] == 1.0 and lines[2]["input"] == 1.0
    assert lines[2]["similarity"] == lines[2]["response"] and 0.5 < lines[2]["response"] < 1
    assert lines[2]["reason"] == "near-duplicate (0.80) of row 0, which is kept"
    chosen = clusters.listing(rows, found, rejected=np.array([True, False, True, False, False])).to_pylist()
    assert [(x["row"], x["kept"]) for x in chosen] == [(3, True), (0, False), (2, False)]
    assert clusters.listing(rows, found.slice(0, 0)).num_rows == 0
    assert clusters.clusters(found) == [(0, [2, 3], [1.0, 0.75])]
