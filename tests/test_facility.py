"""Facility location: the greedy choice against a plain one, its bound, groups and limits."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.facility import Group, Reach, choose, neighbours_for


def unit(seed: int, n: int, dim: int = 5) -> np.ndarray:
    x = np.abs(np.random.default_rng(seed).normal(size=(n, dim))).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def plain(space: np.ndarray, size: int) -> list[int]:
    """Greedy facility location with every gain computed anew at every step."""
    sims = space @ space.T
    np.fill_diagonal(sims, 1)
    near = np.zeros(len(space))
    out: list[int] = []
    for _ in range(size):
        gain = np.maximum(sims - near[:, None], 0).sum(axis=0)
        gain[out] = -1
        best = int(np.argmax(gain > gain.max() - 1e-5))
        out.append(best)
        near = np.maximum(near, sims[:, best])
    return out


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 25), st.integers(0, 1000), st.data())
def test_lazy_is_plain_greedy(n: int, seed: int, data: st.DataObject) -> None:
    space = unit(seed, n)
    size = data.draw(st.integers(0, n))
    reach = Reach(space, n - 1)
    picked = choose(reach, size)
    other = plain(space, size)
    assert len(set(picked.rows.tolist())) == size
    assert abs(picked.objective - reach.objective(np.array(other, int))) < 1e-3
    assert abs(picked.objective - reach.objective(picked.rows)) < 1e-3
    assert abs(picked.gain.sum() - picked.objective) < 1e-3
    assert picked.stands_for.sum() == (n if size else 0)


def test_the_bound_holds_and_greedy_is_near_the_best() -> None:
    for seed in range(5):
        reach = Reach(unit(seed, 12), 11)
        best = max(reach.objective(np.array(c)) for c in combinations(range(12), 3))
        picked = choose(reach, 3)
        assert picked.objective <= best + 1e-4 <= picked.bound + 2e-4
        assert picked.objective >= (1 - 1 / np.e) * best


def test_groups_get_their_least_and_families_keep_their_most() -> None:
    space = unit(0, 60)
    family = np.arange(60) % 3
    rare = Group("rare", np.arange(60) < 6, 5)
    picked = choose(Reach(space, 59), 30, family=family, most=np.array([12, 12, 12]), groups=[rare])
    count = np.bincount(family[picked.rows], minlength=3)
    assert (count <= 12).all() and len(picked.rows) == 30
    assert (picked.rows < 6).sum() >= 5 and picked.why[:5] == ("rare",) * 5
    assert "beyond" not in picked.why


def test_a_limit_gives_way_when_nothing_else_is_left_and_says_so() -> None:
    picked = choose(Reach(unit(0, 20), 19), 15, family=np.zeros(20, int), most=np.array([4]))
    assert picked.why == ("covers",) * 4 + ("beyond",) * 11


def test_accepted_rows_come_first_whatever_the_limit() -> None:
    accepted = np.zeros(20, bool)
    accepted[[3, 7]] = True
    picked = choose(Reach(unit(0, 20), 19), 5, family=np.zeros(20, int), most=np.array([1]), accepted=accepted)
    assert set(picked.rows[:2].tolist()) == {3, 7} and picked.why[:2] == ("accepted", "accepted")


def test_a_flagged_row_loses_to_its_clean_twin() -> None:
    space = np.repeat(unit(1, 10), 2, axis=0)
    weight = np.ones(20)
    weight[::2] = 0.5
    picked = choose(Reach(space, 19, weight), 10)
    assert (picked.rows % 2 == 1).all()


def test_identical_rows_and_one_row() -> None:
    space = np.repeat(unit(0, 1), 6, axis=0)
    picked = choose(Reach(space, 5), 3)
    assert picked.rows.tolist() == [0, 1, 2] and picked.gain[1:].max() < 1e-5 and abs(picked.objective - 6) < 1e-4
    one = choose(Reach(space[:1], 0), 1)
    assert one.rows.tolist() == [0] and one.objective == 1


def test_neighbours_for_stays_within_memory() -> None:
    assert neighbours_for(1, 1) == 1
    assert neighbours_for(1000, 100) == 40
    assert neighbours_for(100_000, 10) == 256
    assert neighbours_for(1_000_000, 1000) * 1_000_000 <= 2**25
