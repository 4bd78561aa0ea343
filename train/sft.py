"""Supervised fine-tuning of one vetted set, read from top to bottom: base, tokens, settings, order, loss, trainer, run.

We own the tokens and rent the steps: compile.py says what is trained, `transformers.Trainer` steps. Rows are laid end
to end without padding and attention stays inside each row. The loss is taken at labelled positions only. What a batch
holds depends on (seed, step) alone, so a run that was killed goes on to the same weights.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from . import runs

if __name__ == "__main__":  # what torch reads at import must be set before
    _recipe = runs.read_recipe(Path(sys.argv[1]))
    runs.prepare_environment(threads=_recipe.threads, base=_recipe.base)

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils.logging import disable_progress_bar

from curation.errors import CurationError

from . import compile as compiler
from . import tiny
from .compile import IGNORE, Tokens
from .runs import TINY, Recipe

Say = Callable[[dict[str, Any]], None]
Settings = dict[str, tuple[Any, str]]  # name -> (value, reason)


# ---- base -----------------------------------------------------------------------------------------------------------


def load_tokenizer(recipe: Recipe) -> Any:
    """Return the tokenizer of the base; that of `tiny` is trained on the training rows of the set."""
    if recipe.base == TINY:
        table = compiler.read_split(Path(recipe.set), "train")
        contents = pa.compute.struct_field(pa.compute.list_flatten(table.column("messages")), "content")
        return tiny.make_tokenizer(text for text in contents.to_pylist() if text)
    with _base_errors(recipe.base):
        return AutoTokenizer.from_pretrained(recipe.base)


def load_model(recipe: Recipe, tokenizer: Any, *, seed: int) -> Any:
    """Return the model to train: fp32 for full training and on CPU, bf16 under LoRA on a GPU."""
    if recipe.base == TINY:
        return tiny.make_model(tokenizer, seed=seed)
    half = recipe.lora and torch.cuda.is_available()
    torch.manual_seed(seed)
    model: Any
    with _base_errors(recipe.base):
        model = AutoModelForCausalLM.from_pretrained(recipe.base, dtype=torch.bfloat16 if half else torch.float32)
    places = int(model.get_input_embeddings().num_embeddings)
    if len(tokenizer) > places:
        raise CurationError(
            f"{recipe.base}: the tokenizer has {len(tokenizer)} tokens, the model {places}",
            "model and tokenizer of this base do not belong together",
        )
    if recipe.lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    return model


@contextmanager
def _base_errors(base: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE") == "1" and not Path(base).exists()
        told = "no such folder, and no hub can be reached from here" if offline else str(error).splitlines()[0]
        raise CurationError(
            f"base {base!r} cannot be loaded: {told}", "use --base tiny, or a folder with a saved model"
        ) from None


def context_of(recipe: Recipe) -> int:
    """Return how many tokens the base can see at once."""
    if recipe.base == TINY:
        return tiny.CONTEXT
    with _base_errors(recipe.base):
        config = AutoConfig.from_pretrained(recipe.base)
    return int(getattr(config, "max_position_embeddings", None) or 4096)


# ---- tokens ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """What runs with the same set, base and length share: the tokenizer and the compiled tokens."""

    tokenizer: Any
    train: Tokens
    held: Tokens
    left_out: list[compiler.LeftOut]
    report: dict[str, Any]
    families: list[str]  # of the held-out rows


def prepare(recipe: Recipe, *, progress: compiler.Progress | None = None) -> Prepared:
    """Compile the set of a recipe for its base."""
    tokenizer = load_tokenizer(recipe)
    context = context_of(recipe)
    max_length = recipe.max_length or min(context, 4096)
    if not 8 <= max_length <= context:
        raise CurationError(f"--max-length {max_length}: this base takes 8 to {context} tokens", f"--max-length {context}")
    train, held, left_out, report = compiler.compile_set(
        Path(recipe.set), tokenizer, max_length=max_length, truncate=recipe.truncate, progress=progress
    )
    return Prepared(tokenizer, train, held, left_out, report, _families(Path(recipe.set), held))


def _families(set_dir: Path, held: Tokens) -> list[str]:
    table = compiler.read_split(set_dir, "validation")
    if "family" not in table.column_names:
        return [""] * len(held)
    known = dict(zip(table.column("row").to_pylist(), table.column("family").to_pylist()))
    return [known.get(int(row)) or "" for row in held.row]


# ---- settings -------------------------------------------------------------------------------------------------------


def resolve(recipe: Recipe, prepared: Prepared, *, parameters: int, trainable: int, hidden: int, layers: int) -> Settings:
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
    if small:
        s["device"] = ("cpu", "one million parameters: quick there, and the same bits each time")
        s["layout"] = ("rows", "mixed at random: batches of like length held one family each and learned worse")
        s["capacity"], s["accumulation"] = (0, "whole batches"), (1, "whole batches")
        s["copy_practice"] = (True, "a model from scratch must first learn to carry values over")
    else:
        cuda = torch.cuda.is_available()
        s["device"] = ("cuda", "a GPU is there") if cuda else ("cpu", "no GPU is there")
        longest, mean = int(lengths.max()), float(lengths.mean())
        capacity = max(longest, min(16384 if cuda else 2048, round(s["batch"][0] * mean)))
        s["layout"] = ("packs", "best fit, rows kept apart; no token is padding")
        s["capacity"] = (capacity, f"tokens a pack; the longest row has {longest}, the mean is {mean:.0f}")
        s["accumulation"] = (max(1, round(s["batch"][0] * mean / capacity)), "packs a step, to reach the batch")
        s["copy_practice"] = (False, "a pretrained base can copy")
    cuda = s["device"][0] == "cuda"
    s["precision"] = ("bf16", "autocast, twice as fast here") if cuda else ("fp32", "exact, and fastest on a CPU")
    s["steps"] = _steps(recipe, s, len(prepared.train), lengths)
    s["warmup"] = (20, "steps") if small else (max(1, round(0.03 * s["steps"][0])), "3 % of the steps")
    s["hold"] = (0.3 if small else 0.03, "share of the steps at the full rate; then down in a line to 2 %")
    s["memory_gb"], s["gradient_checkpointing"] = _memory(
        s,
        parameters=parameters,
        trainable=trainable,
        per_token=layers * hidden,
        layers=layers,
        mean=float(lengths.mean()),
    )
    return s


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


def _memory(
    s: Settings, *, parameters: int, trainable: int, per_token: int, layers: int, mean: float
) -> tuple[tuple[float, str], tuple[bool, str]]:
    """Return memory_gb and gradient_checkpointing; raise a CurationError when even that does not fit."""
    bf16 = s["precision"][0] == "bf16"
    available = _available(s["device"][0]) / 1e9
    frozen = (parameters - trainable) * (2 if bf16 else 4)
    weights = (frozen + trainable * 16) / 1e9  # fp32 weight, gradient and two moments
    tokens = s["capacity"][0] or round(s["batch"][0] * (mean + 42))  # with copy practice
    # 34 bytes a token, layer and hidden unit in half precision (Korthikanti et al. 2022, attention by tiles)
    activations = tokens * per_token * (34 if bf16 else 68) / 1e9
    whole, thrifty = weights + activations, weights + 2 * activations / layers
    free = f"{available:.1f} GB are free"
    if whole <= 0.9 * available:
        return (round(whole, 2), f"estimate; {free}"), (False, "not needed: it would cost a fifth of the speed")
    if thrifty <= 0.9 * available:
        return (round(thrifty, 2), f"estimate; {free}"), (True, f"without it {whole:.1f} GB")
    raise CurationError(
        f"training {parameters / 1e9:.2f} G parameters needs about {thrifty:.1f} GB, {free}",
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
    size = _size(model)
    settings = resolve(recipe, prepared, **size)
    steps, batch = settings["steps"][0], settings["batch"][0]
    lengths = prepared.train.lengths
    a_step = settings["capacity"][0] * settings["accumulation"][0] or batch * float(lengths.mean())
    tokens = steps * a_step
    practised = steps / 4 * batch * 42 if settings["copy_practice"][0] else 0
    flops = (4 if recipe.lora else 6) * size["parameters"] * (tokens + practised)
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


# ---- order: what a batch holds is a function of (seed, index) -------------------------------------------------------


class Plan(torch.utils.data.Dataset):
    """Every micro batch of a run, by its index. Nothing is drawn, so nothing has to be remembered to resume."""

    def __init__(self, tokens: Tokens, tokenizer: Any, settings: Settings, *, seed: int) -> None:
        self.tokens, self.tokenizer, self.seed = tokens, tokenizer, seed
        self.steps: int = settings["steps"][0]
        self.batch: int = settings["batch"][0]
        self.capacity: int = settings["capacity"][0]
        self.accumulation: int = settings["accumulation"][0]
        self.practice: bool = settings["copy_practice"][0]
        self._epochs: dict[int, list[np.ndarray]] = {}

    def __len__(self) -> int:
        return self.steps * self.accumulation

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the packs of one epoch, or its rows in order, one array each."""
        if epoch not in self._epochs:
            random = np.random.default_rng([self.seed, epoch])
            order = random.permutation(len(self.tokens))
            if self.capacity:
                packs = compiler.best_fit(self.tokens.lengths[order], self.capacity)
                made = [order[pack] for pack in packs]
                made = [made[i] for i in random.permutation(len(made))]
            else:
                made = [order]
            self._epochs = {k: v for k, v in self._epochs.items() if k >= epoch - 1} | {epoch: made}
        return self._epochs[epoch]

    def members(self, index: int) -> np.ndarray:
        """Return the positions of the rows in micro batch `index`."""
        if self.capacity:
            # Every epoch has equally many packs: best fit depends on the lengths alone.
            n = len(self._epoch(0)) if not self._epochs else len(next(iter(self._epochs.values())))
            return self._epoch(index // n)[index % n]
        n = len(self.tokens)
        at = np.arange(index * self.batch, (index + 1) * self.batch)
        return np.array([self._epoch(int(p) // n)[0][p % n] for p in at], dtype=np.int64)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rows = self.members(index)
        practice = None
        if self.practice and index % 2 and index < len(self) // 2:
            practice = tiny.copy_practice(self.tokenizer, seed=self.seed, step=index, rows=self.batch)
        return lay(self.tokens, rows, practice=practice)


def lay(tokens: Tokens, rows: np.ndarray, *, practice: tuple[np.ndarray, np.ndarray] | None = None) -> dict[str, Any]:
    """Return rows laid end to end as one sequence of length T, with what attention needs to keep them apart.

    input_ids, labels, position_ids (1, T) int64; cu_seq_lens int32; `owner` (T,) the place of each token's row in
    `rows`, len(rows) for practice.
    """
    spans = [slice(int(tokens.offsets[i]), int(tokens.offsets[i + 1])) for i in rows]
    ids, labels = [tokens.ids[span] for span in spans], [tokens.labels[span] for span in spans]
    if practice is not None:
        ids, labels = [*ids, *practice[0]], [*labels, *practice[1]]
    lengths = np.array([len(x) for x in ids])
    ends = np.concatenate([[0], np.cumsum(lengths)])
    total = int(ends[-1])
    cu = torch.from_numpy(ends.astype(np.int32))
    position = np.arange(total) - np.repeat(ends[:-1], lengths)
    batch: dict[str, Any] = {
        "input_ids": torch.from_numpy(np.concatenate(ids).astype(np.int64))[None],
        "labels": torch.from_numpy(np.concatenate(labels).astype(np.int64))[None],
        "position_ids": torch.from_numpy(position)[None],
        "cu_seq_lens_q": cu,
        "cu_seq_lens_k": cu,
        "max_length_q": int(lengths.max()),
        "max_length_k": int(lengths.max()),
        "owner": torch.from_numpy(np.repeat(np.minimum(np.arange(len(ids)), len(rows)), lengths)),
        "members": torch.from_numpy(np.asarray(rows, dtype=np.int64)),
    }
    return batch


# ---- attention: each row sees itself only ---------------------------------------------------------------------------


def isolated_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each row of one laid-out sequence; query, key, value are (1, heads, T, size)."""
    assert cu_seq_lens_q is not None, "isolated attention needs cu_seq_lens_q: batches come from lay()"
    groups = query.shape[1] // key.shape[1]
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        # Under autocast the rotation leaves q and k in fp32; the kernel wants all three in one half type.
        half = torch.float16 if value.dtype == torch.float16 else torch.bfloat16
        q, k, v = (x[0].transpose(0, 1).to(half).contiguous() for x in (query, key, value))
        longest = max_length_q
        out: Any = varlen_attn(q, k, v, cu_seq_lens_q, cu_seq_lens_q, longest, longest, scale=scaling, window_size=(-1, 0))
        return out[None].to(value.dtype), None
    lengths = cu_seq_lens_q.diff()
    n, total = len(lengths), query.shape[2]
    if n * max_length_q <= 2 * total:  # rows of like length: one padded call is faster than many small ones
        inside = torch.arange(max_length_q)[None] < lengths[:, None]
        place = (cu_seq_lens_q[:-1, None] + torch.arange(max_length_q)[None]).where(inside, 0).flatten()

        def spread(x: torch.Tensor) -> torch.Tensor:
            return x[0].index_select(1, place).view(x.shape[1], n, max_length_q, x.shape[3]).transpose(0, 1)

        out = F.scaled_dot_product_attention(
            spread(query), spread(key), spread(value), is_causal=True, scale=scaling, enable_gqa=groups > 1
        )
        back = inside.flatten().nonzero()[:, 0]
        out = out.transpose(1, 2).reshape(n * max_length_q, -1).index_select(0, back)
        return out.view(1, total, query.shape[1], query.shape[3]), None
    cu = cu_seq_lens_q.tolist()
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], is_causal=True, scale=scaling, enable_gqa=groups > 1
        )
        for a, b in pairwise(cu)
    ]
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


AttentionInterface.register("curation_isolated", isolated_attention)
AttentionMaskInterface.register("curation_isolated", lambda *args, **kwargs: None)

#: Architectures whose attention is plain causal softmax; the others take torch's block-diagonal mask from position_ids.
PLAIN = {"llama", "qwen2", "qwen3", "smollm3", "olmo2", "granite", "phi3", "stablelm", "helium"}


def isolate(model: Any) -> None:
    """Make attention keep rows of one sequence apart: our function where the architecture allows, else a mask."""
    config = model.config.get_text_config()
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    plain = config.model_type in PLAIN and not windowed
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.set_attn_implementation("curation_isolated" if plain else "sdpa")


def unisolate(model: Any) -> None:
    """Give the model ordinary attention back, as `generate` sends plain batches."""
    model.set_attn_implementation("sdpa")


# ---- loss -----------------------------------------------------------------------------------------------------------


def token_losses(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (loss of each labelled token, its owner): logits exist at those positions only."""
    labels, owner = batch["labels"][0], batch["owner"]
    at = (labels[1:] != IGNORE).nonzero()[:, 0]  # position t says token t + 1
    names = ("input_ids", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
    logits = model(**{name: batch[name] for name in names}, logits_to_keep=at, use_cache=False).logits[0]
    if logits.shape[0] != at.shape[0]:  # an architecture that ignores logits_to_keep
        logits = logits[at]
    return F.cross_entropy(logits.float(), labels[at + 1], reduction="none"), owner[at + 1]


def row_means(losses: torch.Tensor, owner: torch.Tensor, n: int) -> torch.Tensor:
    """Return the mean token loss of each of the first `n` owners, (n,) float32."""
    sums = torch.zeros(n + 1, device=losses.device).index_add_(0, owner, losses.float())
    counts = torch.zeros(n + 1, device=losses.device).index_add_(0, owner, torch.ones_like(losses, dtype=torch.float32))
    return (sums / counts)[:n]


@torch.no_grad()
def losses_of(model: Any, tokens: Tokens, *, capacity: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean loss of each row, its labelled tokens) under the model as it is, in row order."""
    model.eval()
    device = next(model.parameters()).device
    means = np.full(len(tokens), np.nan, dtype=np.float32)
    counts = np.zeros(len(tokens), dtype=np.int64)
    longest = int(tokens.lengths.max()) if len(tokens) else 0
    for pack in compiler.best_fit(tokens.lengths, max(capacity, longest)):
        batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in lay(tokens, np.array(pack)).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            losses, owner = token_losses(model, batch)
        means[pack] = row_means(losses, owner, len(pack)).cpu().numpy()
        counts[pack] = torch.bincount(owner, minlength=len(pack)).cpu().numpy()
    return means, counts


def held_out(model: Any, prepared: Prepared) -> dict[str, Any]:
    """Return the mean token loss on the validation rows, whole and by family."""
    if not len(prepared.held):
        return {"loss": None, "rows": 0, "families": {}}
    means, counts = losses_of(model, prepared.held)
    families = np.array(prepared.families)
    by_family = {
        str(name): round(float(np.average(means[families == name], weights=counts[families == name])), 4)
        for name in sorted(set(prepared.families))
    }
    return {"loss": round(float(np.average(means, weights=counts)), 4), "rows": len(means), "families": by_family}


# ---- trainer --------------------------------------------------------------------------------------------------------


class Meter:
    """What is measured between two logged steps, and the loss of each row at its first and its newest visit."""

    def __init__(self, n_rows: int) -> None:
        self.first = np.full(n_rows, np.nan, dtype=np.float32)
        self.last = np.full(n_rows, np.nan, dtype=np.float32)
        self.tokens = 0  # of rows, since the start of the run
        self.supervised = 0
        self.pending: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.loss_sum, self.loss_count = 0.0, 0

    def note(self, batch: dict[str, Any], losses: torch.Tensor, owner: torch.Tensor) -> None:
        """Keep what one micro batch showed; read later, because reading waits for the device."""
        self.pending.append((batch["members"], losses.detach(), owner))
        self.tokens += int((batch["owner"] < len(batch["members"])).sum()) if not losses.is_cuda else batch["owner"].numel()

    def read(self, tokens: Tokens) -> None:
        """Take in what is pending; raise a CurationError naming the rows when a loss is not a number."""
        for members, losses, owner in self.pending:
            rows = members.cpu().numpy()
            if not bool(torch.isfinite(losses).all()):
                bad = sorted({int(i) for i in owner[~torch.isfinite(losses)].tolist() if i < len(rows)})
                named = [int(tokens.row[rows[i]]) for i in bad] or [int(tokens.row[i]) for i in rows]
                raise CurationError(
                    f"the loss is not a number; rows of that batch: {', '.join(map(str, named[:32]))}",
                    "look at them with: curation show; or take a smaller --lr. The last checkpoint is untouched.",
                )
            means = row_means(losses, owner, len(rows)).cpu().numpy()
            fresh = np.isnan(self.first[rows])
            self.first[rows[fresh]] = means[fresh]
            self.last[rows] = means
            real = owner < len(rows)
            self.loss_sum += float(losses[real].sum())
            self.loss_count += int(real.sum())
            self.supervised += int(real.sum())
        self.pending.clear()

    def drain(self) -> float:
        """Return the mean token loss since the last call."""
        loss = self.loss_sum / max(1, self.loss_count)
        self.loss_sum, self.loss_count = 0.0, 0
        return loss

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as arrays."""
        numbers = np.array([self.tokens, self.supervised, self.loss_count], dtype=np.int64)
        return {"first": self.first, "last": self.last, "numbers": numbers, "loss_sum": np.array(self.loss_sum)}

    def restore(self, path: Path) -> None:
        """Take back the state that a checkpoint holds."""
        with np.load(path) as saved:
            self.first, self.last = saved["first"], saved["last"]
            self.tokens, self.supervised, self.loss_count = (int(x) for x in saved["numbers"])
            self.loss_sum = float(saved["loss_sum"])


class Steps(Trainer):
    """`transformers.Trainer` with our batches, our loss, our schedule, and checkpoints that are whole or absent."""

    loss_is_scaled_for_ga = True  # compute_loss divides by the labels of the whole step

    def __init__(self, *, run_dir: Path, plan: Plan, meter: Meter, settings: Settings, **rest: Any) -> None:
        self.run_dir, self.plan, self.meter, self.settings = run_dir, plan, meter, settings
        super().__init__(**rest)

    def get_train_dataloader(self) -> Any:
        """Return the plan, one micro batch an item, in order."""
        return torch.utils.data.DataLoader(self.plan, batch_size=1, shuffle=False, collate_fn=_only)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        return sum(int((batch["labels"] != IGNORE).sum()) for batch in batch_samples)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Return the sum of the token losses over the labels of the step, so that accumulation changes nothing."""
        losses, owner = token_losses(model, inputs)
        self.meter.note(inputs, losses, owner)
        if not losses.is_cuda:
            self.meter.read(self.plan.tokens)
        return losses.sum() / num_items_in_batch

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: the Trainer would count parameters at each step to report a number that we do not use."""
        return 0

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return AdamW over what is trainable. Betas (0.9, 0.95), no weight decay: few steps, no long average."""
        if self.optimizer is None:
            assert self.model is not None, "the Trainer has no model"
            weights = [p for p in self.model.parameters() if p.requires_grad]
            self.optimizer = torch.optim.AdamW(
                weights, lr=self.settings["lr"][0], betas=(0.9, 0.95), weight_decay=0.0, fused=True
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Return the schedule: up in a line, level, then down in a line to 2 %."""
        if self.lr_scheduler is None:
            warmup, hold = self.settings["warmup"][0], self.settings["hold"][0]

            def rate(step: int) -> float:
                done = step / num_training_steps
                return min(1.0, (step + 1) / warmup) * (max(0.02, 1 - done) if done > hold else 1.0)

            chosen: Any = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, rate)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.run_dir / "checkpoints" / "unfinished")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint under another name, and rename it when it is whole and on disk."""
        self.meter.read(self.plan.tokens)
        step = self.state.global_step
        staging = self.run_dir / "checkpoints" / "unfinished"
        shutil.rmtree(staging, ignore_errors=True)
        with disk_errors(self.run_dir, f"the checkpoint of step {step}", staging):
            staging.mkdir(parents=True)
            super()._save_checkpoint(model, trial)
            np.savez(staging / f"checkpoint-{step}" / "meter.npz", **self.meter.state())
            runs.publish_checkpoint(self.run_dir, staging / f"checkpoint-{step}", step)
        shutil.rmtree(staging, ignore_errors=True)


def _only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    return batch[0]


@contextmanager
def disk_errors(run_dir: Path, what: str, *partial: Path) -> Iterator[None]:
    """Turn a full disk into a CurationError and remove what was half written; other faults pass through."""
    try:
        yield
    except Exception as error:
        for path in partial:
            shutil.rmtree(path, ignore_errors=True)
        # torch and safetensors wrap the system's error in types of their own and keep its words
        said = str(error).lower()
        full = getattr(error, "errno", None) in (28, 122) or any(
            words in said for words in ("no space left", "disk quota", "file write failed", "os error 28")
        )
        if not full:
            raise
        free = shutil.disk_usage(run_dir).free
        raise CurationError(
            f"{what} could not be written: the disk of {run_dir} is full ({free / 1e6:.0f} MB free)",
            "make room, then go on with --resume: earlier checkpoints are intact",
        ) from error


class Watch(TrainerCallback):
    """Logs, asks for checkpoints, and stops when a signal came."""

    def __init__(self, run_dir: Path, plan: Plan, meter: Meter, recipe: Recipe, settings: Settings, say: Say | None) -> None:
        self.run_dir, self.plan, self.meter, self.recipe, self.settings, self.say = (
            run_dir,
            plan,
            meter,
            recipe,
            settings,
            say,
        )
        self.signal = 0
        self.before: dict[str, Any] = {}  # the last metrics line before a resume
        self.started = self.window = time.perf_counter()
        self.window_tokens = 0

    def resume(self, last: dict[str, Any]) -> None:
        """Go on counting seconds from the last metrics line that was kept."""
        self.before = last
        self.window_tokens = self.meter.tokens

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock."""
        self.started = self.window = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        """Write a metrics line when it is due; ask for a checkpoint on schedule or on a signal."""
        step = state.global_step
        last = step >= state.max_steps
        if step % self.recipe.log_every == 0 or last:
            self.meter.read(self.plan.tokens)
            now = time.perf_counter()
            line = {
                "step": step,
                "loss": round(self.meter.drain(), 6),
                "lr": rest["lr_scheduler"].get_last_lr()[0],
                "tokens": self.meter.tokens,
                "tokens_per_s": round((self.meter.tokens - self.window_tokens) / max(1e-9, now - self.window)),
                "seconds": round(self.before.get("seconds", 0.0) + now - self.started, 2),
            }
            self.window, self.window_tokens = now, self.meter.tokens
            with disk_errors(self.run_dir, "metrics.jsonl"), (self.run_dir / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            runs.write_state(self.run_dir, "running", step=step, steps=state.max_steps)
            if self.say:
                self.say({"event": "step", "steps": state.max_steps, **line})
        if self.signal:
            control.should_training_stop = True
        control.should_save = not last and (bool(self.signal) or step % self.settings["save_every"][0] == 0)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the run after the step at hand, with a checkpoint."""

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number

        try:
            old = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not the main thread: nobody can send us a signal
            old = {}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


# ---- run ------------------------------------------------------------------------------------------------------------


def train_runs(run_dirs: list[Path], *, resume: bool = False, say: Say | None = None) -> list[dict[str, Any]]:
    """Train the runs one after another in this process and return their cards; equal sets are compiled once."""
    cards, shared = [], {}
    for run_dir in run_dirs:
        recipe = runs.read_recipe(run_dir)
        if resume and (run_dir / "run.json").exists() and runs.read_state(run_dir)["state"] == "done":
            cards.append(runs.read_json(run_dir / "run.json"))
            continue
        key = recipe.compile_key()
        if key not in shared:
            torch.set_num_threads(recipe.threads)
            runs.write_state(run_dir, "running", step=0, steps=0)
            with noted(run_dir):
                started = time.perf_counter()
                shared[key] = prepare(recipe)
                if say:
                    say({"event": "compiled", "seconds": round(time.perf_counter() - started, 2), **shared[key].report})
        card = train_run(run_dir, recipe, shared[key], resume=resume, say=say)
        cards.append(card)
        if card["state"] == "stopped":
            break
    return cards


@contextmanager
def noted(run_dir: Path) -> Iterator[None]:
    """Write down a failure in the state of the run before it goes up."""
    try:
        yield
    except BaseException as error:
        state = runs.read_state(run_dir)
        runs.write_state(run_dir, "failed", step=state["step"], steps=state["steps"], why=f"{type(error).__name__}: {error}")
        raise


def train_run(
    run_dir: Path, recipe: Recipe, prepared: Prepared, *, resume: bool = False, say: Say | None = None
) -> dict[str, Any]:
    """Train one run folder from its recipe, or go on from its newest complete checkpoint; return the run card."""
    torch.set_num_threads(recipe.threads)
    disable_progress_bar()  # ours says more, and a log file keeps every redraw of theirs
    with noted(run_dir):
        model = load_model(recipe, prepared.tokenizer, seed=recipe.seed)
        settings = resolve(recipe, prepared, **_size(model))
        if say:
            say({"event": "settings", "run": str(run_dir), "settings": settings})
        _keep_tokens(run_dir, prepared, resume=resume)
        plan = Plan(prepared.train, prepared.tokenizer, settings, seed=recipe.seed)
        meter = Meter(len(prepared.train))
        watch = Watch(run_dir, plan, meter, recipe, settings, say)
        trainer = _trainer(run_dir, recipe, model, plan, meter, settings, watch)
        found = runs.checkpoints(run_dir) if resume else []
        step, checkpoint = found[-1] if found else (0, None)
        last = runs.cut_metrics(run_dir, step)
        if checkpoint:
            meter.restore(checkpoint / "meter.npz")
            watch.resume(last)
        runs.write_state(run_dir, "running", step=step, steps=plan.steps)
        isolate(model)
        with watch.listening():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        meter.read(prepared.train)
        card = _card(run_dir, recipe, prepared, settings, meter, trainer.state.global_step)
        if trainer.state.global_step < plan.steps:
            runs.write_state(run_dir, "stopped", step=trainer.state.global_step, steps=plan.steps, why=f"signal {watch.signal}")
            card["state"] = "stopped"
            runs.write_json(run_dir / "run.json", card)
            return card
        return _finish(run_dir, recipe, prepared, model, meter, card)


def _size(model: Any) -> dict[str, int]:
    """Return the numbers that the settings depend on."""
    config = model.config.get_text_config()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "hidden": int(config.hidden_size),
        "layers": int(config.num_hidden_layers),
    }


def _keep_tokens(run_dir: Path, prepared: Prepared, *, resume: bool) -> None:
    """Save the compiled tokens in the run folder; on resume demand that they are the same."""
    saved = run_dir / "compiled" / "compile.json"
    if resume and saved.exists():
        old = runs.read_json(saved)["fingerprint"]
        if old != prepared.report["fingerprint"]:
            raise CurationError(
                f"{run_dir} was started on other tokens ({old[:12]}, now {prepared.report['fingerprint'][:12]})",
                "the set, the tokenizer or --max-length changed: start a new run without --resume",
            )
        return
    with disk_errors(run_dir, "the compiled tokens", run_dir / "compiled"):
        compiler.save(run_dir, prepared.train, prepared.held, prepared.left_out, prepared.report)


def _trainer(run_dir: Path, recipe: Recipe, model: Any, plan: Plan, meter: Meter, settings: Settings, watch: Watch) -> Steps:
    cuda = settings["device"][0] == "cuda"
    if settings["gradient_checkpointing"][0]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    args = TrainingArguments(
        output_dir=str(run_dir / "checkpoints" / "unfinished"),
        max_steps=plan.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=plan.accumulation,
        learning_rate=settings["lr"][0],
        max_grad_norm=1.0,
        seed=recipe.seed,
        use_cpu=not cuda,
        bf16=cuda,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    trainer = Steps(
        run_dir=run_dir,
        plan=plan,
        meter=meter,
        settings=settings,
        model=model,
        args=args,
        train_dataset=plan,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _card(run_dir: Path, recipe: Recipe, prepared: Prepared, settings: Settings, meter: Meter, step: int) -> dict[str, Any]:
    import accelerate
    import transformers

    manifest = compiler.set_card(Path(recipe.set))
    last = runs.cut_metrics(run_dir, step)
    return {
        "run": run_dir.name,
        "state": "running",
        "label": tiny.LABEL if recipe.base == TINY else "",
        "base": recipe.base,
        "method": "lora" if recipe.lora else "full",
        "seed": recipe.seed,
        "set": {key: manifest.get(key, "") for key in ("name", "hash", "spec_hash", "gate", "counts")},
        "tokens_fingerprint": prepared.report["fingerprint"],
        "splits": prepared.report["splits"],
        "steps": step,
        "tokens": meter.tokens,
        "supervised_tokens": meter.supervised,
        "epochs": round(meter.tokens / max(1, len(prepared.train.ids)), 3),
        "final_loss": last.get("loss"),
        "seconds": last.get("seconds"),
        "held_out": None,
        "settings": {name: {"value": value, "reason": reason} for name, (value, reason) in settings.items()},
        "recipe": asdict(recipe),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "accelerate": accelerate.__version__,
        },
    }


def _finish(run_dir: Path, recipe: Recipe, prepared: Prepared, model: Any, meter: Meter, card: dict[str, Any]) -> dict[str, Any]:
    """Measure, save the model and the row losses, write the card; then the checkpoints are no longer needed."""
    started = time.perf_counter()
    card["held_out"] = held_out(model, prepared)
    if recipe.row_losses == "final":
        meter.last = losses_of(model, prepared.train)[0]
    if recipe.row_losses != "off":
        _save_row_losses(run_dir, prepared.train, meter)
    _save_model(run_dir, recipe, prepared.tokenizer, model)
    card["closing_seconds"] = round(time.perf_counter() - started, 2)
    card["state"] = "done"
    runs.write_json(run_dir / "run.json", card)
    runs.write_state(run_dir, "done", step=card["steps"], steps=card["steps"])
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
    return card


def _save_row_losses(run_dir: Path, train: Tokens, meter: Meter) -> None:
    """Write the mean token loss of each row at its first and at its last visit; null = never visited."""
    first = pa.array(meter.first, pa.float32(), from_pandas=True)
    last = pa.array(meter.last, pa.float32(), from_pandas=True)
    drop = pa.array(meter.first - meter.last, pa.float32(), from_pandas=True)
    columns = {
        "row": pa.array(train.row),
        "uid": pa.array(train.uid, pa.string()),
        "train_loss_first": first,
        "train_loss_last": last,
        "loss_drop": drop,
    }
    part = run_dir / "row_losses.parquet.part"
    with disk_errors(run_dir, "row_losses.parquet"):
        pq.write_table(pa.table(columns), part)
        part.replace(run_dir / "row_losses.parquet")


def _save_model(run_dir: Path, recipe: Recipe, tokenizer: Any, model: Any) -> None:
    """Write model/ with tokenizer, chat template and generation settings; under LoRA also adapter/."""
    model.eval()
    if recipe.lora:
        with disk_errors(run_dir, "the adapter", run_dir / "adapter"):
            model.save_pretrained(run_dir / "adapter")
        model = model.merge_and_unload()
    unisolate(model)
    eot = compiler.Renderer(tokenizer).eot
    stops = model.generation_config.eos_token_id
    stops = [stops] if isinstance(stops, int) else list(stops or [])
    stops = stops if eot in stops else [eot, *stops]
    model.generation_config.eos_token_id = stops[0] if len(stops) == 1 else stops
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eot
    part = run_dir / "model.part"
    shutil.rmtree(part, ignore_errors=True)
    with disk_errors(run_dir, "the model", part):
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    shutil.rmtree(run_dir / "model", ignore_errors=True)
    part.rename(run_dir / "model")
    runs.sync_folder(run_dir)


def main(arguments: list[str]) -> int:
    """Train the run folders named on the command line (made by `curation train`), resuming where they stand."""
    try:
        train_runs([Path(argument) for argument in arguments], resume=True)
    except CurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
