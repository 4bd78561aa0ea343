"""What two prompts have apart: content words as sorted sets of hashes, slips of spelling, topics of prompt and answer.

Words are those of `text.words` of the folded text. They are hashed where they lie, without a Python object a row;
rows with non-ASCII text are folded and split in Python first. Words that are compared letter by letter are the few
that only one of two prompts has.
"""

# mypy: disable-error-code="call-arg,var-annotated,assignment,no-untyped-def"
# The kernels are typed by numba when they are compiled.

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from .contents import taken
from .kernels import K0, K1, U64, load8, mix, same_texts
from .shingles import Texts, blocks, named, spread, threads_of
from .text import SOLID, fold, words

#: Words that do not tell one prompt from another: function words and polite filling.
STOP = frozenset(re.split(r"\s+", """
a about an and any are as at be been being but by can could did do does for from give had has have he help her here his
how i if in into is it its just kindly let me my of on one or our please question she should so some such task tell than
thank thanks that the their them then there these they this those to us was we were what when where which who whom whose
why will with would you your""".strip()))
STEM = 5                # letters of a word that stand for its topic
LONGEST = 48            # letters of a word that may be a slip of another
MANY = 64               # words apart beyond which no slips are looked for: two other prompts
BLOCK = 32 << 20        # bytes of text taken at once: its words take ten times as much
SAME, OTHER, MORE = 0, 1, 2     # what `apart` says of two prompts
ALONE = re.compile(f"([{SOLID}])")      # letters of scripts without blanks: a word each, else a sentence is one long word
DIGIT = re.compile(r"(?![0-9])\d")      # of any script but ASCII

_KIND = np.zeros(256, np.uint8)     # of a byte of a text: 1 in a word, 2 may join two parts of a word
_KIND[[*range(48, 58), *range(65, 91), *range(97, 123), *range(128, 256)]] = 1
_KIND[[ord("'"), ord("-")]] = 2


@njit(nogil=True)
def _lower(c):
    return c + U64(32) if U64(65) <= c <= U64(90) else c


@njit(nogil=True)
def _ordered(x, n, heads, order):
    """Indices that sort the hashes x[:n] (evenly spread) into `order`. heads: scratch."""
    bits = 1
    while (1 << bits) < n:
        bits += 1
    shift = U64(64 - bits)
    heads[:(1 << bits) + 1] = 0
    for i in range(n):
        heads[np.int64(x[i] >> shift) + 1] += 1
    for i in range(1 << bits):
        heads[i + 1] += heads[i]
    for i in range(n):
        k = np.int64(x[i] >> shift)
        order[heads[k]] = i
        heads[k] += 1
    for i in range(n):
        o = order[i]
        j = i
        while j > 0 and x[order[j - 1]] > x[o]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = o


@njit(nogil=True)
def _cut(address, size, kind, stop, letters, hashes, at, length, digit, n, total, sequence):
    """Append the words of one text to hashes, at, length, digit from position n on; return (n, all words, sequence hash).

    stop: sorted hashes of words to leave out. letters > 0: only so many letters of a word count.
    """
    i = 0
    while i < size:
        if kind[load8(address + i)] != 1:
            i += 1
            continue
        first = i
        h = K1
        whole = K1
        seen = 0
        has_digit = False
        while i < size:
            c = load8(address + i)
            k = kind[c]
            if k == 0 or (k == 2 and (i + 1 >= size or kind[load8(address + i + 1)] != 1)):
                break
            seen += (c & U64(0xC0)) != U64(0x80)
            whole = (whole ^ _lower(c)) * K0
            whole ^= whole >> U64(32)
            if letters == 0 or seen <= letters:
                h = whole
            has_digit |= U64(48) <= c <= U64(57)
            i += 1
        total += 1
        whole = mix(whole)
        sequence = mix(sequence ^ whole) + K1
        p = np.searchsorted(stop, whole)
        if p < stop.size and stop[p] == whole:
            continue
        hashes[n] = mix(h)
        at[n] = address + first
        length[n] = i - first
        digit[n] = has_digit
        n += 1
    return n, total, sequence


@njit(nogil=True, cache=True)
def _room(address, size, kind, room):
    """room[r] = words of row r at most, over all columns: runs of bytes that stand in words."""
    for r in range(room.size):
        n = 0
        for c in range(size.shape[0]):
            inside = False
            for i in range(size[c, r]):
                solid = kind[load8(address[c, r] + i)] == 1
                n += solid and not inside
                inside = solid
        room[r] = n


