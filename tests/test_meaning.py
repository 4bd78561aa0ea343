"""How prompts and responses go together: the map, what it is drawn towards, and who is strange."""

from __future__ import annotations

import numpy as np
import pytest

from curation.distilled import DIM
from curation.meaning import Pairing, regression, strangeness, unit, usual


def test_regression_is_drawn_towards_another_map():
    towards = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert regression(np.zeros((2, 2)), np.zeros((2, 2)), towards) == pytest.approx(towards)
    assert regression(1e9 * np.eye(2), 2e9 * np.eye(2), towards) == pytest.approx(2 * np.eye(2), abs=1e-6)


def test_the_usual_map_is_of_the_tables_size_and_follows_prompts():
    assert usual().shape == (DIM, DIM) and np.isfinite(usual()).all()
    assert np.trace(usual()) > 0, "responses speak of what their prompts speak of"


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
    expected, said = Pairing.learnt(prompts, responses, fold, np.eye(8)).of(prompts, responses, fold)
    value = strangeness(expected, said, (expected[:100], said[:100]))
    sound = np.delete(np.arange(400), [7, 250])
    assert value[[7, 250]].min() > np.quantile(value[sound], 0.99) and np.all((value > 0) & (value <= 1))


def test_a_row_is_judged_alike_in_any_company():
    prompts, responses, fold = pairs()
    pairing = Pairing.learnt(prompts, responses, fold, np.eye(8))
    others = pairing.of(prompts[:100], responses[:100], fold[:100])
    every = strangeness(*pairing.of(prompts, responses, fold), others)
    alone = [strangeness(*pairing.of(prompts[k : k + 1], responses[k : k + 1], fold[k : k + 1]), others)[0] for k in range(400)]
    assert every.tolist() == alone
