"""The kernels of curation.contents and curation.grouping: numba is imported, and they are compiled or read, on first use."""

# mypy: disable-error-code="call-arg,var-annotated,assignment"
# The kernels are typed by numba when they are compiled; mypy knows neither its intrinsics nor its integer widths.

from __future__ import annotations

import numpy as np
from numba import njit

K0, K1, K2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
NONE, SOME, UNSURE = 0, 1, 2


@njit(inline="always")
def mix(x: np.uint64) -> np.uint64:
    """Return x with each bit spread over all others (the finalizer of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * K1
    x = (x ^ (x >> np.uint64(27))) * K2
    return x ^ (x >> np.uint64(31))


@njit(nogil=True, cache=True)
def hash_bytes(data: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """Hash the bytes data[starts[i]:starts[i + 1]], eight at a time; the length counts."""
    for i in range(len(out)):
        at, end = starts[i], starts[i + 1]
        h = np.uint64(end - at) * K0 + K1
        while at + 8 <= end:
            word = np.uint64(0)
            for k in range(8):
                word |= np.uint64(data[at + k]) << np.uint64(8 * k)
            h = mix(h ^ word) + K0
            at += 8
        word = np.uint64(0)
        for k in range(end - at):
            word |= np.uint64(data[at + k]) << np.uint64(8 * k)
        out[i] = mix(h ^ word)


@njit(nogil=True, cache=True)
def hash_lists(items: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """Hash runs of hashes; their number and order count."""
    for i in range(len(out)):
        h = np.uint64(starts[i + 1] - starts[i]) * K0 + K2
        for k in range(starts[i], starts[i + 1]):
            h = mix(h ^ items[k]) + K0
        out[i] = h


@njit(nogil=True, cache=True)
def hash_asked(data: np.ndarray, starts: np.ndarray, at: np.ndarray, out: np.ndarray) -> None:
    """Hash the texts at positions `at`; a run of ASCII digits counts as one."""
    for i in range(at.size):
        h, word, held, digits = K0, np.uint64(0), np.uint64(0), False
        for x in range(np.uint64(starts[at[i]]), np.uint64(starts[at[i] + 1])):  # without a sign: no look from behind
            b = np.uint64(data[x])
            if b - np.uint64(48) < np.uint64(10):
                if digits:
                    continue
                digits, b = True, np.uint64(48)
            else:
                digits = False
            word |= b << (held & np.uint64(7)) * np.uint64(8)
            held += np.uint64(1)
            if held & np.uint64(7) == np.uint64(0):
                h = mix(h ^ word) + K0
                word = np.uint64(0)
        out[i] = mix(mix(h ^ word) + held)


@njit(nogil=True, cache=True)
def shows(data: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
    """Whether each text holds more than white space: SOME, NONE when it is empty, UNSURE when its first bytes do not tell."""
    for i in range(out.size):
        at, end = starts[i], starts[i + 1]
        while at < end and data[at] <= 32:
            at += 1
        if at < end and data[at] < 127:
            out[i] = SOME
        else:
            out[i] = UNSURE if end > starts[i] else NONE


@njit(nogil=True, cache=True)
def standing(earlier: np.ndarray) -> int:
    """How many rows from the first on stand where they stood."""
    n = 0
    while n < earlier.size and earlier[n] == n:
        n += 1
    return n
