"""Training: isolation, resume after a kill, stopping, faults, bases by folder, LoRA, the verb."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from curation.train import base as bases
from curation.train import cli, runs, sft, tiny
from curation.train import loss as lossy
from curation.train import plan as plans
from curation.train import settings as setting
from curation.train.isolate import isolate
from curation.train.runs import Recipe

from curation.errors import CurationError

from .training import pair, save_base, write_set

NAMES = ("Ana", "Bo", "Dina", "Ed", "Goran", "Hana", "Igor", "Lena", "Marco", "Nadia")
COLOURS = ("red", "blue", "green", "white")


def conversations(n: int, seed: int) -> list[list[dict[str, str]]]:
    chance = random.Random(seed)
    made = []
    for _ in range(n):
        name, colour = chance.choice(NAMES), chance.choice(COLOURS)
        made.append(pair(f"{name} likes {colour}. " * chance.randint(1, 3) + "Which colour?", f"It is {colour}."))
    return made


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "vetted" / "1"
    write_set(folder, conversations(60, 0), conversations(8, 1000), family="colour")
    manifest = {"hash": "ab" * 16, "name": "colours", "spec_hash": "cd" * 16, "counts": {}, "gate": "passed"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def prepared(set_dir: Path) -> bases.Prepared:
    return bases.prepare(Recipe(set=str(set_dir)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, prepared: bases.Prepared) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), prepared.tokenizer)


def start(run_dir: Path, set_dir: Path, **asked: Any) -> Recipe:
    recipe = Recipe(set=str(set_dir), **({"batch": 4, "log_every": 2, "save_every": 4} | asked))
    runs.create(run_dir, recipe)
    return recipe


def weights(run_dir: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run_dir / "model" / "model.safetensors")


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---- what the model sees


@pytest.mark.parametrize("fused", [False, True], ids=["", "compiled"])
def test_a_tiled_head_gives_the_losses_and_gradients_of_the_whole_one(
    prepared: bases.Prepared, base: Path, monkeypatch: pytest.MonkeyPatch, fused: bool
) -> None:
    monkeypatch.setitem(lossy._passes, "tile", lossy._tile)  # put back behind the test
    lossy.fuse(fused, **({"backend": "aot_eager"} if fused else {}))
    batch = plans.lay(prepared.train, np.array([3, 5, 9]))
    seen = []
    for tile in (1 << 26, 5 * len(prepared.tokenizer)):  # whole; five positions a tile
        monkeypatch.setattr(lossy, "TILE", tile)
        model = transformers.AutoModelForCausalLM.from_pretrained(base)
        isolate(model)
        losses, owner, hit = lossy.token_losses(model, batch)
        (losses.sum() / 7).backward()
        seen.append((losses.detach(), owner, hit, {name: p.grad for name, p in model.named_parameters()}))
    whole, tiled = seen
    assert len(whole[0]) > 10
    assert torch.allclose(whole[0], tiled[0], atol=1e-6) and torch.equal(whole[2], tiled[2])
    for name, grad in whole[3].items():
        assert torch.allclose(grad, tiled[3][name], atol=1e-6), name


@pytest.mark.parametrize("order", [slice(0, 6), [0, 40, 3]], ids=["padded", "one by one"])
def test_rows_laid_end_to_end_do_not_see_each_other(prepared: bases.Prepared, base: Path, order: Any) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    lengths = prepared.train.lengths
    rows = np.argsort(lengths)[order] if isinstance(order, slice) else np.argsort(lengths)[[0, 1, 2, -1]]
    batch = plans.lay(prepared.train, rows)
    names = ("input_ids", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
    alone = []
    for i in rows:
        ids = prepared.train.ids[prepared.train.offsets[i] : prepared.train.offsets[i + 1]]
        alone.append(model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0])
    isolate(model)
    packed = model(**{name: batch[name] for name in names}).logits[0]
    assert torch.allclose(packed, torch.cat(alone), atol=1e-5)
    assert batch["input_ids"].shape[1] == int(lengths[rows].sum())
    # the mask that other architectures get says the same; without positions rows would run together
    sft.unisolate(model)
    plain = {"input_ids": batch["input_ids"], "use_cache": False}  # a cache switches the mask off
    masked = model(**plain, position_ids=batch["position_ids"]).logits[0]
    assert torch.allclose(masked, torch.cat(alone), atol=1e-5)
    assert not torch.allclose(model(**plain).logits[0], torch.cat(alone), atol=1e-2)


def test_the_loss_is_that_of_the_labelled_tokens(prepared: bases.Prepared) -> None:
    model = tiny.make_model(prepared.tokenizer, seed=0)
    batch = plans.lay(prepared.train, np.array([3, 5]))
    expected = []
    for i in (3, 5):
        span = slice(prepared.train.offsets[i], prepared.train.offsets[i + 1])
        ids = torch.from_numpy(prepared.train.ids[span].astype(np.int64))[None]
        labels = torch.from_numpy(prepared.train.labels[span].astype(np.int64))[None]
        expected.append(model(input_ids=ids, labels=labels).loss.item())
    isolate(model)
    losses, owner, hit = lossy.token_losses(model, batch)
    assert lossy.row_means(losses, owner, 2).tolist() == pytest.approx(expected, abs=1e-5)
    assert hit.shape == losses.shape and bool((losses[hit] < np.log(len(prepared.tokenizer))).all())
    means, _ = lossy.losses_of(model, prepared.train)
    assert means[[3, 5]].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_order_depends_on_seed_and_index_alone(set_dir: Path, prepared: bases.Prepared) -> None:
    recipe = Recipe(set=str(set_dir), steps=40, batch=16)
    settings = setting.resolve(recipe, prepared, parameters=10**6, trainable=10**6, hidden=128, layers=4)
    plan = plans.Plan(prepared.train, prepared.tokenizer, settings, seed=3)
    forward = [plan.members(i).tolist() for i in range(40)]
    again = plans.Plan(prepared.train, prepared.tokenizer, settings, seed=3)
    assert [again.members(i).tolist() for i in reversed(range(40))] == forward[::-1]
    first_epoch = [i for batch in forward for i in batch][: len(prepared.train)]
    assert sorted(first_epoch) == list(range(len(prepared.train)))
    assert plans.Plan(prepared.train, prepared.tokenizer, settings, seed=4).members(0).tolist() != forward[0]
    assert torch.equal(plan[1]["input_ids"], again[1]["input_ids"])


def test_packs_visit_every_row_once_an_epoch(set_dir: Path, prepared: bases.Prepared, base: Path) -> None:
    recipe = Recipe(set=str(set_dir), base=str(base), epochs=2, batch=8)
    settings = setting.resolve(recipe, prepared, parameters=10**5, trainable=10**5, hidden=32, layers=2)
    plan = plans.Plan(prepared.train, prepared.tokenizer, settings, seed=0)
    packs = [plan.members(i) for i in range(len(plan))]
    assert all(prepared.train.lengths[pack].sum() <= settings["capacity"][0] for pack in packs)
    half = len(packs) // 2
    for epoch in (packs[:half], packs[half : 2 * half]):
        assert sorted(np.concatenate(epoch).tolist()) == list(range(len(prepared.train)))


def test_copy_practice_says_the_same_twice(prepared: bases.Prepared) -> None:
    ids, labels = tiny.copy_practice(prepared.tokenizer, seed=0, step=5, rows=3, length=7)
    assert (ids[:, :7] == ids[:, 8:15]).all() and (labels[:, :8] == -100).all() and (labels[:, 8:] == ids[:, 8:]).all()
    again = tiny.copy_practice(prepared.tokenizer, seed=0, step=5, rows=3, length=7)[0]
    other = tiny.copy_practice(prepared.tokenizer, seed=0, step=6, rows=3, length=7)[0]
    assert (ids == again).all() and not (ids == other).all()


# ---- a run


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, set_dir: Path, prepared: bases.Prepared) -> Path:
    """A run of 12 steps that nothing interrupted."""
    run_dir = tmp_path_factory.mktemp("runs") / "straight"
    sft.train_run(run_dir, start(run_dir, set_dir, steps=12), prepared)
    return run_dir


def test_a_run_leaves_a_model_a_card_and_row_losses(straight: Path, set_dir: Path, prepared: bases.Prepared) -> None:
    card = runs.read_json(straight / "run.json")
    assert card["state"] == "done" and card["label"] == tiny.LABEL and card["steps"] == 12
    assert card["set"]["hash"] == "ab" * 16 and card["tokens_fingerprint"] == prepared.report["fingerprint"]
    assert all(entry["reason"] for entry in card["settings"].values())
    assert card["held_out"]["rows"] == 8 and list(card["held_out"]["families"]) == ["colour"]
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert set(lines[0]) == {"step", "loss", "lr", "grad_norm", "tokens", "tokens_per_s", "seconds"}
    assert lines[-1]["tokens"] == card["tokens"] and lines[-1]["loss"] < lines[0]["loss"]
    losses = pq.read_table(straight / "row_losses.parquet")
    assert losses.column_names[:6] == ["row", "uid", "losses", "hits", "train_loss_first", "train_loss_last"]
    seen = sum(x is not None for x in losses["train_loss_first"].to_pylist())
    assert losses.num_rows == 60 and seen == 48  # 12 steps of 4 rows, none twice in an epoch
    tokenizer = transformers.AutoTokenizer.from_pretrained(straight / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(straight / "model")
    assert tokenizer.chat_template == tiny.TEMPLATE
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(tiny.END)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Which colour?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**prompt, max_new_tokens=4, do_sample=False).shape[1] > prompt["input_ids"].shape[1]


def test_killed_at_any_moment_it_goes_on_to_the_same_weights(straight: Path, tmp_path: Path, set_dir: Path) -> None:
    run_dir = tmp_path / "killed"
    start(run_dir, set_dir, steps=12, seed=0)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "curation.train.sft", str(run_dir)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    for _ in range(18000):  # until the first checkpoint is there, three minutes at most
        if runs.checkpoints(run_dir) or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    done = runs.checkpoints(run_dir)
    assert done and runs.read_state(run_dir)["state"] == "killed"
    # what a kill inside a save leaves behind is not taken for a checkpoint
    unfinished = run_dir / "checkpoints" / "unfinished" / "checkpoint-8"
    unfinished.mkdir(parents=True, exist_ok=True)
    (unfinished / "model.safetensors").write_bytes(b"half")
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "lo')
    (card,) = sft.train_runs([run_dir], resume=True)
    assert card["state"] == "done" and card["steps"] == 12
    assert equal(weights(run_dir), weights(straight))
    keys = ("step", "loss", "lr", "tokens")
    both = [[[json.loads(li)[k] for k in keys] for li in (d / "metrics.jsonl").read_text().splitlines()]
            for d in (run_dir, straight)]  # fmt: skip
    assert both[0] == both[1]
    assert pq.read_table(run_dir / "row_losses.parquet") == pq.read_table(straight / "row_losses.parquet")


def test_sigterm_saves_and_stops(straight: Path, tmp_path: Path, set_dir: Path, prepared: bases.Prepared) -> None:
    run_dir = tmp_path / "stopped"
    recipe = start(run_dir, set_dir, steps=12)

    def at_step_six(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    card = sft.train_run(run_dir, recipe, prepared, say=at_step_six)
    assert card["state"] == "stopped" and 6 <= card["steps"] <= 7
    assert runs.read_state(run_dir)["state"] == "stopped" and runs.checkpoints(run_dir)[-1][0] == card["steps"]
    assert not (run_dir / "model").exists()
    (card,) = sft.train_runs([run_dir], resume=True)
    assert card["state"] == "done" and equal(weights(run_dir), weights(straight))


def test_another_seed_gives_other_weights(straight: Path, tmp_path: Path, set_dir: Path, prepared: bases.Prepared) -> None:
    run_dir = tmp_path / "other"
    sft.train_run(run_dir, start(run_dir, set_dir, steps=2, seed=1), prepared)
    assert not equal(weights(run_dir), weights(straight))


def test_changed_tokens_are_refused_on_resume(tmp_path: Path, set_dir: Path, prepared: bases.Prepared) -> None:
    run_dir = tmp_path / "run"
    recipe = start(run_dir, set_dir, steps=2)
    (run_dir / "compiled").mkdir()
    (run_dir / "compiled" / "compile.json").write_text('{"fingerprint": "0123456789abcdef"}')
    with pytest.raises(CurationError, match=r"started on other tokens \(0123456789ab"):
        sft.train_run(run_dir, recipe, prepared, resume=True)
    assert runs.read_state(run_dir)["state"] == "failed"


def test_a_loss_that_is_no_number_names_its_row(
    tmp_path: Path, set_dir: Path, prepared: bases.Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    recipe = start(run_dir, set_dir, steps=12)
    whole, calls = sft.token_losses, [0]
    blamed: list[int] = []

    def spoiled(model: Any, batch: dict[str, Any]) -> Any:
        losses, owner, hit = whole(model, batch)
        calls[0] += 1
        if calls[0] == 6:
            blamed.append(int(batch["members"][2]))
            losses = torch.where(owner == 2, torch.nan, losses)
        return losses, owner, hit

    monkeypatch.setattr(sft, "token_losses", spoiled)
    with pytest.raises(CurationError, match="the loss of step 6 is not a number") as error:
        sft.train_run(run_dir, recipe, prepared)
    assert error.value.what.endswith(f"rows of that batch: {int(prepared.train.row[blamed[0]])}")
    assert [step for step, _ in runs.checkpoints(run_dir)] == [4]
    assert runs.read_state(run_dir)["state"] == "failed"


@pytest.mark.parametrize(
    "said",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),  # torch.save, seen on a full disk
    ],
    ids=["system", "torch"],
)
def test_a_full_disk_is_said_and_the_earlier_checkpoint_stays(
    tmp_path: Path, set_dir: Path, prepared: bases.Prepared, monkeypatch: pytest.MonkeyPatch, said: Exception
) -> None:
    run_dir = tmp_path / "run"
    recipe = start(run_dir, set_dir, steps=12)
    save, calls = torch.save, [0]

    def full(*args: Any, **rest: Any) -> None:
        calls[0] += 1
        if runs.checkpoints(run_dir):
            raise said
        save(*args, **rest)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CurationError, match=r"the checkpoint of step 8 could not be written: the disk of .* is full"):
        sft.train_run(run_dir, recipe, prepared)
    assert [step for step, _ in runs.checkpoints(run_dir)] == [4]
    assert not (run_dir / "checkpoints" / "unfinished").exists()


# ---- other bases


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_base_from_a_folder(tmp_path: Path, set_dir: Path, base: Path, lora: bool) -> None:
    if lora:
        pytest.importorskip("peft")
    run_dir = tmp_path / "run"
    start(run_dir, set_dir, base=str(base), lora=lora, steps=6, lr=1e-2, save_every=3)
    (card,) = sft.train_runs([run_dir])
    assert card["label"] == "" and card["method"] == ("lora" if lora else "full")
    assert card["settings"]["layout"]["value"] == "packs"
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.1
    before = transformers.AutoModelForCausalLM.from_pretrained(base).state_dict()
    after = transformers.AutoModelForCausalLM.from_pretrained(run_dir / "model").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "model.layers.0.self_attn.q_proj.weight" in changed
    assert ("model.embed_tokens.weight" in changed) != lora
    assert (run_dir / "adapter" / "adapter_model.safetensors").exists() == lora
    eot = prepared_eot(run_dir)
    stops = transformers.GenerationConfig.from_pretrained(run_dir / "model").eos_token_id
    assert eot in (stops if isinstance(stops, list) else [stops])


def test_the_adapter_over_its_base_is_the_model(tmp_path: Path, set_dir: Path, base: Path) -> None:
    peft = pytest.importorskip("peft")
    run_dir = tmp_path / "run"
    start(run_dir, set_dir, base=str(base), lora=True, steps=4, lr=1e-2)
    sft.train_runs([run_dir])
    whole = transformers.AutoModelForCausalLM.from_pretrained(run_dir / "model").eval()
    below = transformers.AutoModelForCausalLM.from_pretrained(base)
    adapted = peft.PeftModel.from_pretrained(below, run_dir / "adapter").eval()
    ids = torch.arange(40)[None]
    assert torch.allclose(whole(input_ids=ids).logits, adapted(input_ids=ids).logits, atol=1e-5)
    assert transformers.AutoTokenizer.from_pretrained(run_dir / "adapter").chat_template == tiny.TEMPLATE


def test_qlora_trains_over_four_bits_and_saves_a_model_that_needs_none(
    tmp_path: Path, set_dir: Path, prepared: bases.Prepared
) -> None:
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("peft")
    wide = save_base(tmp_path / "base", prepared.tokenizer, hidden=64)
    run_dir = tmp_path / "run"
    recipe = start(run_dir, set_dir, base=str(wide), lora=True, qlora=True, steps=8, lr=1e-2, log_every=1, save_every=4)
    kept = bases.load_model(recipe, prepared.tokenizer, seed=0)
    assert type(kept.get_decoder().layers[0].mlp.up_proj.base_layer.weight).__name__ == "Params4bit"
    plain = transformers.AutoModelForCausalLM.from_pretrained(wide)
    adapter = sum(p.numel() for p in kept.parameters() if p.requires_grad)
    size = bases.size_of(kept)
    assert size["trainable"] == adapter and size["parameters"] == adapter + sum(p.numel() for p in plain.parameters())
    card = sft.train_runs([run_dir])[0]
    lines = runs.read_metrics(run_dir)
    assert card["method"] == "qlora" and lines[-1]["loss"] < lines[0]["loss"] - 0.1
    model = transformers.AutoModelForCausalLM.from_pretrained(run_dir / "model")
    assert getattr(model.config, "quantization_config", None) is None
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    before, after = plain.state_dict(), model.state_dict()
    assert before.keys() == after.keys() and not torch.equal(*(d["model.layers.0.mlp.up_proj.weight"] for d in (before, after)))
    assert torch.equal(*(d["model.embed_tokens.weight"] for d in (before, after))), "not the rounded weights"
    isolate(model)
    means, counts = lossy.losses_of(model.eval(), prepared.held)
    assert np.average(means, weights=counts) == pytest.approx(card["held_out"]["loss"], abs=0.1), "four bits differ a little"


@pytest.mark.parametrize(
    ("flag", "package", "extra"), [("--qlora", "bitsandbytes", "qlora"), ("--tensorboard", "tensorboard", "board")]
)
def test_what_an_option_needs_is_said_before_anything_else(
    set_dir: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, package: str, extra: str
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    error = call(set_dir, "--base", base, flag, "--out", tmp_path / "r").exception
    assert isinstance(error, CurationError) and package in error.what and f"[{extra}]" in error.hint
    assert not (tmp_path / "r").exists()


def test_tensorboard_holds_what_the_metrics_say(tmp_path: Path, set_dir: Path, prepared: bases.Prepared) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir = tmp_path / "run"
    recipe = start(run_dir, set_dir, steps=8, tensorboard=True, eval_every=4)

    def fail(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sft.train_run(run_dir, recipe, prepared, say=fail)
    sft.train_run(run_dir, recipe, prepared, resume=True)  # from step 4: what was written of step 6 is taken back
    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    lines = runs.read_metrics(run_dir)
    assert sum("held_out_loss" in line for line in lines) == 2
    for name in ("loss", "lr", "grad_norm", "tokens_per_s", "held_out_loss"):
        expected = [(line["step"], np.float32(line[name])) for line in lines if name in line]
        assert [(event.step, np.float32(event.value)) for event in events.Scalars(name)] == expected, name


def prepared_eot(run_dir: Path) -> int:
    return int(transformers.AutoTokenizer.from_pretrained(run_dir / "model").convert_tokens_to_ids(tiny.END))


def test_lora_resumes_to_the_same_weights(tmp_path: Path, set_dir: Path, base: Path) -> None:
    pytest.importorskip("peft")
    asked: dict[str, Any] = {"base": str(base), "lora": True, "steps": 6, "save_every": 2}
    straight, halved = tmp_path / "straight", tmp_path / "halved"
    start(straight, set_dir, **asked)
    sft.train_runs([straight])
    start(halved, set_dir, **asked)

    def fail(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sft.train_runs([halved], say=fail)
    assert runs.checkpoints(halved)
    sft.train_runs([halved], resume=True)
    assert equal(weights(halved), weights(straight))


def test_a_base_that_is_not_there_is_said_at_once(tmp_path: Path, set_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run_dir = tmp_path / "run"
    start(run_dir, set_dir, base=str(tmp_path / "no-such-base"), steps=2)
    with pytest.raises(CurationError, match=r"no-such-base' cannot be loaded"):
        sft.train_runs([run_dir])


def test_too_little_memory_is_said_before_training(set_dir: Path, prepared: bases.Prepared) -> None:
    with pytest.raises(CurationError, match=r"training 70.00 G parameters needs about .* GB are free") as error:
        setting.resolve(
            Recipe(set=str(set_dir), base="big"), prepared, parameters=70 * 10**9, trainable=70 * 10**9, hidden=8192, layers=80
        )
    assert "--lora" in error.value.hint


# ---- the verb


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.train, [str(a) for a in arguments], catch_exceptions=True)


def test_dry_run_and_show_mask_train_nothing(set_dir: Path) -> None:
    dry = call(set_dir, "--dry-run", "--json", "--max-length", 60)
    plan = json.loads(dry.stdout)
    assert plan["splits"]["train"]["rows"] == 60 and 0 < plan["splits"]["train"]["supervised_share"] < 1
    assert plan["splits"]["train"]["used"] + len([e for e in plan["left_out"] if e["split"] == "train"]) == 60
    assert plan["seconds"] > 0 and plan["memory_gb"] > 0
    shown = call(set_dir, "--show-mask", 2).stdout
    assert shown.count("⟦It is ") == 2 and shown.count("<|im_end|>⟧") == 2
    assert not (set_dir.parents[1] / "runs").exists()


def test_several_seeds_in_one_process_and_their_folders(set_dir: Path) -> None:
    result = call(set_dir.parents[1], "--seeds", "0-1", "--steps", 2, "--batch", 2, "--json", "--log-every", 1)
    assert result.exit_code == 0, result.output
    cards = json.loads(result.stdout)
    assert [card["run"] for card in cards] == ["vetted-1-tiny-s0", "vetted-1-tiny-s1"]
    assert cards[0]["final_loss"] != cards[1]["final_loss"]
    folder = set_dir.parents[1] / "runs"
    assert sorted(path.name for path in folder.iterdir()) == ["vetted-1-tiny-s0", "vetted-1-tiny-s1"]
    again = call(set_dir.parents[1], "--seeds", "0-1", "--steps", 2)
    assert isinstance(again.exception, CurationError) and "already holds a run (done)" in again.exception.what
    assert call(set_dir.parents[1], "--seeds", "0-1", "--resume", "--json").stdout == result.stdout


def test_bad_usage_is_said(set_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "something").write_text("here")
    for arguments, message in (
        ((set_dir, "--steps", 2, "--epochs", 1), "both given"),
        ((set_dir, "--lora"), "--lora needs a pretrained base"),
        ((tmp_path, "--steps", 2), "neither a set"),
        ((set_dir, "--out", tmp_path), "is not a run folder"),
        ((set_dir, "--max-length", 100000, "--out", tmp_path / "r"), "this base takes 8 to 512 tokens"),
    ):
        error = call(*arguments).exception
        assert isinstance(error, CurationError) and message in error.what, (arguments, error)
    assert call(set_dir, "--seeds", "1,1").exit_code == 2
