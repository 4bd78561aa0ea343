"""All pairs of rows whose vectors are close: exactly for few rows, over random cells with a promised recall for many."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

#: Dimensions that pairs are looked for in; the score is computed from the vectors themselves.
DIM = 256
#: The first dimensions of these rule out most pairs of a cell at half the cost: 4.8 s of a core for 100,000 rows instead
#: of 6.4, 1.7 for 25,000 instead of 2.6 (`benchmarks/cosine.py --sift 256` does without).
SIFT = 128
#: Up to this many distinct rows every pair is looked at: 12 s on one core.
EXACT = 25_000
#: A pair exactly at the threshold shares a cell with this probability.
RECALL = 0.98
#: The cosine after projection is off by (1 - cos^2) / sqrt(DIM) on average: .02 at .85. Four times that is let through.
SLACK = 4.0
#: Rows multiplied at once: BLOCK x BLOCK float32 is 16 MB.
BLOCK = 2048
#: Earlier rows found for a row in one cell; ten thousand paraphrases do not name each other.
MOST = 64
SEED = 20_231


@dataclass(frozen=True)
class Pairs:
    """Pairs left < right; `full`: some row found MOST / 2 others or more in a cell, so it may be close to more than MOST."""

    left: np.ndarray  # (m,) int64
    right: np.ndarray  # (m,) int64
    full: bool


def projected(vectors: Callable[[np.ndarray], np.ndarray], at: np.ndarray, wide: int) -> np.ndarray:
    """Return (n, DIM) float16 unit vectors: those of the rows `at` on random axes; `wide`: length of a vector.

    Up to DIM dimensions nothing is lost; beyond, the cosine of two rows is kept up to an error told at SLACK.
    """
    rng = np.random.default_rng(SEED)
    axes = rng.normal(size=(wide, DIM)).astype(np.float32)
    if wide <= DIM:
        axes = np.linalg.qr(axes.T.astype(np.float64))[0].T.astype(np.float32)
    out = np.empty((len(at), DIM), np.float16)
    for start in range(0, len(at), BLOCK):
        part = np.asarray(vectors(at[start : start + BLOCK]), np.float32) @ axes
        out[start : start + BLOCK] = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
    return out


@lru_cache(8)
def tables_for(threshold: float, recall: float = RECALL) -> int:
    """Return how many divisions into cells it takes to meet a pair at `threshold` with probability `recall`.

    The chance of one division depends on the cosine alone, because its axes point anywhere with equal chance; it is
    counted on 4,000 drawn pairs.
    """
    rng = np.random.default_rng(SEED)
    x, z = rng.normal(size=(2, 4000, DIM))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    z -= (z * x).sum(axis=1, keepdims=True) * x
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    y = threshold * x + math.sqrt(max(0.0, 1.0 - threshold**2)) * z
    met = float((_cells(x, _axes(0)) == _cells(y, _axes(0))).mean())
    return 1 if met >= recall else max(1, math.ceil(math.log(1 - recall) / math.log(1 - met)))


@lru_cache(64)
def _axes(table: int) -> np.ndarray:
    """Return (DIM, DIM) float32: orthogonal axes of a division, drawn anew for each."""
    rng = np.random.default_rng([SEED, table])
    return np.linalg.qr(rng.normal(size=(DIM, DIM)))[0].astype(np.float32)


def _cells(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return (n,) int16: the axis, with its sign, that each point is nearest to (cross-polytope cells)."""
    out = np.empty(len(points), np.int16)
    for start in range(0, len(points), BLOCK):
        on = points[start : start + BLOCK].astype(np.float32) @ axes
        best = np.abs(on).argmax(axis=1)
        out[start : start + BLOCK] = 2 * best + (on[np.arange(len(on)), best] < 0)
    return out


def divisions(n: int, threshold: float) -> int:
    """Return how many divisions into cells are used for `n` distinct rows; 0: every pair is looked at."""
    return 0 if n <= EXACT else tables_for(threshold)


