"""Checks that compare rows with each other: exact and near duplicates, conflicting answers, boilerplate.

A pair is judged field by field. "Same passage, other task" and "same template, other slot" look alike as whole
prompts (on labelled Alpaca pairs whole-prompt Jaccard has AUC 0.42 for "duplicate", below chance) and are no
duplicates, so instruction, input, response and what went before in the conversation each have a say of their own.

Everything is done in columns. What was found out about a row or a pair of rows depends on these rows only and is kept
for the next run: when rows are added behind, only they are sketched, looked up and judged, with the result of a full
run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import Field

from ..contents import RENEW, taken
from ..options import Count, Ngram, Permutations, Several, Share, Similarity
from ..remembered import remembered
from ..text import fold, words
from .base import Past, check, flags

if TYPE_CHECKING:
    from ..sketch import Search
    from ..wording import Words

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

#: What rows are compared by; context: system text and earlier turns.
Part = Literal["context", "instruction", "input", "response"]
FIELDS: tuple[Part, ...] = get_args(Part)
#: Asking for something of one's own making: any two answers may be right.
MAKING = (
    r"\b(write|compose|create|generate|invent|imagine|brainstorm|come\s+up|design|draft|story|poem|song|jokes?|slogan|"
    r"ideas?|random|opinion|rewrite|rephrase|paraphrase|translate|edit|favou?rite|recommend|suggest\w*)\b")
#: Asking for some out of many: two different short answers may both be right.
SOME = (
    r"\bexamples?\b|\b(?:name|list|give|provide|tell)(?:\s+me)?\s+(?:an?|one|two|three|four|five|six|ten|\d+|some|any|"
    r"several)\b")
MARKED = re.compile(r"(?:####|answer\s*(?:is|:|=)|\bans\s*[:=]|=)\s*[$€£]?\s*(-?\d[\d,]*(?:\.\d+)?)", re.IGNORECASE)
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?![\w])")
#: What two answers have against each other; PLAIN: short answers, which conflict when they are labels.
REFUSAL, NUMBERS, OFF_LEFT, OFF_RIGHT, PLAIN = 1, 2, 3, 4, 16
#: What is told of a pair at one row; the neighbour of the same two at the other.
SAID = ("a refusal here, an answer there", "an answer here, a refusal there",
        "the answers have nothing in common, and this one is off the question",
        "the answers have nothing in common, and that one is off the question")
#: Characters of a response that may be a label, at most.
LABEL = 40
Columns = Sequence[pa.Array | pa.ChunkedArray]
PairArrays = tuple[np.ndarray, np.ndarray, np.ndarray]      # left, right, score


# ------------------------------------------------------------------ shared ground
def _context(rows: pa.Table) -> pa.ChunkedArray:
    """Return what came before the last exchange: the system text and earlier turns; "" for a plain pair."""
    system = pc.fill_null(rows["system"], "")
    turns = pc.fill_null(pc.list_value_length(rows["messages"]), 0).to_numpy()
    longer = turns > 2 + (np.asarray(pc.binary_length(system)) > 0)
    if not longer.any():
        return system
    talks = rows["messages"].filter(pa.array(longer)).to_pylist()
    before = ["\n".join(f"{m['role']}: {m['content']}" for m in messages[:-2]) for messages in talks]
    return pc.replace_with_mask(system, pa.array(longer), pa.array(before, system.type))


def _columns(rows: pa.Table) -> list[pa.ChunkedArray]:
    """Return (context, instruction, input, response) as Arrow text."""
    context = remembered("context", (rows["messages"], rows["system"]), lambda: _context(rows))
    return [context, *(pc.fill_null(rows[c], "") for c in ("instruction", "input", "response"))]


class _Memory:
    """What an earlier run found out, as far as it holds for the present rows, and what this one adds.

    It holds when the earlier rows are the first of the present ones, in order: new rows were added behind.
    """

    def __init__(self, past: Past, n: int) -> None:
        self.past, self.n, self.known = past, n, 0
        self.new: dict[str, np.ndarray] = {"rows": np.array([n])}
        self.old = past.load() or {}
        if self.old:
            known = int(self.old["rows"][0])
            earlier = past.earlier
            same = known <= n and bool((earlier[:known] == np.arange(known)).all() and (earlier[known:] == -1).all())
            self.known, self.old = (known, self.old) if same else (0, {})

    @property
    def keeps(self) -> bool:
        """Whether what is known now is saved for the next run: unless nearly all of it is saved already."""
        return not self.old or self.n - self.known > RENEW * self.known

    def copies(self, name: str, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
        """Return (copy, of) of `sketch.copies` by `sketch.identities` of the rows."""
        from ..sketch import copies, copies_behind, identities

        fresh = identities([c.slice(self.known) for c in columns])
        if self.old:
            _, copy, of = copies_behind(self.old[name], self.old[name + ".copy"], self.old[name + ".of"], fresh)
        else:
            _, copy, of = copies(fresh)
        if self.keeps:
            self.new[name] = np.concatenate([self.old[name], fresh]) if self.old else fresh
            self.new[name + ".copy"], self.new[name + ".of"] = copy, of
        return copy, of

    def found(self, name: str, columns: Columns, *, among: np.ndarray | None = None, **options: Any) -> PairArrays:
        """Return the pairs of `sketch.near_pairs`. `among`: mask of the rows from `known` on that take part."""
        from ..sketch import Found, find, pairs_of, search

        s = search(**options)
        before = Found.of(self.old, name + ".") if self.old else None
        found = find(columns, s, before, among=among)
        if self.keeps:
            self.new.update(found.arrays(name + "."))
        pairs = pairs_of(columns, found, s)
        return pairs.left, pairs.right, pairs.score

    def judged(self, name: str, left: np.ndarray, right: np.ndarray,
               judge: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Return judge(left, right), asked only for pairs that were not judged under this name before."""
        return self._known(name, _packed(left, right), lambda fresh: judge(left[fresh], right[fresh]))

    def told(self, name: str, rows: np.ndarray, tell: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return tell(rows), asked only for rows of which it was not asked under this name before; `rows`: each once."""
        return self._known(name, rows.astype(np.uint64), lambda fresh: tell(rows[fresh]))

    def _known(self, name: str, wanted: np.ndarray, ask: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return what is known of each of `wanted`; `ask` is given a mask of those that are new."""
        keys, values = (self.new.get(x, self.old.get(x)) for x in (name, name + "="))
        if keys is None or values is None or not len(keys):
            out = ask(np.ones(len(wanted), np.bool_))
            self.new[name], first = np.unique(wanted, return_index=True)
            self.new[name + "="] = out[first]
            return out
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        out, fresh = values[at], keys[at] != wanted
        if fresh.any():
            out[fresh] = ask(fresh)
            more, first = np.unique(wanted[fresh], return_index=True)
            place = np.searchsorted(keys, more)
            keys, values = np.insert(keys, place, more), np.insert(values, place, out[fresh][first], axis=0)
        self.new[name], self.new[name + "="] = keys, values
        return out

    def keep(self) -> None:
        """Save for the next run, unless nearly all of it is saved already."""
        if self.keeps:
            self.past.save(self.new)


def _packed(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return pairs of numbers below 2^32 as one number each (uint64), in the order of `one`, then `two`."""
    return (one.astype(np.uint64) << np.uint64(32)) | two.astype(np.uint64)


def _ends(n: int, *rows: np.ndarray) -> np.ndarray:
    """Return the distinct of some rows out of n, ascending."""
    touched = np.zeros(n, np.bool_)
    for some in rows:
        touched[some] = True
    return np.flatnonzero(touched)


def _runs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (start, length) of each run of equal values in sorted x."""
    start = np.flatnonzero(np.r_[True, x[1:] != x[:-1]]) if len(x) else np.empty(0, np.int64)
    return start, np.diff(np.r_[start, len(x)])


def _joined(members: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (rows by group, group of each of `members`, first of each group, its size); groups by `root` of a row."""
    from ..kernels import ordered

    order = ordered(_packed(root[members], members))
    rows = members[order]
    start, size = _runs(root[rows])
    group = np.empty(len(rows), np.int64)
    group[order] = np.repeat(np.arange(len(start)), size)
    return rows, group, start, size


def _sentences(*parts: str | np.ndarray | pa.Array) -> pa.Array:
    """Return texts made of the parts one behind the other: one text for all, or an array of texts or whole numbers."""
    texts = [pa.scalar(p) if isinstance(p, str) else pa.array(p).cast(pa.string()) for p in parts]
    return pc.binary_join_element_wise(*texts, "")


def _worded(values: np.ndarray, word: Callable[[Any], str]) -> pa.Array:
    """Return word(value) of each value, asked once for equal ones."""
    used, back = np.unique(values, return_inverse=True)
    return pa.array([word(x) for x in used.tolist()], pa.string()).take(pa.array(back))


def _hundredths(values: np.ndarray) -> pa.Array:
    """Return shares as text with two digits, f"{value:.2f}" of each; only what lies halfway needs Python."""
    whole = np.rint(values * 100).astype(np.int64)
    halfway = np.flatnonzero(np.abs(np.abs(values * 100 - whole) - 0.5) < 1e-6)
    whole[halfway] = [round(100 * float(f"{x:.2f}")) for x in values[halfway].tolist()]
    return pa.array([f"{k / 100:.2f}" for k in range(101)]).take(pa.array(whole))


def _related(number: np.ndarray, own: np.ndarray, lead: np.ndarray, start: np.ndarray, size: np.ndarray,
             members: np.ndarray) -> pa.Array:
    """Return for each flag the numbers of other rows of its cluster, RELATED at most: `lead` first unless it is -1."""
    parts = [_some_related(number, own[lo:hi], lead[lo:hi], start[lo:hi], size[lo:hi], members)
             for lo, hi in ((k, k + 8192) for k in range(0, max(1, len(own)), 8192))]
    return pa.chunked_array(parts, pa.list_(pa.int64())).combine_chunks()


def _some_related(number: np.ndarray, own: np.ndarray, lead: np.ndarray, start: np.ndarray, size: np.ndarray,
                  members: np.ndarray) -> pa.Array:
    taken = np.minimum(size, RELATED + 1)
    flag = np.repeat(np.arange(len(own)), taken)
    first = np.cumsum(taken) - taken
    value = members[np.arange(len(flag)) - first[flag] + start[flag]]
    other = (value != own[flag]) & (value != lead[flag])
    before = np.cumsum(other) - other
    rank = before - before[first[flag]] if len(flag) else before
    headed = (lead >= 0).astype(np.int64)
    other &= rank < RELATED - headed[flag]
    length = headed + np.bincount(flag[other], minlength=len(own))
    offset = np.concatenate([[0], np.cumsum(length)])
    out = np.empty(offset[-1], np.int64)
    out[offset[:-1][headed > 0]] = number[lead[headed > 0]]
    out[offset[flag[other]] + headed[flag[other]] + rank[other]] = number[value[other]]
    return pa.ListArray.from_arrays(pa.array(offset, pa.int32()), pa.array(out))


def _repeats(columns: Columns, memory: _Memory, copy: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (copy, of): rows that are equal to an earlier row once folded, and the first such row.

    Given are those with the same shingles as an earlier row, and the first of these.
    """
    equal = memory.judged("equal", of, copy, lambda a, b: _equal(columns, a, b))
    odd = np.flatnonzero(~equal)        # the same shingles in another order: told apart by the text itself
    of = of.copy()
    first: dict[tuple[str, ...], int] = {}
    texts = zip(*(_folded(taken(c, copy[odd])).to_pylist() for c in columns), strict=True)
    for k, text in zip(odd.tolist(), texts, strict=True):
        of[k] = first.setdefault((str(of[k]), *text), int(copy[k]))
    real = of != copy
    return copy[real], of[real]


def _equal(columns: Columns, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the mask of pairs of rows whose columns are equal once folded; few need Python."""
    from ..shingles import named

    rows, left, right = named(len(columns[0]), left, right)
    columns = [taken(c, rows) for c in columns]
    out = np.zeros(len(left), np.bool_)
    for way in (None, _plainly, _folded):
        doubt = np.flatnonzero(~out)
        if not len(doubt):
            break
        same = np.ones(len(doubt), np.bool_)
        for c in columns:
            one, two = taken(c, left[doubt]), taken(c, right[doubt])
            same &= np.asarray(pc.equal(way(one), way(two)) if way else pc.equal(one, two))
        out[doubt] = same
    return out


def _plainly(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the texts with ASCII letters lower and ASCII white space collapsed: equal ones are equal once folded."""
    return pc.ascii_trim(pc.replace_substring_regex(pc.ascii_lower(column), r"[ \t-\r\x1c-\x1f]+", " "), " ")


def _folded(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return pa.array([fold(x) for x in column.to_pylist()], pa.string())


# ------------------------------------------------------------------ dup.exact
@check("dup.exact", reads=("messages", "system", "instruction", "input", "response"), severity="error", action="drop",
       scope="dataset")
def exact(rows: pa.Table, *, past: Past) -> pa.Table:
    """The row repeats an earlier row.

    Instruction, input, response and the turns before them are equal once case, white space and Unicode form are
    ignored. The first is kept; `related` names it first, then other copies (50 at most).

    Why: a row seen twice is learned twice as hard, and may end up on both sides of a split.
    Misses: any changed word (see dup.near).
    False positives: code or labels in which case or white space carries the meaning.
    """
    columns, memory = _columns(rows), _Memory(past, rows.num_rows)
    copy, of = _repeats(columns, memory, *memory.copies("identity", columns))
    memory.keep()
    number = rows["row"].to_numpy()
    root = np.arange(rows.num_rows)
    root[copy] = of
    together = _ends(rows.num_rows, copy, of)
    members, group, start, size = _joined(together, root)
    mine = group[np.searchsorted(together, copy)]
    message = _sentences("says the same as row ", number[of], ", which is kept",
                         _worded(size[mine], lambda n: f" ({n} copies in all)" if n > 2 else ""))
    return flags(rows, {"at": copy, "message": message,
                        "related": _related(number, copy, of, start[mine], size[mine], members)})


# ------------------------------------------------------------------ dup.near
def _agree(options: Any) -> str:
    """Return what is wrong between the options of dup.near, "" when nothing is."""
    if options.floor <= options.threshold:
        return ""
    return (f"floor {options.floor:g} is above the threshold {options.threshold:g}; set it below, or leave it at 0 to keep "
            "pairs from the threshold on")


@check("dup.near", reads=("messages", "system", "instruction", "input", "response"), severity="warning", action="drop",
       scope="dataset", version=2, agree=_agree)
def near(
    rows: pa.Table, *, past: Past, threshold: Similarity = 0.8, floor: Share = 0.0,
    ngram: Ngram = 5, unit: Literal["word", "char"] = "char", num_perm: Permutations = 128,
    fields: Annotated[tuple[Part, ...], Field(min_length=1)] = FIELDS,
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
    `fields`: what must be similar, of context (the turns before), instruction, input and response; what is left out may
    differ at will.

    Why: near copies teach their wording, crowd out other rows, and leak across a split.
    Misses: paraphrases (see dup.semantic).
    False positives: forms in which one short, uncommon value changes and the answer does not.
    Source: Broder 1997 (MinHash); bands are chosen for a recall of 0.999 at the threshold.
    """
    low = floor or threshold
    if rows.num_rows == 0:
        return flags(rows, {"at": []})
    from ..shingles import named
    from ..sketch import search

    every, memory = _columns(rows), _Memory(past, rows.num_rows)
    columns = _only(every, fields)
    options: dict[str, Any] = {"threshold": threshold, "floor": low, "ngram": ngram, "unit": unit, "num_perm": num_perm}
    left, right, score = _near_pairs(columns, memory, low, options)
    copy = _exact_copies(every, memory, left, right, score)       # dup.exact speaks of these
    used, left, right = named(rows.num_rows, left, right)         # from here on pairs are of positions in `used`
    gone = np.zeros(len(used), np.bool_)
    gone[np.searchsorted(used, copy)] = True
    left, right, score = _with_leaders(columns, memory, used, left, right, score, gone, search(**options))
    memory.keep()
    near = score >= threshold
    leaders = _leaders(left[near], right[near], score[near], gone)
    found = _near_flags(rows, used, left[near], right[near], *leaders, threshold)
    if low == threshold:
        return found
    # Weaker pairs come after: what they say must not change which rows are near-duplicates, nor what is related to them.
    gone[leaders[1]] = True
    weak = _leaders(left[~near], right[~near], score[~near], gone)
    found = [found, _near_flags(rows, used, left[~near], right[~near], *weak, threshold)]
    return pa.concat_tables(found).unify_dictionaries()


def _only(columns: Columns, fields: Sequence[str]) -> Columns:
    """Return the columns with those left empty that are not among `fields`."""
    empty = pa.repeat("", len(columns[0]))
    return [c if f in fields else empty for f, c in zip(FIELDS, columns, strict=True)]


def _near_pairs(columns: Columns, memory: _Memory, floor: float, options: dict[str, Any]) -> PairArrays:
    """Return the pairs that hold under the rules of dup.near."""
    found = memory.found("near", columns, **options)
    a, b, value = _contained(columns, memory, floor, options)
    left, right = np.concatenate([found[0], a]), np.concatenate([found[1], b])
    score, packed = np.concatenate([found[2], value]), _packed(left, right)
    order = np.argsort(packed, kind="stable")       # two sorted runs
    start, _ = _runs(packed[order])
    left, right = left[order[start]], right[order[start]]
    score = np.maximum.reduceat(score[order], start) if len(start) else score       # the better one of a pair found both ways
    held = ~_other_slots(columns, memory, left, right)
    return left[held], right[held], score[held]


def _contained(columns: Columns, memory: _Memory, floor: float, options: dict[str, Any]) -> PairArrays:
    """Return pairs with the same telling response, one instruction holding the other."""
    telling = pc.match_substring_regex(columns[3].slice(memory.known), rf"^\s*(?:\S+\s+){{{TELLING - 1}}}\S")
    found = memory.found("contained", [columns[0], columns[2], columns[3]], among=np.asarray(telling), **options)
    left, right, score = _every_pair(*found)
    share = memory.judged("share", left, right, lambda a, b: _share(columns[1], a, b, options))
    held = share >= floor
    return left[held], right[held], np.minimum(score, share)[held]


def _share(column: pa.Array | pa.ChunkedArray, left: np.ndarray, right: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Return for pairs of texts the share of the smaller one's shingles that the other has; -1 for very short ones."""
    from ..sketch import jaccard, shingle_sets, texts_of

    used, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    one, two = ends[:len(left)], ends[len(left):]
    sets = shingle_sets(texts_of([taken(column, used)]), np.arange(len(used)), ngram=options["ngram"],
                        unit=options["unit"])
    alike, _ = jaccard(sets, one, two)
    size = sets.count[0].astype(np.float64)
    small = np.minimum(size[one], size[two])
    share = alike / (1 + alike) * (size[one] + size[two]) / np.maximum(small, 1)
    return np.where(small >= CONTAINED, share, -1.0)


def _every_pair(left: np.ndarray, right: np.ndarray, score: np.ndarray, *, keep_big: bool = False) -> PairArrays:
    """Return the pairs with each star of equal rows made whole; stars of more than SHARED rows are left out.

    With `keep_big` these stay as they are: every row against the first.
    """
    equal = score == 1.0
    member = right[equal]
    start, size = _runs(left[equal])        # pairs are sorted
    head = left[equal][start]
    more = [np.empty((0, 2), np.int64)]
    for n in range(2, SHARED):
        star = member[start[size == n][:, None] + np.arange(n)]
        one, two = np.triu_indices(n, 1)
        more.append(np.stack([star[:, one].ravel(), star[:, two].ravel()], axis=1))
    extra = np.concatenate(more)
    common = head[size >= SHARED] if not keep_big else head[:0]
    held = ~(np.isin(left, common) | np.isin(right, common))
    return (np.concatenate([left[held], extra[:, 0]]), np.concatenate([right[held], extra[:, 1]]),
            np.concatenate([score[held], np.ones(len(extra))]))


def _said(columns: Columns, memory: _Memory, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return `wording.apart` of pairs of rows."""
    from ..wording import apart

    return memory.judged("apart", left, right, lambda a, b: apart(columns[:3], columns[3], a, b, telling=TELLING))


def _other_slots(columns: Columns, memory: _Memory, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the mask of pairs that are one template with two values rather than one row twice."""
    from ..wording import OTHER

    return _said(columns, memory, left, right) == OTHER


def _exact_copies(columns: Columns, memory: _Memory, left: np.ndarray, right: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the positions of rows that dup.exact flags, among the ends of the pairs."""
    from ..sketch import copies, identities

    rows = _ends(len(columns[0]), left[score == 1.0], right[score == 1.0])
    _, copy, of = copies(memory.told("identity", rows, lambda at: identities([taken(c, at) for c in columns])))
    return _repeats(columns, memory, rows[copy], rows[of])[0]


def _with_leaders(columns: Columns, memory: _Memory, used: np.ndarray, left: np.ndarray, right: np.ndarray,
                  score: np.ndarray, gone: np.ndarray, s: Search) -> PairArrays:
    """Return the pairs with those added that big clusters leave out: a row against the kept row of what it resembles.

    In a big cluster not every pair is listed, so a row may be listed with flagged rows only, though it resembles the
    kept one too. Each round compares what is left of a cluster with its first row and takes away what resembles it.
    Pairs are of positions in the rows `used`, and `gone` is a mask of these.
    """
    from ..sketch import alike, components

    gone = gone.copy()
    for _ in range(ROUNDS):
        open_ = ~gone[left] & ~gone[right]
        if not open_.any():
            break
        root = components(left[open_], right[open_], len(used))
        row = np.flatnonzero(root != np.arange(len(used)))
        head = root[row]
        with_head = np.zeros(len(used), np.bool_)
        with_head[right[left == root[right]]] = True
        listed = with_head[row]
        one, two = head[~listed], row[~listed]
        value = memory.judged("alike", used[one], used[two], lambda a, b: alike(columns, a, b, s))
        held = value >= s.floor
        held[held] = ~_other_slots(columns, memory, used[one[held]], used[two[held]])
        left, right = np.concatenate([left, one[held]]), np.concatenate([right, two[held]])
        score = np.concatenate([score, value[held]])
        gone[head] = True
        gone[row[listed]] = True
        gone[two[held]] = True
    return left, right, score


def _leaders(left: np.ndarray, right: np.ndarray, score: np.ndarray, gone: np.ndarray) -> PairArrays:
    """Return (kept, member, score): rows in order; each is a member of the kept row it resembles most, or is kept."""
    from ..sketch import lead

    best = lead(left, right, score, gone)
    member = np.flatnonzero(best >= 0)
    return left[best[member]], member, score[best[member]]


def _near_flags(rows: pa.Table, used: np.ndarray, left: np.ndarray, right: np.ndarray, kept: np.ndarray, member: np.ndarray,
                value: np.ndarray, threshold: float) -> pa.Table:
    """Return the flags of members; all are positions in the rows `used`."""
    from ..sketch import components

    number = rows["row"].to_numpy()[used]
    within = _ends(len(used), left, right)
    cluster, group, start, size = _joined(within, components(left, right, len(used)))
    mine = group[np.searchsorted(within, member)]
    enough, score = pa.array(value >= threshold), _hundredths(value)
    message = _sentences("near-duplicate (", score, ") of row ", number[kept], ", which is kept")
    if (value < threshold).any():
        weaker = _sentences("resembles row ", number[kept], " (", score, f", below the threshold {threshold:g})")
        message = pc.if_else(enough, message, weaker)
    return flags(rows, {"at": used[member], "score": value, "message": message,
                        "related": _related(number, member, kept, start[mine], size[mine], cluster),
                        "severity": pc.if_else(enough, pa.scalar(None, pa.string()), "info")})


# ------------------------------------------------------------------ dup.conflict
@check("dup.conflict", reads=("messages", "system", "instruction", "input", "response"), severity="error",
       action="review", scope="dataset", version=2)
def conflict(
    rows: pa.Table, *, refusal: pa.Array, past: Past, threshold: Similarity = 0.9, overlap: Share = 0.15,
    num_perm: Permutations = 128,
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
    from ..wording import SAME

    columns, memory = _columns(rows), _Memory(past, rows.num_rows)
    found = memory.found("prompts", columns[:3], threshold=threshold, unit="char", num_perm=num_perm)
    left, right, score = _every_pair(*found, keep_big=True)
    same = score == 1.0
    same[~same] = _said(columns, memory, left[~same], right[~same]) == SAME
    left, right, score = left[same], right[same], score[same]
    refuses = np.asarray(pc.equal(refusal.cast(pa.string()), "refuse").fill_null(False))
    why = memory.judged("clash", left, right, lambda a, b: _clash(columns, refuses, a, b, overlap))
    at = why > 0
    left, right, score, why = left[at], right[at], score[at], why[at]
    labels: frozenset[int] = _labels(columns[3], memory) if (why & PLAIN).any() else frozenset()
    memory.keep()
    here, there, said = _reasons(columns, refuses, labels, left, right, why)
    at = here >= 0
    return _conflict_flags(rows, left[at], right[at], score[at], here[at], there[at], said)


def _clash(columns: Columns, refuses: np.ndarray, left: np.ndarray, right: np.ndarray, overlap: float) -> np.ndarray:
    """Return what the answers to one prompt have against each other (uint8); PLAIN is added for two short answers."""
    from ..wording import blocks_of, placed

    out = np.zeros(len(left), np.uint8)
    for part, rows in blocks_of([columns], left, right):
        some = [taken(c, rows) for c in columns]
        one, two = placed(rows, left[part], right[part])
        out[part] = _clash_of(some, refuses[rows], one, two, overlap)
    return out


def _clash_of(columns: Columns, refuses: np.ndarray, one: np.ndarray, two: np.ndarray, overlap: float) -> np.ndarray:
    from ..shingles import named
    from ..wording import firsts, words_of

    text = firsts([columns[3]])
    out = np.where(refuses[one] != refuses[two], REFUSAL, 0).astype(np.uint8)
    todo = np.flatnonzero(~refuses[one] & ~refuses[two] & (text[one] != text[two]))
    making, some = _asks(columns, one[todo])
    todo, some = todo[~making], some[~making]
    rows, a, b = named(len(text), one[todo], two[todo])     # only what these say is cut into words
    said = words_of([taken(columns[3], rows)])
    differ = (said.sequence[a] != said.sequence[b]) & (np.minimum(said.total[a], said.total[b]) > 0)
    todo, some, a, b = (x[differ] for x in (todo, some, a, b))
    if not len(todo):
        return out
    short = np.maximum(said.total[a], said.total[b]) <= 4
    out[todo[short & ~some]] = PLAIN
    x, y = (_values(columns[3], side[todo]) for side in (one, two))
    numbers = ~some & ~np.isnan(x) & ~np.isnan(y)
    out[todo[numbers & (x != y)]] += NUMBERS
    rest = ~numbers
    out[todo[rest]] += _off_topic([taken(c, rows) for c in columns[:3]], said, a[rest], b[rest], overlap)
    return out


def _asks(columns: Columns, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of prompts that ask for something of one's own making, and for some out of many."""
    used, back = np.unique(rows, return_inverse=True)
    prompt = pc.binary_join_element_wise(*(taken(c, used).cast(pa.large_string()) for c in columns[:3]),
                                         pa.scalar("\n", pa.large_string()))
    prompt = prompt.combine_chunks() if isinstance(prompt, pa.ChunkedArray) else prompt
    odd = pc.invert(pc.string_is_ascii(prompt))
    prompt = pc.replace_with_mask(prompt, odd, _folded(prompt.filter(odd)).cast(pa.large_string()))
    making, some = (np.asarray(pc.match_substring_regex(prompt, p, ignore_case=True))[back] for p in (MAKING, SOME))
    return making, some


def _values(responses: pa.Array | pa.ChunkedArray, rows: np.ndarray) -> np.ndarray:
    """Return the number that each response ends in, NaN for none."""
    used, back = np.unique(rows, return_inverse=True)
    texts = taken(responses, used)
    out = np.full(len(used), np.nan)
    may = np.flatnonzero(np.asarray(pc.and_(pc.match_substring_regex(texts, "[0-9]"), pc.or_(
        pc.less_equal(pc.utf8_length(texts), 60), pc.match_substring_regex(texts, "[#=]|answer|ans", ignore_case=True)))))
    for k, text in zip(may.tolist(), texts.take(pa.array(may)).to_pylist(), strict=True):
        value = _value(text)
        out[k] = np.nan if value is None else value
    return out[back]


def _off_topic(prompt: Columns, said: Words, one: np.ndarray, two: np.ndarray, overlap: float) -> np.ndarray:
    """Return OFF_LEFT or OFF_RIGHT for answers with nothing in common of which only one speaks of what was asked, else 0.

    said: the words of the answers.
    """
    from ..shingles import named
    from ..wording import again, overlaps, words_of

    used, a, b = named(len(said.start), one, two)
    asked = words_of([taken(c, used) for c in prompt], stop=True, stem=True)
    said = again(said, used, stop=True, stem=True)
    least = np.minimum(said.count[a], said.count[b])
    apart = (least >= 4) & (overlaps(said, said, a, b) <= overlap * least)
    here, there = overlaps(said, asked, a, a) > 0, overlaps(said, asked, b, a) > 0
    return np.where(apart & (here != there), np.where(here, OFF_RIGHT, OFF_LEFT), 0).astype(np.uint8)


def _conflict_flags(rows: pa.Table, left: np.ndarray, right: np.ndarray, score: np.ndarray, here: np.ndarray,
                    there: np.ndarray, said: Sequence[str]) -> pa.Table:
    """Return a flag for both rows of each pair; the message is that of the first row it clashes with.

    here, there: which of the texts `said` is to be told at the left and the right row.
    """
    from ..kernels import ordered

    row, other = np.concatenate([left, right]), np.concatenate([right, left])
    value, told = np.concatenate([score, score]), np.concatenate([here, there])
    order = ordered(_packed(row, other))
    number = rows["row"].to_numpy()
    row, other, value, told = row[order], other[order], value[order], told[order]
    start, size = _runs(row)
    message = _sentences("answers the prompt of row ", number[other[start]], " differently: ",
                         pa.array(said, pa.string()).take(pa.array(told[start])))
    return flags(rows, {
        "at": row[start], "score": np.maximum.reduceat(value, start) if len(start) else [], "field": "response",
        "message": message, "related": _related(number, row[start], np.full(len(start), -1), start, size, other)})


def _labels(responses: pa.Array | pa.ChunkedArray, memory: _Memory) -> frozenset[int]:
    """Return the short answers (at most 4 words) that at least 5 rows give, as `_mark`: the data's own labels."""
    known = "label" in memory.old
    fresh = responses.slice(memory.known) if known else responses
    fresh = fresh.filter(pc.less_equal(pc.binary_length(fresh), 4 * LABEL))         # so that few texts are read
    counted = pc.value_counts(fresh.filter(pc.less_equal(pc.utf8_length(fresh), LABEL)))
    folded = [words(fold(text)) for text in counted.field("values").to_pylist()]
    fits = np.array([1 <= len(x) <= 4 for x in folded], np.bool_)
    mark = np.array([_mark(" ".join(x)) for x in folded], np.uint64)[fits]
    times = counted.field("counts").to_numpy()[fits]
    if known:
        mark, times = np.concatenate([memory.old["label"], mark]), np.concatenate([memory.old["label="], times])
    order = np.argsort(mark, kind="stable")
    start, _ = _runs(mark[order])
    times = np.add.reduceat(times[order], start) if len(start) else times
    memory.new["label"], memory.new["label="] = mark[order[start]], times
    return frozenset(mark[order[start]][times >= 5].tolist())


def _mark(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())


def _reasons(columns: Columns, refuses: np.ndarray, labels: frozenset[int], left: np.ndarray, right: np.ndarray,
             why: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return (what to say at the left row, at the right row, texts): numbers of texts, -1 where there is nothing to say."""
    said, base = list(SAID), why & (PLAIN - 1)
    here = np.full(len(why), -1)
    here[base == REFUSAL] = np.where(refuses[left[base == REFUSAL]], 0, 1)
    here[base == OFF_LEFT], here[base == OFF_RIGHT] = 2, 3
    there = np.where(here < 0, -1, here ^ 1)
    answers = _Answers(columns, labels)
    for k in np.flatnonzero((base == NUMBERS) | (why >= PLAIN)).tolist():
        told = answers.told(int(left[k]), int(right[k]), int(why[k]))
        if told:
            here[k], there[k] = len(said), len(said) + 1
            said += told
    return here, there, said


class _Answers:
    """Words for what two short answers or numbers have against each other; texts are read once a row."""

    def __init__(self, columns: Columns, labels: frozenset[int]) -> None:
        self.columns, self.labels = columns, labels
        self.answers: dict[int, str] = {}
        self.prompts: dict[int, str] = {}

    def answer(self, row: int) -> str:
        if row not in self.answers:
            self.answers[row] = " ".join(words(fold(self.columns[3][row].as_py())))
        return self.answers[row]

    def prompt(self, row: int) -> str:
        if row not in self.prompts:
            text = "\n".join(c[row].as_py() for c in self.columns[:3])
            self.prompts[row] = f" {' '.join(words(fold(text)))} "
        return self.prompts[row]

    def told(self, a: int, b: int, why: int) -> tuple[str, str] | None:
        """Return (what to say at row a, at row b), or None when two short answers are no labels and no number differs."""
        if why & PLAIN:
            one, two = self.answer(a), self.answer(b)
            closed = all(_mark(x) in self.labels or f" {x} " in self.prompt(a) for x in (one, two))
            if closed and one not in two and two not in one:
                return f"{one!r} here, {two!r} there", f"{two!r} here, {one!r} there"
        if why & ~PLAIN == NUMBERS:
            x, y = (_value(self.columns[3][i].as_py()) for i in (a, b))
            return f"{x:g} here, {y:g} there", f"{y:g} here, {x:g} there"
        return None


def _value(response: str) -> float | None:
    """Return the number a response ends in: after a mark (####, answer:, =), or the only one of a short response."""
    marked = MARKED.findall(response)
    if not marked and len(response) <= 60:
        marked = NUMBER.findall(response)
        if len(marked) != 1:
            return None
    return float(marked[-1].replace(",", "")) if marked else None


# ------------------------------------------------------------------ dup.boilerplate
@check("dup.boilerplate", reads=("messages", "system", "instruction", "input", "response"), severity="info",
       action="review", scope="dataset")
def boilerplate(
    rows: pa.Table, *, refusal: pa.Array, past: Past, min_rows: Several = 3, min_words: Count = TELLING,
) -> pa.Table:
    """Different prompts get the very same answer.

    Flagged are responses of at least `min_words` words that answer `min_rows` or more different prompts, case and
    white space aside. Refusals are left out: one wording for all of them may be what the spec wants.

    Why: the model learns an answer that goes with anything.
    Misses: the same answer with a word changed. False positives: questions that do have the same answer.
    """
    from ..sketch import distinct, first_equal, identities

    columns, memory = _columns(rows), _Memory(past, rows.num_rows)
    copy, of = _repeats(columns[3:], memory, *memory.copies("response", columns[3:]))
    refuses = np.asarray(pc.equal(refusal.cast(pa.string()), "refuse").fill_null(False))
    root = np.arange(rows.num_rows)
    root[copy] = of
    head = _ends(rows.num_rows, of)
    telling = np.zeros(rows.num_rows, np.bool_)
    telling[head] = memory.told("long", head, lambda at: _long(columns[3], at, min_words))
    rows_in = _ends(rows.num_rows, copy, of)
    rows_in = rows_in[telling[root[rows_in]] & ~refuses[rows_in]]
    members, group, start, size = _joined(rows_in, root)
    prompt = memory.told("prompt", rows_in, lambda at: identities([taken(c, at) for c in columns[:3]]))
    memory.keep()
    different = distinct(_packed(group, first_equal(prompt)))
    asked = np.bincount((different >> np.uint64(32)).astype(np.int64), minlength=len(start))
    flagged = asked[group] >= min_rows if len(group) else np.zeros(0, np.bool_)
    mine, at, number = group[flagged], rows_in[flagged], rows["row"].to_numpy()
    return flags(rows, {"at": at, "field": "response",
                        "message": _worded(asked[mine], lambda n: f"gives the answer that {n} different prompts get"),
                        "related": _related(number, at, np.full(len(at), -1), start[mine], size[mine], members)})


def _long(responses: pa.ChunkedArray, at: np.ndarray, least: int) -> np.ndarray:
    """Return whether the responses at positions `at` have `least` words."""
    return np.asarray(pc.greater_equal(pc.count_substring_regex(taken(responses, at), r"\S+"), least))
