"""Rows like a given row: by the embeddings that the folder holds, else by the words that rows have in common.

The words of a version are indexed once (`similar/words-<rows hash>.arrays` in the folder) and read by memory map, so a
question touches the postings of its own words alone. Embeddings are read in blocks; nothing of either stays in memory.
"""

# mypy: disable-error-code="call-arg,var-annotated,assignment"
# The kernels are typed by numba when they are compiled; mypy knows neither its intrinsics nor its integer widths.

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numba import njit

from .errors import CurationError
from .past import read_arrays, write_arrays
from .store import Store, atomic
from .vectors import _key as key_of
from .words import words_of

#: Characters of each text whose words count: a row of a megabyte is about what it begins with.
OPENING = 2_000
#: A word in more rows than this share of the set, and than FEW, says nothing of what a row is about and is left out.
BROAD, FEW = 0.25, 1_000
#: Words are put into 8 places a row, at least 2^16 and at most 2^22; two words that share a place count as one.
LEAST_BITS, MOST_BITS = 16, 22
#: Rows indexed, or embeddings read, at once: 25 MB of vectors with 384 dimensions.
BLOCK = 16_384
_K = np.uint64(0x9E3779B97F4A7C15)


def similar_to(store: Store, row: int, k: int = 20) -> list[tuple[int, float]]:
    """Return up to `k` rows of the newest version most like `row`, best first, each with its similarity in (0, 1].

    Embeddings of the prompts are used where the folder holds them for all rows of this version (`curation map` leaves
    them): the similarity is their cosine. Else it is the cosine of the rows' words, instruction, input and response, each
    word weighed by how few rows have it; only rows that share such a word are found. The row itself is not listed; of
    equal ones the first rows are. Raises CurationError for a row that the version does not have.
    """
    n = store.rows().num_rows
    if not 0 <= row < n:
        raise CurationError(f"row {row}: rows go from 0 to {n - 1}", "curation show FOLDER lists rows")
    vectors = vectors_of(store)
    score = by_words(store, row) if vectors is None else by_vectors(vectors, row)
    score[row] = -1.0
    return _best(score, k)


def by_words(store: Store, row: int) -> np.ndarray:
    """Return (n,) float32: how like each row's words are to those of `row`; the index is made when it is not there."""
    table = store.rows(columns=["instruction", "input", "response"])
    found = read_arrays(_index_path(store)) or _made(store, table)
    index, _ = found
    own = _places(_texts(table.slice(row, 1)), _bits(table.num_rows))[0]
    score = np.zeros(table.num_rows, np.float32)
    _score(own, index["first"], index["row"], index["weight"], index["length"], score)
    return np.minimum(score / max(float(index["length"][row]), 1e-9), 1.0)


def by_vectors(path: Path, row: int) -> np.ndarray:
    """Return (n,) float32: the cosine of each vector of the file with that of `row`."""
    whole = np.load(path, mmap_mode="r")
    own = np.asarray(whole[row], np.float32)
    n, dim = whole.shape
    score = np.empty(n, np.float32)
    with path.open("rb") as f:
        f.seek(whole.offset)
        for at in range(0, n, BLOCK):
            rows = min(BLOCK, n - at)
            score[at : at + rows] = np.fromfile(f, whole.dtype, rows * dim).reshape(rows, dim) @ own
    return np.clip(score, -1.0, 1.0)


def _best(score: np.ndarray, k: int) -> list[tuple[int, float]]:
    """Return the places of the `k` highest scores above 0, highest first, of equal ones the first."""
    k = max(0, min(k, len(score)))
    if not k:
        return []
    least = np.partition(score, len(score) - k)[len(score) - k]
    above, at = np.flatnonzero(score > max(least, 0.0)), np.flatnonzero((score == least) & (score > 0))
    rows = np.concatenate([above, at[: k - len(above)]])
    order = np.lexsort((rows, -score[rows]))
    return [(int(i), float(score[i])) for i in rows[order]]


# ---- embeddings that are there


def vectors_of(store: Store) -> Path | None:
    """Return the file with an embedding of every row's prompt of the newest version, the newest such file, or None."""
    n = store.rows().num_rows
    files = sorted((store.path / "vectors").glob("*/rows-*.npy"), key=lambda p: (p.stat().st_mtime, p.name), reverse=True)
    files = [p for p in files if len(np.load(p, mmap_mode="r")) == n]
    if not files:
        return None
    name = _name_of(store)
    return next((p for p in files if p.name == name), None)


