"""Rows by their content: hashes of values, which rows are those of before, and what was known of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

RENEW = 0.02        # share of new rows from which on arrays are kept anew; until then these rows are looked at again
_FEW_BITS = 20      # leading bits of a hash by which most that are not wanted are passed over
ONE_PIECE = 1 << 28  # bytes up to which what was taken from several chunks is put into one
_NULL = np.uint64(0xA24BAED4963EE407)


def hashes(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return (n,) uint64: a hash of each value of an Arrow column, the same however the column is cut into chunks.

    Text, numbers, truth values, lists and structs; null has a hash of its own. 64 bits: among a million rows two
    different ones share a hash with a chance of 3 in 10^8.
    """
    from .hashing import hash_bytes, hash_lists

    if isinstance(column, pa.ChunkedArray):
        return np.concatenate([np.zeros(0, np.uint64), *(hashes(chunk) for chunk in column.chunks)])
    n = len(column)
    out = np.empty(n, np.uint64)
    if pa.types.is_null(column.type):
        out[:] = _NULL
        return out
    if pa.types.is_dictionary(column.type):
        known = np.append(hashes(column.dictionary), _NULL)
        return known[pc.fill_null(column.indices.cast(pa.int64()), len(known) - 1).to_numpy(zero_copy_only=False)]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_string())
        starts = np.frombuffer(column.buffers()[1] or b"\0" * 8, np.int64)[column.offset : column.offset + n + 1]
        hash_bytes(np.frombuffer(column.buffers()[2] or b"\0", np.uint8), starts, out)
    elif pa.types.is_list(column.type):
        starts = np.asarray(column.offsets).astype(np.int64)
        first = int(starts[0]) if n else 0
        items = hashes(column.values.slice(first, int(starts[-1]) - first) if n else column.values.slice(0, 0))
        hash_lists(items, starts - first, out)
    elif pa.types.is_struct(column.type):
        parts = [hashes(part) for part in column.flatten()]
        hash_lists(np.stack(parts, axis=1).reshape(-1), np.arange(n + 1, dtype=np.int64) * len(parts), out)
    else:
        nothing = False if pa.types.is_boolean(column.type) else 0
        values = np.ascontiguousarray(pc.fill_null(column, nothing).to_numpy(zero_copy_only=False))
        wide = values.dtype.itemsize
        hash_bytes(values.view(np.uint8).reshape(-1), np.arange(n + 1, dtype=np.int64) * wide, out)
    if column.null_count:
        out[np.asarray(column.is_null())] = _NULL
    return out


def joined(parts: list[np.ndarray], n: int) -> np.ndarray:
    """Return (n,) uint64: one hash a row over the hashes of several columns."""
    from .hashing import hash_lists

    out = np.empty(n, np.uint64)
    every = np.stack(parts, axis=1).reshape(-1) if parts else np.zeros(0, np.uint64)
    hash_lists(every, np.arange(n + 1, dtype=np.int64) * len(parts), out)
    return out


