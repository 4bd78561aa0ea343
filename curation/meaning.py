"""How well responses fit their prompts, by words and by meaning, beside other rows: maps learnt from the set itself."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .heads import FOLDER
from .verifiers import content_words

RIDGE = 10.0  # weight of what is usual beside what the rows of a set say; flat between 3 and 30
ALIKE = 2000.0  # weight in rows of how responses usually spread, beside how those of a set do
EVEN = 0.01  # moment added in every direction; a vector of length 1 has 1 in all, spread over 256
READ = 2000  # characters of prompt and response that count
FITS = 0.01  # strangeness below which a response fits: half of the own ones that share no telling word, 1 in 200 of others
_BLOCK = 1 << 15  # evidence of rows taken at once, so that it stays in the processor's cache through a round
NEAR = 0.98  # of other rows' responses, this share fits a prompt worse than the ones held against its own
#: a question, or a task with a definite answer; what is to be written or made up may go anywhere
_ASKS = re.compile(
    r"\W*(?:please |so |and |hi,? |hello,? |can you |could you )?(?:what|why|how|who|whom|whose|when|where|which|is|are|was|"
    r"were|do|does|did|can|could|should|would|will|has|have|explain|define|tell|classif|categori[sz]e|identify|determine|"
    r"decide|sort|compare|extract|find|name|list|in (?:what|which))",
    re.IGNORECASE,
)
_OPENING = 400  # characters of a prompt in which a question mark makes it a question
#: a prompt whose answer is an enumeration: bare names, which no word of the prompt need be among
_LISTS = re.compile(
    r"\W*(?:please |can you |could you |so |hi,? |hello,? |i (?:want|need) )*(?:list|name|names|give (?:me|us)|suggest|"
    r"recommend|think (?:of|up)|provide|generate|(?:what|which|who|where) (?:\w+ ){0,3}?(?:are|were)\b|(?:what|which) \w+s\b|"
    r"tell me (?:a few|few|some|\d|the)|identify|classify|what (?:kinds?|sorts?|types?)|find|come up|describe some|share)",
    re.IGNORECASE,
)
_MANY = re.compile(
    r"\b(?:list|names?|examples?|ideas?|options?|suggestions?|ways|titles|several|some|few|different|various|lots?|\d+|two|"
    r"three|four|five|six|seven|eight|ten|top|things|items|types|kinds)\b",
    re.IGNORECASE,
)
_ITEMS = re.compile(r"[,;\n•]| and | or |\. ")
_ITEM_WORDS = 5  # words of an item of an enumeration, at most


class Pairing:
    """How prompts and responses go together in a set: a linear map from one to the other.

    Vectors are taken from their means, and those of responses are stretched where responses seldom differ, so that what most
    have in common counts little. Rows with a fold 0 to 4 were learnt from and are judged by the map of the other folds, rows
    with -1 by that of all. All in float64, so that a row fits alike in whatever company it is judged.
    """

    FOLDS = 5

    def __init__(self, means: np.ndarray, maps: np.ndarray, stretch: np.ndarray) -> None:
        self.means = means  # (2, dim): of prompts, of responses
        self.maps = maps  # (FOLDS + 1, dim, dim): by fold, the last that of all; to stretched responses
        self.stretch = stretch  # (dim, dim)

    @classmethod
    def learnt(
        cls, prompts: np.ndarray, responses: np.ndarray, fold: np.ndarray, usual: tuple[np.ndarray, np.ndarray]
    ) -> Pairing:
        """Learn from vectors (n, dim): ridge regression drawn towards a `usual` map, so that few rows change little.

        usual: the map, and the second moments of responses from their mean, of trace 1.
        """
        means = np.stack([prompts.mean(axis=0, dtype=np.float64), responses.mean(axis=0, dtype=np.float64)])
        a, b = unit(prompts - means[0]), unit(responses - means[1])
        parts = [(a[fold == k].T @ a[fold == k], a[fold == k].T @ b[fold == k]) for k in range(cls.FOLDS)]
        both = sum(p[0] for p in parts), sum(p[1] for p in parts)
        maps = [regression(both[0] - own, both[1] - cross, usual[0]) for own, cross in parts]
        stretch = stretched(b.T @ b + ALIKE * usual[1])
        return cls(means, np.stack([*maps, regression(*both, usual[0])]) @ stretch, stretch)

    def of(self, prompts: np.ndarray, responses: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (what the prompts lead one to expect, the responses) as vectors of length 1 to be compared."""
        a, b = unit(prompts - self.means[0]), unit(responses - self.means[1])
        out = np.empty_like(b)
        for k in range(-1, self.FOLDS):
            out[fold == k] = a[fold == k] @ self.maps[k]
        return unit(out), unit(b @ self.stretch)


def stretched(moments: np.ndarray) -> np.ndarray:
    """Return the map under which vectors with these second moments lie evenly in all directions, but for EVEN."""
    share = moments / np.trace(moments) + EVEN * np.eye(len(moments))
    return np.asarray(np.linalg.inv(np.linalg.cholesky(share)).T)


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


