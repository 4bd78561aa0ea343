"""dup.semantic and dup.leak: what must be flagged, the near misses that must not be, and what they ask for."""

from pathlib import Path

import numpy as np
import pytest

from curation import engine, vectors
from curation.checks import leaks, semantic
from curation.errors import CurationError
from curation.spec import parse
from curation.store import Store

from .rows import make_rows

PASTA = "Boil the water, add the pasta, stir once, wait nine minutes, then drain it and serve it hot with the sauce."


class Axes:
    """Vectors whose place on three axes is told by a word of the text; `asked` notes every text."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def of(self, uids, texts, model=""):
        assert len(uids) == len(texts)
        self.asked += texts
        out = np.array([[1.0, 0.1 * ("please" in t), 0.0] if "pasta" in t.lower() else [0.0, 0.0, 1.0] for t in texts],
                       np.float32)
        return out / np.linalg.norm(out, axis=1, keepdims=True)


ASKED = [
    {"instruction": "How is pasta cooked?", "response": PASTA},
    {"instruction": "Name a colour.", "response": "Blue."},
    {"instruction": "Tell me how to make pasta, please.", "response": "Pasta goes into boiling water."},
    {"instruction": "How is pasta cooked?", "response": PASTA},
]


def found(flags):
    return [(f["row"], f["related"], f["message"]) for f in flags.to_pylist()]


# ------------------------------------------------------------------ dup.semantic
def test_semantic_flags_the_later_row_and_no_copy():
    flags = semantic.semantic(make_rows(ASKED), Axes(), on=True)
    score = flags["score"][0].as_py()
    assert found(flags) == [(2, [0], f"says in other words ({score:.2f}) what row 0 says")]
    assert 0.99 < score < semantic.COPY and flags["field"].to_pylist() == ["row"]


def test_semantic_other_numbers_lower_the_score():
    rows = make_rows([{"instruction": "Give two pasta recipes.", "response": PASTA},
                      {"instruction": "Give three pasta recipes, please.", "response": PASTA},
                      {"instruction": "Give 2 pasta recipes, please.", "response": PASTA}])
    assert found(semantic.semantic(rows, Axes(), on=True, threshold=0.95)) == [
        (2, [0], "says in other words (1.00) what row 0 says")]
    loose = semantic.semantic(rows, Axes(), on=True, threshold=0.8)
    assert [(f["row"], f["related"]) for f in loose.to_pylist()] == [(1, [0]), (2, [0, 1])]


def test_semantic_leaves_out_rows_with_earlier_turns():
    said = ("user", "Hello"), ("assistant", "Hi"), ("user", "How is pasta cooked? please"), ("assistant", PASTA)
    turns = [{"role": r, "content": c} for r, c in said]
    vectors = Axes()
    assert found(semantic.semantic(make_rows([*ASKED[:2], {"messages": turns}]), vectors, on=True)) == []
    assert vectors.asked and not any("How is pasta cooked? please" in t for t in vectors.asked)


def test_semantic_in_blocks_equals_in_one(monkeypatch):
    rng = np.random.default_rng(0)
    space = rng.normal(size=(60, 3)).astype(np.float32)
    space /= np.linalg.norm(space, axis=1, keepdims=True)
    numbers = [frozenset({str(k % 2)}) for k in range(60)]
    whole = semantic._alike(space, numbers, 0.9)
    assert len(whole[0]) > 10
    monkeypatch.setattr(semantic, "BLOCK", 7)
    parts = semantic._alike(space, numbers, 0.9)
    assert {*zip(*(x.tolist() for x in whole[:2]))} == {*zip(*(x.tolist() for x in parts[:2]))}


def test_semantic_is_lazy_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Store.create(tmp_path / "set")
    store.import_rows(make_rows(ASKED).to_batches(), source="x")
    asked = []

    def of(self, uids, texts, model=""):
        asked.append(self.folder)
        return Axes().of(uids, texts)

    monkeypatch.setattr(vectors.Vectors, "of", of)
    assert engine.check(store, engine.spec_of(store)).flags["dup.semantic"] == 0 and not asked
    assert engine.check(store, engine.spec_of(store), checks=["dup.semantic"]).flags == {"dup.semantic": 1}
    assert asked == [store.path] * 3
    assert engine.check(store, parse("checks:\n  dup.semantic: {on: true}\n")).flags["dup.semantic"] == 1
    off = engine.check(store, engine.spec_of(store), checks=["dup.semantic"], overrides={"dup.semantic": {"on": False}})
    assert off.flags == {"dup.semantic": 0}


def test_calibrate():
    score, same = np.array([0.95, 0.9, 0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True, False, False])
    assert semantic.calibrate(score, same, 1.0) == 0.95
    assert semantic.calibrate(score, same, 0.75) == 0.8      # 3 of 4; of the two at .9 one is wrong
    with pytest.raises(CurationError, match=r"no threshold reaches a precision of 0\.9 on these 2 pairs"):
        semantic.calibrate(score[4:], same[4:])


@pytest.mark.parametrize("call", [
    lambda rows: semantic.semantic(rows, Axes(), threshold=0.0), lambda rows: leaks.leak(rows, threshold=1.5)])
def test_bad_thresholds(call):
    with pytest.raises(CurationError, match=r"threshold (0.0|1.5) is not a similarity"):
        call(make_rows(ASKED))


# ------------------------------------------------------------------ dup.leak
def leaky(*given):
    return make_rows([{"instruction": i, "input": x, "response": f"answer {k}", "split": s}
                      for k, (i, x, s) in enumerate(given)])


def test_leak_flags_the_training_side():
    rows = leaky(("How do I cook pasta for two people at home?", "", "train"),
                 ("Name a colour that is not green.", "", "train"),
                 ("HOW do I cook  pasta for two people at home?", "", "validation"),
                 ("Please, how do I cook pasta for two people at home?", "", "test"),
                 ("How do I cook pasta for two people at home?", "", "train_extra"))
    flags = leaks.leak(rows)
    near = leaks.leak(rows, threshold=0.5).to_pylist()[0]
    assert found(flags) == [
        (0, [2, 3], "train row asks the prompt of validation row 2 and 1 more"),
        (4, [2, 3], "train_extra row asks the prompt of validation row 2 and 1 more")]
    assert flags["score"].to_pylist() == [1.0, 1.0] and near["related"] == [2, 3]


def test_leak_of_a_near_prompt_names_the_similarity():
    rows = leaky(("How do I cook fresh pasta for my two neighbours at home tonight?", "", "train"),
                 ("How do I coook fresh pasta for my two neighbours at home tonight?", "", "dev"))
    (flag,) = leaks.leak(rows).to_pylist()
    assert (flag["row"], flag["related"], flag["field"]) == (0, [1], "instruction")
    assert flag["message"] == f"train row asks nearly the prompt ({flag['score']:.2f}) of dev row 1" and 0.8 <= flag["score"] < 1


@pytest.mark.parametrize("given", [
    # one side only; no split named
    [("How do I cook pasta?", "", "train"), ("How do I cook pasta?", "", "train")],
    [("How do I cook pasta?", "", "validation"), ("How do I cook pasta?", "", "test")],
    [("How do I cook pasta?", "", None), ("How do I cook pasta?", "", "test")],
    [("How do I cook pasta?", "", None), ("How do I cook pasta?", "", None)],
    # same instruction, other input; a number or a word exchanged
    [("Summarise the text.", "Bread is baked in an oven.", "train"), ("Summarise the text.", "Ships sail the seas.", "test")],
    [("Write down the multiplication table from 2 to 10 as plain text, please", "", "train"),
     ("Write down the multiplication table from 2 to 12 as plain text, please", "", "test")],
    [("Write a short note of thanks to my good old friend Maria for the lovely evening at her house", "", "train"),
     ("Write a short note of thanks to my good old friend Peter for the lovely evening at her house", "", "test")],
    [("", "", "train"), ("", "", "test")],
])
def test_no_leak(given):
    assert found(leaks.leak(leaky(*given))) == []


def test_leak_respects_earlier_turns():
    def talk(start, split):
        turns = [("user", start), ("assistant", "ok"), ("user", "Go on, please."), ("assistant", "Well.")]
        return {"messages": [{"role": r, "content": c} for r, c in turns], "split": split}

    assert found(leaks.leak(make_rows([talk("Tell me of cats", "train"), talk("Explain the law", "test")]))) == []
    assert [f[:2] for f in found(leaks.leak(make_rows([talk("Tell me of cats", "train"), talk("Tell me of cats", "test")])))] == [
        (0, [1])]


def test_leak_across_many_copies_names_every_training_row():
    rows = leaky(*[("What is the tallest mountain on the whole earth?", "", "train")] * 40,
                 *[("What is the tallest mountain on the whole earth?", "", "eval")] * 60)
    flags = leaks.leak(rows)
    assert flags["row"].to_pylist() == list(range(40))
    assert {len(r) for r in flags["related"].to_pylist()} == {leaks.RELATED}
