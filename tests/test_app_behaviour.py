"""Train and Behaviour in a real Chromium: one click to a finished battery, failure to rows to edit, a blind choice counted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api")

from curation.train import votes

from curation.store import Store

from .app_folder import make_folder
from .behaviour_folder import VERIFIER
from .browsing import address, again, browser, cell, click, fill, open_at, page, seen, settle, text, until, url
from .test_app_behaviour_pages import make_runs

__all__ = ["browser", "page", "url"]     # fixtures

pytestmark = pytest.mark.ui
BLIND = "/behaviour?b_view=Blind+choice&b_one=before-s0&b_other=after-s0"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = make_folder(tmp_path_factory.mktemp("behaviour") / "s")
    probes = [{"id": f"p{k}", "family": "qa", "behaviour": ("label", "json")[k % 2], "answer": "right", "verifiers": [VERIFIER],
               "messages": [{"role": "user", "content": f"Held-out prompt {k}, about things."}]} for k in range(4)]
    (made.path / "battery.jsonl").write_text("".join(json.dumps(p) + "\n" for p in probes))
    with (made.path / "spec.yaml").open("a") as f:
        f.write("battery: {file: battery.jsonl}\n")
    make_runs(made.path)
    return made


def wait_for(path: Path, what: str = "", seconds: float = 300) -> None:
    ends = time.monotonic() + seconds
    while not path.exists() or what not in path.read_text():
        assert time.monotonic() < ends, f"{path} is not there"
        time.sleep(0.2)


def test_one_click_from_the_vetted_set_to_a_finished_battery(page: Any, url: str, store: Store) -> None:
    """Set, mask, start, a reload while it runs, the run at its end with curve and samples, and its behaviour."""
    pytest.importorskip("torch")
    folder = store.path
    done = subprocess.run([sys.executable, "-m", "curation.cli", "export", str(folder), "--override", "a test"], check=False)
    assert done.returncode == 0
    open_at(page, url, "/train")
    click(page.get_by_role("button", name="What would be trained"))
    seen(page.get_by_text("the marked part counts in the loss"), timeout=180_000)
    until(lambda: page.locator(".cw-card mark").count() >= 3)
    assert "<|im_start|>user" in page.locator(".cw-card").first.text_content()
    fill(page.get_by_label("Epochs"), "0.3")
    page.get_by_label("Epochs").press("Enter")
    seen(page.locator("code", has_text="--epochs 0.3 --eval"))
    click(page.get_by_role("button", name="Train", exact=True))
    run = folder / "runs" / "vetted-1-tiny-s0"
    wait_for(run / "metrics.jsonl")
    open_at(page, url, "/train")       # a browser that comes back while it runs
    wait_for(run / "battery.json")
    assert json.loads((run / "state.json").read_text())["state"] == "done"
    seen(page.get_by_role("button", name="Its behaviour"), timeout=120_000)
    until(lambda: page.locator("[data-testid=stVegaLiteChart]").count() == 2)
    seen(page.get_by_text("Samples on the way"))
    click(page.get_by_role("button", name="Its behaviour"))
    seen(page.get_by_text("of 4 probes passed"))
    address(page, "/behaviour")
    seen(page.locator(".st-key-b_run"))
    until(lambda: "vetted-1-tiny-s0" in page.evaluate("[...document.querySelectorAll('.st-key-b_run')].map("
          "n => n.innerText + [...n.querySelectorAll('input')].map(i => i.value)).join()"))


def test_from_a_failure_to_its_rows_to_an_edit(page: Any, url: str, store: Store) -> None:
    open_at(page, url, "/behaviour?b_run=before-s0")
    seen(page.get_by_text("16 of 20 probes passed"))
    click(page.locator("tr", has_text="qa").locator(".cs-cell").nth(1))
    seen(page.get_by_text("4 failed of 12"))
    address(page, "slice=qa")
    seen(page.locator(".cs-chosen"))
    cell(page.locator("[data-testid=stDataFrame]:has([aria-label='Probes'])"), 200, 0)
    seen(page.get_by_text("Rows behind it"))
    assert "wrong" in page.locator(".ca-answer").first.text_content()
    assert "keywords:existence (keywords = right)" in page.locator(".ca-no").first.text_content()
    seen(page.locator(".cw-card b", has_text="row 21"))
    address(page, "probe=refusal-1")
    again(page)                       # the address finds the probe again
    seen(page.locator(".cw-card b", has_text="row 21"))
    click(page.get_by_text("Edit this row"))
    box = page.get_by_label("response", exact=True)
    fill(box, "An answer that would have taught it.")
    click(page.get_by_role("button", name="Save"))
    uid = store.rows()["uid"][21].as_py()
    until(lambda: store.verdicts.edits().get(uid) == {"response": "An answer that would have taught it."})
    seen(page.get_by_text("Edit row 21."))
    seen(page.locator(".cw-verdict", has_text="edited"))
    click(page.get_by_role("button", name="Open in Browse"))
    seen(page.get_by_text("1 selected").or_(page.get_by_text("0 selected")))
    address(page, "/browse", "row=21")


def test_what_flipped_between_two_runs(page: Any, url: str) -> None:
    open_at(page, url, "/behaviour?b_view=Run+against+run&b_a=before-s0&b_b=after-s0")
    seen(page.get_by_text("Nothing is worse beyond chance"))
    seen(page.get_by_text("Lost (3)"))
    settle(page)
    open_at(page, page.url, "&probe=refusal-0")
    titles = ["passed · A before-s0", "FAILED · B after-s0"]
    until(lambda: page.locator(".ca-answer .ca-role").all_text_contents() == titles)
    assert page.evaluate("document.querySelectorAll('.ca-answers script').length") == 0


def test_a_blind_choice_is_counted_and_goes_on_after_a_reload(page: Any, url: str, store: Store) -> None:
    pairing = votes.pairing(store.path / "runs" / "before-s0", store.path / "runs" / "after-s0")
    order = [p.id for p in pairing.order("ann")]
    open_at(page, url, BLIND)
    seen(page.get_by_text("pair 1 of 5"))
    page.evaluate("keys => { for (const key of keys) "      # no gap at all between the presses
                  "document.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})) }", ["1", "0", "2"])
    seen(page.get_by_text("all saved"))
    events = until(lambda: len(e := votes.read(store.path, pairing)) == 3 and e)
    assert [(e["probe"], e["vote"]) for e in events] == list(zip(order, ("left", "tie", "right"), strict=False))
    assert {e["actor"] for e in events} == {"ann"}
    page.keyboard.press("z")
    until(lambda: len(votes.standing(votes.read(store.path, pairing), "ann")) == 2)
    again(page)                       # in the middle
    seen(page.get_by_text("pair 3 of 5"))
    seen(page.get_by_text("2 of 5 voted"))
    assert "before-s0" not in text(page.locator(".ca-answers")) and page.evaluate("window.pwned") is None
    for key in ("ArrowLeft", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    seen(page.get_by_text("Nothing is left to choose."))
    seen(page.get_by_text("5 of 5 voted"))
    click(page.get_by_role("button", name="Show the result"))
    click(page.get_by_role("button", name="Reveal the sides"))
    seen(page.get_by_text("5 of 5 pairs voted on"))
    held = votes.standing(votes.read(store.path, pairing), "ann")
    found = votes.outcome(pairing, held)
    assert [e["vote"] for e in votes.read(store.path, pairing) if e.get("vote")][-3:] == ["left", "right", "tie"]
    seen(page.get_by_text(f"{found['ties']} ties"))
    assert found["voted"] == 5 and found["ties"] == 2
    again(page)                       # the sides stay revealed
    seen(page.get_by_text("5 of 5 pairs voted on"))
