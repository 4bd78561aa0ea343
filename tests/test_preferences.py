"""Pairs for preference tuning: what a person's edits and settled contradictions give, and what is no preference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from curation import check, spec_of
from curation.cli import cli
from curation.preferences import preferences, slight
from curation.store import Entry, Store

from .rows import make_rows

GIVEN = [
    {"instruction": "Compute 17 + 25.", "response": "41"},
    {"instruction": "Compute 17 + 25.", "response": "The sum is 42"},
    {"instruction": "Name three fruits that grow in the north.", "response": "Apples and pears and plumms grow there."},
    {"instruction": "How many legs has a spider?", "response": "A spider has six legs, as all insects have."},
    {"instruction": "What colour is the sky on a clear day?", "response": "The sky is blue on a clear day."},
    {"instruction": "Tell me about rivers.", "response": "Rivers carry water from the hills to the sea."},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.create(tmp_path_factory.mktemp("preferences") / "set")
    store.import_rows(make_rows(GIVEN).to_batches(), source="a.jsonl")
    check(store, spec_of(store))
    assert "dup.conflict" in store.flags()["check"].cast("string").to_pylist()
    uids = store.rows(columns=["uid"])["uid"].to_pylist()

    def edit(i: int, field: str, text: str) -> Entry:
        return Entry(uids[i], "edit", "mended", field, GIVEN[i][field], text)

    none, left_out = preferences(store, spec_of(store))
    assert not none and left_out == {"contradiction not settled": 1}
    store.verdicts.append(
        [
            Entry(uids[0], "reject", "one too few"),
            edit(2, "response", "Apples and pears and plums grow there."),
            edit(3, "response", "A spider has eight legs; it is an arachnid, no insect."),
            edit(4, "instruction", "What colour is the sky at noon on a clear day?"),
            edit(5, "response", "Rivers carry rain and snow melt down to the sea."),
        ],
        actor="ann",
    )
    store.verdicts.append([Entry(uids[5], "reject", "not wanted after all")], actor="ann")
    return store


def test_edits_and_settled_contradictions_are_pairs_and_the_rest_is_counted(store: Store) -> None:
    found, left_out = preferences(store, spec_of(store))
    assert [(p.source, p.chosen[0]["content"], p.rejected[0]["content"]) for p in found] == [
        ("human_edit", "A spider has eight legs; it is an arachnid, no insect.", GIVEN[3]["response"]),
        ("reviewer_choice", GIVEN[1]["response"], GIVEN[0]["response"]),
    ]
    assert [p.prompt for p in found] == [[{"role": "user", "content": GIVEN[i]["instruction"]}] for i in (3, 0)]
    assert all(p.decided_by == "ann" and p.decided_at and p.policy == "dataset" and 0 < p.changed <= 1 for p in found)
    assert found[0].len_chosen == len("A spider has eight legs; it is an arachnid, no insect.")
    assert left_out == {
        "only case, spaces or a misspelt word": 1, "the prompt was edited": 1, "edited, then rejected": 1,
    }  # fmt: skip


def test_the_verb_writes_what_trl_reads(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    done = CliRunner().invoke(cli, ["preferences", str(store.path), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["pairs"] == 2 and told["sources"] == {"human_edit": 1, "reviewer_choice": 1} and told["chosen_is_longer"] == 1.0
    said = CliRunner().invoke(cli, ["preferences", str(store.path), "--out", str(out)]).output
    assert "2 pairs" in said and "they teach length as well" in said and "left out: 1 the prompt was edited" in said
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert all({"prompt", "chosen", "rejected"} <= line.keys() for line in lines)
    datasets = pytest.importorskip("datasets")
    trl = pytest.importorskip("trl")
    data = datasets.Dataset.from_list([{k: line[k] for k in ("prompt", "chosen", "rejected")} for line in lines])
    assert all(trl.data_utils.is_conversational(row) for row in data)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("It is  Red.", "it is red.", True),
        ("The recieved parcel is here", "The received parcel is here", True),
        ("It costs 12 euros today", "It costs 13 euros today", False),
        ("positive", "positively", False),
        ("Yes, it is allowed here", "No, it is allowed here", False),
        ("It is red", "It is red and blue", False),
    ],
)
def test_what_is_too_slight_to_be_a_preference(one: str, other: str, same: bool) -> None:
    assert slight(one, other) is same and slight(other, one) is same


@given(st.text(max_size=60))
def test_a_text_is_no_better_than_itself(text: str) -> None:
    assert slight(text, text)
