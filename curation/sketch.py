"""Near-duplicate pairs at reading speed: bands, candidates, exact Jaccard, dense buckets, an exact join, clusters.

`near_pairs` does it all. It is made of stages, plain functions from arrays to arrays, which may run elsewhere and over
parts of the work with the same result:

1. `sketch_rows(columns, search)`: a range of rows -> `Sketches`; a row's sketch depends on that row only.
2. `copies(identity)`: which rows repeat the shingles of an earlier one.
3. `candidates(keys, glimpse, use, search)`: all rows, any subset of the bands -> packed pairs and over-full rows. The
   candidates of all bands are the `distinct` union of those of subsets, `hot` the largest of each row.
4. `verify(texts, packed, search)`: any subset of the pairs -> exact similarity.
5. `gathered` and `dense`: what over-full buckets left open, among their members only.
6. `pairs_of`: everything together as sorted `Pairs`.

Steps 1 to 4 look at earlier rows only, so rows added behind change nothing of what was found before: `find` goes on
from what an earlier call found.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from . import kernels
from .contents import taken
from .errors import CurationError
from .kernels import ENDLESS, FULL, GLIMPSE, MET, U64
from .shingles import (
    UNPLAIN,
    Sets,
    Sketches,
    Texts,
    blocks,
    checked,
    hash32,
    hash64,
    in_unit,
    jaccard,
    minhash_signatures,
    named,
    same_texts,
    shingle_sets,
    shingles,
    similarity,
    sketches,
    spread,
    texts_of,
    threads_of,
)

__all__ = [
    "UNPLAIN", "Found", "Pairs", "Search", "Sets", "Sketches", "Texts", "alike", "candidates", "components",
    "copies", "copies_behind", "dense", "distinct", "exact_pairs", "find", "first_equal", "gathered", "hash32",
    "hash64", "identities", "jaccard", "lead", "minhash_signatures", "near_pairs", "pairs_of", "plan",
    "rethreshold", "run_on", "same_shingles", "search", "shingle_sets", "shingles", "similarity", "sketch_rows",
    "texts_of", "verify", "warm", "within",
]

log = logging.getLogger(__name__)

CHAIN = 8               # earlier members of a bucket that a row is compared with, all of them
FEW = 1                 # and the last one where there are more: a chain that joins what is alike
STEPS = 128             # earlier members of a bucket whose glimpse is looked at
DOUBT = 6.0             # standard deviations below the floor at which minima rule a pair out (about 1 in 10^9)
HOT_RUN = 256           # a shingle held by more members of over-full buckets than this is common there
RARITY = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, HOT_RUN])    # steps of how many hold a shingle
BITS = 1024             # minima, one bit each, by which rows that share common shingles only are held against each other
DENSE_WORK = 2_000_000_000      # comparisons of such bits a search may spend, a similarity counted as 64: about 10 s
DENSE_ROW = 20_000      # but each row this many, however many rows there are: about 0.1 ms
PARTNERS = 16           # rows of its own cluster that a row of a dense bucket is held against beyond its chain
BLOCK = 32_000_000      # shingles in memory while pairs are verified (8 bytes each)


@dataclass(frozen=True)
class Search:
    """What is looked for, and how: made by `search`."""

    threshold: float
    floor: float            # pairs below are not held
    bands: int
    width: int              # minima a band
    recall: float           # expected share of the pairs at the threshold that is looked at
    seed: int
    ngram: int
    unit: str


@dataclass(frozen=True)
class Pairs:
    """Verified pairs of rows, left < right, sorted; what found them, and how surely.

    Rows with the very same shingles are held as a star around the first of them (score 1): a hundred thousand copies
    are a hundred thousand pairs, not five thousand million. In a bucket of more than 8 earlier rows a row is compared
    with the one before it: this chain holds the bucket together where it holds, and where it does not, its rows are
    compared with every one that they share a rare shingle with, or that common shingles alone may make alike. So big
    clusters come out whole without every pair inside them being listed.
    """

    left: np.ndarray        # int64
    right: np.ndarray       # int64
    score: np.ndarray       # float64 in [floor, 1]: the smallest Jaccard of the columns
    fields: np.ndarray      # (pairs, columns) float64
    rows: int               # of the table the pairs point into
    floor: float            # nothing below is held
    recall: float           # expected share of pairs at the threshold that was looked at (1.0: exact join)
    bands: int
    width: int              # minima a band
    candidates: int         # pairs verified
    left_out: int = 0       # comparisons in dense buckets that the bound on the work left out; 0: the recall holds

    def __len__(self) -> int:
        return len(self.left)


def plan(threshold: float, num_perm: int, recall: float = 0.999) -> tuple[int, int, float]:
    """Return (bands, width, expected recall at the threshold): the widest bands that still reach `recall`.

    P(found | Jaccard = t) = 1 - (1 - t^width)^bands. When even single minima do not reach it, width is 1 and the
    third value says what is reached.
    """
    for width in range(num_perm, 0, -1):
        bands = num_perm // width
        found = 1.0 - (1.0 - threshold**width) ** bands
        if found >= recall:
            return bands, width, found
    return num_perm, 1, 1.0 - (1.0 - threshold) ** num_perm


def search(
    *, threshold: float = 0.8, floor: float | None = None, num_perm: int = 64, seed: int = 1, ngram: int = 5,
    unit: str = "word", recall: float = 0.999,
) -> Search:
    """Return the plan of a search, or a CurationError that names the option that is out of range."""
    in_unit("threshold", threshold)
    floor = threshold if floor is None else floor
    in_unit("floor", floor)
    checked(ngram, unit, num_perm)
    if not 0.0 < recall <= 1.0:
        raise CurationError(f"recall {recall} is not a share", "use a share of the pairs above 0 and at most 1, such as 0.999")
    if floor > threshold:
        raise CurationError(f"floor {floor} is above the threshold {threshold}", "keep pairs from a floor below it")
    bands, width, expected = plan(threshold, num_perm, recall)
    return Search(threshold, floor, bands, width, expected, seed, ngram, unit)


def near_pairs(
    columns: Sequence[pa.Array | pa.ChunkedArray], *, threshold: float = 0.8, floor: float | None = None,
    num_perm: int = 64, seed: int = 1, ngram: int = 5, unit: str = "word", recall: float = 0.999,
    threads: int | None = None,
) -> Pairs:
    """Return the pairs of rows whose every column has Jaccard >= floor (default: the threshold).

    `recall` is promised at the threshold; between floor and threshold it is less, by the formula of `plan`. Rows
    without a shingle are in no pair. Memory and time are bounded in buckets of any size: what the bound leaves out
    (many thousands of unlike rows made of the same few shingles) is counted in `left_out` and logged.
    """
    s = search(threshold=threshold, floor=floor, num_perm=num_perm, seed=seed, ngram=ngram, unit=unit, recall=recall)
    return pairs_of(columns, find(columns, s, threads=threads), s, threads=threads)


# ------------------------------------------------------------------ where the stages run
class Runner(Protocol):
    """Runs stages somewhere else, with the same result; None where a call is better answered here."""

    def sketch_rows(self, columns: Sequence[pa.Array | pa.ChunkedArray], s: Search) -> Sketches | None: ...

    def candidates(self, keys: np.ndarray, use: np.ndarray, s: Search) -> tuple[np.ndarray, np.ndarray] | None: ...

    def verify(
        self, t: Texts, packed: np.ndarray, s: Search, room: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray] | None: ...

    def identities(self, columns: Sequence[pa.Array | pa.ChunkedArray], ngram: int, unit: str) -> np.ndarray | None: ...


_runner: ContextVar[Runner | None] = ContextVar("runner", default=None)


@contextmanager
def run_on(runner: Runner) -> Iterator[None]:
    """Have `runner` run the stages of calls inside the block, from this thread."""
    token = _runner.set(runner)
    try:
        yield
    finally:
        _runner.reset(token)


# ------------------------------------------------------------------ the stages
def sketch_rows(columns: Sequence[pa.Array | pa.ChunkedArray], s: Search, *, threads: int | None = None) -> Sketches:
    """Stage 1: return the sketches of these rows; of a range of rows when the columns are slices."""
    kind = checked(s.ngram, s.unit)
    runner = _runner.get()
    if runner is not None and (there := runner.sketch_rows(columns, s)) is not None:
        return there
    return sketches(texts_of(columns), s.bands * s.width, s.seed, s.bands, s.width, kind, s.ngram, threads_of(threads))


def copies(identity: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stage 2: return (use, copy, of): 1 for the first row of each distinct set, the rows that repeat one, and which one.

    identity: (rows, 2) of `Sketches`; (0, 0) is a row without a shingle, which is neither.
    """
    rows, first = np.arange(len(identity)), first_equal(identity)
    filled = identity.any(axis=1)
    copy = np.flatnonzero((first != rows) & filled)
    return ((first == rows) & filled).astype(np.uint8), copy, first[copy].astype(np.int64)


