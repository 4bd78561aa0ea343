"""Pairs of close vectors: every pair where rows are few, the promised recall where they are many, bounded where all are alike."""

import numpy as np
import pytest

from curation import cosine


def units(n: int, dim: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def with_pairs(n: int, pairs: int, cosine_: float, dim: int = 96) -> np.ndarray:
    """Return n random unit vectors of which row 2k + 1 has the given cosine with row 2k, for k < pairs."""
    x = units(n, dim)
    z = units(pairs, dim, 1)
    a = x[0 : 2 * pairs : 2]
    z -= (z * a).sum(axis=1, keepdims=True) * a
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    x[1 : 2 * pairs : 2] = cosine_ * a + np.sqrt(1 - cosine_**2) * z
    return x


def found(x: np.ndarray, threshold: float, tables: int, ask: np.ndarray | None = None) -> set[tuple[int, int]]:
    points = cosine.projected(lambda at: x[at], np.arange(len(x)), x.shape[1])
    cells = cosine.cells_of(points, tables)
    pairs = cosine.candidates(points, cells, np.ones(len(x), bool) if ask is None else ask, threshold)
    return set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


def test_every_pair_of_few_rows_is_found_and_no_far_one() -> None:
    x = with_pairs(400, 100, 0.85)
    got = found(x, 0.84, 0)
    assert got == {(2 * k, 2 * k + 1) for k in range(100)}


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = with_pairs(300, 140, 0.9)
    whole = found(x, 0.88, 3)
    monkeypatch.setattr(cosine, "BLOCK", 7)
    assert found(x, 0.88, 3) == whole


@pytest.mark.parametrize("threshold", [0.75, 0.85, 0.95])
def test_recall_at_the_threshold_is_as_promised(threshold: float) -> None:
    x = with_pairs(3000, 1500, threshold)
    got = found(x, threshold - 1e-4, cosine.tables_for(threshold))
    hits = len(got & {(2 * k, 2 * k + 1) for k in range(1500)})
    assert hits / 1500 >= cosine.RECALL - 3 * np.sqrt(cosine.RECALL * (1 - cosine.RECALL) / 1500) - 0.005


def test_closer_pairs_need_fewer_divisions() -> None:
    counts = [cosine.tables_for(t) for t in (0.7, 0.8, 0.9, 0.99)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1] >= 1
    assert cosine.divisions(cosine.EXACT, 0.8) == 0 < cosine.divisions(cosine.EXACT + 1, 0.8)


def test_only_pairs_with_a_row_that_is_asked_for() -> None:
    x = with_pairs(300, 140, 0.9)
    ask = np.zeros(300, bool)
    ask[[3, 8, 200]] = True
    every = found(x, 0.88, 2)
    assert found(x, 0.88, 2, ask) == {(a, b) for a, b in every if ask[a] or ask[b]} != set()


def test_a_heap_of_like_rows_costs_rows_not_pairs() -> None:
    x = units(1, 64) + 0.02 * units(9000, 64, 2)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    points = cosine.projected(lambda at: x[at], np.arange(9000), 64)
    pairs = cosine.candidates(points, cosine.cells_of(points, 1), np.ones(9000, bool), 0.9)
    assert pairs.full and np.bincount(pairs.right).max() == cosine.MOST
    assert len(pairs.left) < 9000 * cosine.MOST
