"""Texts as shingles: the definition, hashes, MinHash signatures, shingle sets and their exact Jaccard similarity.

Definition of a shingle, the same for every entry point: the text is folded (NFKC, case-folded, white space
collapsed), then cut into runs of `ngram` words, or of `ngram` characters; a text with fewer is one shingle, an empty
text has none. `hash32` gives the 32-bit hash of one shingle and is what `datasketch.MinHash(hashfunc=...)` needs to
yield the very signatures of `minhash_signatures`.

Arrow string buffers are read where they lie: no Python object a row, except rows with non-ASCII text that folding
could change, which are folded as Unicode says (`text.fold`) before the kernels see them.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import kernels
from .errors import CurationError
from .kernels import GLIMPSE, K0, K1, K2, LANES, U32, U64
from .text import fold

SLACK = 128             # bytes that must be readable behind every row
UNITS = {"word": 0, "char": 1}
BLANKS = tuple(c.encode("utf-8") for c in "\x85\u1680\u2028\u2029")    # white space that NFKC leaves and is not ASCII
#: Non-ASCII characters that folding leaves as they are beside any neighbour (a test holds them to it): a row with no
#: others needs no Python. Latin-1 signs and small letters, Cyrillic small letters, Arabic and Hebrew letters, dashes,
#: quotes, arrows, kana, Han, Hangul syllables, pictures.
PLAIN = ("\u00a1-\u00a7\u00a9\u00ab\u00ac\u00ae\u00b0\u00b1\u00b6\u00b7\u00bb\u00bf\u00d7\u00e0-\u00ff"
         "\u0430-\u045f\u05d0-\u05ea\u0621-\u063a\u0641-\u064a\u2010\u2012-\u2015\u2018-\u2022\u2030\u2039\u203a"
         "\u20ac\u2190-\u219f\u3042-\u3096\u30a2-\u30fa\u30fc\u4e00-\u9fff\uac00-\ud7a3"
         "\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\U0001f900-\U0001f9ff")
UNPLAIN = f"[^\x00-\x7f{PLAIN}]"


# ------------------------------------------------------------------ texts as addresses
@dataclass(frozen=True)
class Texts:
    """Columns of text as addresses of UTF-8 bytes, ready for the kernels. `keep` holds the buffers alive."""

    address: np.ndarray     # (columns, rows) int64
    size: np.ndarray        # (columns, rows) int64, bytes
    keep: tuple[Any, ...]

    def __len__(self) -> int:
        return self.size.shape[1]


def texts_of(columns: Sequence[pa.Array | pa.ChunkedArray]) -> Texts:
    """Return the columns as `Texts`; non-ASCII rows are folded, everything else is used where it lies. Null is empty."""
    if not columns or not all(isinstance(c, (pa.Array, pa.ChunkedArray)) for c in columns):
        raise CurationError(f"columns of text are wanted, not {', '.join(type(c).__name__ for c in columns) or 'none'}",
                            "give Arrow arrays in a list, such as [table['text']] or [pa.array(texts)]")
    n = len(columns[0])
    assert all(len(c) == n for c in columns), [len(c) for c in columns]
    if n >= 2**31:
        raise CurationError(f"{n} rows are more than one table of pairs can hold", "split the set: 2^31 rows at most")
    address = np.zeros((len(columns), n), np.int64)
    size = np.zeros((len(columns), n), np.int64)
    keep: list[Any] = []
    for c, column in enumerate(columns):
        at = 0
        for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            keep += _place(chunk, address[c, at:at + len(chunk)], size[c, at:at + len(chunk)])
            at += len(chunk)
    return Texts(address, size, tuple(keep))


def _place(chunk: pa.Array, address: np.ndarray, size: np.ndarray) -> list[Any]:
    """Fill in where each text of one Arrow chunk lies; return what must stay alive."""
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    if pa.types.is_string_view(chunk.type) or pa.types.is_null(chunk.type):
        chunk = chunk.cast(pa.large_string())
    if not (pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)):
        raise CurationError(f"a column of {chunk.type} is not text", "cast it first: column.cast('string')")
    if len(chunk) == 0:
        return []
    wide = pa.types.is_large_string(chunk.type)
    _, offsets, data = chunk.buffers()
    at = np.frombuffer(offsets, np.int64 if wide else np.int32, len(chunk) + 1, chunk.offset * (8 if wide else 4))
    at = at.astype(np.int64)
    base, end = (int(data.address), int(data.size)) if data is not None else (0, 0)
    address[:] = base + at[:-1]
    size[:] = np.diff(at)
    if chunk.null_count:
        size[np.asarray(pc.is_null(chunk))] = 0
    odd = ~np.asarray(pc.fill_null(pc.string_is_ascii(chunk), True))
    where = np.flatnonzero(odd)
    if len(where):
        odd[where] = np.asarray(pc.match_substring_regex(chunk.take(pa.array(where)), UNPLAIN))
    odd |= np.greater(at[1:], end - SLACK) & np.not_equal(size, 0)     # too near the end of the buffer for wide loads
    where = np.flatnonzero(odd)
    if not len(where):
        return [chunk]
    odd_texts = chunk.take(pa.array(where)).to_pylist()
    folded = [unicodedata.normalize("NFKC", x).casefold().encode("utf-8") for x in odd_texts]
    sizes = np.fromiter(map(len, folded), np.int64, len(folded))
    joined = b"".join(folded) + bytes(SLACK)
    for blank in BLANKS:
        joined = joined.replace(blank, b" " * len(blank))
    side = np.frombuffer(joined, np.uint8)
    address[where] = side.ctypes.data + np.cumsum(sizes) - sizes
    size[where] = sizes
    return [chunk, side]


def spread(work: Callable[[int, int], Any], n: int, threads: int, least: int = 512) -> list[Any]:
    """Run work(lo, hi) over ranges of [0, n) on threads; results in order."""
    step = max(least, -(-n // (threads * 8)))
    ranges = [(lo, min(n, lo + step)) for lo in range(0, n, step)]
    if len(ranges) < 2 * threads or threads == 1:     # for so little it takes as long to start threads
        return [work(*r) for r in ranges]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda r: work(*r), ranges))


def threads_of(threads: int | None) -> int:
    if threads is not None:
        return max(1, threads)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked(ngram: int, unit: str, num_perm: int = 1) -> int:
    if unit not in UNITS:
        raise CurationError(f"unit {unit!r} is not a unit of shingles", "use 'word' or 'char'")
    if not isinstance(ngram, (int, np.integer)) or not 1 <= ngram <= 64:
        raise CurationError(f"ngram {ngram} is out of range", "use a number of words or characters from 1 to 64")
    if not isinstance(num_perm, (int, np.integer)) or not 1 <= num_perm <= 4096:
        raise CurationError(f"num_perm {num_perm} is out of range", "use a number of permutations from 1 to 4096")
    return UNITS[unit]


def in_unit(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:      # also catches NaN
        raise CurationError(f"{name} {value} is not a similarity", f"use a {name} above 0 and at most 1, such as 0.8")


# ------------------------------------------------------------------ signatures
def shingles(text: str, *, ngram: int = 5, unit: str = "word") -> list[bytes]:
    """Return the shingles of one text as UTF-8, in order, with repeats: the plain-Python definition."""
    checked(ngram, unit)
    parts: Sequence[str] = fold(text).split() if unit == "word" else fold(text)
    if not parts:
        return []
    glue = " " if unit == "word" else ""
    width = min(ngram, len(parts))
    return [glue.join(parts[i:i + width]).encode("utf-8") for i in range(len(parts) - width + 1)]


def hash64(shingle: bytes, unit: str = "word") -> int:
    """Return the 64-bit hash that the kernels give one shingle of folded text (plain Python, slow)."""
    mask, k0, k1, k2 = (1 << 64) - 1, int(K0), int(K1), int(K2)

    def mix(x: int) -> int:
        x = ((x ^ (x >> 32)) * k0) & mask
        return x ^ (x >> 29)

    def word(w: bytes) -> int:
        x = [int.from_bytes(w[i:i + 8], "little") for i in range(0, max(len(w), 16), 8)]
        h = ((x[0] ^ k1) * k2 + (x[1] ^ ((len(w) << 56) & mask)) * k0) & mask
        for y in x[2:]:
            h = mix(h ^ y)
        return mix(h)

    parts = [word(w) for w in shingle.split()] if unit == "word" else [ord(c) for c in shingle.decode("utf-8")]
    h = 0
    for x in parts:
        h = (h * k1 + x) & mask
    return mix(h)


def hash32(shingle: bytes, unit: str = "word") -> int:
    """Return the 32-bit hash of one shingle: `datasketch.MinHash(hashfunc=hash32)` agrees with our signatures."""
    return hash64(shingle, unit) & 0xFFFFFFFF


def permutations(num_perm: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (a, b) uint32 of datasketch's "affine32" scheme, padded to a multiple of 64."""
    if not 0 <= seed < 2**32:
        raise CurationError(f"seed {seed} is out of range", "use a whole number from 0 to 4294967295")
    g = np.random.RandomState(seed)     # datasketch's own generator
    a = g.randint(0, 1 << 31, num_perm, dtype=np.uint32) * U32(2) + U32(1)
    b = g.randint(0, 1 << 32, num_perm, dtype=np.uint32)
    pad = -num_perm % LANES
    return np.concatenate([a, np.ones(pad, np.uint32)]), np.concatenate([b, np.zeros(pad, np.uint32)])


