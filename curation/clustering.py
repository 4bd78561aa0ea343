"""Unit vectors into clusters at two levels: spherical k-means under a Ward tree, in blocks, the same on every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

Progress = Callable[[str, int, int], None]

TREE = 4000         # rows that are leaves of the Ward tree themselves: its matrix is then 64 MB and it takes about 2 s
POINTS = 2000       # leaves where rows are more: centres of k-means
DRAWN = 128_000     # rows from which those are made, 64 a leaf
BLOCK = 8192        # rows multiplied at once: 8192 x 1000 cosines are 32 MB
ROUNDS = 12         # of k-means; fewer when no row moves
HALF = 4000         # rows of each half by which a number of clusters is judged
MOST = 1000         # clusters, unless more are asked for
GROUPS = (4, 24)    # wide groups: as many as a reader takes in at once
SMALLEST = 2        # rows of one half in a cluster, on average, at the finest cut that is tried
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))  # three splits


@dataclass(frozen=True)
class Clusters:
    """Rows in clusters, clusters in wide groups; both are numbered by size, 0 the largest."""

    label: np.ndarray       # (n,) int32: cluster of each row
    group: np.ndarray       # (k,) int32: wide group of each cluster
    centres: np.ndarray     # (k, dim) float32 of unit length
    own: np.ndarray         # (n,) float32: cosine to the centre of the row's own cluster
    other: np.ndarray       # (n,) float32: cosine to the nearest other centre, -1 when there is none
    why: str                # one or two sentences: how the two numbers were chosen
    tried: tuple[tuple[int, float], ...] = ()   # (number of clusters, how well it separates rows) of each cut judged

    @property
    def k(self) -> int:
        return len(self.centres)

    @property
    def sizes(self) -> np.ndarray:
        """Return the rows of each cluster, shape (k,)."""
        return np.bincount(self.label, minlength=self.k)


def cluster(
    vectors: np.ndarray,
    *,
    k: int | None = None,
    groups: int | None = None,
    seed: int = 0,
    keys: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Clusters:
    """Return the clusters of `vectors`, (n, dim) floats of unit length (zero rows stand alone); a memory map will do.

    Up to 4,000 different rows all are leaves of one Ward tree, so the seed has nothing to decide; beyond that k-means
    makes 2,000 leaves of a draw of rows first. The cut of the tree starts k-means, to whose centres every row goes.

    `k`, `groups`: numbers wanted; None takes the cut by which rows are told apart best that had no part in it: the
    tree is made of one half of the rows (at most 4,000), the mean simplified silhouette (how much nearer a row is to
    its own centre than to the next) is that of the other half.
    `keys`: (n,) unsigned integers that decide which rows are drawn (hashes of uids, so that a row more hardly changes
    the draw); None draws by `seed`. Time and memory for 1 M x 384: benchmarks/diversity.py.
    """
    n = len(vectors)
    assert vectors.ndim == 2, f"vectors must be (n, dim), got {vectors.shape}"
    assert keys is None or len(keys) == n, f"{0 if keys is None else len(keys)} keys for {n} vectors"
    say = progress or (lambda what, done, total: None)
    if keys is None:
        keys = np.random.default_rng(seed).integers(0, 2**63, n, dtype=np.uint64)
    draw = _first(keys, DRAWN)
    drawn = np.asarray(vectors[draw], np.float32)
    points, weights = _points(drawn, keys[draw], seed, say)
    if len(points) < 2:
        return _one(vectors, points)
    cuts = None if k is not None and groups is not None else _Cuts.of(drawn, keys[draw], say)
    merges = ward(points, weights)
    k, why = _number(k, len(points), cuts, n)
    centres = kmeans(drawn, _means(points, weights, cut(merges, k), k), say)
    label, own, other = assign(vectors, centres, say)
    tried = tuple(zip(cuts.numbers, cuts.scores)) if cuts else ()
    found = _by_size(Clusters(label, np.zeros(len(centres), np.int32), centres, own, other, why, tried))
    return _grouped(found, groups, cuts)


def _first(keys: np.ndarray, most: int) -> np.ndarray:
    """Return up to `most` positions, ascending: those with the smallest keys."""
    return np.arange(len(keys)) if len(keys) <= most else np.sort(np.argpartition(keys, most)[:most])


def _blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _unit(x: np.ndarray) -> np.ndarray:
    """Return rows of unit length; a zero row stays zero."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(length > 0, length, 1)).astype(np.float32)