def _name_of(store: Store) -> str:
    """Return the name that `vectors.cached` gives the embeddings of the prompts of these rows; found once a version."""
    path = store.path / "similar" / f"prompts-{store.rows_hash()}.txt"
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    mark = xxhash.xxh3_128()
    for batch in store.rows(columns=["uid", "instruction", "input"]).to_batches(max_chunksize=BLOCK):
        for uid, asked, given in zip(*(batch.column(c).to_pylist() for c in range(3)), strict=True):
            mark.update(key_of(uid, f"{asked}\n{given}" if given else asked or ""))
    name = f"rows-{mark.hexdigest()}.npy"
    with atomic(path, "w") as f:
        f.write(name + "\n")
    return name


# ---- the index of words


def _index_path(store: Store) -> Path:
    return store.path / "similar" / f"words-{store.rows_hash()}.arrays"


def _bits(n: int) -> int:
    return min(MOST_BITS, max(LEAST_BITS, (8 * n).bit_length()))


def _texts(table: pa.Table) -> pa.Array:
    """Return the openings of instruction, input and response of each row as one text."""
    parts = [pc.utf8_slice_codeunits(pc.fill_null(table[c], ""), 0, OPENING) for c in ("instruction", "input", "response")]
    joined = pc.binary_join_element_wise(*parts, "\n")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def _places(texts: pa.Array, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (places of the distinct words of each text, ascending within a text; how many a text has)."""
    words = words_of(texts)
    out = np.empty(int(words.count.sum()), np.int32)
    count = np.zeros(len(words), np.int64)
    many = _distinct(words.word, words.start, words.count, bits, out, count)
    return out[:many], count


def _made(store: Store, table: pa.Table) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Index the words of all rows and keep the index; indexes of earlier versions go."""
    n, bits = table.num_rows, _bits(table.num_rows)
    path = _index_path(store)
    path.parent.mkdir(exist_ok=True)
    held, counts = np.zeros(1 << bits, np.int64), []
    with tempfile.TemporaryFile(dir=path.parent) as found:      # 80 words a row: 320 MB for a million rows
        for at in range(0, n, BLOCK):
            place, count = _places(_texts(table.slice(at, BLOCK)), bits)
            held += np.bincount(place, minlength=1 << bits)
            counts.append(count)
            found.write(place.tobytes())
        weight = (np.log((1 + n) / (1 + held)) + 1).astype(np.float32) ** 2
        weight[held > max(FEW, BROAD * n)] = 0
        first = np.concatenate([[0], np.cumsum(np.where(weight > 0, held, 0))])
        row = np.empty(int(first[-1]), np.int32)
        length = np.empty(n, np.float32)
        free = first[:-1].copy()
        found.seek(0)
        for block, count in enumerate(counts):
            place = np.frombuffer(bytearray(found.read(4 * int(count.sum()))), np.int32)
            _post(place, count, block * BLOCK, weight, free, row, length)
    arrays = {"first": first, "row": row, "weight": weight, "length": length}
    write_arrays(path, arrays, {"rows_hash": store.rows_hash(), "rows": n})
    for old in path.parent.glob("words-*.arrays"):
        if old != path:
            old.unlink(missing_ok=True)
    return arrays, {}


@njit(nogil=True, cache=True)
def _distinct(word, start, count, bits, out, many):
    """Put the distinct places of each text into `out`, one text behind the other; return where they end."""
    at = 0
    for i in range(start.size):
        places = np.empty(count[i], np.int32)
        for j in range(count[i]):
            places[j] = np.int32((word[start[i] + j] * _K) >> np.uint64(64 - bits))
        places.sort()
        for j in range(places.size):
            if j == 0 or places[j] != places[j - 1]:
                out[at] = places[j]
                at += 1
                many[i] += 1
    return at


@njit(nogil=True, cache=True)
def _post(place, count, base, weight, free, row, length):
    """Enter the rows from `base` on under their words, and the lengths of their vectors."""
    at = 0
    for i in range(count.size):
        square = 0.0
        for j in range(at, at + count[i]):
            p = place[j]
            if weight[p] > 0.0:
                row[free[p]] = base + i
                free[p] += 1
                square += weight[p]
        length[base + i] = np.sqrt(square)
        at += count[i]


@njit(nogil=True, cache=True)
def _score(own, first, row, weight, length, score):
    """Add up, per row, the weights of the words of `own` that it has, over the length of its vector."""
    for p in own:
        if weight[p] > 0.0:
            for x in range(first[p], first[p + 1]):
                score[row[x]] += weight[p]
    for i in range(score.size):
        if score[i] > 0.0:
            score[i] /= length[i]


def warm() -> None:
    """Compile every kernel of this file into the on-disk cache."""
    place, count = _places(pa.array(["one two", "two three"]), LEAST_BITS)
    weight = np.ones(1 << LEAST_BITS, np.float32)
    first = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=1 << LEAST_BITS))])
    row, length = np.empty(len(place), np.int32), np.empty(2, np.float32)
    _post(place, count, 0, weight, first[:-1].copy(), row, length)
    _score(place[: count[0]], first, row, weight, length, np.zeros(2, np.float32))
