"""The pages of the workbench, run without a browser: no exception, the right counts, the verdict buttons."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")

from curation.app import jobs, saved, state
from streamlit.testing.v1 import AppTest

from curation.store import Entry, Store

from .app_folder import LONG, N, make_folder

MAIN = Path(state.__file__).with_name("main.py")


@pytest.fixture
def open_app(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that opens the workbench on a folder, at a page, with query parameters."""
    def go(folder: Path, place: str = "", **query: Any) -> AppTest:
        monkeypatch.setenv("CURATION_FOLDER", str(folder))
        monkeypatch.setenv("CURATION_ACTOR", "ann")
        at = AppTest.from_file(str(MAIN), default_timeout=60)
        at.run()
        for name, value in query.items():
            at.query_params[name] = value
        if place:    # AppTest.switch_page finds pages by file; ours are functions, found by their place in the address
            at._page_hash = next(h for h, about in at._registered_pages.items() if about.get("url_pathname") == place)
            at.run()
        assert not at.exception, [e.value for e in at.exception]
        return at
    return go


def words(at: AppTest) -> str:
    """Return everything written on the page."""
    kinds = (at.header, at.subheader, at.text, at.markdown, at.caption, at.code, at.error, at.success, at.info, at.warning)
    return "\n".join(str(x.value) for kind in kinds for x in kind)


def test_an_empty_folder_says_how_to_begin(open_app: Any, tmp_path: Path) -> None:
    at = open_app(tmp_path)
    assert "No rows yet" in words(at) and f"curation import FILE --to {tmp_path}" in words(at)
    (tmp_path / "a.jsonl").write_text('{"instruction": "Say hello.", "output": "Hello."}\n')
    at.text_input(key="import_path").input(str(tmp_path / "a.jsonl")).run()
    assert [b.label for b in at.button] == ["Import"] and str(tmp_path / "a.jsonl") in words(at)
    for page in ("Browse", "Review", "Gate"):
        assert "yet" in words(open_app(tmp_path, page.lower()))


def test_rows_without_checks_offer_to_run_them(open_app: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "s", checked=False)
    at = open_app(tmp_path / "s")
    assert f"{N} rows, not checked yet" in words(at) and f"curation check {tmp_path / 's'}" in words(at)
    assert at.button(key="check").label == "Run the checks"
    assert len(open_app(tmp_path / "s", "browse").dataframe[0].value) == state.PAGE


def test_the_overview_says_the_gate_the_reasons_and_the_next_step(open_app: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "s")
    at = open_app(tmp_path / "s")
    assert f"Gate failed: {N} of {N} rows would be exported" in at.error[0].value
    assert "13 of 260 rows (5.00%) have an open error flag" in words(at)
    assert "family rewrite: 64 rows, 336 short of 400" in words(at)
    assert "21 of 260 rows have a flag" in words(at)
    assert f"curation review {tmp_path / 's'} --apply-policy" in words(at)
    assert "<script>" not in at.header[0].value.replace("\\<", "")


