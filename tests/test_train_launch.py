"""Several processes, the background, and texts for other launchers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from curation.train import base as bases
from curation.train import cli, launch, runs, runs_cli, sft
from curation.train import plan as plans
from curation.train import settings as setting
from curation.train.runs import Recipe
from safetensors.torch import load_file

from curation.errors import CurationError

from .training import echo_base, echoes, write_set


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("folder") / "vetted" / "1", echoes(60), echoes(8, start=100))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, set_dir: Path) -> Path:
    return echo_base(tmp_path_factory.mktemp("base"), set_dir)


@pytest.fixture(scope="module")
def alone(set_dir: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    runs.create(run_dir, recipe_of(set_dir, base))
    sft.train_runs([run_dir])
    return run_dir


def recipe_of(set_dir: Path, base: Path, **asked: Any) -> Recipe:
    asked = {"steps": 8, "batch": 12, "lr": 1e-3, "log_every": 2, "save_every": 4, "eval_every": 4} | asked
    return Recipe(set=str(set_dir), base=str(base), **asked)


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "model" / "model.safetensors")


@pytest.mark.parametrize("shard", [False, True], ids=["ddp", "fsdp2"])
def test_two_processes_give_the_weights_of_one(
    set_dir: Path, base: Path, alone: Path, tmp_path: Path, shard: bool
) -> None:
    run_dir = tmp_path / "two"
    runs.create(run_dir, recipe_of(set_dir, base, devices=2, shard=shard))
    card = launch.run([run_dir], 2)[0]
    one, two = weights(alone), weights(run_dir)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], atol=1e-5), name
    lines, reference = runs.read_metrics(run_dir), runs.read_metrics(alone)
    assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in reference], abs=1e-5)
    assert [line["tokens"] for line in lines] == [line["tokens"] for line in reference]
    assert runs.looks(run_dir) == [(pytest.approx(loss, abs=1e-4), step) for loss, step in runs.looks(alone)]
    assert card["devices"] == 2 and card["state"] == "done"
    visits = [sorted(map(len, pq.read_table(d / "row_losses.parquet")["losses"].to_pylist())) for d in (alone, run_dir)]
    assert visits[0] == visits[1]


CUT = """
import os, sys
from curation.train import sft

whole = sft.Watch.on_step_end

def cut(self, args, state, control, **rest):
    if state.global_step == 5:
        os._exit(9)  # as a kill does: nothing is closed, nothing is written
    whole(self, args, state, control, **rest)

