"""The workbench in a real Chromium: filters, selection, verdicts by mouse and by keys, and hostile texts that stay texts."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from curation.store import Store

pytest.importorskip("playwright.sync_api")

from .app_folder import make_folder
from .browsing import address, again, browser, cell, click, fill, open_at, page, seen, settle, text, tick, uids, until, url

__all__ = ["browser", "page", "url"]     # fixtures

pytestmark = pytest.mark.ui


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_folder(tmp_path_factory.mktemp("browser") / "s")


def clean(store: Store) -> None:
    """Take back whatever still holds and forget places in queues, so that each test begins undecided and at the beginning."""
    shutil.rmtree(store.path / "review", ignore_errors=True)
    for action in store.verdicts.history():
        if not action["undone"] and action["undoes"] is None:
            store.verdicts.undo(action["id"], actor="test")
    assert store.verdicts.decisions() == {}


def test_it_opens_on_this_machine_and_a_bar_leads_to_its_rows(page: Any, url: str) -> None:
    assert url.startswith("http://127.0.0.1:")
    open_at(page, url, "/")
    seen(page.get_by_text("Gate failed: 260 of 260 rows would be exported"))
    click(page.get_by_role("button", name="response.empty"))
    seen(page.get_by_text("12 in this filter"))
    address(page, "/browse", "check=response.empty")
    again(page)
    seen(page.get_by_text("12 in this filter"))


def test_select_reject_two_rows_and_undo(page: Any, url: str, store: Store) -> None:
    clean(store)
    open_at(page, url, "/browse?check=dup.near")
    seen(page.get_by_text("10 in this filter"))
    tick(page, 1, 3)
    seen(page.get_by_text("2 selected"))
    click(page.locator(".st-key-reject_selected button"))
    seen(page.get_by_text("0 selected"))
    assert {u: d.verdict for u, d in store.verdicts.decisions().items()} == dict.fromkeys(uids(store, 11, 13), "reject")
    assert store.verdicts.history()[0]["rows"] == 2 and store.verdicts.history()[0]["actor"] == "ann"
    click(page.get_by_role("button", name="Undo").first)
    until(lambda: store.verdicts.decisions() == {})
    seen(page.get_by_text("Undone: reject 2 rows."))


def test_a_selection_does_not_carry_over_to_another_page(page: Any, url: str, store: Store) -> None:
    clean(store)
    open_at(page, url, "/browse")
    tick(page, 0, 1)
    seen(page.get_by_text("2 selected"))
    click(page.locator("[data-testid=stPagination]").get_by_text("2", exact=True))
    seen(page.get_by_text("0 selected"))
    address(page, "page=2")
    until(lambda: page.locator(".st-key-reject_selected button").is_disabled())
    tick(page, 0)
    seen(page.get_by_text("1 selected"))
    click(page.locator(".st-key-reject_selected button"))
    until(lambda: list(store.verdicts.decisions()) == uids(store, 100))


def test_a_click_on_a_cell_opens_the_row_with_its_span(page: Any, url: str) -> None:
    open_at(page, url, "/browse?check=privacy.pii")
    cell(page.locator("[data-testid=stDataFrame]"), 280, 0)
    until(lambda: page.locator(".cw-card mark").all_text_contents() == ["anna@example.org"])
    assert "privacy.pii says <i>so</i> of row 30." in text(page.locator(".cw-flag"))
    address(page, "row=30")


HOSTILE = {
    100: "<script>window.pwned=1;alert(1)</script><img src=x onerror='window.pwned=1;alert(2)'>",
    101: "[a link](http://evil.example/x) ![pic](http://evil.example/p.png)",
    102: "שלום עולם", 103: "word word", 104: "Question number 104?", 105: "First turn, about zebras.",
}


def test_hostile_text_stays_text(page: Any, url: str, store: Store) -> None:
    open_at(page, url, "/browse?row=100&page=2")
    for row, words in HOSTILE.items():
        seen(page.locator(".cw-card b", has_text=f"row {row}"))
        until(lambda words=words: words in page.locator(".cw-card").text_content())
        settle(page)
        if not page.locator("details[open]").count():
            click(page.get_by_text("Edit this row"))
        seen(page.locator("details[open]"))
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("[...document.querySelectorAll('script')].filter(s => s.textContent.includes('pwned')).length") == 0
        assert page.evaluate("[...document.querySelectorAll('a, img, iframe')].filter(n => /evil|^x$/.test("
                             "(n.getAttribute('href') ?? '') + (n.getAttribute('src') ?? ''))).length") == 0
        if row == 103:
            seen(page.locator(".cw-card").get_by_text("characters not shown"))
            click(page.locator(f".st-key-whole-{uids(store, 103)[0]} label"))
            page.wait_for_function("document.querySelector('.cw-card').textContent.length > 1000000")
        click(page.locator(".st-key-next button").first)


def test_hostile_names_in_spec_and_families_stay_text(page: Any, url: str) -> None:
    for path in ("/", "/browse", "/gate"):
        open_at(page, url, path)
        if path == "/browse":
            click(page.locator(".st-key-family input"))
            page.get_by_text("evil.example/f.png").first.wait_for()
        assert page.evaluate("[...document.querySelectorAll('a, img, [onclick], script')].filter(n => "
                             "/evil|alert/.test(n.outerHTML)).length") == 0


def test_keys_decide_without_loss_and_undo(page: Any, url: str, store: Store) -> None:
    clean(store)
    open_at(page, url, "/review?queue=errors")
    page.locator(".cw-card .cw-turn").first.wait_for()
    before = len(store.verdicts.history())
    keys = "axaaxxaxaxa"
    page.evaluate("keys => { for (const key of keys) "      # no gap at all between the presses
                  "document.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})) }", keys)
    history = until(lambda: len(h := store.verdicts.history()) == before + len(keys) and h)
    words = {"a": "accept", "x": "reject"}
    assert [h["verdict"] for h in reversed(history[:len(keys)])] == [words[k] for k in keys]
    assert len({h["id"] for h in history}) == len(history) and len(store.verdicts.decisions()) == len(keys)
    seen(page.get_by_text("all saved"))
    settle(page)
    for _ in range(3):
        page.keyboard.press("z")
    until(lambda: len(store.verdicts.decisions()) == len(keys) - 3)
    seen(page.get_by_text("9 of 13"))


def test_keys_sleep_while_one_edits_and_the_edit_is_stored(page: Any, url: str, store: Store) -> None:
    clean(store)
    open_at(page, url, "/review?queue=errors")
    page.locator(".cw-card .cw-turn").first.wait_for()
    before = len(store.verdicts.history())
    page.keyboard.press("e")
    box = page.locator(".cw-edit textarea").last
    seen(box)
    fill(box, "")
    box.press_sequentially("axz 12 answer")
    assert len(store.verdicts.history()) == before
    box.press("Control+Enter")
    until(lambda: len(store.verdicts.history()) == before + 1)
    assert [list(e.items()) for e in store.verdicts.edits().values()] == [[("response", "axz 12 answer")]]
    seen(page.get_by_text("1 of 13"))      # the row stays: the checks read it first
    seen(page.locator(".cw-checked").get_by_text("gone: response.empty"))
    page.keyboard.press("j")
    seen(page.get_by_text("2 of 13"))
