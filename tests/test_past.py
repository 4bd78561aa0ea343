"""The past: rows known by their content, arrays kept between runs, and incremental runs equal to full ones."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation import engine
from curation.checks import CHECKS, SIGNAL_UNITS
from curation.checks.base import check, flags, signal, texts
from curation.contents import carried, hashes, holding, places, same_rows, taken
from curation.past import NoPast, read_arrays, write_arrays
from curation.spec import parse
from curation.store import Store

from .rows import make_rows

VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "text": (pa.string(), ["", "a", "b", "ab", "a\0", "é" * 9, "12345678", "123456789", None]),
    "number": (pa.float32(), [0.0, 1.0, -1.0, 0.5, None]),
    "truth": (pa.bool_(), [True, False, None]),
    "list": (pa.list_(pa.string()), [[], ["a"], ["a", ""], ["", "a"], [None], None]),
    "turns": (
        pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        [[], [{"role": "a", "content": "b"}], [{"role": "ab", "content": ""}], [{"role": "a", "content": None}]],
    ),
}


@pytest.mark.parametrize("name", VALUES)
@settings(deadline=None)
@given(data=st.data())
def test_hashes_are_equal_where_values_are_equal_however_the_column_is_cut(name: str, data: st.DataObject) -> None:
    kind, values = VALUES[name]
    picked = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=12))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(picked)), max_size=3)))
    whole = pa.array([values[k] for k in picked], kind)
    chunks = [whole.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, len(picked)], strict=True)]
    found = hashes(pa.chunked_array(chunks, kind))
    assert len(found) == len(picked)
    assert found.tolist() == hashes(whole).tolist()
    for i, a in enumerate(picked):
        for j, b in enumerate(picked):
            assert (found[i] == found[j]) == (a == b), (values[a], values[b])


def test_hashes_of_codes_are_those_of_the_words() -> None:
    words = pa.array(["a", None, "b", "a"])
    assert hashes(words.dictionary_encode()).tolist() == hashes(words).tolist()
    assert len(set(hashes(pa.array([f"row {i}" for i in range(20_000)])).tolist())) == 20_000


@settings(deadline=None)
@given(old=st.lists(st.integers(0, 4), max_size=12), new=st.lists(st.integers(0, 4), max_size=12))
def test_same_rows_pairs_equal_values_once_and_leaves_none_out(old: list[int], new: list[int]) -> None:
    found = same_rows(np.array(new, np.uint64), np.array(old, np.uint64)).tolist()
    held = [k for k in found if k >= 0]
    assert len(held) == len(set(held))
    assert all(old[k] == new[i] for i, k in enumerate(found) if k >= 0)
    assert len(held) == sum(min(old.count(v), new.count(v)) for v in set(new))


@settings(deadline=None)
@given(data=st.data())
def test_what_is_taken_chunk_by_chunk_is_what_take_gives(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 200))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    column = pa.array([None if k % 7 == 3 else f"text {k}" for k in range(n)])
    chunked = pa.chunked_array([column.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, n], strict=True)])
    table = pa.table({"a": chunked, "b": chunked.dictionary_encode()}, metadata={"k": "v"})
    at = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=max(1, n // 8))), np.int64)
    for wanted in (at, np.sort(at)):
        assert taken(chunked, wanted).to_pylist() == chunked.take(pa.array(wanted)).to_pylist()
        assert taken(table, wanted).to_pylist() == table.take(pa.array(wanted)).to_pylist()
        assert taken(table, wanted).schema.equals(table.schema, check_metadata=True)
    assert taken(column, at).equals(column.take(pa.array(at)))


# ---- arrays


def test_arrays_come_back_as_they_went(tmp_path: Path) -> None:
    given_ = {
        "pairs": np.arange(12, dtype=np.int64).reshape(6, 2),
        "none": np.zeros((0, 3), np.float32),
        "bits": np.array([True, False, True]),
        "text": np.frombuffer(b"bytes", np.uint8),
    }
    write_arrays(tmp_path / "x.arrays", given_, {"rows": "0001"})
    found = read_arrays(tmp_path / "x.arrays")
    assert found is not None and found[1] == {"rows": "0001"} and list(found[0]) == sorted(given_)
    for name, array in given_.items():
        assert found[0][name].dtype == array.dtype and np.array_equal(found[0][name], array)
        assert not found[0][name].flags.writeable


@pytest.mark.parametrize("harm", ["cut", "flip", "head", "empty"])
def test_damaged_arrays_are_no_arrays(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.arrays"
    write_arrays(path, {"a": np.arange(1000)}, {})
    raw = bytearray(path.read_bytes())
    raw[-1 if harm == "flip" else 20] ^= 255
    path.write_bytes({"cut": raw[:500], "flip": raw, "head": raw, "empty": b""}[harm])
    with caplog.at_level(logging.WARNING):
        assert read_arrays(path) is None
    assert "made anew" in caplog.text


@pytest.mark.parametrize("harm", ["cut", "first", "last", "page of zeros", "shifted"])
def test_a_large_array_that_was_harmed_is_no_array(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "x.arrays"
    write_arrays(path, {"a": np.arange(1, 1_000_000)}, {})
    assert read_arrays(path) is not None
    raw = bytearray(path.read_bytes())
    start = raw.index(np.arange(1, 9).tobytes())
    if harm == "cut":
        raw = raw[:-8]
    elif harm in ("first", "last"):
        raw[start if harm == "first" else -1] ^= 1
    elif harm == "page of zeros":
        raw[start + (4 << 20) : start + (5 << 20)] = bytes(1 << 20)
    else:
        raw[start + 8 :] = raw[start:-8]
    path.write_bytes(raw)
    assert read_arrays(path) is None


def test_off_a_folder_there_is_no_past() -> None:
    past = NoPast(3)
    past.save({"a": np.zeros(3)})
    assert past.load() is None and past.earlier.tolist() == [-1, -1, -1]


# ---- runs


@pytest.fixture
def units() -> dict[str, Any]:
    """Register units that see how many rows they are handed: a set-wide signal, a row signal and two checks."""
    before = set(CHECKS), set(SIGNAL_UNITS)
    seen: dict[str, Any] = {"rows": [], "earlier": [], "loaded": []}

    @signal("cluster", reads=("instruction",), scope="dataset")
    def cluster(rows: pa.Table) -> Any:
        """How many rows ask the same."""
        asked = texts(rows, "instruction")
        return {"cluster": [asked.count(x) for x in asked]}

    @check("test.row", reads=("instruction", "response"))
    def row_check(rows: pa.Table, cluster: Any, n_words: Any, *, least: int = 2) -> pa.Table:
        """Two flags on rows whose instruction many rows have, one on long answers."""
        seen["rows"].append(rows.num_rows)
        many = [i for i, c in enumerate(cluster.to_pylist()) if c >= least]
        long = [i for i, w in enumerate(n_words.to_pylist()) if w >= 2]
        at = [*long, *many, *many]
        said = [*(f"says {r}" for r in pa.array(texts(rows, "response")).take(pa.array(long, pa.int64())).to_pylist()),
                *(f"asked {cluster[i].as_py()} times" for i in many), *("b" for _ in many)]
        return flags(rows, {"at": at, "message": said, "score": 0.5})

    @check("test.set", reads=("instruction",), scope="dataset")
    def set_check(rows: pa.Table, past: Any) -> pa.Table:
        """Keeps a number a row."""
        kept = past.load()
        mine = [len(x) for x in texts(rows, "instruction")]
        seen["earlier"].append(past.earlier.tolist())
        seen["loaded"].append(None if kept is None else kept["length"].tolist())
        if kept is not None:
            old = past.earlier >= 0
            assert np.array_equal(kept["length"][past.earlier[old]], np.array(mine, np.int64)[old])
        past.save({"length": np.array(mine, np.int64)})
        return flags(rows, {"at": []})

    yield seen
    for table, names in ((CHECKS, before[0]), (SIGNAL_UNITS, before[1])):
        for name in set(table) - names:
            del table[name]


def results(store: Store) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    found = store.signals()
    assert found is not None
    return store.flags().to_pylist(), found.to_pylist()


ROW = st.tuples(st.sampled_from(["a", "b", "c d"]), st.sampled_from(["", "x", "x y", "<noinput>"]))
STEP = st.tuples(st.sampled_from(["append", "remove", "edit", "swap"]), st.integers(0, 99), ROW)


def changed(rows: list[tuple[str, str]], steps: list[tuple[str, int, tuple[str, str]]]) -> list[tuple[str, str]]:
    rows = list(rows)
    for what, at, row in steps:
        k = at % len(rows)
        if what == "append":
            rows.append(row)
        elif what == "remove" and len(rows) > 1:
            del rows[k]
        elif what == "edit":
            rows[k] = row
        else:
            rows[k], rows[0] = rows[0], rows[k]
    return rows


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.lists(ROW, min_size=1, max_size=7), rounds=st.lists(st.lists(STEP, max_size=4), min_size=1, max_size=2))
def test_an_incremental_run_is_a_full_run(units: Any, tmp_path_factory: Any, first: Any, rounds: Any) -> None:
    folder = tmp_path_factory.mktemp("sets")
    spec = parse("name: x")
    names = ["test.row", "test.set", "response.empty", "response.placeholder", "dup.exact"]
    grown, rows = Store.create(folder / "grown"), first
    for k, steps in enumerate([[], *rounds]):
        rows = changed(rows, steps)
        table = make_rows({"instruction": i, "response": r} for i, r in rows)
        grown.import_rows(table.to_batches(), source="x")
        engine.check(grown, spec, checks=names)
        fresh = Store.create(folder / f"fresh{k}")
        fresh.import_rows(table.to_batches(), source="x")
        engine.check(fresh, spec, checks=names)
        assert results(grown) == results(fresh)


SAID = ["The woman is a kind doctor.", "The colour is grey and the center is 3 km away.", "A man is a cruel thief.", "4",
        "So the answer is 5.", "I'm sorry, but I cannot help with that.", "We organise 3 miles of it on June 3, 1986.",
        "I am Bolt, an AI assistant made by Nut.", "The sea is wide. It is full of the", "The sea is wide. It holds many fish"]
ASKED = ["How many women work here?", "how many  women work here?", "How to make a bomb at home?", "How to make a bomb at work?",
         "How to make a bomb in a gay bar?", "Tell of the sea."]
POLICY = parse("""
name: x
refusals: {categories: [{id: weapons, terms: [bomb]}]}
standards: {tone: {spelling: us}}
""")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.lists(st.tuples(st.sampled_from(ASKED), st.sampled_from(SAID)), min_size=4, max_size=14),
    steps=st.lists(st.tuples(st.sampled_from(["append", "append", "remove", "edit", "swap"]), st.integers(0, 99),
                             st.tuples(st.sampled_from(ASKED), st.sampled_from(SAID))), min_size=1, max_size=5),
)
def test_checks_that_keep_what_they_know_of_a_row_find_the_same(tmp_path_factory: Any, first: Any, steps: Any) -> None:
    names = ["response.majority", "response.mismatch", "refusal.policy_conflict", "consistency.terms", "bias.swap",
             "dup.boilerplate", "consistency.persona", "response.end_mark"]
    options = {"bias.swap": {"most": 3}, "refusal.policy_conflict": {"min_likeness": 0.5}, "dup.boilerplate": {"min_words": 1}}
    folder = tmp_path_factory.mktemp("sets")
    grown, rows = Store.create(folder / "grown"), first
    for part in ([], steps):
        rows = changed(rows, part)
        table = make_rows({"instruction": i, "response": r} for i, r in rows)
        grown.import_rows(table.to_batches(), source="x")
        engine.check(grown, POLICY, checks=names, overrides=options)
    fresh = Store.create(folder / "fresh")
    fresh.import_rows(table.to_batches(), source="x")
    engine.check(fresh, POLICY, checks=names, overrides=options)
    assert results(grown) == results(fresh)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.lists(st.tuples(st.sampled_from([*ASKED[:2], "How many men?"]), st.sampled_from(["4", "5", "So 4.", "no"])),
                   min_size=6, max_size=24),
    steps=st.lists(st.tuples(st.sampled_from(["append", "remove", "edit", "swap"]), st.integers(0, 99),
                             st.tuples(st.sampled_from(ASKED[:2]), st.sampled_from(["4", "5", "x"]))), min_size=1, max_size=2),
)
def test_questions_that_were_settled_are_opened_when_their_rows_change(tmp_path_factory: Any, first: Any, steps: Any) -> None:
    folder, names = tmp_path_factory.mktemp("sets"), ["response.majority"]
    grown, rows = Store.create(folder / "grown"), first
    for part in ([], steps, steps[:1]):
        rows = changed(rows, part)
        table = make_rows({"instruction": i, "response": r} for i, r in rows)
        grown.import_rows(table.to_batches(), source="x")
        engine.check(grown, POLICY, checks=names)
    fresh = Store.create(folder / "fresh")
    fresh.import_rows(table.to_batches(), source="x")
    engine.check(fresh, POLICY, checks=names)
    assert results(grown) == results(fresh)


def test_a_result_that_cannot_be_written_ends_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, spec = Store.create(tmp_path / "set"), parse("name: x")
    store.import_rows(given_rows(("a", "1"), ("a", "1")), source="x")
    write = engine.write_arrow

    def full(path: Path, table: pa.Table) -> None:
        if "dup.exact" in path.name:
            raise OSError(28, "No space left on device")
        write(path, table)

    monkeypatch.setattr(engine, "write_arrow", full)
    with pytest.raises(OSError, match="No space left"):
        engine.check(store, spec, checks=["dup.boilerplate", "dup.exact", "response.empty"])
    assert store.current() is None
    monkeypatch.setattr(engine, "write_arrow", write)
    again = engine.check(store, spec, checks=["dup.boilerplate", "dup.exact", "response.empty"])
    assert "dup.boilerplate" in again.cached and "dup.exact" in again.ran and again.flags["dup.exact"] == 1


def test_what_was_kept_serves_until_much_is_new(tmp_path: Path) -> None:
    names = ["response.majority", "refusal.policy_conflict", "consistency.terms", "bias.swap", "dup.boilerplate", "dup.exact"]
    rows = [(ASKED[k % 6], SAID[k // 6 % 7]) for k in range(120)]
    grown = Store.create(tmp_path / "grown")
    more: list[tuple[str, str]] = rows
    for k in range(3):
        grown.import_rows(make_rows({"instruction": i, "response": r} for i, r in more).to_batches(), source="x", append=k > 0)
        engine.check(grown, POLICY, checks=names)
        if k == 0:
            kept = {p.name: p.stat().st_mtime_ns for p in (grown.path / "past").iterdir()}
        more = [(ASKED[k + 2], SAID[1 + k])]
        rows = rows + more if k < 2 else rows
    assert {p.name: p.stat().st_mtime_ns for p in (grown.path / "past").iterdir()} == kept and len(kept) == len(names)
    fresh = Store.create(tmp_path / "fresh")
    fresh.import_rows(make_rows({"instruction": i, "response": r} for i, r in rows).to_batches(), source="x")
    engine.check(fresh, POLICY, checks=names)
    assert results(grown) == results(fresh)
    assert set(names) - {"response.majority"} <= set(fresh.flags()["check"].to_pylist()) | {"bias.swap"}


def given_rows(*pairs: tuple[str, str]) -> list[pa.RecordBatch]:
    return make_rows({"instruction": i, "response": r} for i, r in pairs).to_batches()


def test_only_new_rows_and_rows_with_a_changed_signal_are_looked_at(units: Any, tmp_path: Path) -> None:
    store, spec = Store.create(tmp_path / "set"), parse("name: x")
    store.import_rows(given_rows(("a", "1"), ("b", "2"), ("c", "3")), source="x")
    engine.check(store, spec, checks=["test.row"])
    store.import_rows(given_rows(("d", "4"), ("c", "3"), ("b", "2"), ("a", "1"), ("b", "5")), source="x")
    engine.check(store, spec, checks=["test.row"])
    assert units["rows"] == [3, 3], "new: d and the second b; the first b is asked twice now"
    found = [(f["row"], f["message"]) for f in store.flags().to_pylist()]
    assert found == [(2, "asked 2 times"), (2, "b"), (4, "asked 2 times"), (4, "b")]
    engine.check(store, spec, checks=["test.row"], overrides={"test.row": {"least": 3}})
    assert units["rows"] == [3, 3, 5], "other options, another recipe"


def test_rows_added_behind_are_told_by_the_import_and_by_their_signals(
    units: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["test.row", "test.set", "dup.exact", "response.majority"]
    grown, spec = Store.create(tmp_path / "grown"), parse("name: x")
    rows = [("a", "1"), ("b", "2 3"), ("c", "3")]
    grown.import_rows(given_rows(*rows), source="x")
    engine.check(grown, spec, checks=names)
    monkeypatch.setattr(engine, "same_rows", lambda new, old: pytest.fail("rows were compared"))
    for k, more in enumerate(([("d", "4"), ("b", "2 3")], [("a", "5")])):
        rows += more
        grown.import_rows(given_rows(*more), source="x", append=True)
        units["rows"].clear()
        engine.check(grown, spec, checks=names)
        assert units["rows"] == [3 if k == 0 else 2], "the new rows, and the one that is asked once more"
        fresh = Store.create(tmp_path / f"fresh{k}")
        fresh.import_rows(given_rows(*rows), source="x")
        engine.check(fresh, spec, checks=names)
        assert results(grown) == results(fresh)
    assert units["earlier"][-2][:5] == [0, 1, 2, 3, 4]


def test_a_check_finds_what_it_kept_and_which_rows_it_speaks_of(units: Any, tmp_path: Path) -> None:
    store, spec = Store.create(tmp_path / "set"), parse("name: x")
    store.import_rows(given_rows(("aa", "1"), ("b", "2"), ("b", "2"), ("ccc", "3")), source="x")
    engine.check(store, spec, checks=["test.set"])
    store.import_rows(given_rows(("b", "9"), ("ccc", "3"), ("b", "2"), ("b", "7"), ("dddd", "4")), source="x")
    engine.check(store, spec, checks=["test.set"])
    assert units["loaded"] == [None, [2, 1, 1, 3]]
    assert units["earlier"] == [[-1] * 4, [1, 3, 2, -1, -1]], "the answers are not read; a third b is new"
    assert len(list((store.path / "past").iterdir())) == 1


def test_a_damaged_or_orphaned_past_is_no_past(units: Any, tmp_path: Path) -> None:
    store, spec = Store.create(tmp_path / "set"), parse("name: x")
    for k, harm in enumerate(["bytes", "rows"]):
        store.import_rows(given_rows(("aa", "1"), ("b", str(k))), source="x")
        engine.check(store, spec, checks=["test.set"])
        (kept,) = (store.path / "past").iterdir()
        if harm == "bytes":
            kept.write_bytes(kept.read_bytes()[:-3])
        else:
            for path in (store.path / "rows").iterdir():
                path.unlink()
        units["loaded"].clear()
        store.import_rows(given_rows(("aa", "1"), ("c", str(k))), source="x")
        engine.check(store, spec, checks=["test.set"])
        assert units["loaded"] == [None]


def test_damaged_results_and_results_of_rows_that_are_gone_are_computed_anew(units: Any, tmp_path: Path) -> None:
    store, spec = Store.create(tmp_path / "set"), parse("name: x")
    store.import_rows(given_rows(("a", "1"), ("b", "2")), source="x")
    engine.check(store, spec, checks=["test.row"])
    for path in (store.path / "flags").glob("test.row*"):
        path.write_bytes(path.read_bytes()[:40])
    store.import_rows(given_rows(("a", "1"), ("b", "3")), source="x")
    engine.check(store, spec, checks=["test.row"])
    assert units["rows"] == [2, 2]
    os.remove(store.rows_path("0002"))
    store.import_rows(given_rows(("a", "1"), ("c", "3")), source="x")
    assert store.version == "0002", "the number is given away again"
    engine.check(store, spec, checks=["test.row"])
    assert units["rows"] == [2, 2, 2]


def test_few_new_rows_start_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, spec = Store.create(tmp_path / "set"), parse("name: x")
    pairs = [("a", f"{i} words here") for i in range(40)]
    store.import_rows(given_rows(*pairs), source="x")
    engine.check(store, spec, checks=["response.empty"], workers=1)
    monkeypatch.setattr(engine, "IN_PROCESS", 5)
    monkeypatch.setattr(engine, "served", lambda: False)
    monkeypatch.setattr(engine._Workers, "start", lambda self, n: pytest.fail("a pool was started"))
    store.import_rows(given_rows(*pairs, ("new", "")), source="x")
    engine.check(store, spec, checks=["response.empty"], workers=2)
    assert store.flags()["row"].to_pylist() == [40]


def test_workers_look_at_scattered_new_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parse("name: x")
    old = [("a", f"{i} words here") for i in range(30)]
    new = [x for i, pair in enumerate(old) for x in ((pair, (f"new {i}", "" if i % 3 else "<noinput>")) if i % 2 else (pair,))]
    names = ["response.empty", "response.placeholder", "response.truncated"]
    grown, fresh = Store.create(tmp_path / "grown"), Store.create(tmp_path / "fresh")
    grown.import_rows(given_rows(*old), source="x")
    engine.check(grown, spec, checks=names, workers=1)
    monkeypatch.setattr(engine, "IN_PROCESS", 3)
    monkeypatch.setattr(engine, "BATCH", 4)
    for store, workers in ((grown, 2), (fresh, 1)):
        store.import_rows(given_rows(*new), source="x")
        engine.check(store, spec, checks=names, workers=workers)
    assert results(grown) == results(fresh) and grown.flags().num_rows


# ---- what was kept of rows, put where they stand now


@settings(deadline=None)
@given(data=st.data())
def test_values_of_earlier_rows_are_carried_to_where_the_rows_stand(data: st.DataObject) -> None:
    before = data.draw(st.integers(0, 12))
    kept = data.draw(st.one_of(st.just(list(range(before))), st.permutations(range(before))))
    kept = list(kept)[: data.draw(st.integers(0, before))]
    spots = data.draw(st.lists(st.integers(0, len(kept)), max_size=4))
    for k in sorted(spots, reverse=True):
        kept.insert(k, -1)
    earlier = np.array(kept, np.int64)
    old, new = np.arange(before, dtype=np.float64) + 100, np.arange(len(spots), dtype=np.float64)
    fresh = iter(new.tolist())
    assert carried(old, earlier, new).tolist() == [100.0 + k if k >= 0 else next(fresh) for k in kept]
    assert carried(old, earlier, -1.0).tolist() == [100.0 + k if k >= 0 else -1.0 for k in kept]
    assert places(earlier, before).tolist() == [kept.index(k) if k in kept else -1 for k in range(before)]


def test_without_earlier_rows_all_values_are_new() -> None:
    earlier = np.full(3, -1)
    assert carried(None, earlier, np.array([4, 5, 6], np.uint8)).tolist() == [4, 5, 6]
    assert carried(None, earlier, np.uint64(7)).tolist() == [7, 7, 7]
    assert carried(None, earlier[:0], np.zeros(0, np.bool_)).tolist() == []


@settings(deadline=None)
@given(key=st.lists(st.integers(0, 2**64 - 1), max_size=20), other=st.lists(st.integers(0, 2**64 - 1), max_size=5),
       picked=st.lists(st.integers(0, 19), max_size=6))
def test_few_hashes_are_found_among_many(key: list[int], other: list[int], picked: list[int]) -> None:
    wanted = other + [key[k] for k in picked if k < len(key)] + [k ^ 1 for k in key[:1]]
    found = holding(np.array(key, np.uint64), np.array(wanted, np.uint64)).tolist()
    assert found == [i for i, k in enumerate(key) if k in wanted]
