"""Answers held against their question: does the response speak of it at all, and do most answers to it agree?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contents import hashes, joined, worn
from ..text import fold, shorten
from ..verifiers import content_words
from .base import Findings, Past, check, texts

# --- mismatch --------------------------------------------------------------------------------------------------------

_READ = 400  # characters of prompt and response that are embedded
#: a question, whose answer speaks of what was asked; a task to make, name or rework something may go anywhere
_ASKS = re.compile(
    r"\W*(?:please |so |and |hi,? |hello,? )?(?:what|why|how|who|whom|whose|when|where|which|is|are|was|were|do|does|did|can|"
    r"could|should|would|will|"
    r"has|have|explain|define|tell me (?:what|why|how|who|when|where|which|if|about)|in (?:what|which))\b",
    re.IGNORECASE,
)


class Vectors(Protocol):
    """Gives texts their vectors."""

    def of(self, uids: Sequence[str], texts: Sequence[str], model: str = "") -> np.ndarray:
        """Return (n, dim) float32 vectors of unit length."""
        ...


def _strangers(rows: pa.Table, min_words: int) -> list[int]:
    """Return the rows whose response shares no content word with the prompt, where both have enough to share."""
    out = []
    fields = zip(texts(rows, "instruction"), texts(rows, "input"), texts(rows, "response"))
    for i, (instruction, given, response) in enumerate(fields):
        if len(response) < 5 * min_words or not instruction.isascii() or not response[:_READ].replace("’", "'").strip():
            continue
        asked = content_words(f"{instruction} {given}"[:2000])
        if asked and not any(w in response.lower() for w in asked):
            said = content_words(response)
            if len(said) >= min_words and not asked & said:
                out.append(i)
    return out


@check("response.mismatch", reads=("instruction", "input", "response"), severity="warning", action="review", version=2)
def mismatch(rows: pa.Table, vectors: Vectors, *, threshold: float = 0.18, min_words: int = 5, embed: bool = False) -> pa.Table:
    """The response answers another prompt: it shares no word with its own.

    Looked at are rows whose response has at least `min_words` content words and none of the prompt's (4 to 7 % of a set).
    Words alone make an info of those that answer a question: what is to be written or named may be about anything.

    `embed: true` asks for the meaning too (package sentence-transformers): both texts of these rows are embedded, about 35
    texts a second on one core, so a minute for each 20,000 rows of a set. Then a row is flagged when the cosine of prompt and
    response is below `threshold`, as a warning; at half of it, and for information only, where the task is no question.
    What is not far in meaning is no longer flagged.

    Why: one shifted line in a data file turns every answer into a non sequitur.
    Misses: wrong answers on the right topic; short answers; answers in other alphabets.
    False positives: lists of bare names, and creative tasks that leave the topic open.
    Source: CHECKS 29. By words 30 of 40 swapped Dolly answers are found, 37 of 1,668 others and 33 of 34,694 Alpaca rows
    flagged; with embeddings 32 of 40, and 2 of 2,796 others.
    """
    found = Findings(rows)
    at = _strangers(rows, min_words)
    sub = rows.take(pa.array(at, pa.int64()))
    prompts = [f"{a} {b}".strip()[:_READ] for a, b in zip(texts(sub, "instruction"), texts(sub, "input"))]
    responses = texts(sub, "response")
    asks = [bool(_ASKS.match(p)) or "?" in p for p in prompts]
    if not embed:
        for i, question, response in zip(at, asks, responses):
            if question:
                message = "The response shares no word with the question."
                found.add(i, message, span=(0, len(response)), score=0.5, severity="info")
        return found.table()
    if not at:
        return found.table()
    uids = [str(u) for u in sub["uid"].to_pylist()]
    said = prompts + [r[:_READ] for r in responses]
    both = vectors.of([f"{u}/prompt" for u in uids] + [f"{u}/response" for u in uids], said, "full")
    cosine = np.einsum("ij,ij->i", both[: len(at)], both[len(at) :])
    for i, question, response, near in zip(at, asks, responses, cosine.tolist()):
        if near < (threshold if question else threshold / 2):
            found.add(
                i,
                f"The response shares no word with its prompt and is far from it in meaning (cosine {near:.2f}).",
                span=(0, len(response)),
                score=round(min(1.0, 0.6 + 2 * max(0.0, threshold - near)), 3),
                severity=None if question else "info",
            )
    return found.table()


# --- majority --------------------------------------------------------------------------------------------------------

_FINAL = re.compile(
    r"(?:####|\b(?:final\s+)?answer\s*(?:is|:|=)|\btherefore,?|\bso,?)[^\d\n-]{0,40}(-?[$€£]?\d[\d,]*(?:\.\d+)?)", re.IGNORECASE
)
_LAST_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_LABEL_WORDS = 3  # a longer answer is no label
_QUESTION_NUMBER = re.compile(
    r"\bhow (?:many|much|old|far|long|tall|fast|often)\b|\bwhat (?:is|was|are)\b[^.?]{0,60}\b(?:number|total|sum|average|"
    r"cost|price|"
    r"percent\w*|amount|profit|area|speed|distance|age|value|difference|ratio)\b|\bcalculate\b|\bfind the\b",
    re.IGNORECASE,
)


def final_answer(response: str, numeric: bool) -> str | None:
    """Return what a response settles on: the number after "answer" or the last one, or a short label; None when unclear."""
    text = response.strip()
    if numeric:
        said = _FINAL.findall(text) or _LAST_NUMBER.findall(text[-400:])
        if not said:
            return None
        number = said[-1].replace(",", "").lstrip("$€£")
        return f"{float(number):g}" if len(number) < 16 else None
    label = fold(text).strip(" .!\"'*`")
    return label if label and len(label.split()) <= _LABEL_WORDS else None


def _asked_again(rows: pa.Table, past: Past, least: int) -> list[list[int]]:
    """Return the rows of each question that `least` rows or more ask, case and white space aside, first come first.

    Questions are compared by 64-bit hashes, as rows are between runs; those of earlier rows are kept.
    """
    earlier, old = past.earlier, past.load()
    fresh = np.flatnonzero(earlier < 0)
    key = np.empty(rows.num_rows, np.uint64)
    part = rows if len(fresh) == rows.num_rows else rows.take(pa.array(fresh))
    key[fresh] = joined([_folded(part[c]) for c in ("instruction", "input")], len(fresh))
    if old is not None:
        key[earlier >= 0] = old["key"][earlier[earlier >= 0]]
    if worn(past):
        past.save({"key": key})
    order = np.argsort(key, kind="stable")
    start = np.flatnonzero(np.r_[True, key[order][1:] != key[order][:-1]]) if len(order) else np.zeros(0, np.int64)
    size = np.diff(np.r_[start, len(order)])
    many = np.flatnonzero(size >= least)
    many = many[np.argsort(order[start[many]])]
    return [order[start[k] : start[k] + size[k]].tolist() for k in many.tolist()]


def _folded(column: pa.ChunkedArray) -> np.ndarray:
    """Return (n,) uint64: a hash of each text once folded; each text is folded once."""
    codes = pc.fill_null(column, "").combine_chunks().dictionary_encode()
    known = hashes(pa.array([fold(x) for x in codes.dictionary.to_pylist()], pa.string()))
    return known[codes.indices.to_numpy()]


@check("response.majority", reads=("instruction", "input", "response"), severity="info", action="none", scope="dataset")
def majority(rows: pa.Table, past: Past, *, min_answers: int = 3, share: float = 0.6) -> pa.Table:
    """Most answers to the same question agree on another result.

    Questions are the same when instruction and input are, but for case and white space. Where at least `min_answers`
    of their responses end in a number (or are labels) and at least `share` of them say the same, those that say
    otherwise are flagged; `related` names the ones that agree.

    Why: of several answers sampled to one question the odd one out is worth a look.
    Misses: questions on which most answers are wrong alike.
    False positives: hard questions, where the majority errs; questions with several right answers.
    Source: CHECKS 27. Of four solutions to each of 912 GSM8K questions by weak models 62 % are wrong, and so are 61 % of
    those flagged: the vote of weak models proves nothing, so the flag is for information only.
    """
    found = Findings(rows)
    questions = _asked_again(rows, past, min_answers)
    several = rows.take(pa.array([i for at in questions for i in at], pa.int64()))
    known = dict(zip([i for at in questions for i in at], zip(texts(several, "instruction"), texts(several, "response"))))
    for at in questions:
        instruction = known[at[0]][0]
        numeric = bool(_QUESTION_NUMBER.search(instruction))
        said = {i: a for i in at if (a := final_answer(known[i][1], numeric)) is not None}
        if len(said) < min_answers:
            continue
        top, votes = Counter(said.values()).most_common(1)[0]
        if votes < 2 or votes < share * len(said):
            continue
        agree = [i for i, a in said.items() if a == top]
        for i, answer in said.items():
            if answer != top:
                found.add(
                    i,
                    f"{votes} of {len(said)} answers to this question say {shorten(top, 30)!r}; this one says "
                    f"{shorten(answer, 30)!r}.",
                    span=(0, len(known[i][1])),
                    score=round(votes / len(said), 3),
                    related=agree[:20],
                )
    return found.table()
