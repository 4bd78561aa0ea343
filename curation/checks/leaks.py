"""The check for prompts that stand on both sides of a split the data brings along."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..contents import worn
from ..options import Permutations, Similarity
from ..text import fold, words
from .base import Past, check, flags

#: Names of parts that are held out; every other name is training data.
HELD_OUT = re.compile(r"^(val|valid|validation|dev|devel|development|test|testing|eval|evaluation|held[-_ ]?out|holdout)"
                      r"(?![a-z])", re.IGNORECASE)
#: Held-out rows named in `related` of one flag.
RELATED = 50


def _sides(split: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return masks (training rows, held-out rows); a row without a split is on neither side."""
    names = split.cast(pa.string()).combine_chunks().dictionary_encode()
    out = np.array([bool(HELD_OUT.match(x.strip())) for x in names.dictionary.to_pylist()] + [False])
    named = np.array([bool(x.strip()) for x in names.dictionary.to_pylist()] + [False])
    code = pc.fill_null(names.indices, len(out) - 1).to_numpy()
    return named[code] & ~out[code], out[code]


def _prompts(rows: pa.Table) -> list[pa.Array]:
    """Return (what came before the last exchange, instruction, input) as Arrow text."""
    before = pc.fill_null(rows["system"], "").combine_chunks()
    count = pc.fill_null(pc.list_value_length(rows["messages"]), 0).to_numpy()
    longer = np.flatnonzero(count > 2 + (np.asarray(pc.utf8_length(before)) > 0))
    if len(longer):
        texts = before.to_pylist()
        for i, turns in zip(longer.tolist(), rows["messages"].take(pa.array(longer)).to_pylist(), strict=True):
            texts[i] = "\n".join(f"{m['role']}: {m['content']}" for m in turns[:-2])
        before = pa.array(texts, pa.string())
    return [before, *(pc.fill_null(rows[c], "").combine_chunks() for c in ("instruction", "input"))]


def _same_question(one: str, two: str) -> bool:
    """Whether two similar prompts ask the same: no number differs, and no word is exchanged for quite another."""
    a, b = ({w for w in words(fold(x))} for x in (one, two))
    only_a, only_b = a - b, b - a
    if any(c.isdigit() for w in only_a | only_b for c in w):
        return False
    for word in sorted(only_a):
        slip = next((x for x in sorted(only_b) if difflib.SequenceMatcher(None, word, x, autojunk=False).ratio() >= 0.8), None)
        if slip is not None:
            only_a.discard(word)
            only_b.discard(slip)
    return not (only_a and only_b)


@check("dup.leak", reads=("messages", "system", "instruction", "input", "split"), severity="error", action="drop",
       scope="dataset")
def leak(rows: pa.Table, past: Past, *, threshold: Similarity = 0.8, num_perm: Permutations = 128) -> pa.Table:
    """The prompt of a training row is also asked in the held-out part.

    Where the data names its splits, rows of validation, dev, test, eval or held-out parts are compared with all other
    rows that name a split. Prompts leak when turns before, instruction and input are each similar: Jaccard of their
    character 5-grams >= `threshold`, no number differs and no word is exchanged for another. The training row is
    flagged, the held-out one stays; `related` names the held-out rows, the score is the similarity. Data without
    splits has no flags: the export holds out whole clusters of duplicates by itself.

    Why: what was trained on is no test; scores rise without the model being any better.
    Misses: paraphrases across the split; rows that name no split.
    False positives: short prompts that everybody asks ("Hello").
    """
    train, held = _sides(rows["split"])
    if not train.any() or not held.any():
        return flags(rows, {"at": []})
    found = _across(_prompts(rows), train, held, threshold, num_perm, past)
    number = rows["row"].to_numpy()
    names = rows["split"].cast(pa.string())
    at = sorted(found)
    message, related, score = [], [], []
    for i in at:
        others = sorted(found[i], key=lambda x: (-x[1], x[0]))
        first, value = others[0]
        how = "the prompt" if value == 1.0 else f"nearly the prompt ({value:.2f})"
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        message.append(f"{names[i].as_py()} row asks {how} of {names[first].as_py()} row {number[first]}{more}")
        related.append([int(number[j]) for j, _ in others[:RELATED]])
        score.append(value)
    return flags(rows, {"at": at, "score": score, "field": "instruction", "message": message, "related": related})


def _across(
    columns: list[pa.Array], train: np.ndarray, held: np.ndarray, threshold: float, num_perm: int, past: Past,
) -> dict[int, list[tuple[int, float]]]:
    """Return {training row: [(held-out row, similarity)]}."""
    from ..sketch import Found, find, pairs_of, search

    asked = np.flatnonzero((train | held) & np.asarray(pc.not_equal(pc.binary_join_element_wise(*columns, ""), "")))
    columns = [c.take(pa.array(asked)) for c in columns]
    old = _old(past)
    plan = search(threshold=threshold, unit="char", num_perm=num_perm)
    found = find(columns, plan, Found.of(old, "found.") if old else None)
    leader = np.arange(len(asked))
    leader[found.copy] = found.first
    on_train: dict[int, list[int]] = defaultdict(list)
    on_held: dict[int, list[int]] = defaultdict(list)
    for k, i in enumerate(asked.tolist()):
        (on_train if train[i] else on_held)[int(leader[k])].append(i)
    out: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for k in on_train.keys() & on_held.keys():
        for i in on_train[k]:
            out[i] += [(j, 1.0) for j in on_held[k][:RELATED]]
    pairs = pairs_of(columns, found, plan)
    lead = (leader[pairs.left] == pairs.left) & (leader[pairs.right] == pairs.right)
    left, right, score = pairs.left[lead], pairs.right[lead], pairs.score[lead]
    known: dict[tuple[int, int], bool] = {}
    if old:
        known = {(a, b): same for a, b, same in zip(*(old[x].tolist() for x in ("left", "right", "same")), strict=True)}
    judged: dict[tuple[int, int], bool] = {}
    for a, b, value in zip(left.tolist(), right.tolist(), score.tolist(), strict=True):
        sides = [(t, h) for t, h in ((a, b), (b, a)) if t in on_train and h in on_held]
        if not sides:
            continue
        if (a, b) not in known:
            known[a, b] = _same_question(*("\n".join(c[k].as_py() for c in columns) for k in (a, b)))
        judged[a, b] = known[a, b]
        if judged[a, b]:
            for t, h in sides:
                for i in on_train[t]:
                    out[i] += [(j, value) for j in on_held[h][:RELATED]]
    if old and not worn(past):
        return out
    ends = np.array(sorted(judged), np.int64).reshape(-1, 2)
    past.save({"rows": np.array([len(train)]), **found.arrays("found."), "left": ends[:, 0], "right": ends[:, 1],
               "same": np.array([judged[a, b] for a, b in ends.tolist()], np.bool_)})
    return out


def _old(past: Past) -> dict[str, np.ndarray]:
    """Return what the last run kept when its rows are the first of the present ones, in order; else nothing."""
    old = past.load()
    if old is None:
        return {}
    n, earlier = int(old["rows"][0]), past.earlier
    added = n <= len(earlier) and (earlier[:n] == np.arange(n)).all() and (earlier[n:] == -1).all()
    return old if added else {}
