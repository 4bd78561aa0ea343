"""Near-duplicates on a Ray cluster: the stages of `sketch` as tasks over slices of rows and ranges of band keys.

A slice of rows is sketched by one task, whose result stays on the node that made it. Its band keys are dealt to as many
parts as there are grouping tasks, by ranges of a hash of the key, so that a grouping task sees every bucket of its range
whole; it returns candidates. These are verified in chunks that carry the texts they speak of. What a task returns depends
on its arguments alone, so the result is that of one machine, and Ray may run a task again when a worker is lost. Rows go
out a few slices at a time and keys a few parts at a time: what the object stores hold is bounded.
"""

# mypy: disable-error-code="call-arg"
# The kernel is typed by numba when it is compiled; mypy does not know its intrinsics.

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from . import kernels, shingles, sketch
from .errors import CurationError, needs
from .shingles import Sketches, Texts
from .sketch import Search

#: Rows of a sketching task: about 40 MB of text, one or two seconds.
SLICE = 100_000
#: Pairs of a verifying task: about 200 MB of shingle sets where no two pairs share a row.
CHUNK = 200_000
#: Share of the cluster's object stores that the parts of band keys on their way may fill.
SHARE = 0.3
#: Bytes a row takes in a part: its number and its glimpse, and in each band a key and a place.
ROW, KEY = 8 + kernels.GLIMPSE, 8
#: Parts at most: their number is kept in 16 bits.
MOST = 1 << 15
#: Below this many rows a call is answered on this machine: a task costs more than it saves.
LEAST = 1000
MIX = np.uint32(0x9E3779B1)


# ------------------------------------------------------------------ what runs on the nodes
def code_hash() -> str:
    """Return a hash of the code that decides results, so that nodes with another version are refused."""
    mark = hashlib.sha256()
    for module in (kernels, shingles, sketch):
        mark.update(Path(str(module.__file__)).read_bytes())
    return mark.hexdigest()[:16]


def _same_code(expected: str) -> None:
    if code_hash() != expected:
        raise CurationError("a node of the Ray cluster has another version of curation-workbench",
                            "install the same version on every node")


