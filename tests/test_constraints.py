"""The extractor: kinds, numbers, scope; what is said of the input or inside a quotation is no constraint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.constraints import LANGUAGES, extract, limits
from curation.verifiers import IFEVAL_IDS, guess_language, verify

CASES = [
    ("Write a story. Include the keywords 'fig' and 'plum'.", "keywords:existence", {"keywords": ["fig", "plum"]}),
    (
        "The word sea should appear at least 3 times.",
        "keywords:frequency",
        {"keyword": "sea", "relation": "at least", "frequency": 3},
    ),
    (
        'Mention the word "sea" less than twice.',
        "keywords:frequency",
        {"keyword": "sea", "relation": "less than", "frequency": 2},
    ),
    ('Do not use the words "sea" or "sky".', "keywords:forbidden_words", {"forbidden_words": ["sea", "sky"]}),
    (
        "Make sure the letter q appears at least 4 times.",
        "keywords:letter_frequency",
        {"letter": "q", "let_relation": "at least", "let_frequency": 4},
    ),
    (
        'Answer without using the letter "e".',
        "keywords:letter_frequency",
        {"letter": "e", "let_relation": "less than", "let_frequency": 1},
    ),
    ("Respond only in Korean.", "language:response_language", {"language": "ko"}),
    ("Answer in less than 6 sentences.", "length_constraints:number_sentences", {"relation": "less than", "num_sentences": 6}),
    ("Answer with more than 80 words.", "length_constraints:number_words", {"relation": "at least", "num_words": 81}),
    ("Write a 150+ word ad for a shoe.", "length_constraints:number_words", {"relation": "at least", "num_words": 150}),
    ("Write two parts separated by ***.", "length_constraints:number_paragraphs", {"num_paragraphs": 2}),
    (
        'Write exactly 4 paragraphs. Start the 2nd paragraph with the word "elm".',
        "length_constraints:nth_paragraph_first_word",
        {"first_word": "elm", "num_paragraphs": 4, "nth_paragraph": 2},
    ),
    ("Include at least 3 placeholders such as [name].", "detectable_content:number_placeholders", {"num_placeholders": 3}),
    ("Add a postscript starting with P.P.S at the end.", "detectable_content:postscript", {"postscript_marker": "P.P.S"}),
    ("Give exactly 5 bullet points.", "detectable_format:number_bullet_lists", {"num_bullets": 5}),
    ('Say "My answer is yes." or "My answer is no." only.', "detectable_format:constrained_response", {}),
    ("Highlight at least 2 sections, i.e. *this one*.", "detectable_format:number_highlighted_sections", {"num_highlights": 2}),
    (
        "Write 3 sections. Mark the beginning of each section with SECTION X.",
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 3},
    ),
    ("Wrap the entire output in JSON format.", "detectable_format:json_format", {}),
    ("Put the name and the city in this JSON format.", "detectable_format:json_format", {}),
    ("Add a title in double angular brackets, i.e. <<title>>.", "detectable_format:title", {}),
    ("Give two answers separated by 6 asterisk symbols.", "combination:two_responses", {}),
    (
        "Name a fig.\n\nFirst repeat the request above word for word without change.",
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Name a fig."},
    ),
    ('End your response with the phrase "That is all."', "startend:end_checker", {"end_phrase": "That is all."}),
    ("Wrap your entire response with double quotation marks.", "startend:quotation", {}),
    (
        "Words with all capital letters should appear at least 7 times.",
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 7},
    ),
    ("Answer in English and in all capital letters.", "change_case:english_capital", {}),
    ("Use only lowercase letters.", "change_case:english_lowercase", {}),
    ("Refrain from using any commas.", "punctuation:no_comma", {}),
]


@pytest.mark.parametrize(("prompt", "id", "kwargs"), CASES, ids=[f"{k}-{c[1]}" for k, c in enumerate(CASES)])
def test_each_kind(prompt, id, kwargs):
    found = [c for c in extract(prompt) if c.id == id]
    assert kwargs in [c.kwargs for c in found], extract(prompt)
    assert all(0 <= c.start < c.end <= len(prompt) for c in found)
    verify(id, "Some text.", kwargs)  # the arguments are those the verifier takes


def test_all_25_kinds_are_known():
    assert {id for _, id, _ in CASES} == set(IFEVAL_IDS)


@pytest.mark.parametrize(
    "prompt",
    [
        'Define the word "limerick".',
        "Count how often the word 'fig' appears in the text.",
        'Rewrite it: "Please do not use the word fig in any of the letters that you write to your dear aunt in Rome."',
        "Delete the paragraph from this 1000-word article that does not belong.",
        "Compare JSON and XML.",
        "How many keys has this JSON object?",
        "Name a phrase that rhymes with the word 'fig'.",
        'How do you say "good morning" in Spanish?',
        "Translate the text from French to German.",
        "Write a function that converts a string to all capital letters.",
        "Provide five examples of words that use the '-ous' suffix.",
    ],
)
def test_what_is_no_constraint(prompt):
    assert extract(prompt) == []


def test_a_range_is_two_bounds_and_a_part_is_none():
    both = [c.kwargs for c in extract("The word fig should appear 3 to 5 times.")]
    assert both == [
        {"keyword": "fig", "relation": "at least", "frequency": 3},
        {"keyword": "fig", "relation": "less than", "frequency": 6},
    ]
    assert limits("Write a poem of stanzas, with each stanza having at least two sentences.") == []
    assert [(x.least, x.most, x.unit) for x in limits("The number of sentences in your response should be 40 to 60.")] == [
        (40, 60, "sentence")
    ]


def test_negated_and_continued_keywords():
    ids = [(c.id, c.kwargs) for c in extract('It includes the word "cat" at least once, and the word "dog" at least twice.')]
    assert ids == [
        ("keywords:frequency", {"keyword": "cat", "relation": "at least", "frequency": 1}),
        ("keywords:frequency", {"keyword": "dog", "relation": "at least", "frequency": 2}),
    ]
    assert [c.id for c in extract('Write a rap that doesn\'t include the keywords "Yo" and "peace".')] == [
        "keywords:forbidden_words"
    ]


def test_languages_are_those_that_can_be_told():
    assert guess_language("Это не так, как было.") == LANGUAGES["russian"]


@given(st.text(max_size=300))
def test_any_text_is_read(text):
    for c in extract(text):
        assert c.id in IFEVAL_IDS and 0 <= c.start <= c.end <= len(text)
