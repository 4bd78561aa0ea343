"""Clusters: the tree is scipy's, the number is found where there is one, the same rows give the same answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from curation import clustering
from curation.clustering import cluster, cut, rand_index, ward


def unit(x):
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def blobs(n=1500, k=30, dim=32, spread=0.05, seed=0):
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, k, n)
    return unit(unit(rng.normal(size=(k, dim)))[owner] + rng.normal(size=(n, dim)) * spread), owner


def keys(n):
    return np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def test_the_tree_is_scipys_when_weights_are_one():
    x, _ = blobs(300, 7, 8, 0.3)
    ours, theirs = ward(x, np.ones(len(x))), linkage(x.astype(np.float64), "ward")
    for k in (2, 5, 17, 100):
        assert rand_index(cut(ours, k), fcluster(theirs, k, "maxclust")) == pytest.approx(1)
    np.testing.assert_allclose(np.sqrt(2 * ours[:, 2]), theirs[:, 2], rtol=1e-2, atol=1e-3)


def test_a_weight_counts_like_copies():
    x, _ = blobs(40, 5, 6, 0.2)
    times = np.random.default_rng(1).integers(1, 5, len(x))
    copies = ward(np.repeat(x, times, axis=0), np.ones(times.sum()))
    np.testing.assert_allclose(ward(x, times.astype(float))[:, 2], copies[-(len(x) - 1):, 2], rtol=1e-3, atol=1e-5)


def test_clear_clusters_are_found_and_their_number_too():
    x, owner = blobs()
    found = cluster(x, keys=keys(len(x)))
    assert 26 <= found.k <= 35 and rand_index(found.label, owner) > 0.9
    assert f"{found.k} clusters, which tell unseen rows apart" in found.why and "wide groups" in found.why
    assert found.label.dtype == np.int32 and (np.diff(found.sizes) <= 0).all() and found.sizes.sum() == len(x)
    assert found.group.shape == (found.k,) and 4 <= found.group.max() + 1 <= found.k // 2
    np.testing.assert_allclose(found.own, np.einsum("ij,ij->i", x, found.centres[found.label]), atol=1e-5)
    assert (found.own >= found.other).all()


def test_reseeding_and_one_percent_less_change_nothing_to_speak_of():
    x, _ = blobs(2000, 40, 32, 0.08)
    one = cluster(x, keys=keys(len(x)))
    again = cluster(x, keys=keys(len(x)), seed=7)
    np.testing.assert_array_equal(one.label, again.label)
    kept = np.sort(np.random.default_rng(3).permutation(len(x))[20:])
    less = cluster(x[kept], keys=keys(len(x))[kept])
    assert rand_index(one.label[kept], less.label) > 0.95


def test_more_rows_than_the_tree_holds(monkeypatch):
    monkeypatch.setattr(clustering, "TREE", 300)
    monkeypatch.setattr(clustering, "POINTS", 150)
    monkeypatch.setattr(clustering, "DRAWN", 1000)
    monkeypatch.setattr(clustering, "HALF", 400)
    x, owner = blobs(3000, 20)
    steps = []
    one = cluster(x, k=20, groups=5, keys=keys(len(x)), progress=lambda *step: steps.append(step))
    two = cluster(x, k=20, groups=5, keys=keys(len(x)), seed=5)
    assert rand_index(one.label, owner) > 0.9 and rand_index(one.label, two.label) > 0.8
    assert one.why == "20 clusters as asked; 5 wide groups as asked" and one.group.max() == 4
    assert {what for what, _, _ in steps} == {"k-means", "assign"} and steps[-1][1:] == (3000, 3000)


def test_a_memory_map_of_half_floats_will_do(tmp_path):
    x, owner = blobs(500, 6)
    np.save(tmp_path / "x.npy", x.astype(np.float16))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert rand_index(cluster(mapped, k=6).label, owner) == 1.0


@pytest.mark.parametrize("n,why", [(0, "no rows"), (1, "one row"), (7, "all rows are the same")])
def test_nothing_to_tell_apart(n, why):
    found = cluster(np.ones((n, 4), np.float32) / 2)
    assert found.why == why and found.k == min(n, 1) and found.label.tolist() == [0] * n


def test_more_clusters_than_different_rows():
    x = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    found = cluster(x, k=10)
    assert found.k == 3 and "10 were asked for, but only 3 can be told apart" in found.why
    assert found.label.tolist() == [0] * 5 + [1] * 5 + [2] * 5


def test_zero_rows_and_two_rows():
    x = np.vstack([np.zeros((3, 4)), np.eye(4)]).astype(np.float32)
    found = cluster(x)
    assert len(found.label) == 7 and len(set(found.label[:3].tolist())) == 1
    assert cluster(np.eye(2, dtype=np.float32)).k == 2


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60))
def test_rand_index_is_sklearns(pairs):
    a, b = (np.array(side) for side in zip(*pairs))
    assert rand_index(a, b) == pytest.approx(adjusted_rand_score(a, b))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(1, 5), st.integers(0, 10**6))
def test_any_vectors_are_partitioned(n, dim, seed):
    x = unit(np.random.default_rng(seed).integers(-2, 3, (n, dim)).astype(float))
    found = cluster(x)
    assert found.label.min() == 0 and found.label.max() == found.k - 1 == len(found.group) - 1
    assert (found.sizes > 0).all() and set(found.group.tolist()) == set(range(found.group.max() + 1))
