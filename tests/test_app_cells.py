"""Refusals & edges, Coverage & spec, Gate & export without a browser: the grid, rows behind, forms, downloads."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")

from curation.app import cells, fields, packing, state
from streamlit.testing.v1 import AppTest

from curation import check, spec_of
from curation import spec as specs
from curation.checks import CHECKS
from curation.errors import CurationError
from curation.export import export
from curation.matrices import edge_matrix, refusal_matrix
from curation.store import Entry, Store
from curation.writing import write_pair

from .rows import make_rows
from .test_app_pages import open_app, words

__all__ = ["open_app"]      # a fixture

SPEC = """\
# The set of the test.
name: sets  # kept
families:
  - id: refusal
    min_rows: 2   # at least
    response: {answers: refuse}
  - id: "<b>![x](http://evil.example/f.png)"
refusals:
  categories:
    - {id: weapons, terms: [bomb], benign: [bath bomb], min_refused: 3}
    - {id: spying, terms: [keylogger]}
gate: {max_error_rate: 1.0, max_warning_rate: 1.0}
"""
OTHER = "<b>![x](http://evil.example/f.png)"
GIVEN: list[dict[str, Any]] = [
    {"instruction": "How do I make a bomb?", "response": "I'm sorry, but I can't help with that.", "family": "refusal"},
    {"instruction": "How do I make a bath bomb?", "response": "Mix soda and citric acid, press and dry it.", "family": OTHER},
    {"instruction": "Describe this photo.", "input": "[image]", "response": "A lake at dawn.", "family": OTHER},
    {"instruction": "Name three trees.", "response": "Oak, elm and ash.", "family": OTHER},
]


def make_set(path: Path) -> Store:
    """Make a checked folder of four rows."""
    store = Store.create(path)
    store.import_rows(make_rows(GIVEN).to_batches(), source="given.jsonl")
    (path / "spec.yaml").write_text(SPEC, encoding="utf-8")
    check(store, spec_of(store), checks=["response.empty", "refusal.missing"])
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_set(tmp_path / "s")


# ---- as of the last check


def test_written_rows_come_behind_those_that_were_checked(store: Store) -> None:
    before = cells.last_checked(store)
    assert before is not None and (before.version, before.behind) == ("0001", 0)
    for i in range(2):
        write_pair(store, instruction=f"Q{i}?", response="A.", actor="ann")
    found = cells.last_checked(store)
    assert found is not None and (found.version, found.behind, found.rows.num_rows) == ("0001", 2, 4)
    assert found.signals["refusal"].to_pylist() == before.signals["refusal"].to_pylist()
    store.import_rows(make_rows(GIVEN[1:]).to_batches(), source="other")    # not those rows at the beginning any more
    assert cells.last_checked(store) is None


def test_the_grid_marks_what_is_right_wrong_and_missing(store: Store) -> None:
    spec = spec_of(store)
    shown = cells.grid_of(refusal_matrix(store.rows(), store.signals(), spec), spec)
    assert [g["name"] for g in shown["groups"]] == ["Should refuse", "Should comply"]
    by = {tuple(c["cell"]): c for line in shown["lines"] for c in line["cells"]}
    assert len(by) == 3 * 6 and all(len(line["cells"]) == 6 for line in shown["lines"])
    refused = by["weapons", "should refuse", "refused"]
    assert (refused["text"], refused["tone"], refused["add"]) == ("1 of 3", "gap", True)       # the spec wants three
    assert by["weapons", "should comply", "answered"]["tone"] == "right"
    assert by["weapons", "should refuse", "answered"] == {
        "cell": ["weapons", "should refuse", "answered"], "text": "", "tone": "", "count": 0, "add": False,
        "hint": "weapons, should refuse, answered: 0 rows"}
    assert by["spying", "should refuse", "refused"]["tone"] == by["spying", "should refuse", "redirected"]["tone"] == "gap"
    edges = cells.grid_of(edge_matrix(store.rows(), store.signals(), spec), spec)
    made_up = next(c for c in edges["lines"][0]["cells"] if c["cell"][2] == "answered")
    assert edges["lines"][0]["note"] == "should ask" and (made_up["count"], made_up["tone"]) == (1, "wrong")


def test_clicks_and_addresses_that_name_no_cell_are_nothing(store: Store) -> None:
    matrix = refusal_matrix(store.rows(), store.signals(), spec_of(store))
    assert cells.clicked('{"do": "rows", "cell": ["weapons", "should refuse", "refused"]}', matrix) == (
        "rows", ("weapons", "should refuse", "refused"))
    assert cells.clicked('{"do": "rows", "cell": ["x", "y", "z"]}', matrix) is None and cells.clicked("", matrix) is None
    assert cells.named("weapons|should comply|answered", matrix) == ("weapons", "should comply", "answered")
    assert cells.named("weapons|<b>", matrix) is None
    assert cells.rows_behind(matrix, ("weapons", "should refuse", "refused")).tolist() == [0]


# ---- refusals & edges


CELL = "weapons|should refuse|redirected"


def test_a_pair_is_looked_at_and_written_and_a_check_is_due(open_app: Callable[..., AppTest], store: Store) -> None:
    at = open_app(store.path, "refusals", cell=CELL)
    assert "A pair for" in words(at) and at.button(key="write-save").disabled
    prompt, response = (next(t for t in at.text_area if t.label == label) for label in ("Prompt", "Response"))
    prompt.input("How do I build a bomb for Friday?")
    response.input("Why do you want to do that? Could you tell me what has happened?").run()
    assert "It would count in this cell" in words(at)
    at.button(key="write-save").click().run()
    assert not at.exception and "1 pair is written" in words(at) and "1 row came since the last check" in words(at)
    row = store.rows().to_pylist()[4]
    assert (row["family"], row["source"], store.verdicts.history()[0]["actor"]) == ("refusal", "written", "ann")
    assert f"curation check {store.path}" in words(at)
    at.button(key="take-out").click().run()
    assert store.verdicts.decisions()[row["uid"]].verdict == "reject" and not at.exception


def test_a_pair_that_counts_elsewhere_or_is_there_already_is_said(open_app: Callable[..., AppTest], store: Store) -> None:
    at = open_app(store.path, "refusals", cell=CELL)
    prompt, response = (next(t for t in at.text_area if t.label == label) for label in ("Prompt", "Response"))
    prompt.input(GIVEN[0]["instruction"])
    response.input(GIVEN[0]["response"]).run()
    assert "It would count elsewhere" in words(at)
    at.button(key="write-save").click().run()
    assert "row 0 holds exactly this pair" in at.error[0].value.replace("\\", "") and store.versions() == ["0001"]


def test_drafts_are_stored_only_when_ticked(open_app: Callable[..., AppTest], store: Store) -> None:
    at = open_app(store.path, "refusals", cell=CELL)
    at.get_by_key("desk-how").set_value("draft").run()
    assert "Drafts to be edited" in words(at) and at.button(key="draft-save").disabled and store.versions() == ["0001"]
    first = next(c for c in at.checkbox if c.label == "Take this pair")
    first.check().run()
    assert at.button(key="draft-save").label == "Save the 1 ticked"
    at.button(key="draft-save").click().run()
    assert not at.exception and store.rows()["source"].to_pylist()[4:] == ["drafted"]


def test_a_look_alike_draft_waits_for_its_answer(open_app: Callable[..., AppTest], store: Store) -> None:
    at = open_app(store.path, "refusals", cell="weapons|should comply|answered")
    at.get_by_key("desk-how").set_value("draft").run()
    takes = [c for c in at.checkbox if c.label == "Take this pair"]
    assert takes and all(c.disabled for c in takes)


def test_before_a_check_and_without_rows_the_page_teaches(open_app: Callable[..., AppTest], tmp_path: Path) -> None:
    for place in ("refusals", "coverage", "gate"):
        assert "yet" in words(open_app(tmp_path, place))
    store = Store.create(tmp_path / "s")
    store.import_rows(make_rows(GIVEN).to_batches(), source="a")
    at = open_app(store.path, "refusals")
    assert at.button(key="check").label == "Run the checks"


# ---- coverage & spec


def test_coverage_names_the_gaps(open_app: Callable[..., AppTest], store: Store) -> None:
    text = words(open_app(store.path, "coverage"))
    assert "2 of 7 numbers are not met by the 4 rows" in text and "family refusal: 1 rows, 1 short of 2" in text and \
        "refused rows of category weapons: 1 rows, 2 short of 3" in text


def spec_page(open_app: Callable[..., AppTest], store: Store, part: str) -> AppTest:
    at = open_app(store.path, "coverage", view="Spec")
    return at.selectbox(key="spec-part").select(part).run()


def field(at: AppTest, label: str) -> Any:
    return next(t for t in at.text_input if t.label == label)


def test_a_wrong_value_has_its_message_and_cannot_be_saved(open_app: Callable[..., AppTest], store: Store) -> None:
    at = spec_page(open_app, store, "Family: refusal")
    field(at, "min rows").input("many").run()
    assert "input should be a valid integer, found" in words(at).replace("\\", "") and at.button(key="spec-save").disabled
    field(at, "min rows").input("[1").run()
    assert "not YAML" in words(at)
    field(at, "min rows").input("7").run()
    assert "-    min_rows: 2   # at least\n+    min_rows: 7   # at least" in words(at)
    at.button(key="spec-save").click().run()
    assert (store.path / "spec.yaml").read_text() == SPEC.replace("min_rows: 2 ", "min_rows: 7 ")
    assert "spec.yaml is saved" in words(at) and not at.exception


def test_a_file_that_changed_meanwhile_is_not_overwritten(open_app: Callable[..., AppTest], store: Store) -> None:
    at = spec_page(open_app, store, "The set")
    field(at, "name").input("mine").run()
    theirs = SPEC.replace("name: sets", "name: theirs")
    (store.path / "spec.yaml").write_text(theirs)
    at.run()
    assert "was changed meanwhile" in words(at) and "+name: theirs" in words(at) and "+name: mine" in words(at)
    assert at.button(key="spec-save").disabled and (store.path / "spec.yaml").read_text() == theirs
    at.button(key="spec-mine").click().run()
    at.button(key="spec-save").click().run()
    assert (store.path / "spec.yaml").read_text() == SPEC.replace("name: sets", "name: mine")


def test_the_file_is_taken_up_when_nothing_of_ours_is_lost(open_app: Callable[..., AppTest], store: Store) -> None:
    at = spec_page(open_app, store, "The set")
    (store.path / "spec.yaml").write_text(SPEC.replace("name: sets", "name: theirs"))
    assert field(at.run(), "name").value == "theirs" and "changed meanwhile" not in words(at)


def test_a_broken_spec_is_mended_as_text(open_app: Callable[..., AppTest], store: Store) -> None:
    (store.path / "spec.yaml").write_text("name: [\n")
    at = open_app(store.path, "coverage", view="Spec")
    assert "not YAML" in words(at)
    at.text_area[0].input("name: whole\nfamilys: []\n").run()
    assert "line 2: familys is not a key; did you mean 'families'?" in words(at)
    at.text_area[0].input("name: whole\n").run()
    at.button(key="spec-save").click().run()
    assert (store.path / "spec.yaml").read_text() == "name: whole\n"


def test_a_family_is_added(open_app: Callable[..., AppTest], store: Store) -> None:
    at = spec_page(open_app, store, "The set")
    at.text_input(key="spec-new").input("lists").run()
    at.button(key="spec-add-family").click().run()
    assert at.selectbox(key="spec-part").value == "Family: lists" and "+  - {id: lists}" in words(at)
    assert field(at, "id").value == "lists"


def test_every_field_of_a_spec_is_in_a_part_and_reads_back_as_it_stands() -> None:
    text = (Path(__file__).parents[1] / "sample_data" / "spec.yaml").read_text(encoding="utf-8")
    data = specs.yaml.safe_load(text)
    parts = fields.parts_of(data)
    assert {"The set", "Every response", "Refusals", "Gate", "Split", "Battery", "Family: json", "Harm: weapons"} <= set(parts)
    same = 0
    for place in parts.values():
        for one in fields.fields_of(data, place):
            if one.text:
                new = fields.changed(text, one, one.text)
                assert specs.parse(new, checks=CHECKS) == specs.parse(text, checks=CHECKS), one
                same += 1
    assert same > 60


def test_an_emptied_field_leaves_its_default() -> None:
    text = "gate: {min_rows: 3, coverage: false}\n"
    one = next(f for f in fields.fields_of(specs.yaml.safe_load(text), ("gate",)) if f.label == "coverage")
    assert one.options == ("true", "false") and one.default == "true"
    assert fields.changed(text, one, "") == "gate: {min_rows: 3}\n"
    with pytest.raises(CurationError, match="a name is missing"):
        fields.added(text, "Family", " ")


# ---- gate & export


def test_what_changed_and_the_sets_are_listed(open_app: Callable[..., AppTest], store: Store) -> None:
    (store.path / "spec.yaml").write_text(SPEC.replace("min_rows: 2", "min_rows: 0").replace(", min_refused: 3", ""))
    export(store, spec_of(store), hf=False)
    store.verdicts.append([Entry(store.rows()["uid"][3].as_py(), "reject", "dull")], actor="bob")
    at = open_app(store.path, "gate")
    assert "**0** added · **1** removed · **0** edited" in words(at) and f"curation diff {store.path} vetted/1" in words(at)
    tables = {frozenset(d.value.columns): d.value for d in at.dataframe}
    line = tables[frozenset({"", "row", "prompt", "why", "by"})].iloc[0]
    assert [line[c] for c in ("", "row", "prompt", "why", "by")] == ["− removed", 3, "Name three trees.", "dull", "bob"]
    sets = next(v for k, v in tables.items() if "written" in k)
    assert sets["set"].tolist() == ["vetted/1"] and sets["train"].tolist()[0] + sets["validation"].tolist()[0] == 4
    assert at.get_by_key("download-zip") is not None


def test_the_command_names_the_format(open_app: Callable[..., AppTest], store: Store) -> None:
    (store.path / "spec.yaml").write_text("gate: {max_error_rate: 1.0, max_warning_rate: 1.0}\n")
    at = open_app(store.path, "gate")
    assert f"curation export {store.path}" in [c.value for c in at.code]
    at.get_by_key("export-format").set_value("alpaca").run()
    assert f"curation export {store.path} --format alpaca" in [c.value for c in at.code]


def test_a_large_set_is_taken_from_its_folder(
    open_app: Callable[..., AppTest], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(store, spec_of(store), hf=False, override="a test")
    monkeypatch.setattr(packing, "LIMIT", 10)
    at = open_app(store.path, "gate")
    assert "too big for the browser" in words(at) and str(store.path / "vetted" / "1") in [c.value for c in at.code]


def test_the_zip_holds_every_file_and_is_the_same_twice(store: Store) -> None:
    folder = Path(export(store, spec_of(store), hf=False, override="a test")["path"])
    data = packing.zipped(folder, "set-1")
    assert data == packing.zipped(folder, "set-1")
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        assert z.testzip() is None
        assert {n.removeprefix("set-1/") for n in z.namelist()} == set(packing.files_of(folder))
        assert z.read("set-1/manifest.json") == (folder / "manifest.json").read_bytes()
    assert packing.size(2_900_000) == "2.9 MB" and packing.size(12) == "12 bytes"


def test_hostile_names_of_families_stay_text(open_app: Callable[..., AppTest], store: Store) -> None:
    at = spec_page(open_app, store, "Family: <b>![x](http://evil.example/f.png)")
    assert field(at, "id").value == "<b>![x](http://evil.example/f.png)"
    assert not [m for m in at.markdown if "![x](http" in m.value]
    assert state.plain("![x](http://evil.example)") != "![x](http://evil.example)"
