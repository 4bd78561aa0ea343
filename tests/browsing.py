"""A real Chromium on `curation app`, for the tests of the pages: the server, the tab, and waiting without sleeping blindly.

A test file that imports `browser`, `page` and `url` from here gives its own module-scoped fixture `store`.

What a page shows after an action comes later, on a busy machine much later, and while Streamlit draws a page anew an old
element may stand beside its successor. So a test never reads at once: it acts by `click`, `fill` and `tick`, which wait for
the page to be at rest, and it reads by `seen`, `gone`, `text` and `until`, which wait for what they want to see.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.store import Store

pytest.importorskip("streamlit")
playwright = pytest.importorskip("playwright.sync_api")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")
LINE = 33       # pixels of a table line at the theme's font size
WAIT = 90_000   # ms: only a test that fails waits that long
REST = 400      # ms without a change that count as rest: longer than what our components wait before they ask
LEDGER = Path(__file__).with_suffix(".js")


def chromium() -> str | None:
    """Return the browser to drive: $CHROMIUM, /usr/bin/chromium, or the one that playwright has installed."""
    for path in (os.environ.get("CHROMIUM"), "/usr/bin/chromium", shutil.which("chromium"), shutil.which("google-chrome")):
        if path and Path(path).exists():
            return path
    with playwright.sync_playwright() as p:
        return p.chromium.executable_path if Path(p.chromium.executable_path).exists() else None


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    """Start `curation app` as a user would and return its address."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    argv = [sys.executable, "-m", "curation.cli", "app", str(store.path), "--no-browser", "--port", str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "CURATION_ACTOR": "ann"})
    assert process.stdout is not None
    line = ""
    while " is at http://" not in line:
        line = process.stdout.readline()
        assert line, "curation app ended without an address"
    try:
        yield line.split(" is at ")[1].split()[0]
    finally:
        process.terminate()
        process.wait(60)
        with socket.socket() as s:      # the server has gone with the verb
            assert s.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium: set CHROMIUM to its path, or run `playwright install chromium`")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=path, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, url: str, store: Store) -> Iterator[Any]:
    """A fresh page at 1280 x 900 whose requests and dialogs are noted; after the test no one may have left this machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(path=LEDGER)
    tab = context.new_page()
    tab.set_default_timeout(WAIT)
    asked: list[str] = []
    dialogs: list[str] = []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("dialog", lambda d: (dialogs.append(d.message), d.dismiss()))
    yield tab
    context.close()
    assert dialogs == []
    assert [u for u in asked if not u.startswith((url, url.replace("http", "ws"), "data:", "blob:"))] == []


def settle(tab: Any) -> None:
    """Wait until Streamlit is at rest, for long enough that nothing is drawn or about to be asked any more."""
    tab.evaluate("window.streamlitRuns.since = 0")
    tab.wait_for_function(f"window.streamlitRests({REST})")


def open_at(tab: Any, url: str, path: str) -> None:
    tab.goto(url + path)
    settle(tab)


def again(tab: Any) -> None:
    """Reload the page."""
    tab.reload()
    settle(tab)


def seen(locator: Any, timeout: float = WAIT) -> None:
    """Wait until exactly one such element is there, and to be seen."""
    playwright.expect(locator).to_have_count(1, timeout=timeout)
    until(lambda: locator.is_visible(), timeout)


def gone(locator: Any) -> None:
    """Wait until no such element is there."""
    playwright.expect(locator).to_have_count(0, timeout=WAIT)


def address(tab: Any, *parts: str, without: str = "\0") -> None:
    """Wait until the address of the page has all of these parts, and not the one of `without`."""

    def right() -> bool:
        now = tab.evaluate("location.href")     # tab.url learns of a change only while something else is asked of the tab
        return all(part in now for part in parts) and without not in now

    until(right)


def text(locator: Any) -> str:
    """Return what the one such element says, once there is one."""
    seen(locator)
    return str(until(lambda: [locator.inner_text()])[0])


def click(locator: Any) -> None:
    """Click the one such element of a page at rest."""
    settle(locator.page)
    seen(locator)
    until(lambda: locator.click() is None)


def fill(locator: Any, words: str) -> None:
    """Write into the one such field of a page at rest."""
    settle(locator.page)
    seen(locator)
    until(lambda: locator.fill(words) is None)
    playwright.expect(locator).to_have_value(words, timeout=WAIT)


def place(locator: Any) -> dict[str, float]:
    """Return where the one such element stands in a page at rest: x, y, width, height in pixels."""
    settle(locator.page)
    seen(locator)
    locator.scroll_into_view_if_needed()
    box = until(lambda: locator.bounding_box())
    return {name: float(n) for name, n in box.items()}


def cell(locator: Any, x: float, line: int) -> None:
    """Click into a table that is painted: `x` pixels from its left, lines counted from 0, the header -1."""
    locator.locator("canvas [role=gridcell]").first.wait_for(state="attached")
    at = place(locator)
    locator.page.mouse.click(at["x"] + x, at["y"] + LINE * (line + 1.5))
    settle(locator.page)


def tick(tab: Any, *lines: int) -> None:
    """Tick lines of the table of a page on which none is ticked, counted from 0."""
    for n, line in enumerate(lines, 1):
        cell(tab.locator("[data-testid=stDataFrame]"), 17, line)
        seen(tab.get_by_text(f"{n} selected"))


def until(what: Callable[[], Any], timeout: float = WAIT) -> Any:
    """Return the first true value of `what`; fail after `timeout` ms. Two elements in place of one count as not yet."""
    deadline = time.monotonic() + timeout / 1000
    while True:
        try:
            if value := what():
                return value
        except playwright.Error as e:
            if "strict mode violation" not in e.message:
                raise
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def uids(store: Store, *rows: int) -> list[str]:
    return [store.rows()["uid"][i].as_py() for i in rows]
