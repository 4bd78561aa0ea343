"""Queues and verdict files."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from curation import engine, gate, review
from curation.errors import CurationError
from curation.spec import parse
from curation.store import Store

from .rows import make_rows

GOOD = "The committee met on Monday and agreed to build the new bridge before winter."
SPEC = parse("name: t")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "set")
    store.import_rows(
        make_rows(
            [
                {"instruction": "a", "response": GOOD},
                {"instruction": "b", "response": ""},
                {"instruction": "c", "response": "The cafÃ© on the corner serves crÃ¨me brÃ»lÃ©e every day."},
                {"instruction": "d", "response": "  "},
            ]
        ).to_batches(),
        source="x",
    )
    engine.check(store, SPEC)
    return store


def test_queues_list_each_row_once_with_its_reason(store: Store) -> None:
    rows = review.queue(store, SPEC, "errors")
    assert {1, 3} <= {r["row"] for r in rows} and len({r["row"] for r in rows}) == len(rows)
    assert all(r["reason"] and r["uid"] for r in rows)
    assert [r["row"] for r in review.queue(store, SPEC, "fixes")] == [2]


def test_decided_rows_leave_the_queue_and_dropped_ones_can_be_brought_back(store: Store) -> None:
    gate.apply_policy(store, SPEC)
    assert not review.queue(store, SPEC, "errors")
    gone = {d["row"]: d for d in review.dropped(store, SPEC)}
    assert {1, 3} <= set(gone) and gone[1]["check"] == "response.empty" and gone[1]["score"] == 1.0
    store.verdicts.append(review.entries_for(store, SPEC, "accept", rows=[1]), actor="ann")
    assert 1 not in {d["row"] for d in review.dropped(store, SPEC)}


def test_random_queue_is_reproducible(store: Store) -> None:
    assert review.queue(store, SPEC, "random", 2, seed=3) == review.queue(store, SPEC, "random", 2, seed=3)


def test_unknown_queue_is_explained(store: Store) -> None:
    with pytest.raises(CurationError, match="'errrors' is not a queue"):
        review.queue(store, SPEC, "errrors")


def test_failed_queue_reads_files_and_names_a_broken_line(store: Store) -> None:
    folder = store.path / "queues"
    folder.mkdir()
    uid = store.rows()["uid"][0].as_py()
    line = json.dumps({"row": 0, "uid": uid, "score": 0.4, "reason": "near probe p1", "probe": "p1"})
    better = line.replace("0.4", "0.9")
    (folder / "failed-a.jsonl").write_text(f"{line}\n{better}\n")
    assert [(r["row"], r["score"]) for r in review.queue(store, SPEC, "failed")] == [(0, 0.9)]
    (folder / "failed-b.jsonl").write_text("{broken\n")
    with pytest.raises(CurationError, match=r"failed-b\.jsonl:1"):
        review.queue(store, SPEC, "failed")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_verdicts_from_a_file(store: Store, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    lines = [
        {"row": "0", "verdict": "accept", "reason": 'read, it is "fine"'},
        {"row": "1", "verdict": "edit", "field": "response", "text": "A, new\ntext."},
    ]
    if suffix == ".csv":
        path.write_text('row,verdict,reason,field,text\n0,accept,"read, it is ""fine""",,\n1,edit,,response,"A, new\ntext."\n')
    else:
        path.write_text("\n".join(json.dumps(x) for x in lines))
    entries = review.read_verdicts(path, store)
    assert [(e.verdict, e.reason, e.after) for e in entries] == [
        ("accept", 'read, it is "fine"', None),
        ("edit", "", "A, new\ntext."),
    ]
    store.verdicts.append(entries, actor="ann")
    assert gate.effective(store, SPEC).rows["response"][1].as_py() == "A, new\ntext."


def test_every_bad_line_of_a_verdict_file_is_named_and_nothing_stored(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("row,uid,verdict\n0,,approve\n99,,accept\n,nope,accept\n,,reject\n1,,edit\n2,,accept\n")
    with pytest.raises(CurationError) as e:
        review.read_verdicts(path, store)
    for line in (
        "v.csv:2: verdict 'approve'",
        "v.csv:3: row '99'",
        "v.csv:4: uid 'nope'",
        "v.csv:5: neither",
        "v.csv:6: an edit needs",
    ):
        assert line in e.value.what, e.value.what
    assert "v.csv:7" not in e.value.what and not store.verdicts.history()


def test_fixes_in_bulk(store: Store) -> None:
    entries = review.entries_for(store, SPEC, "fix", check="response.mojibake")
    assert [(e.verdict, e.field, e.check_id) for e in entries] == [("edit", "response", "response.mojibake")]
    assert entries[0].after is not None and "café" in entries[0].after


def test_progress_counts(store: Store) -> None:
    gate.apply_policy(store, SPEC)
    counts = review.progress(store, gate.effective(store, SPEC))
    assert counts["rows"] == 4 and counts["rejected"] == 2 and counts["by_policy"] >= 2


def test_an_edit_of_any_turn_from_a_file(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "talk")
    turns = [{"role": r, "content": c} for r, c in (
        ("system", "Be brief."), ("user", "One?"), ("assistant", "1"), ("user", "Two?"), ("assistant", "2"))]
    store.import_rows(make_rows([{"messages": turns}]).to_batches(), source="x")
    path = tmp_path / "v.jsonl"
    path.write_text("\n".join(json.dumps({"row": 0, "verdict": "edit", "field": f, "text": t}) for f, t in (
        ("messages[0]", "Be long."), ("messages[2]", "one"), ("messages[4]", "two"))))
    entries = review.read_verdicts(path, store)
    assert [(e.field, e.before) for e in entries] == [("messages[0]", "Be brief."), ("messages[2]", "1"), ("response", "2")]
    store.verdicts.append(entries, actor="ann")
    engine.check(store, SPEC)
    rows = gate.effective(store, SPEC).rows.to_pylist()[0]
    assert [m["content"] for m in rows["messages"]] == ["Be long.", "One?", "one", "Two?", "two"]
    assert (rows["system"], rows["response"]) == ("Be long.", "two")
    for field, what in (("messages[9]", "5 turns"), ("meta", "not instruction"), ("messages[x]", "not instruction")):
        path.write_text(json.dumps({"row": 0, "verdict": "edit", "field": field, "text": "t"}))
        with pytest.raises(CurationError, match=what):
            review.read_verdicts(path, store)


def test_near_the_threshold_comes_first(store: Store) -> None:
    flags = {"row": [0, 1, 2, 3], "uid": ["a", "b", "c", "d"], "check": ["dup.near", "dup.near", "x", "x"],
             "severity": ["warning"] * 4, "score": [0.95, 0.86, 0.9, 0.52], "message": list("abcd"), "fix": [None] * 4}
    table = pa.table(flags).set_column(6, "fix", pa.array([None] * 4, pa.string()))
    found = review._flagged(table, {"dup.near": 0.85}, "borderline", 0)
    assert [r["row"] for r in found] == [1, 3, 0, 2]      # .01 and .02 beyond the line, then .10 and .40


def test_queues_have_titles_and_only_those_of_flags_take_a_check(store: Store) -> None:
    assert set(review.TITLES) == set(review.QUEUES) >= set(review.BY_CHECK)
    assert [r["row"] for r in review.queue(store, SPEC, "errors", check="response.empty")] == [1, 3]
    assert review.queue(store, SPEC, "errors", check="dup.exact") == []
    with pytest.raises(CurationError, match="not made from the flags"):
        review.queue(store, SPEC, "random", check="response.empty")
