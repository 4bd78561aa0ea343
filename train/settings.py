"""Every setting of a run with its reason: from the recipe, the data, the model and the memory that is free."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation.errors import CurationError

from . import compile as compiler
from . import samples
from .base import Prepared, load_model, size_of
from .isolate import ampere
from .loss import GPU_TILE
from .runs import TINY, Recipe

Settings = dict[str, tuple[Any, str]]  # name -> (value, reason)

#: Minutes from which on blocks are compiled: a tenth won there is more than the minute spent.
COMPILE_MINUTES = 15
#: Most tokens of a pack: enough to fill the device, few enough for its caches.
GPU_PACK, CPU_PACK = 16384, 2048
#: Fewest tokens of a pack that a GPU is given before gradient checkpointing is the cheaper way.
LEAST_PACK = 4096


def resolve(
    recipe: Recipe, prepared: Prepared, *, parameters: int, trainable: int, hidden: int, layers: int, inner: int | None = None
) -> Settings:
    """Return every setting with its reason, from the recipe, the data, the model and the memory."""
    small = recipe.base == TINY
    lengths = prepared.train.lengths
    s: Settings = {
        "max_length": (prepared.report["max_length"], _why(recipe.max_length, "what the base sees, at most 4096")),
        "batch": (
            recipe.batch or (8 if small else 16),
            _why(recipe.batch, "rows a step; from scratch many small steps teach more" if small else "rows a step, usual"),
        ),
        "lr": _learning_rate(recipe),
        "threads": (recipe.threads, "CPU threads; two on a busy two-core machine ran 15 times slower than one"),
        "save_every": (recipe.save_every or 100, _why(recipe.save_every, "at most this many steps are lost")),
    }
    need = Need(
        parameters=parameters, trainable=trainable, hidden=hidden, layers=layers, inner=inner or 4 * hidden,
        mean=float(lengths.mean()), quantised=recipe.qlora, shards=recipe.devices if recipe.shard else 1,
    )  # fmt: skip
    if small:
        s["device"] = ("cpu", "one million parameters: quick there, and the same bits each time")
        s["layout"] = ("rows", "mixed at random: batches of like length held one family each and learned worse")
        s["capacity"], s["accumulation"] = (0, "whole batches"), (1, "whole batches")
        s["copy_practice"] = (True, "a model from scratch must first learn to carry values over")
    else:
        cuda = torch.cuda.is_available()
        s["device"] = ("cuda", "a GPU is there") if cuda else ("cpu", "no GPU is there")
        s["precision"] = _precision(cuda)
        longest, mean = int(lengths.max()), float(lengths.mean())
        most = max(longest, min(GPU_PACK if cuda else CPU_PACK, round(s["batch"][0] * mean)))
        while cuda and most // 2 >= max(longest, LEAST_PACK) and not need.fits(s, most):
            most //= 2  # a smaller pack costs less than to compute everything twice
        capacity = compiler.even(lengths, most)
        s["layout"] = ("packs", f"best fit, rows kept apart, {compiler.fill(lengths, capacity):.2%} full; no token is padding")
        s["capacity"] = (capacity, f"tokens a pack; the longest row has {longest}, the mean is {mean:.0f}")
        s["accumulation"] = (max(1, round(s["batch"][0] * mean / capacity)), "packs a step, to reach the batch")
        s["copy_practice"] = (False, "a pretrained base can copy")
    cuda = s["device"][0] == "cuda"
    s.setdefault("precision", _precision(cuda))
    s["steps"] = _steps(recipe, s, len(prepared.train), lengths)
    s["warmup"] = (20, "steps") if small else (max(1, round(0.03 * s["steps"][0])), "3 % of the steps")
    s["schedule"] = (
        ("linear", "level for 0.3 of the steps, then down in a line to 2 %; from scratch it learns longer at the full rate")
        if small
        else ("cosine", "down to 2 %, usual")
    )
    s["eval_every"], s["patience"] = _early_stop(recipe, s["steps"][0], len(prepared.held))
    s["samples"], s["sample_every"] = _samples(recipe, s["steps"][0], s["eval_every"][0])
    s["flops_per_token"] = (_flops(parameters, trainable, layers, hidden, lengths), "forward and backward, attention counted")
    s["peak_flops"] = _peak(cuda)
    s["compile"] = _compiled(recipe, s) if cuda else (False, "pays on CUDA only")
    s["memory_gb"], s["gradient_checkpointing"] = _memory(s, need)
    return s


def _precision(cuda: bool) -> tuple[str, str]:
    if not cuda:
        return "fp32", "exact, and fastest on a CPU without bf16 units"
    return ("bf16", "autocast, twice as fast here") if ampere() else ("fp32", "a GPU before Ampere has no bf16 products")


def _why(asked: object, otherwise: str) -> str:
    return "asked for" if asked else otherwise


def _learning_rate(recipe: Recipe) -> tuple[float, str]:
    if recipe.lr:
        return recipe.lr, "asked for"
    if recipe.base == TINY:
        return 3e-3, "from scratch; 6e-3 was worse"
    return (2e-4, "LoRA takes ten times the rate of full training") if recipe.lora else (2e-5, "usual for full training")


def _steps(recipe: Recipe, s: Settings, n_rows: int, lengths: np.ndarray) -> tuple[int, str]:
    if recipe.steps:
        return recipe.steps, "asked for"
    if recipe.base == TINY and not recipe.epochs:
        return 700, "labels, form, conflicts and refusals are learned by then; far longer runs learn rows by heart"
    epochs = recipe.epochs or 3.0
    if s["layout"][0] == "rows":
        steps = math.ceil(epochs * n_rows / s["batch"][0])
    else:
        packs = len(compiler.best_fit(lengths, s["capacity"][0]))
        steps = math.ceil(epochs * packs / s["accumulation"][0])
    return max(1, steps), f"{epochs:g} epochs" + ("" if recipe.epochs else ", the usual number")


def _early_stop(recipe: Recipe, steps: int, held: int) -> tuple[tuple[int, str], tuple[int, str]]:
    """Return eval_every (steps, 0 = never) and patience (evaluations without a better one, 0 = never stop early)."""
    if not held:
        return (0, "no held-out rows"), (0, "no held-out rows")
    if recipe.base == TINY and recipe.patience is None and recipe.eval_every is None:
        return (0, "the steps of tiny are set by what it learns"), (0, "not asked for")
    every = recipe.eval_every or max(recipe.log_every, steps // 10)
    every = math.ceil(every / recipe.log_every) * recipe.log_every
    patience = recipe.patience if recipe.patience is not None else 3
    return (every, _why(recipe.eval_every, "ten looks a run")), (patience, _why(recipe.patience is not None, "usual; 0 = never"))


def _samples(recipe: Recipe, steps: int, eval_every: int) -> tuple[tuple[int, str], tuple[int, str]]:
    """Return how many prompts are answered at a look (0 = none) and the steps between these looks."""
    if recipe.shard and recipe.devices > 1:
        return (0, "no process holds the whole model"), (0, "no samples")
    if recipe.samples == 0:
        return (0, "asked for"), (0, "no samples")
    n = recipe.samples or samples.USUAL
    why = _why(recipe.samples, "greedy answers to fixed prompts, samples.jsonl; 0 = none")
    if eval_every:
        return (n, why), (eval_every, "with each look at the held-out loss")
    every = math.ceil(max(recipe.log_every, steps / 8) / recipe.log_every) * recipe.log_every
    return (n, why), (every, "about eight looks a run")


def rate(step: int, steps: int, settings: Settings) -> float:
    """Return the share of the highest learning rate at `step` of `steps`: up in a line, then by the schedule to 2 %."""
    warmup, done = settings["warmup"][0], step / steps
    up = min(1.0, (step + 1) / warmup)
    if settings["schedule"][0] == "cosine":
        return up * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
    return up * (max(0.02, 1 - done) if done > 0.3 else 1.0)


#: Dense bf16 products a second, from the makers' data sheets.
PEAKS = {"H200": 989e12, "H100": 989e12, "GH200": 989e12, "A100": 312e12, "L40S": 362e12, "B200": 2250e12}


def _peak(cuda: bool) -> tuple[float, str]:
    name = torch.cuda.get_device_name() if cuda else ""
    known = next((peak for part, peak in PEAKS.items() if part in name), 0.0)
    return known, (f"{name}, dense bf16" if known else "unknown here, so no MFU is given")


def _compiled(recipe: Recipe, s: Settings) -> tuple[bool, str]:
    """Return whether each block is compiled: where the run is long enough to win back the time that compiling takes.

    Compiling block by block won 14 to 44 % where others measured it (mini_trainer PR 98, Axolotl, torchtitan) and takes
    about a minute; it has not been measured here. A run is reckoned at 0.4 of the peak, or at 100 TFLOP/s.
    """
    if recipe.compile is not None:
        return recipe.compile, "asked for"
    if recipe.qlora or recipe.shard:
        return False, "not by itself with --qlora or --shard"
    work = s["flops_per_token"][0] * s["steps"][0] * s["accumulation"][0] * s["capacity"][0]
    minutes = work / (0.4 * s["peak_flops"][0] or 100e12) / 60 / recipe.devices
    return minutes >= COMPILE_MINUTES, f"about {minutes:.0f} minutes; compiling takes one, worth it from {COMPILE_MINUTES}"


def _flops(parameters: int, trainable: int, layers: int, hidden: int, lengths: np.ndarray) -> float:
    """Return FLOP a token: 6 a trained parameter, 4 a frozen one, 6 a layer and hidden unit for each token seen.

    Causal attention inside a row of n tokens sees n / 2 on average (PaLM, appendix B, halved for the mask).
    """
    seen = float((lengths.astype(np.float64) ** 2).sum() / max(1, lengths.sum())) / 2
    return 4.0 * parameters + 2.0 * trainable + 12.0 * layers * hidden * seen


@dataclass(frozen=True)
class Need:
    """What a model needs of the memory, by its shape.

    `inner`: width of the feed-forward part; `mean`: tokens a row; `shards`: devices that share weights and optimizer.
    """

    parameters: int
    trainable: int
    hidden: int
    layers: int
    inner: int
    mean: float
    quantised: bool
    shards: int

    def weights(self, s: Settings) -> float:
        """Return bytes of weights, gradients and the optimizer: a trained weight in fp32 with two moments takes 16."""
        frozen = (self.parameters - self.trainable) * (0.6 if self.quantised else 2 if s["precision"][0] == "bf16" else 4)
        return (frozen + self.trainable * 16) / self.shards

    def layer(self, s: Settings, tokens: int) -> float:
        """Return bytes that a layer keeps for its way back.

        Counted on a Qwen2 of four shapes from what autograd saves: 31 to 34 a token and hidden unit (24 to 27 under LoRA),
        and four numbers a token and inner unit; the residual stream stays fp32 under autocast.
        """
        return tokens * (34 * self.hidden + (8 if s["precision"][0] == "bf16" else 16) * self.inner)

    def whole(self, s: Settings, tokens: int) -> float:
        """Return bytes of a step that keeps everything; the head's tile takes ten a number."""
        return self.weights(s) + self.layers * self.layer(s, tokens) + 10 * GPU_TILE * (s["device"][0] == "cuda")

    def thrifty(self, s: Settings, tokens: int) -> float:
        """Return bytes of a step that keeps the input of each layer and computes the rest twice."""
        kept = self.layers * tokens * 4 * self.hidden
        return self.weights(s) + kept + self.layer(s, tokens) + 10 * GPU_TILE * (s["device"][0] == "cuda")

    def fits(self, s: Settings, tokens: int) -> bool:
        """Return whether a step that keeps everything takes at most nine tenths of what is free."""
        return self.whole(s, tokens) <= 0.9 * _available(s["device"][0])


