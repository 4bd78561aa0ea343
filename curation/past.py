"""What earlier runs left: arrays that a set-wide check keeps for its next run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from .store import atomic

log = logging.getLogger(__name__)

MAGIC = b"curation-past-2\n"
BLOCK, STEP = 1 << 16, 1 << 20  # bytes: the sum of a large array is over a block of each step and its last block
ALIGN = 64          # arrays start at multiples of this many bytes, so that they can be used where they lie
RECIPES = 2         # files kept a check: that of the options in force and that of the options before
#: From what a file tells of its rows to their positions for the present rows, -1 for a new one; None: those are gone.
Positions = Callable[[Mapping[str, Any]], np.ndarray | None]


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


