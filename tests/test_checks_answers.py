"""Answers against their question: embeddings stand in as a table here, so that the test needs no model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation.checks.answers import final_answer, majority, mismatch
from curation.past import NoPast


class Table:
    """Vectors by topic: texts that name the volcano one way, all others across."""

    def of(self, uids, texts, model=""):
        assert len(uids) == len(texts)
        return np.array([[1.0, 0.0] if "volcano" in t else [0.0, 1.0] for t in texts], np.float32)


class Refuses:
    """Vectors that must not be asked for."""

    def of(self, uids, texts, model=""):
        raise AssertionError("embeddings were computed though nobody asked for them")


TOPICS = (
    ("the sea", "Tides follow the moon, and waves rise where wind blows across open water near the coast."),
    ("bread", "Knead flour with yeast, rest the dough for an hour, then heat the oven until the crust browns."),
    ("chess", "Open with the pawns, guard your king early, trade a knight for a bishop and plan the mate."),
    ("a volcano", "Magma rises through the crust, pressure builds, and lava with hot ash erupts from the crater."),
    ("a violin", "Tighten the bow, tune four strings, and press the fingerboard to play a melody in an orchestra."),
    ("a lawyer", "Courts hear evidence, a judge weighs the statutes, and the jury returns a verdict at trial."),
    ("a forest", "Oak and pine shade the moss, deer graze on leaves, and roots hold the soil on slopes."),
    ("football", "Eleven players pass the ball, a striker shoots at the goal, and the referee blows a whistle."),
    ("a bank", "Savers deposit money, interest accrues on loans, and customers pay a mortgage every month."),
    ("a rocket", "Engines burn fuel for thrust, stages separate in orbit, and astronauts reach the space station."),
    ("the heart", "Blood flows through arteries, valves open and close, and muscles pump oxygen to the organs."),
    ("a garden", "Plant seeds in spring, water the tomatoes, pull weeds and prune roses before they bloom."),
)
ASKS = ("Why should anybody study {}?", "How would you explain {} to a child?", "What is known of {} today?")


def shifted(swapped):
    """Return 180 rows on twelve topics, two of three answers naming theirs; `swapped` rows have the answer of the next topic."""
    pairs = []
    for i in range(180):
        name, says = TOPICS[i % 12]
        if i in swapped:
            says = TOPICS[(i + 1) % 12][1]
        elif i % 3:
            says = f"Speaking of {name}: {says}"
        pairs.append((ASKS[(i // 12) % 3].format(name) + f" Part {i}.", says))
    return make_rows([{"instruction": a, "response": b} for a, b in pairs])


def test_mismatch_finds_answers_that_were_swapped():
    swapped = {3, 40, 77, 110, 149}
    rows = shifted(swapped)
    flags = mismatch(rows, Refuses(), NoPast(len(rows))).to_pylist()
    strangest = sorted(flags, key=lambda f: -f["score"])[: len(swapped)]
    assert {f["row"] for f in strangest} == swapped and len(flags) < 2 * len(swapped)
    assert {f["severity"] for f in flags} == {None} and all(f["start"] == 0 and f["score"] >= 0.07 for f in flags)
    assert flags[0]["message"].startswith("The response shares no word with its prompt, and by meaning it fits no better than")


def test_a_single_stranger_is_an_info_and_sound_answers_are_none():
    rows = shifted({39})
    flags = mismatch(rows, Refuses(), NoPast(len(rows))).to_pylist()
    assert max(flags, key=lambda f: f["score"])["row"] == 39 and {f["severity"] for f in flags} == {"info"}
    rows = shifted(set())
    assert mismatch(rows, Refuses(), NoPast(len(rows))).num_rows < 0.03 * len(rows)


def test_a_set_of_one_topic_cannot_be_told():
    rows = make_rows([{"instruction": f"Why should anybody study bread? Part {i}.",
                       "response": ("" if i % 3 else "Speaking of bread: ") + TOPICS[1][1]} for i in range(180)])
    assert {f["severity"] for f in mismatch(rows, Refuses(), NoPast(len(rows))).to_pylist()} <= {"info"}


def test_mismatch_asks_a_second_eye_on_request():
    rows = shifted({39})
    assert [(f["row"], f["severity"]) for f in mismatch(rows, Table(), NoPast(len(rows)), embed=True).to_pylist()][:1] == [
        (39, None)]

    class Near(Table):
        def of(self, uids, texts, model=""):
            return np.ones((len(texts), 1), np.float32)

    assert mismatch(rows, Near(), NoPast(len(rows)), embed=True).num_rows == 0


def test_mismatch_in_a_small_set_goes_by_words_alone():
    long = "Bread needs steam in the oven while baking, which keeps the crust soft until the crumb has risen."
    rows = make_rows(
        [
            {"instruction": "Why is the sea salty?", "response": long},
            {"instruction": "Write a text about the sea.", "response": long},
            {"instruction": "How is bread baked?", "response": long},
            {"instruction": "Why is the sea salty?", "response": "Rivers."},
        ]
    )
    flags = mismatch(rows, Refuses(), NoPast(len(rows))).to_pylist()
    assert [(f["row"], f["start"], f["end"], f["severity"]) for f in flags] == [(0, 0, len(long), "info")]
    assert flags[0]["message"] == "The response shares no word with its prompt."
    assert mismatch(rows.slice(0, 0), Refuses(), NoPast(0)).num_rows == 0


def test_majority():
    ask = "How many figs are left?"
    rows = make_rows(
        [{"instruction": ask, "response": f"So the answer is {n}."} for n in (4, 4, 5, 4)]
        + [{"instruction": "How many plums?", "response": str(n)} for n in (1, 2)]
    )
    flags = majority(rows, NoPast(len(rows))).to_pylist()
    assert [(f["row"], f["related"], f["message"]) for f in flags] == [
        (2, [0, 1, 3], "3 of 4 answers to this question say '4'; this one says '5'.")
    ]


def test_final_answer():
    assert final_answer("It is 3 * 4 = 12.\n#### 1,200", True) == "1200"
    assert final_answer("No numbers here.", True) is None
    assert final_answer(" Positive. ", False) == "positive"
    assert final_answer("It is a long sentence about things.", False) is None
