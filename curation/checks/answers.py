"""Answers held against their question: does the response speak of it at all, and do most answers to it agree?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contents import carried, hashes, holding, joined, places, some, taken, worn
from ..meaning import (
    FITS,
    READ,
    Company,
    Pairing,
    chance,
    definite,
    evidence,
    fitting,
    looks,
    prior,
    strangeness,
    usual,
    usual_words,
)
from ..options import Count, Several, Share
from ..text import fold, shorten
from ..verifiers import content_words, guess_language
from .base import Findings, Past, check, flags, texts

# --- mismatch --------------------------------------------------------------------------------------------------------

_READ = 400  # characters of prompt and response that are embedded on request
_TRANSLATES = re.compile(
    r"\btranslat|\b(?:in|into|to) (?:french|german|spanish|italian|portuguese|dutch|latin|chinese|japanese|korean|hindi|arabic|"
    r"russian)\b",
    re.IGNORECASE,
)
_OTHER_SCRIPT = re.compile("[^\x00-\u024f\u2000-\u2bff\ufb00-\ufb06]")  # what Latin letters, marks and symbols are not
_LEARNT = 4000  # rows that the map from prompts to responses is learnt from
_MANY = 20_000  # rows from which on the map is learnt anew only when they have grown by half
_OTHERS = 500  # rows whose answers are held against a prompt
_RIVALS = 2000  # rows whose prompts are held against a response
_FEWEST = 50  # rows below which there is nothing to hold against
_NARROW = 0.2  # strangeness of rows that share words from which on the set is too narrow to tell
_FAR = 0.2  # cosine of the full model below which prompt and response are far apart
_AT_ONCE = 4096  # rows judged at once: 130 MB
_IN_MEMORY = 20_000  # rows whose texts are in memory as Python's
_SELDOM = 0.005  # share of swapped responses from which on a row is pointed out, be they as rare as may be
_HARDLY = 0.25  # share of longer answers with a telling word of their prompt below which the rows themselves teach nothing
# What a row is: its response has a telling word of the prompt; has none; has no content word of it, and the prompt is definite.
_SHARES, _STRANGER, _BARE = 1, 2, 3
_OF_ROWS = ("stranger", "length", "found", "strange", "english")  # what is kept of each row; the rest is what was learnt


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
    """Return (n,) uint8: _SHARES, _STRANGER or _BARE; 0 where prompt or response has too little to share, or is not English."""
    out = np.zeros(rows.num_rows, np.uint8)
    plain = usual_words()
    for i, prompt, response in _exchanges(rows, np.arange(rows.num_rows)):
        if len(response) < 5 * min_words:
            continue
        prompt, said = prompt[:READ], response[:READ].lower()
        asked = content_words(prompt)
        telling = asked - plain
        if any(f" {w}" in said for w in telling):  # as most do: the rest need not be read
            out[i] = _SHARES
            continue
        words = content_words(said)
        if not asked or len(words) < min_words or _OTHER_SCRIPT.search(prompt) or _OTHER_SCRIPT.search(said):
            continue
        if telling & words:
            out[i] = _SHARES
        elif not _TRANSLATES.search(prompt):
            out[i] = _STRANGER if asked & words or not definite(prompt) else _BARE
    return out


def _known_strangers(rows: pa.Table, min_words: int, past: Past) -> np.ndarray:
    """Return (n,) uint8 as `_strangers`; what was known of earlier rows is not read again."""
    earlier, old = past.earlier, past.load()
    new = _strangers(some(rows, np.flatnonzero(earlier < 0)), min_words)
    return carried(old["stranger"] if old else None, earlier, new)


def _lengths(rows: pa.Table, past: Past) -> np.ndarray:
    """Return (n,) int32 characters of each response; those of earlier rows are not counted again."""
    earlier, old = past.earlier, past.load()
    new = pc.fill_null(pc.utf8_length(some(rows["response"], np.flatnonzero(earlier < 0))), 0)
    return carried(old["length"] if old else None, earlier, np.asarray(new, np.int32))


def _exchanges(rows: pa.Table, at: np.ndarray) -> Iterator[tuple[int, str, str]]:
    """Yield (position, prompt, response) of the rows at ascending positions `at`; few are in memory as texts at a time."""
    for k in range(0, len(at), _IN_MEMORY):
        part = some(rows, at[k : k + _IN_MEMORY])
        yield from zip(at[k : k + _IN_MEMORY].tolist(), _prompts(part), texts(part, "response"), strict=True)


def _prompts(rows: pa.Table) -> list[str]:
    return [f"{a} {b}".strip() for a, b in zip(texts(rows, "instruction"), texts(rows, "input"))]


def _drawn(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return (positions, keys) of the rows that are learnt from: those of the lowest keys among the first rows.

    A key is a hash of the uid. The first rows are a number on a ladder whose steps are a tenth apart, and a half from _MANY
    rows on, where judging all anew takes long and the draw is a small part of them: rows added behind leave what was learnt
    as it was until the set has grown by that, whether it is checked at once or from the start.
    """
    first = step = _FEWEST
    while step <= rows.num_rows:
        first, step = step, step * 11 // 10 if step < _MANY else step * 3 // 2
    key = hashes(rows["uid"].slice(0, first))
    most = min(_LEARNT, len(key))
    at = np.flatnonzero(key <= np.partition(key, most - 1)[most - 1])   # a few more where keys are equal
    at = at[np.argsort(key[at], kind="stable")][:most]
    return at, key[at]