def first_equal(identity: np.ndarray) -> np.ndarray:
    """Return for each row the first row with the same identity (int32)."""
    first = np.empty(len(identity), np.int32)
    kernels.first_equal(np.ascontiguousarray(identity), first)
    return first


def copies_behind(
    identity: np.ndarray, copy: np.ndarray, of: np.ndarray, more: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (use of the rows `more`, copy, of) as `copies` of identity and more together; copy, of: those of identity."""
    first = np.empty(len(more), np.int32)
    kernels.first_behind(_fixed(identity), _fixed(more), first)
    rows = np.arange(len(identity), len(identity) + len(more))
    filled = more.any(axis=1)
    fresh = (first != rows) & filled
    return (((first == rows) & filled).astype(np.uint8), np.concatenate([copy, rows[fresh]]),
            np.concatenate([of, first[fresh].astype(np.int64)]))


def _fixed(x: np.ndarray) -> np.ndarray:
    """Return a read-only view, mapped from a file or not: one type to the kernels."""
    x = np.ascontiguousarray(x).view(np.ndarray)
    x.flags.writeable = False
    return x


def candidates(
    keys: np.ndarray, glimpse: np.ndarray, use: np.ndarray, s: Search, *, first: int = 0, threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Stage 3: return (candidates as row << 32 | earlier row, how full the buckets of each row were).

    keys: (some of the bands, all rows). Only rows from `first` on are given candidates, earlier rows of any position.
    The marks, uint8: FULL where a bucket had too many earlier members to be looked at whole, ENDLESS where that is because
    too many met there by chance, MET for the earlier members of such a bucket, else 0.
    """
    runner = _runner.get()
    if runner is not None and first == 0 and (there := runner.candidates(keys, use, s)) is not None:
        return there
    bands, n = keys.shape
    before = np.empty((bands, n), np.int32)
    workers = threads_of(threads)
    spread(lambda lo, hi: [kernels.link(keys[b], use, first, before[b]) for b in range(lo, hi)], bands, workers, 1)
    parts, hot = _collected(before, use, glimpse, s, first, workers)
    return (np.concatenate(parts) if parts else np.empty(0, np.uint64)), hot


def _collected(before: np.ndarray, use: np.ndarray, glimpse: np.ndarray, s: Search, first: int, workers: int,
               ) -> tuple[list[np.ndarray], np.ndarray]:
    """Return (candidates of rows from `first` on, in parts; the marks of `candidates`)."""
    hot, met, least = np.zeros(len(use), np.uint8), np.zeros(len(use), np.uint8), _least(s)
    parts = spread(lambda lo, hi: kernels.collect(before, use, glimpse, least, first + lo, first + hi, CHAIN, FEW, STEPS, hot,
                                                  met), len(use) - first, workers)
    return parts, np.maximum(hot, met)


def verify(
    t: Texts, packed: np.ndarray, s: Search, *, room: np.ndarray | None = None, threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Stage 4: return (score, fields) of packed pairs of rows of `t`: exact Jaccard, score -1 below the floor.

    room: (columns, rows) shingles of each text, if known. Pairs are taken in blocks, so that memory stays bounded.
    """
    runner = _runner.get()
    if runner is not None and (there := runner.verify(t, packed, s, room)) is not None:
        return there
    left, right = unpacked(packed)
    score, held = np.empty(len(left)), np.empty((len(left), len(t.size)))
    rows, left, right = named(len(t), left, right)
    text = np.arange(len(rows), dtype=np.int32)[None]       # of equal texts one is looked at, where a row is one text
    if len(t.size) > 1:
        text = same_texts(t.address[:, rows], t.size[:, rows])
    size = np.take(t.size if room is None else room, rows, axis=1).astype(np.int64)
    position = np.empty(len(rows), np.int64)
    for part, some in blocks(left, right, text, size, BLOCK):
        position[some] = np.arange(len(some))
        sets = shingle_sets(t, rows[some], ngram=s.ngram, unit=s.unit, room=None if room is None else room[:, rows[some]],
                            text=np.take(text, some, axis=1), threads=threads)
        score[part], held[part] = jaccard(sets, position[left[part]], position[right[part]], floor=s.floor, threads=threads)
    return score, held


@dataclass(frozen=True)
class Found:
    """What the stages found by looking at earlier rows only; goes on with more rows in `find`. All arrays of numbers.

    The first four are of the rows behind those of `before`, and are put behind its own when they are asked for.
    """

    keys: np.ndarray
    glimpse: np.ndarray
    identity: np.ndarray
    count: np.ndarray       # of `Sketches`
    left: np.ndarray
    right: np.ndarray
    score: np.ndarray
    fields: np.ndarray      # verified pairs, copies left aside, as in `Pairs`
    state: np.ndarray       # (rows,) uint8: HOT, OPEN, MEMBER, USED
    tried: np.ndarray       # (1,) int64: pairs verified
    copy: np.ndarray
    first: np.ndarray       # of `copies`: the rows that repeat one, and which one
    before: Found | None = None

    def arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Return the arrays of all rows; `of` makes the same of them."""
        return {prefix + k: self.some(k) if k in AXIS else getattr(self, k) for k in self.__dict__ if k != "before"}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], prefix: str = "") -> Found:
        held: dict[str, Any] = {f.name: arrays[prefix + f.name] for f in fields(cls) if f.name != "before"}
        return cls(**held)

    def some(self, name: str, rows: np.ndarray | None = None) -> np.ndarray:
        """Return what an array of AXIS says of ascending rows, or of all of them."""
        return _joined(None if self.before is None else getattr(self.before, name), getattr(self, name), rows, AXIS[name])


