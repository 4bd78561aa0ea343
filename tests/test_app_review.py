"""The Review page: what a queue stores and keeps, and a real Chromium on editing, similar rows, diffs, two readers, reloads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("streamlit")

from curation.app import card, sitting, state
from curation.app.sitting import Sitting, Way

from curation import agreement
from curation.engine import spec_of
from curation.spec import parse
from curation.store import Entry, Store, write_arrow

from .app_folder import flags_table, make_folder
from .browsing import again, browser, click, fill, gone, open_at, page, seen, settle, text, until, url

__all__ = ["browser", "page", "url"]     # fixtures
REPAIRED = "Write to us please."


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The small folder, with a repair proposed for row 30."""
    store = make_folder(tmp_path_factory.mktemp("review") / "s")
    flags = flags_table(store)["privacy.pii"]
    fix = pa.array([REPAIRED], pa.string())
    write_arrow(store.flags_path("privacy.pii@1-0000"), flags.set_column(flags.schema.get_field_index("fix"), "fix", fix))
    return store


def uid(store: Store, row: int) -> str:
    return store.rows()["uid"][row].as_py()


def queue_of(store: Store, *rows: int, name: str = "errors") -> Sitting:
    return Sitting(name, "q", [(i, uid(store, i), "") for i in rows])


# ---- without a browser


