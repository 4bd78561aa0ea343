"""The dataset folder: atomic, versioned, undoable, and whole after a kill."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import store as store_module
from curation.errors import CurationError
from curation.model import ROWS
from curation.store import (
    ASKING,
    FILES,
    KINDS,
    READING,
    TAGGING,
    Entry,
    Store,
    VerdictLog,
    _Seen,
    atomic,
    read_arrow,
    read_sparing,
    spelled_out,
    write_arrow,
)

from .rows import make_rows


def batches(*responses: str, family: str | None = None):
    rows = make_rows([{"instruction": f"Say {i}", "response": r, "family": family} for i, r in enumerate(responses)])
    return rows.to_batches()


def test_import_numbers_rows_and_marks_copies(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "set")
    one = make_rows([{"instruction": "a", "response": "b"}] * 3 + [{"instruction": "c", "response": "d"}])
    one = one.set_column(1, "uid", pa.array([u.split("#")[0] for u in one["uid"].to_pylist()]))
    done = store.import_rows(one.to_batches(), source="x.jsonl")
    rows = store.rows()
    assert rows.schema == ROWS
    assert rows["row"].to_pylist() == [0, 1, 2, 3]
    first = rows["uid"][0].as_py()
    assert rows["uid"].to_pylist()[:3] == [first, f"{first}#1", f"{first}#2"]
    assert (done.rows, done.copies, done.new, done.gone) == (4, 2, 4, 0)


def test_versions_and_difference(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    a = store.import_rows(batches("x", "y"), source="a")
    b = store.import_rows(batches("x", "z"), source="b")
    assert store.versions() == ["0001", "0002"] and store.version == "0002"
    assert (b.new, b.gone) == (1, 1)
    assert a.hash != b.hash and store.rows("0001")["response"].to_pylist() == ["x", "y"]


def test_same_content_same_hash_whatever_the_batches(tmp_path: Path) -> None:
    whole = pa.Table.from_batches(batches("x", "y", "z", family="f"))
    hashes = set()
    for n, size in enumerate((1, 2, 3)):
        store = Store.create(tmp_path / str(n))
        hashes.add(store.import_rows(whole.combine_chunks().to_batches(max_chunksize=size), source="a").hash)
    assert len(hashes) == 1


def test_dictionaries_grow_over_batches(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.import_rows(
        [*batches("a", family="one"), *batches("b", family=None), *batches("c", "d", family="two"), *batches("e", family="one")],
        source="a",
    )
    assert store.rows()["family"].to_pylist() == ["one", None, "two", "two", "one"]


def test_a_first_batch_without_families_is_no_end_of_them(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.import_rows([*batches("a"), *batches("b", family="late")], source="a")
    for k in range(FILES):
        store.import_rows(batches(str(k), family=f"f{k}"), source="b", append=True)
    assert store.rows()["family"].to_pylist() == [None, "late", *[f"f{k}" for k in range(FILES)]]


def test_failed_import_leaves_nothing(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.import_rows(batches("x"), source="a")

    def broken():
        yield from batches("y")
        raise CurationError("line 7 is broken")

    with pytest.raises(CurationError, match="line 7"):
        store.import_rows(broken(), source="b")
    assert store.versions() == ["0001"]
    assert not [p for p in (tmp_path / "rows").iterdir() if p.suffix == ".part"]


def test_empty_import_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="no rows"):
        Store.create(tmp_path).import_rows([], source="a")


def test_kill_during_import_leaves_a_usable_folder(tmp_path: Path) -> None:
    Store.create(tmp_path).import_rows(batches("x"), source="a")
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tests.rows import make_rows
from curation.store import Store
def slow():
    for i in range(1000):
        yield from make_rows([{{"instruction": str(i), "response": "y"}}]).to_batches()
        print(i, flush=True)
        time.sleep(0.01)
Store({str(tmp_path)!r}).import_rows(slow(), source="b")
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 5:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = Store(tmp_path)
    assert store.versions() == ["0001"] and store.rows()["response"].to_pylist() == ["x"]
    assert store.import_rows(batches("z"), source="c").version == "0002"


def test_truncated_file_is_explained(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.import_rows(batches("x" * 1000), source="a")
    path = store.rows_path()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CurationError, match=r"0001\.arrow: not a readable Arrow file"):
        store.rows()


def test_not_a_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="not a dataset folder"):
        Store(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CurationError, match="is a file"):
        Store.create(tmp_path / "file")


def test_atomic_write_keeps_the_old_file_when_the_disk_is_full(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(OSError, match="No space"), atomic(target) as f:
        f.write(b"new")
        raise OSError(28, "No space left on device")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


# ---- verdicts


def log_at(path: Path) -> VerdictLog:
    return VerdictLog(path / "verdicts.sqlite")


def test_person_outranks_policy_whatever_the_order(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    log.append([Entry("u", "accept", "fine")], actor="ann")
    log.append([Entry("u", "reject", "rule", check_id="dup.near", score=0.9)], actor="policy:1", kind="policy")
    assert log.decisions()["u"].verdict == "accept" and log.decisions()["u"].actor == "ann"
    log.append([Entry("u", "clear")], actor="ann")
    d = log.decisions()["u"]
    assert (d.verdict, d.kind, d.check_id, d.score) == ("reject", "policy", "dup.near", 0.9)


def test_bulk_is_one_undo_and_undo_can_be_undone(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    log.append([Entry(f"u{i}", "reject") for i in range(100)], actor="ann")
    assert len(log.decisions()) == 100
    assert log.undo(actor="ann") == 1
    assert log.decisions() == {}
    undo = log.history()[0]
    assert undo["undoes"] == 1
    log.undo(undo["id"], actor="ann")
    assert len(log.decisions()) == 100
    with pytest.raises(CurationError, match="no action 99"):
        log.undo(99, actor="ann")


def test_nothing_to_undo_is_said(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="nothing to undo"):
        log_at(tmp_path).undo(actor="ann")


def test_edits_fall_back_when_undone(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    log.append([Entry("u", "edit", field="response", before="a", after="b")], actor="ann")
    log.append([Entry("u", "edit", field="response", before="b", after="c")], actor="bo")
    assert log.edits() == {"u": {"response": "c"}}
    log.undo(actor="bo")
    assert log.edits() == {"u": {"response": "b"}}


def test_a_repeated_client_message_is_stored_once(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    first = log.append([Entry("u", "reject")], actor="ann", session="s", seq=1)
    assert log.append([Entry("u", "reject")], actor="ann", session="s", seq=1) == first
    assert len(log.history()) == 1


def test_kill_during_verdicts_loses_only_what_was_not_acknowledged(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from curation.store import VerdictLog, Entry
log = VerdictLog(Path({str(tmp_path)!r}) / "verdicts.sqlite")
for i in range(10_000):
    log.append([Entry(f"u{{i}}-{{k}}", "reject") for k in range(3)], actor="a")
    print(i, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = -1
    killer = threading.Timer(1.5, lambda: os.kill(process.pid, signal.SIGKILL))
    killer.start()
    for line in process.stdout:
        acknowledged = int(line)
    process.wait()
    killer.join()
    decisions = log_at(tmp_path).decisions()
    assert acknowledged >= 0
    assert all(f"u{i}-{k}" in decisions for i in range(acknowledged + 1) for k in range(3))
    assert len(decisions) % 3 == 0, "an action was stored in part"


def test_writers_at_once_lose_nothing_even_while_the_log_is_made(tmp_path: Path) -> None:
    for round_ in range(15):
        folder = tmp_path / str(round_)
        folder.mkdir()
        start = threading.Barrier(4)

        def work(name: str, folder: Path = folder, start: threading.Barrier = start) -> None:
            start.wait()
            for i in range(4):
                log_at(folder).append([Entry(f"{name}{i}", "accept")], actor=name)

        with ThreadPoolExecutor(4) as pool:
            for task in [pool.submit(work, name) for name in "abcd"]:
                task.result()
        assert len(log_at(folder).decisions()) == 16


def test_damaged_log_is_explained(tmp_path: Path) -> None:
    (tmp_path / "verdicts.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 40)
    with pytest.raises(CurationError, match=r"verdicts\.sqlite"):
        log_at(tmp_path).decisions()


def test_the_log_is_append_only(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    log.append([Entry("u", "reject")], actor="a")
    log.undo(actor="a")
    with sqlite3.connect(tmp_path / "verdicts.sqlite") as db:
        assert db.execute("SELECT COUNT(*) FROM actions").fetchone() == (2,)
        assert db.execute("SELECT COUNT(*) FROM entries").fetchone() == (1,)


step = st.one_of(
    st.tuples(
        st.just("say"), st.sampled_from("abc"), st.sampled_from(["accept", "reject"]), st.sampled_from(["person", "policy"])
    ),
    st.tuples(st.just("edit"), st.sampled_from("abc"), st.text(max_size=5), st.just("person")),
    st.tuples(st.just("undo"), st.integers(1, 12), st.none(), st.none()),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(step, max_size=12))
def test_undo_equals_never_having_done_it(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:
    """Replaying only the actions that hold gives the same state as the log with its undos."""
    path = tmp_path_factory.mktemp("log")
    log = log_at(path)
    stored: dict[int, tuple] = {}
    for kind, a, b, c in steps:
        if kind == "undo":
            try:
                log.undo(a, actor="x")
            except CurationError:
                continue
        else:
            entry = Entry(a, b) if kind == "say" else Entry(a, "edit", field="response", before="", after=b)
            stored[log.append([entry], actor="x", kind=c)] = (entry, c)
    dead = {h["id"] for h in log.history() if h["undone"]}
    again = log_at(path_again := path / "again")
    path_again.mkdir()
    for id_, (entry, kind) in stored.items():
        if id_ not in dead:
            again.append([entry], actor="x", kind=kind)
    assert {u: (d.verdict, d.kind) for u, d in log.decisions().items()} == {
        u: (d.verdict, d.kind) for u, d in again.decisions().items()
    }
    assert log.edits() == again.edits()


deed = st.one_of(
    st.tuples(
        st.just("say"),
        st.lists(
            st.tuples(st.sampled_from("abcd"), st.sampled_from(["accept", "reject", "clear", "edit"])), min_size=1, max_size=3
        ),
        st.sampled_from([*KINDS, READING]),
    ),
    st.tuples(st.just("undo"), st.integers(1, 14), st.just("")),
    st.tuples(st.just("look"), st.none(), st.just("")),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(deed, max_size=16))
def test_what_is_kept_of_the_log_equals_reading_it_anew(tmp_path_factory: pytest.TempPathFactory, deeds: list) -> None:
    """Whatever is written, undone and looked at in between: the state carried forward is that of a full reading."""
    log = log_at(tmp_path_factory.mktemp("held"))
    for number, (kind, what, by) in enumerate(deeds):
        if kind == "undo":
            with contextlib.suppress(CurationError):
                log.undo(what, actor="x")
        elif kind == "say":
            entries = [Entry(u, v, field="response" if number % 2 else "messages[0]", after=str(number)) for u, v in what]
            log.append(entries, actor="x", kind=by)
        else:
            log.decisions()
    kept = log.decisions(), log.edits()
    store_module._HELD.clear()
    assert (log.decisions(), log.edits()) == kept
    assert [list(f) for f in log.edits().values()] == [list(kept[1][u]) for u in log.edits()]


def test_a_verdict_reads_what_is_new_and_an_undo_the_rows_it_changes(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    log.append([Entry(f"u{i}", "accept") for i in range(1, 5000)], actor="ann")
    log.append([Entry("u7", "reject")], actor="ann")
    log.decisions()
    read: list[int] = []
    take = store_module._Held._take

    def counted(self: Any, entries: Any) -> None:
        found = list(entries)
        read.append(len(found))
        take(self, found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module._Held, "_take", counted)
        log.append([Entry("u9", "reject")], actor="ann")
        assert log.decisions()["u9"].verdict == "reject" and sum(read) == 1
        log.undo(2, actor="ann")
        assert log.decisions()["u7"].verdict == "accept" and sum(read) == 1 + 2
        log.decisions()
        assert sum(read) == 3


def test_what_is_kept_is_not_of_another_log_at_the_same_place(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    for text in ("a", "b"):
        log.append([Entry(text, "accept")], actor="ann")
        assert list(log.decisions()) == [text]
        for file in tmp_path.glob("verdicts.sqlite*"):
            file.unlink()
        assert log.decisions() == {}
        time.sleep(0.002)       # the next log begins at another millisecond


def test_what_was_given_out_is_not_changed_later(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    log.append([Entry("a", "edit", field="response", after="x")], actor="ann")
    first, texts = log.decisions(), log.edits()
    log.append([Entry("a", "edit", field="input", after="y"), Entry("b", "reject")], actor="ann")
    log.decisions()
    assert list(first) == ["a"] and texts == {"a": {"response": "x"}}


def test_a_log_of_an_earlier_release_is_read_and_continued(tmp_path: Path) -> None:
    tables = store_module._TABLES
    old = tables[: tables.index("CREATE INDEX IF NOT EXISTS actions_undoes")]
    with sqlite3.connect(tmp_path / "verdicts.sqlite") as db:
        db.executescript(old)
        db.execute("INSERT INTO actions VALUES (1, '2024-01-01T00:00:00.000+00:00', 'ann', 'person', '', NULL, NULL, NULL)")
        db.execute("INSERT INTO entries VALUES (1, 'u', 'edit', 'response', 'a', 'b', '', NULL, NULL)")
    log = log_at(tmp_path)
    assert log.edits() == {"u": {"response": "b"}}
    log.append([Entry("u", "edit", field="messages[1]", after="c")], actor="bo")
    assert list(log.edits()["u"].items()) == [("response", "b"), ("messages[1]", "c")]


def test_second_readings_and_askings_decide_nothing(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    log.append([Entry("u", "accept")], actor="ann")
    log.append([Entry("u", "reject", "no")], actor="bo", kind=READING)
    asked = log.append([Entry("v", "ask")], actor="ann", kind=ASKING)
    log.append([Entry("u", "accept"), Entry("v", "accept")], actor="cy")
    assert log.decisions()["u"].actor == "cy"
    said = [(r["uid"], r["actor"], r["kind"], r["verdict"], r["alone"]) for r in log.readings()]
    assert said == [("u", "ann", "person", "accept", True), ("u", "bo", "second", "reject", True),
                    ("v", "ann", "ask", "ask", True), ("u", "cy", "person", "accept", False),
                    ("v", "cy", "person", "accept", False)]
    assert log.decision("u") == log.decisions()["u"] and log.decision("w") is None and log.edit("u") == {}
    assert [a["id"] for a in log.recent("ann")] == [3, 1] and [a["id"] for a in log.recent("ann", 1)] == [3]
    log.undo(asked, actor="ann")
    assert not log.holds(asked) and log.holds(1) and not log.holds(99)
    assert [a["id"] for a in log.recent("ann")] == [1]
    assert "ask" not in [r["verdict"] for r in log.readings()]


def test_tags_are_put_on_taken_off_and_undone_and_decide_nothing(tmp_path: Path) -> None:
    log = log_at(tmp_path)
    assert log.tags() == {}
    log.append([Entry("u", "tag", after="tone"), Entry("v", "tag", after="tone")], actor="ann", kind=TAGGING)
    second = log.append([Entry("u", "untag", after="tone"), Entry("u", "tag", after="ask bo")], actor="bo", kind=TAGGING)
    assert log.tags() == {"ask bo": {"u"}, "tone": {"v"}}
    assert log.decisions() == {} and log.edits() == {}
    log.undo(second, actor="ann")
    assert log.tags() == {"tone": {"u", "v"}}



def test_reading_while_writing(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.import_rows(batches("x"), source="a")
    table = store.rows()
    store.import_rows(batches("y"), source="b")
    assert table["response"].to_pylist() == ["x"] and read_arrow(store.rows_path("0002")).num_rows == 1


def test_append_keeps_rows_numbers_and_uids_and_adds_behind_them(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.import_rows([*batches("x", "y", family="f"), *batches("x")], source="a")
    before = store.rows().to_pylist()
    done = store.import_rows([*batches("x", family="g"), *batches("z")], source="b", append=True)
    rows = store.rows().to_pylist()
    assert rows[:3] == before and [r["row"] for r in rows] == list(range(5))
    assert [r["uid"].partition("#")[2] for r in rows] == ["", "", "1", "2", ""]
    assert [r["family"] for r in rows] == ["f", "f", None, "g", None]
    assert (done.version, done.rows, done.copies, done.new, done.gone) == ("0002", 5, 2, 2, 0)
    assert store.about()["appended_to"] == "0001"
    whole = Store.create(tmp_path / "whole")
    given = [*batches("x", "y", family="f"), *batches("x"), *batches("x", family="g"), *batches("z")]
    assert whole.import_rows(given, source="a").hash == done.hash


def test_append_of_nothing_changes_nothing_and_append_to_nothing_is_an_import(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    assert store.import_rows(batches("x"), source="a", append=True).new == 1
    with pytest.raises(CurationError, match="no rows to import"):
        store.import_rows([], source="b", append=True)
    assert store.versions() == ["0001"]


def test_an_append_writes_the_new_rows_only_and_many_appends_are_put_together(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "set")
    every = batches(*[f"a long text of row {k} " * 50 for k in range(400)], family="f")
    store.import_rows(every, source="a")
    for k in range(FILES):
        store.import_rows(batches(f"new {k}", family=f"f{k % 3}"), source="b", append=True)
        every += batches(f"new {k}", family=f"f{k % 3}")
        small = store.rows_path().stat().st_size < store.rows_path("0001").stat().st_size / 10
        assert small == (k < FILES - 1), "one file a part, until there are too many"
    assert store.parts("0003") == ["0001", "0002", "0003"] and store.parts() == [store.version]
    whole = Store.create(tmp_path / "whole")
    assert whole.import_rows(every, source="a").hash == store.rows_hash()
    for columns in (None, ["uid", "family"]):
        assert store.rows(columns=columns).equals(whole.rows(columns=columns).unify_dictionaries())
    assert store.rows("0004").num_rows == 403 and store.rows("0004")["row"].to_pylist() == list(range(403))


@given(st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["f", "g", None])), min_size=1, max_size=4),
                min_size=1, max_size=6))
def test_any_appends_give_what_one_import_gives(tmp_path_factory: pytest.TempPathFactory, parts: list[Any]) -> None:
    store, whole = (Store.create(tmp_path_factory.mktemp("set")) for _ in range(2))
    every: list[pa.RecordBatch] = []
    for part in parts:
        mine = [b for text, family in part for b in batches(text, family=family)]
        done = store.import_rows(mine, source="a", append=True)
        every += mine
    once = whole.import_rows(every, source="a")
    assert (done.hash, done.rows, done.copies) == (once.hash, once.rows, once.copies)
    assert store.rows().to_pylist() == whole.rows().to_pylist()
    assert len({str(chunk.dictionary) for chunk in store.rows()["family"].chunks}) == 1, "one dictionary for all parts"


def test_more_batches_than_are_looked_up_number_copies_alike(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.import_rows(batches("x", "y", "x"), source="a")
    store.import_rows([b for _ in range(2 * _Seen.LOOKS) for b in batches("x", "z", "y")], source="b", append=True)
    uids = store.rows()["uid"].to_pylist()
    assert len(set(uids)) == len(uids) == 3 + 6 * _Seen.LOOKS
    assert sorted(int(u.partition("#")[2] or 0) for u in uids if u.startswith(uids[0])) == list(range(1 + 2 * _Seen.LOOKS))


def test_rows_that_rest_on_a_version_that_is_gone_or_another_are_explained(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.import_rows(batches("x"), source="a")
    store.import_rows(batches("y"), source="b", append=True)
    note = store.rows_path("0001").with_suffix(".json")
    told = note.read_text()
    for harm in (note.unlink, lambda: note.write_text(told.replace(store.rows_hash("0001"), "0" * 32))):
        harm()
        with pytest.raises(CurationError, match=r"0002\.arrow rests on version 0001, which is gone or another one"):
            store.rows()
        note.write_text(told)
    store.rows_path("0001").unlink()
    with pytest.raises(CurationError, match=r"0001\.arrow: not a readable Arrow file"):
        store.rows()


def test_codes_are_spelled_out_for_lists() -> None:
    codes = pa.array(["a", None, "b", "a"]).dictionary_encode()
    table = pa.table({"n": [1, 2, 3, 4], "code": pa.chunked_array([codes, pa.array(["c"]).dictionary_encode()])[:4]})
    found = spelled_out(table)
    assert found.schema.types == [pa.int64(), pa.string()] and found.to_pylist() == table.to_pylist()
    assert spelled_out(table.slice(0, 0)).to_pylist() == []


def test_pages_given_back_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    table = pa.table({"text": [f"row {i} of many" for i in range(100_000)]})
    write_arrow(path, table)
    found, spare = read_sparing([path])
    assert found.equals(table)
    held = _resident(path)
    spare()
    assert _resident(path) < held / 10 and held >= path.stat().st_size // 2
    assert found["text"][99_999].as_py() == "row 99999 of many" and found.equals(table)


@pytest.mark.parametrize("data", [b"", b"ARROW1 but nothing else"])
def test_a_damaged_file_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.arrow"
    path.write_bytes(data)
    for read in (read_arrow, lambda path: read_sparing([path])):
        with pytest.raises(CurationError, match=r"a\.arrow: not a readable Arrow file"):
            read(path)


def _resident(path: Path) -> int:
    """Return the bytes of a mapped file that this process holds in memory."""
    maps = Path("/proc/self/smaps")
    if not maps.exists():
        pytest.skip("the system does not tell what is in memory")
    of = maps.read_text().split(str(path))[1:]
    return sum(1024 * int(part.split("Rss:")[1].split()[0]) for part in of)
