"""Hashed n-grams of texts, by numpy: a worker that starts has no compiled kernel to wait for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_K0, _K1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_BLANK, _LETTER, _DIGIT, _SIGN = range(4)
_KIND = np.full(256, _SIGN, np.uint8)  # of a byte
_KIND[32] = _BLANK
_KIND[97:123] = _KIND[39] = _KIND[128:] = _LETTER
_KIND[48:58] = _DIGIT
_ROWS = 512  # texts taken at once: few enough for the processor's cache, and their number and a place fit into 32 bits


def features(
    texts: Sequence[bytes], idf: np.ndarray, word_bits: int, char_bits: int, opening: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (places (n,) int32, values (n,) float32, starts (texts + 1,) int64) of the n-grams of texts: sparse rows.

    Words of 1 to 3 tokens take the first 2 ** word_bits places, runs of 3 to 5 characters the 2 ** char_bits behind, fewer;
    the places of each kind stand in order, once, and have a Euclidean length of 1. `idf`: the weight of each place.
    """
    assert char_bits <= word_bits and (_ROWS << word_bits + 1) <= 1 << 32, (word_bits, char_bits)
    place, value, count = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)], [np.zeros(1, np.int64)]
    for k in range(0, len(texts), _ROWS):
        part = texts[k : k + _ROWS]
        key = _keys(part, word_bits, char_bits, opening)
        at = (key & np.uint32((2 << word_bits) - 1)).astype(np.int32)
        weight, kind = idf[at], key >> np.uint32(word_bits)
        first = np.flatnonzero(np.append(True, kind[1:] != kind[:-1])[: len(kind)])
        size = np.diff(first, append=len(kind))
        length = np.sqrt(np.add.reduceat(weight * weight, first, dtype=np.float64))
        scale = np.divide(1.0, length, out=np.zeros(len(first)), where=length > 0).astype(np.float32)
        place.append(at)
        value.append(weight * np.repeat(scale, size))
        count.append(np.bincount(kind[first] >> np.uint32(1), size, minlength=len(part)).astype(np.int64))
    return np.concatenate(place), np.concatenate(value), np.cumsum(np.concatenate(count))


def _keys(texts: Sequence[bytes], word_bits: int, char_bits: int, opening: int) -> np.ndarray:
    """Return the distinct n-grams of at most _ROWS texts as sorted uint32: the text's number, then the place."""
    data = np.frombuffer(b"".join(texts), np.uint8)
    size = np.array([len(t) for t in texts])
    first = (np.cumsum(size) - size)[size > 0]
    row = np.repeat(np.arange(len(texts), dtype=np.uint32) << np.uint32(word_bits + 1), size)
    words = _words(data, first, row, np.uint64((1 << word_bits) - 1), opening)
    chars = _chars(data, first, row | np.uint32(1 << word_bits), np.uint64((1 << char_bits) - 1))
    key = np.sort(np.concatenate([np.zeros(0, np.uint32), *words, *chars]))
    return key[np.append(True, key[1:] != key[:-1])[: len(key)]]


def _words(data: np.ndarray, first: np.ndarray, row: np.ndarray, mask: np.uint64, opening: int) -> list[np.ndarray]:
    """Return the keys of 1 to 3 tokens; those that end within the `opening` tokens of a text also as such."""
    token, start = _tokens(data, first)
    row = row[start]
    nth = np.arange(len(start)) - np.searchsorted(row, row)     # number of a token in its text
    h, out = np.zeros(len(token), np.uint64), []
    for n in range(min(3, len(token))):
        h = _mixed((h[: len(token) - n] + token[n:]) * _K0)
        whole = row[n:] == row[: len(row) - n]
        early = whole & (nth[n:] < opening)
        out += [(row[n:] | (h & mask).astype(np.uint32))[whole],
                row[n:][early] | (_mixed(h[early] ^ _K1) & mask).astype(np.uint32)]
    return out


def _tokens(data: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (hashes, starts) of the tokens: runs of letters, of digits, single signs and line ends.

    `first`: where texts start; no token goes over that.
    """
    kind = _KIND[data]
    begins = kind == _SIGN
    begins[1:] |= kind[1:] != kind[:-1]
    begins[first] = True
    start = np.flatnonzero(begins)
    size = np.diff(start, append=len(data))
    start, size = start[kind[start] != _BLANK], size[kind[start] != _BLANK]
    h, k, going = data[start] + _K0, 1, np.flatnonzero(size > 1)
    while len(going):
        x = (h[going] ^ data[start[going] + k]) * _K0
        h[going] = x ^ (x >> np.uint64(32))
        k += 1
        going = going[size[going] > k]
    return _mixed(h), start


def _chars(data: np.ndarray, first: np.ndarray, row: np.ndarray, mask: np.uint64) -> list[np.ndarray]:
    """Return the keys of 3 to 5 characters inside words, with a blank before and behind each word."""
    inside = (data != 32) & (data != 10)
    begins, ends = inside.copy(), inside.copy()
    begins[1:] &= ~inside[:-1]
    ends[:-1] &= ~inside[1:]
    begins[first] = inside[first]
    ends[first[1:] - 1] = inside[first[1:] - 1]
    start = np.flatnonzero(begins)
    size = np.flatnonzero(ends) - start + 3
    end = np.cumsum(size)
    letter = np.ones(int(size.sum()), bool)
    letter[end - size] = letter[end - 1] = False
    spaced = np.full(len(letter), 32, np.uint8)
    spaced[letter] = data[inside]
    left = np.repeat(end, size) - np.arange(len(spaced))    # characters from here to the end of the word
    row = np.repeat(row[start], size)
    h, out = np.full(len(spaced), 7, np.uint64), []
    for n in range(min(5, len(spaced))):
        h = _mixed((h[: len(spaced) - n] ^ spaced[n:]) * _K0)
        if n >= 2:
            out.append((row[: len(h)] | (h & mask).astype(np.uint32))[left[: len(h)] > n])
    return out


def _mixed(x: np.ndarray) -> np.ndarray:
    """Spread the bits of (n,) uint64, in place."""
    x ^= x >> np.uint64(31)
    x *= _K1
    x ^= x >> np.uint64(29)
    return x
