"""The reference: on the same batches our steps and those of TRL's SFTTrainer give equal losses and weights in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

import torch
import transformers
import trl
from curation.train import base as bases
from curation.train import plan as plans
from curation.train import runs, sft
from curation.train import settings as setting
from curation.train.runs import Recipe
from datasets import Dataset

from .training import echo_base, echoes, write_set

STEPS = 6


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("parity"), echoes(48, exchanges=2), echoes(4, start=100, exchanges=2))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, set_dir: Path) -> Path:
    return echo_base(tmp_path_factory.mktemp("base"), set_dir, hidden=48)


def padded(plan: plans.Plan, index: int) -> dict[str, torch.Tensor]:
    """Return the rows of one of our micro batches as TRL collates them: padded right, with a mask."""
    tokens = plan.tokens
    spans = [slice(tokens.offsets[i], tokens.offsets[i + 1]) for i in plan.members(index)]
    longest = max(s.stop - s.start for s in spans)
    ids = torch.zeros(len(spans), longest, dtype=torch.int64)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for k, s in enumerate(spans):
        n = s.stop - s.start
        ids[k, :n] = torch.from_numpy(tokens.ids[s].astype("int64"))
        labels[k, :n] = torch.from_numpy(tokens.labels[s].astype("int64"))
        mask[k, :n] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


@pytest.mark.parametrize("batch", [6, 40], ids=["one pack a step", "packs accumulated"])
def test_steps_equal_those_of_trl(set_dir: Path, base: Path, tmp_path: Path, batch: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(setting, "CPU_PACK", 512)  # so that a large batch needs several packs a step
    recipe = Recipe(set=str(set_dir), base=str(base), steps=STEPS, batch=batch, lr=1e-3, log_every=1)
    run_dir = tmp_path / "ours"
    runs.create(run_dir, recipe)
    card = sft.train_runs([run_dir])[0]
    ours = [line["loss"] for line in runs.read_metrics(run_dir)]

    prepared = bases.prepare(recipe)
    settings = {name: (entry["value"], entry["reason"]) for name, entry in card["settings"].items()}
    plan = plans.Plan(prepared.train, prepared.tokenizer, settings, seed=recipe.seed)
    assert (plan.accumulation > 1) == (batch == 40), plan.accumulation
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["lr"][0], betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: setting.rate(step, STEPS, settings))
    theirs: list[float] = []

    class Reference(trl.SFTTrainer):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader([padded(plan, i) for i in range(len(plan))], batch_size=None)

        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(*args, **kwargs)
            theirs.append(float(loss))
            return loss

    config = trl.SFTConfig(
        output_dir=str(tmp_path / "trl"), max_steps=STEPS, per_device_train_batch_size=1, max_grad_norm=1.0,
        gradient_accumulation_steps=plan.accumulation, use_cpu=True, bf16=False, report_to=[], save_strategy="no",
        gradient_checkpointing=False, disable_tqdm=True, logging_strategy="no", dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False, seed=0,
    )  # fmt: skip
    data = Dataset.from_list([{k: v[0].tolist() for k, v in padded(plan, i).items()} for i in range(len(plan))])
    trainer = Reference(
        model=model, args=config, train_dataset=data, processing_class=prepared.tokenizer, optimizers=(optimizer, schedule)
    )
    trainer.train()
    per_step = [sum(theirs[k : k + plan.accumulation]) for k in range(0, len(theirs), plan.accumulation)]
    assert per_step == pytest.approx(ours, abs=1e-5)
    trained = transformers.AutoModelForCausalLM.from_pretrained(run_dir / "model").state_dict()
    for name, weight in model.state_dict().items():
        assert torch.allclose(weight, trained[name], atol=1e-5), name  # a hundredth of one step of AdamW
