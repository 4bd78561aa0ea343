"""Words of texts as 64-bit hashes at reading speed: runs of words, word statistics, numbers.

A word is a run of letters and digits (Unicode; NFKC, lower case); a character of a script that is written without
blanks is a word of its own. ASCII texts are cut where they lie in Arrow's buffer; others are cleaned by Arrow first.
The kernels hold no interpreter lock. Two words share a hash with a chance of 1 in 2^64, so no word is kept as text.
"""

# mypy: disable-error-code="call-arg,var-annotated,assignment"
# The kernels are typed by numba when they are compiled; mypy knows neither its intrinsics nor its integer widths.

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from . import shingles
from .text import SOLID

U64 = np.uint64
ONE, ZERO = U64(1), U64(0)
SEED, PRIME, K0, K1 = U64(0xCBF29CE484222325), U64(0x100000001B3), U64(0x9E3779B97F4A7C15), U64(0xBF58476D1CE4E5B9)
STEM = 5            # characters that stand for a word where forms of one word are to count as equal
SIEVE = 22          # bits: 4 MB; a hundred thousand keys let 2.4 in 100 others through to the table
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
CARDINALS = {
    "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0, "seven": 7.0, "eight": 8.0, "nine": 9.0, "ten": 10.0,
    "eleven": 11.0, "twelve": 12.0, "thirteen": 13.0, "fourteen": 14.0, "fifteen": 15.0, "sixteen": 16.0,
    "seventeen": 17.0, "eighteen": 18.0, "nineteen": 19.0, "twenty": 20.0, "thirty": 30.0, "forty": 40.0, "fifty": 50.0,
    "sixty": 60.0, "seventy": 70.0, "eighty": 80.0, "ninety": 90.0, "hundred": 100.0, "thousand": 1000.0,
}


