"""A table of token vectors distilled from a sentence-transformers model: thousands of rows a second, without torch."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from .errors import CurationError, needs

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

DIM = 256           # principal components kept; 384 is not better on labelled pairs
RECIPE = "2"        # part of the hash: a change of how the table is made makes another table
READ = 2000         # characters of a text that count: the full model reads 256 tokens, about 1,300 characters
_AT_ONCE = 512      # tokens the model sees at once while the table is made
_CHUNK = 4096       # texts between two reports of progress
_KNOWN = 500_000    # words whose tokens are remembered; about 100 MB
_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")


class Distilled:
    """An encoder that adds up a vector for each token: the full model's for the token alone, common tokens weighing less.

    Vectors of tokens are cut to their first 256 principal components and weighted by log(1 + rank in the vocabulary),
    which lies by falling frequency, as model2vec does it. Word order does not count.
    """

    def __init__(self, model: str, why: str, folder: Path, hash: str, table: np.ndarray) -> None:
        self.model, self.why, self.folder, self.hash = model, why, folder, hash
        self.table = table                          # (tokens, 256) float32, weighted
        self._tokenizer: Any = None
        self._known: dict[str, tuple[int, ...]] = {}

    @property
    def dim(self) -> int:
        return int(self.table.shape[1])

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Return (n, 256) float32 vectors of unit length; a text without words gets that of the unknown token."""
        out = np.empty((len(texts), self.dim), np.float32)
        for k in range(0, len(texts), _CHUNK):
            part = [_WORD.findall(text[:READ].lower()) for text in texts[k : k + _CHUNK]]
            out[k : k + len(part)] = self._pooled(part)
            if progress:
                progress(k + len(part), len(texts))
        return out

    def _pooled(self, texts: list[list[str]]) -> np.ndarray:
        from scipy.sparse import csr_matrix

        tokens = self._tokens_of(texts)
        start = np.zeros(len(tokens) + 1, np.int64)
        np.cumsum([len(t) for t in tokens], out=start[1:])
        flat = np.fromiter(chain.from_iterable(tokens), np.int32, int(start[-1]))
        total = csr_matrix((np.ones(len(flat), np.float32), flat, start), shape=(len(tokens), len(self.table))) @ self.table
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return total / np.where(length > 0, length, 1)

    def _tokens_of(self, texts: list[list[str]]) -> list[list[int]]:
        """Return the token numbers of each text, at least one; every different word is tokenised once."""
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self.folder)
        if len(self._known) > _KNOWN:
            self._known.clear()
        new = list(set(chain.from_iterable(texts)) - self._known.keys())
        found = self._tokenizer.encode_batch([f" {word}" for word in new], add_special_tokens=False)
        self._known.update(zip(new, (tuple(f.ids) for f in found)))
        unknown = self._tokenizer.token_to_id("[UNK]") or 0
        known = self._known
        return [list(chain.from_iterable(map(known.__getitem__, words))) or [unknown] for words in texts]


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def distilled(encoder: Any, progress: Progress | None = None) -> Distilled:
    """Return the table for `encoder` (a vectors.Encoder), from the user's cache folder, or made now (about 20 s on a core).

    Making it needs torch and sentence-transformers, using it does not.
    """
    if not (encoder.folder / "tokenizer.json").is_file():
        raise CurationError(f"{encoder.folder}: no tokenizer.json, so there is nothing to distil a table from",
                            "use the full model: --model full")
    needs("tokenizers", "train")
    mark = hash_of(encoder)
    path = cache_folder() / f"static-{mark}.npy"
    name, why = f"static:{encoder.model}", f"a table of {DIM} numbers a token, distilled from {encoder.model}"
    if not path.exists():
        log.warning("making %s from %s: about 20 s on one core, once on this machine", path, encoder.model)
        _save(path, distil(encoder.load(), progress).astype(np.float16))
    try:
        table = np.load(path).astype(np.float32)
    except ValueError:
        log.warning("%s is damaged and is made anew", path)
        path.unlink(missing_ok=True)
        return distilled(encoder, progress)
    return Distilled(name, why, encoder.folder, mark, table)


def hash_of(encoder: Any) -> str:
    """Return the 16 hex digits that name the table distilled from `encoder`."""
    return hashlib.sha256(f"{encoder.hash} {RECIPE} {DIM}".encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Return the folder for what can be made again: $XDG_CACHE_HOME/curation, else ~/.cache/curation."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curation"


def distil(model: Any, progress: Progress | None = None) -> np.ndarray:
    """Return the weighted token vectors of a sentence-transformers model, (tokens, up to 256) float64.

    The largest entry of each axis is positive, so that what was learnt from one machine's table holds on another.
    """
    import torch

    tokenizer = model.tokenizer
    count, marks = len(tokenizer), tokenizer("")["input_ids"]
    before, after = marks[: len(marks) // 2], marks[len(marks) // 2 :]
    parts = []
    for k in range(0, count, _AT_ONCE):
        ids = torch.tensor([[*before, i, *after] for i in range(k, min(k + _AT_ONCE, count))], device=model.device)
        with torch.inference_mode():
            out = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["sentence_embedding"]
        parts.append(out.float().cpu().numpy())
        if progress:
            progress(min(k + _AT_ONCE, count), count)
    x = np.concatenate(parts).astype(np.float64)
    x -= x.mean(axis=0)
    _, axes = np.linalg.eigh(x.T @ x)
    axes = axes[:, ::-1][:, :DIM]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1)
    return x @ axes * np.log1p(np.arange(count))[:, None]


def _save(path: Path, table: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as sink:
            np.save(sink, table)
        os.replace(temporary, path)
    except OSError as e:
        raise CurationError(f"{path}: the distilled table cannot be kept ({e})",
                            "set XDG_CACHE_HOME to a folder that can be written, or use the full model: --model full") from e
