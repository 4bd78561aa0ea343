"""The Train page without a browser: choices become a command, the plan, runs in every state, samples side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit")

from curation.app.views import train
from curation.train import runs, samples
from curation.train.runs import Recipe

from curation.errors import CurationError

from .app_folder import make_folder
from .test_app_pages import open_app, words

__all__ = ["open_app"]      # a fixture
PLAN: dict[str, Any] = {
    "splits": {"train": {"used": 9, "rows": 10}}, "steps": 12, "epochs": 1.5, "seconds": 240.0, "memory_gb": 0.5,
    "left_out": [{"split": "train", "reason": "too long", "row": 7, "detail": "900 tokens <b>x</b>"}],
    "settings": {"lr": {"value": 0.003, "reason": "from scratch"}},
    "mask": [{"row": 4, "parts": [{"text": "asked <script>", "trained": False}, {"text": "said", "trained": True}]}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "s")
    set_dir = tmp_path / "s" / "vetted" / "1"
    set_dir.mkdir(parents=True)
    (set_dir / "manifest.json").write_text(json.dumps({"counts": {"train": 10}, "gate": "passed"}))
    return tmp_path / "s"


def make_run(folder: Path, name: str, state: str, pid: int = 0) -> Path:
    run = folder / "runs" / name
    runs.create(run, Recipe(set=str(folder / "vetted" / "1")))
    runs.write_json(run / "state.json", {"state": state, "pid": pid, "step": 20, "steps": 40, "why": ""})
    lines = [{"step": s, "loss": 3.0 / s, "lr": 1e-3, "tokens": 9 * s, "tokens_per_s": 50, "seconds": 2.0 * s} for s in (10, 20)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 30, "lo')
    return run


def test_without_a_vetted_set_the_page_says_where_one_comes_from(open_app: Any, tmp_path: Path) -> None:
    make_folder(tmp_path / "s")
    assert "Open the Gate & export page and write one" in words(open_app(tmp_path / "s", "train"))


def test_choices_become_the_command_that_is_shown(open_app: Any, folder: Path) -> None:
    at = open_app(folder, "train")
    assert f"curation train {folder / 'vetted' / '1'} --base tiny" in words(at) and "--eval" not in words(at)
    assert at.toggle(key="train_eval").disabled and "No run yet" in words(at)
    (folder / "vetted" / "1" / "battery.jsonl").write_text("{}")
    at = open_app(folder, "train")
    assert words(at).count("--base tiny --eval") == 1
    at.number_input(key="train_seeds").set_value(4)
    at.number_input(key="train_epochs").set_value(2.0)
    at.number_input(key="train_samples").set_value(0)
    at.get_by_key("train_again").set_value("replace it").run()
    assert "--base tiny --seeds 0-3 --epochs 2 --samples 0 --eval --overwrite" in words(at)


def test_another_base_is_named_by_folder_or_hub_id(open_app: Any, folder: Path, tmp_path: Path) -> None:
    assert "There is no folder" in train.doubt(str(tmp_path / "none")) and train.doubt("org/name") == ""
    assert "not a saved model" in train.doubt(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert train.doubt(str(tmp_path)) == ""
    at = open_app(folder, "train")
    at.selectbox(key="train_base").set_value("another folder or hub id").run()
    at.text_input(key="train_base_name").input("/no/such").run()
    assert "There is no folder" in at.warning[0].value and "--base /no/such" in words(at)
    at.toggle(key="train_lora").set_value(True).run()
    assert "--base /no/such --lora" in words(at)


def test_the_plan_shows_settings_figures_and_what_is_left_out(
    open_app: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "forecast", lambda argv: PLAN)
    at = open_app(folder, "train")
    at.button(key="train_look").click().run()
    said = words(at)
    assert not at.exception and "**9 of 10**" in said and "**4 min**" in said and "**0.5 GB**" in said
    assert "1 train rows: too long; for instance row 7: 900 tokens <b>x</b>" in said
    assert at.dataframe[0].value.values.tolist() == [["lr", "0.003", "from scratch"]]
    card = train.painted(PLAN["mask"][0])
    assert card["turns"][0]["parts"] == [{"t": "asked <script>", "f": []}, {"t": "said", "f": [0]}]
    assert card["family"] == "22 % of it trained"

    def refuse(argv: list[str]) -> dict[str, Any]:
        raise CurationError("there is <b>nothing</b>", "x")

    monkeypatch.setattr(train, "forecast", refuse)
    at.button(key="train_look").click().run()
    assert "This cannot be trained as it is" in words(at) and "there is <b>nothing</b>" in words(at)


def test_runs_are_listed_in_every_state(open_app: Any, folder: Path) -> None:
    for name, state, pid in (("a", "done", 0), ("b", "stopped", 0), ("c", "running", os.getpid()), ("d", "running", 2**22 + 5)):
        make_run(folder, name, state, pid)
    table = train.runs_of(folder).set_index("run")
    assert table["state"].to_dict() == {"a": "done", "b": "stopped", "c": "running", "d": "killed"}
    assert set(table["loss"]) == {0.15} and set(table["tokens/s"]) == {50}
    at = open_app(folder, "train")
    for name, wanted in (("a", "eval"), ("b", "run_resume"), ("c", "run_stop"), ("d", "run_resume")):
        at.selectbox(key="run_shown").set_value(name).run()
        assert not at.exception and wanted in [b.key for b in at.button]
        assert ("curation runs attach" in words(at)) == (name == "c")


def test_samples_stand_side_by_side(open_app: Any, folder: Path) -> None:
    run = make_run(folder, "a", "done")
    for step in range(0, 200, 10):
        samples.append(run, [
            {"step": step, "id": id, "behaviour": "b", "prompt": f"p {id}", "wanted": "w", "output": f"{id} at {step}",
             "stopped": True, "passed": passed}
            for id, passed in (("x", step > 100), ("y", None))])
    frame = train.side_by_side(samples.read(run))
    assert frame["prompt"].tolist() == ["p x", "p y"] and len(frame.columns) == 2 + train.LOOKS
    assert list(frame)[1] == "step 0" and list(frame)[-2] == "step 190" and frame["wanted"].tolist() == ["w", "w"]
    assert frame["step 0"].tolist() == ["✗ x at 0", "y at 0"] and frame["step 190"].tolist() == ["✓ x at 190", "y at 190"]
    assert "Samples on the way" in words(open_app(folder, "train"))


@pytest.mark.parametrize(("seconds", "said"), [(40, "40 s"), (150, "2 min"), (9_000, "2.5 h")])
def test_times_in_words(seconds: float, said: str) -> None:
    assert train.span(seconds) == said


def test_the_forecast_comes_from_the_verb_and_its_error_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], **_: Any) -> Any:
        asked.append(argv)
        return subprocess.CompletedProcess(argv, 0 if len(asked) == 1 else 2, json.dumps(PLAN), "error: no such set\n")

    monkeypatch.setattr(train.subprocess, "run", run)
    train.forecast.clear()
    assert train.forecast(["train", "set one"]) == PLAN
    assert asked[0] == [sys.executable, "-m", "curation.cli", "train", "set one", "--dry-run", "--show-mask", "3", "--json"]
    with pytest.raises(CurationError, match="no such set"):
        train.forecast(["train", "set two"])
