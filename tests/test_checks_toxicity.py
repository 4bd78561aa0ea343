"""Toxic language for review: slurs in any spelling, threats and contempt; counter-speech and neutral words pass."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation.checks.toxicity import find, folded, review

SLUR = codecs.decode("snttbg", "rot13")


@pytest.mark.parametrize(("text", "what", "said"), [
    ("I hate all Muslims.", "words against a group", "hate all Muslims"),
    ("Those immigrants are nothing but vermin", "words against a group", None),
    ("Kill all the immigrants now", "words against a group", None),
    ("Gay people should all be burned", "words against a group", None),
    (f"What a {SLUR}!", "a slur", SLUR), (f"You {SLUR.replace('a', '4')}", "a slur", None),
    (f"You {SLUR[0]}*{SLUR[2:]}", "a slur", None), (" ".join(SLUR), "a slur", None),
])
def test_flagged(text, what, said):
    flags = review(make_rows([{"instruction": "x", "response": text}])).to_pylist()
    assert flags and all(f["severity"] is None and f["fix"] is None for f in flags)      # the check itself is info
    assert what in flags[0]["message"] and flags[0]["field"] == "response"
    assert said is None or text[flags[0]["start"]:flags[0]["end"]] == said


@pytest.mark.parametrize("text", [
    "I love Muslims.", "Women are doctors and men are nurses.", "I hate coffee and kill all weeds.",
    "\"I hate Muslims\" is a hateful thing to say.", "Nobody should say that gay people are sick.", "It scunt-horpe is a town.",
    "Kill the process before the parent.", "These animals are vermin.", "", "She is a dog person and he hates rain.",
])
def test_not_flagged(text):
    assert review(make_rows([{"instruction": "x", "response": text}])).num_rows == 0


def test_the_threshold_shows_softened_passages():
    rows = make_rows([{"instruction": "x", "response": "He said that immigrants are vermin, which is wrong."}])
    assert review(rows).num_rows == 0 and review(rows, threshold=0.3).num_rows == 1


@pytest.mark.parametrize(("word", "plain"), [("H4T3", "hate"), ("soooo", "soo"), ("tea!", "tea"), ("1984", "1984")])
def test_folded(word, plain):
    assert folded(word) == plain


@given(st.text(max_size=120))
def test_spans_lie_inside(text):
    assert all(0 <= a <= b <= len(text) and 0 <= score <= 1 for _, a, b, score in find(text))


def test_a_breed_of_cats_is_no_slur():
    assert find("American shorthair and Maine " + codecs.decode("pbba", "rot13")) == []
