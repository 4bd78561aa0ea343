"""Which kinds of request a set answers and which it refuses, cell by cell, with the rows behind each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .edges import DEEDS, KINDS, WANTED, deed
from .harm import CATEGORIES
from .refusal import actions
from .spec import Spec

SIDES = ("should refuse", "should comply")
ANSWERS = ("refused", "redirected", "answered")
#: class of the response -> column of the matrix; a part refused or a question asked back is a redirection
ANSWER_OF = {"refuse": "refused", "partial": "redirected", "other_safe": "redirected", "comply": "answered"}
NO_CATEGORY = "(no category)"
#: Share of rows that ask for harm: 3 % of safety rows were enough, more brought over-refusal (arXiv 2309.07875).
GUIDE = (0.01, 0.05)
HARMFUL = 0.5  # harm from which a prompt counts as one to refuse
MIN_FAMILY = 0.4  # family score from which a family's standard counts

#: what an edge case asks of a response, in words
DUTY = {"ask": "ask", "name_conflict": "name the conflict", "correct": "correct it", "decline": "decline"}

CELL = pa.schema([
    ("category", pa.string()),  # category of the policy, or kind of edge case
    ("side", pa.string()),  # SIDES; for edge cases what the spec expects
    ("answer", pa.string()),  # ANSWERS, or one of edges.DEEDS
    ("count", pa.int64()),
    ("right", pa.bool_()),  # whether rows in this cell do what is wanted
    ("rows", pa.list_(pa.int64())),  # the row numbers, ascending
])


@dataclass(frozen=True)
class Matrix:
    """A matrix of counts.

    `cells`: a table with the columns of CELL, every combination present, empty ones with count 0, in reading order.
    `categories`, `sides`, `answers`: the axes in their order. `gaps`: sentences that name what is missing or on the
    wrong side. `numbers`: shares and counts beside the cells (see the function that made it).
    """

    name: str
    categories: tuple[str, ...]
    sides: tuple[str, ...]
    answers: tuple[str, ...]
    cells: pa.Table
    gaps: tuple[str, ...]
    numbers: dict[str, Any]

    def rows(self, category: str, side: str, answer: str) -> list[int]:
        """Return the row numbers behind one cell."""
        mask = pc.and_(pc.and_(pc.equal(self.cells["category"], category), pc.equal(self.cells["side"], side)),
                       pc.equal(self.cells["answer"], answer))
        found = self.cells.filter(mask)["rows"].to_pylist()
        return found[0] if found else []

    def as_dict(self, *, rows: int | None = None) -> dict[str, Any]:
        """Return plain values; `rows`: at most so many row numbers a cell, None = all."""
        cells = self.cells.to_pylist()
        for cell in cells:
            cell["rows"] = cell["rows"][:rows]
        return {"name": self.name, "categories": list(self.categories), "sides": list(self.sides),
                "answers": list(self.answers), "cells": cells, "gaps": list(self.gaps), "numbers": self.numbers}

    def to_pandas(self) -> Any:
        """Return the counts as a DataFrame: one line a category and side, one column an answer."""
        frame = self.cells.select(["category", "side", "answer", "count"]).to_pandas()
        wide = frame.pivot_table(index=["category", "side"], columns="answer", values="count", aggfunc="sum", sort=False)
        return wide[list(self.answers)]


def refusal_matrix(rows: pa.Table, signals: pa.Table, spec: Spec, *, texts: pa.Table | None = None) -> Matrix:
    """Return category x {should refuse, should comply} x {refused, redirected, answered}.

    `rows`: ROWS; `signals`: refusal, harm, harm_category, family and family_score of the same rows. The categories are
    the spec's, or, where the spec has none, the twelve of Do-Not-Answer as judged by `curation.harm`. A prompt of a
    category should be refused from a harm of 0.5 on; below, it is a benign contrast. A family whose standard says
    `answers: refuse` or `comply` outranks that. Rows without a category stand under "(no category)".
    `texts`: where given, `rows` need only their numbers, and texts are read from this table by them.
    `numbers`: rows, safety_rows and safety_share (rows that should be refused), guide, contrast_rows, refused_wrongly,
    answered_wrongly, taxonomy ("spec" or "do-not-answer"), manner (rows that rightly do not answer by what they do, one of
    refusal.ACTIONS).
    """
    own = tuple(c.id for c in spec.refusals.categories)
    categories = own or CATEGORIES
    side, category = _sides(signals, spec, categories)
    code, known = _codes(signals["refusal"])
    answer = np.array([ANSWERS.index(ANSWER_OF.get(r, "answered")) for r in known] or [0])[code]
    names = (*categories, NO_CATEGORY)
    right = {("should refuse", "refused"), ("should refuse", "redirected"), ("should comply", "answered")}
    cells = _cells(rows, (category * len(SIDES) + side) * len(ANSWERS) + answer, names, SIDES, ANSWERS, right)
    n = rows.num_rows
    asked = int((side == 0).sum())
    numbers = {
        "rows": n, "safety_rows": asked, "safety_share": asked / n if n else 0.0, "guide": list(GUIDE),
        "contrast_rows": int(((side == 1) & (category < len(categories))).sum()),
        "refused_wrongly": int(((side == 1) & (answer == 0)).sum()), "answered_wrongly": int(((side == 0) & (answer == 2)).sum()),
        "taxonomy": "spec" if own else "do-not-answer",
        "manner": _manner(*_texts(rows, texts, np.flatnonzero((side == 0) & (answer != 2)))),
    }
    return Matrix("refusals", names, SIDES, ANSWERS, cells, tuple(_refusal_gaps(cells, categories, numbers)), numbers)


def _texts(rows: pa.Table, texts: pa.Table | None, at: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """Return the table to take texts from and where the rows at positions `at` of `rows` lie in it."""
    return (rows, at) if texts is None else (texts, rows["row"].to_numpy()[at])


def _manner(rows: pa.Table, at: np.ndarray) -> dict[str, int]:
    """Return {action: rows} of the rows at positions `at`, most frequent first."""
    mask = np.zeros(rows.num_rows, bool)
    mask[at] = True
    responses = rows["response"].filter(pa.array(mask)).to_pylist()     # take() would first join all chunks into one copy
    return dict(Counter(actions([r or "" for r in responses])).most_common())


def _sides(signals: pa.Table, spec: Spec, categories: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (side, category) of each row as positions in SIDES and in `categories` with NO_CATEGORY behind them."""
    n = signals.num_rows
    answers = {f.id: f.response.answers for f in spec.families if f.response.answers in ("refuse", "comply")}
    sure = _numbers(signals["family_score"]) if "family_score" in signals.column_names else np.zeros(n)
    family, names = _codes(signals["family"])
    wanted = np.array([{"refuse": 1, "comply": 0}.get(answers.get(name, ""), -1) for name in names] or [-1])[family]
    wanted = np.where(sure >= MIN_FAMILY, wanted, -1)
    refuse = (wanted == 1) | ((wanted == -1) & (_numbers(signals["harm"]) >= HARMFUL))
    code, kinds = _codes(signals["harm_category"])
    at = {name: k for k, name in enumerate(categories)}
    return np.where(refuse, 0, 1), np.array([at.get(k, len(categories)) for k in kinds] or [0])[code]


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(column, 0.0))


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return (codes, names) of a column of texts; null is ""."""
    coded = pa.chunked_array(pc.fill_null(column.cast(pa.string()), "")).combine_chunks().dictionary_encode()
    return coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()


def _cells(
    rows: pa.Table, cell: np.ndarray, categories: Sequence[str], sides: Sequence[str], answers: Sequence[str],
    right: set[tuple[str, str]],
) -> pa.Table:
    """Return the CELL table: one line a combination, with the row numbers that fall into it.

    `cell`: (n,) position of each row's combination in reading order.
    """
    lines = [(c, s, a) for c in categories for s in sides for a in answers]
    count = np.bincount(cell, minlength=len(lines)) if len(cell) else np.zeros(len(lines), np.int64)
    number = rows["row"].to_numpy()
    found = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(count)]).astype(np.int32)),
                                     pa.array(number[np.lexsort((number, cell))], pa.int64()))
    columns = [[line[i] for line in lines] for i in range(3)]
    fits = [(s, a) in right or (c, a) == (NO_CATEGORY, "redirected") for c, s, a in lines]  # asking back harms no plain prompt
    return pa.table([*columns, count.astype(np.int64), fits, found], schema=CELL)


def _total(cells: pa.Table, category: str, side: str, answer: str | None = None) -> int:
    mask = pc.and_(pc.equal(cells["category"], category), pc.equal(cells["side"], side))
    if answer is not None:
        mask = pc.and_(mask, pc.equal(cells["answer"], answer))
    return int(pc.sum(cells.filter(mask)["count"]).as_py() or 0)


def _refusal_gaps(cells: pa.Table, categories: Sequence[str], numbers: dict[str, Any]) -> list[str]:
    """Return what the matrix lacks, most general first."""
    out = []
    share, (low, high) = numbers["safety_share"], GUIDE
    if numbers["rows"] and not low <= share <= high:
        out.append(f"{share:.1%} of the rows ask for something to refuse; the guide is {low:.0%} to {high:.0%}: "
                   + ("add such rows with their refusals" if share < low else "more brought over-refusal in published runs"))
    for category in categories:
        refused = _total(cells, category, SIDES[0]) - _total(cells, category, SIDES[0], "answered")
        answered, contrast = _total(cells, category, SIDES[0], "answered"), _total(cells, category, SIDES[1])
        good = _total(cells, category, SIDES[1], "answered")
        if not refused:
            out.append(f"{category}: no row shows the refusal")
        if answered:
            out.append(f"{category}: {answered:,} of {answered + refused:,} prompts that should be refused are answered")
        if not good and (refused or numbers["taxonomy"] == "spec"):
            out.append(f"{category}: no benign contrast is answered, so the model may learn to refuse by the words alone")
        if contrast > good:
            out.append(f"{category}: {contrast - good:,} of {contrast:,} benign look-alikes are refused or redirected")
    plain = _total(cells, NO_CATEGORY, SIDES[1], "refused")
    if plain:
        out.append(f"{plain:,} prompts of no category are refused")
    return out


def edge_matrix(rows: pa.Table, signals: pa.Table, spec: Spec, *, texts: pa.Table | None = None) -> Matrix:
    """Return edge case x {expected deed} x {asked, named, corrected, declined, answered}.

    `signals`: family, family_score and edge of the same rows; `texts` as in refusal_matrix.
    A row belongs to a kind of edge case when its family is
    that kind's in the spec, else when the signal `edge` says so. What is expected is the spec's `expect` for the kind,
    else ask, name_conflict, correct and decline.
    `numbers`: rows, edge_rows, by_spec and by_signal (how the rows were found), right and right_share.
    """
    wanted: dict[str, str] = dict(WANTED)
    wanted.update((e.id, e.expect) for e in spec.edge_cases)
    families = {e.family: str(e.id) for e in spec.edge_cases}
    which, by = _edges(signals, families)
    at = np.flatnonzero(which >= 0)
    whole, places = _texts(rows, texts, at)
    sub = whole.take(pa.array(places, pa.int64()))
    columns = zip(*(["" if v is None else v for v in sub[c].to_pylist()] for c in ("instruction", "input", "response")))
    done = [deed(response, f"{a}\n{b}" if b else a) for a, b, response in columns]
    names = [KINDS[k] for k in which[at]]
    sides = tuple(dict.fromkeys(wanted[k] for k in KINDS))
    good = {"ask": {"asked"}, "name_conflict": {"named"}, "correct": {"corrected"}, "decline": {"declined"}}
    right = {(s, a) for s in sides for a in good[s]}
    side = np.array([sides.index(wanted[k]) for k in KINDS])[which[at]]
    cell = (which[at] * len(sides) + side) * len(DEEDS) + np.array([DEEDS.index(d) for d in done], np.int64)
    cells = _cells(sub, cell, KINDS, sides, DEEDS, right)
    keep = [wanted[c] == s for c, s in zip(cells["category"].to_pylist(), cells["side"].to_pylist())]
    cells = cells.filter(pa.array(keep))
    hits = sum(d in good[wanted[k]] for k, d in zip(names, done))
    numbers = {"rows": rows.num_rows, "edge_rows": len(at), "by_spec": int((by == 1).sum()),
               "by_signal": int((by == 2).sum()), "right": hits, "right_share": hits / len(at) if len(at) else 0.0}
    gaps = []
    for kind in KINDS:
        n, ok = _total(cells, kind, wanted[kind]), names.count(kind) and sum(
            d in good[wanted[k]] for k, d in zip(names, done) if k == kind)
        least = next((e.min_rows for e in spec.edge_cases if e.id == kind), 0)
        if not n:
            gaps.append(f"{kind}: no row; nothing teaches to {DUTY[wanted[kind]]}")
        elif not ok:
            gaps.append(f"{kind}: {_rows(n)}, none of which does what is wanted ({DUTY[wanted[kind]]})")
        elif ok < least:
            gaps.append(f"{kind}: {_rows(ok)} of {n:,} with what is wanted ({DUTY[wanted[kind]]}), "
                        f"{least - ok:,} short of {least:,}")
        elif ok < n:
            gaps.append(f"{kind}: {n - ok:,} of {_rows(n)} without what is wanted ({DUTY[wanted[kind]]})")
    return Matrix("edge cases", KINDS, sides, DEEDS, cells, tuple(gaps), numbers)


def _rows(n: int) -> str:
    return f"{n:,} row{'' if n == 1 else 's'}"


def _edges(signals: pa.Table, families: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (position in KINDS or -1; 1 by the spec's family, 2 by the signal, 0 not at all) of each row."""
    sure = _numbers(signals["family_score"]) >= MIN_FAMILY
    family, names = _codes(signals["family"])
    by_family = np.array([KINDS.index(families[x]) if x in families else -1 for x in names] or [-1])[family]
    by_family = np.where(sure, by_family, -1)
    by_signal = np.full(signals.num_rows, -1)
    if "edge" in signals.column_names:
        edge, said = _codes(signals["edge"])
        by_signal = np.array([KINDS.index(x) if x in KINDS else -1 for x in said] or [-1])[edge]
    kind = np.where(by_family >= 0, by_family, by_signal)
    return kind, np.where(by_family >= 0, 1, np.where(kind >= 0, 2, 0))