def packed_columns(columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Buffer:
    """Return columns of text as one Arrow stream, no more than the rows they hold."""
    table = pa.table({str(k): pa.chunked_array(c).cast(pa.large_string()) if isinstance(c, pa.ChunkedArray) else c
                      for k, c in enumerate(columns)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def sketch_slice(data: pa.Buffer, s: Search, code: str) -> Sketches:
    """Return the sketches of a slice of rows."""
    _same_code(code)
    table = pa.ipc.open_stream(data).read_all()
    return sketch.sketch_rows(table.columns, s, threads=1)


def identify_slice(data: pa.Buffer, ngram: int, unit: str, code: str) -> np.ndarray:
    """Return what `sketch.identities` gives for a slice of rows."""
    _same_code(code)
    return sketch.identities(pa.ipc.open_stream(data).read_all().columns, ngram=ngram, unit=unit, threads=1)


@dataclass(frozen=True)
class Part:
    """The rows of a slice that have a key in one range of hashes. In band b these are place[start[b]:start[b + 1]]."""

    row: np.ndarray         # int64, ascending: number among all rows
    glimpse: np.ndarray     # (rows, GLIMPSE) uint8
    start: np.ndarray       # (bands + 1,) int64
    place: np.ndarray       # int32: which of `row`
    key: np.ndarray         # uint32


def deal(sketches: Sketches, use: np.ndarray, first: int, parts: int, lo: int, hi: int) -> list[Part]:
    """Return parts lo to hi - 1 of a slice whose first row has the number `first`. use: 1 for a row that takes part."""
    keys = np.array(sketches.keys)      # what comes out of an object store is read-only, another type to the kernels
    glimpse = np.array(sketches.glimpse)
    rows = np.zeros(hi - lo, np.int64)
    cells = np.zeros((hi - lo, len(keys)), np.int64)
    _count_cells(keys, np.array(use), parts, lo, hi, rows, cells)
    row_at = np.concatenate([[0], np.cumsum(rows)])
    cell_at = np.concatenate([[0], np.cumsum(cells)])
    row = np.empty(row_at[-1], np.int64)
    place, key = np.empty(cell_at[-1], np.int32), np.empty(cell_at[-1], np.uint32)
    _fill_cells(keys, np.array(use), parts, lo, hi, row_at[:-1].copy(), cell_at[:-1].reshape(cells.shape).copy(), row, place, key)
    out = []
    for k in range(hi - lo):
        at = cell_at[k * len(keys):(k + 1) * len(keys) + 1]
        mine, cut = row[row_at[k]:row_at[k + 1]], slice(at[0], at[-1])
        out.append(Part(first + mine, glimpse[mine], at - at[0], place[cut].copy(), key[cut].copy()))
    return out


@njit(nogil=True)
def _part(key, parts):
    return np.int64((np.uint64(np.uint32(key * MIX)) * np.uint64(parts)) >> np.uint64(32))


@njit(nogil=True, cache=True)
def _count_cells(keys, use, parts, lo, hi, rows, cells):
    """Count, for parts lo to hi - 1, the rows that have a key there, and the keys of each band."""
    last = np.full(hi - lo, -1, np.int64)
    for i in range(keys.shape[1]):
        if use[i] == 0:
            continue
        for b in range(keys.shape[0]):
            p = _part(keys[b, i], parts) - lo
            if 0 <= p < hi - lo:
                cells[p, b] += 1
                if last[p] != i:
                    last[p] = i
                    rows[p] += 1


@njit(nogil=True, cache=True)
def _fill_cells(keys, use, parts, lo, hi, row_at, cell_at, row, place, key):
    """Write the rows of each part from row_at on, and the keys of each band with the place of their row from cell_at on."""
    first = row_at.copy()
    last = np.full(hi - lo, -1, np.int64)
    for i in range(keys.shape[1]):
        if use[i] == 0:
            continue
        for b in range(keys.shape[0]):
            p = _part(keys[b, i], parts) - lo
            if 0 <= p < hi - lo:
                if last[p] != i:
                    last[p] = i
                    row[row_at[p]] = i
                    row_at[p] += 1
                place[cell_at[p, b]] = row_at[p] - 1 - first[p]
                key[cell_at[p, b]] = keys[b, i]
                cell_at[p, b] += 1


def group(s: Search, *parts: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (candidates as `sketch.candidates` packs them, rows whose bucket was over-full, mark of each) of one range.

    parts: those of all slices in the order of their rows.
    """
    row = np.concatenate([p.row for p in parts])
    glimpse = np.concatenate([p.glimpse for p in parts])
    first = np.cumsum([0, *(len(p.row) for p in parts)])
    before = np.full((s.bands, len(row)), -1, np.int32)
    for b in range(s.bands):
        cut = [slice(p.start[b], p.start[b + 1]) for p in parts]
        place = np.concatenate([p.place[c] + f for p, c, f in zip(parts, cut, first)]).astype(np.int64)
        key = np.concatenate([p.key[c] for p, c in zip(parts, cut)])
        link = np.empty(len(key), np.int32)
        kernels.link(key, np.ones(len(key), np.uint8), 0, link)
        before[b, place] = np.where(link >= 0, place[link], -1)
    parts_of, hot = sketch._collected(before, np.ones(len(row), np.uint8), glimpse, s, 0, 1)
    found = np.concatenate([np.empty(0, np.uint64), *parts_of])
    earlier, later = sketch.unpacked(found)
    full = np.flatnonzero(hot)
    return (row[later].astype(np.uint64) << np.uint64(32)) | row[earlier].astype(np.uint64), row[full], hot[full]


def verify_chunk(
    data: np.ndarray, size: np.ndarray, packed: np.ndarray, room: np.ndarray | None, s: Search,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `sketch.verify` gives for pairs of the texts laid out in `data`. size: (columns, texts) bytes."""
    size = np.array(size)
    data = np.array(data)
    offset = np.cumsum(size.ravel()) - size.ravel()
    t = Texts(data.ctypes.data + offset.reshape(size.shape), size, (data,))
    return sketch.verify(t, np.array(packed), s, room=None if room is None else np.array(room), threads=1)


@njit(nogil=True, cache=True)
def _copy(address, size, out):
    at = 0
    for i in range(address.size):
        for k in range(size[i]):
            out[at] = kernels.load8(address[i] + k)
            at += 1


def laid_out(t: Texts, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (bytes of the texts of `rows`, column by column, with room behind for wide loads; sizes (columns, rows))."""
    size = np.ascontiguousarray(t.size[:, rows])
    out = np.zeros(int(size.sum()) + shingles.SLACK, np.uint8)
    _copy(np.ascontiguousarray(t.address[:, rows]).ravel(), size.ravel(), out)
    return out, size


# ------------------------------------------------------------------ the cluster
WAY_OUT = "start one with `ray start --head`, or leave --address out to use this machine alone"


def _answers(address: str) -> None:
    """Raise a CurationError unless something listens at HOST:PORT; Ray itself would try for two minutes."""
    if address in ("", "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "//" in address:
        raise CurationError(f"{address!r} is not the address of a Ray cluster", "give auto or HOST:PORT, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as e:
        raise CurationError(f"no Ray cluster answers at {address}: {e}", WAY_OUT) from None


@contextmanager
def running(address: str = "", workers: int | None = None) -> Iterator[None]:
    """Have calls of `sketch` inside the block run on a Ray cluster; address and workers as for `Cluster`."""
    with Cluster(address, workers=workers) as cluster, sketch.run_on(cluster):
        yield


class Cluster:
    """A Ray cluster that runs the stages of `sketch`; to be used with `sketch.run_on`.

    address: "auto" for the cluster that this machine is a node of, or HOST:PORT of the head; "" starts Ray on this machine
    with `workers` processes and stops it at the end.
    """

    def __init__(self, address: str = "", *, workers: int | None = None) -> None:
        self.address, self.workers = address, workers
        self._sketched: tuple[np.ndarray, list[Any], list[int]] | None = None

    def __enter__(self) -> Cluster:
        needs("ray", "scale")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        _answers(self.address)
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not self.address:
            quiet |= {"num_cpus": self.workers or shingles.threads_of(None), "include_dashboard": False}
        try:
            ray.init(address=self.address or "local", **quiet)
        except (ConnectionError, ValueError, RuntimeError) as e:
            raise CurationError(f"Ray at {self.address or 'this machine'}: {str(e).splitlines()[0]}", WAY_OUT) from None
        self.ray = ray
        self.code = code_hash()
        total = ray.cluster_resources()
        self.cores = max(1, int(total.get("CPU", 1)))
        self.memory = float(total.get("object_store_memory", 1 << 30))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._sketched = None
        self.ray.shutdown()

    # ---- what sketch asks for
    def sketch_rows(self, columns: Sequence[pa.Array | pa.ChunkedArray], s: Search) -> Sketches | None:
        """Stage 1, a task a slice. The results stay on the nodes for `candidates` too. None: better done here."""
        n = len(columns[0])
        if n < LEAST:
            return None
        remote = self.ray.remote(scheduling_strategy="SPREAD")(sketch_slice)
        starts = list(range(0, n, self._step(n)))
        refs = list(self._ahead(remote.remote, ((data, s, self.code) for data in self._slices(columns, starts))))
        bands = s.bands
        out = Sketches(np.empty((bands, n), np.uint32), np.empty((n, kernels.GLIMPSE), np.uint8), np.empty((n, 2), np.uint64),
                       np.empty((len(columns), n), np.int32), np.empty((n, 0), np.uint32))
        for lo, ref in zip(starts, refs):
            part = self._get(ref)
            hi = lo + len(part.identity)
            out.keys[:, lo:hi], out.glimpse[lo:hi] = part.keys, part.glimpse
            out.identity[lo:hi], out.count[:, lo:hi] = part.identity, part.count
        self._sketched = out.keys, refs, [*starts, n]
        return out

    def candidates(self, keys: np.ndarray, use: np.ndarray, s: Search) -> tuple[np.ndarray, np.ndarray] | None:
        """Stage 3 of the rows sketched last, a task a range of key hashes. None: these are other rows, better done here."""
        if self._sketched is None or self._sketched[0] is not keys:
            return None
        _, refs, edges = self._sketched
        self._sketched = None
        n = edges[-1]
        parts, rounds = self._parts(n, s.bands)
        packed, hot = [np.empty(0, np.uint64)], np.zeros(n, np.uint8)
        uses = [self.ray.put(use[lo:hi]) for lo, hi in pairwise(edges)]
        grouping = self.ray.remote(scheduling_strategy="SPREAD")(group)
        for lo in range(0, parts, rounds):
            hi = min(parts, lo + rounds)
            dealing = self.ray.remote(num_returns=hi - lo)(deal)
            dealt: list[Any] = [dealing.remote(r, u, first, parts, lo, hi) for r, u, first in zip(refs, uses, edges)]
            columns = [[d] for d in dealt] if hi - lo == 1 else dealt
            tasks = [grouping.remote(s, *(d[k] for d in columns)) for k in range(hi - lo)]
            del dealt, columns
            while tasks:
                some, rows, mark = self._get(tasks.pop(0))
                packed.append(some)
                hot[rows] = np.maximum(hot[rows], mark)
        return sketch.distinct(np.concatenate(packed)), hot

    def verify(self, t: Texts, packed: np.ndarray, s: Search, room: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Stage 4, a task a chunk of pairs. None: better done here."""
        if len(packed) < LEAST:
            return None
        order = np.argsort(packed, kind="stable")
        remote = self.ray.remote(scheduling_strategy="SPREAD")(verify_chunk)
        step = min(CHUNK, max(LEAST, -(-len(packed) // (2 * self.cores))))

        def chunks() -> Iterator[tuple[Any, ...]]:
            for lo in range(0, len(packed), step):
                left, right = sketch.unpacked(packed[order[lo:lo + step]])
                rows = sketch.distinct(np.concatenate([left, right]))
                data, size = laid_out(t, rows)
                yield (self.ray.put(data), size, sketch._repacked(rows, left, right),
                       None if room is None else np.ascontiguousarray(room[:, rows]), s)

        score, held = np.empty(len(packed)), np.empty((len(packed), len(t.size)))
        for k, (value, each) in enumerate(self._results(remote.remote, chunks())):
            at = order[k * step:(k + 1) * step]
            score[at], held[at] = value, each
        return score, held

    def identities(self, columns: Sequence[pa.Array | pa.ChunkedArray], ngram: int, unit: str) -> np.ndarray | None:
        """Return `sketch.identities`, a task a slice. None: better done here."""
        n = len(columns[0])
        if n < LEAST:
            return None
        remote = self.ray.remote(scheduling_strategy="SPREAD")(identify_slice)
        slices = self._slices(columns, range(0, n, self._step(n)))
        return np.concatenate(list(self._results(remote.remote, ((data, ngram, unit, self.code) for data in slices))))

    # ---- a few at a time
    def _step(self, n: int) -> int:
        """Return the rows of a slice: every core gets two at least."""
        return min(SLICE, max(LEAST // 2, -(-n // (2 * self.cores))))

    def _parts(self, n: int, bands: int) -> tuple[int, int]:
        """Return (parts that keys are dealt to, how many of them at a time)."""
        width = 2 * self.cores
        rounds = 1
        while True:
            parts = width * rounds
            each = parts * (1.0 - (1.0 - 1.0 / parts) ** bands)      # parts that a row has a key in
            if n * (bands * KEY + each * ROW) / rounds <= SHARE * self.memory or parts >= MOST:
                return parts, width
            rounds *= 2

    def _slices(self, columns: Sequence[pa.Array | pa.ChunkedArray], starts: Iterable[int]) -> Iterator[Any]:
        step = self._step(len(columns[0]))
        for lo in starts:
            yield self.ray.put(packed_columns([c.slice(lo, step) for c in columns]))

    def _ahead(self, start: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the references of tasks in order, two a core at most under way."""
        waiting: list[Any] = []
        for args in arguments:
            if len(waiting) >= 2 * self.cores:
                _, waiting = self.ray.wait(waiting, num_returns=1, fetch_local=False)
            ref = start(*args)
            waiting.append(ref)
            yield ref

    def _results(self, start: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the results of tasks in order, two a core at most under way or waiting to be fetched."""
        under_way: deque[Any] = deque()
        for args in arguments:
            if len(under_way) >= 2 * self.cores:
                yield self._get(under_way.popleft())
            under_way.append(start(*args))
        while under_way:
            yield self._get(under_way.popleft())

    def _get(self, ref: Any) -> Any:
        """Return the result of a task; a user's mistake as such."""
        try:
            return self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as e:
            if isinstance(e.cause, CurationError):
                raise e.cause from None
            raise
