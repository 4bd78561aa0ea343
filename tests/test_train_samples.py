"""Samples on the way: fixed prompts, resumable lines, and training that stays the same to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from curation.train import base as bases
from curation.train import cli, runs, samples, sft
from curation.train.runs import Recipe
from safetensors.torch import load_file

from curation.errors import CurationError
from curation.model import MESSAGES


def turn(i: int) -> list[dict[str, str]]:
    name, colour = ("Ana", "Bo", "Dina", "Ed")[i % 4], ("red", "blue", "green")[i % 3]
    asked, said = f"{name} likes {colour}. Which colour?", f"It is {colour}."
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


def probe(id: str, behaviour: str, text: str) -> dict[str, Any]:
    return {"id": id, "family": "colour", "behaviour": behaviour, "messages": [{"role": "user", "content": text}],
            "answer": "red", "verifiers": [{"id": "answer:label", "kwargs": {"labels": ["red", "blue"]}}]}  # fmt: skip


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "vetted" / "1"
    folder.mkdir(parents=True)
    for split, n, start in (("train", 40, 0), ("validation", 6, 1000)):
        columns = {
            "row": pa.array(range(start, start + n), pa.int64()),
            "uid": pa.array([f"uid-{start + i}" for i in range(n)], pa.string()),
            "family": pa.array(["odd" if i % 2 else "even" for i in range(n)], pa.string()),
            "messages": pa.array([turn(i) for i in range(n)], MESSAGES),
        }
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    manifest = {"hash": "ab" * 16, "name": "c", "spec_hash": "", "counts": {}, "gate": "passed"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def prepared(set_dir: Path) -> bases.Prepared:
    return bases.prepare(Recipe(set=str(set_dir)))


def train(run_dir: Path, set_dir: Path, prepared: bases.Prepared, **asked: Any) -> dict[str, torch.Tensor]:
    recipe = Recipe(set=str(set_dir), **({"batch": 4, "log_every": 2, "save_every": 4, "steps": 12} | asked))
    runs.create(run_dir, recipe)
    card = sft.train_run(run_dir, recipe, prepared)
    return load_file(run_dir / "model" / "model.safetensors") if card["state"] == "done" else {}


def test_prompts_are_the_battery_s_behaviours_in_turn_else_the_held_out_rows_by_family(set_dir: Path, tmp_path: Path) -> None:
    held = samples.pick(set_dir, 3)
    assert [a.behaviour for a in held] == ["even", "odd", "even"] and all(a.probe is None for a in held)
    assert held[0].messages == (turn(0)[0],) and held[0].wanted == "It is red."
    given = [("a1", "label", "one"), ("a2", "label", "two"), ("long", "json", "x" * 2_000), ("b", "json", "three")]
    probes = [probe(*g) for g in given]
    (tmp_path / "battery.jsonl").write_text("".join(json.dumps(p) + "\n" for p in probes))
    assert [a.id for a in samples.pick(tmp_path, 3)] == ["a1", "b", "a2"]
    assert samples.pick(tmp_path, 1)[0].probe is not None
    assert samples.pick(tmp_path / "nothing", 3) == []


def test_training_is_the_same_to_the_bit_with_and_without(tmp_path: Path, set_dir: Path, prepared: bases.Prepared) -> None:
    spoken = train(tmp_path / "with", set_dir, prepared, samples=4, eval_every=4, patience=0)
    silent = train(tmp_path / "without", set_dir, prepared, samples=0, eval_every=4, patience=0)
    assert spoken.keys() == silent.keys() and all(torch.equal(spoken[k], silent[k]) for k in spoken)
    lines = samples.read(tmp_path / "with")
    assert [line["step"] for line in lines] == [0] * 4 + [4] * 4 + [8] * 4 + [12] * 4
    assert {line["prompt"] for line in lines if line["step"] == 0} == {line["prompt"] for line in lines if line["step"] == 12}
    assert not (tmp_path / "without" / samples.FILE).exists()
    keys = ("step", "loss", "lr", "tokens", "held_out_loss")
    told = [[[line.get(k) for k in keys] for line in runs.read_metrics(tmp_path / d)] for d in ("with", "without")]
    assert told[0] == told[1]


def test_lora_speaks_and_stays_the_same_too(tmp_path: Path, set_dir: Path, prepared: bases.Prepared) -> None:
    pytest.importorskip("peft")
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(prepared.tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, eos_token_id=0, bos_token_id=None)  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    prepared.tokenizer.save_pretrained(tmp_path / "base")
    made = bases.prepare(Recipe(set=str(set_dir), base=str(tmp_path / "base")))
    both = [train(tmp_path / str(n), set_dir, made, base=str(tmp_path / "base"), lora=True, steps=6, samples=n) for n in (2, 0)]
    assert all(torch.equal(both[0][k], both[1][k]) for k in both[0])
    assert [line["step"] for line in samples.read(tmp_path / "2")][::2] == [0, 2, 4, 6]


def test_a_stopped_run_says_each_step_once(
    tmp_path: Path, set_dir: Path, prepared: bases.Prepared
) -> None:
    whole = tmp_path / "whole"
    train(whole, set_dir, prepared, samples=2)
    run_dir = tmp_path / "again"
    recipe = Recipe(set=str(set_dir), batch=4, log_every=2, save_every=4, steps=12, samples=2)
    runs.create(run_dir, recipe)

    def end(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sft.train_run(run_dir, recipe, prepared, say=end)
    with (run_dir / samples.FILE).open("a") as file:
        file.write('{"step": 6, "pro')  # what a kill inside the write leaves
    assert runs.checkpoints(run_dir)[-1][0] == 4
    sft.train_run(run_dir, recipe, prepared, resume=True)
    assert samples.read(run_dir) == samples.read(whole)


def test_lines_that_are_none_are_said(tmp_path: Path) -> None:
    (tmp_path / samples.FILE).write_text('{"step": 1}\nnonsense\n')
    with pytest.raises(CurationError, match=r"samples.jsonl:2: not a line of samples"):
        samples.read(tmp_path)


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.train, [str(a) for a in arguments], standalone_mode=False)


def test_the_verb_trains_and_then_asks_the_battery(tmp_path: Path, set_dir: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("train.parquet", "validation.parquet", "manifest.json"):
        (folder / name).write_bytes((set_dir / name).read_bytes())
    refused = call(folder, "--out", tmp_path / "none", "--steps", 2, "--eval")
    assert isinstance(refused.exception, CurationError) and "has no battery" in refused.exception.what
    assert not (tmp_path / "none").exists()
    probes = [probe("a", "label", "Zoe likes red. Say which."), probe("b", "label", "Yan likes blue. Say which.")]
    (folder / "battery.jsonl").write_text("".join(json.dumps(p) + "\n" for p in probes))
    done = call(folder, "--out", tmp_path / "run", "--steps", 2, "--eval", "--samples", 1)
    assert done.exception is None, done.exception
    assert json.loads((tmp_path / "run" / "battery.json").read_text())["overall"]["n"] == 2
    assert {line["id"] for line in samples.read(tmp_path / "run")} == {"a"}
    assert all(line["passed"] is False for line in samples.read(tmp_path / "run"))
    late = call(folder, "--out", tmp_path / "other", "--steps", 2, "--eval", "--detach")
    assert isinstance(late.exception, CurationError) and "--detach does not" in late.exception.what


def test_the_mask_as_json_is_the_text_in_parts(set_dir: Path) -> None:
    rows = json.loads(call(set_dir, "--show-mask", 2, "--json").stdout)
    assert len(rows) == 2
    trained = ["".join(p["text"] for p in row["parts"] if p["trained"]) for row in rows]
    assert all("It is " in text and "Which colour" not in text for text in trained)
    assert all("Which colour" in "".join(p["text"] for p in row["parts"]) for row in rows)
