"""Likeness of prompts and references: the kernel's scores are those of the formula, each prompt by itself."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import likeness
from curation.likeness import BESIDE, CANDIDATES, CHANCE, FUNCTION_WORDS, USUAL, book_of, nearest, usual

some = st.lists(st.sampled_from([
    "the", "of", "red", "green", "lamp", "river", "horse", "poem", "law", "3", "7", "12"]), max_size=9).map(" ".join)


def plainly(prompt: str, ref: str, refs: list[str]) -> float:
    """The formula of `nearest` in plain Python."""
    function = {w[:5] for w in FUNCTION_WORDS.split()}

    def idf(stem: str) -> float:
        held = sum(stem in {w[:5] for w in r.split()} for r in refs) + (BESIDE * USUAL if stem in function else 0)
        seen = any(stem in {w[:5] for w in r.split()} for r in refs)
        return math.log((1 + len(refs) + BESIDE) / (1 + held)) + 1 if seen else math.log(1 + len(refs) + BESIDE) + 1

    a, b = {w[:5] for w in prompt.split()}, {w[:5] for w in ref.split()}
    x, y = ({float(w) for w in t.split() if w.isdigit()} for t in (prompt, ref))
    numbers = len(x & y) / len(x | y) if x | y else 0.5
    common, p, r = (sum(map(idf, s)) for s in (a & b, a, b))
    return common / math.sqrt((p + CHANCE) * (r + CHANCE)) * (1 + numbers) / 2


@settings(max_examples=100, deadline=None)
@given(st.lists(some, min_size=1, max_size=6), st.lists(some, min_size=1, max_size=8))
def test_scores_are_those_of_the_formula(prompts: list[str], refs: list[str]) -> None:
    every = np.tile(np.arange(len(refs), dtype=np.int32), (len(prompts), 1))
    ref, score, _ = nearest(book_of(pa.array(refs)), pa.array(prompts), every)
    for i, prompt in enumerate(prompts):
        got = {int(k): float(s) for k, s in zip(ref[i], score[i]) if k >= 0}
        assert sorted(got) == (list(range(len(refs))) if prompt else []), "each reference once"
        for k, s in got.items():
            assert s == pytest.approx(plainly(prompt, refs[k], refs), abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(some, min_size=2, max_size=8), st.lists(some, min_size=1, max_size=8), st.integers(1, 7))
def test_a_prompt_is_judged_by_itself(prompts: list[str], refs: list[str], cut: int) -> None:
    book = book_of(pa.array(refs))
    whole = nearest(book, pa.array(prompts))
    parts = [nearest(book, pa.array(p, pa.string())) for p in (prompts[:cut], prompts[cut:])]
    for k in range(3):
        assert np.array_equal(whole[k], np.concatenate([p[k] for p in parts]))


def test_the_nearest_are_at_most_five_and_the_right_ones() -> None:
    refs = [f"the lamp of {w} at the river" for w in ["red", "green", "blue", "black", "white", "grey", "pink"]]
    ref, score, telling = nearest(book_of(pa.array(refs)), pa.array(["the lamp of pink at the river", "x", ""]))
    assert ref.shape == (3, CANDIDATES) and ref[0, 0] == 6 and (ref[1:] == -1).all() and not score[1:].any()
    assert telling[0, 0] and score[0, 0] == pytest.approx(book_of(pa.array(refs)).itself(np.array([6]))[0], abs=1e-5)


def test_words_that_are_numbers_tell_little() -> None:
    book = book_of(pa.array(["Sort 11 12 13 14 15 16 17 18 19 ascending"]))
    _, score, telling = nearest(book, pa.array(["Median: 11 12 13 14 15 16 17 18 19"]))
    assert score[0, 0] > 0.3 and not telling[0, 0]


def test_usual_is_the_score_that_so_many_exceed() -> None:
    ref = np.array([[0, 1], [0, -1], [0, 1], [1, 0]])
    score = np.array([[0.9, 0.2], [0.5, 0.0], [0.7, 0.4], [0.6, 0.3]])
    assert usual(ref, score, np.array([0, 1]), 2).tolist() == [0.5, 0.2]
    assert usual(ref, score, np.array([0, 1]), 3).tolist() == [0.3, 0.0]


def test_warm_compiles_without_a_trace() -> None:
    assert likeness.warm() is None
