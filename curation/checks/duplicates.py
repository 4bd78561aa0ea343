"""Checks that compare rows with each other: exact and near duplicates, conflicting answers, boilerplate.

A pair is judged field by field. "Same passage, other task" and "same template, other slot" look alike as whole
prompts (on labelled Alpaca pairs whole-prompt Jaccard has AUC 0.42 for "duplicate", below chance) and are no
duplicates, so instruction, input, response and what went before in the conversation each have a say of their own.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import CurationError
from ..text import fold, words
from .base import check, flags

#: Rows of a cluster named in `related` of one flag; a hundred thousand copies do not name each other.
RELATED = 50
#: A response of fewer words (a label, a number, "yes") says nothing about which prompt it answers.
TELLING = 8
#: A response given to more rows than this does not tell prompts apart either, however long it is.
SHARED = 20
#: Times that rows left over in a cluster are compared with its kept rows; what is left then is kept.
ROUNDS = 8
#: Prompts below this many shingles are too short for "one contains the other" to mean anything.
CONTAINED = 10

#: Words that do not tell one prompt from another: function words and polite filling.
STOP = frozenset(re.split(r"\s+", """
a about an and any are as at be been being but by can could did do does for from give had has have he help her here his
how i if in into is it its just kindly let me my of on one or our please question she should so some such task tell than
thank thanks that the their them then there these they this those to us was we were what when where which who whom whose
why will with would you your""".strip()))
#: Asking for something of one's own making: any two answers may be right.
MAKING = re.compile(
    r"\b(write|compose|create|generate|invent|imagine|brainstorm|come up|design|draft|story|poem|song|jokes?|slogan|"
    r"ideas?|random|opinion|rewrite|rephrase|paraphrase|translate|edit|favou?rite|recommend|suggest\w*)\b")
#: Asking for some out of many: two different short answers may both be right.
SOME = re.compile(
    r"\bexamples?\b|\b(?:name|list|give|provide|tell)(?: me)? (?:an?|one|two|three|four|five|six|ten|\d+|some|any|"
    r"several)\b")
MARKED = re.compile(r"(?:####|answer\s*(?:is|:|=)|\bans\s*[:=]|=)\s*[$€£]?\s*(-?\d[\d,]*(?:\.\d+)?)", re.IGNORECASE)
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?![\w])")


# ------------------------------------------------------------------ shared ground
def _context(rows: pa.Table) -> pa.Array:
    """Return what came before the last exchange: the system text and earlier turns; "" for a plain pair."""
    system = pc.fill_null(rows["system"], "").combine_chunks()
    turns = pc.fill_null(pc.list_value_length(rows["messages"]), 0).to_numpy()
    plain = 2 + (np.asarray(pc.utf8_length(system)) > 0)
    longer = np.flatnonzero(turns > plain)
    if not len(longer):
        return system
    out = system.to_pylist()
    for i, messages in zip(longer.tolist(), rows["messages"].take(pa.array(longer)).to_pylist(), strict=True):
        out[i] = "\n".join(f"{m['role']}: {m['content']}" for m in messages[:-2])
    return pa.array(out, pa.string())


def _columns(rows: pa.Table) -> list[pa.Array]:
    """Return (context, instruction, input, response) as Arrow text."""
    fields = [pc.fill_null(rows[c], "").combine_chunks() for c in ("instruction", "input", "response")]
    return [_context(rows), *fields]


class _Prompts:
    """The content words of prompts, folded once a row."""

    def __init__(self, columns: Sequence[pa.Array]) -> None:
        self.columns = columns
        self.prompt: dict[int, frozenset[str]] = {}
        self.answer: dict[int, list[str]] = {}
        self.asks: dict[int, tuple[str, bool, bool]] = {}
        self.ends: dict[int, float | None] = {}
        self.stems: dict[int, tuple[frozenset[str], frozenset[str]]] = {}

    def content(self, row: int) -> frozenset[str]:
        """Words of everything before the response that carry meaning, numbers included."""
        if row not in self.prompt:
            text = "\n".join(c[row].as_py() for c in self.columns[:3])
            self.prompt[row] = frozenset(w for w in words(fold(text)) if w not in STOP)
        return self.prompt[row]

    def response(self, row: int) -> list[str]:
        if row not in self.answer:
            self.answer[row] = words(fold(self.columns[3][row].as_py()))
        return self.answer[row]

    def asked(self, row: int) -> tuple[str, bool, bool]:
        """Return (words of the prompt, asks for something of one's own making, asks for some of many)."""
        if row not in self.asks:
            prompt = fold("\n".join(c[row].as_py() for c in self.columns[:3]))
            self.asks[row] = (f" {' '.join(words(prompt))} ", bool(MAKING.search(prompt)), bool(SOME.search(prompt)))
        return self.asks[row]

    def value(self, row: int) -> float | None:
        """Return the number that the response ends in."""
        if row not in self.ends:
            self.ends[row] = _value(self.columns[3][row].as_py())
        return self.ends[row]

    def topics(self, row: int) -> tuple[frozenset[str], frozenset[str]]:
        """Return the stems (first five letters) of the content words of the prompt, and of the response."""
        if row not in self.stems:
            self.stems[row] = (frozenset(w[:5] for w in self.content(row)),
                               frozenset(w[:5] for w in self.response(row) if w not in STOP))
        return self.stems[row]

    def differ(self, one: int, two: int) -> tuple[set[str], set[str]]:
        """Return the content words that only one of two prompts has, slips of spelling not counted."""
        a, b = set(self.content(one) - self.content(two)), set(self.content(two) - self.content(one))
        for x in sorted(a):
            slip = next((y for y in sorted(b) if _slip(x, y)), None)
            if slip is not None:
                a.discard(x)
                b.discard(slip)
        return a, b


def _slip(a: str, b: str) -> bool:
    """Whether two words differ as a slip or a plural does, not as two values of a slot do."""
    if abs(len(a) - len(b)) > 1 or min(len(a), len(b)) < 3 or not (a.isalpha() and b.isalpha()):
        return False
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() >= 0.8


def _numbers(rows: pa.Table) -> np.ndarray:
    return rows["row"].to_numpy()


def clusters(flags: pa.Table) -> list[tuple[int, list[int], list[float]]]:
    """Return [(kept row, members, scores)] of dup.exact and dup.near flags: members without the kept row, ascending.

    `scores[i]` is the similarity of members[i] to the row its flag names first (1.0 when it has no flag of its own).
    Clusters that share a row are one, so a split by cluster never puts two versions of a row on two sides. The kept
    row is the first of the cluster without a flag; any other ranking may be applied to kept row + members.
    """
    from ..sketch import components

    ours = np.flatnonzero(np.asarray(pc.is_in(      # null: straight from the check, before the engine has named it
        flags["check"].cast(pa.string()), value_set=pa.array(["dup.exact", "dup.near", None]))))
    flags = flags.take(pa.array(ours))
    row, related = flags["row"].to_numpy(), flags["related"].to_pylist()
    score: dict[int, float] = {}
    for r, s in zip(row.tolist(), flags["score"].to_pylist(), strict=True):
        score[r] = max(s, score.get(r, 0.0))
    left = np.repeat(row, [len(x) for x in related])
    right = np.array([y for x in related for y in x], np.int64)
    if not len(left):
        return []
    root = components(left, right, int(max(left.max(), right.max())) + 1)
    groups: dict[int, list[int]] = defaultdict(list)
    for r in np.unique(np.concatenate([left, right])).tolist():
        groups[int(root[r])].append(r)
    out = []
    for members in groups.values():
        kept = next((m for m in members if m not in score), members[0])
        others = [m for m in members if m != kept]
        out.append((kept, others, [score.get(m, 1.0) for m in others]))
    return out


# ------------------------------------------------------------------ dup.exact
@check("dup.exact", reads=("messages", "system", "instruction", "input", "response"), severity="error", action="drop",
       scope="dataset")
def exact(rows: pa.Table) -> pa.Table:
    """The row repeats an earlier row.

    Instruction, input, response and the turns before them are equal once case, white space and Unicode form are
    ignored. The first is kept; `related` names it first, then other copies (50 at most).

    Why: a row seen twice is learned twice as hard, and may end up on both sides of a split.
    Misses: any changed word (see dup.near).
    False positives: code or labels in which case or white space carries the meaning.
    """
    from ..sketch import distinct, same_shingles

    columns = _columns(rows)
    copy, of = same_shingles(columns)
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i in distinct(np.concatenate([copy, of])).tolist():
        groups[tuple(fold(c[i].as_py()) for c in columns)].append(i)
    number = _numbers(rows).tolist()
    at, related, message = [], [], []
    for members in groups.values():
        for k, i in enumerate(members[1:], 1):
            others = [number[members[0]], *(number[m] for j, m in enumerate(members[1:RELATED + 1], 1) if j != k)]
            at.append(i)
            related.append(others[:RELATED])
            more = f" ({len(members)} copies in all)" if len(members) > 2 else ""
            message.append(f"says the same as row {number[members[0]]}, which is kept{more}")
    order = np.argsort(at, kind="stable")
    return flags(rows, {"at": [at[k] for k in order], "message": [message[k] for k in order],
                        "related": [related[k] for k in order]})


# ------------------------------------------------------------------ dup.near
@check("dup.near", reads=("messages", "system", "instruction", "input", "response"), severity="warning", action="drop",
       scope="dataset")
def near(
    rows: pa.Table, *, threshold: float = 0.8, floor: float = 0.0, ngram: int = 5, unit: str = "char",
    num_perm: int = 128,
) -> pa.Table:
    """The row says nearly what another row says: same task, same input, same answer.

    Two rows are a pair when the turns before, the instruction, the input and the response are each similar: Jaccard
    similarity of their `unit` n-grams >= threshold, computed exactly for every candidate, two empty fields counting as
    equal. The score is the smallest of the four. Where the response is telling (8 words or more, given to at most 20
    rows) an instruction may also contain the other ("Please ...", "... Explain briefly."): then the share of the
    smaller one that is contained counts. Two prompts that differ in a content word or a number are two prompts, unless
    the response is telling and does not follow that word: so one template with two slots is not flagged.

    The first row that others resemble is kept, and a row is flagged only when it resembles a row that is kept.
    `related` names the kept row first, then others of the cluster (50 at most). With a `floor` below the threshold,
    pairs from there on are given too, as severity info, so that the cut can be moved either way without a new run.

    Why: near copies teach their wording, crowd out other rows, and leak across a split.
    Misses: paraphrases (see dup.semantic).
    False positives: forms in which one short, uncommon value changes and the answer does not.
    Source: Broder 1997 (MinHash); bands are chosen for a recall of 0.999 at the threshold.
    """
    low = _floor(threshold, floor)
    if rows.num_rows == 0:
        return flags(rows, {"at": []})
    columns = _columns(rows)
    prompts = _Prompts(columns)
    left, right, score = _near_pairs(columns, prompts, threshold, low, ngram, unit, num_perm)
    copy = _exact_copies(columns, left, right, score)       # dup.exact speaks of these
    left, right, score = _with_leaders(columns, prompts, left, right, score, copy, low, ngram, unit)
    kept, member, value = _leaders(left, right, score, copy, rows.num_rows)
    return _near_flags(rows, left, right, kept, member, value, copy, threshold)


def _floor(threshold: float, floor: float) -> float:
    if not 0.0 < threshold <= 1.0:
        raise CurationError(f"dup.near: threshold {threshold} is not a similarity",
                            "set it above 0 and at most 1, such as 0.8")
    if not 0.0 <= floor <= threshold:
        raise CurationError(f"dup.near: floor {floor} is not between 0 and the threshold {threshold}",
                            "leave it at 0 to keep pairs from the threshold on, or set it below the threshold")
    return floor or threshold


def _near_pairs(
    columns: list[pa.Array], prompts: _Prompts, threshold: float, floor: float, ngram: int, unit: str, num_perm: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (left, right, score) of pairs that hold under the rules of dup.near."""
    from ..sketch import near_pairs

    strict = near_pairs(columns, threshold=threshold, floor=floor, ngram=ngram, unit=unit, num_perm=num_perm)
    a, b, value = _contained(columns, threshold, floor, ngram, unit, num_perm)
    left, right = np.concatenate([strict.left, a]), np.concatenate([strict.right, b])
    score = np.concatenate([strict.score, value])
    order = np.lexsort((-score, right, left))       # of a pair found both ways, the better score
    left, right, score = left[order], right[order], score[order]
    fresh = np.ones(len(left), np.bool_)
    fresh[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    held = fresh & ~_other_slots(columns, prompts, left, right, fresh)
    return left[held], right[held], score[held]


def _contained(
    columns: list[pa.Array], threshold: float, floor: float, ngram: int, unit: str, num_perm: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (left, right, score) of pairs with the same telling response, one instruction holding the other."""
    from ..sketch import jaccard, near_pairs, shingle_sets, texts_of

    long_enough = pc.greater_equal(pc.count_substring_regex(columns[3], r"\S+"), TELLING)
    rows = np.flatnonzero(np.asarray(long_enough))
    picked = pa.array(rows)
    others = [columns[0].take(picked), columns[2].take(picked), columns[3].take(picked)]
    found = near_pairs(others, threshold=threshold, floor=floor, ngram=ngram, unit=unit, num_perm=num_perm)
    left, right, score = _every_pair(found.left, found.right, found.score)
    used, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    one, two = ends[:len(left)], ends[len(left):]
    sets = shingle_sets(texts_of([columns[1]]), rows[used], ngram=ngram, unit=unit)
    alike, _ = jaccard(sets, one, two)
    size = sets.count[0].astype(np.float64)
    small = np.minimum(size[one], size[two])
    share = alike / (1 + alike) * (size[one] + size[two]) / np.maximum(small, 1)
    held = (small >= CONTAINED) & (share >= floor)
    return rows[left[held]], rows[right[held]], np.minimum(score, share)[held]


def _every_pair(
    left: np.ndarray, right: np.ndarray, score: np.ndarray, *, keep_big: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs with each star of equal rows made whole; stars of more than SHARED rows are left out.

    With `keep_big` these stay as they are: every row against the first.
    """
    equal = score == 1.0
    stars: dict[int, list[int]] = defaultdict(list)
    for a, b in zip(left[equal].tolist(), right[equal].tolist(), strict=True):
        stars[a].append(b)
    common = np.array([a for a, b in stars.items() if len(b) >= SHARED and not keep_big], np.int64)
    held = ~(np.isin(left, common) | np.isin(right, common))
    more = [(x, y) for a, b in stars.items() if len(b) < SHARED for k, x in enumerate(b) for y in b[k + 1:]]
    extra = np.array(more, np.int64).reshape(-1, 2)
    return (np.concatenate([left[held], extra[:, 0]]), np.concatenate([right[held], extra[:, 1]]),
            np.concatenate([score[held], np.ones(len(extra))]))


def _other_slots(
    columns: list[pa.Array], prompts: _Prompts, left: np.ndarray, right: np.ndarray, ask: np.ndarray,
) -> np.ndarray:
    """Return the mask of pairs in `ask` that are one template with two values; equal prompts never are."""
    from ..sketch import same_shingles

    prompt = np.arange(len(columns[0]))
    copy, of = same_shingles(columns[:3])
    prompt[copy] = of
    out = np.zeros(len(left), np.bool_)
    for k in np.flatnonzero(ask & (prompt[left] != prompt[right])).tolist():
        out[k] = _other_slot(prompts, int(left[k]), int(right[k]))
    return out


def _other_slot(prompts: _Prompts, one: int, two: int) -> bool:
    """Whether two similar rows are one template with two values rather than one row twice."""
    a, b = prompts.differ(one, two)
    if not a and not b:
        return False
    answers = prompts.response(one), prompts.response(two)
    if min(map(len, answers)) < TELLING:
        return True
    if any(c.isdigit() for w in a | b for c in w):
        return True
    if not (a and b):       # words added, none exchanged
        return False
    only_one, only_two = set(answers[0]) - set(answers[1]), set(answers[1]) - set(answers[0])
    return bool(only_one & a) or bool(only_two & b)


def _exact_copies(columns: list[pa.Array], left: np.ndarray, right: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the positions of rows that dup.exact flags, among the ends of the pairs."""
    from ..sketch import distinct

    out = set()
    folded: dict[tuple[str, ...], int] = {}
    for i in distinct(np.concatenate([left[score == 1.0], right[score == 1.0]])).tolist():
        key = tuple(fold(c[i].as_py()) for c in columns)
        if folded.setdefault(key, i) != i:
            out.add(i)
    return np.array(sorted(out), np.int64)


def _with_leaders(
    columns: list[pa.Array], prompts: _Prompts, left: np.ndarray, right: np.ndarray, score: np.ndarray,
    copy: np.ndarray, floor: float, ngram: int, unit: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs with those added that big clusters leave out: a row against the kept row of what it resembles.

    In a big cluster not every pair is listed, so a row may be listed with flagged rows only, though it resembles the
    kept one too. Each round compares what is left of a cluster with its first row and takes away what resembles it.
    """
    from ..sketch import components, distinct, similarity

    n = len(columns[0])
    gone = np.zeros(n, np.bool_)
    gone[copy] = True
    for _ in range(ROUNDS):
        open_ = ~gone[left] & ~gone[right]
        if not open_.any():
            break
        root = components(left[open_], right[open_], n)
        key = left * n + right
        row = distinct(np.concatenate([left[open_], right[open_]]))
        row = row[root[row] != row]
        head = root[row]
        listed = np.isin(head * n + row, key)
        one, two = head[~listed], row[~listed]
        value, _ = similarity(columns, one, two, ngram=ngram, unit=unit, floor=floor)
        held = value >= floor
        held &= ~_other_slots(columns, prompts, one, two, held)
        left, right = np.concatenate([left, one[held]]), np.concatenate([right, two[held]])
        score = np.concatenate([score, value[held]])
        gone[head] = True
        gone[row[listed]] = True
        gone[two[held]] = True
    return left, right, score


def _leaders(
    left: np.ndarray, right: np.ndarray, score: np.ndarray, copy: np.ndarray, n: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (kept, member, score): rows in order; each is a member of the kept row it resembles most, or is kept."""
    best = np.full(n, -1, np.int64)
    value = np.zeros(n)
    order = np.lexsort((-score, right))
    gone = np.zeros(n, np.bool_)
    gone[copy] = True
    for a, b, s in zip(left[order].tolist(), right[order].tolist(), score[order].tolist(), strict=True):
        if best[b] < 0 and best[a] < 0 and not gone[a] and not gone[b]:
            best[b], value[b] = a, s
    member = np.flatnonzero(best >= 0)
    return best[member], member, value[member]


def _near_flags(
    rows: pa.Table, left: np.ndarray, right: np.ndarray, kept: np.ndarray, member: np.ndarray, value: np.ndarray,
    copy: np.ndarray, threshold: float,
) -> pa.Table:
    from ..sketch import components, distinct

    number = _numbers(rows).tolist()
    root = components(left, right, rows.num_rows)
    cluster: dict[int, list[int]] = defaultdict(list)
    for i in distinct(np.concatenate([left, right])).tolist():
        if len(cluster[int(root[i])]) <= RELATED:
            cluster[int(root[i])].append(i)
    related, message, severity = [], [], []
    for k, m, s in zip(kept.tolist(), member.tolist(), value.tolist(), strict=True):
        related.append([number[k], *(number[i] for i in cluster[int(root[m])] if i not in (k, m))][:RELATED])
        near_enough = s >= threshold
        severity.append(None if near_enough else "info")
        message.append(f"near-duplicate ({s:.2f}) of row {number[k]}, which is kept" if near_enough else
                       f"resembles row {number[k]} ({s:.2f}, below the threshold {threshold:g})")
    return flags(rows, {"at": member.tolist(), "score": value.tolist(), "message": message, "related": related,
                        "severity": severity})


# ------------------------------------------------------------------ dup.conflict
@check("dup.conflict", reads=("messages", "system", "instruction", "input", "response"), severity="error",
       action="review", scope="dataset")
def conflict(
    rows: pa.Table, *, refusal: pa.Array, threshold: float = 0.9, overlap: float = 0.15, num_perm: int = 128,
) -> pa.Table:
    """The same prompt is answered in two ways of which only one can be right.

    Prompts are the same when turns before, instruction and input have Jaccard >= `threshold` (character 5-grams) and
    no content word differs. Answers conflict when one refuses and the other complies; when both are labels that the
    data uses again and again, or that the prompt offers, and differ; when both end in a number and the numbers
    differ; or when the prompt asks for one answer, they share at most `overlap` of their content words, and only one
    of them speaks of what was asked. A prompt that asks for something of one's own making (a poem, an example, ideas)
    is no closed task: there only the refusal counts; one that asks for some of many is half closed: there neither
    labels nor numbers count. Every row of such a pair is flagged; `related` names the others.

    Why: the model learns to answer by a coin flip.
    Misses: two long answers that both keep to the topic and contradict each other in detail.
    False positives: questions with several right short answers that the data repeats.
    """
    if not 0.0 < threshold <= 1.0:
        raise CurationError(f"dup.conflict: threshold {threshold} is not a similarity",
                            "set it above 0 and at most 1, such as 0.9")
    from ..sketch import near_pairs

    columns = _columns(rows)
    found = near_pairs(columns[:3], threshold=threshold, unit="char", num_perm=num_perm)
    left, right, score = _every_pair(found.left, found.right, found.score, keep_big=True)
    prompts = _Prompts(columns)
    labels = _labels(columns[3])
    refuses = np.asarray(pc.equal(refusal.cast(pa.string()), "refuse").fill_null(False))
    against: dict[int, list[tuple[int, float, str]]] = defaultdict(list)
    for a, b, s in sorted(zip(left.tolist(), right.tolist(), score.tolist(), strict=True)):
        if s < 1.0 and any(prompts.differ(a, b)):
            continue
        for one, two, why in _disagree(prompts, a, b, refuses, labels, overlap):
            against[one].append((two, s, why))
    number = _numbers(rows).tolist()
    at = sorted(against)
    return flags(rows, {
        "at": at,
        "score": [max(s for _, s, _ in against[i]) for i in at],
        "field": "response",
        "message": [f"answers the prompt of row {number[against[i][0][0]]} differently: {against[i][0][2]}" for i in at],
        "related": [[number[j] for j, _, _ in against[i]][:RELATED] for i in at],
    })


def _labels(responses: pa.Array) -> frozenset[str]:
    """Return the short answers (at most 4 words) that at least 5 rows give: the data's own labels."""
    short = responses.filter(pc.less_equal(pc.utf8_length(responses), 40)).to_pylist()
    counts = Counter(" ".join(words(fold(x))) for x in short)
    return frozenset(x for x, n in counts.items() if n >= 5 and 1 <= len(x.split()) <= 4)


def _disagree(
    prompts: _Prompts, a: int, b: int, refuses: np.ndarray, labels: frozenset[str], overlap: float,
) -> list[tuple[int, int, str]]:
    """Return [(row, other row, why)] for both rows when their answers to one prompt conflict, else []."""
    if refuses[a] != refuses[b]:
        one, two = "a refusal here, an answer there", "an answer here, a refusal there"
        return [(a, b, one if refuses[a] else two), (b, a, two if refuses[a] else one)]
    offered, making, some = prompts.asked(a)
    if refuses[a] or making:
        return []
    first, second = prompts.response(a), prompts.response(b)
    one, two = " ".join(first), " ".join(second)
    if not one or not two or one == two:
        return []
    if some:
        return _unrelated(prompts, a, b, overlap)
    if max(len(first), len(second)) <= 4:
        closed = all(x in labels or f" {x} " in offered for x in (one, two))
        if closed and one not in two and two not in one:
            return [(a, b, f"{one!r} here, {two!r} there"), (b, a, f"{two!r} here, {one!r} there")]
    x, y = prompts.value(a), prompts.value(b)
    if x is not None and y is not None:
        return [] if x == y else [(a, b, f"{x:g} here, {y:g} there"), (b, a, f"{y:g} here, {x:g} there")]
    return _unrelated(prompts, a, b, overlap)


def _value(response: str) -> float | None:
    """Return the number a response ends in: after a mark (####, answer:, =), or the only one of a short response."""
    marked = MARKED.findall(response)
    if not marked and len(response) <= 60:
        marked = NUMBER.findall(response)
        if len(marked) != 1:
            return None
    return float(marked[-1].replace(",", "")) if marked else None


def _unrelated(prompts: _Prompts, a: int, b: int, overlap: float) -> list[tuple[int, int, str]]:
    """Return the conflict of two answers with nothing in common, of which only one speaks of what was asked."""
    (asked, one), (_, two) = prompts.topics(a), prompts.topics(b)
    if min(len(one), len(two)) < 4 or len(one & two) > overlap * min(len(one), len(two)):
        return []
    on_topic = bool(one & asked), bool(two & asked)
    if on_topic[0] == on_topic[1]:
        return []
    here, there = "the answers have nothing in common, and this one is off the question", \
        "the answers have nothing in common, and that one is off the question"
    return [(a, b, there if on_topic[0] else here), (b, a, here if on_topic[0] else there)]


# ------------------------------------------------------------------ dup.boilerplate
@check("dup.boilerplate", reads=("messages", "system", "instruction", "input", "response"), severity="info",
       action="review", scope="dataset")
def boilerplate(rows: pa.Table, *, refusal: pa.Array, min_rows: int = 3, min_words: int = TELLING) -> pa.Table:
    """Different prompts get the very same answer.

    Flagged are responses of at least `min_words` words that answer `min_rows` or more different prompts, case and
    white space aside. Refusals are left out: one wording for all of them may be what the spec wants.

    Why: the model learns an answer that goes with anything.
    Misses: the same answer with a word changed. False positives: questions that do have the same answer.
    """
    if min_rows < 2 or min_words < 1:
        raise CurationError(f"dup.boilerplate: min_rows {min_rows}, min_words {min_words} are out of range",
                            "use min_rows of 2 or more and min_words of 1 or more")
    from ..sketch import distinct, same_shingles

    columns = _columns(rows)
    copy, of = same_shingles(columns[3:])
    refuses = np.asarray(pc.equal(refusal.cast(pa.string()), "refuse").fill_null(False))
    groups: dict[str, list[int]] = defaultdict(list)
    for i in distinct(np.concatenate([copy, of])).tolist():
        text = fold(columns[3][i].as_py())
        if not refuses[i] and len(text.split()) >= min_words:
            groups[text].append(i)
    number = _numbers(rows).tolist()
    found = []
    for members in groups.values():
        asked = len({tuple(fold(c[i].as_py()) for c in columns[:3]) for i in members})
        if asked >= min_rows:
            first = members[: RELATED + 1]
            found += [(i, f"gives the answer that {asked} different prompts get", [number[j] for j in first if j != i])
                      for i in members]
    found.sort()
    return flags(rows, {"at": [i for i, _, _ in found], "field": "response", "message": [m for _, m, _ in found],
                        "related": [r[:RELATED] for _, _, r in found]})
