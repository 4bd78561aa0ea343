"""Small linear heads over hashed n-grams: the features, the coefficients shipped with the package, the scores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from .features import features

if TYPE_CHECKING:   # imported where it is used: a worker that is asked for nothing by heads is sooner ready
    from scipy import sparse

FOLDER = Path(__file__).parent / "coefficients"
WORD_BITS, CHAR_BITS, CUE_BITS, CROSS_BITS = 16, 15, 11, 16
_CROSSED = (1 << WORD_BITS) + (1 << CHAR_BITS) + (1 << CUE_BITS)
SIZE = _CROSSED + (1 << CROSS_BITS)  # features: word n-grams, character n-grams, named cues, phrases crossed with cues
OPENING = 12  # tokens at the start whose n-grams also count as "at the start"

_PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u00b4": "'", "`": "'", "\u201c": '"',
                        "\u201d": '"', "\u00a0": " ", "\t": " ", "\r": "\n"})

_ODD = re.compile("[\t\r`]")


def plain(text: str, chars: int) -> str:
    """Return the first `chars` characters in lower case with plain quotes, as the features see them."""
    cut = text[:chars]
    return (cut if cut.isascii() and not _ODD.search(cut) else cut.translate(_PLAIN)).lower()


def _hash_cue(name: str) -> int:
    h = 2166136261
    for byte in name.encode():
        h = ((h ^ byte) * 16777619) & 0xFFFFFFFF
    return (1 << WORD_BITS) + (1 << CHAR_BITS) + ((h ^ (h >> 15)) & ((1 << CUE_BITS) - 1))


_cue = lru_cache(maxsize=8192)(_hash_cue)


def ngrams(texts: Sequence[str], *, idf: np.ndarray | None = None) -> sparse.csr_matrix:
    """Return the (texts, SIZE) float32 n-gram features of texts made `plain`: each block of length 1.

    Word n-grams (1 to 3; those of the opening counted a second time as such) and character n-grams (3 to 5, inside
    words) are hashed; `idf`: (SIZE,) float32 weights, None = all 1. Lone surrogates are hashed as "?".
    """
    from scipy import sparse

    weights = np.ones(SIZE, np.float32) if idf is None else idf
    place, value, starts = features([t.encode("utf-8", "replace") for t in texts], weights, WORD_BITS, CHAR_BITS, OPENING)
    return sparse.csr_matrix((value, place, starts), shape=(len(texts), SIZE))


def cues(names: Sequence[Sequence[str]], weight: float = 1.0) -> sparse.csr_matrix:
    """Return the (rows, SIZE) features of named cues, each worth `weight` beside blocks of n-grams of length 1."""
    from scipy import sparse

    found = [sorted({_cue(n) for n in row}) for row in names]
    indptr = np.zeros(len(found) + 1, np.int64)
    np.cumsum([len(f) for f in found], out=indptr[1:])
    index = np.array([i for f in found for i in f], np.int32)
    return sparse.csr_matrix((np.full(len(index), weight, np.float32), index, indptr), shape=(len(found), SIZE))


def crosses(rows: Sequence[tuple[Sequence[str], Sequence[str]]], weight: float) -> sparse.csr_matrix:
    """Return the (rows, SIZE) features of every phrase together with every cue of a row: one block of length `weight`.

    The same words mean one thing when nothing follows and another before a lecture.
    """
    from scipy import sparse

    found = []
    for phrases, names in rows:
        a = np.array([crc32(p.encode("utf-8", "replace")) for p in phrases], np.uint64)
        b = np.array([crc32(n.encode()) for n in names], np.uint64)
        h = (a[:, None] * np.uint64(0x9E3779B97F4A7C15)) ^ (b[None, :] * np.uint64(0xBF58476D1CE4E5B9))
        found.append(np.unique(((h ^ (h >> np.uint64(29))) >> np.uint64(7)) & np.uint64((1 << CROSS_BITS) - 1)))
    count = np.array([len(f) for f in found], np.int64)
    value = np.repeat(weight / np.sqrt(np.maximum(count, 1)), count).astype(np.float32)
    index = _CROSSED + np.concatenate(found).astype(np.int32) if found else np.zeros(0, np.int32)
    return sparse.csr_matrix((value, index, np.concatenate([[0], np.cumsum(count)])), shape=(len(found), SIZE))


@dataclass(frozen=True)
class Head:
    """A linear classifier. `weight`: (SIZE, columns) float32, two classes have one column, for the second;
    `cue`: what a named cue is worth; `cross`: the length of the block of phrases crossed with cues, 0 = none.
    """

    classes: tuple[str, ...]
    weight: np.ndarray
    bias: np.ndarray
    cue: float
    cross: float = 0.0


@dataclass(frozen=True)
class Bank:
    """Heads over the same n-grams. `idf`: (SIZE,) float32, 0 = the n-gram is not used."""

    idf: np.ndarray
    heads: dict[str, Head]

    def features(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Return the n-gram features of texts made `plain`."""
        return ngrams(texts, idf=self.idf)

    def probabilities(
        self, name: str, x: sparse.csr_matrix, named: sparse.csr_matrix,
        crossed: Sequence[tuple[Sequence[str], Sequence[str]]] = (),
    ) -> np.ndarray:
        """Return the (texts, classes) float32 probabilities of a head from `features`, `cues` and what it crosses."""
        head = self.heads[name]
        x = x + head.cue * named
        if head.cross:
            x = x + crosses(crossed, head.cross)
        return probabilities(np.asarray(x @ head.weight) + head.bias)


def probabilities(z: np.ndarray) -> np.ndarray:
    """Return the class probabilities of decision values: logistic for one column, softmax for more."""
    if z.shape[1] == 1:
        p = 1.0 / (1.0 + np.exp(-np.clip(z, -30.0, 30.0)))
        return np.hstack([1.0 - p, p]).astype(np.float32)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=4)
def load(name: str) -> Bank:
    """Return the bank shipped as `coefficients/<name>.npz`, which benchmarks/heads.py writes.

    Weights are bytes times a scale a column. Arrays: idf (SIZE) uint8 and idf_scale; for each head h of `heads`:
    h.classes, h.index (steps between features used), h.weight (used, columns) int8, h.scale and h.bias (columns), h.cue, h.cross.
    """
    heads = {}
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as f:
        for head in [str(h) for h in f["heads"]]:
            packed = f[f"{head}.weight"]
            weight = np.zeros((SIZE, packed.shape[1]), np.float32)
            weight[np.cumsum(f[f"{head}.index"])] = packed.astype(np.float32) * f[f"{head}.scale"].astype(np.float32)
            classes = tuple(str(c) for c in f[f"{head}.classes"])
            heads[head] = Head(classes, weight, f[f"{head}.bias"].astype(np.float32), float(f[f"{head}.cue"]),
                               float(f[f"{head}.cross"]))
        return Bank(f["idf"].astype(np.float32) * np.float32(f["idf_scale"]), heads)
