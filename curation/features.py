"""The kernel of the hashed n-grams. A file of its own: numba is imported, and the kernel compiled or read, on first use.

Its functions are globals of a module because numba keeps no compiled code of a function that refers to others by closure.
"""

# mypy: disable-error-code="no-untyped-def"
# The kernel is typed by numba when it is compiled.

from __future__ import annotations

import numpy as np
from numba import njit

u64 = np.uint64
_K0, _K1 = u64(0x9E3779B97F4A7C15), u64(0xBF58476D1CE4E5B9)


@njit(nogil=True, inline="always")
def _mix(x):
    x = (x ^ (x >> u64(31))) * _K1
    return x ^ (x >> u64(29))


@njit(nogil=True)
def _tokens(text, token, start, stop):
    """Hashes of the tokens: runs of letters, of digits, single signs and line ends; their number."""
    n = 0
    i = 0
    while i < len(text):
        c = text[i]
        letter = (c >= 97 and c <= 122) or c == 39 or c >= 128
        digit = c >= 48 and c <= 57
        if c == 32:
            i += 1
            continue
        h = u64(c) + _K0
        begin = i
        i += 1
        if letter or digit:
            while i < len(text):
                d = text[i]
                same = ((d >= 97 and d <= 122) or d == 39 or d >= 128) if letter else (d >= 48 and d <= 57)
                if not same:
                    break
                h = (h ^ u64(d)) * _K0
                h = h ^ (h >> u64(32))
                i += 1
        token[n], start[n], stop[n] = _mix(h), begin, i
        n += 1
    return n


@njit(nogil=True)
def _unique(found, n, index, value, at, idf):
    """Write the distinct `found[:n]` with unit Euclidean length to index and value from `at`; the next position."""
    part = np.sort(found[:n])
    first = at
    total = 0.0
    for i in range(n):
        if i and part[i] == part[i - 1]:
            continue
        index[at] = part[i]
        value[at] = idf[part[i]]
        total += value[at] * value[at]
        at += 1
    scale = np.float32(1.0 / np.sqrt(total)) if total > 0.0 else np.float32(0.0)
    for i in range(first, at):
        value[i] *= scale
    return at


@njit(nogil=True, cache=True)
def features(data, offsets, idf, word_bits, char_bits, opening, index, value, indptr):
    """N-grams of texts as sparse rows; index and value have room for 12 entries a byte and 16 a text."""
    words = u64((1 << word_bits) - 1)
    chars = u64((1 << char_bits) - 1)
    base = 1 << word_bits
    at = 0
    for r in range(len(offsets) - 1):
        text = data[offsets[r]:offsets[r + 1]]
        token = np.empty(len(text) + 1, u64)
        start = np.empty(len(text) + 1, np.int64)
        stop = np.empty(len(text) + 1, np.int64)
        n = _tokens(text, token, start, stop)
        found = np.empty(3 * n + 3 * min(n, opening) + 1, np.int32)
        m = 0
        for i in range(n):
            h = u64(0)
            for j in range(i, min(i + 3, n)):
                h = _mix((h + token[j]) * _K0)
                found[m] = np.int32(h & words)
                m += 1
                if j < opening:
                    found[m] = np.int32(_mix(h ^ _K1) & words)
                    m += 1
        at = _unique(found, m, index, value, at, idf)
        found = np.empty(3 * (len(text) + 2 * n) + 1, np.int32)
        m = 0
        i = 0
        while i < len(text):
            if text[i] == 32 or text[i] == 10:
                i += 1
                continue
            end = i
            while end < len(text) and text[end] != 32 and text[end] != 10:
                end += 1
            size = end - i + 2      # the word between two blanks
            for a in range(size):
                h = u64(7)
                for b in range(a, min(a + 5, size)):
                    c = u64(32) if b == 0 or b == size - 1 else u64(text[i + b - 1])
                    h = _mix((h ^ c) * _K0)
                    if b - a >= 2:
                        found[m] = np.int32(base + np.int64(h & chars))
                        m += 1
            i = end
        at = _unique(found, m, index, value, at, idf)
        indptr[r + 1] = at
