"""The refusal policy: terms against look-alikes, refused where it should answer, answered where it should refuse."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import pyarrow as pa
from rows import make_rows

from curation import kernels
from curation.checks import refusals as r
from curation.past import NoPast
from curation.spec import Spec, parse

SPEC = parse("""
families:
  - {id: refuse, response: {answers: refuse}}
  - {id: answer, response: {answers: comply}}
  - {id: clarify}
refusals:
  categories:
    - {id: weapons, terms: [bomb, build a gun], benign: [bath bomb, photo bomb]}
    - {id: theft, terms: [steal], benign: [steal the show]}
edge_cases:
  - {id: missing_context, family: clarify, expect: ask}
""")
NO = "I'm sorry, but I can't help with that."


def run(fn, *given, spec=SPEC, **options):
    """Return the flags of a check on rows given as (instruction, input, response, family)."""
    rows = make_rows([{"instruction": a, "input": b, "response": c} for a, b, c, _ in given])
    harm = r.harm(rows, spec)
    return fn(rows, spec, r.refusal(rows)["refusal"], harm["harm"], harm["harm_category"],
              pa.array([f for *_, f in given], pa.string()), pa.array([1.0] * len(given), pa.float32()), **options).to_pylist()


@pytest.mark.parametrize(("prompt", "category", "harm"), [
    ("How do I make a bomb?", "weapons", 1.0), ("Tell me about BOMBING a city", "weapons", 1.0),
    ("How do I make a bath bomb?", "weapons", r.BENIGN), ("Are bath-bombs safe? How do I build a bomb?", "weapons", 1.0),
    ("She stole the show", "", 0.0), ("How to steal the show at a party", "theft", r.BENIGN),
    ("Stealing a car", "theft", 1.0), ("What is a bombast?", "", 0.0), ("Building a gun at home", "weapons", 1.0),
])
def test_harm_longest_match_wins(prompt, category, harm):
    got = r.harm(make_rows([{"instruction": prompt, "response": "x"}]), SPEC)
    assert (got["harm_category"].to_pylist(), got["harm"].to_pylist()) == ([category], [pytest.approx(harm)])


def test_harm_of_a_term_in_the_input():
    rows = make_rows([{"instruction": "Summarise the news.", "input": "A bomb was found. " * 12, "response": "x"},
                      {"instruction": "Answer this question.", "input": "How do I make a bomb?", "response": "x"}])
    assert r.harm(rows, SPEC)["harm"].to_pylist() == [pytest.approx(r.IN_INPUT), 1.0]


def test_over_names_the_look_alike():
    flags = run(r.over, ("How do I make a bath bomb?", "", NO, ""),
                ("How do I make a bath bomb?", "", "Mix soda and acid.", ""))
    assert [(f["row"], f["severity"], f["score"]) for f in flags] == [(0, "error", 1.0)]
    assert "'bath bomb' is a benign look-alike of the category 'weapons'" in flags[0]["message"]
    assert NO[flags[0]["start"]:flags[0]["end"]]


def test_over_lets_right_refusals_pass():
    assert run(r.over, ("How do I make a bomb?", "", NO, ""), ("Help me.", "", NO, "refuse"),
               ("Fix it.", "", NO, "clarify")) == []


def test_over_by_family_and_without_a_category():
    flags = run(r.over, ("What is an ATM?", "", NO, "answer"), ("What is an ATM?", "", NO, ""),
                ("Where do I buy cocaine?", "", NO, ""), ("What are child safety seats?", "", NO, ""))
    assert [(f["row"], f["severity"]) for f in flags] == [(0, "error"), (1, "warning"), (2, "info"), (3, "warning")]
    assert "the family 'answer' wants an answer" in flags[0]["message"]
    assert "in no must-refuse category; it may well be harmful" in flags[2]["message"]


def test_a_disclaimer_before_an_answer_is_no_refusal():
    told = "As an AI language model, I cannot provide medical advice. However, spasms can be a sign of strain, and rest helps."
    flags = run(r.over, ("Are muscle spasms bad?", "", told, ""),
                ("Which is the better tea?", "", "I cannot provide opinions.", ""),
                ("Name a river in Italy.", "", "As an AI language model, I cannot help you with that request.", ""), spec=Spec())
    assert [(f["row"], f["severity"]) for f in flags] == [(2, "warning")]


def test_over_without_a_policy():
    flags = run(r.over, ("What is an ATM?", "", NO, ""), ("How do I kill my neighbour?", "", NO, ""),
                ("Rewrite the sentence politely.", "No.", NO, ""), spec=Spec())
    assert [(f["row"], f["severity"]) for f in flags] == [(0, "warning")]
    assert "the spec has no refusal policy" in flags[0]["message"]


def test_missing_names_category_and_term():
    prompt = "Explain how to build a gun at home."
    flags = run(r.missing, (prompt, "", "First take a pipe and drill it.", ""), (prompt, "", NO, ""),
                ("How do I make a bath bomb?", "", "Mix soda and acid.", ""), ("Do it.", "", "Sure, here it is done.", "refuse"))
    assert [(f["row"], f["severity"]) for f in flags] == [(0, "warning"), (3, None)]
    assert flags[0]["message"] == "The prompt falls under 'weapons' ('build a gun') and the response does not refuse."
    assert prompt[flags[0]["start"]:flags[0]["end"]] == "build a gun"
    assert flags[1]["message"].startswith("The family 'refuse' wants a refusal")


@pytest.mark.parametrize(("prompt", "response", "why"), [
    ("When do people build a gun?", "When they want one.", "it speaks of that and does not ask for it"),
    ("Write a novel about people who steal.", "It was a dark night.", "it speaks of that and does not ask for it"),
    ("How do I steal the ball in basketball?", "Watch the hands and reach for the ball when it leaves them.",
     "the word seems to be used in a harmless sense"),
    ("How do I build a gun at home?", "It is not accurate that building a gun at home is simple. Many people believe it, but "
     "there is no evidence for that claim and the law sees it otherwise.", "the answer sets it right"),
])
def test_missing_says_what_it_doubts(prompt, response, why):
    flags = run(r.missing, (prompt, "", response, ""))
    assert [f["severity"] for f in flags] == ["info"] and flags[0]["message"].endswith(f"the response does not refuse; {why}.")
    assert [f["severity"] for f in run(r.missing, (prompt, "", response, ""), strict=True)] == [None]
    assert [f["severity"] for f in run(r.missing, (prompt, "", response, "refuse"))] == [None]


def test_missing_knows_no_doubt_in_another_language():
    spec = parse("refusals: {categories: [{id: weapons, terms: [Bombe]}]}")
    rows = make_rows([{"instruction": "Wie baue ich zu Hause eine Bombe?", "response": "Zuerst nimmst du ein Rohr."}])
    about = (pa.array(["comply"]), *r.harm(rows, spec).values(), pa.array([""]), pa.array([0.0], pa.float32()))
    assert r.missing(rows, spec, *about)["severity"].to_pylist() == ["warning"]


def test_missing_by_a_guessed_family_is_a_warning():
    rows = make_rows([{"instruction": "Do it.", "response": "Sure, here it is done."},
                      {"instruction": "When do people build a gun?", "response": "When they want one."}])
    about = (pa.array(["comply"] * 2), *r.harm(rows, SPEC).values(), pa.array(["refuse"] * 2), pa.array([0.6] * 2, pa.float32()))
    assert r.missing(rows, SPEC, *about)["severity"].to_pylist() == ["warning", None]  # a term says the same as the guess


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80), st.sampled_from(["bomb", "steal", "bath bomb"]))
def test_a_term_is_found_wherever_it_stands(text, term):
    match = r.policy_of(SPEC).match(f"{text} {term} {text}")
    assert match is not None and f"{text} {term} {text}"[match.start:match.end].lower().replace("-", " ")


def test_a_garbled_refusal_is_a_refusal():
    rows = make_rows([{"instruction": "x", "response": "I canâ€™t help with that."}])
    assert r.refusal(rows)["refusal"].to_pylist() == ["refuse"]


def test_categories_leaves_look_alikes_out():
    assert r.categories(SPEC, ["make a bomb", "make a bath bomb", "hello"]) == ["weapons", "", ""]


STYLE = parse("""
refusals:
  max_sentences: 2
  offers_alternative: true
  lectures: false
  categories: [{id: weapons, terms: [bomb], benign: [bath bomb]}]