@njit(nogil=True, cache=True)
def _words(address, size, kind, stop, letters, start, flat, at, length, digit, count, total, sequence, lo, hi):
    """Sorted word sets of rows [lo, hi) over all columns; see `Words`."""
    room = 0
    for r in range(lo, hi):
        need = 0
        for c in range(size.shape[0]):
            need += size[c, r] // 2 + 1
        room = max(room, need)      # as scratch; what is kept is counted by _room
    h = np.empty(room, np.uint64)
    where = np.empty(room, np.int64)
    long = np.empty(room, np.int32)
    digits = np.empty(room, np.bool_)
    order = np.empty(room, np.int32)
    heads = np.empty(2 * room + 4, np.int32)
    for r in range(lo, hi):
        n = np.int64(0)         # not the literal 0, for which the parts would be compiled once more
        every = np.int64(0)
        in_order = U64(0)
        for c in range(size.shape[0]):
            n, every, in_order = _cut(address[c, r], size[c, r], kind, stop, letters, h, where, long, digits, n, every, in_order)
        total[r] = every
        sequence[r] = in_order
        _ordered(h, n, heads, order)
        m = start[r]
        for x in range(n):
            i = order[x]
            if m > start[r] and flat[m - 1] == h[i]:
                continue
            flat[m] = h[i]
            at[m] = where[i]
            length[m] = long[i]
            digit[m] = digits[i]
            m += 1
        count[r] = m - start[r]


@njit(nogil=True)
def _letters(address, size, out):
    """Code points of a word, ASCII lower-cased; -1 when it is too long or is not letters only."""
    n = 0
    i = 0
    while i < size:
        c = _lower(load8(address + i))
        if n == out.size or (c < U64(128) and not U64(97) <= c <= U64(122)):
            return -1
        i += 1
        while i < size and (load8(address + i) & U64(0xC0)) == U64(0x80):
            c = (c << U64(8)) | load8(address + i)
            i += 1
        out[n] = c
        n += 1
    return n


@njit(nogil=True)
def _slip(one, m, two, n, above):
    """Whether two words of m and n letters differ as a slip or a plural does: 2 common letters / all >= 0.8, in order."""
    if abs(m - n) > 1 or min(m, n) < 3:
        return False
    above[:n + 1] = 0
    for i in range(m):
        corner = 0
        for j in range(n):
            up = above[j + 1]
            above[j + 1] = corner + 1 if one[i] == two[j] else max(up, above[j])
            corner = up
    return 10 * above[n] >= 4 * (m + n)


@njit(nogil=True)
def _has(flat, start, count, x):
    p = np.searchsorted(flat[start:start + count], x)
    return p < count and flat[start + p] == x


@njit(nogil=True, cache=True)
def _apart(left, right, a_left, a_right, flat, at, length, digit, start, count, answers, a_start, a_count, a_total, telling,
           lo, hi, out):
    """SAME, OTHER or MORE for pairs [lo, hi); flat ... count: content words of prompts, answers ... : words of answers.

    left, right: sets of the prompts; a_left, a_right: of the answers.
    """
    top = 0
    for p in range(lo, hi):
        top = max(top, count[left[p]], count[right[p]])
    first = np.empty(top, np.int64)
    second = np.empty(top, np.int64)
    one = np.empty(LONGEST, np.uint64)
    two = np.empty(LONGEST, np.uint64)
    above = np.empty(LONGEST + 1, np.int64)
    for p in range(lo, hi):
        u, v = left[p], right[p]
        y, z = a_left[p], a_right[p]
        a = 0
        b = 0
        i = start[u]
        j = start[v]
        while i < start[u] + count[u] or j < start[v] + count[v]:
            if j == start[v] + count[v] or (i < start[u] + count[u] and flat[i] < flat[j]):
                first[a] = i
                a += 1
                i += 1
            elif i == start[u] + count[u] or flat[j] < flat[i]:
                second[b] = j
                b += 1
                j += 1
            else:
                i += 1
                j += 1
        if a and b and a + b <= MANY:
            a, b = _without_slips(first, a, second, b, at, length, one, two, above)
        if a == 0 and b == 0:
            out[p] = SAME
            continue
        other = min(a_total[y], a_total[z]) < telling
        for x in range(a):
            other |= digit[first[x]]
        for x in range(b):
            other |= digit[second[x]]
        if a and b and not other:
            for x in range(a):
                h = flat[first[x]]
                other |= _has(answers, a_start[y], a_count[y], h) and not _has(answers, a_start[z], a_count[z], h)
            for x in range(b):
                h = flat[second[x]]
                other |= _has(answers, a_start[z], a_count[z], h) and not _has(answers, a_start[y], a_count[y], h)
        out[p] = OTHER if other else MORE


@njit(nogil=True)
def _without_slips(first, a, second, b, at, length, one, two, above):
    """Take each word that is a slip of one on the other side out of both lists, with it; return their new lengths."""
    kept = 0
    for x in range(a):
        m = _letters(at[first[x]], length[first[x]], one)
        slip = -1
        if m >= 3:
            for y in range(b):
                n = _letters(at[second[y]], length[second[y]], two)
                if n >= 3 and _slip(one, m, two, n, above):
                    slip = y
                    break
        if slip < 0:
            first[kept] = first[x]
            kept += 1
        else:
            b -= 1
            for y in range(slip, b):
                second[y] = second[y + 1]
    return kept, b


