"""From an empty folder to a checked set in a real Chromium: upload, mapping, import, checks, reloads; repairs in bulk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation.store import Store

pytest.importorskip("playwright.sync_api")

from .browsing import address, again, browser, cell, click, fill, gone, open_at, page, place, seen, settle, text, until, url

__all__ = ["browser", "page", "url"]     # fixtures

pytestmark = pytest.mark.ui

FIELDS = ("frage, deutsch=ja <b onclick=alert(7)>", "[antwort](http://evil.example/f)")
NAME = "../../<img src=x onerror=alert(5)>.jsonl"


class Empty:
    """A place for a dataset folder that is not there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return Empty(tmp_path_factory.mktemp("first") / "set")


def sent() -> bytes:
    """Return 60 rows of names that no format knows: ten answers are garbled, one prompt is a script."""
    rows = []
    for i in range(60):
        answer = f"Das Ergebnis ist {2 * i}, und zwar fÃ¼r immer." if i < 10 else f"Das Ergebnis ist {2 * i}, für immer."
        question = "<script>window.pwned=1;alert(6)</script> Was ist das?" if i == 20 else f"Wie viel ist {i} und {i}?"
        rows.append({FIELDS[0]: question, FIELDS[1]: answer, "note": "n"})
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()


def inert(tab: Any) -> None:
    assert tab.evaluate("window.pwned") is None
    assert tab.evaluate("[...document.querySelectorAll('a, img, script, [onclick], [onerror]')].filter(n => "
                        "/evil|pwned|alert/.test(n.outerHTML)).length") == 0


def choose(tab: Any, label: str, option: str) -> None:
    click(tab.get_by_label(label, exact=True))
    click(tab.get_by_role("option", name=option))
    settle(tab)


def test_from_nothing_to_checked_with_reloads_in_between(page: Any, url: str, store: Empty) -> None:
    open_at(page, url, "/")
    seen(page.get_by_text("No rows yet"))
    page.locator("input[type=file]").set_input_files({"name": NAME, "mimeType": "application/json", "buffer": sent()})
    seen(page.get_by_text("Which field is which", exact=True))
    again(page)       # the upload lies in the folder, the address names it
    seen(page.get_by_text("Which field is which", exact=True))
    settle(page)
    seen(page.get_by_text(NAME))
    gone(page.get_by_role("button", name="Import", exact=True))     # the format is unknown
    choose(page, "Prompt", FIELDS[0])
    choose(page, "Response", FIELDS[1])
    seen(page.get_by_text("The first 5 rows as they would be read"))
    inert(page)
    click(page.get_by_role("button", name="Import", exact=True))
    seen(page.get_by_text("60 rows, not checked yet"))
    assert {p.name for p in store.path.parent.iterdir()} == {"set"}, "the upload's name is no path"
    assert Store(store.path).rows()["instruction"][3].as_py() == "Wie viel ist 3 und 3?"
    settle(page)
    inert(page)
    click(page.get_by_role("button", name="Write spec.yaml"))
    until(lambda: (store.path / "spec.yaml").exists())
    seen(page.get_by_text("1 Rows ✓ → 2 Spec ✓ → 3 Checks"))
    settle(page)
    click(page.get_by_role("button", name="Run the checks"))
    page.get_by_text("checks and signals").or_(page.get_by_text("What to do next")).first.wait_for()
    again(page)
    seen(page.get_by_text("What to do next"), timeout=120_000)
    seen(page.get_by_role("button", name="response.mojibake"))
    settle(page)
    inert(page)


def test_repairs_in_bulk_after_a_preview_and_one_undo(page: Any, url: str, store: Empty) -> None:
    log = Store(store.path).verdicts
    open_at(page, url, "/browse?check=response.mojibake")
    seen(page.get_by_text("10 in this filter"))
    click(page.get_by_role("button", name="Fixes"))
    until(lambda: page.locator(".cd-change").count() == 5)
    assert "fÃ" in text(page.locator(".cd-change del").first)
    assert "für" in text(page.locator(".cd-change ins").first)
    settle(page)
    click(page.get_by_role("button", name="Take 10 texts"))
    until(lambda: len(log.edits()) == 10)
    assert all(fields["response"].endswith("zwar für immer.") for fields in log.edits().values())
    seen(page.get_by_text("Take 10 proposed texts."))
    settle(page)
    click(page.get_by_role("button", name="Undo").first)
    until(lambda: not log.edits() and not log.decisions())
    assert [a["kind"] for a in log.history()[:2]] == ["fix", "fix"]


def test_a_bar_filters_tags_and_verdicts_go_over_the_whole_filter_with_one_undo(page: Any, url: str, store: Empty) -> None:
    log = Store(store.path).verdicts
    open_at(page, url, "/browse")
    seen(page.get_by_text("60 rows"))
    top = place(page.locator("[data-testid=stDataFrame]"))["y"]
    bar = page.locator(".cs-panel").nth(2).locator(".cs-bar").last
    click(bar)
    address(page, "range=score")
    seen(page.get_by_text("in this filter"))
    n = int(text(page.locator(".st-key-selection_bar")).split("·")[1].split()[0])
    assert 10 <= n < 60
    assert place(page.locator("[data-testid=stDataFrame]"))["y"] == top, "nothing jumps"
    click(page.get_by_role("button", name="Tag", exact=True))
    fill(page.locator(".st-key-tag_word input"), "<b>ask</b>")
    page.locator(".st-key-tag_word input").press("Enter")
    settle(page)
    click(page.locator(".st-key-tag_of button").first)
    until(lambda: {t: len(u) for t, u in log.tags().items()} == {"<b>ask</b>": n})
    page.keyboard.press("Escape")
    settle(page)
    click(page.get_by_role("button", name="All", exact=True))
    click(page.get_by_role("button", name=f"Reject all {n}"))
    until(lambda: len(log.decisions()) == n)
    settle(page)
    again(page)       # filter and verdicts outlive the session
    seen(page.get_by_text(f"{n} in this filter"))
    assert len(log.decisions()) == n
    open_at(page, url, "/history")
    seen(page.get_by_text(f"{len(log.history())} of {len(log.history())} actions"))
    cell(page.locator("[data-testid=stDataFrame]"), 17, 0)
    seen(page.get_by_role("button", name="back"))
    settle(page)
    click(page.get_by_role("button", name="back"))
    until(lambda: not log.decisions())
    inert(page)


def test_rows_like_a_row_come_with_it_at_the_top(page: Any, url: str, store: Empty) -> None:
    open_at(page, url, "/browse?row=30&check=response.mojibake")
    click(page.get_by_role("button", name="Similar"))
    seen(page.get_by_text("row 30 and what is most like it"))
    address(page, "among=", "row=30", without="check=")
    page.get_by_text("1 of ").first.wait_for()
    click(page.get_by_role("button", name="Show all rows"))
    seen(page.get_by_text("60 rows"))