@dataclass(frozen=True)
class Sketches:
    """What is kept of each row to look for its like: a function of that row's texts alone."""

    keys: np.ndarray        # (bands, rows) uint32
    glimpse: np.ndarray     # (rows, GLIMPSE or 0) uint8: low bytes of the first minima
    identity: np.ndarray    # (rows, 2) uint64: equal for rows with the same shingles in every column
    count: np.ndarray       # (columns, rows) int32: shingles with repeats
    signature: np.ndarray   # (rows, num_perm or 0) uint32


def sketches(t: Texts, num_perm: int, seed: int, bands: int, width: int, unit: int, ngram: int, threads: int, *,
             signed: bool = False) -> Sketches:
    """Return the sketches of every row: `bands` keys of `width` minima each, out of `num_perm` in all.

    The minima are dealt in turn to the columns that have a shingle. So rows share the key of a band with probability
    Jaccard^width when there is one column, and of at least t^width when every column has Jaccard >= t.
    """
    n = len(t)
    a, b = permutations(num_perm, seed)
    out = Sketches(np.empty((bands, n), np.uint32), np.empty((n, GLIMPSE if bands else 0), np.uint8),
                   np.empty((n, 2), np.uint64), np.empty((len(t.size), n), np.int32),
                   np.empty((n, num_perm if signed else 0), np.uint32))

    def work(lo: int, hi: int) -> None:
        size = t.size[:, lo:hi]
        mixed = np.empty(size.sum(axis=0).max() + 16 * len(size), U32)
        first, minima, dealt = np.empty(len(size) + 1, np.int64), np.empty(len(a), U32), np.empty(num_perm, U32)
        kernels.sketch(t.address, t.size, lo, hi, unit, ngram, a, b, num_perm, width, *scratch(size, unit), mixed, first, minima,
                       dealt, out.keys, out.signature, out.glimpse, out.identity, out.count)

    spread(work, n, threads)
    return out


