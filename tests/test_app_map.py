"""The page Map in a real Chromium: a lasso by mouse, its verdicts and its way to Browse, pointing, clusters, a reload."""

from __future__ import annotations

from typing import Any

import pytest

from curation.store import Store

pytest.importorskip("playwright.sync_api")

from .app_groups import CROWD, SCRIPT, N, make_groups
from .browsing import address, again, browser, click, open_at, page, place, seen, settle, text, uids, until, url

__all__ = ["browser", "page", "url"]     # fixtures

pytestmark = pytest.mark.ui
LOWER_LEFT = [(0.03, 0.5), (0.48, 0.5), (0.48, 0.97), (0.03, 0.97)]       # shares of the map, from the left and the top


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_groups(tmp_path_factory.mktemp("map") / "s")


def begin(page: Any, url: str, store: Store, query: str = "") -> None:
    for action in store.verdicts.history():
        if not action["undone"] and action["undoes"] is None:
            store.verdicts.undo(action["id"], actor="test")
    open_at(page, url, f"/map?{query}")
    seen(page.locator(".cm-canvas"))
    page.wait_for_function("""() => { const c = document.querySelector('.cm-canvas');
        return c.width > 0 && c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v) }""")
    settle(page)


def draw(page: Any, corners: list[tuple[float, float]]) -> None:
    box = place(page.locator(".cm-canvas"))
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*at[0])
    page.mouse.down()
    for x, y in [*at[1:], at[0]]:
        page.mouse.move(x, y, steps=8)
    page.mouse.up()


def test_a_lasso_selects_rejects_and_is_undone(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    draw(page, LOWER_LEFT)
    seen(page.get_by_text(f"{CROWD} rows in lasso on the map"))
    before = len(store.verdicts.history())
    click(page.locator(".st-key-map_reject button").first)
    until(lambda: len(store.verdicts.decisions()) == CROWD)
    assert set(store.verdicts.decisions()) == set(uids(store, *range(CROWD)))
    assert len(store.verdicts.history()) == before + 1 and store.verdicts.history()[0]["rows"] == CROWD
    seen(page.get_by_text(f"{CROWD} rejected"))
    click(page.locator(".st-key-map_undo button").first)
    until(lambda: store.verdicts.decisions() == {})


def test_a_lasso_goes_to_browse_and_outlives_a_reload(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    draw(page, LOWER_LEFT)
    seen(page.get_by_text(f"{CROWD} rows in lasso on the map"))
    address(page, "lasso=")
    again(page)
    seen(page.get_by_text(f"{CROWD} rows in lasso on the map"))
    seen(page.locator(".cm-canvas"))
    settle(page)
    click(page.locator(".st-key-map_browse button").first)
    seen(page.get_by_text(f"Among {CROWD} rows"))
    seen(page.get_by_text(f"{CROWD} in this filter"))


def test_escape_takes_the_lasso_away(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    draw(page, LOWER_LEFT)
    seen(page.get_by_text(f"{CROWD} rows in lasso on the map"))
    settle(page)
    page.locator(".cm-canvas").focus()
    page.keyboard.press("Escape")
    seen(page.get_by_text("Draw around rows to select them."))
    address(page, without="lasso=")


def test_pointing_shows_a_row_as_text_and_a_click_opens_it(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    box = place(page.locator(".cm-canvas"))
    tip, at = page.locator(".cm-tip"), (0.0, 0.0)
    for k in range(40):     # over the lower left crowd
        at = (box["x"] + (0.08 + 0.01 * k) * box["width"], box["y"] + 0.75 * box["height"])
        page.mouse.move(*at)
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        if tip.is_visible():
            break
    said = text(tip)
    assert said.startswith("row ") and "qa" in said
    page.mouse.click(*at)
    page.locator(".cw-card .cw-turn").first.wait_for()
    address(page, "row=")
    assert page.evaluate("window.pwned") is None


def test_hostile_names_stay_text(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    until(lambda: SCRIPT in page.locator(".cm-legend .cm-label").all_text_contents())
    draw(page, [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)])
    seen(page.locator(".st-key-map_families .cb-name", has_text="<script>"))
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("[...document.querySelectorAll('script, img')].filter(n => /pwned/.test(n.outerHTML)).length") == 0


def test_zoom_asks_for_a_new_picture_and_the_lasso_means_the_same(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    for _ in range(2):
        click(page.get_by_role("button", name="In +"))
    draw(page, [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98)])
    seen(page.get_by_text("rows in lasso on the map"))
    settle(page)
    inner = int(text(page.get_by_text("rows in lasso on the map")).split()[0])
    click(page.get_by_role("button", name="Whole map"))
    settle(page)
    assert int(text(page.get_by_text("rows in lasso on the map")).split()[0]) == inner < N
    draw(page, [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)])
    seen(page.get_by_text(f"{N} rows in lasso on the map"))


def test_a_cluster_is_selected_from_the_list(page: Any, url: str, store: Store) -> None:
    begin(page, url, store)
    click(page.locator(".st-key-map_clusters button.cb-line", has_text="engines"))
    seen(page.get_by_text(f"{N - CROWD} rows in cluster"))
    click(page.get_by_text("Gaps", exact=True))
    seen(page.get_by_text("Families with fewer rows than the spec wants"))
    page.locator(".cb-line", has_text="rewrite").first.wait_for()
