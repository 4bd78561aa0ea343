"""The coverage report: targets, gaps, mixes, effective numbers, novelty, redundancy and what an import added."""

import numpy as np
import pyarrow as pa
import pytest

from curation import coverage
from curation.coverage import compare, effective_number, form, measure, novelty, report, script
from curation.engine import run_table
from curation.spec import Spec, parse

from .rows import make_rows
from .test_selection import Words, given

SPEC = parse(
    """
families:
  - {id: label, target: [0.1, 0.3], examples: ["Is this review good or bad? The film was slow."]}
  - {id: write, target: [0.2, 0.6], examples: ["Write a short text about bridges."]}
  - {id: ghost, min_rows: 3, examples: ["Translate this into Latin."]}
"""
)


def tables(rows: list[dict], spec: Spec = SPEC) -> tuple[pa.Table, pa.Table]:
    table = make_rows(rows)
    return table, run_table(table, spec, checks=["response.empty"])[1]


def space(rows: pa.Table) -> np.ndarray:
    return Words().of(rows["uid"].to_pylist(), rows["instruction"].to_pylist())


def test_families_against_targets_with_gaps_ranked() -> None:
    found = report(*tables(given()), SPEC)
    assert found.rows == 56 and found.families.counts == {"label": 32, "write": 24}
    assert [(x.id, x.have) for x in found.gaps] == [("ghost", 0), ("label", 32)]
    assert found.gaps[0].gap == 1 and found.gaps[0].message == "family ghost: 0 rows, 3 short of 3"
    assert found.gaps[1].message == "family label: 32 rows, 15 more than 17"


def test_mixes_and_effective_numbers() -> None:
    found = report(*tables(given()), SPEC)
    assert found.mixes["verb_noun"].counts == {"ask is review": 32, "write line": 24}
    assert found.effective["families"] == pytest.approx(effective_number([32, 24]))
    assert found.mixes["turns"].counts == {"1 turn": 56}
    assert found.mixes["script"].counts == {"Latin": 56}
    assert found.mixes["format"].counts == {"label": 32, "short text": 24}
    assert found.mixes["response_words"].counts["under 10"] == 32 and sum(found.mixes["prompt_words"].counts.values()) == 56
    assert found.space is None and "space" in found.as_dict()
    frame = found.frame()
    assert set(frame["mix"]) >= {"family", "format", "turns"}
    assert frame[frame["mix"] == "family"]["share"].sum() == pytest.approx(1)


def test_effective_number() -> None:
    assert effective_number([]) == effective_number([0, 0]) == 0
    assert effective_number([7]) == pytest.approx(1)
    assert effective_number([5, 5, 5]) == pytest.approx(3)
    assert 1 < effective_number([99, 1]) < 1.1


def test_turns_and_system() -> None:
    turns = (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Name a river."), ("assistant", "Elbe"))
    messages = [{"role": r, "content": c} for r, c in turns]
    found = report(*tables([{"messages": messages}, {"instruction": "Name a sea.", "response": "The North Sea."}]), SPEC)
    assert found.mixes["turns"].counts == {"1 turn": 1, "2 turns with system": 1}


def test_signals_of_language_and_cluster_are_used_where_they_are() -> None:
    rows, signals = tables(given())
    signals = signals.append_column("cluster", pa.array([0, 1] * 28, pa.int32()))
    signals = signals.drop_columns("language") if "language" in signals.column_names else signals
    signals = signals.append_column("language", pa.array(["de"] * 56))
    found = report(rows, signals, SPEC)
    assert found.effective["clusters"] == pytest.approx(2) and found.mixes["language"].counts == {"de": 56}


def test_no_families_no_rows_and_empty_texts() -> None:
    spec = parse("name: t")
    rows, signals = tables(given(), spec)
    found = report(rows.slice(0, 0), signals.slice(0, 0), spec, space=np.zeros((0, 4), np.float32))
    assert found.rows == 0 and found.space is None and found.effective["families"] == 0
    assert "names no families" in found.notes[0]
    empty = report(*tables([{"instruction": "", "response": ""}], spec), spec)
    assert empty.mixes["format"].counts == {"empty": 1} and empty.mixes["verb_noun"].counts == {"(none)": 1}
    assert empty.mixes["script"].counts == {"(none)": 1}


@pytest.mark.parametrize("text, name", [
    ("", "empty"), ('{"a": 1}', "json"), ("- a\n- b", "list"), ("yes", "label"), ("This is a sentence of words.", "short text"),
    ("def f(x):\n    return x", "code"), ("word " * 60, "paragraph"), ("word " * 200, "long text"),
])
def test_forms(text: str, name: str) -> None:
    assert form(text) == name


@pytest.mark.parametrize("text, name", [("Hello", "Latin"), ("Привет мир", "Cyrillic"), ("你好", "Han"), ("1 + 1", "(none)"),
                                        ("über", "Latin"), ("ႠႡ", "other")])
def test_scripts(text: str, name: str) -> None:
    assert script(text) == name


def test_redundancy_is_seen() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 32)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    different = measure(x)
    doubled = measure(np.repeat(x[:30], 2, axis=0))
    assert doubled.last(0.3) < 0.001 < different.last(0.3)
    assert different.curve[0] == (0, 0) and different.curve[-1] == (1, 1)
    assert all(a[1] <= b[1] + 1e-9 for a, b in zip(different.curve, different.curve[1:]))
    assert doubled.nearest["p50"] == pytest.approx(1, abs=1e-5)


def test_novelty_of_copies_is_none_and_of_a_stray_row_the_highest() -> None:
    rng = np.random.default_rng(0)
    x = np.eye(8, dtype=np.float32)[np.zeros(30, int)] + 0.05 * rng.normal(size=(30, 8)).astype(np.float32)
    x[7] = np.eye(8)[5]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert novelty(x).argmax() == 7
    assert novelty(np.tile(x[:1], (5, 1))).max() < 1e-3
    assert novelty(x[:1]).tolist() == [0]


def test_what_an_import_added() -> None:
    old, new = given()[:32], given()
    a, b = tables(old), tables(new)
    result = compare(report(*a, SPEC), report(*b, SPEC), (a[0]["uid"].to_pylist(), b[0]["uid"].to_pylist()),
                     (space(a[0]), space(b[0])))
    assert (result.came, result.gone, result.stayed) == (24, 0, 32)
    assert result.new_pairs.counts == {"write line": 24}
    assert [x.id for x in result.filled] == ["write"] and not result.opened
    assert result.came_near is not None and result.came_near["new (under .70)"] == pytest.approx(1)
    value = result.as_dict()
    assert value["families"]["write"] == [0, 24] and value["effective"]["families"][1] > value["effective"]["families"][0]


def test_bounds_count_against_a_wished_size() -> None:
    _rows, signals = tables(given())
    line = next(x for x in coverage.lines(signals, SPEC, size=1000) if x.id == "label")
    assert (line.least, line.most) == (100, 301)
