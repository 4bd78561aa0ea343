"""A real Chromium on `curation app`, for the tests of the pages: the server, the tab, and waiting without sleeping blindly.

A test file that imports `browser`, `page` and `url` from here gives its own module-scoped fixture `store`.
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
        process.wait(20)
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
    tab = context.new_page()
    tab.set_default_timeout(30_000)
    asked: list[str] = []
    dialogs: list[str] = []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("dialog", lambda d: (dialogs.append(d.message), d.dismiss()))
    yield tab
    context.close()
    assert dialogs == []
    assert [u for u in asked if not u.startswith((url, url.replace("http", "ws"), "data:", "blob:"))] == []


def settle(tab: Any) -> None:
    """Wait until no script is running and nothing is being drawn."""
    tab.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    tab.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
    tab.wait_for_timeout(250)


def open_at(tab: Any, url: str, path: str) -> None:
    tab.goto(url + path)
    tab.wait_for_selector("[data-testid=stMainBlockContainer]")
    settle(tab)


def tick(tab: Any, *lines: int) -> None:
    """Tick lines of the table, counted from 0."""
    for line in lines:
        box = tab.locator("[data-testid=stDataFrame]").bounding_box()
        tab.mouse.click(box["x"] + 17, box["y"] + LINE * (line + 1.5))
        settle(tab)


def seen(locator: Any, timeout: float = 30_000) -> None:
    """Wait until exactly one such element is there: while Streamlit draws a page anew, the old one may stand beside the new."""
    locator.first.wait_for(timeout=timeout)
    playwright.expect(locator).to_have_count(1, timeout=timeout)


def gone(locator: Any) -> None:
    """Wait until no such element is there."""
    playwright.expect(locator).to_have_count(0, timeout=30_000)


def until(what: Callable[[], Any]) -> Any:
    """Return the first true value of `what`; fail after half a minute."""
    deadline = time.monotonic() + 30
    while not (value := what()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return value


def uids(store: Store, *rows: int) -> list[str]:
    return [store.rows()["uid"][i].as_py() for i in rows]
