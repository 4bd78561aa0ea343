"""Facility location: the rows that stand for most others, by lazy greedy choice on the nearest neighbours of each row."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .neighbours import nearest

Progress = Callable[[str, int, int], None]

MOST_ARCS = 2**25       # neighbours kept in all: 32 M cosines are 0.5 GB while the choice is made
LEAST_NEAR, MOST_NEAR = 16, 256     # neighbours a row at least and at most
TINY = 1e-6             # a gain below this is none: cosines are float32


@dataclass(frozen=True)
class Choice:
    """A choice of rows by facility location; all arrays are in the order in which the rows were taken."""

    rows: np.ndarray        # (size,) int64: positions
    why: tuple[str, ...]    # accepted | <name of the group whose number it helps to reach> | covers | beyond
    gain: np.ndarray        # (size,) float64: what the row added to the objective when it was taken
    covers: np.ndarray      # (size,) int64: rows to which it was then nearer than anything chosen
    stands_for: np.ndarray  # (size,) int64: rows that have it as their nearest chosen row in the end
    objective: float        # sum over rows of the cosine to the nearest chosen row among the row's neighbours
    bound: float            # no choice of this size can reach more than this


@dataclass(frozen=True)
class Group:
    """Rows of which a choice shall have at least some: a family, a refusal category, its contrast, an edge case."""

    name: str
    member: np.ndarray      # (n,) bool
    least: int


class Reach:
    """For each row the rows that have it among their neighbours, with the cosines: what it would cover if chosen."""

    def __init__(self, vectors: np.ndarray, k: int, weight: np.ndarray | None = None, progress: Progress | None = None) -> None:
        """`vectors`: (n, dim) of unit length; `k`: neighbours a row; `weight`: (n,) in (0, 1], what a chosen row counts."""
        from scipy import sparse  # takes a moment to import; only a call pays for it

        n = len(vectors)
        index, cosine = nearest(vectors, k, progress=progress)
        own = np.arange(n, dtype=np.int32)[:, None]
        to = np.concatenate([own, index], axis=1).ravel()
        value = np.concatenate([np.ones((n, 1), np.float32), cosine], axis=1).ravel()
        ends = np.arange(n + 1, dtype=np.int64) * (index.shape[1] + 1)
        held = (to >= 0) & (value > 0)
        if not held.all():
            ends = np.concatenate([[0], np.cumsum(held)])[ends]
            to, value = to[held], value[held]
        across = sparse.csr_matrix((value, to, ends), shape=(n, n)).tocsc()
        self.n, self.k = n, index.shape[1]
        self.start = across.indptr
        self.row = across.indices
        self.value = across.data if weight is None else across.data * np.repeat(weight.astype(np.float32), np.diff(across.indptr))

    def of(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (rows, cosines) that row `j` would cover, itself among them."""
        part = slice(self.start[j], self.start[j + 1])
        return self.row[part], self.value[part]

    def gains(self, near: np.ndarray) -> np.ndarray:
        """Return what each row would add where `near`, (n,), is the cosine of every row to its nearest chosen one."""
        more = np.maximum(self.value - near[self.row], 0).astype(np.float64)
        total = np.concatenate([[0.0], np.cumsum(more)])
        return total[self.start[1:]] - total[self.start[:-1]]

    def objective(self, chosen: np.ndarray) -> float:
        """Return the objective of a choice, computed anew."""
        near = np.zeros(self.n, np.float32)
        for j in chosen.tolist():
            rows, value = self.of(j)
            near[rows] = np.maximum(near[rows], value)
        return float(near.sum(dtype=np.float64))


