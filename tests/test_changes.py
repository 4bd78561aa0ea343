"""What changed between vetted sets: added, removed, edited, each with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from curation import check, spec_of
from curation.changes import CHANGES, changes, named, present, vetted, vetted_sets
from curation.cli import cli
from curation.errors import CurationError
from curation.export import export
from curation.gate import effective
from curation.store import Entry, Store
from curation.writing import write_pair

from .rows import make_rows


def look(store: Store) -> None:
    check(store, spec_of(store), checks=["response.empty"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Vetted 1: rows 0 to 5 without row 1. Since then: 0 rejected, 1 brought back, 2 edited, 6 written, 5 gone in version 3."""
    store = Store.create(tmp_path / "set")
    given = [{"instruction": f"Name {i} trees.", "response": "Oak, elm and ash."} for i in range(6)]
    store.import_rows(make_rows(given).to_batches(), source="a")
    look(store)
    uids = store.rows()["uid"].to_pylist()
    store.verdicts.append([Entry(uids[1], "reject", "too short")], actor="ann")
    export(store, spec_of(store), hf=False)
    store.verdicts.append([Entry(uids[0], "reject", "wrong")], actor="bob")
    store.verdicts.append([Entry(uids[1], "accept", "fine after all")], actor="bob")
    store.verdicts.append([Entry(uids[2], "edit", "clearer", "response", "Oak, elm and ash.", "Oak and elm.")], actor="cy")
    given = given[:5]
    store.import_rows(make_rows(given).to_batches(), source="a")
    write_pair(store, instruction="Name a bird.", response="A wren.", actor="ann")
    look(store)
    return store


def test_every_change_has_its_reason_and_who(store: Store) -> None:
    counts, found = changes(vetted(store, 1), present(effective(store, spec_of(store))))
    assert found.schema == CHANGES and counts == {"added": 2, "removed": 2, "edited": 1}
    lines = {(c["change"], c["prompt"]): (c["row"], c["why"], c["actor"]) for c in found.to_pylist()}
    assert lines == {
        ("added", "Name 1 trees."): (1, "was left out (too short); now: fine after all", "bob"),
        ("added", "Name a bird."): (5, "the row came since", ""),
        ("removed", "Name 0 trees."): (0, "wrong", "bob"),
        ("removed", "Name 5 trees."): (None, "the row is no longer in the rows of the folder", ""),
        ("edited", "Name 2 trees."): (2, "clearer", "cy")}


def test_two_vetted_sets_and_the_same_set(store: Store) -> None:
    export(store, spec_of(store), hf=False)
    assert [m["number"] for m in vetted_sets(store)] == [2, 1]
    counts, found = changes(vetted(store, 1), vetted(store, 2))
    assert counts == {"added": 2, "removed": 2, "edited": 1} and "wrong" in found["why"].to_pylist()
    back, _ = changes(vetted(store, 2), vetted(store, 1))
    assert back == {"added": 2, "removed": 2, "edited": 1}
    assert changes(vetted(store, 2), present(effective(store, spec_of(store))))[0] == dict.fromkeys(counts, 0)
    assert changes(vetted(store, 1), vetted(store, 2), limit=1)[1].num_rows == 3


def test_an_edit_that_is_undone_is_no_change(store: Store) -> None:
    edit = next(a for a in store.verdicts.history() if a["verdict"] == "edit")
    store.verdicts.undo(edit["id"], actor="ann")
    assert changes(vetted(store, 1), present(effective(store, spec_of(store))))[0]["edited"] == 0


def test_the_verb(store: Store, tmp_path: Path) -> None:
    def run(*args: str) -> str:
        done = CliRunner().invoke(cli, ["diff", str(store.path), *args], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    text = run("vetted")
    assert "vetted/1 -> now: 2 added, 2 removed, 1 edited" in text and "fine after all" in text
    export(store, spec_of(store), hf=False)
    value = json.loads(run("vetted/1", "vetted/2", "--json"))
    assert value["counts"] == {"added": 2, "removed": 2, "edited": 1} and len(value["changes"]) == 5
    assert run("1", "2").startswith("0 rows came, 1 went, 5 stayed")      # row versions as before


def test_names_that_name_nothing(store: Store, tmp_path: Path) -> None:
    assert named(store, "vetted") == named(store, "vetted/1") == 1
    with pytest.raises(CurationError, match="'vetted7' names no vetted set"):
        named(store, "vetted7")
    with pytest.raises(CurationError, match="there is no vetted set 9") as e:
        vetted(store, 9)
    assert "sets: 1" in e.value.hint
    with pytest.raises(CurationError, match="has no vetted set yet"):
        named(Store.create(tmp_path / "new"), "vetted")