@dataclass(frozen=True)
class Company:
    """Other rows that a prompt and its response are held against, as vectors of a Pairing."""

    expected: np.ndarray  # (others, dim): what their prompts lead one to expect
    said: np.ndarray  # (others, dim): their responses
    pool: np.ndarray  # (rivals, dim): what more prompts lead one to expect, among which the response's own may be

    def strange(self, expected: np.ndarray, said: np.ndarray) -> np.ndarray:
        """Return (n,) the strangeness of rows."""
        return strangeness(expected, said, (self.expected, self.said))

    def leads(self, expected: np.ndarray, said: np.ndarray, but: np.ndarray | None = None) -> np.ndarray:
        """Return (n, 2) how much better the response at NEAR among the others fits, and the best prompt of the pool.

        `but`: (n,) a prompt of the pool that does not count for this row, -1 for none.
        """
        own = np.einsum("ij,ij->i", expected, said)
        rivals = said @ self.pool.T
        if but is not None:
            rivals[np.flatnonzero(but >= 0), but[but >= 0]] = -1
        return np.stack([np.quantile(expected @ self.said.T, NEAR, axis=1) - own, rivals.max(axis=1) - own], axis=1)


def enumerates(response: str) -> float:
    """Return the share of short items in [0, 1] among what stands between commas, line ends and the like; 0 below three."""
    items = [x for x in _ITEMS.split(response[:READ]) if x.strip(" -*0123456789.)")]
    return sum(len(x.split()) <= _ITEM_WORDS for x in items) / len(items) if len(items) >= 3 else 0.0


def definite(prompt: str) -> bool:
    """Return whether a prompt is a question or a task with a definite answer."""
    return bool(_ASKS.match(prompt)) or "?" in prompt[:_OPENING]


def looks(prompts: Sequence[str], responses: Sequence[str], *, plain: Set[str] | None = None) -> np.ndarray:
    """Return (n, 8) what the words of a prompt and its response tell of whether they belong together.

    Logarithms of the number of content words of prompt and response; words of both; telling words of the prompt; whether it
    is definite, whether it asks for several things; how far the response is an enumeration where one is asked for, and how
    far it is none. plain: words that tell nothing (default: `usual_words`).
    """
    out = np.empty((len(prompts), 8))
    plain = usual_words() if plain is None else plain
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        asked, said = content_words(prompt[:READ]), content_words(response[:READ])
        many = bool(_MANY.search(prompt[:200]))
        listed, wanted = enumerates(response), many or bool(_LISTS.match(prompt))
        out[i] = (np.log1p(len(asked)), np.log1p(len(said)), len(asked & said), len(asked - plain), definite(prompt), many,
                  wanted * listed, wanted * (1 - listed))
    return out


def evidence(strange: np.ndarray, leads: np.ndarray, look: np.ndarray) -> np.ndarray:
    """Return (n,) the logarithm of how many times likelier such rows are among swapped responses than among own ones."""
    c = coefficients()
    seen = np.hstack([np.log(strange)[:, None], leads, look])
    return np.asarray((seen - c["middle"]) / c["spread"] @ c["weight"] + c["level"][0])


def fitting() -> float:
    """Return the evidence of a row whose response has a telling word of the prompt, or a strangeness below FITS."""
    return float(coefficients()["level"][1])


def prior(found: np.ndarray, rest: int, first: float = 0.02, rounds: int = 60) -> float:
    """Return the share of swapped responses, by which the evidence of all rows is most likely.

    found: (n,) evidence of the rows that were judged; `rest`: rows whose response has a telling word of its prompt.
    Expectation and maximisation from `first`; no label is used (Saerens, Latinne and Decaestecker 2002).
    """
    own = np.exp(-np.clip(found, -500, 500))    # how many times likelier each is among own responses
    outside = float(np.exp(-fitting()))
    share = first
    for _ in range(rounds):
        odds = (1 - share) / share
        total = sum(float((1 / (1 + own[k : k + _BLOCK] * odds)).sum()) for k in range(0, len(own), _BLOCK))
        total += rest / (1 + outside * odds)
        before, share = share, min(0.99, max(1e-6, total / max(1, len(found) + rest)))
        if share == before:
            break
    return share


def chance(found: np.ndarray, share: float) -> np.ndarray:
    """Return (n,) the chance in (0, 1) that rows with this evidence were swapped where the share of swapped rows is `share`."""
    return np.asarray(1 / (1 + np.exp(-np.clip(found + np.log(share / (1 - share)), -500, 500))))


def unit(x: np.ndarray) -> np.ndarray:
    """Return rows of length 1 as float64, rows of length 0 as they are."""
    x = np.asarray(x, np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 1e-12, length, 1))


@lru_cache(maxsize=1)
def coefficients() -> dict[str, np.ndarray]:
    """Return what benchmarks/pairing.py learnt: map, moments, words; of the evidence middle, spread, weight, level."""
    with np.load(FOLDER / "pairing.npz", allow_pickle=False) as f:
        return {name: f[name] for name in f.files}


@lru_cache(maxsize=1)
def usual_words() -> frozenset[str]:
    """Return content words (cut to six letters) that stand in so many rows that having one in common tells nothing."""
    return frozenset(coefficients()["words"].tolist())


@lru_cache(maxsize=1)
def usual() -> tuple[np.ndarray, np.ndarray]:
    """Return the (dim, dim) map from prompts to the responses that they usually have, and how those spread, for `learnt`.

    In the vectors of the distilled table, shipped as `coefficients/pairing.npz` (float16), which benchmarks/pairing.py writes.
    """
    found = coefficients()
    return found["map"].astype(np.float64), found["moments"].astype(np.float64)
