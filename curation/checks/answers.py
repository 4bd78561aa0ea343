"""Answers held against their question: does the response speak of it at all, and do most answers to it agree?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contents import hashes, joined, some, worn
from ..meaning import Pairing, strangeness, usual
from ..text import fold, shorten
from ..verifiers import content_words
from .base import Findings, Past, check, texts

# --- mismatch --------------------------------------------------------------------------------------------------------

_READ = 400  # characters of prompt and response that are embedded on request
#: a question, or a task with a definite answer; what is to be written or made up may go anywhere
_ASKS = re.compile(
    r"\W*(?:please |so |and |hi,? |hello,? |can you |could you )?(?:what|why|how|who|whom|whose|when|where|which|is|are|was|"
    r"were|do|does|did|can|could|should|would|will|has|have|explain|define|tell|classif|categori[sz]e|identify|determine|"
    r"decide|sort|compare|extract|find|name|list|in (?:what|which))",
    re.IGNORECASE,
)
_TRANSLATES = re.compile(
    r"\btranslat|\b(?:in|into|to) (?:french|german|spanish|italian|portuguese|dutch|latin|chinese|japanese|korean|hindi|arabic|"
    r"russian)\b",
    re.IGNORECASE,
)
_LEARNT = 8000  # rows that the map from prompts to responses is learnt from
_OTHERS = 500  # rows whose answers are held against a prompt
_FEWEST = 50  # rows below which there is nothing to hold against
_STRONG = 0.3  # strangeness of the rows whose number says whether answers were swapped at all
_NARROW = 0.2  # strangeness of rows that share words from which on the set is too narrow to tell
_FAR = 0.2  # cosine of the full model below which prompt and response are far apart
_AT_ONCE = 4096  # rows judged at once: 40 MB
_STRANGER, _ASKED = 1, 2  # the response shares no content word with its prompt; the prompt is a question or definite task too


class Encodes(Protocol):
    """Turns texts into vectors."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, dim) float32 vectors of unit length."""
        ...


class Vectors(Protocol):
    """Gives texts their vectors."""

    why: str

    def of(self, uids: Sequence[str], texts: Sequence[str], model: str = "") -> np.ndarray:
        """Return (n, dim) float32 vectors of unit length."""
        ...

    def table(self) -> Encodes | None:
        """Return the table of token vectors, None where none can be had offline: then `why` says why."""
        ...


def _strangers(rows: pa.Table, min_words: int) -> np.ndarray:
    """Return (n,) uint8: whether the response shares no content word with the prompt, where both have enough to share."""
    out = np.zeros(rows.num_rows, np.uint8)
    fields = zip(texts(rows, "instruction"), texts(rows, "input"), texts(rows, "response"))
    for i, (instruction, given, response) in enumerate(fields):
        if len(response) < 5 * min_words or not instruction.isascii() or not response[:_READ].replace("’", "'").strip():
            continue
        asked = content_words(f"{instruction} {given}"[:2000])
        if asked and not any(w in response.lower() for w in asked):
            said = content_words(response)
            if len(said) >= min_words and not asked & said:
                prompt = f"{instruction} {given}".strip()
                definite = (_ASKS.match(prompt) or "?" in prompt[:_READ]) and not _TRANSLATES.search(prompt)
                out[i] = _ASKED if definite else _STRANGER
    return out


def _known_strangers(rows: pa.Table, min_words: int, past: Past) -> np.ndarray:
    """Return (n,) uint8 as `_strangers`; what was known of earlier rows is not read again."""
    earlier, old = past.earlier, past.load()
    fresh = np.flatnonzero(earlier < 0)
    out = np.zeros(rows.num_rows, np.uint8)
    if old is not None:
        out[earlier >= 0] = old["stranger"][earlier[earlier >= 0]]
    out[fresh] = _strangers(some(rows, fresh), min_words)
    return out


def _prompts(rows: pa.Table) -> list[str]:
    return [f"{a} {b}".strip() for a, b in zip(texts(rows, "instruction"), texts(rows, "input"))]


