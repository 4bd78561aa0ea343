"""The nearest of many unit vectors by cosine: exactly for small sets, over cells of a k-means for large ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .clustering import assign, kmeans

Progress = Callable[[str, int, int], None]

EXACT = 25_000      # up to this many rows every pair is looked at: 25,000 x 25,000 x 384 takes about 10 s on a core
CELL = 500          # rows a cell holds on average beyond that
PROBES = 8          # cells looked at for a row: its own and the nearest; recall of the nearest row is then about .95
BLOCK = 2048        # queries multiplied at once against all rows: 2048 x 25,000 cosines are 205 MB
DRAWN = 50          # rows drawn for each cell to place its centre


def nearest(
    base: np.ndarray, k: int, queries: np.ndarray | None = None, *, cell: int | None = None, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (index (q, k) int32, cosine (q, k) float32) of the `k` rows of `base` nearest to each query, nearest first.

    Without `queries` the rows of `base` are asked for themselves, and a row is not its own neighbour. `base` and
    `queries` are (n, dim) floats of unit length; a memory map will do. Where fewer than `k` rows can be found the index
    is -1 and the cosine -1. The result is the same on every run; of two rows at the same cosine either may be listed.
    `cell`: rows of a cell; None looks at every pair up to 25,000 rows and takes cells of 500 beyond. The cells depend on
    `base` alone, so what a query finds does not depend on the other queries.
    """
    n, own = len(base), queries is None
    asked = base if queries is None else queries
    k = max(0, min(k, n - own))
    index = np.full((len(asked), k), -1, np.int32)
    cosine = np.full((len(asked), k), -1, np.float32)
    if not k or not len(asked):
        return index, cosine
    if cell is None and n <= EXACT:
        whole = np.asarray(base, np.float32)
        for start in range(0, len(asked), BLOCK):
            part = np.arange(start, min(start + BLOCK, len(asked)))
            index[part], cosine[part] = _top(asked[part], whole, np.arange(n), k, part if own else None)
            if progress:
                progress("neighbours", int(part[-1]) + 1, len(asked))
        return index, cosine
    _by_cells(base, asked, own, k, cell or CELL, index, cosine, progress)
    return index, cosine


def _by_cells(
    base: np.ndarray, asked: np.ndarray, own: bool, k: int, cell: int, index: np.ndarray, cosine: np.ndarray,
    progress: Progress | None,
) -> None:
    """Fill `index` and `cosine`: the queries of a cell are held against the rows of the cells nearest to it."""
    n = len(base)
    cells = max(1, n // cell)
    drawn = np.sort(np.random.default_rng(0).choice(n, min(n, cells * DRAWN), replace=False))
    some = np.asarray(base[drawn], np.float32)
    centres = kmeans(some, some[:: max(1, len(some) // cells)][:cells], rounds=4)
    home = assign(base, centres)[0]
    place = home if own else assign(asked, centres)[0]
    order, starts = _sorted(home, len(centres))
    askers, first = _sorted(place, len(centres))
    probes = min(len(centres), max(PROBES, int(np.ceil(2 * k / cell)) + 1))
    between = centres @ centres.T
    np.fill_diagonal(between, 2)        # a cell is always looked at for its own rows
    near = np.argpartition(-between, probes - 1, axis=1)[:, :probes]
    done = 0
    for c in range(len(centres)):
        mine = askers[first[c] : first[c + 1]]
        if not len(mine):
            continue
        held = np.sort(np.concatenate([order[starts[x] : starts[x + 1]] for x in near[c]]))
        rows = np.asarray(base[held], np.float32)
        for start in range(0, len(mine), BLOCK):
            part = mine[start : start + BLOCK]
            got, at = _top(asked[part], rows, held, k, part if own else None)
            index[part, : got.shape[1]], cosine[part, : got.shape[1]] = got, at
        done += len(mine)
        if progress:
            progress("neighbours", done, len(asked))


def _sorted(label: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions in order of their label, and where each label begins."""
    return np.argsort(label, kind="stable"), np.searchsorted(np.sort(label), np.arange(k + 1))


def _top(
    queries: np.ndarray, rows: np.ndarray, names: np.ndarray, k: int, own: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return names and cosines of the nearest up to `k` rows; `own`: the name that a query must not find."""
    near = np.asarray(queries, np.float32) @ rows.T
    if own is not None:
        near[np.arange(len(own)), np.searchsorted(names, own)] = -2
    take = min(k, len(names) - (own is not None))
    if take < 1:
        return np.zeros((len(near), 0), np.int32), np.zeros((len(near), 0), np.float32)
    at = np.argpartition(near, near.shape[1] - take, axis=1)[:, -take:] if take < near.shape[1] else np.tile(
        np.arange(near.shape[1]), (len(near), 1)
    )
    value = np.take_along_axis(near, at, axis=1)
    order = np.lexsort((at, -value), axis=1)
    at, value = np.take_along_axis(at, order, axis=1), np.take_along_axis(value, order, axis=1)
    return names[at].astype(np.int32), np.clip(value, -1, 1)
