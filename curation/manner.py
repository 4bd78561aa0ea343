"""The manner of a row as a vector: how its prompt asks, what form its answer has, and, where known, what it means."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import log1p
from statistics import median
from typing import Any

import numpy as np

Progress = Callable[[str, int, int], None]

#: Share of each part in the square of a vector's length: half how a prompt asks, a quarter each what it means and the
#: form of the answer. A task is carried by how it asks; the topic must not decide.
ASKS, MEANS, ANSWERS = 1.0, 0.5, 0.5
EDGE_WORDS = 12     # first and last words of a prompt that say how it asks; NMI .90 against .84 for the whole prompt
EDGE_TEXT = 40      # first and last words of a prompt that are embedded, so that the order behind a passage is seen
ASK_DIM = 100       # dimensions of the words at the edges
MEAN_DIM = 64       # of the embedding's
FITTED = 20_000     # rows on which the dimensions are fitted
_CHUNK = 20_000
_SEEN = 4000        # characters of a prompt or response that are read for the form
_WORDS = re.compile(r"\w+|[^\w\s]")
_PLAIN = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")
_LIST = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s", re.MULTILINE)
_NUMBER = re.compile(r"[\d.,\s%$€£-]+")
_CODE = re.compile(r"```|^\s*(?:def |class |import |function |SELECT |#include)", re.MULTILINE)
_TRUTH = frozenset(("yes", "no", "true", "false"))
#: What is measured of a row, in the order of the columns of `forms`.
FORMS = (
    "response_words", "response_yes_no", "response_label", "response_in_prompt", "response_from_prompt", "prompt_in_response",
    "response_ends", "response_list", "response_lines_many", "response_lines", "response_line_words", "response_commas",
    "response_colon", "response_empty", "response_number", "response_code", "prompt_words", "prompt_ends_question",
    "prompt_ends_colon", "prompt_questions", "prompt_lines", "prompt_commas", "has_input", "input_words", "prompt_or",
    "prompt_colon",
)


def edge_words(instruction: str, given: str = "") -> list[str]:
    """Return the first and last 12 words and marks of a prompt, lower case, digits as 0, and whether it has an input."""
    words = _WORDS.findall(_DIGITS.sub("0", instruction[:_SEEN].lower()))
    if len(instruction) > _SEEN:
        words += _WORDS.findall(_DIGITS.sub("0", instruction[-_SEEN:].lower()))
    if len(words) > 2 * EDGE_WORDS:
        words = [*words[:EDGE_WORDS], "…", *words[-EDGE_WORDS:]]
    return [*words, "<input>"] if given.strip() else words


def edge_text(instruction: str) -> str:
    """Return a prompt without its middle: the text to embed. Prompts of up to 80 words are returned as they are."""
    words = instruction.split()
    return instruction if len(words) <= 2 * EDGE_TEXT else " ".join([*words[:EDGE_TEXT], "…", *words[-EDGE_TEXT:]])


def short_answers(responses: Sequence[str]) -> Counter[str]:
    """Return how often each short response is given, trimmed and lower case: the material of closed label sets."""
    return Counter(r.strip().lower() for r in responses if len(r) <= 60)


def forms(instructions: Sequence[str], inputs: Sequence[str], responses: Sequence[str], often: Counter[str]) -> np.ndarray:
    """Return what FORMS names for each row, (n, 26) float32, raw; a response of up to 4 words is a label if `often` thrice."""
    out = np.empty((len(instructions), len(FORMS)), np.float32)
    for i, (ask, given, response) in enumerate(zip(instructions, inputs, responses)):
        out[i] = (*_of_response(response[:_SEEN].strip(), f"{_ends(ask)}\n{given[:_SEEN]}".lower(), often),
                  *_of_prompt(_ends(ask), given))
    return out


def _ends(text: str) -> str:
    return text if len(text) <= 2 * _SEEN else f"{text[:_SEEN]} … {text[-_SEEN:]}"


def _of_response(response: str, prompt: str, often: Counter[str]) -> tuple[float, ...]:
    small = response.lower()
    words = small.split()
    plain, asked = _PLAIN.findall(small), _PLAIN.findall(prompt)
    have, want = set(asked), set(plain)
    lines = [len(line.split()) for line in response.split("\n") if line.strip()]
    return (
        log1p(len(words)), small.strip(".") in _TRUTH, len(words) <= 4 and often[small] >= 3,
        len(small) > 2 and small in prompt, sum(w in have for w in plain) / max(1, len(plain)),
        sum(w in want for w in asked) / max(1, len(asked)), response[-1:] in {".", "!", "?"},
        len(_LIST.findall(response)) >= 2, len(lines) > 1, log1p(len(lines)), median(lines) if lines else 0.0,
        response.count(",") / (len(words) + 1), ":" in response, not response, bool(_NUMBER.fullmatch(response)),
        bool(_CODE.search(response)),
    )


def _of_prompt(ask: str, given: str) -> tuple[float, ...]:
    words, end = len(_PLAIN.findall(ask)), ask.rstrip()[-1:]
    return (
        log1p(words), end == "?", end == ":", min(3, ask.count("?")), min(10, ask.count("\n")),
        ask.count(",") / (words + 1), bool(given.strip()), log1p(len(given[:_SEEN].split())), " or " in ask.lower(),
        ":" in ask,
    )


class Space:
    """Vectors in which rows that set the same task lie close, fitted on some rows and open to any others.

    Three parts side by side: TF-IDF of single words and pairs at the edges of the prompt, cut to 100 dimensions; the
    form of the answer (FORMS) in units of its spread; `meanings`, embeddings of `edge_text` of the instructions, cut
    to 64 dimensions, where they are given.
    """

    def __init__(
        self, instructions: Sequence[str], inputs: Sequence[str], responses: Sequence[str], meanings: np.ndarray | None = None
    ) -> None:
        self.words = _Words([edge_words(a, b) for a, b in zip(instructions, inputs)])
        self.often = short_answers(responses)
        x = forms(instructions, inputs, responses, self.often)
        self.mean, spread = x.mean(axis=0), x.std(axis=0)
        self.spread = np.where(spread > 1e-6, spread, 1)
        self.size = 1.0     # of a row's form, so that rows have length 1 on average
        self.size = float(np.sqrt((self._answers(x) ** 2).sum(axis=1).mean())) or 1.0
        self.axes = None if meanings is None else _axes(np.asarray(meanings, np.float32))

    def _answers(self, x: np.ndarray) -> np.ndarray:
        return np.clip((x - self.mean) / self.spread, -3, 3) / self.size

    def of(
        self, instructions: Sequence[str], inputs: Sequence[str], responses: Sequence[str], meanings: np.ndarray | None = None
    ) -> np.ndarray:
        """Return (n, up to 190) float32 vectors of unit length."""
        parts = [
            np.sqrt(ASKS) * self.words.of([edge_words(a, b) for a, b in zip(instructions, inputs)]),
            np.sqrt(ANSWERS) * self._answers(forms(instructions, inputs, responses, self.often)),
        ]
        if self.axes is not None:
            assert meanings is not None, "fitted with meanings, so they are needed here too"
            parts.append(np.sqrt(MEANS) * _unit((np.asarray(meanings, np.float32) - self.axes[0]) @ self.axes[1]))
        return _unit(np.hstack(parts))


def space(
    instructions: Sequence[str],
    inputs: Sequence[str],
    responses: Sequence[str],
    meanings: np.ndarray | None = None,
    *,
    keys: np.ndarray | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the vectors of `Space` for all rows, fitted on up to 20,000 of them.

    Those are the rows with the smallest `keys` (hashes of uids), so that a row more hardly moves the others; without
    keys an even draw. The same rows give the same vectors.
    """
    n = len(instructions)
    assert n == len(inputs) == len(responses), f"{n} instructions, {len(inputs)} inputs, {len(responses)} responses"
    if n == 0:
        return np.zeros((0, len(FORMS)), np.float32)
    say = progress or (lambda what, done, total: None)
    fit = np.arange(n)[:: max(1, n // FITTED)][:FITTED] if keys is None else np.sort(np.argsort(keys, kind="stable")[:FITTED])
    drawn = [[column[i] for i in fit] for column in (instructions, inputs, responses)]
    fitted = Space(drawn[0], drawn[1], drawn[2], None if meanings is None else meanings[fit])
    out: np.ndarray | None = None
    for k in range(0, n, _CHUNK):
        at = slice(k, min(k + _CHUNK, n))
        block = fitted.of(instructions[at], inputs[at], responses[at], None if meanings is None else meanings[at])
        if out is None:
            out = np.empty((n, block.shape[1]), np.float32)
        out[at] = block
        say("manner of asking", at.stop, n)
    assert out is not None
    return out


class _Words:
    """TF-IDF of words and word pairs, cut to 100 dimensions by a singular value decomposition."""

    def __init__(self, rows: list[list[str]]) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.tfidf = TfidfVectorizer(analyzer=_grams, sublinear_tf=True, min_df=2 if len(rows) > 200 else 1,
                                     max_features=50_000, dtype=np.float32)
        self.svd: Any = None
        self.dim = 1
        if not any(rows):
            return      # prompts without a word: one dimension, the same for all
        x = self.tfidf.fit_transform(rows)
        self.dim = max(1, min(ASK_DIM, min(x.shape) - 1))
        if x.shape[1] > 1:
            with np.errstate(invalid="ignore", divide="ignore"):     # rows that are all the same have no variance to explain
                self.svd = TruncatedSVD(self.dim, random_state=0).fit(x)

    def of(self, rows: list[list[str]]) -> np.ndarray:
        if self.svd is None:
            return np.ones((len(rows), self.dim), np.float32)
        return _unit(self.svd.transform(self.tfidf.transform(rows)))


def _grams(words: list[str]) -> list[str]:
    return [*words, *(f"{a} {b}" for a, b in pairwise(words))]


def _axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean, first 64 principal axes as columns)."""
    mean = x.mean(axis=0)
    _, axes = np.linalg.eigh((x - mean).T.astype(np.float64) @ (x - mean))
    return mean, axes[:, ::-1][:, :MEAN_DIM].astype(np.float32)


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(length > 1e-12, length, 1)).astype(np.float32)