def test_the_gate_page_lists_every_rule(open_app: Any, tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    store.verdicts.append([Entry(store.rows()["uid"][0].as_py(), "reject")], actor="t")
    at = open_app(tmp_path / "s", "gate")
    rules = at.dataframe[0].value.set_index("rule")
    assert rules.loc["max_error_rate", ""] == "✖ not met" and rules.loc["min_rows", ""] == "✓ met"
    assert rules.loc["coverage:family:rewrite", "have"] == "63"
    assert "1 rows are rejected" in words(at) or "1 row is rejected" in words(at)
    assert not [b for b in at.button if b.key == "export"]
    at.text_input(key="override").input("for a trial").run()
    assert at.button(key="export").label == "Export all the same" and "--override 'for a trial'" in words(at)


def test_browse_pages_and_filters(open_app: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "s")
    at = open_app(tmp_path / "s", "browse")
    assert at.dataframe[0].value["row"].tolist() == list(range(100)) and "260 rows" in words(at)
    at.get_by_key("page").set_value(3).run()
    assert at.dataframe[0].value["row"].tolist() == list(range(200, 260))
    at.multiselect(key="check").select("dup.near").run()
    assert at.dataframe[0].value["row"].tolist() == list(range(10, 20)) and "10 in this filter" in words(at)
    at.get_by_key("severity").set_value(["error"]).run()
    assert "No row passes this filter" in words(at)
    at.get_by_key("severity").set_value([]).run()
    at.text_input(key="text").input("number 1[01]").run()
    assert "No row passes" in words(at)
    at.toggle(key="regex").set_value(True).run()
    assert at.dataframe[0].value["row"].tolist() == [10, 11]
    at.text_input(key="text").input("(").run()
    assert "not a regular expression" in at.warning[0].value and not at.exception


def test_the_address_carries_the_filter_and_the_open_row(open_app: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "s")
    at = open_app(tmp_path / "s", "browse", check="privacy.pii", row="30", order="worst flag first")
    assert at.dataframe[0].value["row"].tolist() == [30] and "1 of 1 in this filter" in words(at)
    assert at.multiselect(key="check").value == ["privacy.pii"]
    for nonsense in ({"row": "9999"}, {"row": "-1"}, {"row": "x"}, {"page": "77"}, {"check": "<b>"}, {"order": "no"}):
        assert open_app(tmp_path / "s", "browse", **nonsense).dataframe[0].value["row"].tolist()


def test_verdicts_on_the_open_row(open_app: Any, tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    uid = store.rows()["uid"][40].as_py()
    at = open_app(tmp_path / "s", "browse", row="40")
    at.button(key=f"reject-{uid}").click().run()
    decision = store.verdicts.decisions()[uid]
    assert (decision.verdict, decision.actor) == ("reject", "ann")
    assert at.dataframe[0].value["verdict"][40] == "✗ rejected"
    at.button(key=f"clear-{uid}").click().run()
    assert uid not in store.verdicts.decisions() and not at.exception
    at.button(key=f"accept-{uid}").click().run()
    at.button(key="undo").click().run()
    assert store.verdicts.decisions() == {} and len(store.verdicts.history()) == 4


def test_an_edit_is_stored_with_before_and_after_and_looked_at_again(open_app: Any, tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    uid = store.rows()["uid"][3].as_py()
    at = open_app(tmp_path / "s", "browse", row="3")
    box = next(t for t in at.text_area if t.label == "response")
    box.input("A real answer to the question, in one sentence.")
    next(b for b in at.button if b.label == "Save").click().run()
    assert not at.exception
    assert store.verdicts.edits() == {uid: {"response": "A real answer to the question, in one sentence."}}
    assert at.dataframe[0].value["verdict"][3] == "✎ edited"
    assert at.dataframe[0].value["response"][3].startswith("A real answer")


def test_a_whole_filter_is_one_action_and_one_undo(open_app: Any, tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    at = open_app(tmp_path / "s", "browse", check="response.empty")
    assert at.button(key="reject_filter").label == "Reject all 12"
    at.button(key="reject_filter").click().run()
    index = state.build_index(store)
    assert state.read_verdicts(store, index.rows).rejected.nonzero()[0].tolist() == list(range(12))
    assert len(store.verdicts.history()) == 1
    at.button(key="undo").click().run()
    assert store.verdicts.decisions() == {}


def test_taking_one_row_out_of_a_bulk_action_leaves_the_others(open_app: Any, tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    at = open_app(tmp_path / "s", "browse", check="response.empty", row="5")
    at.button(key="reject_filter").click().run()
    uid = store.rows()["uid"][5].as_py()
    at.button(key=f"clear-{uid}").click().run()
    assert uid not in store.verdicts.decisions() and len(store.verdicts.decisions()) == 11


def test_a_row_of_a_megabyte_is_cut_until_asked_for(open_app: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "s")
    at = open_app(tmp_path / "s", "browse", row="103")
    assert [t.label for t in at.toggle] == ["Regex", "Show the whole text"]
    assert len(at.dataframe[0].value.to_json()) < 200_000 < len(LONG)
    assert "too long to edit" in words(at)


def test_the_review_page_fills_a_queue(open_app: Any, tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    at = open_app(tmp_path / "s", "review")

    def rows() -> list[int]:
        way = at.session_state["way"]
        return sorted(r[0] for r in way.sittings[way.now].rows)

    assert rows() == [*range(12), 30]
    at.selectbox(key="of_check").select("privacy.pii").run()
    assert rows() == [30]
    at.selectbox(key="of_check").select("any check").run()
    at.selectbox(key="queue").select("warnings").run()
    assert set(rows()) <= set(range(10, 20)) and not at.exception
    at.selectbox(key="queue").select("failed").run()
    assert "No run has failed probes with rows near them" in words(at)
    assert store.verdicts.history() == []


def test_a_wrong_spec_is_shown_with_its_line(open_app: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "s")
    (tmp_path / "s" / "spec.yaml").write_text("version: 1\nfamlies: []\n")
    at = open_app(tmp_path / "s")
    assert "spec.yaml:2" in words(at) and "did you mean 'families'" in words(at)


def test_a_token_keeps_strangers_out(open_app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "s")
    monkeypatch.setenv("CURATION_APP_TOKEN", "correct horse battery")
    at = open_app(tmp_path / "s")
    assert "Gate" not in words(at) and not at.header
    at.text_input[0].input("wrong").run()
    assert at.error[0].value == "This is not the token."
    at.text_input[0].input("correct horse battery").run()
    assert "Gate failed" in words(at)


def test_the_store_is_read_anew_after_another_process_has_written(open_app: Any, tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    at = open_app(tmp_path / "s", "browse")
    Store(store.path).verdicts.append([Entry(store.rows()["uid"][7].as_py(), "reject")], actor="someone else")
    at.run()
    assert at.dataframe[0].value["verdict"][7] == "✗ rejected"


def test_from_an_empty_folder_to_a_verdict_in_the_app(open_app: Any, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"instruction": f"Name colour {i}.", "input": "", "output": text}) + "\n"
                             for i, text in enumerate(["It is a warm red.", "", "It is a pale blue, like ice."])))
    folder = tmp_path / "s"
    at = open_app(folder)
    at.text_input(key="import_path").input(str(pairs)).run()
    at.button(key="import").click().run()
    ended(folder, "import")
    at = open_app(folder)
    assert "3 rows, not checked yet" in words(at)
    at.button(key="check").click().run()
    ended(folder, "check")
    at = open_app(folder)
    assert "Gate failed: 3 of 3 rows would be exported" in words(at)
    assert state.build_index(Store(folder)).by_check["response.empty"] == {"error": 1}


def ended(folder: Path, verb: str) -> None:
    """Wait until the newest job of a verb is done."""
    deadline = time.monotonic() + 120
    while (job := jobs.newest(folder, verb)) is None or job.state == "running":
        assert time.monotonic() < deadline, "the job does not end"
        time.sleep(0.1)
    assert job.state == "done", job.tail()


def test_history_lists_every_action_and_takes_any_back(open_app: Any, tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    uids = store.rows()["uid"].to_pylist()
    assert "Nothing has been decided yet" in words(open_app(tmp_path / "s", "history"))
    first = store.verdicts.append([Entry(uids[3], "reject", "wrong <b>name</b>")], actor="ann")
    store.verdicts.append([Entry(u, "accept") for u in uids[5:9]], actor="bo")
    at = open_app(tmp_path / "s", "history")
    table = at.dataframe[0].value
    assert table["actor"].tolist() == ["bo", "ann"] and table["rows"].tolist() == [4, 1]
    at.text_input(key="history_row").input("3").run()
    assert at.dataframe[0].value["id"].tolist() == [first]
    at.selectbox(key="history_actor").select("bo").run()
    assert at.dataframe[0].value.empty
    assert store.verdicts.entries(first) == [
        {"uid": uids[3], "verdict": "reject", "reason": "wrong <b>name</b>", "field": None, "before": None, "after": None,
         "check_id": None, "score": None}
    ]


def test_history_pages_through_a_long_log_and_filters_by_words(open_app: Any, tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    uids = store.rows()["uid"].to_pylist()
    for k in range(103):
        store.verdicts.append([Entry(uids[k], "accept")], actor="ann", note=f"accept row {k}")
    store.verdicts.undo(1, actor="bo")
    at = open_app(tmp_path / "s", "history")
    assert at.dataframe[0].value["id"].tolist() == list(range(104, 4, -1)) and "104 of 104 actions" in words(at)
    at.pagination(key="history_page").set_value(2).run()
    assert at.dataframe[0].value["id"].tolist() == [4, 3, 2, 1]
    at.text_input(key="history_words").input("ROW 99").run()
    assert at.dataframe[0].value["id"].tolist() == [100]
    at.text_input(key="history_words").input("").run()
    at.text_input(key="history_row").input("0").run()
    assert at.dataframe[0].value["what"].tolist() == ["undo", "accept"] and "This row's timeline" in words(at)
    assert store.verdicts.timeline(uids[0])[0]["undone_by"] == "bo"


def test_browse_filters_by_a_range_and_a_tag_in_the_address(open_app: Any, tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    uids = store.rows()["uid"].to_pylist()
    store.verdicts.append([Entry(uids[k], "tag", after="<b>odd</b>") for k in (3, 20)], actor="ann", kind="tag")
    assert "**12 selected**" not in words(at := open_app(tmp_path / "s", "browse", range=["response~0~1"]))
    assert "12 in this filter" in words(at)
    at = open_app(tmp_path / "s", "browse", range=["response~0~1"], tag="<b>odd</b>")
    assert "1 in this filter" in words(at) and at.dataframe[0].value["verdict"].tolist() == ["#<b>odd</b>"]
    at = open_app(tmp_path / "s", "browse", range=["nothing~0~1", "no range"])
    assert "no signal nothing" in words(at).replace("\\", "")


def test_a_saved_view_brings_its_filter_back_and_leaves_out_what_is_gone(open_app: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "s")
    saved.save(tmp_path / "s", "empty ones", {"check": ["response.empty", "no.check"], "order": "most flags first",
                                              "range": ["response~0~1"]}, by="bo")
    at = open_app(tmp_path / "s", "browse", check="dup.near")
    assert "10 in this filter" in words(at)
    at.button(key="view-empty ones").click().run()
    assert not at.exception and "12 in this filter" in words(at)
    assert at.multiselect(key="check").value == ["response.empty"] and at.selectbox(key="order").value == "most flags first"
    at.text_input(key="view_name").input("mine").run()
    at.button(key="view_save").click().run()
    assert [v.name for v in saved.listed(tmp_path / "s")] == ["empty ones", "mine"]
    assert saved.listed(tmp_path / "s")[1].place == {"check": ["response.empty"], "order": "most flags first",
                                                     "range": ["response~0~1"]}
    at.button(key="unview-mine").click().run()
    assert [v.name for v in saved.listed(tmp_path / "s")] == ["empty ones"]


def test_a_login_by_the_provider_comes_before_every_page(open_app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "s")
    monkeypatch.setenv("CURATION_APP_LOGIN", "oidc")
    at = open_app(tmp_path / "s")
    assert at.button(key="login").label == "Log in"
    assert len(at.button) == 1 and not at.error and not at.dataframe