def cells_of(points: np.ndarray, tables: int) -> np.ndarray:
    """Return (n, tables) int16: the cell of each point in each division; a point's cells do not depend on the others."""
    out = np.empty((len(points), tables), np.int16)
    for table in range(tables):
        out[:, table] = _cells(points, _axes(table))
    return out


def candidates(points: np.ndarray, cells: np.ndarray, ask: np.ndarray, threshold: float) -> Pairs:
    """Return the pairs that may reach the cosine `threshold` and of which one row is asked for.

    `points`: (n, DIM) of `projected`; `cells`: of `cells_of`, without columns when every pair is looked at; `ask`: (n,)
    bool. A pair at the threshold is found with probability RECALL or more, a closer one more surely; pairs that do not
    reach the threshold may come along.
    """
    if not cells.shape[1]:
        return _within(points, np.arange(len(points)), ask, threshold)
    found, full = np.zeros(0, np.int64), False
    for cell in cells.T:
        order = np.argsort(cell, kind="stable")
        ends = np.flatnonzero(np.r_[np.diff(cell[order]) != 0, True]) + 1
        parts = [found]
        for start, end in zip(np.r_[0, ends[:-1]].tolist(), ends.tolist(), strict=True):
            pairs = _within(points, order[start:end], ask, threshold)
            full |= pairs.full
            parts.append(pairs.left * len(points) + pairs.right)
        found = np.unique(np.concatenate(parts))
    return Pairs(found // len(points), found % len(points), full)


def _floor(threshold: float, dim: int) -> float:
    """Return the cosine in `dim` random dimensions from which on a pair may have `threshold` in all of them."""
    return threshold - SLACK * (1.0 - threshold**2) / math.sqrt(dim) - 0.002  # float16 keeps three digits


def _within(points: np.ndarray, members: np.ndarray, ask: np.ndarray, threshold: float) -> Pairs:
    """Return pairs of `members` (ascending) that may reach the threshold, at most MOST earlier ones a row, earliest first."""
    out, full = [(np.zeros(0, np.int64), np.zeros(0, np.int64))], False
    asked = ask[members]
    if len(members) < 2 or not asked.any():
        return Pairs(*out[0], False)
    mine = points[members].astype(np.float32)
    sift = mine[:, :SIFT] / np.maximum(np.linalg.norm(mine[:, :SIFT], axis=1, keepdims=True), 1e-6)
    for r in range(0, len(members), BLOCK):
        rights = np.arange(r, min(r + BLOCK, len(members)))
        count = np.zeros(len(rights), np.int64)
        for x in range(0, r + len(rights), BLOCK):
            lefts = np.arange(x, min(x + BLOCK, r + len(rights)))
            for some, others in ((rights[asked[rights]], lefts), (rights[~asked[rights]], lefts[asked[lefts]])):
                some = some[count[some - r] < MOST]
                if not len(some) or not len(others):
                    continue
                b, a = np.nonzero(sift[some] @ sift[others].T >= _floor(threshold, SIFT))
                a, b = others[a], some[b]
                a, b = a[a < b], b[a < b]
                held = np.concatenate([
                    np.einsum("ij,ij->i", mine[a[k : k + BLOCK]], mine[b[k : k + BLOCK]])
                    for k in range(0, len(a) + 1, BLOCK)]) >= _floor(threshold, DIM)
                a, b = a[held], b[held]
                nth = np.arange(len(b)) - np.searchsorted(b, b) + count[b - r]
                a, b, nth = a[nth < MOST], b[nth < MOST], nth[nth < MOST]
                full |= bool((nth >= MOST // 2 - 1).any())
                count += np.bincount(b - r, minlength=len(count))
                out.append((members[a], members[b]))
    left, right = (np.concatenate(x) for x in zip(*out, strict=True))
    return Pairs(left, right, full)