def _drawn(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return (positions, keys) of the rows that are learnt from: those of the lowest keys among the first rows.

    A key is a hash of the uid. The first rows are a number on a ladder whose steps are a tenth apart: rows added behind
    leave what was learnt as it was until the set has grown by a tenth, whether it is checked at once or from the start.
    """
    first = _FEWEST
    while first * 11 // 10 <= rows.num_rows:
        first = first * 11 // 10
    key = hashes(rows["uid"].slice(0, first))
    at = np.argsort(key, kind="stable")[:_LEARNT]
    return at, key[at]


def _learnt(
    rows: pa.Table, stranger: np.ndarray, at: np.ndarray, key: np.ndarray, min_words: int, vectors: Vectors
) -> dict[str, np.ndarray]:
    """Return what the rows at `at` tell, as arrays: the map from prompts to responses, and rows to hold others against.

    `sound`: the 95 % point of the strangeness of rows whose response shares a word with the prompt; infinite where too few
    rows have a longer answer, or where even sound answers fit no better than others do, as in a set of one topic.
    """
    drawn = rows.take(pa.array(at))
    said = texts(drawn, "response")
    long = np.fromiter(islice((k for k, r in enumerate(said) if len(content_words(r[:2000])) >= min_words), _OTHERS), np.int64)
    sharing = long[stranger[at[long]] == 0]
    out = {"at": at, "key": key, "sound": np.array([np.inf])}
    table = vectors.table() if len(sharing) >= _FEWEST else None
    if table is None:
        return out
    asked_, said_ = table.encode(_prompts(drawn)), table.encode(said)
    fold = (key % np.uint64(Pairing.FOLDS)).astype(np.int64)
    pairing = Pairing.learnt(asked_, said_, fold, usual())
    expected, meant = pairing.of(asked_[long], said_[long], fold[long])
    among = np.isin(long, sharing)
    sound = float(np.quantile(strangeness(expected[among], meant[among], (expected, meant)), 0.95))
    return out | {"sound": np.array([sound if sound < _NARROW else np.inf]), "means": pairing.means, "maps": pairing.maps,
                  "expected": expected, "said": meant}


def _judged(rows: pa.Table, at: np.ndarray, learnt: dict[str, np.ndarray], table: Encodes) -> np.ndarray:
    """Return (len(at),) the strangeness of the responses at `at` beside other rows' responses."""
    fold = np.full(rows.num_rows, -1)
    fold[learnt["at"]] = learnt["key"] % np.uint64(Pairing.FOLDS)
    pairing = Pairing(learnt["means"], learnt["maps"])
    out = np.empty(len(at))
    for k in range(0, len(at), _AT_ONCE):
        part = at[k : k + _AT_ONCE]
        these = rows.take(pa.array(part))
        pairs = pairing.of(table.encode(_prompts(these)), table.encode(texts(these, "response")), fold[part])
        out[k : k + len(part)] = strangeness(*pairs, (learnt["expected"], learnt["said"]))
    return out


def _strangeness(
    rows: pa.Table, stranger: np.ndarray, min_words: int, vectors: Vectors, past: Past
) -> tuple[np.ndarray, float]:
    """Return ((n,) the strangeness of the rows that are asked strangers, else NaN; that of sound rows, infinite if unknown).

    What was learnt is kept, and so is the strangeness of rows, until a row that was learnt from is gone or changed, or the
    draw is another one.
    """
    earlier, old = past.earlier, past.load()
    value, sound, again = np.full(rows.num_rows, np.nan), np.inf, worn(past)
    learnt: dict[str, np.ndarray] = {}
    if (stranger == _ASKED).any():
        at, key = _drawn(rows)
        if old is not None and "at" in old and np.array_equal(old["at"], earlier[at]) and np.array_equal(old["key"], key):
            learnt = {name: old[name] for name in old if name not in ("stranger", "value")} | {"at": at}
            value[earlier >= 0] = old["value"][earlier[earlier >= 0]]
        else:
            learnt, again = _learnt(rows, stranger, at, key, min_words, vectors), True
        sound = float(learnt["sound"][0])
    todo = np.flatnonzero((stranger == _ASKED) & np.isnan(value)) if sound < np.inf else np.zeros(0, np.int64)
    table = vectors.table() if len(todo) else None
    if table is not None:
        value[todo] = _judged(rows, todo, learnt, table)
    elif len(todo):
        sound = np.inf
    if again:
        past.save({"stranger": stranger, "value": value, **({} if vectors.why else learnt)})
    return value, sound


@check("response.mismatch", reads=("instruction", "input", "response"), severity="warning", action="review", scope="dataset",
       version=5)
def mismatch(
    rows: pa.Table, vectors: Vectors, past: Past, *, threshold: float = 0.07, many: float = 0.01, min_words: int = 5,
    embed: bool = False,
) -> pa.Table:
    """The response answers another prompt: it shares no word with its own, and other rows' responses fit better.

    Looked at are rows whose response has at least `min_words` content words and none of the prompt's (4 to 7 % of a set), and
    whose prompt is a question or a task with a definite answer. How well the response fits is judged by a table of token
    vectors, which is made from the sentence encoder once on a machine (about 20 s; package sentence-transformers), and a map
    from prompts to responses, learnt from answered prompts in general and from up to 8,000 rows of the set. Flagged is a row
    when about `threshold` of other rows' responses or more fit its prompt as well (the strangeness, in (0, 1]), and more than
    for 95 % of the rows that do share a word. Where no model is at hand offline, all such rows are flagged, and the flags say so.

    In a clean set up to 1 row in 80 looks strange: lists of bare names above all. So flags are infos, unless `many` of all
    rows or more have a strangeness of 0.3: then answers have been swapped, and all flags are warnings.

    Which rows are learnt from follows from the rows alone. So rows added behind get the flags of a full check and cost their
    own time only; the map is learnt anew when the set has grown by a tenth, or when a row it was learnt from goes or changes.

    `embed: true` asks a second eye (package sentence-transformers): flagged rows are embedded, about 35 texts a second on
    one core, those near in meaning are let go, and the rest are warnings.

    Why: one shifted line in a data file turns every answer into a non sequitur.
    Misses: wrong answers on the right topic; short answers; creative tasks; other languages than English; all but bare
    words in sets of fewer than 50 longer answers.
    False positives: lists of bare names.
    Source: CHECKS 29; benchmarks/quality_responses.py has the numbers.
    """
    found = Findings(rows)
    stranger = _known_strangers(rows, min_words, past)
    value, sound = _strangeness(rows, stranger, min_words, vectors, past)
    at = np.flatnonzero(stranger == _ASKED)
    judged = sound < np.inf
    strange = value[at] if judged else np.full(len(at), 0.5)
    least = max(threshold, sound if judged else 0.0)
    at, strange = at[strange >= least], strange[strange >= least]
    swapped = judged and int((strange >= _STRONG).sum()) >= max(3, many * rows.num_rows)
    severity = None if swapped else "info"
    sub = rows.take(pa.array(at))
    more = f" Nothing judged it by meaning: {vectors.why}." if vectors.why and not judged else ""
    if embed and len(at):
        uids = [str(u) for u in sub["uid"].to_pylist()]
        said = [p[:_READ] for p in _prompts(sub)] + [r[:_READ] for r in texts(sub, "response")]
        both = vectors.of([f"{u}/prompt" for u in uids] + [f"{u}/response" for u in uids], said, "full")
        far = np.einsum("ij,ij->i", both[: len(at)], both[len(at) :]) < _FAR
        at, strange, sub, severity, more = at[far], strange[far], sub.filter(pa.array(far)), None, ""
    for i, how, response in zip(at.tolist(), strange.tolist(), texts(sub, "response")):
        fits = f", and by meaning it fits no better than {how:.0%} of the answers to other prompts" if judged else ""
        found.add(i, f"The response shares no word with its prompt{fits}.{more}", span=(0, len(response)),
                  score=round(how, 3), severity=severity)
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
    part = some(rows, fresh)
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
