"""The table of word vectors: pieces of words, likeness of related words, and how prompts and responses go together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.meaning import Pairing, Words, regression, strangeness, unit, usual, words


def test_words_are_cut_into_the_longest_pieces():
    table = Words(["play", "##ing", "##s", "a"], np.eye(4, dtype=np.float32))
    assert table.pieces("playings") == (0, 1, 2) and table.pieces("a") == (3,) and table.pieces("plax") == ()
    assert table.of(["Plays, a play!"])[0] == pytest.approx(np.array([2, 0, 1, 1]) / 6**0.5)
    assert table.of(["xyz", ""]).tolist() == [[0.0] * 4] * 2


def test_related_words_lie_closer():
    sea, waves, oven = words().of(["The sea is deep", "waves in the ocean", "an oven for bread"])
    assert sea @ waves > 0.4 > 0.2 > sea @ oven


@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_text_has_a_vector_of_length_1_or_0(texts):
    x = words().of(texts)
    length = np.linalg.norm(x, axis=1)
    assert x.shape == (len(texts), 128) and np.all(np.isclose(length, 1, atol=1e-3) | (length == 0))


def test_regression_is_drawn_towards_another_map():
    towards = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert regression(np.zeros((2, 2)), np.zeros((2, 2)), towards) == pytest.approx(towards)
    assert regression(1e9 * np.eye(2), 2e9 * np.eye(2), towards) == pytest.approx(2 * np.eye(2), abs=1e-6)
    assert usual().shape == (128, 128)


def test_strange_is_the_row_whose_response_follows_another_rule():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    prompts = unit(rng.normal(size=(400, 8)))
    responses = unit(prompts @ turn + 0.05 * rng.normal(size=(400, 8)))
    responses[[7, 250]] = responses[[250, 7]]
    fold = np.arange(400) % Pairing.FOLDS
    pairing = Pairing(prompts, responses, fold, np.eye(8))
    pairs = pairing.of(prompts, responses, fold)
    value = strangeness(*pairs, (pairs[0][:100], pairs[1][:100]))
    sound = np.delete(np.arange(400), [7, 250])
    assert value[[7, 250]].min() > np.quantile(value[sound], 0.99) and np.all((value > 0) & (value <= 1))
