"""manner: rows that set the same task lie close whatever they are about, and no text breaks it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import manner
from curation.manner import FORMS, edge_text, edge_words, forms, short_answers, space

TOPICS = ["cats", "rivers", "trains", "gardens", "pianos", "winters", "bread", "moons", "letters", "bridges"]


def rows(n=60):
    kinds = [
        ("Translate the phrase about {} into Italian.", "", "Qualcosa su {} in italiano."),
        ("Is the statement about {} true or false?", "", "True"),
        ("List five facts about {}.", "", "- {}\n- old\n- big\n- rare\n- loud"),
    ]
    made = [[part.format(TOPICS[i // 3 % 10]) for part in kinds[i % 3]] for i in range(n)]
    return [list(column) for column in zip(*made)]


def test_the_task_counts_and_the_topic_does_not():
    x = space(*rows())
    assert x.shape[0] == 60 and x.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    like = x @ x.T
    same_task, same_topic = like[0, 3], like[0, 1]
    assert same_task > 0.6 > 0.3 > same_topic


def test_the_same_rows_give_the_same_vectors_and_one_row_more_hardly_moves_them():
    asks, given, responses = rows(300)
    keys = np.arange(300, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    one = space(asks, given, responses, keys=keys)
    np.testing.assert_array_equal(one, space(asks, given, responses, keys=keys))
    less = space(asks[1:], given[1:], responses[1:], keys=keys[1:])
    np.testing.assert_allclose((one @ one.T)[1:, 1:], less @ less.T, atol=0.05)


def test_a_meaning_counts_for_a_quarter():
    asks, given, responses = rows(90)
    meanings = np.random.default_rng(0).normal(size=(90, 80)).astype(np.float32)
    with_, without = space(asks, given, responses, meanings), space(asks, given, responses)
    assert with_.shape[1] == without.shape[1] + manner.MEAN_DIM
    assert 0.2 < (with_ @ with_.T)[0, 3] < (without @ without.T)[0, 3]


def test_what_is_measured_of_a_row():
    x = forms(["Is it so?", "Copy: abc def", "Write code.\nNow, or later:"], ["", "abc def", ""],
              ["Yes.", "abc def", "```\nx = 1\n```\n- a\n- b"], short_answers([]))
    of = {name: x[:, k].tolist() for k, name in enumerate(FORMS)}
    assert of["response_yes_no"] == [1, 0, 0] and of["response_in_prompt"] == [0, 1, 0] and of["response_code"] == [0, 0, 1]
    assert of["response_list"] == [0, 0, 1] and of["has_input"] == [0, 1, 0] and of["prompt_ends_question"] == [1, 0, 0]
    assert of["prompt_or"] == [0, 0, 1] and of["prompt_ends_colon"] == [0, 0, 1] and of["response_from_prompt"][1] == 1
    answers = ["Sports", "sports", "Sports ", "a long answer of six words"]
    labels = forms(["q"] * 4, [""] * 4, answers, short_answers(answers))
    assert labels[:, FORMS.index("response_label")].tolist() == [1, 1, 1, 0]


def test_the_edges_of_a_long_prompt():
    long = "Read this: " + "word " * 5000 + "Who is the hero?"
    assert edge_words(long)[:3] == ["read", "this", ":"] and edge_words(long)[-5:] == ["who", "is", "the", "hero", "?"]
    assert len(edge_words(long, "x")) == 2 * manner.EDGE_WORDS + 2 and edge_words("In 1984?") == ["in", "0", "?"]
    assert edge_text(long).endswith("word Who is the hero?") and len(edge_text(long).split()) == 2 * manner.EDGE_TEXT + 1
    assert edge_text("a  short\nprompt") == "a  short\nprompt"


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_rows_and_empty_ones(n):
    x = space([""] * n, [""] * n, [""] * n)
    assert x.shape[0] == n and np.isfinite(x).all()
    assert np.isfinite(space(["Do it."] * n, [""] * n, ["ok"] * n, np.ones((n, 5), np.float32))).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=20), st.text(max_size=40)), min_size=1, max_size=12))
def test_any_text(made):
    x = space(*(list(column) for column in zip(*made)))
    assert x.shape[0] == len(made) and np.isfinite(x).all() and (np.linalg.norm(x, axis=1) < 1.001).all()
