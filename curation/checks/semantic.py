"""The check for rows that say the same in other words, by embeddings; it waits to be asked for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import CurationError
from .base import check, flags

#: Rows of the product held at once: BLOCK x BLOCK float32 is 16 MB.
BLOCK = 2048
#: Taken from the score when the prompts ask with different numbers ("list 3", "list 5").
OTHER_NUMBERS = 0.1
RELATED = 50
#: From here on two rows are copies: dup.exact and dup.near speak of them.
COPY = 0.9995
NUMBER = re.compile(r"\d+(?:[.,]\d+)*|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b")
DIGITS = {w: str(k) for k, w in enumerate(
    ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], 2)}


class Vectors(Protocol):
    """What the engine hands over: embeddings, computed when asked for and kept in the dataset folder."""

    def of(self, uids: Sequence[str], texts: Sequence[str], model: str = "") -> np.ndarray:
        """Return (n, dim) float32 vectors of unit length."""
        ...


def views(rows: pa.Table) -> list[list[str]]:
    """Return (instruction, prompt, response) of the rows; the prompt is the instruction and its input."""
    instruction, given, response = (pc.fill_null(rows[c], "").to_pylist() for c in ("instruction", "input", "response"))
    return [instruction, [f"{i}\n{x}" if x else i for i, x in zip(instruction, given, strict=True)], response]


def likeness(vectors: np.ndarray, numbers: Sequence[frozenset[str]], left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the scores, in [0, 1], of pairs of rows; `vectors`: rows of `joined`, `numbers`: those of each prompt."""
    score = np.einsum("ij,ij->i", vectors[left], vectors[right])
    other = np.array([numbers[a] != numbers[b] for a, b in zip(left.tolist(), right.tolist(), strict=True)], np.float32)
    return np.clip(score - OTHER_NUMBERS * other, 0.0, 1.0)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return unit vectors side by side, scaled so that a dot product is the mean of their cosines."""
    return np.concatenate([np.asarray(p, np.float32) for p in parts], axis=1) / np.float32(np.sqrt(len(parts)))


def numbers_of(prompts: Sequence[str]) -> list[frozenset[str]]:
    """Return the numbers in each prompt, as digits; "one" is not taken for a number."""
    return [frozenset(DIGITS.get(n, n) for n in NUMBER.findall(x.lower())) for x in prompts]


def calibrate(score: np.ndarray, same: np.ndarray, precision: float = 0.9) -> float:
    """Return the lowest threshold at which `precision` of the pairs above are the same, from labelled pairs.

    Fifty pairs that a person has judged are enough for a start. Raises CurationError when no threshold does.
    """
    order = np.argsort(-score, kind="stable")
    value, right = score[order], np.cumsum(same[order]) / np.arange(1, len(order) + 1)
    last = np.r_[value[1:] != value[:-1], True]     # pairs of one score stand or fall together
    good = np.flatnonzero(last & (right >= precision))
    if not len(good):
        raise CurationError(f"no threshold reaches a precision of {precision:g} on these {len(score)} pairs",
                            "label more pairs, or ask for less")
    return float(value[good[-1]])


@check("dup.semantic", reads=("messages", "system", "instruction", "input", "response"), severity="warning", action="review",
       scope="dataset")
def semantic(rows: pa.Table, vectors: Vectors, *, on: bool = False, threshold: float = 0.85, model: str = "") -> pa.Table:
    """The row says what another row says, in other words.

    Runs only when it is named (--checks dup.semantic) or switched on (on: true), because embeddings take about a
    second for 35 rows on one core; they are kept in the dataset folder. The score is the mean cosine of the
    embeddings of instruction, prompt and response, less 0.1 when the prompts have different numbers. Every pair is
    looked at. The first of the rows that are alike stays; a row is flagged when it resembles one that stays, and
    `related` names that one first. Rows with earlier turns are left out; copies are dup.exact's. `model`: folder of
    another sentence-transformers model. On 86 labelled pairs the score tells duplicates from the rest with AUC .86;
    9 reach the default, 6 of them duplicates and 1 a near one. `calibrate` finds the threshold for other data.

    Why: paraphrases crowd out other rows and leak across a split without sharing a run of words.
    Misses: what lies beyond the model's longest input (256 tokens by default); rows of several turns.
    False positives: the same task about two things ("... of a relational database", "... of a graph database").
    """
    if not 0.0 < threshold <= 1.0:
        raise CurationError(f"dup.semantic: threshold {threshold} is not a similarity",
                            "set it above 0 and at most 1, such as 0.85")
    if not on:
        return flags(rows, {"at": []})
    turns = pc.fill_null(pc.list_value_length(rows["messages"]), 0).to_numpy()
    asks = np.asarray(pc.not_equal(pc.fill_null(rows["instruction"], ""), ""))
    system = np.asarray(pc.not_equal(pc.fill_null(rows["system"], ""), ""))
    at = np.flatnonzero(asks & (turns <= 2 + system))
    if len(at) < 2:
        return flags(rows, {"at": []})
    some = rows.take(pa.array(at))
    texts, uids = views(some), some["uid"].to_pylist()
    space = joined([vectors.of(uids, x, model) for x in texts])
    left, right, score = _alike(space, numbers_of(texts[1]), threshold)
    return _flags(rows, at[left], at[right], score)


def _alike(
    space: np.ndarray, numbers: Sequence[frozenset[str]], threshold: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (left, right, score) of all pairs that reach the threshold, left < right."""
    out = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for i in range(0, len(space), BLOCK):
        for j in range(i, len(space), BLOCK):
            a, b = np.nonzero(space[i:i + BLOCK] @ space[j:j + BLOCK].T >= threshold - 1e-6)
            a, b = a + i, b + j
            a, b = a[a < b], b[a < b]
            score = likeness(space, numbers, a, b)
            held = (score >= threshold) & (score < COPY)
            out.append((a[held], b[held], score[held]))
    left, right, score = (np.concatenate(x) for x in zip(*out))
    return left, right, score


def _flags(rows: pa.Table, left: np.ndarray, right: np.ndarray, score: np.ndarray) -> pa.Table:
    """Return the flags of rows that resemble an earlier row which is not flagged itself."""
    number = rows["row"].to_numpy()
    best: dict[int, tuple[int, float]] = {}
    others: dict[int, list[int]] = defaultdict(list)
    order = np.lexsort((-score, right))
    for a, b, s in zip(left[order].tolist(), right[order].tolist(), score[order].tolist(), strict=True):
        others[b].append(int(number[a]))
        if a not in best and b not in best:
            best[b] = (a, s)
    at = sorted(best)
    first = [int(number[best[i][0]]) for i in at]
    return flags(rows, {
        "at": at,
        "score": [best[i][1] for i in at],
        "message": [f"says in other words ({best[i][1]:.2f}) what row {f} says" for i, f in zip(at, first, strict=True)],
        "related": [[f, *(x for x in others[i] if x != f)][:RELATED] for i, f in zip(at, first, strict=True)],
    })
