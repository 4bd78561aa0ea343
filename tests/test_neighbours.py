"""Nearest neighbours: exact against a plain search, cells against exact, and the small cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import neighbours
from curation.neighbours import nearest


def unit(rng: np.random.Generator, n: int, dim: int = 8) -> np.ndarray:
    x = rng.normal(size=(n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000), st.booleans())
def test_exact_is_the_plain_search(n: int, k: int, seed: int, own: bool) -> None:
    rng = np.random.default_rng(seed)
    base = unit(rng, n)
    queries = None if own else unit(rng, 7)
    index, cosine = nearest(base, k, queries)
    full = (base if own else queries) @ base.T
    if own:
        np.fill_diagonal(full, -2)
    want = np.sort(full, axis=1)[:, ::-1][:, : max(0, min(k, n - own))]
    assert cosine.shape == want.shape == index.shape
    np.testing.assert_allclose(cosine, want, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(full, index, axis=1), want, atol=1e-5)
    assert not own or (index != np.arange(n)[:, None]).all()


def test_identical_rows_and_none() -> None:
    same = np.tile(unit(np.random.default_rng(0), 1), (5, 1))
    index, cosine = nearest(same, 2)
    assert (index != np.arange(5)[:, None]).all() and np.allclose(cosine, 1)
    assert nearest(same[:1], 3)[0].shape == (1, 0)
    assert nearest(same[:0], 3)[0].shape == (0, 0)
    assert nearest(same, 3, same[:0])[0].shape == (0, 3)


@pytest.mark.parametrize("own", [True, False])
def test_cells_find_nearly_all(monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    rng = np.random.default_rng(1)
    base = unit(rng, 40, 16)[rng.integers(0, 40, 4000)] + 0.15 * rng.normal(size=(4000, 16)).astype(np.float32)
    base = (base / np.linalg.norm(base, axis=1, keepdims=True)).astype(np.float32)
    queries = None if own else base[::7]
    exact, near = nearest(base, 10, queries)
    monkeypatch.setattr(neighbours, "EXACT", 100)
    monkeypatch.setattr(neighbours, "CELL", 50)
    found, cosine = nearest(base, 10, queries)
    assert (np.diff(cosine, axis=1) <= 1e-6).all()
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), found.tolist())])
    assert recall > 0.9, recall
    assert cosine[:, 0].mean() >= near[:, 0].mean() - 0.005
    again = nearest(base, 10, queries)
    assert (again[0] == found).all() and (again[1] == cosine).all()


def test_cells_of_identical_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT", 10)
    monkeypatch.setattr(neighbours, "CELL", 5)
    same = np.tile(unit(np.random.default_rng(0), 1), (50, 1))
    index, cosine = nearest(same, 3)
    assert (index != np.arange(50)[:, None]).all() and (index >= 0).all() and np.allclose(cosine, 1)
