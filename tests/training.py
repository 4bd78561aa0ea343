"""Small sets and small bases that the tests of the trainer share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.model import MESSAGES

Turns = list[dict[str, str]]
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


def pair(prompt: str, answer: str) -> Turns:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def echoes(n: int, *, start: int = 0, exchanges: int = 1) -> list[Turns]:
    """Return n conversations that ask to repeat words; every second one has `exchanges` exchanges, the others one."""
    made = []
    for i in range(start, start + n):
        turns: Turns = []
        for k in range(exchanges if i % 2 else 1):
            said = " ".join(WORDS[(i * j + k + 1) % 8] for j in range(2, 4 + i % 9))
            turns += pair(f"Repeat: {said}", said + ".")
        made.append(turns)
    return made


def write_set(folder: Path, train: list[Turns], held: list[Turns], *, family: str = "echo") -> Path:
    """Write a set to train on: rows 0 ... and, from 1000, the held-out ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, start, rows in (("train", 0, train), ("validation", 1000, held)):
        columns = {
            "row": pa.array(range(start, start + len(rows)), pa.int64()),
            "uid": pa.array([f"uid-{start + i}" for i in range(len(rows))], pa.string()),
            "family": pa.array([family] * len(rows), pa.string()),
            "messages": pa.array(rows, MESSAGES),
        }
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    return folder


def save_base(folder: Path, tokenizer: Any, *, hidden: int = 32, seed: int = 3) -> Path:
    """Save a random Llama with grouped heads, as any local base is saved."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, pad_token_id=0, eos_token_id=0,
        bos_token_id=None,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def echo_base(folder: Path, set_dir: Path, *, hidden: int = 32) -> Path:
    """Save a base whose tokenizer was made from a set."""
    from curation.train import base as bases
    from curation.train.runs import Recipe

    return save_base(folder, bases.load_tokenizer(Recipe(set=str(set_dir))), hidden=hidden)