def _learnt(
    rows: pa.Table, stranger: np.ndarray, at: np.ndarray, key: np.ndarray, min_words: int, vectors: Vectors
) -> dict[str, np.ndarray]:
    """Return what the rows at `at` tell, as arrays: the map from prompts to responses, and rows to hold others against.

    `sound`: the 95 % point of the strangeness of rows whose response shares a telling word with the prompt; infinite where
    too few rows have a longer answer, or where even sound answers fit no better than others do, as in a set of one topic.
    Where hardly any response shares a word, as in a file shifted by a line, nothing is learnt and the usual map judges all.
    """
    drawn = taken(rows, at)
    said = texts(drawn, "response")
    long = np.fromiter(islice((k for k, r in enumerate(said) if len(content_words(r[:READ])) >= min_words), _OTHERS), np.int64)
    sharing = long[stranger[at[long]] == _SHARES]
    shifted = len(sharing) < _HARDLY * len(long)
    out = {"at": at, "key": key, "sound": np.array([np.inf])}
    table = vectors.table() if len(long if shifted else sharing) >= _FEWEST else None
    if table is None:
        return out
    asked_, said_ = table.encode(_prompts(drawn)), table.encode(said)
    fold = (key % np.uint64(Pairing.FOLDS)).astype(np.int64)
    pairing = Pairing.learnt(asked_, said_, np.full(len(fold), -1) if shifted else fold, usual())
    expected, meant = pairing.of(asked_[long], said_[long], fold[long])
    pool, _ = pairing.of(asked_[:_RIVALS], said_[:_RIVALS], fold[:_RIVALS])
    among = np.isin(long, sharing)
    sound = 0.0 if shifted else float(np.quantile(strangeness(expected[among], meant[among], (expected, meant)), 0.95))
    return out | {"sound": np.array([sound if sound < _NARROW else np.inf]), "means": pairing.means, "maps": pairing.maps,
                  "stretch": pairing.stretch, "expected": expected, "said": meant, "pool": pool}


def _judged(
    rows: pa.Table, at: np.ndarray, learnt: dict[str, np.ndarray], table: Encodes
) -> tuple[np.ndarray, np.ndarray]:
    """Return (evidence, strangeness) of the rows at `at`."""
    fold = np.full(rows.num_rows, -1)
    fold[learnt["at"]] = learnt["key"] % np.uint64(Pairing.FOLDS)
    pairing = Pairing(learnt["means"], learnt["maps"], learnt["stretch"])
    company = Company(learnt["expected"], learnt["said"], learnt["pool"])
    found, strange = np.full(len(at), fitting()), np.empty(len(at))
    for k in range(0, len(at), _AT_ONCE):
        part = at[k : k + _AT_ONCE]
        these = taken(rows, part)
        asked, said = _prompts(these), texts(these, "response")
        expected, meant = pairing.of(table.encode(asked), table.encode(said), fold[part])
        strange[k : k + len(part)] = company.strange(expected, meant)
        odd = np.flatnonzero(strange[k : k + len(part)] >= FITS)
        look = looks([asked[i] for i in odd], [said[i] for i in odd])
        found[k + odd] = evidence(strange[k + odd], company.leads(expected[odd], meant[odd]), look)
    return found, strange


