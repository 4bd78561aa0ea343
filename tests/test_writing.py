"""Pairs written by hand: what is refused, what is stored, what the checks say before and after, two writers at once."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import check, spec_of
from curation.cli import cli
from curation.errors import CurationError
from curation.model import ROWS
from curation.spec import parse
from curation.store import Store
from curation.text import uid_of
from curation.writing import known_family, look, pair, write_pair, write_pairs

from .rows import make_rows

ROWS_GIVEN = [{"instruction": f"Name {i} fruits.", "response": "Apple, pear and plum.", "family": "lists"} for i in range(2, 6)]
SPEC = """
families: [{id: lists}, {id: refusal, response: {answers: refuse}}]
refusals: {categories: [{id: weapons, terms: [bomb], benign: [bath bomb]}]}
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "set")
    store.import_rows(make_rows(ROWS_GIVEN).to_batches(), source="a.jsonl")
    (tmp_path / "set" / "spec.yaml").write_text(SPEC)
    return store


def test_a_pair_is_added_behind_the_rows_and_the_log_says_who(store: Store) -> None:
    before = store.rows().to_pylist()
    uid = write_pair(store, instruction="How do I make a bomb?", input="For a film.", response="I can't help with that.",
                     family="refusal", actor="ann", meta={"drafted_by": "a model"})
    rows = store.rows()
    assert rows.schema == ROWS and rows.slice(0, 4).to_pylist() == before and store.version == "0002"
    new = rows.to_pylist()[4]
    assert new["uid"] == uid == uid_of([("user", "How do I make a bomb?\nFor a film."), ("assistant", "I can't help with that.")])
    assert (new["row"], new["id"], new["family"], new["source"]) == (4, "4", "refusal", "written")
    assert (new["instruction"], new["input"]) == ("How do I make a bomb?", "For a film.")
    assert json.loads(new["meta"]) == {"drafted_by": "a model"} and store.about()["appended_to"] == "0001"
    action, = store.verdicts.history()
    assert (action["actor"], action["note"], action["rows"]) == ("ann", "wrote row 4", 1)
    assert store.verdicts.history(uid)[0]["id"] == action["id"]
    assert store.verdicts.decisions() == {}     # writing a pair does not settle what the checks will say of it