class _Greedy:
    """Takes the row that adds most, again and again. A gain never grows, so an old one is a bound for the new one."""

    def __init__(self, reach: Reach, family: np.ndarray, most: np.ndarray, size: int) -> None:
        self.reach, self.size = reach, size
        self.family, self.room = family, most.astype(np.int64).copy()
        self.near = np.zeros(reach.n, np.float32)
        self.owner = np.full(reach.n, -1, np.int64)
        self.bound = reach.gains(self.near)
        self.taken = np.zeros(reach.n, bool)
        self.chosen: list[int] = []
        self.why: list[str] = []
        self.gain: list[float] = []
        self.covers: list[int] = []

    def take(self, j: int, why: str) -> None:
        rows, value = self.reach.of(j)
        better = value > self.near[rows] + TINY
        self.gain.append(float((value[better] - self.near[rows[better]]).sum(dtype=np.float64)))
        self.covers.append(int(better.sum()))
        self.near[rows[better]] = value[better]
        self.owner[rows[better]] = j
        self.taken[j] = True
        self.chosen.append(j)
        self.why.append(why)
        if self.family[j] >= 0:
            self.room[self.family[j]] -= 1

    def fill(self, pool: np.ndarray, count: int, why: str, *, capped: bool = True, progress: Progress | None = None) -> int:
        """Take up to `count` rows of `pool` (positions), no more of a family than it has room for; return how many."""
        heap = [(-self.bound[j], j) for j in pool[~self.taken[pool]].tolist()]
        heapq.heapify(heap)
        count = min(count, self.size - len(self.chosen))
        done = 0
        while done < count and heap:
            _, j = heapq.heappop(heap)
            if self.taken[j] or (capped and self.family[j] >= 0 and self.room[self.family[j]] <= 0):
                continue
            rows, value = self.reach.of(j)
            gain = float(np.maximum(value - self.near[rows], 0).sum(dtype=np.float64))
            self.bound[j] = gain
            if heap and (-gain, j) > heap[0]:
                heapq.heappush(heap, (-gain, j))
                continue
            self.take(j, why)
            done += 1
            if progress and done % 256 == 0:
                progress("choose", len(self.chosen), self.size)
        return done


def choose(
    reach: Reach,
    size: int,
    *,
    family: np.ndarray | None = None,
    most: np.ndarray | None = None,
    groups: Sequence[Group] = (),
    accepted: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Choice:
    """Return `size` rows: those a person accepted, then those each group still needs, then those that cover most.

    `family`: (n,) int, -1 = none, and `most`: rows a family may have at most. Where nothing else is left these limits
    give way, and the rows say so ("beyond"). Each step takes the row that raises the objective most, the first of
    equals: without groups and limits the choice reaches at least 63 % (1 - 1/e) of what any choice can (Nemhauser,
    Wolsey and Fisher 1978).
    """
    n = reach.n
    assert 0 <= size <= n, f"{size} rows of {n}"
    none = np.full(n, -1, np.int64)
    greedy = _Greedy(reach, none if family is None else family, np.zeros(0, np.int64) if most is None else most, size)
    everything = np.arange(n)
    if accepted is not None:
        greedy.fill(np.flatnonzero(accepted), size, "accepted", capped=False)
    for group in sorted(groups, key=lambda g: (int(g.member.sum()), g.name)):
        have = int(group.member[greedy.chosen].sum())
        greedy.fill(np.flatnonzero(group.member), group.least - have, group.name)
    greedy.fill(everything, size, "covers", progress=progress)
    greedy.fill(everything, size, "beyond", capped=False)
    rows = np.array(greedy.chosen, np.int64)
    stands = Counter(greedy.owner[greedy.owner >= 0].tolist())
    objective = float(greedy.near.sum(dtype=np.float64))
    left = np.sort(reach.gains(greedy.near))[::-1][:size]
    return Choice(
        rows,
        tuple(greedy.why),
        np.array(greedy.gain),
        np.array(greedy.covers, np.int64),
        np.array([stands[j] for j in greedy.chosen], np.int64),
        objective,
        min(objective + float(left.sum()), float(n)),
    )


def neighbours_for(n: int, size: int) -> int:
    """Return how many neighbours a row needs: four times the rows that a chosen row stands for, within 16 to 256."""
    wanted = int(np.clip(np.ceil(4 * n / max(size, 1)), LEAST_NEAR, MOST_NEAR))
    return max(1, min(wanted, MOST_ARCS // max(n, 1), n - 1))