# ------------------------------------------------------------------ texts
def clean(texts: pa.Array) -> pa.Array:
    """Return the texts as lower-case words (NFKC) with one blank between; characters of SOLID stand alone."""
    plain = pc.utf8_lower(pc.utf8_normalize(texts, form="NFKC"))
    if pc.any(pc.match_substring_regex(plain, f"[{SOLID}]")).as_py():
        plain = pc.replace_substring_regex(plain, f"([{SOLID}])", " \\1 ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(plain, r"[^\pL\pN]+", " "))


@dataclass(frozen=True)
class Words:
    """Words of texts: text i has word[start[i]:start[i] + count[i]] and the stems at the same places."""

    word: np.ndarray        # uint64
    stem: np.ndarray        # uint64, empty unless asked for
    start: np.ndarray       # int64
    count: np.ndarray       # int64

    def __len__(self) -> int:
        return len(self.start)

    def of(self, i: int) -> np.ndarray:
        """Return the words of text i."""
        return self.word[self.start[i]:self.start[i] + self.count[i]]


def words_of(texts: pa.Array, *, stems: bool = False) -> Words:
    """Return the words of texts, null as empty. With `stems` camelCase is two words, and stems are given."""
    texts = pc.fill_null(texts, "")
    odd = pc.invert(pc.string_is_ascii(texts))
    if pc.any(odd).as_py():
        some = texts.filter(odd)
        if stems:
            some = pc.replace_substring_regex(some, r"(\p{Ll})(\p{Lu})", r"\1 \2")
        texts = pc.replace_with_mask(texts, odd, clean(some))
    data, at = bytes_of(texts)
    room = (np.diff(at) + 1) // (1 if stems else 2) + 1     # camelCase: every second letter may begin a word
    start = np.cumsum(room) - room
    word = np.empty(int(room.sum()), np.uint64)
    stem = np.empty(len(word) if stems else 0, np.uint64)
    count = np.zeros(len(at) - 1, np.int64)
    spread(lambda lo, hi: _words(data, at, lo, hi, stems, start, word, stem, count), len(count))
    return Words(word, stem, start, count)


def bytes_of(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return (UTF-8 bytes, starts) of an Arrow text array without nulls: text i is data[starts[i]:starts[i + 1]]."""
    texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    n = len(texts)
    at = np.frombuffer(offsets, np.int64, n + 1, texts.offset * 8) if n else np.zeros(1, np.int64)
    return np.frombuffer(data if data is not None and data.size else b"\0", np.uint8), at


def spread(work: Callable[[int, int], Any], n: int) -> list[Any]:
    """Run work(lo, hi) over ranges of [0, n) on threads; results in order."""
    return shingles.spread(work, n, shingles.threads_of(None), 1024)


@njit(inline="always")
def mix(x):
    x = (x ^ (x >> U64(32))) * K0
    x = (x ^ (x >> U64(29))) * K1
    return x ^ (x >> U64(32))


@njit(nogil=True, cache=True)
def _words(data, at, lo, hi, stems, start, word, stem, count):
    """Hash the words of texts [lo, hi) into word[start[i]:]; a byte above 127 is part of a word.

    The hash of a stem is odd when its word has a letter, even when it is a number.
    """
    for i in range(lo, hi):
        n = start[i]
        h = SEED
        s = SEED
        letters = 0
        size = 0
        lettered = ZERO
        lower = False
        for j in range(at[i], at[i + 1]):
            c = data[j]
            upper = 65 <= c <= 90
            inside = upper or 97 <= c <= 122 or 48 <= c <= 57 or c >= 128
            if size > 0 and (not inside or (stems and upper and lower)):
                word[n] = mix(h)
                if stems:
                    stem[n] = (mix(s) & ~ONE) | lettered
                n += 1
                h = SEED
                s = SEED
                letters = 0
                size = 0
                lettered = ZERO
            lower = 97 <= c <= 122
            if inside:
                if upper:
                    c += 32
                size += 1
                if c > 57:
                    lettered = ONE
                h = (h ^ U64(c)) * PRIME
                if c < 128 or c >= 192:
                    letters += 1
                if letters <= STEM:
                    s = (s ^ U64(c)) * PRIME
        if size > 0:
            word[n] = mix(h)
            if stems:
                stem[n] = (mix(s) & ~ONE) | lettered
            n += 1
        count[i] = n - start[i]


# ------------------------------------------------------------------ keys to their places
@dataclass(frozen=True)
class Table:
    """Distinct 64-bit keys and where each stands: `find` gives its position in `key`, or -1."""

    key: np.ndarray         # uint64, sorted
    slot: np.ndarray        # int32: position in `key`, -1 where nothing is
    sieve: np.ndarray       # bool


def table_of(key: np.ndarray) -> Table:
    """Return the table of distinct sorted keys."""
    bits = max(4, int(len(key) * 2).bit_length())
    slot = np.full(1 << bits, -1, np.int32)
    sieve = np.zeros(1 << SIEVE, np.bool_)
    _fill(key, slot, sieve, bits)
    return Table(key, slot, sieve)


@njit(nogil=True, cache=True)
def _fill(key, slot, sieve, bits):
    for i in range(key.size):
        sieve[np.int64(key[i] & U64((1 << SIEVE) - 1))] = True
        p = np.int64((key[i] * K0) >> U64(64 - bits))
        while slot[p] >= 0:
            p = (p + 1) & ((1 << bits) - 1)
        slot[p] = i


@njit(nogil=True)
def find(x, key, slot, sieve, bits):
    if not sieve[np.int64(x & U64((1 << SIEVE) - 1))]:
        return -1
    p = np.int64((x * K0) >> U64(64 - bits))
    while slot[p] >= 0:
        if key[slot[p]] == x:
            return np.int64(slot[p])
        p = (p + 1) & ((1 << bits) - 1)
    return -1


def bits_of(table: Table) -> int:
    return len(table.slot).bit_length() - 1


# ------------------------------------------------------------------ runs of words
def runs_of(words: Words, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (hash, text, position of the first word) of every run of `n` words of the texts."""
    many = np.maximum(words.count - n + 1, 0)
    text = np.repeat(np.arange(len(words)), many)
    position = np.arange(len(text)) - np.repeat(np.cumsum(many) - many, many)
    key = np.empty(len(text), np.uint64)
    _runs(words.word, words.start, words.count, n, key)
    return key, text, position


@njit(nogil=True, cache=True)
def _runs(word, start, count, n, key):
    power = U64(1)
    for _ in range(n):
        power *= K1
    m = 0
    for i in range(start.size):
        h = U64(0)
        for j in range(count[i]):
            h = h * K1 + word[start[i] + j]
            if j >= n:
                h -= word[start[i] + j - n] * power
            if j >= n - 1:
                key[m] = mix(h)
                m += 1


def find_runs(words: Words, n: int, table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Return (text, position in the table's keys) of every run of `n` words that the table holds, repeats included."""
    found = spread(lambda lo, hi: _find_runs(words.word, words.start, words.count, lo, hi, n, table.key, table.slot,
                                             table.sieve, bits_of(table)), len(words))
    both = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
    return both[:, 0], both[:, 1]


@njit(nogil=True, cache=True)
def _find_runs(word, start, count, lo, hi, n, key, slot, sieve, bits):
    power = U64(1)
    for _ in range(n):
        power *= K1
    out = np.empty((1 << 10, 2), np.int64)
    m = 0
    for i in range(lo, hi):
        h = U64(0)
        for j in range(count[i]):
            h = h * K1 + word[start[i] + j]
            if j >= n:
                h -= word[start[i] + j - n] * power
            if j >= n - 1:
                k = find(mix(h), key, slot, sieve, bits)
                if k >= 0:
                    if m == len(out):
                        wider = np.empty((2 * m, 2), np.int64)
                        wider[:m] = out
                        out = wider
                    out[m, 0] = i
                    out[m, 1] = k
                    m += 1
    return out[:m]


def text_hashes(words: Words) -> np.ndarray:
    """Return (n,) uint64: a hash of each text's words in order; texts with the same words share it."""
    out = np.empty(len(words), np.uint64)
    _text_hashes(words.word, words.start, words.count, out)
    return out


@njit(nogil=True, cache=True)
def _text_hashes(word, start, count, out):
    for i in range(start.size):
        h = U64(count[i]) * K0
        for j in range(count[i]):
            h = mix(h ^ word[start[i] + j])
        out[i] = h


# ------------------------------------------------------------------ numbers
def numbers(text: str) -> frozenset[float]:
    """Return the numbers of a text, cardinals above one in words included."""
    found = {float(x.replace(",", "")) for x in NUMBER.findall(text)}
    return frozenset(found | {CARDINALS[w] for w in re.findall(r"[a-z]+", text.lower()) if w in CARDINALS})


def _cardinal_table() -> tuple[np.ndarray, np.ndarray]:
    hashes = []
    for word in CARDINALS:
        h = int(SEED)
        for c in word.encode():
            h = ((h ^ c) * int(PRIME)) & (2**64 - 1)
        hashes.append(h)
    order = np.argsort(np.array(hashes, np.uint64))
    return np.array(hashes, np.uint64)[order], np.array(list(CARDINALS.values()))[order]


CARDINAL_HASH, CARDINAL_VALUE = _cardinal_table()


def numbers_of(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return (values, starts): text i has the numbers values[starts[i]:starts[i + 1]], sorted, each once."""
    texts = pc.fill_null(texts, "")
    odd = np.flatnonzero(~np.asarray(pc.string_is_ascii(texts)))
    data, at = bytes_of(texts)
    parts = spread(lambda lo, hi: _numbers(data, at, lo, hi, CARDINAL_HASH, CARDINAL_VALUE), len(texts))
    values = np.concatenate([np.zeros(0), *(v for v, _ in parts)])
    count = np.concatenate([np.zeros(0, np.int64), *(c for _, c in parts)])
    if len(odd):
        start = np.cumsum(count) - count
        lists = np.split(values, start[1:]) if len(start) else []
        for i in odd.tolist():
            lists[i] = np.array(sorted(numbers(texts[i].as_py())))
        count = np.array([len(x) for x in lists], np.int64)
        values = np.concatenate(lists)
    return values, np.concatenate([[0], np.cumsum(count)])


@njit(nogil=True)
def _digit(c):
    return 48 <= c <= 57


@njit(nogil=True)
def _number(data, j, end):
    """Return (value, first byte behind) of the number that begins at byte j: digits and commas, a point and digits."""
    value = 0.0
    while j < end and (_digit(data[j]) or data[j] == 44):
        if data[j] != 44:
            value = value * 10.0 + (data[j] - 48)
        j += 1
    if j + 1 < end and data[j] == 46 and _digit(data[j + 1]):
        j += 1
        tens = 1.0
        while j < end and _digit(data[j]):
            value = value * 10.0 + (data[j] - 48)
            tens *= 10.0
            j += 1
        value /= tens
    return value, j


@njit(nogil=True)
def _one_by_one(x, first, last):
    """Sort x[first:last] and drop repeats; return where it ends."""
    x[first:last].sort()
    m = first
    for y in range(first, last):
        if y == first or x[y] != x[y - 1]:
            x[m] = x[y]
            m += 1
    return m


@njit(nogil=True, cache=True)
def _numbers(data, at, lo, hi, cardinal, value):
    """Return (values, count) of the numbers of the ASCII texts [lo, hi), as `numbers` reads them."""
    out = np.empty(1 << 12, np.float64)
    count = np.zeros(hi - lo, np.int64)
    m = 0
    for i in range(lo, hi):
        first = m
        j = at[i]
        end = at[i + 1]
        h = SEED
        letters = 0
        before = 32
        while j <= end:
            c = np.int64(data[j]) if j < end else 32
            if 65 <= c <= 90:
                c += 32
            if 97 <= c <= 122:
                h = (h ^ U64(c)) * PRIME
                letters += 1
                before = c
                j += 1
                continue
            found = -1.0
            if letters:
                k = np.searchsorted(cardinal, h)
                if k < cardinal.size and cardinal[k] == h:
                    found = value[k]
                h = SEED
                letters = 0
            number = -1.0
            if _digit(c) and not (97 <= before <= 122 or _digit(before) or before == 95 or before == 46):
                number, j = _number(data, j, end)
                c = np.int64(data[j - 1])
            else:
                j += 1
            before = c
            for x in (found, number):
                if x >= 0.0:
                    if m == out.size:
                        wider = np.empty(2 * m, np.float64)
                        wider[:m] = out
                        out = wider
                    out[m] = x
                    m += 1
        m = _one_by_one(out, first, m)
        count[i - lo] = m - first
    return out[:m].copy(), count


def warm() -> None:
    """Compile every kernel of this file into the on-disk cache."""
    texts = pa.array(["one two three", "One Two four 5"])
    for stems in (False, True):
        words = words_of(texts, stems=stems)
    find_runs(words, 2, table_of(np.unique(runs_of(words, 2)[0])))
    text_hashes(words)
    numbers_of(texts)
