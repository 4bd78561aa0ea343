"""The verb fixes: diffs first, then row by row, check by check or all, and undone as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curation import engine, review
from curation.cli import cli
from curation.errors import CurationError
from curation.store import Store

from .rows import make_rows

SPEC = "name: x\nstandards: {tone: {prefer: {utilise: use, log-in: login}}}\n"
ROWS = [
    {"instruction": "How do I start?", "response": "You can utilise the log-in page."},
    {"instruction": "And then?", "response": "It doesnâ€™t matter much, so utilise either of them."},
    {"instruction": "Is that all?", "response": "Yes, that is all there is to it."},
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "set")
    store.import_rows(make_rows(ROWS).to_batches(), source="x")
    (store.path / "spec.yaml").write_text(SPEC)
    engine.check(store, engine.spec_of(store), workers=1, checks=["consistency.tone", "response.mojibake"])
    return store


def run(store: Store, *args: object) -> Any:
    return CliRunner().invoke(cli, ["fixes", str(store.path), *map(str, args)])


def texts(store: Store) -> list[str]:
    edits = store.verdicts.edits()
    rows = store.rows()
    return [edits.get(u, {}).get("response", r) for u, r in zip(rows["uid"].to_pylist(), rows["response"].to_pylist())]


def test_they_are_shown_as_diffs_and_nothing_is_taken(store: Store) -> None:
    told = run(store)
    assert told.exit_code == 0, told.output
    assert "row 0  consistency.tone (1.00), response: 'utilise': the spec prefers 'use'." in told.output
    assert "You can [-utilise-]{+use+} the log-in page." in told.output
    garbled = run(store, "--check", "response.mojibake").output
    assert "row 1  response.mojibake" in garbled and "It [-doesnâ€™-]{+doesn’+}t matter" in garbled and "row 0" not in garbled
    assert texts(store) == [r["response"] for r in ROWS]
    lines = json.loads(run(store, "--json").output)
    assert [(x["row"], x["check"], x["field"]) for x in lines] == [
        (0, "consistency.tone", "response"), (1, "consistency.tone", "response")], "one a text"
    assert lines[0]["after"] == "You can use the log-in page."


def test_one_row_is_taken_and_what_is_left_is_said(store: Store) -> None:
    done = run(store, "--rows", 0, "--accept", "--actor", "ann")
    assert "action 1: 1 repair taken" in done.output and "1 more proposed" in done.output
    assert texts(store)[:2] == ["You can use the log-in page.", ROWS[1]["response"]]
    assert json.loads(run(store, "--rows", 0, "--accept", "--json").output) == {"action": 2, "rows": 1, "left": 0}
    assert texts(store)[0] == "You can use the login page."
    assert "no repair is proposed" in run(store, "--rows", 0, "--accept").output
    shown = json.loads(CliRunner().invoke(cli, ["show", str(store.path), "--row", "0", "--json"]).output)
    assert shown["edited"] == ["response"] and shown["flags"] == [], "what the checks say of the text as it is now"
    store.verdicts.undo(2, actor="ann")
    assert texts(store)[0] == "You can use the log-in page."
    shown = json.loads(CliRunner().invoke(cli, ["show", str(store.path), "--row", "0", "--json"]).output)
    assert [f["message"] for f in shown["flags"]] == ["'log-in': the spec prefers 'login'."]


def test_a_check_in_bulk(store: Store) -> None:
    assert json.loads(run(store, "--check", "response.mojibake", "--accept", "--json").output)["rows"] == 1
    assert texts(store)[1] == "It doesn’t matter much, so utilise either of them."
    done = CliRunner().invoke(cli, ["review", str(store.path), "--accept-fixes", "consistency.tone", "--json"])
    assert json.loads(done.output)["rows"] == 2
    assert texts(store)[1] == "It doesn’t matter much, so use either of them."


def test_a_decided_row_keeps_its_text(store: Store) -> None:
    spec = engine.spec_of(store)
    store.verdicts.append(review.entries_for(store, spec, "accept", rows=[0]), actor="ann")
    assert [i for i, _ in review.proposals(store, spec)] == [1]
    with pytest.raises(CurationError, match="row 9: rows go from 0 to 2"):
        review.proposals(store, spec, rows=[9])
    wrong = run(store, "--check", "dup.nera")
    assert isinstance(wrong.exception, CurationError) and "did you mean 'dup.near'" in wrong.exception.what