def scratch(size: np.ndarray, unit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (low, edges, parts, hashes): room for the kernels to cut texts of these sizes, in bytes, into shingles."""
    top = int(size.max())
    room = (top if unit else top // 2) + 16
    return np.empty(top + 192, np.uint8), np.empty(1 if unit else top + 80, np.int32), np.empty(room, U64), np.empty(room, U64)


def minhash_signatures(
    texts: pa.Array | pa.ChunkedArray, num_perm: int = 128, seed: int = 1, *, ngram: int = 5, unit: str = "word",
    threads: int | None = None,
) -> np.ndarray:
    """Return the MinHash signatures (rows, num_perm) uint32, bit-identical to datasketch 2's default scheme.

    Equal to `datasketch.MinHash(num_perm, seed, hashfunc=hash32)` updated with `shingles(text)`. An empty text has
    2^32 - 1 everywhere, as an empty MinHash has.
    """
    kind = checked(ngram, unit, num_perm)
    return sketches(texts_of([texts]), num_perm, seed, 0, 0, kind, ngram, threads_of(threads), signed=True).signature


# ------------------------------------------------------------------ sets and exact similarity
@dataclass(frozen=True)
class Sets:
    """Sorted shingle sets: set (column c, i) is flat[start[c, i]:][:count[c, i]]; 64-bit hashes."""

    flat: np.ndarray        # uint64
    start: np.ndarray       # (columns, sets) int64
    count: np.ndarray       # (columns, sets) int32


def shingle_sets(
    t: Texts, rows: np.ndarray, *, ngram: int, unit: str, room: np.ndarray | None = None, text: np.ndarray | None = None,
    threads: int | None = None,
) -> Sets:
    """Return the shingle sets of `rows`; equal texts share one.

    room: (columns, rows) how many shingles each may have, if known. text: of `same_texts`, if known.
    """
    kind = checked(ngram, unit)
    rows = np.asarray(rows, np.int64)
    if room is None:
        room = t.size[:, rows] // (2 if kind == 0 else 1) + 1
    if text is None:
        text = same_texts(t.address[:, rows], t.size[:, rows])
    here = np.empty(room.shape, np.int32)       # the first of these rows with the same text
    first = np.empty(text.max(initial=-1) + 1, np.int32)
    for c, numbers in enumerate(text):
        first[numbers[::-1]] = np.arange(len(rows), dtype=np.int32)[::-1]       # the last one to be written stays
        here[c] = first[numbers]
    own = here == np.arange(len(rows))
    start = np.zeros(room.size + 1, np.int64)
    np.cumsum(np.where(own, room, 0).ravel(), out=start[1:])
    flat = np.empty(start[-1], np.uint64)
    count = np.zeros(room.shape, np.int32)
    start = np.ascontiguousarray(start[:-1].reshape(room.shape))

    def work(lo: int, hi: int) -> None:
        some = scratch(t.size[:, rows[lo:hi]], kind)
        kernels.sets(t.address, t.size, rows, lo, hi, kind, ngram, here, *some, np.empty(2 * len(some[2]) + 2, np.int32), start,
                     flat, count)

    spread(work, len(rows), threads_of(threads), 64)
    return Sets(flat, *(np.ascontiguousarray(np.take_along_axis(x, here, axis=1)) for x in (start, count)))


def same_texts(address: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return (columns, rows) int32: the first row with the very bytes of each text. address, size: as in `Texts`."""
    first = np.empty(size.shape, np.int32)
    for c in range(len(size)):
        kernels.same_texts(np.ascontiguousarray(address[c:c + 1]), np.ascontiguousarray(size[c:c + 1]), first[c])
    return first


def blocks(left: np.ndarray, right: np.ndarray, text: np.ndarray, size: np.ndarray, limit: int,
           ) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (slice of the pairs, the rows they name, ascending) so that the distinct texts of these have about `limit`.

    text: (columns, rows) numbers of texts, as of `same_texts`; size: (columns, rows) int64 of each.
    """
    left, right = np.asarray(left, np.int64), np.asarray(right, np.int64)
    ends = np.array([len(left)])
    if size.sum() > limit:
        ends = np.empty(len(left), np.int64)
        ends = ends[:kernels.cut(left, right, text, size, limit, ends)]
    lo = 0
    for hi in ends.tolist() if len(left) else []:
        touched = np.zeros(text.shape[1], np.bool_)
        touched[left[lo:hi]] = touched[right[lo:hi]] = True
        yield slice(lo, hi), np.flatnonzero(touched)
        lo = hi


def named(n: int, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (the rows that pairs name, ascending; left and right as positions in these); n: rows in all."""
    touched = np.zeros(n, np.bool_)
    touched[left] = touched[right] = True
    rows = np.flatnonzero(touched)
    if 16 * len(left) < n:      # few pairs: a place for each row takes longer
        return rows, np.searchsorted(rows, left), np.searchsorted(rows, right)
    position = np.empty(n, np.int64)
    position[rows] = np.arange(len(rows))
    return rows, position[left], position[right]


def jaccard(sets: Sets, left: np.ndarray, right: np.ndarray, *, floor: float = 0.0,
            threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return (score, fields) of pairs of sets: fields (pairs, columns) float64, score their minimum, -1 below floor."""
    n = len(left)
    left, right = np.asarray(left, np.int64), np.asarray(right, np.int64)
    fields, score = np.zeros((n, len(sets.count))), np.zeros(n)
    spread(lambda lo, hi: kernels.jaccard(left, right, lo, hi, sets.flat, sets.start, sets.count, floor, fields, score),
           n, threads_of(threads))
    return score, fields


def similarity(
    columns: Sequence[pa.Array | pa.ChunkedArray], left: np.ndarray, right: np.ndarray, *, ngram: int = 5,
    unit: str = "word", floor: float = 0.0, threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return `jaccard` of given pairs of rows: (score, fields), score -1 below the floor."""
    rows, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    sets = shingle_sets(texts_of(columns), rows, ngram=ngram, unit=unit, threads=threads)
    return jaccard(sets, ends[:len(left)], ends[len(left):], floor=floor, threads=threads)
