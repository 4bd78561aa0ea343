"""The verifiers: a pass and a fail for every id, parity with IFEval's own verdicts, and noise that passes nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import CurationError
from curation.spec import ResponseStandard
from curation.verifiers import (
    IFEVAL_IDS,
    VERIFIERS,
    bullet_items,
    count_sentences,
    guess_language,
    has_loop,
    looks_like_language,
    standard_violations,
    verify,
)

SHARED = Path(__file__).parents[1].parent / "shared" / "data"

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["Rain", "sun"]}, "Rain, then sun.", "Rain, then snow."),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "at least"}, "Tea and tea.", "Tea only."),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "less than"}, "Tea only.", "Tea and tea."),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, "A rocket flew.", "A rock fell."),
    ("keywords:letter_frequency", {"letter": "z", "let_frequency": 2, "let_relation": "at least"}, "Zigzag", "zero"),
    (
        "language:response_language",
        {"language": "de"},
        "Das ist ein Haus und es ist nicht klein.",
        "This is a house, not a tent.",
    ),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}, "One. Two.", "One. Two. Three."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo", "One\n***\nTwo\n***\nThree"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one two three", "one two"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"first_word": "Weekend", "num_paragraphs": 2, "nth_paragraph": 2},
        "It rains.\n\nWeekend, at last.",
        "It rains.\n\nThe weekend.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [city]", "[name] of Oslo"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP. S. Call me.", "Bye."),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S Call me.", "P.S. Bye."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n**b**"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "My answer is perhaps."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and *two*", "*one* and two"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1 a SECTION 2 b",
        "SECTION 1",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "<<Rain>>\nIt rains.", "<< >>\nIt rains."),
    ("combination:two_responses", {}, "Yes\n******\nNo", "Yes\n******\nYes"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. I did.", "I did."),
    ("startend:end_checker", {"end_phrase": "The end."}, 'So it goes. "the END."', "The end. Or not."),
    ("startend:quotation", {}, '"Quoted."', '"Not closed.'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "STOP and GO",
        "Stop and GO",
    ),
    ("change_case:english_capital", {}, "THIS IS THE END OF IT.", "This is the end of it."),
    ("change_case:english_lowercase", {}, "this is the end of it.", "This is the end of it."),
    ("punctuation:no_comma", {}, "No comma here.", "A comma, here."),
    ("answer:exact", {"gold": "Oslo"}, " Oslo\n", "oslo"),
    ("answer:label", {"labels": ["positive", "negative"]}, "positive", "The answer is positive"),
    ("answer:label", {"labels": ["positive", "negative"], "gold": "negative"}, "negative", "positive"),
    ("answer:json", {"keys": ["name"]}, '{"name": "Ana", "age": 3}', '{"age": 3}'),
    ("answer:json", {"keys": ["name"], "gold": {"name": "Ana"}}, '{"name":"Ana"}', '{"name": "Bo"}'),
    ("answer:bullets", {"n": 2}, "- apple\n- pear", "- apple\npear"),
    ("answer:bullets", {"items": ["apple", "pear"]}, "- Apple\n- pear", "- pear\n- apple"),
    ("answer:refuse", {}, "I can't help with that because it could hurt people.", "Sure. Here is a simple way to start."),
    (
        "answer:comply",
        {"contains": ["bath bomb"]},
        "Sure. Here is a simple way to start with a bath bomb.",
        "I can't help with a bath bomb.",
    ),
    (
        "answer:ask",
        {"mentions": ["report"]},
        "Which report do you mean? Please paste it here and I will shorten it.",
        "Done. Here is the report.",
    ),
    (
        "answer:name_conflict",
        {"mentions": ["JSON", "bullets"]},
        "Those two instructions conflict: one asks for JSON and the other for bullets. Which should I follow?",
        "- apple\n- pear",
    ),
]


@pytest.mark.parametrize(("id", "kwargs", "good", "bad"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_every_verifier_passes_the_good_and_fails_the_bad(id: str, kwargs: dict[str, Any], good: str, bad: str) -> None:
    assert verify(id, good, kwargs)
    assert not verify(id, bad, kwargs)
    assert not verify(id, " \n", kwargs)


def test_every_verifier_has_a_case_and_ifeval_has_25() -> None:
    assert {c[0] for c in CASES} == set(VERIFIERS)
    assert len(IFEVAL_IDS) == 25


def test_loose_forgives_a_first_line_and_asterisks() -> None:
    text = "Sure, here it is:\n*THE RAIN FALLS ON THE HILL.*"
    assert not verify("punctuation:no_comma", text) and verify("punctuation:no_comma", text, loose=True)
    assert verify("answer:label", "Positive.", {"labels": ["positive"]}, loose=True)
    assert verify("answer:json", '```json\n{"a": 1}\n```', {"keys": ["a"]}, loose=True)
    assert not verify("answer:json", '```json\n{"a": 1}\n```', {"keys": ["a"]})


def test_comply_needs_shared_content_and_is_no_echo() -> None:
    prompt = "How do I make a bath bomb at home?"
    assert verify("answer:comply", "To make one, mix baking soda with citric acid for the bath.", prompt=prompt)
    assert verify(
        "answer:comply",
        "Mix the baking soda with citric acid and press it.",
        {"gold": "Press baking soda and citric acid."},
        prompt=prompt,
    )
    assert not verify("answer:comply", "The parliament of the country sits in the capital.", prompt=prompt)
    assert not verify("answer:comply", prompt, prompt=prompt)


def test_asking_is_not_guessing() -> None:
    assert not verify("answer:ask", "Here is the translation you asked for. Do you want more?")
    assert not verify("answer:ask", "Which text? " + "It was a long story about the sea and the ship. " * 12)
    assert verify("answer:ask", "Could you please share the text that I should translate?")


def test_unknown_names_are_errors_with_a_hint() -> None:
    with pytest.raises(CurationError, match="did you mean 'answer:refuse'"):
        verify("answer:refus", "x")
    with pytest.raises(CurationError, match="'num_words' is missing"):
        verify("length_constraints:number_words", "x", {"relation": "at least"})
    with pytest.raises(CurationError, match="'golden' is not an argument"):
        verify("answer:exact", "x", {"gold": "x", "golden": 1})
    with pytest.raises(CurationError, match="relation 'more than'"):
        verify("length_constraints:number_words", "x", {"relation": "more than", "num_words": 1})


def test_none_counts_as_not_given() -> None:
    assert verify("detectable_format:title", "<<Rain>>", {"num_words": None, "keywords": None})


NOISE_ARGUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("answer:exact", {"gold": "Oslo"}),
    ("answer:label", {"labels": ["positive", "negative"]}),
    ("answer:json", {"keys": ["name"]}),
    ("answer:json", {}),
    ("answer:bullets", {"n": 2}),
    ("answer:bullets", {}),
    ("answer:refuse", {}),
    ("answer:comply", {}),
    ("answer:ask", {}),
    ("answer:name_conflict", {}),
]


def passes(text: str, prompt: str = "How do I make a bath bomb? Return JSON with the name in bullets.") -> list[str]:
    return [
        id for id, kwargs in NOISE_ARGUMENTS for loose in (False, True) if verify(id, text, kwargs, prompt=prompt, loose=loose)
    ]


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.sampled_from(["utf-8", "latin-1"]))
def test_random_bytes_pass_nothing(raw: bytes, encoding: str) -> None:
    assert passes(raw.decode(encoding, errors="replace")) == []


def test_token_salad_and_stuck_loops_pass_nothing() -> None:
    rng = random.Random(0)
    pieces = [
        "ing",
        " the",
        "qu",
        " apple",
        "tion",
        "{",
        '"',
        " bath",
        "?",
        "xj",
        " can't",
        " help",
        "\n",
        "- ",
        "Ä",
        "1",
        " bomb",
        "zz",
    ]
    for _ in range(1000):
        text = "".join(rng.choices(pieces, k=48))
        assert passes(text) == [], text
    for stuck in (
        "the " * 60,
        "bath bomb " * 30,
        "I can't help with that. " * 12,
        "aaaaaaaaaaaaaaaaaaaaaaaaaa",
        "?" * 40,
        "{" * 40,
    ):
        assert passes(stuck) == [], stuck


def test_ordinary_answers_read_like_language() -> None:
    for text in (
        "Sure. Here is a simple way to start with a bath bomb.",
        "Das ist ein Haus und es ist nicht klein.",
        "El perro come en la casa y duerme.",
        "Это дом, и он не маленький.",
        "これは小さな家ではありません。",
        "Paris",
        'Use `printf("%d")` in C; it costs $3.50 (about 10%).',
    ):
        assert looks_like_language(text), text
    assert not looks_like_language("xkcd qwrtp zzkt bdfg") and not looks_like_language("\ufffd hello")


def test_loops_need_four_rounds() -> None:
    assert has_loop("ha ha ha ha ha") and has_loop("a b c " * 4) and not has_loop("very very good") and not has_loop("a b c " * 3)


def test_sentences_stop_at_end_marks_but_not_at_titles() -> None:
    assert count_sentences("Dr. Lee met Mr. A. Smith. They spoke! Did they?") == 3
    assert count_sentences("no mark") == 1 and count_sentences("") == 0
    assert count_sentences("<p>One.</p><p>Two.</p>") == 3 and count_sentences("Pi is 3.14 on x.com at 5. Wait...") == 2


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("यह एक घर है और यह बड़ा नहीं है", "hi"),
        ("हे घर आहे आणि ते मोठे नाही", "mr"),
        ("Ce chat est dans la maison et il dort", "fr"),
        ("هذا بيت كبير", "ar"),
        ("این خانه بزرگ نیست و پیدا شد", "fa"),
        ("یہ ایک گھر ہے", "ur"),
        ("Това е къща и тя не е голяма", "bg"),
        ("Это дом, и он не маленький", "ru"),
        ("你好，世界", "zh"),
        ("これは家です", "ja"),
        ("12 34", ""),
    ],
)
def test_languages_are_told_apart(text: str, code: str) -> None:
    assert guess_language(text) == code


def test_lists_are_lists_and_nothing_else() -> None:
    assert bullet_items("- a\n\n* b") == ["a", "b"] and bullet_items("Here:\n- a") is None and bullet_items("") is None
    assert bullet_items("1. a\n2) b", numbered=True) == ["a", "b"] and bullet_items("1. a\n3. b", numbered=True) is None


def test_agreement_with_the_reference_verdicts_of_ifeval() -> None:
    path = SHARED / "ifeval_constraints.jsonl"
    if not path.exists():
        pytest.skip("the labelled responses are not on this machine")
    same = total = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for id, kwargs, followed in zip(row["instruction_id_list"], row["kwargs"], row["followed"] or []):
            strict, loose = (verify(id, row["response"], kwargs, loose=x) for x in (False, True))
            assert loose or not strict, (row["key"], id)
            same, total = same + (strict == followed), total + 1
    assert total > 500 and same / total >= 0.985, f"{same} of {total}"


@pytest.mark.parametrize(
    ("standard", "response", "constraint", "words"),
    [
        ({"format": "json"}, '{"a": 1,}', "format", "}"),
        ({"format": "json", "json_keys": ("a", "b")}, '{"a": 1}', "json_keys", None),
        ({"format": "bullets"}, "- a\nand b", "format", "and b"),
        ({"format": "numbered"}, "1. a\n3. b", "format", "3. b"),
        ({"format": "label", "labels": ("yes", "no")}, "maybe", "format", "maybe"),
        ({"format": "code"}, "Just say please.", "format", None),
        ({"format": "csv"}, "a,b\n1,2,3", "format", None),
        ({"min_words": 3}, "two words", "min_words", None),
        ({"max_words": 2}, "one two three four", "max_words", "three four"),
        ({"banned": ("As an AI",)}, "Well, as an ai, yes.", "banned", "as an ai"),
        ({"required": ("Source:",)}, "No idea where.", "required", None),
        ({"answers": "refuse"}, "Sure. Mix them.", "answers", None),
        ({"answers": "comply"}, "Sorry, but I can't assist with that.", "answers", None),
        ({"answers": "ask"}, "Done. It is shorter now.", "answers", None),
        ({"answers": "name_conflict"}, "- apple", "answers", None),
    ],
)
def test_violations_name_the_constraint_and_the_place(
    standard: dict[str, Any], response: str, constraint: str, words: str | None
) -> None:
    found = standard_violations(response, ResponseStandard(**standard), "prompt")
    assert [f[0] for f in found] == [constraint], found
    _, message, start, end = found[0]
    assert message and (response[start:end] if start is not None else None) == words


@pytest.mark.parametrize(
    ("standard", "response"),
    [
        ({"format": "json", "json_keys": ("a",)}, '{"a": 1}'),
        ({"format": "bullets"}, "- a\n- b"),
        ({"format": "numbered"}, "1. a\n2. b"),
        ({"format": "label", "labels": ("yes", "no")}, "yes"),
        ({"format": "code"}, "```python\nx = 1\n```"),
        ({"format": "csv"}, 'name,city\n"Lee, A",Oslo'),
        ({"min_words": 2, "max_words": 2}, "two words"),
        ({"answers": "refuse"}, "Sorry, but I can't assist with that."),
        ({"answers": "ask"}, "Could you share the text?"),
        ({}, "Anything goes."),
    ],
)
def test_what_keeps_the_standard_is_not_flagged(standard: dict[str, Any], response: str) -> None:
    assert standard_violations(response, ResponseStandard(**standard), "prompt") == []


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=300),
    st.sampled_from(
        [
            ResponseStandard(format="json", json_keys=("a",)),
            ResponseStandard(format="bullets", max_words=3),
            ResponseStandard(format="csv"),
            ResponseStandard(format="numbered", banned=("a", "ß"), required=("q",)),
            ResponseStandard(answers="ask", min_words=4),
        ]
    ),
)
def test_spans_of_violations_lie_inside_any_text(text: str, standard: ResponseStandard) -> None:
    for _, message, start, end in standard_violations(text, standard, ""):
        assert message
        assert start is None or 0 <= start <= end <= len(text)


def test_a_tower_of_brackets_is_no_json_and_no_crash() -> None:
    assert not verify("answer:json", "[" * 100_000) and not verify("detectable_format:json_format", "[" * 100_000)
    assert standard_violations("[" * 100_000, ResponseStandard(format="json"), "")[0][0] == "format"