def _joined(before: np.ndarray | None, own: np.ndarray, rows: np.ndarray | None, axis: int) -> np.ndarray:
    """Return what is said of ascending rows, or of all of them, by arrays of the rows before and of those behind them."""
    if before is None:
        return own if rows is None else np.take(own, rows, axis=axis)
    if rows is None:
        return np.concatenate([before, own], axis=axis)
    known = before.shape[axis]
    cut = np.searchsorted(rows, known)
    return np.concatenate([np.take(before, rows[:cut], axis=axis), np.take(own, rows[cut:] - known, axis=axis)], axis=axis)


#: Which axis of the arrays of `Found` the rows stand on that are held apart for rows added behind.
AXIS = {"keys": 1, "glimpse": 0, "identity": 0, "count": 1}
HOT, OPEN, MEMBER = 1, 2, 4     # its bucket was over-full; what it met there did not all hold; it is in such a bucket
USED = 8                        # it is the first row with its shingles, and has some


def find(
    columns: Sequence[pa.Array | pa.ChunkedArray], s: Search, before: Found | None = None, *, among: np.ndarray | None = None,
    threads: int | None = None,
) -> Found:
    """Return what stages 1 to 4 find.

    With `before`, which is of the first rows of these columns, only later rows are sketched and looked up; the result
    is the same as without. `among`: mask of those later rows (all rows without `before`) that take part.
    """
    if before is not None and before.before is not None:
        before = Found.of(before.arrays())
    known = 0 if before is None else len(before.state)
    new = sketch_rows([c.slice(known) for c in columns] if known else columns, s, threads=threads)
    if among is not None:
        new.identity[~among] = 0
    if before is None:
        use, copy, of = copies(new.identity)
        packed, hot = candidates(new.keys, new.glimpse, use, s, threads=threads)
    else:
        use, copy, of = copies_behind(before.identity, before.copy, before.first, new.identity)
        packed, hot = _candidates_behind(before, new, use, s, threads)
        use = np.concatenate([before.state & USED, use])
    left, right = unpacked(packed)
    rows, t = _texts_of(columns, distinct(np.concatenate([left, right])) if known else None)
    score, held = verify(t, packed if rows is None else _repacked(rows, left, right), s,
                         room=_joined(None if before is None else before.count, new.count, rows, 1), threads=threads)
    state, tried = _state(use, hot, left, right, score), np.array([len(packed)])
    own = [x[score >= 0] for x in (left, right, score, held)]
    if before is not None:
        state[:known] |= before.state
        tried += before.tried
        own = [np.concatenate(x) for x in zip((before.left, before.right, before.score, before.fields), own, strict=True)]
    return Found(new.keys, new.glimpse, new.identity, new.count, own[0], own[1], own[2], own[3], state, tried, copy, of, before)


