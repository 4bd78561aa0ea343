"""A few greedy answers to fixed prompts while a run goes on: RUN/samples.jsonl, one line a prompt and step.

They show what the loss does not say. Speaking draws no random number and leaves the weights and the modes of the model
as they were, so a run gives the same bits with and without.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from curation.errors import CurationError

from . import battery
from .battery import Probe

FILE = "samples.jsonl"
#: Prompts answered at a look unless asked otherwise, and tokens an answer may have: 0.2 s of one core with tiny at most.
USUAL, ROOM = 3, 48
#: Characters a prompt may have: what is looked at often shall be short.
LONGEST = 1_500


@dataclass(frozen=True)
class Asked:
    """One fixed prompt. `probe` is None for a held-out row, whose answer cannot be scored without a judge."""

    id: str
    behaviour: str
    messages: tuple[dict[str, str], ...]
    wanted: str
    probe: Probe | None


def pick(set_dir: Path, n: int) -> list[Asked]:
    """Return up to `n` prompts of a set: its battery's, each behaviour in turn, else its validation rows', by family."""
    found = _of_battery(set_dir / "battery.jsonl") or _of_rows(set_dir)
    short = [a for a in found if sum(len(m["content"]) for m in a.messages) <= LONGEST]
    kinds: dict[str, list[Asked]] = {}
    for asked in short:
        kinds.setdefault(asked.behaviour, []).append(asked)
    turns = zip_longest(*kinds.values())
    return [asked for turn in turns for asked in turn if asked is not None][:n]


def _of_battery(path: Path) -> list[Asked]:
    if not path.is_file():
        return []
    return [Asked(p.id, p.behaviour, p.messages, p.answer, p) for p in battery.load(path)]


def _of_rows(set_dir: Path) -> list[Asked]:
    """Return the prompts of the validation rows that end with an answer."""
    import pyarrow.parquet as pq

    path = set_dir / "validation.parquet"
    if not path.is_file():
        return []
    table = pq.read_table(path)
    families = table["family"].to_pylist() if "family" in table.column_names else [""] * table.num_rows
    found = []
    for uid, family, messages in zip(table["uid"].to_pylist(), families, table["messages"].to_pylist(), strict=True):
        turns = tuple({"role": m["role"], "content": m["content"] or ""} for m in messages or ())
        if len(turns) > 1 and turns[-1]["role"] == "assistant" and turns[-2]["role"] == "user":
            found.append(Asked(uid, family or "", turns[:-1], turns[-1]["content"], None))
    return found


def speak(model: Any, tokenizer: Any, asked: Sequence[Asked], step: int) -> list[dict[str, Any]]:
    """Return one line a prompt: what the model, as it stands at `step`, answers greedily."""
    import torch

    from .generate import Chat, generate, turn_ends

    device = next(model.parameters()).device
    context = int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20)
    chat = Chat(model, tokenizer, str(device), turn_ends(model, tokenizer), context)
    with _at_rest(model), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        answers = generate(chat, [a.messages for a in asked], max_new_tokens=ROOM)
    return [
        {
            "step": step,
            "id": a.id,
            "behaviour": a.behaviour,
            "prompt": a.messages[-1]["content"],
            "wanted": a.wanted,
            "output": answer.text,
            "stopped": answer.stopped,
            "passed": battery.score([a.probe], [answer])[0]["passed"] if a.probe else None,
        }
        for a, answer in zip(asked, answers, strict=True)
    ]


@contextmanager
def _at_rest(model: Any) -> Iterator[None]:
    """Let the model answer plain batches, then give it its attention, its mode and the random numbers back."""
    import torch

    from .isolate import isolate

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before, training = base.config._attn_implementation, model.training
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), torch.compiler.set_stance("force_eager"):
        base.set_attn_implementation("sdpa")
        model.eval()
        try:
            yield
        finally:
            model.train(training)
            isolate(model)
    assert base.config._attn_implementation == before, f"attention was {before}, is {base.config._attn_implementation}"


def append(run_dir: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Add the lines of one look in one write."""
    with (run_dir / FILE).open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read(run_dir: Path) -> list[dict[str, Any]]:
    """Return the lines of a run, oldest first; a last line that is being written, or that a kill cut off, is left out."""
    path = run_dir / FILE
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            found.append(json.loads(line))
        except ValueError as e:
            raise CurationError(f"{path}:{number}: not a line of samples ({e})", "remove the file, no run needs it") from e
    return found


def cut(run_dir: Path, step: int) -> None:
    """Drop the lines behind `step`: a run that goes on from there will say them again."""
    path = run_dir / FILE
    if not path.exists():
        return
    kept = [line for line in read(run_dir) if line["step"] <= step]
    part = path.with_name(FILE + ".part")
    part.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept), encoding="utf-8")
    part.replace(path)