def _told(
    rows: pa.Table, stranger: np.ndarray, min_words: int, vectors: Vectors, past: Past
) -> tuple[np.ndarray, np.ndarray, bool, dict[str, np.ndarray] | None]:
    """Return ((n,) evidence and (n,) strangeness of strangers, else NaN; whether they could be judged at all; what to keep).

    What was learnt serves again, and so does what was found of rows, until a row that was learnt from is gone or changed, or the
    draw is another one.
    """
    earlier, old = past.earlier, past.load()
    found, strange, sound, again = np.full(rows.num_rows, np.nan), np.full(rows.num_rows, np.nan), np.inf, worn(past)
    learnt: dict[str, np.ndarray] = {}
    asked = stranger >= _STRANGER
    if asked.any():
        at, key = _drawn(rows)
        if old is not None and "at" in old and np.array_equal(old["at"], earlier[at]) and np.array_equal(old["key"], key):
            learnt = {name: old[name] for name in old if name not in _OF_ROWS} | {"at": at}
            found, strange = (carried(old[name], earlier, np.nan) for name in ("found", "strange"))
        else:
            learnt, again = _learnt(rows, stranger, at, key, min_words, vectors), True
        sound = float(learnt["sound"][0])
    todo = np.flatnonzero(asked & np.isnan(found)) if sound < np.inf else np.zeros(0, np.int64)
    table = vectors.table() if len(todo) else None
    if table is not None:
        found[todo], strange[todo] = _judged(rows, todo, learnt, table)
    elif len(todo):
        sound = np.inf
    kept = {"stranger": stranger, "found": found, "strange": strange, **({} if vectors.why else learnt)} if again else None
    return found, strange, sound < np.inf, kept


def _english(text: str) -> bool:
    """Return whether a text may be English: few words tell no language."""
    return guess_language(text[:READ]) in ("", "en")


def _languages(rows: pa.Table, at: np.ndarray, past: Past) -> np.ndarray:
    """Return (n,) uint8: 1 where prompt and response may be English, 2 where not; 0 for rows not at `at` and never asked."""
    earlier, old = past.earlier, past.load()
    out = carried(old["english"] if old else None, earlier, np.uint8(0))
    for i, prompt, response in _exchanges(rows, at[out[at] == 0]):
        out[i] = 1 if _english(prompt) and _english(response) else 2
    return out


def _far(sub: pa.Table, vectors: Vectors) -> np.ndarray:
    """Return (n,) whether the full model finds prompt and response far apart."""
    uids = [str(u) for u in sub["uid"].to_pylist()]
    said = [p[:_READ] for p in _prompts(sub)] + [r[:_READ] for r in texts(sub, "response")]
    both = vectors.of([f"{u}/prompt" for u in uids] + [f"{u}/response" for u in uids], said, "full")
    return np.asarray(np.einsum("ij,ij->i", both[: len(uids)], both[len(uids) :]) < _FAR)


@check("response.mismatch", reads=("instruction", "input", "response"), severity="warning", action="review", scope="dataset",
       version=7)