""")


def test_style_by_the_spec():
    good = "I can't help with that. I can tell you about the history of chemistry instead."
    given = ["I'm sorry, but I can't help with that.", good,
             "I can't help with that. It is unethical. It is cruel. Please stop.",
             "I cannot help with that. It is important to treat others with respect, so try a chess club instead.",
             "I cannot help with that, because it is unethical. Try a chess club instead."]
    rows = make_rows([{"instruction": "How do I make a bomb?", "response": t} for t in given])
    flags = r.style(rows, STYLE, pa.array(["refuse"] * 5)).to_pylist()
    assert [(f["row"], f["message"].split("(")[0].strip()) for f in flags] == [
        (0, "The refusal offers no alternative; the spec wants one."),
        (2, "The refusal has 4 sentences; the spec allows 2."), (3, "The refusal lectures")]
    assert given[3][flags[2]["start"]:flags[2]["end"]].startswith("It is important")
    assert r.style(rows, Spec(), pa.array(["refuse"] * 5)).num_rows == 0


def conflicts(*given, spec=SPEC):
    rows = make_rows([{"instruction": a, "response": b} for a, b in given])
    harm = r.harm(rows, spec)
    found = r.policy_conflict(rows, spec, r.refusal(rows)["refusal"], harm["harm"], harm["harm_category"], NoPast(rows.num_rows))
    return found.to_pylist()


def test_nearly_the_same_prompt_refused_and_answered():
    flags = conflicts(("Write a limerick about my old teacher Smith", NO),
                      ("Please write a limerick about my old teacher, Smith!", "There once was a teacher called Smith."),
                      ("Write a sonnet about the sea", "The sea is wide."))
    assert [(f["row"], f["related"], f["severity"]) for f in flags] == [(1, [0], None)]
    assert flags[0]["message"] == "Answered here; nearly the same prompt is refused in row 0."


def test_an_answer_that_refuses_in_part_contradicts_too():
    part = ("I cannot tell you how to pick the lock of another person's house, and I will not do so. However, here are some "
            "general tips on locks: 1. Oil them once a year. 2. Keep a spare key with a friend whom you trust.")
    rows = make_rows([{"instruction": "How do I pick a lock?", "response": part},
                      {"instruction": "How do I pick a lock?", "response": "Push the pins up one by one."}])
    about = (pa.array(["partial", "comply"]), *r.harm(rows, SPEC).values(), NoPast(2))
    assert r.policy_conflict(rows, SPEC, *about)["row"].to_pylist() == [1]
    assert r.policy_conflict(rows, SPEC, *about, partial=False).num_rows == 0


def test_a_look_alike_is_no_contradiction():
    assert conflicts(("How do I make a bomb at home today?", NO), ("How do I make a bath bomb at home today?", "Mix soda.")) == []


def test_one_category_on_both_sides():
    flags = conflicts(("How do I make a bomb?", NO), ("Where are bombs sold?", NO),
                      ("Explain bombing to me", "First, take a pipe."))
    assert [(f["row"], f["severity"], f["related"]) for f in flags] == [(2, "info", [0, 1])]
    assert flags[0]["message"] == "'weapons': this row is answered, 2 others of the category are not."


def test_without_a_policy_a_head_judges_prompts_with_sensitive_words():
    rows = make_rows([{"instruction": "How do I build a bomb to kill people at a school?", "response": "x"},
                      {"instruction": "Write a persuasive essay on pets.", "response": "x"}])
    got = r.harm(rows, Spec())
    assert got["harm"].to_pylist()[0] > 0.5 and got["harm"].to_pylist()[1] == 0.0
    assert got["harm_category"].to_pylist() == ["assisting crime", ""]


def test_a_contradiction_stands_on_the_side_that_the_policy_speaks_against():
    flags = conflicts(("How do I make a bath bomb at home today?", NO), ("How to make a bath bomb at home, today?", "Mix soda."),
                      ("How do I make a bath bomb at home today, please?", NO))
    assert [(f["row"], f["related"]) for f in flags] == [(0, [1]), (2, [1])]
    assert flags[0]["message"] == "Refused here; nearly the same prompt is answered in row 1."


def test_a_look_alike_of_the_policy_outweighs_a_guessed_family():
    rows = make_rows([{"instruction": "How do I make a bath bomb?", "response": NO},
                      {"instruction": "How do I make a bath bomb?", "response": "Mix soda and oil."}])
    harm, refusal = r.harm(rows, SPEC), r.refusal(rows)["refusal"]
    for score, refused, answered in ((0.9, [0], []), (1.0, [], [1])):
        about = (refusal, harm["harm"], harm["harm_category"], pa.array(["refuse"] * 2), pa.array([score] * 2, pa.float32()))
        assert r.over(rows, SPEC, *about)["row"].to_pylist() == refused
        assert r.missing(rows, SPEC, *about)["row"].to_pylist() == answered


def test_who_cannot_draw_does_not_refuse_too_much():
    rows = make_rows([{"instruction": "Design a logo for a bakery.", "response": "I am not able to generate a logo."},
                      {"instruction": "Name a river in Italy.", "response": NO}])
    about = (r.refusal(rows)["refusal"], *r.harm(rows, Spec()).values(), pa.array(["", ""]), pa.array([0.0, 0.0], pa.float32()))
    assert r.over(rows, Spec(), *about)["row"].to_pylist() == [1]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sets(st.sampled_from([f"word{k}" for k in range(9)]), max_size=6)), max_size=14),
       st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_answered_and_refused_prompts_meet_as_in_a_plain_count(given_, least):
    rows = make_rows([{"instruction": " ".join(sorted(words)), "response": "x"} for _, words in given_])
    refused = np.array([no for no, _ in given_], np.bool_)
    past = NoPast(len(rows))
    found = [x.tolist() for x in r._near_refused(rows, past, ~refused, refused, np.zeros(len(rows)), least)]
    plain = []
    for i, (no, mine) in enumerate(given_):
        for k, (other, theirs) in enumerate(given_):
            if not no and other and len(mine) >= 2 and mine & theirs and len(mine & theirs) / len(mine | theirs) >= least:
                plain.append((i, -len(mine & theirs) / len(mine | theirs), k))
    plain.sort()
    assert list(zip(*found, strict=True)) == [(i, k, -like) for i, like, k in plain]


SETS = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=7, unique=True), max_size=12)


@settings(deadline=None)
@given(mine=SETS, cut=st.integers(0, 60), theirs=SETS, least=st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_sets_that_share_their_items_are_met(mine: list[list[int]], cut: int, theirs: list[list[int]], least: float) -> None:
    item = np.array([x for row in mine for x in row], np.uint64)
    size = np.array([len(row) for row in mine], np.int64)
    key = sorted({x for row in theirs for x in row})
    holders = [[k for k, row in enumerate(theirs) if x in row] for x in key]
    many = np.array([len(h) for h in holders], np.int64)
    keys, table = np.array(key, np.uint64), np.full(64, -1, np.int32)
    kernels.tabled(keys, table)
    found = kernels.meet(item[:cut], item[cut:], np.cumsum(size) - size, size, keys, table, np.cumsum(many) - many, many,
                         np.array([k for h in holders for k in h], np.int64), np.array([len(r) for r in theirs], np.int64), least)
    assert sorted(map(tuple, found.tolist())) == sorted(
        (s, o, len({*a} & {*b})) for s, a in enumerate(mine) for o, b in enumerate(theirs)
        if {*a} & {*b} and len({*a} & {*b}) / len({*a} | {*b}) >= least)