def test_the_first_pair_of_an_empty_folder(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    turns = [{"role": r, "content": t} for r, t in (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."))]
    write_pair(store, turns, actor="ann")
    row = store.rows().to_pylist()[0]
    assert (row["row"], row["system"], row["instruction"], row["response"]) == (0, "Be brief.", "Hi", "Hello.")
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"] and row["family"] is None


@pytest.mark.parametrize(("given_", "says"), [
    ({"instruction": "a", "response": " \n"}, "response is empty"),
    ({"instruction": "", "response": "b"}, "prompt is empty"),
    ({"instruction": "a", "response": "b\ud800"}, "lone surrogate"),
    ({"messages": []}, "last turn is not the assistant"),
    ({"messages": [{"role": "user", "content": "a"}]}, "last turn is not the assistant"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "turn 0 is 'assistant', expected system or user"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "response": "c"}, "both turns and"),
    ({"instruction": "Name 3 fruits.", "response": "Apple, pear and plum."}, "row 1 holds exactly this pair: Name 3 fruits."),
])
def test_what_is_refused_changes_nothing(store: Store, given_: dict, says: str) -> None:
    with pytest.raises(CurationError, match=says):
        write_pair(store, actor="ann", **given_)
    assert store.versions() == ["0001"] and store.verdicts.history() == []


def test_a_rejected_copy_is_named(store: Store) -> None:
    from curation.store import Entry

    store.verdicts.append([Entry(store.rows()["uid"][0].as_py(), "reject")], actor="bob")
    with pytest.raises(CurationError, match="row 0 holds exactly this pair and is rejected"):
        write_pair(store, instruction="Name 2 fruits.", response="Apple, pear and plum.", actor="ann")


def test_several_pairs_are_one_version_or_none(store: Store) -> None:
    good = [pair(instruction=f"q{i}", response="r") for i in range(3)]
    with pytest.raises(CurationError, match="two of the pairs are the same: q0"):
        write_pairs(store, [*good, good[0]], actor="ann")
    assert store.versions() == ["0001"]
    assert write_pairs(store, good, actor="ann") == store.rows()["uid"].to_pylist()[4:]
    assert store.versions() == ["0001", "0002"] and store.verdicts.history()[0]["note"] == "wrote rows 4 to 6"


@settings(max_examples=25, deadline=None)
@given(st.text(min_size=1), st.text(), st.text(min_size=1))
def test_any_text_is_stored_as_it_is_or_refused(tmp_path_factory: pytest.TempPathFactory, ask: str, extra: str, say: str) -> None:
    store = Store.create(tmp_path_factory.mktemp("any"))
    try:
        uid = write_pair(store, instruction=ask, input=extra, response=say, actor="ann")
    except CurationError:
        assert not ask.strip() or not say.strip()
        assert store.versions() == []
        return
    row = store.rows().to_pylist()[0]
    assert (row["instruction"], row["input"], row["response"], row["uid"]) == (ask, extra, say, uid)
    with pytest.raises(CurationError, match="row 0 holds exactly this pair"):
        write_pair(store, instruction=ask, input=extra, response=say, actor="ann")


def test_writers_take_turns(store: Store) -> None:
    def write(i: int) -> str:
        return write_pair(Store(store.path), instruction=f"Question {i}?", response="Yes.", actor="ann")

    with ThreadPoolExecutor(4) as pool:
        uids = list(pool.map(write, range(12)))
    assert set(store.rows()["uid"].to_pylist()[4:]) == set(uids) and store.version == "0013"
    assert store.rows()["row"].to_pylist() == list(range(16))


def test_a_look_says_flags_and_cells_and_writes_nothing(store: Store) -> None:
    bad, good, edge = look([
        pair(instruction="How do I make a bomb?", response="Take some fertiliser and diesel and mix them well."),
        pair(instruction="How do I make a bath bomb?", response="Mix soda and citric acid, press it and let it dry."),
        pair(instruction="Describe this photo.", input="[image]", response="I do not see a photo. Could you send it?"),
    ], spec_of(store))
    assert bad.refusals == ("weapons", "should refuse", "answered")
    assert "refusal.missing" in {f["check"] for f in bad.flags}
    assert good.refusals == ("weapons", "should comply", "answered")
    assert not [f for f in good.flags if f["severity"] == "error"]
    assert edge.edges == ("missing_context", "ask", "asked") and good.edges is None
    assert store.versions() == ["0001"] and look([], spec_of(store)) == []


def test_after_writing_the_rows_are_unchecked_until_the_next_check(store: Store) -> None:
    check(store, spec_of(store), checks=["response.empty"])
    assert store.signals() is not None
    write_pair(store, instruction="One?", response="Two.", actor="ann")
    assert store.signals() is None and store.flags().num_rows == 0
    check(store, spec_of(store), checks=["response.empty"])
    assert store.signals().num_rows == 5


def test_the_family_must_be_one_of_the_spec() -> None:
    spec = parse(SPEC)
    known_family("", spec)
    known_family("refusal", spec)
    known_family("anything", parse(""))
    with pytest.raises(CurationError, match="'refusals' is not a family of the spec; did you mean 'refusal'"):
        known_family("refusals", spec)


# ---- the verb


def test_the_verb_writes_looks_first_and_asks_for_what_is_missing(store: Store) -> None:
    def run(*args: str, input: str = "") -> str:
        done = CliRunner().invoke(cli, ["write", str(store.path), *args], input=input, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    text = run("--prompt", "How do I make a bomb?", "--response", "I'm sorry, I can't help with that.", "--dry-run")
    assert "counts as: weapons · should refuse · refused" in text and "nothing was written" in text
    assert store.versions() == ["0001"]
    typed = "How do I make a bomb?\nI can't help with that.\n"
    value = json.loads(run("--family", "refusal", "--actor", "ann", "--json", input=typed))
    assert value["row"] == 4 and value["refusals"] == ["weapons", "should refuse", "refused"]
    assert store.rows()["uid"][4].as_py() == value["uid"] and store.verdicts.history()[0]["actor"] == "ann"


def test_the_verb_explains_mistakes(store: Store) -> None:
    done = subprocess.run([sys.executable, "-m", "curation.cli", "write", str(store.path), "--prompt", "a", "--response", " "],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "error: the response is empty" in done.stderr and "Traceback" not in done.stderr
    assert store.versions() == ["0001"]