def mismatch(
    rows: pa.Table, vectors: Vectors, past: Past, *, threshold: Share = 0.35, min_words: Count = 5, embed: bool = False,
) -> pa.Table:
    """The response answers another prompt: it has no telling word of its own, and fits other rows' prompts better.

    Looked at are rows whose response has at least `min_words` content words and no telling one of the prompt's, that is one
    that fewer than 2 % of rows in general have (about 10 % of a set). How well the response fits is judged by a table of token
    vectors, which is made from the sentence encoder once on a machine (about 20 s; package sentence-transformers), and a map
    from prompts to responses, learnt from answered prompts in general and from up to 4,000 rows of the set: how strange it is
    beside other rows' responses and prompts, and how much better the best of 2,000 other prompts fits. What else counts: words
    that tell little but are in both, how long both are, whether several things are asked for and whether it lists some.

    All this makes the evidence, the logarithm of how many times likelier the row is among swapped responses than among own
    ones. The share of swapped responses in the set is estimated from the evidence of all its rows, and gives each row the
    chance that it is one (the score; in (0, 1]). From `threshold` on it is flagged: at .35 four warnings in five are right on
    draws of Dolly with 1 to 2 % of the answers swapped. The share may be nought, and then nothing is a warning: what would be
    flagged if 1 row in 200 were swapped is an info. Where no model is at hand offline, rows without any word in common are
    infos, and say so.

    Which rows are learnt from follows from the rows alone. So rows added behind get the flags of a full check and cost their
    own time only; the map is learnt anew when the set has grown by a tenth (by half, from 20,000 rows on), or when a row it was
    learnt from goes or changes.

    `embed: true` asks a second eye (package sentence-transformers): flagged rows are embedded, about 35 texts a second on
    one core, those near in meaning are let go, and the rest are warnings.

    Why: one shifted line in a data file turns every answer into a non sequitur.
    Misses: wrong answers on the right topic; short answers; languages other than English; all but bare words in sets of
    fewer than 50 longer answers; single swapped responses in large sets, which stay infos.
    False positives: lists of bare names.
    Source: CHECKS 29; benchmarks/quality_responses.py has the numbers.
    """
    stranger = _known_strangers(rows, min_words, past)
    evidence_, strange, judged, kept = _told(rows, stranger, min_words, vectors, past)
    at = np.flatnonzero(stranger >= _STRANGER if judged else stranger == _BARE)
    score, sure = np.full(len(at), threshold), np.zeros(len(at), bool)
    if judged:
        share = prior(evidence_[at], int((stranger == _SHARES).sum()))
        score = chance(evidence_[at], max(share, _SELDOM))
        sure = chance(evidence_[at], share) >= threshold
        at, sure, score = at[score >= threshold], sure[score >= threshold], score[score >= threshold]
    english = _languages(rows, at, past)
    length = _lengths(rows, past)
    if kept is not None:
        past.save(kept | {"english": english, "length": length})
    at, sure, score = at[english[at] == 1], sure[english[at] == 1], score[english[at] == 1]
    more = f" Nothing judged it by meaning: {vectors.why}." if vectors.why and not judged else ""
    if embed and len(at):
        far = _far(taken(rows, at), vectors)
        at, score, sure, more = at[far], score[far], np.ones(int(far.sum()), bool), ""
    fits = [f", and by meaning it fits no better than {x}% of the answers to other prompts" for x in range(101)]
    said = [f"The response shares no {'telling ' * judged}word with its prompt{x}.{more}" for x in (fits if judged else [""])]
    which = np.rint(100 * strange[at]).astype(np.int32) if judged else np.zeros(len(at), np.int32)
    message = pa.DictionaryArray.from_arrays(pa.array(which), said)
    return flags(rows, {
        "at": at, "field": "response", "start": 0, "end": length[at],
        "message": message, "score": np.round(score, 3),
        "severity": pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(at), np.int32), mask=sure), ["info"])})


# --- majority --------------------------------------------------------------------------------------------------------

_FINAL = re.compile(
    r"(?:####|\b(?:final\s+)?answer\s*(?:is|:|=)|\btherefore,?|\bso,?)[^\d\n-]{0,40}(-?[$€£]?\d[\d,]*(?:\.\d+)?)", re.IGNORECASE
)
_LAST_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
#: "C", "(c)", "C) Paris": a letter that chooses, alone or before what it stands for; "the answer is (C)".
_CHOICE = re.compile(r"\W{0,2}([A-Za-z])(?:\W{0,2}|[).:\]][ \t]\S[^\n]{0,200})")
_CHOSEN = re.compile(r"\b(?i:answer|choice|option)(?i: is)?:? ?\W{0,2}([A-H])\b(?!['’ ]\w|-)")
_LABEL_WORDS = 3  # a longer answer is no label
_OPENING_WORDS = 8  # words looked at before a text is folded
_QUESTION_NUMBER = re.compile(
    r"\bhow (?:many|much|old|far|long|tall|fast|often)\b|\bwhat (?:is|was|are)\b[^.?]{0,60}\b(?:number|total|sum|average|"
    r"cost|price|"
    r"percent\w*|amount|profit|area|speed|distance|age|value|difference|ratio)\b|\bcalculate\b|\bfind the\b",
    re.IGNORECASE,
)


def final_answer(response: str, numeric: bool) -> str | None:
    """Return what a response settles on; None when unclear.

    `numeric`: the number after "answer" or the last one; else the letter chosen, or a short label.
    """
    text = response.strip()
    if numeric:
        said = _FINAL.findall(text) or _LAST_NUMBER.findall(text[-400:])
        if not said:
            return None
        number = said[-1].replace(",", "").lstrip("$€£")
        return f"{float(number):g}" if len(number) < 16 else None
    if chosen := _CHOICE.fullmatch(text) or _CHOSEN.search(text):
        return chosen.group(1).lower()
    if sum(any(map(str.isalnum, word)) for word in text.split(None, _OPENING_WORDS)[:_OPENING_WORDS]) > _LABEL_WORDS:
        return None     # as most texts are; of a word with a letter or digit folding leaves one word at least
    label = fold(text).strip(" .!\"'*`")
    return label if label and len(label.split()) <= _LABEL_WORDS else None


