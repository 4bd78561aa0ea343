"""Which rows should agree: those of one family, or asked the very same thing, digits aside, of an input of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .contents import hashes, taken
from .remembered import remembered
from .text import shorten

_DIGITS = re.compile("[0-9]+")
_BUCKETS = 1 << 20      # of group keys, to pass over those that too few rows have


def _laid_out(chunk: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return (bytes of a text array, where each text starts and the last ends); null as ""."""
    chunk = pc.fill_null(chunk, "") if chunk.null_count else chunk
    kind = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
    starts = np.frombuffer(chunk.buffers()[1] or bytes(8), kind)[chunk.offset : chunk.offset + len(chunk) + 1]
    return np.frombuffer(chunk.buffers()[2] or bytes(1), np.uint8), starts


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def _has_own_input(rows: pa.Table) -> np.ndarray:
    """Return (n,) whether the input of each row is more than white space."""
    from .hashing import SOME, UNSURE, shows

    column = rows["input"]
    parts = [np.zeros(0, np.uint8)]
    for chunk in _chunks(column):
        parts.append(np.empty(len(chunk), np.uint8))
        shows(*_laid_out(chunk), parts[-1])
    shown = np.concatenate(parts)
    unsure = np.flatnonzero(shown == UNSURE)
    out = shown == SOME
    out[unsure] = np.asarray(pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(taken(column, unsure), "")), ""))
    return out


def _asked(rows: pa.Table, at: np.ndarray) -> np.ndarray:
    """Return a hash of the instruction, digits aside, of each row at ascending positions `at`."""
    from .hashing import hash_asked

    out = np.empty(len(at), np.uint64)
    first = lo = 0
    for chunk in _chunks(rows["instruction"]):
        hi = int(np.searchsorted(at, first + len(chunk)))
        if hi > lo:
            hash_asked(*_laid_out(chunk), at[lo:hi] - first, out[lo:hi])
        first, lo = first + len(chunk), hi
    return out


def _text(column: pa.Array | pa.ChunkedArray, i: int) -> str:
    return column[i].as_py() or ""


@dataclass(frozen=True)
class _Keys:
    """What rows go by: those of `at` with the same `key` belong together."""

    at: np.ndarray
    key: np.ndarray
    sure: np.ndarray        # (n,) whether a row goes with its family in the spec
    given: np.ndarray       # ... with the family that the data gives


def _keys(rows: pa.Table, family: pa.Array, family_score: pa.Array, min_family: float) -> _Keys:
    """Return what rows go by, as `groups` tells."""
    from .hashing import K0, K1, K2

    sure = np.asarray(pc.fill_null(pc.greater_equal(family_score, min_family), False))
    if sure.any():
        sure = sure & np.asarray(pc.fill_null(pc.not_equal(family, ""), False))
    column = rows["family"]
    given = np.zeros(rows.num_rows, np.bool_)
    if column.null_count < rows.num_rows:
        column = pc.cast(column, pa.string()) if pa.types.is_dictionary(column.type) else column
        given = np.asarray(pc.fill_null(pc.not_equal(column, ""), False)) & ~sure
    asked = _has_own_input(rows) & ~sure & ~given
    mine = [np.flatnonzero(x) for x in (sure, given, asked)]
    names = [hashes(taken(family, mine[0])), hashes(taken(column, mine[1])), _asked(rows, mine[2])]
    key = np.concatenate([name ^ salt for name, salt in zip(names, (K0, K1, K2), strict=True)])
    return _Keys(np.concatenate(mine), key, sure, given)


def groups(rows: pa.Table, family: pa.Array, family_score: pa.Array, *, least: int, min_family: float
           ) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (name to show, family id or "", positions) of each group of at least `least` rows that should agree.

    A row goes with its family in the spec when that is sure enough, else with the family the data gives, else with the
    rows that have the very same instruction (digits aside) and an input of their own. Names and instructions are compared by
    64-bit hashes. Groups come in the order of their first rows.
    """
    columns = (rows["family"], rows["instruction"], rows["input"], family, family_score)
    keys = remembered(f"groups from {min_family}", columns, lambda: _keys(rows, family, family_score, min_family))
    for part in _runs(keys.at, keys.key, max(least, 1)):
        i = int(part[0])
        if keys.sure[i]:
            name = _text(family, i)
            yield f"family {name!r}", name, part
        elif keys.given[i]:
            yield f"family {_text(rows['family'], i)!r}", "", part
        elif instruction := _text(rows["instruction"], i):
            yield f"rows asked {shorten(_DIGITS.sub('0', instruction), 40)!r}", "", part


def _runs(at: np.ndarray, key: np.ndarray, least: int) -> list[np.ndarray]:
    """Return the positions, ascending, of each key that at least `least` of them have, by first position."""
    bucket = (key >> np.uint64(44)).astype(np.int64)
    many = np.flatnonzero(np.bincount(bucket, minlength=_BUCKETS)[bucket] >= least)
    many = many[np.argsort(at[many], kind="stable")]
    many = many[np.argsort(key[many], kind="stable")]
    edge = np.r_[0, np.flatnonzero(key[many][1:] != key[many][:-1]) + 1, len(many)]
    parts = [at[many[lo:hi]] for lo, hi in zip(edge[:-1].tolist(), edge[1:].tolist()) if hi - lo >= least]
    return sorted(parts, key=lambda part: int(part[0]))