sft.Watch.on_step_end = cut
sft.main(sys.argv[1:])
"""


@pytest.mark.parametrize("shard", [False, True], ids=["ddp", "fsdp2"])
def test_several_processes_that_were_killed_go_on_to_the_same_weights(
    set_dir: Path, base: Path, alone: Path, tmp_path: Path, shard: bool
) -> None:
    run_dir, script = tmp_path / "cut", tmp_path / "cut.py"
    script.write_text(CUT)
    runs.create(run_dir, recipe_of(set_dir, base, devices=2, shard=shard))
    several = launch.command([run_dir], 2)
    several[several.index("-m", several.index("--standalone")) :] = [str(script), str(run_dir)]
    assert subprocess.run(several, check=False, capture_output=True).returncode != 0
    assert [step for step, _ in runs.checkpoints(run_dir)] == [4]
    launch.run([run_dir], 2)
    assert runs.read_metrics(run_dir)[-1]["step"] == 8
    for name, weight in weights(alone).items():
        assert torch.allclose(weight, weights(run_dir)[name], atol=1e-5), name


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_step_holds_the_same_rows_whatever_shares_it(set_dir: Path, base: Path, world: int, parts: int) -> None:
    recipe = recipe_of(set_dir, base)
    prepared = bases.prepare(recipe)
    settings = setting.resolve(recipe, prepared, parameters=10**5, trainable=10**5, hidden=32, layers=2)
    whole = plans.Plan(prepared.train, prepared.tokenizer, settings, seed=0)
    shared = [
        plans.Plan(prepared.train, prepared.tokenizer, settings, seed=0, parts=parts, rank=r, world=world) for r in range(world)
    ]
    for step in range(whole.steps):
        expected = sorted(int(i) for k in range(whole.packs) for i in whole.pack(step * whole.packs + k))
        seen: list[int] = []
        labels = 0
        for plan in shared:
            for k in range(plan.accumulation):
                seen += plan.members(step * plan.accumulation + k).tolist()
                labels += int((plan[step * plan.accumulation + k]["labels"] != -100).sum())
        assert sorted(seen) == expected
        assert labels == whole.labels_of(step)


def test_memory_that_runs_out_divides_the_packs_and_changes_nothing(
    set_dir: Path, base: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, said = sft.token_losses, []
    longest = max(len(plans.lay(*x)["input_ids"][0]) for x in [(bases.prepare(recipe_of(set_dir, base)).train, [0, 1])])

    def small_memory(model: Any, batch: dict[str, Any]) -> Any:
        if model.training and batch["input_ids"].shape[1] > 4 * longest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return whole(model, batch)

    monkeypatch.setattr(sft, "token_losses", small_memory)
    run_dir = tmp_path / "small"
    runs.create(run_dir, recipe_of(set_dir, base))
    card = sft.train_runs([run_dir], say=lambda event: said.append(event) if event["event"] == "memory" else None)[0]
    assert said and card["parts"] > 1
    for name, weight in weights(alone).items():
        assert torch.allclose(weight, weights(run_dir)[name], atol=1e-5), name


def test_memory_that_never_suffices_is_said(
    set_dir: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(model: Any, batch: dict[str, Any]) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(sft, "token_losses", none)
    run_dir = tmp_path / "none"
    runs.create(run_dir, recipe_of(set_dir, base))
    with pytest.raises(CurationError, match=r"does not hold a pack: CUDA out of memory"):
        sft.train_runs([run_dir])
    assert runs.read_state(run_dir)["state"] == "failed"


def test_a_run_stops_when_nothing_gets_better_and_keeps_its_best(set_dir: Path, base: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "early"
    runs.create(run_dir, recipe_of(set_dir, base, steps=400, lr=0.3, eval_every=2, patience=3))
    card = sft.train_runs([run_dir])[0]
    looks = runs.looks(run_dir)
    assert card["stopped_early"] and card["state"] == "done" and card["steps"] < 400
    assert card["best_step"] == min(looks)[1] < card["steps"]
    assert card["held_out"]["loss"] == pytest.approx(min(looks)[0], abs=1e-3)
    assert (run_dir / "loss.png").read_bytes().startswith(b"\x89PNG")


# ---- in the background


def test_start_attach_stop_resume(set_dir: Path, tmp_path: Path) -> None:
    folder = set_dir.parents[1]
    (folder / "rows").mkdir(exist_ok=True)
    run_dir = folder / "runs" / "background"
    shutil.rmtree(run_dir, ignore_errors=True)
    talk = CliRunner()
    started = talk.invoke(
        cli.train, [str(set_dir), "--out", str(run_dir), "--steps", "2000", "--log-every", "1", "--detach"]
    )
    assert started.exit_code == 0, started.output
    ends = time.monotonic() + 90
    while not runs.read_metrics(run_dir):
        assert time.monotonic() < ends, (run_dir / "log").read_text()
        time.sleep(0.1)
    stopped = talk.invoke(runs_cli.runs_, ["stop", str(run_dir)])
    assert stopped.exit_code == 0, stopped.output
    step = runs.checkpoints(run_dir)[-1][0]
    assert f"stopped at step {step} of 2000" in stopped.output
    listed = json.loads(talk.invoke(runs_cli.runs_, ["list", str(folder), "--json"]).output)
    assert [(r["run"], r["state"], r["step"]) for r in listed] == [("background", "stopped", step)]
    recipe = json.loads((run_dir / "recipe.json").read_text())
    runs.write_json(run_dir / "recipe.json", {**recipe, "steps": step + 2})
    assert talk.invoke(runs_cli.runs_, ["resume", str(run_dir), "--detach"]).exit_code == 0
    ends = time.monotonic() + 90
    while runs.read_state(run_dir)["state"] != "done":
        assert time.monotonic() < ends, (run_dir / "log").read_text()
        time.sleep(0.1)
    followed = talk.invoke(runs_cli.runs_, ["attach", str(run_dir)])
    assert followed.exit_code == 0 and f"done at step {step + 2}" in followed.output
    assert talk.invoke(runs_cli.runs_, ["stop", str(run_dir)], catch_exceptions=True).exit_code != 0


# ---- texts for others


def test_launcher_texts(set_dir: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "a run; rm -rf x"
    recipe = Recipe(set=str(set_dir), base="org/model", lora=True, devices=4, steps=50, seed=7, shard=True)
    batch = launch.emit("slurm", run_dir, recipe)["train.sbatch"]
    assert "--nproc-per-node=4" in batch and f"'{run_dir}'" in batch and "--gpus=4" in batch
    subprocess.run(["bash", "-n"], input=batch, text=True, check=True)
    task = yaml.safe_load(launch.emit("skypilot", run_dir, recipe)["train.sky.yaml"])
    assert task["resources"]["accelerators"] == "H100:4" and task["file_mounts"] == {"/set": str(set_dir)}
    assert "/base" not in task["file_mounts"] and task["resources"]["use_spot"] is False
    local = yaml.safe_load(launch.emit("skypilot", run_dir, Recipe(set=str(set_dir), base=str(tmp_path)))["train.sky.yaml"])
    assert local["file_mounts"]["/base"] == str(tmp_path) and "--base /base" in local["run"]
    assert "--no-compile" in launch._flags(Recipe(set=str(set_dir), base="org/model", compile=False))
    flags = task["run"].split()
    assert flags[flags.index("--devices") + 1] == "4" and "--lora" in flags and flags[flags.index("--seed") + 1] == "7"
    parsed = cli.train.make_context("train", [str(set_dir), *launch._flags(recipe)])
    assert parsed.params["steps"] == 50 and parsed.params["shard"] is True


@pytest.mark.parametrize("kind", ["trl", "axolotl", "llamafactory"])
def test_configs_for_other_trainers_name_the_set_and_the_base(kind: str, tmp_path: Path) -> None:
    from curation.export import recipes
    from curation.spec import Spec

    for name, text in recipes(Spec(name="my set"), "messages").items():
        (tmp_path / name).write_text(text)
    full = Recipe(set=str(tmp_path), base="org/model", seed=7, epochs=2.0, max_length=1024)
    ((_, text),) = launch.emit(kind, tmp_path / "run", full).items()
    config = yaml.safe_load(text)
    assert "org/model" in config.values() and 1024 in config.values() and 7 in config.values()
    assert str(tmp_path) in text and "SET-YOUR" not in text and "lora_alpha" not in config
    ((_, text),) = launch.emit(kind, tmp_path / "run", Recipe(set=str(tmp_path), base="org/model", lora=True)).items()
    assert "lora" in text
    with pytest.raises(CurationError, match="no other can start"):
        launch.emit(kind, tmp_path / "run", Recipe(set=str(tmp_path)))


def test_emit_writes_into_the_run_folder_and_trains_nothing(set_dir: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "r"
    done = CliRunner().invoke(cli.train, [str(set_dir), "--out", str(run_dir), "--emit", "slurm"])
    assert done.exit_code == 0, done.output
    assert (run_dir / "train.sbatch").exists() and runs.read_state(run_dir)["state"] == "new"


@pytest.mark.parametrize("flags", [["--devices", "2"], ["--shard"], ["--compile"], ["--qlora"]])
def test_what_tiny_cannot_do_is_said(set_dir: Path, tmp_path: Path, flags: list[str]) -> None:
    done = CliRunner().invoke(cli.train, [str(set_dir), "--out", str(tmp_path / "r"), *flags])
    assert isinstance(done.exception, CurationError) and not (tmp_path / "r").exists()


def test_the_module_trains_a_prepared_folder(set_dir: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "r"
    runs.create(run_dir, Recipe(set=str(set_dir), steps=2))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    code = subprocess.run([sys.executable, "-m", "curation.train.sft", str(run_dir)], env=environment, check=False).returncode
    assert code == 0 and runs.read_state(run_dir)["state"] == "done"