def _asked(rows: pa.Table, past: Past) -> np.ndarray:
    """Return (n,) uint64: a hash of the question of each row, case and white space aside; that of earlier rows as it was.

    Questions are compared by 64-bit hashes, as rows are between runs.
    """
    earlier, old = past.earlier, past.load()
    part = some(rows, np.flatnonzero(earlier < 0))
    new = joined([_folded(part[c]) for c in ("instruction", "input")], part.num_rows)
    return carried(old["key"] if old else None, earlier, new)


def _asked_again(key: np.ndarray, past: Past, least: int) -> list[np.ndarray]:
    """Return the rows of each question that `least` rows or more ask, first come first, but for those that are settled.

    Settled is a question that the very same rows asked before, in this order, without a flag.
    """
    at = np.arange(len(key))
    old = past.load()
    if old is not None:
        at = holding(key, np.concatenate([key[_moved(past.earlier)], _unsettled(old, past.earlier)]))
    order = at[np.argsort(key[at], kind="stable")]
    edge = np.r_[np.flatnonzero(np.r_[True, key[order][1:] != key[order][:-1]][: len(order)]), len(order)]
    many = [order[lo:hi] for lo, hi in zip(edge[:-1].tolist(), edge[1:].tolist()) if hi - lo >= least]
    return sorted(many, key=lambda rows: int(rows[0]))


def _moved(earlier: np.ndarray) -> np.ndarray:
    """Return the positions of rows that are new or stand behind one that stood behind them."""
    return np.flatnonzero((earlier < 0) | (earlier < np.maximum.accumulate(earlier)))


def _unsettled(old: dict[str, np.ndarray], earlier: np.ndarray) -> np.ndarray:
    """Return the hashes of the earlier questions that have a flag, or a row of which is gone."""
    open_ = ~old["quiet"]
    if (earlier >= 0).sum() < len(open_):
        open_ |= places(earlier, len(open_)) < 0
    return old["key"][open_]


def _keep_questions(past: Past, key: np.ndarray, loud: list[np.ndarray]) -> None:
    """Keep the questions and which rows ask one that has no flag; `loud`: the rows of those that have."""
    quiet = np.ones(len(key), np.bool_)
    for at in loud:
        quiet[at] = False
    past.save({"key": key, "quiet": quiet})


def _folded(column: pa.ChunkedArray) -> np.ndarray:
    """Return (n,) uint64: a hash of each text once folded; of the same texts in a block one is folded."""
    out = np.empty(len(column), np.uint64)
    for k in range(0, len(column), _IN_MEMORY):
        codes = pc.fill_null(column.slice(k, _IN_MEMORY), "").combine_chunks().dictionary_encode()
        known = hashes(pa.array([fold(x) for x in codes.dictionary.to_pylist()], pa.string()))
        out[k : k + len(codes)] = known[codes.indices.to_numpy()]
    return out


@check("response.majority", reads=("instruction", "input", "response"), severity="info", action="none", scope="dataset")
def majority(rows: pa.Table, past: Past, *, min_answers: Several = 3, share: Share = 0.6) -> pa.Table:
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
    key = _asked(rows, past)
    questions, loud = _asked_again(key, past, min_answers), []
    every = np.concatenate([np.zeros(0, np.int64), *questions])
    several = taken(rows.select(["instruction", "response"]), every)
    known = dict(zip(every.tolist(), zip(texts(several, "instruction"), texts(several, "response"))))
    for asked in questions:
        at = asked.tolist()
        instruction = known[at[0]][0]
        numeric = bool(_QUESTION_NUMBER.search(instruction))
        said = {i: a for i in at if (a := final_answer(known[i][1], numeric)) is not None}
        if len(said) < min_answers:
            continue
        top, votes = Counter(said.values()).most_common(1)[0]
        if votes < 2 or votes < share * len(said):
            continue
        agree = [i for i, a in said.items() if a == top]
        if len(agree) < len(said):
            loud.append(asked)
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
    if worn(past):
        _keep_questions(past, key, loud)
    return found.table()