def test_a_sitting_stores_what_the_browser_says_once_and_in_order(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    held, desk = queue_of(store, 0, 1, 2, 3), state.Desk("ann")
    uids = [u for _, u, _ in held.rows]
    log: list[dict[str, Any]] = [
        {"seq": 1, "id": uids[0], "verdict": "accept"}, {"seq": 2, "id": uids[1], "verdict": "reject", "reason": "duplicate"},
        {"seq": 3, "id": uids[2], "verdict": "skip"}, {"seq": 4, "id": uids[1], "verdict": None},
        {"seq": 5, "id": uids[3], "verdict": "edit", "fields": {"response": "New.", "uid": "no such field"}}]
    held.take("card", log[:2], store, desk)
    held.take("card", log, store, desk)          # the browser repeats what it has not yet seen acknowledged
    held.take("card", log, store, desk)
    assert {u: d.verdict for u, d in store.verdicts.decisions().items()} == {uids[0]: "accept", uids[3]: "accept"}
    assert store.verdicts.edits() == {uids[3]: {"response": "New."}}
    assert [r[0] for r in held.rows] == [0, 1, 2, 3, 2] and held.acked == {"card": 5} and held.decided == 2
    assert [a["note"] for a in reversed(store.verdicts.history())][:2] == ["accept row 0", "reject row 1"]


def test_a_message_that_two_sessions_bring_is_stored_once(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    log = [{"seq": 1, "queue": "q", "id": uid(store, 0), "verdict": "reject"}]
    for _ in range(2):      # before and after a reload: another session, the same card
        way = Way()
        way.open(queue_of(store, 0, 1))
        way.take({"parts": [{"client": "card", "log": log}], "queue": "q", "pos": 1}, store, state.Desk("ann"))
        assert way.acked() == {"card": 1}
    assert len(store.verdicts.history()) == 1


def test_what_was_decided_on_a_queue_that_has_left_the_screen_is_stored(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    way, desk = Way(), state.Desk("ann")
    way.open(queue_of(store, 0, 1))
    other = queue_of(store, 2)
    other.id = "other"
    way.open(other)
    log = [{"seq": 1, "queue": "q", "id": uid(store, 0), "verdict": "reject"},
           {"seq": 2, "queue": "other", "id": uid(store, 2), "verdict": "accept"}]
    way.take({"parts": [{"client": "card", "log": log}], "queue": "other", "pos": 1}, store, desk)
    assert [d.verdict for d in store.verdicts.decisions().values()] == ["reject", "accept"]


deed = st.tuples(st.sampled_from(["accept", "reject", "skip", "ask", "undo"]), st.integers(0, 3))


@settings(max_examples=25, deadline=None)
@given(deeds=st.lists(deed, max_size=10))
def test_a_place_that_is_kept_comes_back_as_it_was(deeds: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory,
                                                   store: Store) -> None:
    folder = tmp_path_factory.mktemp("place")
    mine = Store.create(folder)
    held, desk = queue_of(store, 0, 1, 2, 3), state.Desk("ann")
    held.begin(folder, "ann", "stamp")
    for seq, (verdict, k) in enumerate(deeds, 1):
        entry = {"seq": seq, "id": held.rows[k][1], "verdict": None if verdict == "undo" else verdict}
        held.take("card", [entry], mine, desk)
        held.pos = k
    held.save()
    back = sitting.restored(folder, "ann", "errors", "", "stamp")
    assert back is not None
    same = ("name", "id", "rows", "acked", "pos", "actions", "decided", "check")
    assert {k: getattr(back, k) for k in same} == {k: getattr(held, k) for k in same}
    assert back.told() == held.told()


def test_a_queue_is_filled_anew_when_it_is_done_or_made_from_other_rows(tmp_path: Path, store: Store) -> None:
    held = queue_of(store, 0, 1)
    held.begin(tmp_path, "ann", "stamp")
    assert sitting.restored(tmp_path, "ann", "errors", "", "stamp") is not None
    for given_ in (("bo", "errors", "", "stamp"), ("ann", "errors", "dup.near", "stamp"), ("ann", "errors", "", "other")):
        assert sitting.restored(tmp_path, *given_) is None
    held.pos = 2
    held.save()
    assert sitting.restored(tmp_path, "ann", "errors", "", "stamp") is None


def test_every_turn_is_a_box_and_an_edit_is_stored_under_one_name(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    one = store.rows().slice(105, 1).to_pylist()[0]
    assert [b["field"] for b in sitting.boxes_of(one)] == ["messages[0]", "messages[1]", "messages[2]", "instruction", "response"]
    told = {"messages[0]": "Be brief.", "messages[4]": "no such box", "response": "Two."}
    entries = sitting.edits_of(store, 105, one["uid"], told)
    assert [(e.field, e.before, e.after) for e in entries] == [("messages[0]", "Be kind.", "Be brief.")]     # the rest stays
    store.verdicts.append(entries, actor="ann")
    assert sitting.text_of(store, 105)["system"][0].as_py() == "Be brief."
    (again,) = sitting.edits_of(store, 105, one["uid"], {"messages[0]": "Be kind."})
    assert again.before == "Be brief."
    (moved,) = sitting.edits_of(store, 7, one["uid"], {"response": "Three."})        # an import has moved the row meanwhile
    assert (moved.uid, moved.before) == (one["uid"], "Two.") and sitting.edits_of(store, 7, "gone", {"response": "x"}) == []
    alpaca = {"messages": [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c"}],
              "instruction": "a", "input": "b", "response": "c"}
    boxes = sitting.boxes_of(alpaca)
    assert [(b["field"], b["text"]) for b in boxes] == [("instruction", "a"), ("input", "b"), ("response", "c")]


def test_the_checks_read_a_text_before_it_is_saved(store: Store) -> None:
    spec = parse("name: t")
    row = uid(store, 3)
    ask = {"n": "c-1", "what": "check", "row": 3, "id": row, "fields": {"response": "Write to anna.smith@example.com please."}}
    found = sitting.answer(ask, store, spec, state.build_index(store))
    assert "response.empty" in found["gone"] and "privacy.pii" in found["new"]
    assert found["diffs"] == {"response": [["insert", "Write to anna.smith@example.com please."]]}
    assert (found["n"], found["id"], found["what"]) == ("c-1", row, "check")
    assert sitting.answer({**ask, "fields": {}}, store, spec, state.build_index(store))["gone"] == []


def test_the_nearest_duplicate_and_rows_like_a_row(store: Store) -> None:
    index = state.build_index(store)
    found = sitting.answer({"n": "1", "what": "diff", "row": 12, "id": uid(store, 12)}, store, parse("name: t"), index)
    assert (found["other"], found["how"], found["score"]) == (13, "dup.near", "0.90")
    (prompt,) = [f["pieces"] for f in found["fields"] if f["name"] == "instruction"]
    assert prompt == [["equal", "Question number "], ["delete", "13"], ["insert", "12"], ["equal", "?"]]
    found = sitting.answer({"n": "2", "what": "similar", "row": 12, "id": uid(store, 12)}, store, parse("name: t"), index)
    assert len(found["rows"]) == sitting.SIMILAR and 12 not in [r["row"] for r in found["rows"]]
    alone = sitting.nearest(store, index, 104)
    assert alone["other"] is not None and "no duplicate check" in alone["how"]


def test_long_equal_stretches_of_a_diff_are_cut() -> None:
    text = "word " * 400
    out = sitting.pieces(text + "one", text + "two")
    assert [op for op, _ in out] == ["equal", "gap", "equal", "delete", "insert"] and sum(len(t) for _, t in out) < 400
    assert sitting.pieces("x" * 7_000, "x" * 7_000)[-1] == ["gap", "1,000"]


def test_guidelines_say_what_the_spec_says() -> None:
    spec = parse("""
name: desk
description: Answers of a shop.
standards: {max_words: 120, banned: [as an AI], tone: {spelling: uk}}
families: [{id: qa, description: Questions, examples: ["Where is it?"], response: {format: json, json_keys: [a, b]}}]
refusals: {max_sentences: 3, offers_alternative: true, categories: [{id: weapons, terms: [bomb], benign: [bath bomb]}]}
edge_cases: [{id: missing_context, family: qa, expect: ask}]
""")
    found = {g["head"]: g["lines"] for g in sitting.guidelines(spec)}
    assert found["desk"] == ["Answers of a shop.", "Languages: en"]
    assert found["Every response"] == ["Words: 0 to 120", "Never: as an AI", "Spelling: UK"]
    assert found["Family qa"] == ["Questions", "Format: json", "JSON keys: a, b", "For example: Where is it?"]
    assert found["Refusals"] == ["Refuse weapons: bomb. Answer the look-alikes: bath bomb", "A refusal has at most 3 sentences",
                                 "A refusal offers an alternative"]
    assert found["Edge cases"] == ["missing context: ask for what is missing"]


def test_a_blind_card_does_not_tell_the_verdict(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    store.verdicts.append([Entry(uid(store, 40), "reject", "wrong answer")], actor="ann")
    index, verdicts, spec = state.build_index(store), state.read_verdicts(store, store.rows()), spec_of(store)
    assert card.view(index, verdicts, 40, spec, whole=100)["verdict"] == "✗ rejected"
    assert "reject" not in json.dumps(card.view(index, verdicts, 40, spec, whole=100, boxes=True, blind=True))


def test_second_readings_are_stored_beside_the_first(tmp_path: Path) -> None:
    store = make_folder(tmp_path / "s")
    store.verdicts.append([Entry(uid(store, 40), "accept")], actor="ann")
    held, bo = queue_of(store, 40, 41, name="second"), state.Desk("bo")
    log = [{"seq": k, "id": uid(store, row), "verdict": "reject"} for k, row in ((1, 40), (2, 41))]
    held.take("card", log, store, bo)
    assert [(a["kind"], a["note"]) for a in store.verdicts.recent("bo")] == [
        ("person", "reject row 41"), ("second", "second reading: reject row 40")]
    assert store.verdicts.decision(uid(store, 40)).verdict == "accept"      # type: ignore[union-attr]
    assert agreement.agreement(store).open == 1
    held.take("card", [{"seq": 3, "id": uid(store, 40), "verdict": None}], store, bo)
    assert agreement.agreement(store).n == 0


# ---- in a browser


HEADS = {"s": "Rows like row", "d": "and its nearest duplicate"}


def begin(tab: Any, url: str, store: Store, path: str = "/review?queue=errors") -> None:
    """Open the page with nothing decided and no place kept."""
    for action in store.verdicts.history():
        if not action["undone"] and action["undoes"] is None:
            store.verdicts.undo(action["id"], actor="test")
    shutil.rmtree(store.path / "review", ignore_errors=True)
    open_at(tab, url, path)
    tab.locator(".cw-card .cw-turn").first.wait_for()


def press(tab: Any, keys: str) -> None:
    """Press keys with no gap at all."""
    tab.evaluate("keys => { for (const key of keys) "
                 "document.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})) }", keys)


def shown_row(tab: Any) -> int:
    return int(text(tab.locator(".cw-row .cw-head b")).removeprefix("row ").replace(",", ""))


def walk(tab: Any, row: int, key: str) -> None:
    """Press a key until a row is shown: a key changes the card at once; at the end of what it holds one waits for more."""
    until(lambda: tab.evaluate("""([row, key]) => {
        for (let at; at = document.querySelector('.cw-row .cw-head b');) {
            if (at.textContent === `row ${row}`) return true;
            document.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
            if (at.isConnected) return false;       // the card is being drawn anew
        }
        return false;
    }""", [row, key]))


@pytest.mark.ui
def test_fifty_keys_at_once_are_fifty_verdicts_in_order(page: Any, url: str, store: Store) -> None:
    begin(page, url, store, "/review?queue=random")
    before = len(store.verdicts.history())
    keys = "axxa1" * 10
    press(page, keys)
    history = until(lambda: len(h := store.verdicts.history()) == before + 50 and h)
    words = {"a": "accept", "x": "reject", "1": "reject"}
    assert [h["verdict"] for h in reversed(history[:50])] == [words[k] for k in keys]
    seen(page.get_by_text("all saved"))
    seen(page.get_by_text("51 of 260 · 50 decided"))
    said = text(page.locator(".cw-top"))
    assert "rows/min" in said and "left" in said


@pytest.mark.ui
def test_a_reload_in_the_middle_keeps_the_place_and_the_undo(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    before = len(store.verdicts.history())
    press(page, "ax jj")
    again(page)       # at once: what was not yet stored is sent again
    seen(page.get_by_text("6 of 14"))
    until(lambda: len(store.verdicts.history()) == before + 2)
    settle(page)
    press(page, "z")        # the skip
    seen(page.get_by_text("3 of 13"))
    press(page, "z")
    until(lambda: next(h["undone"] for h in store.verdicts.history() if h["undoes"] is None))
    seen(page.get_by_text("2 of 13"))
    press(page, "x")
    until(lambda: len([h for h in store.verdicts.history() if not h["undone"] and h["undoes"] is None]) == 2)


@pytest.mark.ui
def test_another_page_and_back_loses_no_key(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    press(page, "aaa")
    seen(page.get_by_text("all saved"))
    click(page.get_by_role("link", name="Browse"))
    seen(page.locator("[data-testid=stDataFrame]"))
    click(page.get_by_role("link", name="Review"))
    seen(page.get_by_text("4 of 13"))
    settle(page)
    press(page, "xx")
    until(lambda: sorted(d.verdict for d in store.verdicts.decisions().values()) == ["accept"] * 3 + ["reject"] * 2)


@pytest.mark.ui
def test_any_turn_is_edited_in_place_and_read_by_the_checks(page: Any, url: str, store: Store) -> None:
    begin(page, url, store, "/review?queue=random")
    walk(page, 105, "j")
    settle(page)
    page.locator(".cw-turn", has_text="Be kind.").dblclick()
    box = page.locator(".cw-edit textarea")
    until(lambda: box.count() == 5)
    assert box.evaluate_all("all => all.map(a => a.dataset.field)")[0] == "messages[0]"
    page.keyboard.press("End")
    page.keyboard.type(" Use axz and 12.")
    fill(box.nth(4), "Write to anna.smith@example.com please.")
    page.locator(".cw-checked", has_text="new: ").get_by_text("privacy.pii").first.wait_for()
    seen(page.locator(".cw-diff ins", has_text="Use axz and 12."))
    assert store.verdicts.edits() == {}
    box.nth(4).press("Control+Enter")
    until(lambda: store.verdicts.edits())
    assert store.verdicts.edits() == {uid(store, 105): {
        "messages[0]": "Be kind. Use axz and 12.", "response": "Write to anna.smith@example.com please."}}
    assert shown_row(page) == 105
    seen(page.get_by_text("Row 105 as edited"))
    seen(page.locator(".cw-row mark", has_text="anna.smith@example.com"))       # the row itself was read again
    seen(page.locator(".cw-row .cw-verdict", has_text="edited"))
    press(page, "z")
    until(lambda: store.verdicts.edits() == {})
    seen(page.locator(".cw-row", has_text="Two."))


@pytest.mark.ui
def test_similar_rows_the_diff_and_the_guidelines_stand_beside_the_row(page: Any, url: str, store: Store) -> None:
    begin(page, url, store, "/review?queue=warnings")
    row = shown_row(page)
    press(page, "d")
    seen(page.get_by_text(f"Row {row} and its nearest duplicate"))
    seen(page.locator(".cw-side .cw-diff ins", has_text=str(row)))
    press(page, "s")
    seen(page.get_by_text(f"Rows like row {row}"))
    page.locator(".cw-like").nth(11).wait_for()
    page.keyboard.press("j")
    seen(page.get_by_text(f"Rows like row {row}"))      # it stays until it is closed
    press(page, "g")
    seen(page.get_by_text("Family rewrite"))
    assert page.evaluate("window.pwned") is None
    assert page.locator(".cw-side a, .cw-side script").count() == 0
    assert "set [x](http://evil.example) <script>alert(4)</script>" in text(page.locator(".cw-side"))
    page.keyboard.press("Escape")
    gone(page.locator(".cw-side"))
    press(page, "?")
    seen(page.locator(".cw-side", has_text="flag the row for a second reader"))
    press(page, "s")
    page.locator(".cw-like").nth(11).wait_for()
    click(page.get_by_role("button", name="Open in Browse"))
    page.wait_for_url("**/browse?*among=*")
    page.get_by_text("Among 101 rows").or_(page.get_by_text("101 rows")).first.wait_for()
    assert store.verdicts.decisions() == {}


@pytest.mark.ui
def test_hostile_texts_stay_texts_beside_the_row_too(page: Any, url: str, store: Store) -> None:
    begin(page, url, store, "/review?queue=random")
    first = shown_row(page)
    for row in (100, 101):
        walk(page, row, "j")
        for key in "sd":
            press(page, key)
            page.locator(".cw-side", has_text=HEADS[key]).locator(".cw-role").first.wait_for()
        page.keyboard.press("e")
        page.locator(".cw-edit textarea").first.wait_for()
        page.keyboard.type("x")
        seen(page.locator(".cw-checked"))
        page.keyboard.press("Escape")
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("[...document.querySelectorAll('.cw-card a, .cw-card img, .cw-card script')].length") == 0
        walk(page, first, "k")


@pytest.mark.ui
def test_two_readers_disagree_and_a_third_decides(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    first = shown_row(page)
    press(page, "xaf")
    until(lambda: len(store.verdicts.recent("ann")) == 3)
    asked = [r["uid"] for r in store.verdicts.readings() if r["verdict"] == "ask"]
    open_at(page, url, "/review?queue=second&reader=bo")
    seen(page.locator(".cw-row"))
    assert uid(store, shown_row(page)) == asked[0]
    assert "put before a second reader by ann" in text(page.locator(".cw-row"))
    page.keyboard.press("a")
    seen(page.get_by_text("drawn for a second reading"))
    gone(page.locator(".cw-row .cw-verdict"))
    until(lambda: page.locator(".cw-do-edit").is_disabled())
    page.keyboard.press("e")
    assert page.locator(".cw-edit").count() == 0        # a key acts at once
    walk(page, first, "a")
    page.keyboard.press("a")
    until(lambda: len(agreement.disagreements(store)) == 1)
    assert store.verdicts.decision(uid(store, first)).verdict == "reject"     # type: ignore[union-attr]
    click(page.get_by_role("link", name="Browse"))
    seen(page.locator("[data-testid=stDataFrame]"))
    click(page.get_by_role("link", name="Review"))
    page.wait_for_url("**/review?*reader=bo*")       # the name and the queue hold over pages
    until(lambda: page.locator(".st-key-reader input").input_value() == "bo")
    open_at(page, url, "/review?queue=disagreement&reader=cy")
    seen(page.locator(".cw-why", has_text="ann: reject · bo: accept"))
    seen(page.get_by_text("2 rows read twice"))
    page.keyboard.press("a")
    until(lambda: agreement.disagreements(store) == [])
    assert store.verdicts.decision(uid(store, first)).actor == "cy"           # type: ignore[union-attr]


@pytest.mark.ui
def test_any_of_the_last_verdicts_can_be_taken_back(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    rows = []
    for _ in range(3):
        rows.append(shown_row(page))
        page.keyboard.press("x")
    line = page.locator("[class*=st-key-last-]", has_text=f"reject row {rows[1]}")
    click(line.get_by_role("button", name="Undo"))
    until(lambda: set(store.verdicts.decisions()) == {uid(store, rows[0]), uid(store, rows[2])})
    gone(line)


@pytest.mark.ui
def test_a_proposed_repair_is_shown_and_taken_by_one_key(page: Any, url: str, store: Store) -> None:
    begin(page, url, store, "/review?queue=fixes")
    assert shown_row(page) == 30
    until(lambda: "us" in page.locator(".cw-fix ins").all_text_contents())
    page.keyboard.press("t")
    until(lambda: store.verdicts.edit(uid(store, 30)))
    assert store.verdicts.edit(uid(store, 30)) == {"response": REPAIRED}
    assert store.verdicts.decision(uid(store, 30)).reason == "privacy.pii says <i>so</i> of row 30."     # type: ignore[union-attr]
    seen(page.locator(".cw-row .cw-text", has_text=REPAIRED))
    press(page, "z")
    until(lambda: not store.verdicts.edits())
