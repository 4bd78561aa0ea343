"""Selection: what may be chosen, the spec's numbers, reasons, verdicts that reach export, and wrong requests."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation import engine, gate
from curation import export as exporter
from curation import selection as selecting
from curation.errors import CurationError
from curation.selection import select, write_verdicts
from curation.spec import Spec, parse
from curation.store import Entry, Store

from .rows import make_rows


class Words:
    """Bags of hashed words as vectors: alike texts are near each other, nothing is loaded."""

    used, why = None, "bags of words"

    def of(self, uids: Sequence[str], texts: Sequence[str], model: str = "") -> np.ndarray:
        out = np.full((len(texts), 64), 1e-3, np.float32)
        for i, text in enumerate(texts):
            for word in text.lower().split():
                out[i, zlib.crc32(word.encode()) % 64] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


PLACES = ["Oslo", "Lima", "Rome", "Bern", "Cairo", "Quito", "Delhi", "Paris"]
TOPICS = ["bridges over cold rivers", "songs for small choirs", "soup from old bread", "maps of the night sky"]
SPEC = """
name: t
families:
  - {id: label, target: [0.2, 0.5], examples: ["Is this review good or bad? The film was slow."]}
  - {id: write, target: [0.2, 0.5], examples: ["Write a short text about bridges."]}
  - {id: ghost, min_rows: 3, examples: ["Translate this into Latin."]}
