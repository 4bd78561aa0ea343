"""What earlier runs left: which rows are the same as before, and arrays that a set-wide check keeps for its next run."""

# mypy: disable-error-code="call-arg,var-annotated,assignment"
# The kernels are typed by numba when they are compiled; mypy knows neither its intrinsics nor its integer widths.

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numba import njit

from .store import atomic

log = logging.getLogger(__name__)

MAGIC = b"curation-past-2\n"
BLOCK, STEP = 1 << 16, 1 << 20  # bytes: the sum of a large array is over a block of each step and its last block
ALIGN = 64          # arrays start at multiples of this many bytes, so that they can be used where they lie
RENEW = 0.02        # share of new rows from which on arrays are written anew; until then these rows are looked at again
RECIPES = 2         # files kept a check: that of the options in force and that of the options before
#: From what a file tells of its rows to their positions for the present rows, -1 for a new one; None: those are gone.
Positions = Callable[[Mapping[str, Any]], np.ndarray | None]
_NULL = np.uint64(0xA24BAED4963EE407)
_K0, _K1, _K2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


# ---- rows by content


@njit(inline="always")
def _mix(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> np.uint64(30))) * _K1
    x = (x ^ (x >> np.uint64(27))) * _K2
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True)
def _hash_bytes(data: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """Hash the bytes data[starts[i]:starts[i + 1]], eight at a time; the length counts."""
    for i in range(len(out)):
        at, end = starts[i], starts[i + 1]
        h = np.uint64(end - at) * _K0 + _K1
        while at + 8 <= end:
            word = np.uint64(0)
            for k in range(8):
                word |= np.uint64(data[at + k]) << np.uint64(8 * k)
            h = _mix(h ^ word) + _K0
            at += 8
        word = np.uint64(0)
        for k in range(end - at):
            word |= np.uint64(data[at + k]) << np.uint64(8 * k)
        out[i] = _mix(h ^ word)


@njit(nogil=True, cache=True)
def _hash_lists(items: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """Hash runs of hashes; their number and order count."""
    for i in range(len(out)):
        h = np.uint64(starts[i + 1] - starts[i]) * _K0 + _K2
        for k in range(starts[i], starts[i + 1]):
            h = _mix(h ^ items[k]) + _K0
        out[i] = h


def hashes(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return (n,) uint64: a hash of each value of an Arrow column, the same however the column is cut into chunks.

    Text, numbers, truth values, lists and structs; null has a hash of its own. 64 bits: among a million rows two
    different ones share a hash with a chance of 3 in 10^8.
    """
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
        _hash_bytes(np.frombuffer(column.buffers()[2] or b"\0", np.uint8), starts, out)
    elif pa.types.is_list(column.type):
        starts = np.asarray(column.offsets).astype(np.int64)
        first = int(starts[0]) if n else 0
        items = hashes(column.values.slice(first, int(starts[-1]) - first) if n else column.values.slice(0, 0))
        _hash_lists(items, starts - first, out)
    elif pa.types.is_struct(column.type):
        parts = [hashes(part) for part in column.flatten()]
        _hash_lists(np.stack(parts, axis=1).reshape(-1), np.arange(n + 1, dtype=np.int64) * len(parts), out)
    else:
        nothing = False if pa.types.is_boolean(column.type) else 0
        values = np.ascontiguousarray(pc.fill_null(column, nothing).to_numpy(zero_copy_only=False))
        wide = values.dtype.itemsize
        _hash_bytes(values.view(np.uint8).reshape(-1), np.arange(n + 1, dtype=np.int64) * wide, out)
    if column.null_count:
        out[np.asarray(column.is_null())] = _NULL
    return out


def joined(parts: list[np.ndarray], n: int) -> np.ndarray:
    """Return (n,) uint64: one hash a row over the hashes of several columns."""
    out = np.empty(n, np.uint64)
    every = np.stack(parts, axis=1).reshape(-1) if parts else np.zeros(0, np.uint64)
    _hash_lists(every, np.arange(n + 1, dtype=np.int64) * len(parts), out)
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


# ---- arrays kept


class Past:
    """What a set-wide check may keep for its next run on other rows of the same folder, under the same options.

    `load()`: the arrays saved last, or None. `save(arrays)`: keep these. `earlier`: (n,) int64, for each present row
    its position among the rows that the arrays of `load()` speak of, or -1 for a row that is new or changed.
    """

    def __init__(self, folder: Path, recipe: str, about: Mapping[str, Any], earlier: Positions, n: int) -> None:
        """`recipe`: name of check and options; `about`: what tells these rows; `earlier`: positions in such rows."""
        self.path = folder / f"{recipe}.arrays"
        self.about, self._earlier, self.n = about, earlier, n
        self._read: tuple[dict[str, np.ndarray], np.ndarray] | None = None
        self._asked = False

    def load(self) -> dict[str, np.ndarray] | None:
        """Return the arrays saved last, read-only and mapped from the file; None when there are none, or the rows are gone."""
        if not self._asked:
            self._asked = True
            found = read_arrays(self.path)
            earlier = self._earlier(found[1]) if found else None
            if found is not None and earlier is not None:
                self._read = found[0], earlier
        return self._read[0] if self._read else None

    @property
    def earlier(self) -> np.ndarray:
        """(n,) int64: position of each row among the earlier rows, -1 when new; no position is given twice."""
        self.load()
        return self._read[1] if self._read else np.full(self.n, -1, np.int64)

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays of numbers for the next run, in place of what was kept before; one file, written whole."""
        write_arrays(self.path, arrays, self.about)
        check = self.path.name.rpartition("-")[0]
        kept = sorted(self.path.parent.glob(f"{check}-*.arrays"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in [p for p in kept if p != self.path][RECIPES - 1 :]:
            old.unlink(missing_ok=True)


class NoPast:
    """Stands for Past where no folder is at hand: every row is new and nothing is kept."""

    def __init__(self, n: int) -> None:
        self.earlier = np.full(n, -1, np.int64)

    def load(self) -> dict[str, np.ndarray] | None:
        return None

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep nothing."""


def worn(past: Any) -> bool:
    """Return whether so much is new beside what was kept (RENEW of all rows) that it should be kept anew."""
    return past.load() is None or int((past.earlier < 0).sum()) > RENEW * len(past.earlier)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write arrays as one file: a JSON line that tells their places and checksums, then their bytes."""
    parts: dict[str, Any] = {}
    at = 0
    flat = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    for name, array in flat.items():
        assert array.dtype.kind in "biuf", f"{name}: arrays of numbers only, got {array.dtype}"
        at = -(-at // ALIGN) * ALIGN
        mark = _sum(_bytes(array))
        parts[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "at": at, "sum": mark}
        at += array.nbytes
    head = MAGIC + json.dumps({"about": dict(about), "arrays": parts}, sort_keys=True).encode() + b"\n"
    head += b"\n" * (-len(head) % ALIGN)
    with atomic(path) as f:
        f.write(head)
        for name, array in flat.items():
            f.write(b"\0" * (len(head) + parts[name]["at"] - f.tell()))
            f.write(_bytes(array))


def _bytes(array: np.ndarray) -> Any:
    """Return the bytes of a contiguous array without a copy."""
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _sum(data: Any) -> str:
    """Return a checksum of bytes. Of more than STEP it reads every 16th: hundreds of megabytes are kept of a large set, and
    a file that was cut or overwritten shows in a part of it as well.
    """
    mark = xxhash.xxh3_64(str(len(data)).encode())
    for start in range(0, len(data), STEP):
        mark.update(data[start : start + (BLOCK if len(data) > STEP else STEP)])
    mark.update(data[-BLOCK:])
    return mark.hexdigest()


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return (arrays, about) of a file of `write_arrays`; None when it is absent, or damaged, which is logged."""
    if not path.exists():
        return None
    try:
        data = np.memmap(path, np.uint8, mode="r")
        head = bytes(data[: 1 << 20])
        if not head.startswith(MAGIC):
            raise ValueError("it does not begin as such a file does")
        end = head.index(b"\n", len(MAGIC))
        told = json.loads(head[len(MAGIC) : end])
        body = -(-(end + 1) // ALIGN) * ALIGN
        arrays = {}
        for name, part in told["arrays"].items():
            kind, shape = np.dtype(part["dtype"]), tuple(part["shape"])
            start = body + part["at"]
            raw = data[start : start + kind.itemsize * int(np.prod(shape, dtype=np.int64))]
            if len(raw) != kind.itemsize * int(np.prod(shape, dtype=np.int64)) or _sum(_bytes(raw)) != part["sum"]:
                raise ValueError(f"the bytes of {name} are not those that were written")
            arrays[name] = raw.view(kind).reshape(shape)
        return arrays, told["about"]
    except (ValueError, KeyError, TypeError, OSError) as e:
        log.warning("%s cannot be used and is made anew: %s", path, e)
        return None