@njit(nogil=True, cache=True)
def _overlaps(left, right, flat, start, count, others, o_start, o_count, lo, hi, out):
    for p in range(lo, hi):
        u = left[p]
        v = right[p]
        i = start[u]
        j = o_start[v]
        c = 0
        while i < start[u] + count[u] and j < o_start[v] + o_count[v]:
            c += flat[i] == others[j]
            x = flat[i]
            i += flat[i] <= others[j]
            j += others[j] <= x
        out[p] = c


# ------------------------------------------------------------------ in columns
@dataclass(frozen=True)
class Words:
    """Words of texts as sorted sets of hashes: set i is flat[start[i]:][:count[i]]."""

    flat: np.ndarray        # uint64
    at: np.ndarray          # int64, address of the word
    length: np.ndarray      # int32, its bytes
    digit: np.ndarray       # bool, whether it holds a digit
    start: np.ndarray       # (texts,) int64
    count: np.ndarray       # (texts,) int32
    total: np.ndarray       # (texts,) int32: all words, with repeats and stop words
    sequence: np.ndarray    # (texts,) uint64: equal for the same words in the same order
    keep: Texts             # where the addresses lie


def _spoken(column: pa.Array | pa.ChunkedArray, address: np.ndarray, size: np.ndarray) -> list[object]:
    """Fill in where each text lies, non-ASCII ones folded and cut into words; return what must stay alive."""
    flat = _lie(column, address, size)
    odd = np.flatnonzero(~np.asarray(pc.string_is_ascii(flat)))
    if not len(odd):
        return [flat]
    cut = [DIGIT.sub(_digit, " ".join(words(ALONE.sub(r" \1 ", fold(x))))).encode("utf-8")
           for x in flat.take(pa.array(odd)).to_pylist()]
    sizes = np.fromiter(map(len, cut), np.int64, len(cut))
    side = np.frombuffer(b"".join(cut) + b" ", np.uint8)
    address[odd], size[odd] = side.ctypes.data + np.cumsum(sizes) - sizes, sizes
    return [flat, side]


def _lie(column: pa.Array | pa.ChunkedArray, address: np.ndarray, size: np.ndarray) -> pa.Array:
    """Fill in where the bytes of each text lie; return the array that holds them."""
    flat = pc.fill_null(column, "").cast(pa.large_string())
    flat = flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat
    if len(flat):
        _, offsets, data = flat.buffers()
        at = np.frombuffer(offsets, np.int64, len(flat) + 1, flat.offset * 8)
        address[:], size[:] = (int(data.address) if data is not None else 0) + at[:-1], np.diff(at)
    return flat


def _digit(found: re.Match[str]) -> str:
    return str(unicodedata.decimal(found[0]))


def words_of(
    columns: Sequence[pa.Array | pa.ChunkedArray], *, stop: bool = False, stem: bool = False, threads: int | None = None,
) -> Words:
    """Return the words of each row over all columns; with `stop` without STOP, with `stem` by their first 5 letters."""
    n = len(columns[0])
    address, size = np.zeros((len(columns), n), np.int64), np.zeros((len(columns), n), np.int64)
    keep = [x for c, column in enumerate(columns) for x in _spoken(column, address[c], size[c])]
    return _words_of(Texts(address, size, tuple(keep)), stop, stem, threads)


def again(known: Words, rows: np.ndarray, *, stop: bool = False, stem: bool = False, threads: int | None = None) -> Words:
    """Return `words_of` for some of the rows whose words are known, taken in another way."""
    t = known.keep
    return _words_of(Texts(np.take(t.address, rows, axis=1), np.take(t.size, rows, axis=1), t.keep), stop, stem, threads)


def _words_of(t: Texts, stop: bool, stem: bool, threads: int | None) -> Words:
    n, address, size = len(t), t.address, t.size
    room = np.empty(n, np.int64)
    _room(address, size, _KIND, room)
    start = np.cumsum(room) - room
    total = int(room.sum())
    out = Words(np.empty(total, np.uint64), np.empty(total, np.int64), np.empty(total, np.int32), np.empty(total, np.bool_),
                start, np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(n, np.uint64), t)
    left_out = _stop_hashes() if stop else np.empty(0, np.uint64)
    spread(lambda lo, hi: _words(address, size, _KIND, left_out, STEM if stem else 0, start, out.flat, out.at, out.length,
                                 out.digit, out.count, out.total, out.sequence, lo, hi), n, threads_of(threads), 256)
    return out