def _points(drawn: np.ndarray, keys: np.ndarray, seed: int, say: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Return the leaves of the tree and their weights in rows: the different rows, or k-means centres of them.

    k-means starts from rows chosen by key and seed, so that a row more leaves nearly all of them in place.
    """
    distinct, count = _distinct(drawn)
    if len(distinct) <= TREE:
        return distinct, count
    start = drawn[_first((keys.astype(np.uint64) + np.uint64(seed)) * _MIX[0], POINTS)]
    centres = kmeans(drawn, start, say, rounds=4)
    label, _, _ = assign(drawn, centres)
    count = np.bincount(label, minlength=len(centres)).astype(np.float64)
    return centres[count > 0], count[count > 0]


def _distinct(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different rows in order of their first appearance, and how often each occurs."""
    if not len(x):
        return x, np.zeros(0)
    rows = np.ascontiguousarray(x).view(np.dtype((np.void, x.dtype.itemsize * x.shape[1]))).ravel()
    _, first, count = np.unique(rows, return_index=True, return_counts=True)
    order = np.argsort(first)
    return x[first[order]], count[order].astype(np.float64)


def _one(vectors: np.ndarray, points: np.ndarray) -> Clusters:
    """Return the answer where there is nothing to tell apart: no rows, or rows that are all the same."""
    n = len(vectors)
    label = np.zeros(n, np.int32)
    own = np.ones(n, np.float32)
    why = "no rows" if n == 0 else "one row" if n == 1 else "all rows are the same"
    return Clusters(label, np.zeros(len(points), np.int32), _unit(points), own, np.full(n, -1, np.float32), why)


# ---------------------------------------------------------------- k-means


def kmeans(x: np.ndarray, centres: np.ndarray, say: Progress | None = None, rounds: int = ROUNDS) -> np.ndarray:
    """Return centres of unit length after at most `rounds` rounds of spherical k-means from `centres`, (k, dim).

    A centre that loses all its rows is dropped.
    """
    centres = _unit(centres)
    before = None
    for step in range(rounds):
        label, _, _ = assign(x, centres)
        if before is not None and (label != before).mean() < 1e-4:
            break
        before = label
        total = np.zeros(centres.shape, np.float64)
        for part in _blocks(len(x)):
            order = np.argsort(label[part], kind="stable")
            ids, starts = np.unique(label[part][order], return_index=True)
            total[ids] += np.add.reduceat(np.asarray(x[part], np.float32)[order], starts, axis=0)
        held = np.bincount(label, minlength=len(centres)) > 0
        centres = _unit(total[held])
        if not held.all():
            before = None
        if say:
            say("k-means", step + 1, rounds)
    return centres


def assign(vectors: np.ndarray, centres: np.ndarray, say: Progress | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (number of the nearest centre, cosine to it, cosine to the second nearest) of each row, in blocks."""
    n, k = len(vectors), len(centres)
    label = np.zeros(n, np.int32)
    own, other = np.zeros(n, np.float32), np.full(n, -1, np.float32)
    across = np.ascontiguousarray(centres.T, np.float32)
    for part in _blocks(n):
        near = np.asarray(vectors[part], np.float32) @ across
        line = np.arange(len(near))
        label[part] = best = near.argmax(axis=1)
        own[part] = near[line, best]
        if k > 1:
            near[line, best] = -2
            other[part] = near.max(axis=1)
        if say:
            say("assign", part.stop, n)
    return label, own, other


# ---------------------------------------------------------------- the tree


def ward(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the n - 1 merges of a Ward tree over weighted points, (n - 1, 3) float64: left, right, cost, by cost.

    left and right are leaves that stand for their branches (the smallest leaf of each). The cost is the growth of the
    weighted sum of squares. Nearest-neighbour chain, memory n x n float32. With equal weights it is scipy's linkage.
    """
    n = len(points)
    w = weights.astype(np.float64).copy()
    square = (points.astype(np.float64) ** 2).sum(axis=1)
    d = (square[:, None] + square[None, :] - 2 * (points.astype(np.float64) @ points.T.astype(np.float64))).astype(np.float32)
    np.maximum(d, 0, out=d)
    d *= (w[:, None] * w[None, :] / (w[:, None] + w[None, :])).astype(np.float32)
    np.fill_diagonal(d, np.inf)
    alive = np.ones(n, bool)
    merges = np.empty((n - 1, 3))
    chain: list[int] = []
    for step in range(n - 1):
        if not chain:
            chain = [int(np.flatnonzero(alive)[0])]
        while True:
            top = chain[-1]
            near = int(d[top].argmin())
            if len(chain) > 1 and d[top, chain[-2]] <= d[top, near]:
                near = chain[-2]
                break
            chain.append(near)
        a, b = sorted((top, near))
        del chain[-2:]
        merges[step] = a, b, d[a, b]
        line = ((w + w[a]) * d[a] + (w + w[b]) * d[b] - w * d[a, b]) / (w + w[a] + w[b])
        w[a] += w[b]
        alive[b] = False
        line[~alive] = np.inf
        line[a] = np.inf
        d[a], d[:, a] = line, line
        d[b], d[:, b] = np.inf, np.inf
    return merges[np.argsort(merges[:, 2], kind="stable")]


def cut(merges: np.ndarray, k: int) -> np.ndarray:
    """Return the branch, 0..k-1, of each leaf when the tree is cut into `k` branches."""
    n = len(merges) + 1
    assert 1 <= k <= n, f"{k} branches of {n} leaves"
    root = np.arange(n)

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for a, b in merges[: n - k, :2].astype(np.int64).tolist():
        left, right = find(a), find(b)
        root[max(left, right)] = min(left, right)
    return np.unique([find(i) for i in range(n)], return_inverse=True)[1]


def _means(points: np.ndarray, weights: np.ndarray, branch: np.ndarray, k: int) -> np.ndarray:
    total = np.zeros((k, points.shape[1]))
    np.add.at(total, branch, points * weights[:, None])
    return _unit(total)


# ---------------------------------------------------------------- how many


@dataclass(frozen=True)
class _Cuts:
    """How well cuts of a tree over one half of the rows tell the other half apart, and whether both halves agree."""

    numbers: tuple[int, ...]
    scores: tuple[float, ...]   # mean over both directions and all splits
    agree: tuple[float, ...]    # adjusted Rand index of the labels that both halves' cuts give the same rows

    @classmethod
    def of(cls, drawn: np.ndarray, keys: np.ndarray, say: Progress) -> _Cuts:
        inside = np.sort(np.argsort(keys, kind="stable")[: 2 * HALF])
        x, key = drawn[inside], keys[inside].astype(np.uint64)
        splits = [s for s in ((key * m) >> np.uint64(63) == 1 for m in _MIX) if 1 < s.sum() < len(x) - 1]
        if not splits:
            return cls((), (), ())
        most = min(MOST, *(max(2, min(len(_distinct(x[side])[0]), int(side.sum()) // SMALLEST))
                           for s in splits for side in (s, ~s)))
        numbers = _grid(2, most)
        scores, agree = np.zeros(len(numbers)), np.zeros(len(numbers))
        for step, split in enumerate(splits):
            one, two = (_centres(x[side], numbers) for side in (split, ~split))
            for i in range(len(numbers)):
                scores[i] += told_apart(x[~split], one[i]) + told_apart(x[split], two[i])
                agree[i] += rand_index(assign(x, one[i])[0], assign(x, two[i])[0])
            say("number of clusters", step + 1, len(splits))
        return cls(tuple(numbers), tuple((scores / len(splits) / 2).tolist()), tuple((agree / len(splits)).tolist()))

    def best(self, least: int, most: int) -> int:
        """Return the place of the best cut from `least` to `most`, of equals the coarsest."""
        inside = [i for i, c in enumerate(self.numbers) if least <= c <= most] or [len(self.numbers) - 1]
        return max(inside, key=lambda i: (self.scores[i], -i))

    def about(self, at: int) -> str:
        return f"silhouette {self.scores[at]:.2f}, two halves of the rows agree with a Rand index of {self.agree[at]:.2f}"


def _centres(x: np.ndarray, numbers: list[int]) -> list[np.ndarray]:
    """Return the centres of each cut of the tree over `x`."""
    points, weights = _distinct(x)
    merges = ward(points, weights) if len(points) > 1 else np.zeros((0, 3))
    sizes = [min(c, len(points)) for c in numbers]
    return [_means(points, weights, cut(merges, c), c) for c in sizes]


def _number(k: int | None, leaves: int, cuts: _Cuts | None, n: int) -> tuple[int, str]:
    """Return the number of clusters and a sentence."""
    if k is not None:
        take = max(1, min(k, leaves))
        short = "" if take == k else f"; {k:,} were asked for, but only {leaves:,} can be told apart"
        return take, f"{take:,} clusters as asked{short}"
    if cuts is None or not cuts.numbers:
        return min(2, leaves), f"{min(2, leaves)} clusters: {n} rows are too few to choose"
    at = cuts.best(min(GROUPS[1] + 1, cuts.numbers[-1]), MOST)
    take = min(cuts.numbers[at], leaves)
    best = f"which tell unseen rows apart as well as any number up to {cuts.numbers[-1]:,}"
    return take, f"{take:,} clusters, {best} ({cuts.about(at)})"


def _grid(least: int, most: int) -> list[int]:
    """Return numbers from `least` to `most`, each about a sixth above the one before."""
    out = [least]
    while out[-1] < most:
        out.append(min(most, max(out[-1] + 1, round(out[-1] * 7 / 6))))
    return out


def told_apart(rows: np.ndarray, centres: np.ndarray) -> float:
    """Return the mean simplified silhouette, in [-1, 1]: how much nearer rows are to their own centre than to the next."""
    _, own, other = assign(rows, centres)
    near, far = np.maximum(1 - own, 0), np.maximum(1 - other, 0)
    return float(np.mean((far - near) / np.maximum(np.maximum(far, near), 1e-9)))


def rand_index(a: np.ndarray, b: np.ndarray) -> float:
    """Return the adjusted Rand index of two labellings of the same rows: 1 the same, 0 as by chance."""
    assert len(a) == len(b), f"{len(a)} labels against {len(b)}"

    def pairs(count: np.ndarray) -> float:
        count = count.astype(np.float64)
        return float((count * (count - 1)).sum() / 2)

    wide = int(b.max(initial=0)) + 1
    both = pairs(np.unique(a.astype(np.int64) * wide + b, return_counts=True)[1])
    one, two, whole = pairs(np.bincount(a)), pairs(np.bincount(b)), len(a) * (len(a) - 1) / 2
    chance = one * two / whole if whole else 0.0
    return 1.0 if (one + two) / 2 == chance else (both - chance) / ((one + two) / 2 - chance)


def _by_size(found: Clusters) -> Clusters:
    """Return the same clusters, numbered by size; of two of one size the one with the earlier row comes first."""
    first = np.full(found.k, len(found.label))
    np.minimum.at(first, found.label, np.arange(len(found.label)))
    sizes = found.sizes
    order = np.lexsort((first, -sizes))
    order = order[sizes[order] > 0]
    number = np.zeros(found.k, np.int32)
    number[order] = np.arange(len(order))
    return replace(found, label=number[found.label], centres=found.centres[order], group=found.group[order])


def _grouped(found: Clusters, groups: int | None, cuts: _Cuts | None) -> Clusters:
    """Return the clusters with their wide groups: a cut of a tree over the centres, weighted by rows."""
    most = min(GROUPS[1], found.k // 2)
    if groups is None and (cuts is None or most < 2):
        return replace(found, group=np.arange(found.k, dtype=np.int32), why=f"{found.why}; each is a wide group of its own")
    if groups is None:
        assert cuts is not None
        at = cuts.best(min(GROUPS[0], most), most)
        groups = min(cuts.numbers[at], found.k)
        why = f"{groups} wide groups of them, the best of up to {most} ({cuts.about(at)})"
    else:
        groups = max(1, min(groups, found.k))
        why = f"{groups} wide groups as asked"
    weights = found.sizes.astype(np.float64)
    branch = cut(ward(found.centres, weights), groups)
    rows = np.bincount(branch, weights, minlength=groups)
    number = np.empty(groups, np.int32)
    number[np.argsort(-rows, kind="stable")] = np.arange(groups)
    return replace(found, group=number[branch], why=f"{found.why}; {why}")