checks: {dup.near: off}
"""


def given() -> list[dict]:
    labels = [
        {"instruction": f"Is this review good or bad? The hotel in {p} was {w}.", "response": "good", "family": "label"}
        for p in PLACES for w in ("slow", "kind", "loud", "warm")
    ]
    texts = [
        {"instruction": f"Write {n} lines about {t} in {p}.", "response": f"In {p} people know all about {t}, and they like it.",
         "family": "write"}
        for t in TOPICS for p in PLACES[:3] for n in ("two", "four")
    ]
    return labels + texts


def ready(path: Path, spec: Spec, rows: list[dict] | None = None) -> Store:
    store = Store.create(path)
    store.import_rows(make_rows(given() if rows is None else rows).to_batches(), source="x")
    engine.check(store, spec)
    return store


@pytest.fixture
def spec() -> Spec:
    return parse(SPEC)


@pytest.fixture
def store(tmp_path: Path, spec: Spec) -> Store:
    store = ready(tmp_path / "set", spec)
    (tmp_path / "set" / "spec.yaml").write_text(SPEC)
    return store


def test_size_targets_reasons_and_comparison_with_random(store: Store, spec: Spec) -> None:
    found = select(store, spec, 20, vectors=Words())
    table = found.table
    assert table.column_names == list(selecting.COLUMNS) and table.num_rows == 20
    assert table["rank"].to_pylist() == list(range(1, 21))
    assert len(set(table["uid"].to_pylist())) == 20 and all(table["reason"].to_pylist())
    assert list(found.frame().columns) == list(selecting.COLUMNS) and len(found.frame()) == 20
    assert found.embedded == "bags of words"
    count = {f: table["family"].to_pylist().count(f) for f in ("label", "write")}
    assert 4 <= count["label"] <= 11 and 4 <= count["write"] <= 11
    assert found.objective > max(found.random_objective) and found.objective <= found.bound
    assert found.similarity > np.mean(found.random_similarity)
    assert any("family ghost" in n and "only 0 can be chosen" in n for n in found.notes)
    assert sum(table["stands_for"].to_pylist()) == found.eligible


def test_the_same_request_gives_the_same_rows(store: Store, spec: Spec) -> None:
    a, b = (select(store, spec, 15, vectors=Words(), seed=s) for s in (0, 7))
    assert a.table.equals(b.table), "the seed moves only what the choice is compared with"
    assert a.random_objective != b.random_objective


def test_rejected_flagged_and_accepted_rows(tmp_path: Path) -> None:
    spec = parse("name: t\nchecks: {dup.near: off, response.truncated: {severity: error, action: review}}")
    rows = [*given(), {"instruction": "Name a colour of the sea.", "response": ""}]
    store = ready(tmp_path, spec, rows)
    uids = store.rows()["uid"].to_pylist()
    store.verdicts.append([Entry(uids[0], "reject", "dull"), Entry(uids[5], "accept", "fine")], actor="ann")
    found = select(store, spec, 10, vectors=Words())
    chosen = found.table.to_pylist()
    assert chosen[0]["row"] == 5 and chosen[0]["reason"] == "accepted by ann" and chosen[0]["why"] == "accepted"
    assert not {0, len(rows) - 1} & {r["row"] for r in chosen}
    assert found.left_out == {"rejected (person)": 1, "the policy drops them (response.empty)": 1}


def test_verdicts_reach_export_can_be_undone_and_renewed(store: Store, spec: Spec, tmp_path: Path) -> None:
    found = select(store, spec, 20, vectors=Words())
    action = write_verdicts(store, spec, found)
    state = gate.effective(store, spec)
    chosen = set(found.table["uid"].to_pylist())
    assert set(state.rows["uid"].take(state.kept).to_pylist()) == chosen
    assert pq.read_table(store.path / "selections" / f"{action}.parquet").equals(found.table)
    assert gate.evaluate(store, spec, state).rejected == {"selection": 36}
    done = exporter.export(store, spec, out=tmp_path / "out", override="test", hf=False)
    ledger = pq.read_table(tmp_path / "out" / "ledger.parquet").to_pylist()
    assert done["counts"]["dropped"] == 36 and {r["uid"] for r in ledger if r["outcome"] != "dropped"} == chosen
    assert {r["reason"] for r in ledger if r["outcome"] == "dropped"} == {"not among the 20 rows chosen of 56"}
    more = select(store, spec, 40, vectors=Words())
    assert more.eligible == 56, "an earlier selection does not count against a row"
    write_verdicts(store, spec, more)
    assert len(gate.effective(store, spec).kept) == 40
    store.verdicts.undo(actor="ann")
    assert set(gate.effective(store, spec).rows["uid"].take(gate.effective(store, spec).kept).to_pylist()) == chosen
    store.verdicts.undo(actor="ann")
    assert len(gate.effective(store, spec).kept) == 56


def test_a_person_and_the_policy_still_have_their_say(store: Store, spec: Spec) -> None:
    found = select(store, spec, 20, vectors=Words())
    write_verdicts(store, spec, found)
    chosen = set(found.table["uid"].to_pylist())
    other = next(u for u in store.rows()["uid"].to_pylist() if u not in chosen)
    mine = found.table["uid"][3].as_py()
    store.verdicts.append([Entry(other, "accept", "wanted"), Entry(mine, "reject", "unwanted")], actor="ann")
    kept = gate.effective(store, spec)
    assert set(kept.rows["uid"].take(kept.kept).to_pylist()) == (chosen | {other}) - {mine}


def test_least_rows_that_do_not_fit_are_cut_in_proportion(tmp_path: Path) -> None:
    text = "name: t\nfamilies: [{id: label, min_rows: 24}, {id: write, min_rows: 24}]\nchecks: {dup.near: off}"
    spec = parse(text)
    found = select(ready(tmp_path, spec), spec, 10, vectors=Words())
    assert "48 rows of its families, more than --size 10" in found.notes[0]
    assert sorted({f: found.table["family"].to_pylist().count(f) for f in ("label", "write")}.values()) == [5, 5]


def test_identical_rows_say_that_they_add_nothing(tmp_path: Path) -> None:
    spec = parse("name: t\nchecks: {dup.exact: off, dup.near: off}")
    store = ready(tmp_path, spec, [{"instruction": "Name a river.", "response": "The Elbe is a river."}] * 6)
    found = select(store, spec, 4, vectors=Words())
    assert found.notes == ("3 rows add nothing that is not already there; --size 1 covers as much",)
    assert found.table["reason"].to_pylist()[1] == "adds nothing, its like is already chosen"


def test_one_row_and_empty_prompts(tmp_path: Path) -> None:
    spec = parse("name: t\nchecks: {prompt.empty: off}") if "prompt.empty" in engine.CHECKS else parse("name: t")
    store = ready(tmp_path / "one", spec, [{"instruction": "Name a river.", "response": "The Elbe is a river."}])
    assert select(store, spec, 1, vectors=Words()).table["row"].to_pylist() == [0]
    from curation.facility import Reach, choose

    space = Words().of(["a"] * 3, ["", "", "two words"])
    assert sorted(choose(Reach(space, 2), 2).rows.tolist()) == [0, 2]


@pytest.mark.parametrize("size, words", [(0, "at least one row"), (-3, "at least one row"), (57, "only 56 of 56 rows")])
def test_sizes_that_cannot_be(store: Store, spec: Spec, size: int, words: str) -> None:
    with pytest.raises(CurationError, match=words):
        select(store, spec, size, vectors=Words())


def test_more_accepted_rows_than_the_size_is_an_error(store: Store, spec: Spec) -> None:
    store.verdicts.append([Entry(u, "accept") for u in store.rows()["uid"].to_pylist()[:5]], actor="ann")
    with pytest.raises(CurationError, match="5 rows, and their verdicts outrank"):
        select(store, spec, 4, vectors=Words())


def test_before_the_first_check(tmp_path: Path, spec: Spec) -> None:
    store = Store.create(tmp_path)
    with pytest.raises(CurationError, match="no rows yet"):
        select(store, spec, 4, vectors=Words())
    store.import_rows(make_rows(given()).to_batches(), source="x")
    with pytest.raises(CurationError, match="have not been checked"):
        select(store, spec, 4, vectors=Words())


def test_a_draw_keeps_accepted_rows_and_what_groups_need(monkeypatch: pytest.MonkeyPatch, store: Store, spec: Spec) -> None:
    monkeypatch.setattr(selecting, "GROUND", 20)
    rare = store.rows()["uid"][31].as_py()
    store.verdicts.append([Entry(rare, "accept")], actor="ann")
    found = select(store, spec, 5, vectors=Words())
    assert found.drawn < found.eligible == 56 and found.table["uid"][0].as_py() == rare
    assert {"label", "write"} <= set(found.table["family"].to_pylist())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_table_as_a_file(store: Store, spec: Spec, tmp_path: Path, suffix: str) -> None:
    table = select(store, spec, 3, vectors=Words()).table
    path = tmp_path / f"chosen{suffix}"
    selecting.write_table(table, path)
    if suffix == ".parquet":
        assert pq.read_table(path).equals(table)
    elif suffix == ".jsonl":
        assert [json.loads(x) for x in path.read_text().splitlines()] == table.to_pylist()
    else:
        assert path.read_text().splitlines()[0].replace('"', "") == ",".join(selecting.COLUMNS)
