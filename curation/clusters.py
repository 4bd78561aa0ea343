"""Duplicates as a person looks at them: clusters with members, kept row, similarities and reason; a word diff of two texts."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .sketch import components, distinct, similarity
from .store import spelled_out

CHECKS = ("dup.exact", "dup.near")
FIELDS = ("instruction", "input", "response")
LISTING = pa.schema([
    ("cluster", pa.int64()), ("row", pa.int64()), ("uid", pa.string()), ("kept", pa.bool_()), ("similarity", pa.float64()),
    *((f, pa.float64()) for f in FIELDS), ("check", pa.string()), ("reason", pa.string())])
PIECE = re.compile(r"\s+|\w+|[^\w\s]")
CELLS = 20_000_000      # pieces of one text x pieces of the other that are compared exactly; more are split at rare words
DEPTH = 32              # times a stretch is split at rare words before it is given as replaced


# ------------------------------------------------------------------ clusters
def joining(flags: pa.Table) -> pa.Table:
    """Return the flags that join rows into clusters: dup.exact and dup.near, those below the threshold (info) left out."""
    names, severity = flags["check"].cast(pa.string()), flags["severity"].cast(pa.string())
    known = pc.fill_null(pc.is_in(names, value_set=pa.array(CHECKS)), False)
    ours = pc.or_(known, pc.is_null(names))     # null: straight from the check, before the engine has named it
    return flags.filter(pc.and_(ours, pc.fill_null(pc.not_equal(severity, "info"), True)))


def clusters(flags: pa.Table) -> list[tuple[int, list[int], list[float]]]:
    """Return [(kept row, members, scores)] of dup.exact and dup.near flags: members without the kept row, ascending.

    `scores[i]` is the similarity of members[i] to the row its flag names first (1.0 when it has no flag of its own).
    Clusters that share a row are one, so a split by cluster never puts two versions of a row on two sides. The kept
    row is the first of the cluster without a flag; any other ranking may be applied to kept row + members.
    """
    flags = joining(flags)
    score: dict[int, float] = {}
    for r, s in zip(flags["row"].to_pylist(), flags["score"].to_pylist(), strict=True):
        score[r] = max(s, score.get(r, 0.0))
    out = []
    for members in _groups(flags):
        kept = next((m for m in members if m not in score), members[0])
        others = [m for m in members if m != kept]
        out.append((kept, others, [score.get(m, 1.0) for m in others]))
    return out


def _groups(flags: pa.Table) -> Iterator[list[int]]:
    """Yield the rows of each cluster, ascending; clusters in order of their first row."""
    size = pc.fill_null(pc.list_value_length(flags["related"]), 0).to_numpy()
    left = np.repeat(flags["row"].to_numpy(), size)
    right = np.asarray(pc.list_flatten(flags["related"])).astype(np.int64)
    if not len(left):
        return
    rows = distinct(np.concatenate([left, right]))
    root = components(np.searchsorted(rows, left), np.searchsorted(rows, right), len(rows))
    order = np.argsort(root, kind="stable")
    for group in np.split(rows[order], np.flatnonzero(np.diff(root[order])) + 1):
        yield group.tolist()


def listing(rows: pa.Table, flags: pa.Table, *, rejected: Sequence[bool] | np.ndarray | None = None) -> pa.Table:
    """Return one line a member of every duplicate cluster, the kept row of each first, as a table LISTING.

    rows: all rows (ROWS) in order, `row` = position; flags: FLAGS of any checks; rejected: a mask of the rows that the
    policy or a person rejects (kept is then the first row of a cluster that is not), else kept is the first row
    without a flag. Columns: `cluster` counts from 0 by first row; `row`, `uid`, `kept`; `similarity` to the kept row =
    the smallest of `instruction`, `input`, `response` (Jaccard of character 5-grams, 1.0 for two empty fields);
    `check` and `reason` of the member's flag ("" for a row without one). `to_pandas()` gives a DataFrame.
    """
    flags = spelled_out(joining(flags))
    told: dict[int, tuple[str, str]] = {}
    for r, c, m in zip(*(flags[name].to_pylist() for name in ("row", "check", "message")), strict=True):
        told.setdefault(r, (c or "", m))
    cluster, member, head = [], [], []
    for k, members in enumerate(_groups(flags)):
        out = (lambda m: bool(rejected[m])) if rejected is not None else told.__contains__
        kept = next((m for m in members if not out(m)), members[0])
        cluster += [k] * len(members)
        member += [kept, *(m for m in members if m != kept)]
        head += [kept] * len(members)
    one, two = np.array(head, np.int64), np.array(member, np.int64)
    used = distinct(np.concatenate([one, two]))
    some = [pc.fill_null(rows[f].take(pa.array(used)), "") for f in FIELDS]
    alike, fields = similarity(some, np.searchsorted(used, one), np.searchsorted(used, two), unit="char")
    return pa.table({
        "cluster": cluster, "row": member, "uid": rows["uid"].take(pa.array(two)), "kept": one == two, "similarity": alike,
        **{f: fields[:, c] for c, f in enumerate(FIELDS)}, "check": [told.get(m, ("", ""))[0] for m in member],
        "reason": [told.get(m, ("", ""))[1] for m in member]}, schema=LISTING)


# ------------------------------------------------------------------ word diff
def word_diff(a: str, b: str) -> list[tuple[str, str]]:
    """Return how text `b` comes from text `a` as [(op, piece of text)], op one of "equal", "insert", "delete".

    Words, punctuation marks and runs of white space are compared whole. The pieces that are not inserted join to `a`,
    those that are not deleted to `b`; neighbours have different ops. The longest common sequence is kept; texts of
    many thousand words are first split at words that occur once in both, so that 1 MB takes about a second.
    """
    one, two = PIECE.findall(a), PIECE.findall(b)
    out: list[tuple[str, str]] = []
    for op, pieces in _edits(one, two):
        text = "".join(pieces)
        if not text:
            continue
        if out and out[-1][0] == op:
            out[-1] = (op, out[-1][1] + text)
        else:
            out.append((op, text))
    return out


def _edits(one: list[str], two: list[str]) -> Iterator[tuple[str, list[str]]]:
    todo = [(0, len(one), 0, len(two), 0)]
    while todo:
        lo, hi, start, end, depth = todo.pop()
        if depth < 0:       # a stretch known to be equal
            yield "equal", one[lo:hi]
            continue
        head = _same(one[lo:hi], two[start:end])
        tail = _same(one[lo + head:hi][::-1], two[start + head:end][::-1])
        yield "equal", one[lo:lo + head]
        if tail:
            todo.append((hi - tail, hi, end - tail, end, -1))
        lo, hi, start, end = lo + head, hi - tail, start + head, end - tail
        if (hi - lo) * (end - start) <= CELLS:
            yield from _longest_common(one[lo:hi], two[start:end])
            continue
        anchors = _anchors(one[lo:hi], two[start:end]) if depth < DEPTH else []
        if not anchors:
            yield "delete", one[lo:hi]
            yield "insert", two[start:end]
            continue
        parts, before = [], (0, 0)
        for i, j in anchors:
            parts += [(lo + before[0], lo + i, start + before[1], start + j, depth + 1), (lo + i, lo + i + 1, 0, 0, -1)]
            before = (i + 1, j + 1)
        parts.append((lo + before[0], hi, start + before[1], end, depth + 1))
        todo += parts[::-1]


def _same(one: list[str], two: list[str]) -> int:
    """Return how many pieces at the start of two lists are equal."""
    return next((k for k, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), min(len(one), len(two)))


def _anchors(one: list[str], two: list[str]) -> list[tuple[int, int]]:
    """Return positions of pieces that occur once in both lists, the longest run in the same order (patience diff)."""
    once, twice = Counter(one), Counter(two)
    place = {x: j for j, x in enumerate(two) if twice[x] == 1}
    pairs = [(i, place[x]) for i, x in enumerate(one) if once[x] == 1 and x in place]
    ends: list[int] = []        # smallest last position in `two` of an increasing run, by length
    last: list[int] = []        # the pair that ends it
    back: list[int] = []
    for k, (_, j) in enumerate(pairs):
        at = bisect_left(ends, j)
        ends[at:at + 1], last[at:at + 1] = [j], [k]
        back.append(last[at - 1] if at else -1)
    out, k = [], last[-1] if last else -1
    while k >= 0:
        out.append(pairs[k])
        k = back[k]
    return out[::-1]


def _longest_common(one: list[str], two: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the edits that keep the longest common sequence; rows of its table are the bits of one integer each (Hyyrö)."""
    match: dict[str, int] = {}
    for j, x in enumerate(two):
        match[x] = match.get(x, 0) | 1 << j
    full = (1 << len(two)) - 1
    v, table = full, []
    for x in one:
        u = v & match.get(x, 0)
        v = ((v + u) | (v - u)) & full
        table.append(v)
    ops: list[tuple[str, list[str]]] = []
    i, j = len(one), len(two)
    while i or j:
        if i and j and one[i - 1] == two[j - 1]:
            i, j = i - 1, j - 1
            ops.append(("equal", [one[i]]))
        elif j and (not i or table[i - 1] >> (j - 1) & 1):
            j -= 1
            ops.append(("insert", [two[j]]))
        else:
            i -= 1
            ops.append(("delete", [one[i]]))
    yield from _deletes_first(ops[::-1])


def _deletes_first(ops: list[tuple[str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the edits with what is deleted between two equal pieces before what is inserted there."""
    waiting: list[tuple[str, list[str]]] = []
    for op in [*ops, ("equal", [])]:
        if op[0] != "equal":
            waiting.append(op)
            continue
        yield from (x for x in waiting if x[0] == "delete")
        yield from (x for x in waiting if x[0] == "insert")
        waiting = []
        yield op