def _stop_hashes() -> np.ndarray:
    if not _STOPPED:
        _STOPPED.append(np.empty(0, np.uint64))
        found = words_of([pa.array([" ".join(sorted(STOP))])], threads=1)
        _STOPPED[0] = found.flat[:found.count[0]].copy()
    return _STOPPED[0]


_STOPPED: list[np.ndarray] = []


def blocks_of(texts: Sequence[Sequence[pa.Array | pa.ChunkedArray]], left: np.ndarray, right: np.ndarray,
              ) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (slice of the pairs, rows they name, ascending) so that their distinct texts have about BLOCK bytes.

    texts: what is taken as one text each, as columns. Use `placed` for the ends of the pairs as positions in the rows.
    """
    rows, one, two = named(len(texts[0][0]), left, right)
    some = [[taken(c, rows) for c in columns] for columns in texts]
    for part, at in blocks(one, two, np.stack([firsts(x) for x in some]), np.stack([sizes(x) for x in some]), BLOCK):
        yield part, rows[at]


def placed(rows: np.ndarray, *ends: np.ndarray) -> list[np.ndarray]:
    """Return row numbers as positions in `rows`, which holds them all, ascending."""
    position = np.empty(int(rows[-1]) + 1 if len(rows) else 0, np.int64)
    position[rows] = np.arange(len(rows))
    return [position[x] for x in ends]


def sizes(columns: Sequence[pa.Array | pa.ChunkedArray]) -> np.ndarray:
    """Return the bytes of each row over all columns."""
    out = np.zeros(len(columns[0]), np.int64)
    for c in columns:
        out += np.asarray(pc.fill_null(pc.binary_length(c), 0))
    return out


def firsts(columns: Sequence[pa.Array | pa.ChunkedArray]) -> np.ndarray:
    """Return for each row the first row with the very same texts in all columns (int32); null is empty."""
    n = len(columns[0])
    address, size, first = np.zeros((len(columns), n), np.int64), np.zeros((len(columns), n), np.int64), np.empty(n, np.int32)
    keep = [_lie(column, address[c], size[c]) for c, column in enumerate(columns)]
    same_texts(address, size, first)
    del keep
    return first


def apart(
    prompt: Sequence[pa.Array | pa.ChunkedArray], response: pa.Array | pa.ChunkedArray, left: np.ndarray, right: np.ndarray, *,
    telling: int, threads: int | None = None,
) -> np.ndarray:
    """Return for pairs of rows (uint8) whether their prompts say the same.

    SAME: no content word is in one prompt only, slips of spelling aside. OTHER: one template with two values: content
    words differ, and an answer has fewer than `telling` words, or one of the words is a number, or words are exchanged
    and one of them is in its own answer only. MORE: content words differ, yet by nothing that the answers follow.
    """
    out = np.empty(len(left), np.uint8)
    for part, rows in blocks_of([prompt, [response]], left, right):
        one, two = placed(rows, left[part], right[part])
        texts = [[taken(c, rows) for c in columns] for columns in (prompt, [response])]
        (asked, ask), (said, say) = (_distinct(x, stop=k == 0, threads=threads) for k, x in enumerate(texts))
        _in_ranges((ask[one], ask[two]), (say[one], say[two]), asked, said, telling, out[part], threads_of(threads))
    return out


def _distinct(columns: Sequence[pa.Array | pa.ChunkedArray], *, stop: bool, threads: int | None) -> tuple[Words, np.ndarray]:
    """Return (words of the distinct rows, for each row which of these it is)."""
    first = firsts(columns)
    own = first == np.arange(len(first))
    rows = pa.array(np.flatnonzero(own))
    return words_of([c.take(rows) for c in columns], stop=stop, threads=threads), (np.cumsum(own) - 1)[first]


_Ends = tuple[np.ndarray, np.ndarray]


def _in_ranges(ask: _Ends, say: _Ends, asked: Words, said: Words, telling: int, out: np.ndarray, threads: int) -> None:
    spread(lambda lo, hi: _apart(*ask, *say, asked.flat, asked.at, asked.length, asked.digit, asked.start, asked.count, said.flat,
                                 said.start, said.count, said.total, telling, lo, hi, out), len(out), threads)


def overlaps(one: Words, two: Words, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return how many words set left[p] of `one` shares with set right[p] of `two` (int64)."""
    out = np.empty(len(left), np.int64)
    _overlaps(left, right, one.flat, one.start, one.count, two.flat, two.start, two.count, 0, len(left), out)
    return out


def warm() -> None:
    """Compile every kernel into the on-disk cache (seconds once, nothing afterwards)."""
    texts, zero, one = pa.array(["one two three", "one four three"]), np.zeros(1, np.int64), np.ones(1, np.int64)
    apart([texts, texts], texts, zero, one, telling=1, threads=1)
    said = words_of([texts], stem=True, threads=1)
    overlaps(said, said, zero, one)
