"""The Behaviour page and what it reads, without a browser: slices, flips, rows behind a failure, actions, votes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("streamlit")

from curation.app import blind, probes, state
from curation.app.views import behaviour
from curation.train import compare, slices, votes

from curation.errors import CurationError
from curation.model import MESSAGES
from curation.store import Store

from .app_folder import make_folder
from .behaviour_folder import write_result
from .test_app_pages import open_app, words

__all__ = ["open_app"]      # a fixture

TOLD = [("refusal", "qa", f"Question number {k}?", "right" if k % 3 else "wrong", bool(k % 3)) for k in range(20, 32)] + [
    ("json", "rewrite", f"Rewrite the long sentence number {k}, {'please ' * 20}", "right", True) for k in range(8)]


def make_runs(folder: Path) -> tuple[Path, Path]:
    """Write two runs with results: `new` fails probes that `old` passed and the other way round, and a set behind them."""
    old, new = folder / "runs" / "before-s0", folder / "runs" / "after-s0"
    write_result(old, TOLD, real=True)
    swapped = [(b, f, p, "right" if k == 1 else "no <script>alert(9)</script>" if k < 5 else out, ok)
               for k, (b, f, p, out, ok) in enumerate(TOLD)]
    write_result(new, swapped, real=True)
    rows = Store(folder).rows()
    set_dir = folder / "sets" / "one"
    set_dir.mkdir(parents=True)
    at = [20, 21, 22, 23, 40]
    pq.write_table(pa.table({
        "row": pa.array(at, pa.int64()), "uid": pa.array([rows["uid"][i].as_py() for i in at]), "family": pa.array(["qa"] * 5),
        "messages": pa.array([rows["messages"][i].as_py() for i in at], MESSAGES)}), set_dir / "train.parquet")
    for run in (old, new):
        (run / "recipe.json").write_text(json.dumps({"set": str(set_dir), "base": "tiny"}))
    return old, new


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "s")
    make_runs(tmp_path / "s")
    return tmp_path / "s"


def test_slices_count_each_probe_once_and_their_margins_add_up(folder: Path) -> None:
    results = slices.results_of(folder / "runs" / "before-s0")["probes"]
    for by in slices.SLICINGS:
        cut = slices.sliced(results, by)
        assert cut.rows[0] == cut.columns[0] == slices.ALL and cut.cells[slices.ALL, slices.ALL].n == 20
        inner = [c for (r, b), c in cut.cells.items() if slices.ALL not in (r, b)]
        assert sum(c.n for c in inner) == 20 and sum(c.passed for c in inner) == cut.cells[slices.ALL, slices.ALL].passed
    cut = slices.sliced(results, "family")
    assert cut.rows == ("all", "qa", "rewrite") and cut.columns == ("all", "refusal", "json")
    cell = cut.cells["qa", "refusal"]
    assert (cell.n, cell.passed) == (12, 8) and cell.low < 8 / 12 < cell.high and ("qa", "json") not in cut.cells
    assert slices.sliced(results, "prompt length").rows == ("all", "to 15 words", "16 to 50 words")


def test_the_queue_names_the_rows_of_every_probe_of_its_run(folder: Path) -> None:
    run = folder / "runs" / "before-s0"
    assert slices.culprits(folder, run, "refusal-1") is None
    (folder / "queues").mkdir(exist_ok=True)
    lines = [{"row": 21, "uid": "u", "score": 0.4, "reason": "r", "probe": "refusal-1",
              "probes": {"refusal-1": [0.4, "r"]}},
             {"row": 22, "uid": "v", "score": 0.9, "reason": "r", "probe": "json-2",
              "probes": {"json-2": [0.9, "r"], "refusal-1": [0.3, "why"]}}]
    (folder / "queues" / "failed-before.jsonl").write_text("".join(json.dumps(e) + "\n" for e in lines))
    found = slices.culprits(folder, run, "refusal-1") or []
    assert [(e["row"], e["score"], e["reason"]) for e in found] == [(21, 0.4, "r"), (22, 0.3, "why")]
    assert slices.culprits(folder, run, "refusal-9") is None                      # the seeds together did not fail it
    (folder / "queues" / "failed-before-s0.jsonl").write_text("")
    assert slices.culprits(folder, run, "refusal-9") == []
    assert slices.culprits(folder, folder / "runs" / "after-s0", "refusal-1") is None
    del lines[0]["probes"]
    (folder / "queues" / "failed-before.jsonl").write_text(json.dumps(lines[0]) + "\n")
    assert slices.culprits(folder, run, "refusal-1") == []                        # an older queue is not trusted


def test_rows_are_looked_for_where_no_queue_holds_the_probe(folder: Path) -> None:
    key = state.key_of(folder)
    run = folder / "runs" / "before-s0"
    result = slices.results_of(run)["by_id"]["refusal-1"]      # Question number 21?
    assert key is not None
    found = probes.behind(key, run, result)
    assert isinstance(found, list) and found[0]["row"] == 21 and found[0]["uid"] == Store(folder).rows()["uid"][21].as_py()
    (run / "recipe.json").write_text(json.dumps({"set": "gone"}))
    said = probes.behind(key, run, slices.results_of(run)["by_id"]["refusal-4"])
    assert isinstance(said, str) and "the set that before-s0 was trained on is not there" in said


def test_a_row_is_found_again_by_its_uid_and_one_that_is_gone_is_left_out(folder: Path) -> None:
    key = state.key_of(folder)
    assert key is not None
    index = state.index_of(key)
    uid = index.rows["uid"][7].as_py()
    found = probes.in_set(index, [{"row": 9_999, "uid": uid, "score": 1}, {"row": 3, "uid": "gone", "score": 1}])
    assert [(e["row"], e["uid"]) for e in found] == [(7, uid)]


def test_a_prompt_of_the_battery_is_not_taken_as_a_new_pair() -> None:
    probes.hold_apart("Another prompt?", ["Question number 1?"])
    with pytest.raises(CurationError, match="prompt of the battery"):
        probes.hold_apart("  question NUMBER 1?\n", ["Question number 1?"])


def test_without_results_the_page_teaches_and_offers_to_ask(open_app: Any, tmp_path: Path) -> None:
    assert "Import rows first" in words(open_app(tmp_path, "behaviour"))
    make_folder(tmp_path / "s")
    assert "Train a model first" in words(open_app(tmp_path / "s", "behaviour"))
    model = tmp_path / "s" / "runs" / "one" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    at = open_app(tmp_path / "s", "behaviour")
    assert at.button(key="eval").label == "Ask the battery" and f"curation eval {tmp_path / 's' / 'runs' / 'one'}" in words(at)


def test_results_list_the_failed_probes_and_open_one_with_its_rows(open_app: Any, folder: Path) -> None:
    at = open_app(folder, "behaviour", b_run="before-s0")
    assert "16 of 20 probes passed" in words(at) and "4 failed of 20" in words(at)
    table = at.dataframe[-1].value
    assert table["behaviour"].tolist() == ["refusal"] * 4 and set(table["failed"]) == {"keywords:existence"}
    at.toggle(key="failed_only").set_value(False).run()
    assert len(at.dataframe[-1].value) == 20
    at = open_app(folder, "behaviour", b_run="before-s0", slice="rewrite", behaviour="json")
    assert "0 failed of 8" in words(at) and "Every probe of this cell was passed" in words(at)
    at = open_app(folder, "behaviour", b_run="before-s0", probe="refusal-1")
    assert "Rows behind it" in words(at)
    assert at.dataframe[-1].value["row"].tolist()[0] == 21
    for nonsense in ({"probe": "no"}, {"slice": "x", "behaviour": "y"}, {"b_run": "none"}, {"b_by": "none"}):
        assert not open_app(folder, "behaviour", **nonsense).exception


def test_reject_edit_and_undo_a_row_behind_a_failure(open_app: Any, folder: Path) -> None:
    store = Store(folder)
    uid = store.rows()["uid"][21].as_py()
    at = open_app(folder, "behaviour", b_run="before-s0", probe="refusal-1")
    at.button(key=f"reject-{uid}").click().run()
    decision = store.verdicts.decisions()[uid]
    assert (decision.verdict, decision.reason, decision.actor) == ("reject", "behind the failed probe refusal-1", "ann")
    at.button(key="behind-undo").click().run()
    assert store.verdicts.decisions() == {}
    box = next(t for t in at.text_area if t.label == "response")
    box.input("A better answer, in one sentence.")
    next(b for b in at.button if b.label == "Save").click().run()
    assert not at.exception and store.verdicts.edits()[uid] == {"response": "A better answer, in one sentence."}
    assert "Edit row 21." in words(at)


def test_a_pair_is_written_but_not_the_probe_itself(open_app: Any, folder: Path) -> None:
    at = open_app(folder, "behaviour", b_run="before-s0", probe="refusal-1")
    n = Store(folder).rows().num_rows
    for prompt, said in (("Question number 21?", "Not written: this is a prompt of the battery"), ("", "Not written: "),
                         ("How would one ask about 2021?", "Written as ")):
        at.text_area(key="write_prompt").input(prompt)
        at.text_area(key="write_response").input("An answer about it.")
        next(b for b in at.button if b.label == "Write the pair").click().run()
        assert not at.exception and said in words(at)
    assert Store(folder).rows().num_rows == n + 1


def test_run_against_run_says_what_flipped(open_app: Any, folder: Path) -> None:
    at = open_app(folder, "behaviour", b_view="Run against run", b_a="before-s0", b_b="after-s0")
    lines = at.dataframe[0].value.set_index("behaviour")
    assert lines.loc["refusal", ["won", "lost"]].tolist() == [1, 3] and lines.loc["json", "verdict"] == "= unchanged"
    assert lines.loc["overall", "verdict"] == "? cannot tell from chance" and "Nothing is worse beyond chance" in words(at)
    assert len(at.dataframe[1].value) == 3 and list(at.dataframe[1].value)[2:] == ["answer of A", "answer of B"]
    at.get_by_key("flips").set_value("Won (1)").run()
    assert len(at.dataframe[1].value) == 1 and not at.exception
    assert "curation compare" in words(at)
    at = open_app(folder, "behaviour", b_view="Run against run", b_a="before-s0", b_b="before-s0")
    assert "none on both" in words(at)


def test_the_comparison_s_table_has_the_numbers_of_compare(folder: Path) -> None:
    result = compare.compare_arms([folder / "runs" / "before-s0"], [folder / "runs" / "after-s0"])
    lines = behaviour.lines_of(result)
    assert lines["behaviour"].tolist() == ["refusal", "json", "overall"]
    assert lines.iloc[0]["B - A"] == "-17" and lines.iloc[0]["p"] == f"{result['behaviours']['refusal']['p_corrected']:.2g}"


def test_blind_choice_shows_no_run_until_it_is_revealed(open_app: Any, folder: Path) -> None:
    at = open_app(folder, "behaviour", b_view="Blind choice", b_one="before-s0", b_other="after-s0")
    pairing = votes.pairing(folder / "runs" / "before-s0", folder / "runs" / "after-s0")
    assert len(pairing.pairs) == 5 and "15 probes with the same answer are left out" in words(at)
    assert at.button(key="reveal").disabled
    sitting = blind.sit(folder, pairing, "ann")
    said = [blind.view(sitting, p) for p in sitting.pairs]
    assert "tiny" not in json.dumps([{k: v for k, v in s.items() if k != "turns"} for s in said])
    first = sitting.pairs[0]
    assert {said[0]["left"], said[0]["right"]} == {first.a, first.b}
    sitting.take(folder, [{"seq": k, "probe": p.id, "vote": "left" if pairing.left_is_a("ann", p.id) else "right"}
                          for k, p in enumerate(sitting.pairs, 1)])
    at = open_app(folder, "behaviour", b_view="Blind choice", b_one="before-s0", b_other="after-s0")
    at.button(key="reveal").click().run()
    said_now = state.plain("Cannot tell from chance: before-s0 was chosen in 0 of 5 decided votes (95 %: 0 to 43 %)")
    assert said_now in words(at)
    assert at.dataframe[0].value["after-s0"].tolist() == [5]
    with pytest.raises(CurationError, match="would not be blind"):
        votes.append(folder, pairing, "ann", "x", [{"seq": 1, "probe": first.id, "vote": "tie"}])


def test_a_sitting_stores_what_the_browser_says_once_and_in_order(folder: Path) -> None:
    pairing = votes.pairing(folder / "runs" / "before-s0", folder / "runs" / "after-s0")
    sitting = blind.sit(folder, pairing, "ann")
    ids = [p.id for p in sitting.pairs]
    log = [{"seq": 1, "probe": ids[0], "vote": "left"}, {"seq": 2, "probe": ids[1], "vote": "skip"},
           {"seq": 3, "probe": ids[2], "vote": "tie"}]
    assert sitting.take(folder, log[:2]) == 1 and sitting.take(folder, log) == 1 and sitting.take(folder, log) == 0
    assert [p.id for p in sitting.pairs] == [*ids, ids[1]]
    sitting.take(folder, [{"seq": 4, "probe": ids[2], "vote": None, "was": "tie"}])
    sitting.take(folder, [{"seq": 5, "probe": ids[1], "vote": None, "was": "skip"}])
    assert [p.id for p in sitting.pairs] == ids
    assert list(votes.standing(votes.read(folder, pairing), "ann")) == [ids[0]]
    again = blind.sit(folder, pairing, "ann")
    assert [p.id for p in again.pairs] == ids[1:] and again.voted_before == 1
