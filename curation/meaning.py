"""What a text is about as a short vector, from a table of word vectors shipped with the package: no model, no download."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import sparse

from .heads import FOLDER

READ = 1000  # characters of a text that count
RIDGE = 10.0  # weight of what is usual beside what the rows of a set say; flat between 3 and 30
_KNOWN = 200_000  # words whose pieces are remembered
_WORD = re.compile(r"[^\W_]+")
_LONGEST = 24  # characters of a word that are looked at


class Words:
    """The table: vectors of word pieces, commoner ones shorter, and the words met so far. English."""

    def __init__(self, pieces: Sequence[str], table: np.ndarray) -> None:
        self.table = table  # (pieces, dim) float32
        self._at = {piece: i for i, piece in enumerate(pieces)}
        self._known: dict[str, tuple[int, ...]] = {}

    def pieces(self, word: str) -> tuple[int, ...]:
        """Return the pieces of a word in lower case, each the longest that fits; () when a part of it is unknown."""
        found = self._known.get(word)
        if found is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            found = self._known[word] = self._cut(word)
        return found

    def _cut(self, word: str) -> tuple[int, ...]:
        out, start = [], 0
        while start < len(word):
            for end in range(min(len(word), start + _LONGEST), start, -1):
                at = self._at.get(word[start:end] if start == 0 else "##" + word[start:end])
                if at is not None:
                    break
            else:
                return ()
            out.append(at)
            start = end
        return tuple(out)

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, dim) float32 vectors: the sum over the words of each text, of length 1; zeros without known words."""
        index: list[int] = []
        indptr = np.zeros(len(texts) + 1, np.int64)
        for i, text in enumerate(texts):
            for word in _WORD.findall(text[:READ].lower()):
                index.extend(self.pieces(word))
            indptr[i + 1] = len(index)
        ones = np.ones(len(index), np.float32)
        total = sparse.csr_matrix((ones, np.array(index, np.int32), indptr), shape=(len(texts), len(self.table))) @ self.table
        return unit(np.asarray(total))


class Pairing:
    """How prompts and responses go together in a set: a linear map from one to the other, learnt from the set itself.

    Vectors are taken from their means. The map is ridge regression drawn towards a `usual` map, so that few rows change
    little. Rows with a fold 0 to 4 were learnt from and are judged by the map of the other folds, rows with -1 by that of all.
    """

    FOLDS = 5

    def __init__(self, prompts: np.ndarray, responses: np.ndarray, fold: np.ndarray, usual: np.ndarray) -> None:
        self._means = prompts.mean(axis=0), responses.mean(axis=0)
        a, b = self._centred(prompts, responses)
        parts = [(a[fold == k].T @ a[fold == k], a[fold == k].T @ b[fold == k]) for k in range(self.FOLDS)]
        both = sum(p[0] for p in parts), sum(p[1] for p in parts)
        self._maps = [regression(both[0] - own, both[1] - cross, usual) for own, cross in parts]
        self._maps.append(regression(*both, usual))

    def _centred(self, prompts: np.ndarray, responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return unit(prompts - self._means[0]), unit(responses - self._means[1])

    def of(self, prompts: np.ndarray, responses: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (what the prompts lead one to expect, the responses) as vectors of length 1 to be compared."""
        a, b = self._centred(prompts, responses)
        out = np.empty_like(b)
        for k in range(-1, self.FOLDS):
            out[fold == k] = a[fold == k] @ self._maps[k]
        return unit(out), b


def regression(own: np.ndarray, cross: np.ndarray, towards: np.ndarray, weight: float = RIDGE) -> np.ndarray:
    """Return the linear map with the products `own` = A'A and `cross` = A'B, drawn towards another with a weight in rows."""
    return np.asarray(np.linalg.solve(own + weight * np.eye(len(own)), cross + weight * towards))


def strangeness(expected: np.ndarray, said: np.ndarray, others: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return (n,) in (0, 1]: the share of other rows' responses that fit a prompt better than its own does.

    The geometric mean with the share of other rows' prompts that fit the response better; equals count half. `others`:
    their (expected, said). A response to another prompt scores evenly between 0 and 1, a fitting one near 0.
    """
    own = np.einsum("ij,ij->i", expected, said)[:, None]

    def share(likeness: np.ndarray) -> np.ndarray:
        better, even = likeness > own + 1e-6, np.abs(likeness - own) <= 1e-6
        return np.asarray((better.sum(axis=1) + 0.5 * even.sum(axis=1) + 1) / (likeness.shape[1] + 1))

    return np.sqrt(share(expected @ others[1].T) * share(said @ others[0].T))


def unit(x: np.ndarray) -> np.ndarray:
    """Return rows of length 1, rows of length 0 as they are."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(length > 1e-12, length, 1)).astype(np.float32)


@lru_cache(maxsize=1)
def words() -> Words:
    """Return the table shipped as `coefficients/words.npz`, which benchmarks/words.py writes.

    Arrays: pieces (one text, a line each, UTF-8 bytes), weight (pieces, dim) int8, scale (pieces,) float16, and the map of
    `usual` (dim, dim) float16.
    """
    with np.load(FOLDER / "words.npz", allow_pickle=False) as f:
        pieces = f["pieces"].tobytes().decode("utf-8").split("\n")
        return Words(pieces, f["weight"].astype(np.float32) * f["scale"].astype(np.float32)[:, None])


@lru_cache(maxsize=1)
def usual() -> np.ndarray:
    """Return the (dim, dim) float32 map from prompts to the responses that they usually have."""
    with np.load(FOLDER / "words.npz", allow_pickle=False) as f:
        return np.asarray(f["map"].astype(np.float32))
