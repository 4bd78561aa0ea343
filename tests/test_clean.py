"""What may be removed from a folder, and that what is in force stays: results, row versions, unfinished files."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from curation import check, spec_of
from curation.clean import clean, leftovers, sums
from curation.cli import cli
from curation.errors import CurationError
from curation.store import Entry, Store

from .rows import make_rows

ROWS_GIVEN = [{"instruction": f"Name {i} fruits.", "response": "Apple, pear and plum."} for i in range(2, 6)]
ONLY = ["response.empty", "dup.near", "response.loop"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three row versions; checked at the second one and then under other options, not at the third."""
    store = Store.create(tmp_path / "set")
    for n in range(2):
        store.import_rows(make_rows([*ROWS_GIVEN, *[{"instruction": "Bo?", "response": ""}] * n]).to_batches(), source="a.jsonl")
        check(store, spec_of(store), checks=ONLY, workers=1)
    check(store, spec_of(store), checks=ONLY, overrides={"dup.near": {"threshold": 0.5}}, workers=1)
    store.import_rows(make_rows([{"instruction": "Hm?", "response": "Yes."}]).to_batches(), source="b.jsonl", append=True)
    return store


def names(found: list) -> set[str]:
    return {one.path.name for one in found}


def test_results_of_other_rows_and_options_go_and_those_in_force_stay(store: Store) -> None:
    current = store.current()
    assert current is not None and current["rows_version"] == "0002"
    found = leftovers(store)
    assert {one.kind for one in found} == {"result"}
    assert names(found).isdisjoint({f"{k}.arrow" for k in (*current["flags"].values(), *current["signals"].values())})
    gone_checks = sorted(n.split("@")[0] for n in names(found) if n.split("@")[0] in ONLY)
    assert gone_checks == ["dup.near", "dup.near", "response.empty", "response.loop"]
    removed = clean(store)
    assert removed == found and leftovers(store) == [] and not any(one.path.exists() for one in removed)
    assert store.versions() == ["0001", "0002", "0003"]
    assert check(store, spec_of(store), checks=ONLY, workers=1).flags["response.empty"] == 1       # goes on from what stayed


def test_row_versions_go_on_request_alone_but_the_newest_and_the_checked_one(store: Store) -> None:
    store.verdicts.append([Entry(store.rows("0001")["uid"][0].as_py(), "reject")], actor="ann")
    rows, decided = store.rows().to_pylist(), store.verdicts.decisions()
    found = [one for one in leftovers(store, versions=True) if one.kind == "rows"]
    assert store.parts() == ["0002", "0003"]      # the newest rests on the checked one
    assert names(found) == {"0001.arrow", "0001.json"} and sums(found)["rows"]["files"] == 2
    assert sums(found)["rows"]["bytes"] == sum(one.path.stat().st_size for one in found)
    clean(store, versions=True)
    assert store.versions() == ["0002", "0003"]
    assert store.rows().to_pylist() == rows and store.verdicts.decisions() == decided
    store.import_rows(make_rows(ROWS_GIVEN).to_batches(), source="c.jsonl")
    assert store.version == "0004"      # a number is never given twice
    check(store, spec_of(store), checks=ONLY, workers=1)
    clean(store, versions=True)
    assert store.versions() == ["0004"]


def test_a_version_that_the_newest_rests_on_stays(store: Store) -> None:
    check(store, spec_of(store), checks=ONLY, workers=1)
    rows = store.rows().to_pylist()
    clean(store, versions=True)
    assert store.versions() == ["0002", "0003"] and store.rows().to_pylist() == rows


def test_only_old_unfinished_files_go_and_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    clean(store)
    old, new, link = (store.path / "flags" / f".{n}.arrow.x.part" for n in ("old", "new", "link"))
    outside = tmp_path / "outside.part"
    for path in (old, new, outside):
        path.write_bytes(b"half")
    link.symlink_to(outside)
    for path in (old, outside):
        os.utime(path, (0, 0))
    assert names(leftovers(store)) == {old.name}
    clean(store)
    assert not old.exists() and new.exists() and link.is_symlink() and outside.exists()


def test_what_a_stopped_first_check_has_finished_stays(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "set")
    store.import_rows(make_rows(ROWS_GIVEN).to_batches(), source="a.jsonl")
    check(store, spec_of(store), checks=ONLY, workers=1)
    (store.path / "flags" / "current.json").unlink()
    assert leftovers(store, versions=True) == []


def test_nothing_is_removed_while_a_check_runs(store: Store) -> None:
    begun, end = threading.Event(), threading.Event()

    def run() -> None:
        def hold(*args: object) -> None:
            begun.set()
            end.wait(30)

        check(store, spec_of(store), checks=["response.echo"], progress=hold, workers=1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(30)
        with pytest.raises(CurationError, match="a check runs"):
            clean(store)
    finally:
        end.set()
        thread.join(30)
    assert clean(store)


def test_the_verb_lists_first_and_removes_with_yes(store: Store) -> None:
    folder = str(store.path)
    listed = CliRunner().invoke(cli, ["clean", folder, "--versions"])
    assert listed.exit_code == 0
    assert "results of earlier checks: " in listed.output and "earlier row versions: 2 files" in listed.output
    assert listed.output.rstrip().split("\n")[-1].startswith(f"curation clean {folder} --versions --yes removes")
    value = json.loads(CliRunner().invoke(cli, ["clean", folder, "--versions", "--json"]).stdout)
    assert value["removed"] is False and value["rows"]["files"] == 2 and store.versions()[0] == "0001"
    done = json.loads(CliRunner().invoke(cli, ["clean", folder, "--versions", "--yes", "--json"]).stdout)
    assert {**done, "removed": False} == value
    assert CliRunner().invoke(cli, ["clean", folder, "--yes"]).output == "nothing is left over\n"
