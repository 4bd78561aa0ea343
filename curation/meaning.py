"""How well responses fit their prompts by meaning, beside the responses to other prompts: maps learnt from the set itself."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .heads import FOLDER

RIDGE = 10.0  # weight of what is usual beside what the rows of a set say; flat between 3 and 30


class Pairing:
    """How prompts and responses go together in a set: a linear map from one to the other.

    Vectors are taken from their means. Rows with a fold 0 to 4 were learnt from and are judged by the map of the other
    folds, rows with -1 by that of all. All in float64, so that a row fits alike in whatever company it is judged.
    """

    FOLDS = 5

    def __init__(self, means: np.ndarray, maps: np.ndarray) -> None:
        self.means = means  # (2, dim): of prompts, of responses
        self.maps = maps  # (FOLDS + 1, dim, dim): by fold, the last that of all

    @classmethod
    def learnt(cls, prompts: np.ndarray, responses: np.ndarray, fold: np.ndarray, usual: np.ndarray) -> Pairing:
        """Learn from vectors (n, dim): ridge regression drawn towards a `usual` map, so that few rows change little."""
        means = np.stack([prompts.mean(axis=0, dtype=np.float64), responses.mean(axis=0, dtype=np.float64)])
        a, b = unit(prompts - means[0]), unit(responses - means[1])
        parts = [(a[fold == k].T @ a[fold == k], a[fold == k].T @ b[fold == k]) for k in range(cls.FOLDS)]
        both = sum(p[0] for p in parts), sum(p[1] for p in parts)
        maps = [regression(both[0] - own, both[1] - cross, usual) for own, cross in parts]
        return cls(means, np.stack([*maps, regression(*both, usual)]))

    def of(self, prompts: np.ndarray, responses: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (what the prompts lead one to expect, the responses) as vectors of length 1 to be compared."""
        a, b = unit(prompts - self.means[0]), unit(responses - self.means[1])
        out = np.empty_like(b)
        for k in range(-1, self.FOLDS):
            out[fold == k] = a[fold == k] @ self.maps[k]
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
    """Return rows of length 1 as float64, rows of length 0 as they are."""
    x = np.asarray(x, np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 1e-12, length, 1))


@lru_cache(maxsize=1)
def usual() -> np.ndarray:
    """Return the (dim, dim) map from prompts to the responses that they usually have, in the vectors of the distilled table.

    It is shipped as `coefficients/pairing.npz` (float16), which benchmarks/pairing.py writes.
    """
    with np.load(FOLDER / "pairing.npz", allow_pickle=False) as f:
        return np.asarray(f["map"].astype(np.float64))
