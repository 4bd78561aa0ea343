"""The page Duplicates in a real Chromium: keys without loss, merge as one action, conflicts, groups of three, hostile texts."""

from __future__ import annotations

from typing import Any

import pytest

from curation.store import Store

pytest.importorskip("playwright.sync_api")

from .app_groups import make_groups
from .browsing import address, again, browser, click, fill, open_at, page, seen, settle, text, uids, until, url

__all__ = ["browser", "page", "url"]     # fixtures

pytestmark = pytest.mark.ui


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_groups(tmp_path_factory.mktemp("duplicates") / "s")


def begin(page: Any, url: str, store: Store, query: str = "dup_order=as+imported") -> int:
    """Take back whatever still holds, open the page and return how many actions the log has."""
    for action in store.verdicts.history():
        if not action["undone"] and action["undoes"] is None:
            store.verdicts.undo(action["id"], actor="test")
    assert store.verdicts.decisions() == {}
    open_at(page, url, f"/duplicates?{query}")
    seen(page.locator(".cp-grid"))
    return len(store.verdicts.history())


def decided(store: Store) -> dict[str, str]:
    return {u: d.verdict for u, d in store.verdicts.decisions().items()}


def press(page: Any, keys: str) -> None:
    """Press keys with no gap at all between them."""
    page.evaluate("keys => { for (const key of keys) "
                  "document.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})) }", keys)


def test_two_rows_side_by_side_with_what_differs(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    seen(page.get_by_text("3 groups of 7 rows, 3 open"))
    heads = ["Left · row 1", "Right · row 0"]       # row 0 has an error of its own
    until(lambda: page.locator(".cp-head b").all_text_contents() == heads)
    assert page.locator("mark.cp-left").all_text_contents() == ["one", "very "]
    assert page.locator("mark.cp-right").all_text_contents() == ["a"]
    alike = text(page.locator(".cp-alike"))
    assert alike.startswith("letters 0.") and "response 0." in alike


def test_a_merge_is_one_action_and_one_undo(page: Any, url: str, store: Store) -> None:
    before = begin(page, url, store)
    one, two = uids(store, 1, 0)
    page.keyboard.press("m")
    form = page.locator(".cp-merge")
    seen(form)
    page.keyboard.press("1")                # typed into the text, no verdict
    fill(form.locator("textarea").last, "An apple: red, sweet. 1 b z")
    click(form.locator(".cp-take").first.get_by_text("take right"))
    form.locator("textarea").last.press("Control+Enter")
    until(lambda: len(store.verdicts.history()) == before + 1)
    assert store.verdicts.edits() == {one: {"instruction": "Name a red fruit.", "response": "An apple: red, sweet. 1 b z"}}
    assert decided(store) == {one: "accept", two: "reject"} and store.verdicts.history()[0]["rows"] == 3
    seen(page.get_by_text("2 of 3"))
    seen(page.get_by_text("all saved"))
    page.keyboard.press("z")
    until(lambda: decided(store) == {})
    assert store.verdicts.edits() == {} and len(store.verdicts.history()) == before + 2
    seen(page.get_by_text("1 of 3"))


def test_keys_without_a_gap_are_stored_in_order(page: Any, url: str, store: Store) -> None:
    before = begin(page, url, store)
    press(page, "121 b")        # keep left; of the three: keep right, then keep left; skip the copies, then keep both
    history = until(lambda: len(h := store.verdicts.history()) == before + 4 and h)
    assert [h["note"] for h in reversed(history[:4])] == [
        "keep row 1, reject row 0", "keep row 3, reject row 2", "keep row 3, reject row 4", "keep rows 5 and 6"]
    assert decided(store) == dict(zip(uids(store, 0, 2, 4, 5, 6), ["reject"] * 3 + ["accept"] * 2, strict=True))
    seen(page.get_by_text("all saved"))
    press(page, "zzzzz")
    until(lambda: decided(store) == {})
    seen(page.get_by_text("1 of 3"))


def test_a_reload_in_the_middle_loses_nothing(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    page.keyboard.press("1")
    until(lambda: len(decided(store)) == 1)
    again(page)
    seen(page.get_by_text("1 of 2"))
    settle(page)
    page.keyboard.press("o")
    until(lambda: len(decided(store)) == 3)
    assert decided(store) == dict.fromkeys(uids(store, 0, 3, 4), "reject")


def test_leaving_the_page_and_coming_back_loses_no_key(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    page.keyboard.press("1")
    seen(page.get_by_text("all saved"))
    click(page.get_by_role("link", name="Browse"))
    seen(page.locator("[data-testid=stDataFrame]"))
    settle(page)
    click(page.get_by_role("link", name="Duplicates"))
    seen(page.locator(".cp-grid"))
    settle(page)
    page.keyboard.press("a")
    until(lambda: len(decided(store)) > 1)


def test_the_right_answer_of_a_conflict(page: Any, url: str, store: Store) -> None:
    before = begin(page, url, store, "dup_kind=Conflicts")
    seen(page.get_by_role("button", name="Right is right"))
    seen(page.locator(".cp-head b", has_text="Left · row 7"))
    click(page.get_by_role("button", name="Only left of 3"))
    until(lambda: len(store.verdicts.history()) == before + 1)
    assert decided(store) == dict(zip(uids(store, 7, 8, 9), ["accept", "reject", "reject"], strict=True))
    seen(page.get_by_text("0 open"))


def test_the_slider_recounts(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    seen(page.get_by_role("slider"))
    page.get_by_role("slider").focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    seen(page.get_by_text("5 groups of 11 rows, 5 open"))
    seen(page.get_by_text("1 of 5"))
    assert decided(store) == {}
    address(page, "dup_at_copies=0.7")


def test_hostile_text_stays_text(page: Any, url: str, store: Store) -> None:
    begin(page, url, store, "row=6")
    seen(page.locator(".cp-head b", has_text="Left · row 5"))
    assert "<script>window.pwned=1</script>" in text(page.locator(".cp-pairs"))
    page.keyboard.press("m")
    seen(page.locator(".cp-merge"))
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("[...document.querySelectorAll('a, img, iframe')].filter(n => /evil|^x$/.test("
                         "(n.getAttribute('href') ?? '') + (n.getAttribute('src') ?? ''))).length") == 0