def _state(use: np.ndarray, hot: np.ndarray, left: np.ndarray, right: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the `state` of `Found` from the marks of `candidates` and the scores of the candidates."""
    state = np.where(use > 0, np.uint8(USED), np.uint8(0))
    full = hot >= FULL
    state[full] |= HOT | MEMBER
    state[hot == MET] |= MEMBER
    state[left[full[right]]] |= MEMBER
    failed = (score < 0) & full[right]
    state[right[failed]] |= OPEN
    state[left[failed]] |= OPEN
    state[hot == ENDLESS] |= OPEN
    return state


def _candidates_behind(before: Found, new: Sketches, use: np.ndarray, s: Search, threads: int | None,
                       ) -> tuple[np.ndarray, np.ndarray]:
    """Return `candidates` of the rows `new` behind those of `before`: of these only rows that share a band key are looked at."""
    known = len(before.state)
    used, met = _fixed(before.state & USED), np.zeros(known, np.uint8)
    keys, more, more_use = before.keys, _fixed(new.keys), _fixed(use)
    spread(lambda lo, hi: [kernels.meets(_fixed(keys[b]), used, more[b], more_use, met) for b in range(lo, hi)], len(keys),
           threads_of(threads), 1)
    rows = np.concatenate([np.flatnonzero(met), np.arange(known, known + len(use))])
    first = len(rows) - len(use)
    packed, some = candidates(
        np.concatenate([np.take(keys, rows[:first], axis=1), new.keys], axis=1),
        np.concatenate([np.take(before.glimpse, rows[:first], axis=0), new.glimpse]),
        np.concatenate([np.ones(first, np.uint8), use]), s, first=first, threads=threads)
    left, right = unpacked(packed)
    hot = np.zeros(known + len(use), np.uint8)
    hot[rows] = some
    return _repacked(None, rows[left], rows[right]), hot


def gathered(found: Found) -> np.ndarray:
    """Return the rows of over-full buckets for which the chain did not settle where they belong.

    Where every candidate of a cluster holds, its template alone puts a pair over the floor: nothing more to look for.
    """
    return _gathered(found)[0]


def _gathered(found: Found) -> tuple[np.ndarray, np.ndarray]:
    """Return (the rows of `gathered`, the first row of the cluster of each)."""
    open_ = (found.state & OPEN) > 0
    if not open_.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    root = components(found.left, found.right, len(found.state))
    unsettled = np.zeros(len(root), np.bool_)
    unsettled[root[open_]] = True
    rows = np.flatnonzero(found.state & MEMBER)
    rows = rows[unsettled[root[rows]]]
    return rows, root[rows]


def dense(
    t: Texts, glimpse: np.ndarray, room: np.ndarray, root: np.ndarray, s: Search, *, threads: int | None = None,
) -> tuple[np.ndarray, int]:
    """Stage 5: return (packed pairs with every Jaccard >= floor, comparisons left out) among rows of over-full buckets.

    root: for each row the first of those that the chains joined it to. What is looked for is pairs that join more.

    A pair over the floor either shares a shingle that few of the rows have, and is found at that shingle; or the rarest
    it shares is common, as in texts made of the same few words. Then it is among the first few of both, in the order from
    rare to common, and what is at or behind it bounds how alike the two can be: rows made from one template, alike below
    the floor, are passed over by that bound. What is left is held against each other by one bit of each of 1,024 minima,
    a number of times bounded by DENSE_WORK and DENSE_ROW.

    Of rows that are joined already those are looked at that share the rarest shingles, PARTNERS a row.
    """
    rows = np.arange(len(t))
    sets = shingle_sets(t, rows, ngram=s.ngram, unit=s.unit, room=room, threads=threads)
    size = sets.count.sum(axis=0, dtype=np.int64)
    root, tried = root.astype(np.int64), np.zeros(len(rows), np.int64)      # changed from here on
    found, common = [np.empty(0, np.uint64)], [(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int32))]
    parts = max(1, int(size.sum() // 8_000_000))
    for part in range(parts):       # by ranges of the hash, so that memory stays bounded
        lo, hi = ((1 << 64) * part // parts, (1 << 64) * (part + 1) // parts - 1)
        shingle, times, number, owner = kernels.numbered(sets.flat, sets.start, sets.count, U64(lo), U64(hi))
        many = np.flatnonzero(times > HOT_RUN)
        common.append((shingle[many], times[many], _holders(number, owner, times, many)))
        first = _first(number, owner, times, size, s.floor)
        number, owner = number[first], owner[first]
        meet = np.bincount(number, minlength=len(times))
        held = np.flatnonzero((meet >= 2) & (times <= HOT_RUN))
        held = held[np.argsort(times[held], kind="stable")]
        rare = np.repeat(held.astype(np.int32), meet[held])
        found.append(kernels.share_rare(rare, _holders(number, owner, meet, held), glimpse, _least(s), sets.flat, sets.start,
                                        sets.count, s.floor, root, tried, PARTNERS))
    nothing, left_out = np.empty(0, np.int64), 0
    kernels.join(nothing, nothing, root)        # each row points at its root
    shingle, length, owner = (np.concatenate(x) for x in zip(*common, strict=True))
    may = np.bincount(owner, minlength=len(size)) >= s.floor * size - 1e-9
    if len(distinct(root[may])) > 1:
        lists = _lists(shingle, length, owner, size, s.floor)
        more, left_out = _by_common(t, sets, size, *lists, root, s, threads_of(threads))
        found.append(more)
    return distinct(np.concatenate(found)), left_out


def _first(number: np.ndarray, owner: np.ndarray, times: np.ndarray, size: np.ndarray, floor: float) -> np.ndarray:
    """Return the mask of the entries (number of a shingle, the set that holds it) at which a pair over the floor can meet first.

    A set shares at least `floor` of its shingles with one alike, so the rarest that they share has no more than the other
    part of its shingles before it. The order from rare to common is by RARITY: which of the steps of `times` a shingle is on.
    """
    rarity = np.searchsorted(RARITY, times)
    step = owner * np.int64(len(RARITY) + 1) + rarity[number]
    held = np.bincount(step, minlength=len(size) * (len(RARITY) + 1)).reshape(len(size), -1)
    before = np.cumsum(held, axis=1) - held
    return (size[:, None] - before >= floor * size[:, None] - 1e-9).ravel()[step]


def _holders(number: np.ndarray, owner: np.ndarray, times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the sets that hold each of the `wanted` shingles (numbers), ascending, one shingle behind the other."""
    place = np.full(len(times), -1, np.int64)
    place[wanted] = np.cumsum(times[wanted]) - times[wanted]
    out = np.empty(int(times[wanted].sum()), np.int32)
    kernels.dealt(number, owner, place, out)
    return out


def _lists(shingle: np.ndarray, length: np.ndarray, owner: np.ndarray, size: np.ndarray, floor: float,
           ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (list, row, tail) of the entries of `share_common`: each row in the lists of its common prefix shingles.

    shingle, length: the common shingles and how many rows have each; owner: these rows, one shingle behind the other.
    One list of all rows, with all common shingles as their tail, is taken where that is less work.
    """
    common = np.bincount(owner, minlength=len(size))
    may = common >= floor * size - 1e-9
    whole = np.flatnonzero(may)
    rank = np.empty(len(length), np.int64)
    rank[np.lexsort((shingle, length))] = np.arange(len(length))
    code = np.repeat(rank, length)
    taken = may[owner]
    key = np.sort((owner[taken].astype(np.int64) << 32) | code[taken])       # by row, then from rare to common
    row, code = key >> 32, key & 0xFFFFFFFF
    before = np.cumsum(np.bincount(row, minlength=len(size))) - np.bincount(row, minlength=len(size))
    tail = common[row] - (np.arange(len(row)) - before[row])
    prefix = tail >= floor * size[row] - 1e-9
    row, code, tail = row[prefix], code[prefix], tail[prefix]
    if (np.bincount(code).astype(np.float64) ** 2).sum() > float(len(whole)) ** 2:
        return np.zeros(len(whole), np.int64), whole, common[whole]
    return code, row, tail


def _by_common(t: Texts, sets: Sets, size: np.ndarray, group: np.ndarray, row: np.ndarray, tail: np.ndarray,
               root: np.ndarray, s: Search, threads: int) -> tuple[np.ndarray, int]:
    """Return (packed pairs that join sets, comparisons left out) of sets that meet in a list of `_lists`."""
    highest, lowest = np.zeros(group.max(initial=0) + 1, np.int64), np.full(group.max(initial=0) + 1, len(root))
    np.maximum.at(highest, group, root[row])
    np.minimum.at(lowest, group, root[row])
    apart = (highest > lowest)[group]           # a list of rows that are joined already has nothing to say
    group, row, tail = group[apart], row[apart], tail[apart]
    if len(row) < 2:
        return np.empty(0, np.uint64), 0
    order = np.lexsort((row, tail, size[row], group))
    group, row, tail = group[order], row[order], tail[order]
    fresh = np.r_[True, group[1:] != group[:-1]]
    turn = fresh | np.r_[True, (size[row[1:]] != size[row[:-1]]) | (tail[1:] != tail[:-1])]
    classes = np.r_[np.flatnonzero(turn), len(row)]
    own = (np.cumsum(turn) - 1)[np.flatnonzero(fresh)][np.cumsum(fresh) - 1]
    used = distinct(row)
    kind = checked(s.ngram, s.unit)
    bits = np.empty((len(used), BITS // 64), np.uint64)
    for lo in range(0, len(used), 4096):
        part = used[lo:lo + 4096]
        some = Texts(np.ascontiguousarray(t.address[:, part]), np.ascontiguousarray(t.size[:, part]), t.keep)
        signed = sketches(some, BITS, s.seed, 0, 0, kind, s.ngram, threads, signed=True).signature
        bits[lo:lo + len(part)] = np.packbits((signed & 1).astype(np.bool_), axis=1).view(np.uint64)
    equal = (1.0 + s.floor) / 2
    least = math.floor(BITS * equal - DOUBT * math.sqrt(BITS * equal * (1.0 - equal)))
    budget = max(DENSE_WORK // len(used), DENSE_ROW)
    return kernels.share_common(row, size[row], tail, classes, own, np.searchsorted(used, row), bits, least, budget, sets.flat,
                                sets.start, sets.count, s.floor, root)


def pairs_of(
    columns: Sequence[pa.Array | pa.ChunkedArray], found: Found, s: Search, *, threads: int | None = None,
) -> Pairs:
    """Stage 6: return everything found as sorted pairs: the chains', those of over-full buckets, the stars of copies."""
    left, right, score, held, left_out = found.left, found.right, found.score, found.fields, 0
    tried = int(found.tried[0])
    rows, root = _gathered(found)
    if len(rows):
        t = texts_of([taken(c, rows) for c in columns])
        room = np.ascontiguousarray(found.some("count", rows))
        _, first, which = np.unique(root, return_index=True, return_inverse=True)
        packed, left_out = dense(t, np.ascontiguousarray(found.some("glimpse", rows)), room, first[which], s, threads=threads)
        a, b = unpacked(packed)
        fresh = ~within(_repacked(None, rows[a], rows[b]), _repacked(None, left, right))
        packed, a, b = packed[fresh], rows[a[fresh]], rows[b[fresh]]
        more, more_fields = verify(t, packed, s, room=room, threads=threads)
        left, right = np.concatenate([left, a]), np.concatenate([right, b])
        score, held = np.concatenate([score, more]), np.concatenate([held, more_fields])
        tried += len(packed)
    if left_out:
        log.warning("%d comparisons of rows made of the same few shingles were left out: among them recall may be below %.4f",
                    left_out, s.recall)
    return _pairs(left, right, score, held, found.copy, found.first, len(found.state), s, tried, left_out)


def _pairs(left: np.ndarray, right: np.ndarray, score: np.ndarray, held: np.ndarray, copy: np.ndarray, of: np.ndarray,
           n: int, s: Search, tried: int, left_out: int) -> Pairs:
    left, right = np.concatenate([left, of]).astype(np.int64), np.concatenate([right, copy]).astype(np.int64)
    left, right = np.minimum(left, right), np.maximum(left, right)
    score = np.concatenate([score, np.ones(len(copy))])
    held = np.concatenate([held, np.ones((len(copy), held.shape[1]))])
    order = kernels.ordered(_repacked(None, right, left))
    left, right, score, held = (np.take(x, order, axis=0) for x in (left, right, score, held))
    return Pairs(left, right, score, held, n, s.floor, s.recall, s.bands, s.width, tried, left_out)


def _least(s: Search) -> int:
    """Return how many bytes of two glimpses must agree, lest a Jaccard be below the floor; missing bytes agree."""
    m = min(GLIMPSE, s.bands * s.width)
    return max(0, math.floor(s.floor * m - DOUBT * math.sqrt(m * s.floor * (1.0 - s.floor)))) + GLIMPSE - m


def unpacked(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (earlier row, row) of packed pairs."""
    return (packed & U64(0xFFFFFFFF)).astype(np.int64), (packed >> U64(32)).astype(np.int64)


def _repacked(rows: np.ndarray | None, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return packed pairs, of positions in the sorted `rows` when given."""
    if rows is not None:
        left, right = np.searchsorted(rows, left), np.searchsorted(rows, right)
    return (right.astype(np.uint64) << U64(32)) | left.astype(np.uint64)


def _texts_of(columns: Sequence[pa.Array | pa.ChunkedArray], rows: np.ndarray | None) -> tuple[np.ndarray | None, Texts]:
    """Return (rows or None for all, their texts); few rows are copied, so that the others need not be read."""
    if rows is None or 4 * len(rows) > len(columns[0]):
        return None, texts_of(columns)
    return rows, texts_of([taken(c, rows) for c in columns])


def alike(
    columns: Sequence[pa.Array | pa.ChunkedArray], left: np.ndarray, right: np.ndarray, s: Search, *,
    threads: int | None = None,
) -> np.ndarray:
    """Return the exact similarity of given pairs of rows: the smallest Jaccard of the columns, -1 below the floor."""
    rows, t = _texts_of(columns, distinct(np.concatenate([left, right])))
    return verify(t, _repacked(rows, left, right), s, threads=threads)[0]


def distinct(x: np.ndarray) -> np.ndarray:
    """Return x sorted, without repeats (np.unique's hash table is four times slower on such keys)."""
    x = np.sort(x)
    return x[np.r_[True, x[1:] != x[:-1]]] if len(x) else x


def within(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the mask of the x that are in y."""
    if not len(y):
        return np.zeros(len(x), np.bool_)
    y = np.sort(y)
    return y[np.minimum(np.searchsorted(y, x), len(y) - 1)] == x



# ------------------------------------------------------------------ other ways to pairs
def identities(
    columns: Sequence[pa.Array | pa.ChunkedArray], *, ngram: int = 5, unit: str = "word", threads: int | None = None,
) -> np.ndarray:
    """Return (rows, 2) uint64: equal for rows whose every column has the same shingles, counted with repeats."""
    kind = checked(ngram, unit)
    runner = _runner.get()
    if runner is not None and (there := runner.identities(columns, ngram, unit)) is not None:
        return there
    return sketches(texts_of(columns), 0, 1, 0, 0, kind, ngram, threads_of(threads)).identity


def same_shingles(
    columns: Sequence[pa.Array | pa.ChunkedArray], *, ngram: int = 5, unit: str = "word", threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (copy, of): the rows whose every column has the shingles of an earlier row, and the first such row.

    Texts that are equal once folded are among them, so it is also the way to equal texts. Rows without a shingle are
    left out. Shingles count with their repeats.
    """
    _, copy, of = copies(identities(columns, ngram=ngram, unit=unit, threads=threads))
    return copy, of


def exact_pairs(
    columns: Sequence[pa.Array | pa.ChunkedArray], *, threshold: float = 0.8, ngram: int = 5, unit: str = "word",
    threads: int | None = None,
) -> Pairs:
    """Return every pair of rows whose every column has Jaccard >= threshold: a prefix-filter join, no sketch.

    Slower and larger in memory than `near_pairs`: the proof, not the default. Rows with the same shingles are a star
    here too. On very common shingles (characters, templates) it is close to quadratic.
    """
    in_unit("threshold", threshold)
    kind = checked(ngram, unit)
    workers = threads_of(threads)
    t = texts_of(columns)
    sketched = sketches(t, 0, 1, 0, 0, kind, ngram, workers)        # no minima: only which rows are copies, and counts
    use, copy, of = copies(sketched.identity)
    rows = np.flatnonzero(use)
    packed = _joined_by_prefix(shingle_sets(t, rows, ngram=ngram, unit=unit, room=sketched.count[:, rows], threads=workers),
                               threshold, workers)
    s = Search(threshold, threshold, 0, 0, 1.0, 1, ngram, unit)
    left, right = (rows[x] for x in unpacked(packed))
    score, fields = verify(t, _repacked(None, left, right), s, room=sketched.count, threads=workers)
    held = score >= 0
    return _pairs(left[held], right[held], score[held], fields[held], copy, of, len(t), s, len(left), 0)


def _joined_by_prefix(sets: Sets, threshold: float, workers: int) -> np.ndarray:
    """Return packed pairs of rows with Jaccard >= threshold, their columns taken as one set; `sets` is of no use afterwards."""
    start, count, flat = _united(sets)
    del sets        # of several columns, half a gigabyte in a million rows
    leading = 16 if len(count) < 10_000 else 24
    table = kernels.frequencies(flat, start, count, leading)
    spread(lambda lo, hi: kernels.rarest_first(flat, start, count, lo, hi, table, leading), len(count), workers)
    bits = max(12, (len(flat) // 4).bit_length())       # about a bucket for each shingle of a prefix
    return kernels.prefix_join(flat, start, count, np.argsort(count, kind="stable"), threshold, bits)


def _united(sets: Sets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (start, count, flat) of each row's columns taken as one set; of one column these are its own arrays."""
    columns = len(sets.count)
    if columns == 1:
        return sets.start[0], sets.count[0], sets.flat
    count = sets.count.sum(axis=0, dtype=np.int64)
    start = np.cumsum(count) - count
    flat = np.empty(int(count.sum()), np.uint64)
    at = start.copy()
    for c in range(columns):
        k = sets.count[c].astype(np.int64)
        within = np.arange(k.sum()) - np.repeat(np.cumsum(k) - k, k)
        flat[np.repeat(at, k) + within] = sets.flat[np.repeat(sets.start[c], k) + within]
        at += k
    return start, count.astype(np.int32), flat


# ------------------------------------------------------------------ clusters
def components(left: np.ndarray, right: np.ndarray, n: int) -> np.ndarray:
    """Return for each of n rows the first row of its cluster (its own number when it is alone)."""
    root = np.arange(n, dtype=np.int64)
    kernels.join(np.ascontiguousarray(left, np.int64), np.ascontiguousarray(right, np.int64), root)
    return root


def lead(left: np.ndarray, right: np.ndarray, score: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Return for each row the pair (its index, or -1) with the row that leads it; pairs: earlier row, row.

    Rows in order: a row is led by the row most like it among the earlier ones that no other leads and that are not
    `gone`; a row without such a one leads itself.
    """
    best = np.full(len(gone), -1, np.int64)
    order = kernels.ordered(right.astype(np.uint64))
    several = np.zeros(len(order), np.bool_)        # few rows have several pairs, and only these are sorted by score
    again = right[order[1:]] == right[order[:-1]]
    several[1:] = again
    several[:-1] |= again
    some = order[several]
    order[several] = some[np.lexsort((-score[some], right[some]))]
    kernels.lead(left, right, order, gone, best)
    return best


def rethreshold(pairs: Pairs, threshold: float) -> np.ndarray:
    """Return the clusters (as `components`) at another threshold, from the pairs already held."""
    in_unit("threshold", threshold)
    if threshold < pairs.floor:
        raise CurationError(f"threshold {threshold} is below the floor {pairs.floor} of the pairs held",
                            f"use {pairs.floor} or more, or find the pairs again with a lower floor")
    held = pairs.score >= threshold
    return components(pairs.left[held], pairs.right[held], pairs.rows)


def warm() -> None:
    """Compile every kernel into the on-disk cache (seconds once, nothing afterwards)."""
    words = ["one two three four five six seven eight nine"] * 2 + ["one two three four five six seven eight ten"] * 12
    texts = pa.array([f"{w} {i}" for i, w in enumerate(words)])
    for columns in ([texts], [texts, texts]):
        near_pairs(columns, threshold=0.5, threads=1)
    find([texts], search(unit="char"), find([texts.slice(0, 3)], search(unit="char"), threads=1), threads=1)
    exact_pairs([texts], threshold=0.5, threads=1)
    minhash_signatures(texts, 64, unit="char", threads=1)
    few = pa.array([" ".join(map(str, row)) for row in np.random.default_rng(0).integers(0, 30, (600, 40)).tolist()])
    near_pairs([few], threshold=0.8, ngram=1, threads=1)    # full buckets of unlike rows
    one = texts_of([texts])
    list(blocks(np.zeros(2), np.arange(2), np.arange(len(texts), dtype=np.int32)[None], one.size, 0))
    components(np.zeros(1), np.zeros(1), 1)
    nothing = np.empty(0, np.int64)
    lead(nothing, nothing, np.empty(0), np.zeros(1, np.bool_))
