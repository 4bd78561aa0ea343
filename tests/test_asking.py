"""What a prompt orders and of what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.asking import verb_noun


@pytest.mark.parametrize(
    "prompt, found",
    [
        ("Write a short story about a fox.", ("write", "story")),
        ("Please summarize the given statement in three sentences.", ("summarize", "statement")),
        ("Could you list five breeds of horses?", ("list", "breed")),
        ("Given a phrase and a seed word, generate a new phrase.", ("generate", "phrase")),
        ("Classify the following tweets: I like it.", ("classify", "tweet")),
        ("What is the capital of Peru?", ("ask what", "capital")),
        ("In geology, what are the main classifications of rocks?", ("ask what", "classification")),
        ("Review: the film was slow. Is this fast or slow?", ("ask is", "fast")),
        ("Name the animal.", ("name", "animal")),
        ("Explain why the sky is blue.", ("explain", "sky")),
        ("", ("", "")),
        ("The film was slow.", ("", "")),
        ("饮食", ("", "")),
    ],
)
def test_verbs_and_nouns(prompt: str, found: tuple[str, str]) -> None:
    assert verb_noun(prompt) == found


def test_an_order_after_a_long_passage() -> None:
    assert verb_noun("The river rises. " * 60 + "\nTranslate the passage into French.") == ("translate", "passage")


@given(st.text(max_size=900))
def test_any_text_is_taken(text: str) -> None:
    verb, noun = verb_noun(text)
    assert isinstance(verb, str) and (not noun or "\n" not in noun)
