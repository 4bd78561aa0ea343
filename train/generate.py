"""Greedy answers of a chat model to many prompts: batched, left-padded, cached, sorted by length, reproducible."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import CurationError, needs

Messages = Sequence[dict[str, str]]
#: Tokens a batch may hold, padding and room for the answer included.
BATCH_TOKENS = 24_000
BATCH_ROWS = 128
#: Share of a batch that may have ended before those rows are taken out, which copies the cache of the others.
IDLE = 0.2
#: Ends of a turn in common chat templates, besides the tokenizer's own end token.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "</s>")


@dataclass(frozen=True)
class Answer:
    """What a model said. `stopped`: it ended its turn by itself; `tokens`: generated ones, the end included."""

    text: str
    stopped: bool
    tokens: int


@dataclass(frozen=True)
class Chat:
    """A loaded model with its tokenizer, where it runs and the token ids that end a turn."""

    model: Any
    tokenizer: Any
    device: str
    ends: tuple[int, ...]
    context: int


def model_folder(run: Path) -> Path:
    """Return the Hugging Face folder of a run folder (RUN/model) or of a model folder. Raises CurationError."""
    for folder in (run / "model", run):
        if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
            return folder
    if (run / "state.json").is_file():
        state = json.loads((run / "state.json").read_text(encoding="utf-8")).get("state")
        raise CurationError(
            f"{run} has no model yet (state: {state})", f"curation train ... --out {run} --resume finishes it"
        )
    raise CurationError(f"{run} is neither a run folder nor a model folder", "curation train SET makes a run")


def load(run: Path, *, threads: int = 1) -> Chat:
    """Return the model of a run or model folder: on a CUDA device in bf16 if there is one, else on `threads` cores."""
    needs("torch", "train")
    needs("transformers", "train")
    folder = model_folder(run)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    torch.set_num_threads(threads)
    disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16 if device == "cuda" else torch.float32
        )
    except (OSError, ValueError) as e:
        raise CurationError(
            f"{folder}: not a readable model ({e})", "train the run again or name another folder"
        ) from None
    if not tokenizer.chat_template:
        raise CurationError(
            f"{folder}: the tokenizer has no chat template", "train on the base first, or add a template"
        )
    model.to(device).eval()
    context = getattr(model.config, "max_position_embeddings", None) or 1 << 20
    return Chat(model, tokenizer, device, turn_ends(model, tokenizer), int(context))


def turn_ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return the ids that end a turn: those of the generation settings, the tokenizer and known templates."""
    found: set[int] = set()
    for given in (getattr(model.generation_config, "eos_token_id", None), tokenizer.eos_token_id):
        found.update([given] if isinstance(given, int) else given or [])
    vocabulary = tokenizer.get_vocab()
    found.update(vocabulary[t] for t in TURN_ENDS if t in vocabulary)
    return tuple(sorted(found))


def generate(
    chat: Chat,
    prompts: Sequence[Messages],
    *,
    max_new_tokens: int = 96,
    progress: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """Return the greedy answer to each conversation, in the order given.

    The same model and prompts give the same answers. A prompt that leaves no room in the model's context gets an
    empty answer that did not stop: nothing is cut silently.
    """
    encoded = [_encode(chat, p) for p in prompts]
    answers = [Answer("", False, 0)] * len(prompts)
    order = [i for i in np.argsort([len(e) for e in encoded], kind="stable") if len(encoded[i]) < chat.context]
    done = 0
    for batch in _batches(order, encoded, max_new_tokens):
        width = max(len(encoded[i]) for i in batch)
        new = _greedy(chat, [encoded[i] for i in batch], min(max_new_tokens, chat.context - width))
        for i, ids in zip(batch, new, strict=True):
            stopped = bool(ids) and ids[-1] in chat.ends
            text = chat.tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=True)
            answers[i] = Answer(text, stopped, len(ids))
        done += len(batch)
        if progress is not None:
            progress(done, len(order))
    return answers


def _encode(chat: Chat, messages: Messages) -> list[int]:
    given = chat.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)
    return list(given["input_ids"])


def _batches(order: Sequence[int], encoded: Sequence[list[int]], room: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for i in order:
        size = len(encoded[i]) + room  # order is by length, so the newest is the widest
        if not batches or len(batches[-1]) >= BATCH_ROWS or (len(batches[-1]) + 1) * size > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(int(i))
    return batches


def _greedy(chat: Chat, prompts: Sequence[list[int]], room: int) -> list[list[int]]:
    """Return the generated ids of each prompt, its end token included. Rows that have ended leave the batch."""
    import torch

    n, width = len(prompts), max(map(len, prompts))
    pad = chat.tokenizer.pad_token_id if chat.tokenizer.pad_token_id is not None else chat.ends[0]
    ids = np.full((n, width), pad, dtype=np.int64)
    mask = np.zeros((n, width + room), dtype=np.int64)
    mask[:, width:] = 1
    for r, p in enumerate(prompts):
        ids[r, width - len(p) :] = p
        mask[r, width - len(p) : width] = 1
    tokens, seen = torch.from_numpy(ids).to(chat.device), torch.from_numpy(mask).to(chat.device)
    positions = (seen[:, :width].cumsum(1) - 1).clamp(min=0)
    cache = _cache(chat.model, width + room)
    rows, ended = list(range(n)), [False] * n
    out: list[list[int]] = [[] for _ in range(n)]
    with torch.inference_mode():
        for step in range(room):
            logits = chat.model(
                input_ids=tokens,
                attention_mask=seen[:, : width + step],
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            tokens = logits.argmax(-1, keepdim=True)
            for r, token in zip(rows, tokens[:, 0].tolist(), strict=True):
                if not ended[r]:
                    out[r].append(token)
                    ended[r] = token in chat.ends
            running = [k for k, r in enumerate(rows) if not ended[r]]
            if not running:
                break
            positions = positions[:, -1:] + 1
            if len(running) < (1 - IDLE) * len(rows):
                keep = torch.tensor(running, device=chat.device)
                rows = [rows[k] for k in running]
                tokens, seen, positions = tokens[keep], seen[keep], positions[keep]
                cache.batch_select_indices(keep)
    return out


def _cache(model: Any, length: int) -> Any:
    """Return a key-value cache with room for `length` tokens: transformers' own copies all of it at every token."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    class Roomy(DynamicLayer):
        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            n, heads, new, _ = key_states.shape
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.room = [x.new_empty((n, heads, length, x.shape[-1])) for x in (key_states, value_states)]
                self.used = 0
            self.room[0][:, :, self.used : self.used + new] = key_states
            self.room[1][:, :, self.used : self.used + new] = value_states
            self.used += new
            self.keys, self.values = (x[:, :, : self.used] for x in self.room)
            return self.keys, self.values

        def batch_select_indices(self, indices: Any) -> None:
            self.room = [x[indices] for x in self.room]
            self.keys, self.values = (x[:, :, : self.used] for x in self.room)

    cache = DynamicCache(config=model.config)
    cache.layers = [Roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
