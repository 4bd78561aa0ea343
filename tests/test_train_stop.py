"""Runs that must stop: a loss or a gradient that is no number, a loss that has gone up for good; each names its rows."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from curation.train import base as bases
from curation.train import diverge, runs, sft
from curation.train.runs import Recipe

from curation.errors import CurationError

from .training import echo_base, echoes, pair, write_set

V = 1024


def judged(losses: list[float] | np.ndarray, counts: Any = 100.0) -> Any:
    count = np.full(len(losses), counts) if np.isscalar(counts) else np.asarray(counts)
    return diverge.diverged(np.asarray(losses) * count, count, V)


def test_a_rise_that_stays_is_found_and_its_first_step_is_named() -> None:
    healthy = np.linspace(3.0, 1.0, 60)
    assert judged(healthy) is None
    risen = np.concatenate([healthy, np.full(16, 5.0)])
    place, now, best = judged(risen)
    assert place == 60 and now == pytest.approx(5.0) and best == pytest.approx(healthy[-16:].mean(), abs=0.3)
    assert judged(risen[:-9]) is None, "less than half a span is not yet a rise that stays"


def test_neither_a_spike_nor_odd_batches_nor_a_small_loss_stops_a_run() -> None:
    healthy = np.full(80, 1.0)
    spiked = healthy.copy()
    spiked[70] = 60.0  # the mean of the span is above the bound, its median is not
    assert judged(spiked) is None
    odd = np.tile([0.1, 3.0], 40)
    assert judged(odd, np.tile([10.0, 1.0], 40)) is None
    assert judged(np.concatenate([np.full(60, 0.01), np.full(16, 0.9)])) is None, "learned by heart, then a little less so"


def test_a_run_that_is_wrong_from_its_second_step_is_found() -> None:
    assert judged([1.2, *[8.0] * 16])[0] == 1
    assert judged([1.2, *[8.0] * 400])[0] == 1, "what came after is no measure of what is good"
    assert judged([0.2, *[1.5] * 60]) is None, "the first batch may be easy by chance"
    assert judged([math.log(V) * 1.1, *[math.log(V)] * 60]) is None


@given(st.lists(st.floats(0.0, 2.0), max_size=120), st.integers(0, 3))
def test_losses_below_half_of_guessing_never_stop_a_run_that_was_not_better(noise: list[float], empty: int) -> None:
    losses = np.array([1.9 + x / 20 for x in noise] + [0.0] * empty)
    counts = np.array([5.0] * len(noise) + [0.0] * empty)  # steps of a process that had nothing to train
    assert judged(losses, counts) is None


# ---- whole runs


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = echoes(60)
    rows[37] = pair("Say the bad word.", "Ω")
    return write_set(tmp_path_factory.mktemp("stop") / "set", rows, echoes(4, start=100))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, set_dir: Path) -> Path:
    return echo_base(tmp_path_factory.mktemp("base"), set_dir)


def test_a_learning_rate_far_too_high_stops_the_run(set_dir: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    runs.create(run_dir, Recipe(set=str(set_dir), steps=200, lr=3.0, log_every=4, save_every=10))
    with pytest.raises(CurationError, match="the loss has gone up for good") as error:
        sft.train_runs([run_dir])
    lines = runs.read_metrics(run_dir)
    assert 16 <= lines[-1]["step"] < 60, "long before its 200 steps"
    named = re.search(r"step (\d+), behind an update from rows of that step: ([\d, ]+)$", error.value.what)
    assert named is not None and "smaller --lr" in error.value.hint
    assert 1 <= int(named[1]) <= lines[-1]["step"] and {int(x) for x in named[2].split(", ")} <= set(range(60))
    state = runs.read_state(run_dir)
    assert state["state"] == "failed" and "gone up for good" in state["why"]


def test_a_poisoned_row_is_named_and_no_other(set_dir: Path, base: Path, tmp_path: Path) -> None:
    """A base whose embedding of one token is broken, and the one row in a pack of many that holds it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    (rare, *_) = tokenizer("Ω", add_special_tokens=False)["input_ids"]
    held = [i for i, turns in enumerate(echoes(60)) if rare in tokenizer(str(turns), add_special_tokens=False)["input_ids"]]
    assert not held, "the token is in no other row"
    with torch.no_grad():
        model.get_input_embeddings().weight[rare] = math.inf
    broken = tmp_path / "base"
    model.save_pretrained(broken)
    tokenizer.save_pretrained(broken)
    run_dir = tmp_path / "run"
    runs.create(run_dir, Recipe(set=str(set_dir), base=str(broken), steps=30, batch=12, lr=1e-3, log_every=5, save_every=1))
    with pytest.raises(CurationError, match=r"the loss of step \d+ is not a number") as error:
        sft.train_runs([run_dir])
    assert error.value.what.endswith("rows of that batch: 37")
    for _, checkpoint in runs.checkpoints(run_dir):
        saved = transformers.AutoModelForCausalLM.from_pretrained(checkpoint).state_dict()
        assert all(w[torch.arange(len(w)) != rare].isfinite().all() for w in saved.values()), checkpoint


def test_a_gradient_that_is_no_number_never_reaches_the_weights(
    set_dir: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = sft.token_losses, [0]

    def spoiled(model: Any, batch: dict[str, Any]) -> Any:
        losses, owner, hit = whole(model, batch)
        seen[0] += 1
        if seen[0] == 7 and losses.requires_grad:
            losses.register_hook(lambda grad: grad * math.inf)
        return losses, owner, hit

    monkeypatch.setattr(sft, "token_losses", spoiled)
    run_dir = tmp_path / "run"
    recipe = Recipe(set=str(set_dir), base=str(base), steps=30, batch=12, lr=1e-3, log_every=5, save_every=1)
    runs.create(run_dir, recipe)
    with pytest.raises(CurationError, match=r"the gradient of step 7 is not a number though its loss is") as error:
        sft.train_run(run_dir, recipe, bases.prepare(recipe))
    assert "rows of that step: " in error.value.what
    step, checkpoint = runs.checkpoints(run_dir)[-1]
    assert step == 6
    saved = transformers.AutoModelForCausalLM.from_pretrained(checkpoint).state_dict()
    assert all(bool(w.isfinite().all()) for w in saved.values())