def same_rows(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Return (n,) int64: for each of the hashes `new` its position in `old`, or -1; each position is given once.

    A row that stands where it stood keeps its place; of the others the k-th copy of a content meets the k-th that is
    left. So rows that were added behind, taken out, changed or moved cost a comparison and a sort of the rest.
    """
    out = np.full(len(new), -1, np.int64)
    least = min(len(new), len(old))
    stands = np.flatnonzero(new[:least] == old[:least])
    out[stands] = stands
    rest_new = np.flatnonzero(out < 0)
    free = np.ones(len(old), bool)
    free[stands] = False
    rest_old = np.flatnonzero(free)
    if not len(rest_new) or not len(rest_old):
        return out
    rest_new = rest_new[np.argsort(new[rest_new], kind="stable")]
    rest_old = rest_old[np.argsort(old[rest_old], kind="stable")]
    wanted, there = new[rest_new], old[rest_old]
    nth = np.arange(len(wanted)) - np.searchsorted(wanted, wanted)
    place = np.searchsorted(there, wanted) + nth
    held = place < len(there)
    held[held] = there[place[held]] == wanted[held]
    out[rest_new[held]] = rest_old[place[held]]
    return out


def lists_of_all(
    old: tuple[np.ndarray, np.ndarray] | None, new: tuple[np.ndarray, np.ndarray], earlier: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (items, how many a row has) of all rows, from those of the earlier rows and those of the new ones.

    Items of a row follow each other, rows in their order. `earlier`: position in `old` for each row, -1: next of `new`.
    """
    if old is None:
        assert len(new[1]) == len(earlier), (len(new[1]), len(earlier))
        return new
    items, count = (np.concatenate([a, b]) for a, b in zip(old, new, strict=True))
    at = earlier.copy()
    at[earlier < 0] = len(old[1]) + np.arange(len(new[1]))
    size = count[at]
    first = (np.cumsum(count) - count)[at]
    return items[np.repeat(first - np.cumsum(size) + size, size) + np.arange(size.sum())], size


def places(earlier: np.ndarray, before: int) -> np.ndarray:
    """Return (before,) int64: where each of the rows of before stands now, -1 when it is gone. `earlier`: as `same_rows`."""
    from .hashing import standing

    out = np.full(before, -1, np.int64)
    stand = standing(earlier)
    out[:stand] = np.arange(stand)
    known = np.flatnonzero(earlier[stand:] >= 0)
    out[earlier[stand:][known]] = stand + known
    return out


def carried(old: np.ndarray | None, earlier: np.ndarray, new: Any) -> np.ndarray:
    """Return (n,) values of all rows: those of `old` on earlier rows; on the others `new`, one each in order or one for all.

    `earlier`: position in `old` for each row, -1 for a new one, as `same_rows`. Rows that stand where they stood are copied as
    they lie, which rows added behind leave nearly all.
    """
    from .hashing import standing

    new = np.asarray(new)
    out = np.empty(len(earlier), new.dtype)
    stand = standing(earlier) if old is not None else 0
    if old is not None:
        out[:stand] = old[:stand]
    known = earlier[stand:] >= 0
    out[stand:][~known] = new
    if old is not None:
        out[stand:][known] = old[earlier[stand:][known]]
    return out


def holding(key: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the positions, ascending, of those of many hashes that are among the few `wanted` ones."""
    wanted = np.sort(wanted)
    if not len(wanted):
        return np.zeros(0, np.int64)
    shift = np.uint64(64 - _FEW_BITS)
    may = np.zeros(1 << _FEW_BITS, np.bool_)
    may[wanted >> shift] = True
    at = np.flatnonzero(may[key >> shift])
    return at[wanted[np.minimum(np.searchsorted(wanted, key[at]), len(wanted) - 1)] == key[at]]


def taken(column: Any, at: np.ndarray) -> Any:
    """Return the values at positions `at` of a table or column, as its `take` gives them.

    Arrow's `take` joins all chunks of a text column first, whatever is asked for; here each chunk gives its own.
    """
    if isinstance(column, pa.Table):
        return pa.table({f.name: taken(column[f.name], at) for f in column.schema}, schema=column.schema)
    if not isinstance(column, pa.ChunkedArray) or column.num_chunks < 2 or 8 * len(at) > len(column):
        return column.take(pa.array(at, pa.int64()))
    order = None if (at[1:] >= at[:-1]).all() else np.argsort(at, kind="stable")
    wanted = at if order is None else at[order]
    edge = np.cumsum([0, *(len(chunk) for chunk in column.chunks)])
    cut = np.searchsorted(wanted, edge)
    parts = [chunk.take(pa.array(wanted[lo:hi] - first, pa.int64()))
             for chunk, lo, hi, first in zip(column.chunks, cut[:-1], cut[1:], edge[:-1], strict=True) if hi > lo]
    assert len(at) == sum(len(part) for part in parts), (len(at), len(column))
    if sum(part.nbytes for part in parts) < ONE_PIECE:      # else each later step would go through hundreds of chunks
        parts = [pa.concat_arrays(parts)] if parts else []
    out = pa.chunked_array(parts, column.type)
    if order is None:
        return out
    back = np.empty(len(at), np.int64)
    back[order] = np.arange(len(at))
    return out.take(pa.array(back))


def some(table: Any, at: np.ndarray) -> Any:
    """Return the rows at ascending positions of a table or column, without a copy when they follow each other."""
    if len(at) and at[-1] - at[0] + 1 == len(at):
        return table.slice(int(at[0]), len(at))
    return taken(table, at) if len(at) else table.slice(0, 0)


def worn(past: Any) -> bool:
    """Return whether so much is new beside what was kept (RENEW of all rows) that it should be kept anew."""
    return past.load() is None or int((past.earlier < 0).sum()) > RENEW * len(past.earlier)
