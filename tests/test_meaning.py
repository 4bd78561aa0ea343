"""How prompts and responses go together: the map, what it is drawn towards, and who is strange."""

from __future__ import annotations

import numpy as np
import pytest

from curation.distilled import DIM
from curation.meaning import (
    Company,
    Pairing,
    chance,
    definite,
    enumerates,
    evidence,
    fitting,
    looks,
    prior,
    regression,
    strangeness,
    stretched,
    unit,
    usual,
    usual_words,
)

PLAIN = (np.eye(8), np.eye(8) / 8)


def test_regression_is_drawn_towards_another_map():
    towards = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert regression(np.zeros((2, 2)), np.zeros((2, 2)), towards) == pytest.approx(towards)
    assert regression(1e9 * np.eye(2), 2e9 * np.eye(2), towards) == pytest.approx(2 * np.eye(2), abs=1e-6)


def test_the_usual_map_is_of_the_tables_size_and_follows_prompts():
    linear, moments = usual()
    assert linear.shape == moments.shape == (DIM, DIM) and np.isfinite(linear).all()
    assert np.trace(linear) > 0, "responses speak of what their prompts speak of"
    assert np.trace(moments) == pytest.approx(1, abs=0.01) and np.array_equal(moments, moments.T)


def test_vectors_are_stretched_where_they_seldom_differ():
    many = np.random.default_rng(0).normal(size=(5000, 3)) * [10, 1, 1]
    even = many @ stretched(many.T @ many)
    spread = np.sqrt(np.diag(even.T @ even) / 5000)
    assert spread.max() / spread.min() < 2


def test_lengths_are_1_or_0():
    assert np.linalg.norm(unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)), axis=1).tolist() == [1.0, 0.0]


def pairs():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    prompts = unit(rng.normal(size=(400, 8)))
    responses = unit(prompts @ turn + 0.05 * rng.normal(size=(400, 8)))
    responses[[7, 250]] = responses[[250, 7]]
    return prompts, responses, np.arange(400) % Pairing.FOLDS


def test_strange_is_the_row_whose_response_follows_another_rule():
    prompts, responses, fold = pairs()
    expected, said = Pairing.learnt(prompts, responses, fold, PLAIN).of(prompts, responses, fold)
    value = strangeness(expected, said, (expected[:100], said[:100]))
    sound = np.delete(np.arange(400), [7, 250])
    assert value[[7, 250]].min() > np.quantile(value[sound], 0.99) and np.all((value > 0) & (value <= 1))


def test_a_row_is_judged_alike_in_any_company():
    prompts, responses, fold = pairs()
    pairing = Pairing.learnt(prompts, responses, fold, PLAIN)
    others = pairing.of(prompts[:100], responses[:100], fold[:100])
    every = strangeness(*pairing.of(prompts, responses, fold), others)
    alone = [strangeness(*pairing.of(prompts[k : k + 1], responses[k : k + 1], fold[k : k + 1]), others)[0] for k in range(400)]
    assert every.tolist() == alone


def test_a_better_fitting_prompt_is_a_lead():
    company = Company(np.eye(3), np.eye(3), np.eye(3))
    expected, said = np.eye(3)[[0, 0]], np.eye(3)[[0, 1]]
    leads = company.leads(expected, said)
    assert leads[:, 1].tolist() == [0, 1], "the second response fits the prompt of another row"
    assert company.leads(expected, said, np.array([-1, 1]))[1, 1] == 0, "which does not count when it is its own"
    assert company.strange(expected, said).tolist() == pytest.approx([0.375, 0.75])


def test_what_words_tell():
    prompts = ["Name three rivers of France.", "Why is the sea salty?"]
    look = looks(prompts, ["Loire, Rhone, Garonne, Seine", "The salt of the sea comes from rivers and rocks."])
    assert look[:, 2].tolist() == [0, 1], "the sea; salt and salty differ"
    assert look[:, 4].tolist() == [1, 1] and look[:, 5].tolist() == [1, 0]
    assert look[0, 6:].tolist() == [1, 0] and look[1, 6:].tolist() == [0, 0]
    assert not definite("Write a poem.") and definite("Tell me why.") and definite("It rains. Shall we go?")
    assert enumerates("one, two") == 0 and enumerates("- one\n- two\n- three") == 1
    assert {"person", "differ"} <= usual_words() and "violin" not in usual_words()


def test_evidence_grows_with_strangeness_and_rivals():
    look = looks(["Why is the sea salty?"] * 3, ["Violins have four strings and a bow of horse hair."] * 3)
    found = evidence(np.array([0.02, 0.5, 0.5]), np.array([[0.1, 0.1], [0.1, 0.1], [0.1, 0.6]]), look)
    assert found[0] < found[1] < found[2]


def test_the_share_of_swapped_rows_is_found_without_labels():
    rng = np.random.default_rng(0)
    own, other = rng.normal(-4.5, 3, 2000), rng.normal(4.5, 3, 100)  # log odds as two normals of such distance have them
    assert prior(np.concatenate([own, other]), 0) == pytest.approx(100 / 2100, rel=0.2)
    assert prior(own[own < 2], 0) < 0.001 and prior(np.zeros(0), 0) <= 0.02 and prior(np.zeros(0), 1000) < 0.001
    assert fitting() < -2 and chance(np.array([0.0]), 0.5)[0] == 0.5
    assert chance(np.array([1e9, -1e9]), 0.01) == pytest.approx([1, 0])