def _memory(s: Settings, need: Need) -> tuple[tuple[float, str], tuple[bool, str]]:
    """Return memory_gb and gradient_checkpointing; raise a CurationError when even that does not fit."""
    available = _available(s["device"][0])
    tokens = s["capacity"][0] or round(s["batch"][0] * (need.mean + 42))  # with copy practice
    whole, thrifty = need.whole(s, tokens), need.thrifty(s, tokens)
    free = f"{available / 1e9:.1f} GB are free"
    if whole <= 0.9 * available:
        return (round(whole / 1e9, 2), f"estimate; {free}"), (False, "not needed: it would cost a fifth of the speed")
    if thrifty <= 0.9 * available:
        return (round(thrifty / 1e9, 2), f"estimate; {free}"), (True, f"without it {whole / 1e9:.1f} GB")
    raise CurationError(
        f"training {need.parameters / 1e9:.2f} G parameters needs about {thrifty / 1e9:.1f} GB, {free}",
        "use --lora, a smaller --base, a smaller --batch or a shorter --max-length",
    )


def _available(device: str) -> int:
    """Return the bytes that are free for us on the device."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():  # counts what the page cache would give back
        line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def forecast(recipe: Recipe, prepared: Prepared) -> dict[str, Any]:
    """Return what a run would do: settings, steps, tokens, and estimates of its time and memory."""
    model = load_model(recipe, prepared.tokenizer, seed=recipe.seed)
    size = size_of(model)
    settings = resolve(recipe, prepared, **size)
    steps, batch = settings["steps"][0], settings["batch"][0]
    lengths = prepared.train.lengths
    a_step = settings["capacity"][0] * settings["accumulation"][0] or batch * float(lengths.mean())
    tokens = steps * a_step
    practised = steps / 4 * batch * 42 if settings["copy_practice"][0] else 0
    flops = settings["flops_per_token"][0] * (tokens + practised)
    return {
        "splits": prepared.report["splits"],
        "left_out": [asdict(entry) for entry in prepared.left_out],
        "settings": {name: {"value": value, "reason": reason} for name, (value, reason) in settings.items()},
        "steps": steps,
        "tokens": round(tokens),
        "epochs": round(tokens / len(prepared.train.ids), 2),
        "seconds": round(flops / _speed(settings["device"][0]), 1),
        "memory_gb": settings["memory_gb"][0],
    }


def _speed(device: str) -> float:
    """Return a rate in FLOP/s that training reaches here: 0.6 of a matrix product timed for a fraction of a second."""
    size = 4096 if device == "cuda" else 512
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    a = torch.ones(size, size, device=device, dtype=kind)
    rates = []
    for _ in range(8):
        started = time.perf_counter()
        (a @ a)[0, 0].item()
        rates.append(2 * size**3 / (time.perf_counter() - started))
    return 0.6 * sorted(rates)[len(rates) // 2]
