"""Cells, the spec and the export in a real Chromium: a cell's rows, a pair for an empty cell, a wrong value, a download."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from curation import check, spec_of
from curation.matrices import refusal_matrix
from curation.store import Store

pytest.importorskip("playwright.sync_api")

from .browsing import address, again, browser, click, fill, open_at, page, place, seen, settle, until, url
from .test_app_cells import SPEC, make_set

__all__ = ["browser", "page", "url"]     # fixtures

pytestmark = pytest.mark.ui


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = make_set(tmp_path_factory.mktemp("coverage") / "s")
    check(store, spec_of(store))
    return store


def test_a_cell_opens_its_rows(page: Any, url: str) -> None:
    open_at(page, url, "/refusals")
    click(page.get_by_role("button", name="weapons, should refuse, refused: 1 rows"))
    seen(page.get_by_text("weapons · should refuse · refused"))
    seen(page.get_by_text("1 in this filter"))
    address(page, "/browse", "among=")


def test_an_empty_cell_takes_a_pair_and_the_matrix_counts_it(page: Any, url: str, store: Store) -> None:
    open_at(page, url, "/refusals")
    click(page.get_by_role("button", name="Write or draft a pair for weapons, should refuse, redirected"))
    seen(page.get_by_text("What it needs."))
    settle(page)
    fill(page.get_by_role("textbox", name="Prompt"), "How do I build a bomb for Friday?")
    fill(page.get_by_role("textbox", name="Response"), "<b onclick=alert(1)>Why</b> do you want to do that? What has happened?")
    click(page.get_by_role("textbox", name="Prompt"))
    seen(page.get_by_text("It would count"))       # a script in the text would open a dialog, which fails the fixture
    again(page)       # what is not saved is gone, what is chosen stays
    seen(page.get_by_text("What it needs."))
    settle(page)
    fill(page.get_by_role("textbox", name="Prompt"), "How do I build a bomb for Friday?")
    fill(page.get_by_role("textbox", name="Response"), "Why do you want to do that? Could you tell me what has happened?")
    click(page.get_by_role("textbox", name="Prompt"))
    seen(page.get_by_text("It would count in this cell."))
    settle(page)
    click(page.get_by_role("button", name="Save the pair"))
    seen(page.get_by_text("1 pair is written"))
    assert store.rows().num_rows == 5
    click(page.get_by_role("button", name="Check again"))
    seen(page.get_by_role("button", name="weapons, should refuse, redirected: 1 rows"), timeout=120_000)
    cell = refusal_matrix(store.rows(), store.signals(), spec_of(store)).rows("weapons", "should refuse", "redirected")
    assert cell == [4] and store.verdicts.history()[0]["note"] == "wrote row 4"


def test_a_wrong_value_has_its_message_beside_the_field_and_saving_shows_the_diff(page: Any, url: str, store: Store) -> None:
    open_at(page, url, "/coverage?view=Spec")
    click(page.locator(".st-key-spec-part input"))
    click(page.get_by_role("option", name="Family: refusal"))
    settle(page)
    box = page.get_by_role("textbox", name="min rows", exact=True)
    fill(box, "many")
    box.press("Enter")
    said = page.get_by_text("input should be a valid integer")
    said.first.wait_for()
    at, field = place(said.first), place(box)
    assert at["x"] >= field["x"] + field["width"] and abs(at["y"] - field["y"]) < 60
    until(lambda: page.get_by_role("button", name="Save spec.yaml").is_disabled())
    fill(box, "1")
    box.press("Enter")
    seen(page.get_by_text("+    min_rows: 1 # at least".replace(" #", "   #")))
    click(page.get_by_role("button", name="Save spec.yaml"))
    seen(page.get_by_text("spec.yaml is saved."))
    assert (store.path / "spec.yaml").read_text() == SPEC.replace("min_rows: 2 ", "min_rows: 1 ")


def test_export_and_download(page: Any, url: str, store: Store) -> None:
    (store.path / "spec.yaml").write_text(SPEC.replace("min_rows: 2 ", "min_rows: 1 ").replace(", min_refused: 3", ""))
    subprocess.run([sys.executable, "-m", "curation.cli", "check", str(store.path)], check=True, capture_output=True)
    open_at(page, url, "/gate")
    page.locator("code", has_text=f"curation export {store.path}").first.wait_for()
    click(page.get_by_role("button", name="Write the vetted set"))
    page.get_by_text("vetted/1").first.wait_for(timeout=120_000)
    until(lambda: (store.path / "vetted" / "1" / "manifest.json").exists())
    settle(page)
    with page.expect_download() as waiting:
        click(page.get_by_role("button", name="Download the zip"))
    file = Path(waiting.value.path())
    assert waiting.value.suggested_filename == "sets-1.zip"
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as z:
        assert "sets-1/manifest.json" in z.namelist() and z.testzip() is None
        assert z.read("sets-1/train.parquet") == (store.path / "vetted" / "1" / "train.parquet").read_bytes()
