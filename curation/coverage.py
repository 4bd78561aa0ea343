"""What a set covers: its rows against the spec, what they ask for, how they are mixed, and what is said twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .asking import verb_noun
from .facility import Reach, choose, neighbours_for
from .families import form_of
from .neighbours import nearest
from .spec import Family, Spec

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Line:
    """One number of the coverage report. `least` and `most` are counts of rows; None = not bounded."""

    kind: str  # family | refused | answered | refusal_share | edge_case
    id: str
    have: int
    least: int | None
    most: int | None

    @property
    def met(self) -> bool:
        return (self.least is None or self.have >= self.least) and (self.most is None or self.have <= self.most)

    @property
    def gap(self) -> float:
        """How far the number is missed, as a share of what is wanted: 1 = nothing is there, 0 = met."""
        if self.least and self.have < self.least:
            return 1 - self.have / self.least
        if self.most is not None and self.have > self.most:
            return 1 - self.most / self.have
        return 0.0

    @property
    def message(self) -> str:
        """One sentence: what is there, what the spec wants, what to do."""
        what = {
            "family": f"family {self.id}",
            "refused": f"refused rows of category {self.id}",
            "answered": f"answered look-alikes of category {self.id}",
            "refusal_share": "refusing rows in all",
            "edge_case": f"edge case {self.id}",
        }[self.kind]
        if self.least is not None and self.have < self.least:
            return f"{what}: {self.have:,} rows, {self.least - self.have:,} short of {self.least:,}"
        if self.most is not None and self.have > self.most:
            return f"{what}: {self.have:,} rows, {self.have - self.most:,} more than {self.most:,}"
        return f"{what}: {self.have:,} rows"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met, "message": self.message}


def lines(signals: pa.Table, spec: Spec, *, size: int | None = None) -> list[Line]:
    """Return the coverage of the rows in `signals` (family, refusal, harm_category), gaps as lines not met.

    A target share counts against the rows given here, or against `size` rows; a family of the spec without rows has a
    line of 0.
    """
    n = signals.num_rows if size is None else size
    have = {key: int(mask.sum()) for key, mask in members(signals, spec).items()}
    out = []
    for f in spec.families:
        least, most = bounds(f, n)
        out.append(Line("family", f.id, have["family", f.id], least or None, most))
    if spec.families:
        out.append(Line("family", "(unassigned)", have["family", "(unassigned)"], None, None))
    out += [Line("refused", c.id, have["refused", c.id], c.min_refused or None, None) for c in spec.refusals.categories]
    out += [Line("answered", c.id, have["answered", c.id], c.min_answered or None, None) for c in spec.refusals.categories]
    low, high = spec.refusals.share
    if (low, high) != (0.0, 1.0):
        out.append(Line("refusal_share", "share", have["refusal_share", "share"], round(low * n), round(high * n)))
    out += [Line("edge_case", e.id, have["family", e.family], e.min_rows or None, None) for e in spec.edge_cases]
    return out


def bounds(family: Family, n: int) -> tuple[int, int | None]:
    """Return the least and the most rows the spec wants of a family in a set of `n` rows."""
    share = family.bounds
    if share is None:
        return family.min_rows, None
    return max(family.min_rows, int(share[0] * n)), int(share[1] * n) + 1


def members(signals: pa.Table, spec: Spec) -> dict[tuple[str, str], np.ndarray]:
    """Return {(kind, id) of a coverage line: (n,) bool, the rows it counts}."""
    family, refusal, category = (_plain(signals[c]) for c in ("family", "refusal", "harm_category"))
    harmless = np.asarray(pc.less(pc.fill_null(signals["harm"], 0.0), 0.5))
    refused = np.isin(refusal, ("refuse", "partial"))
    answered = np.isin(refusal, ("comply", "other_safe")) & harmless     # the benign contrast of a category
    out = {("family", f.id): family == f.id for f in spec.families}
    out["family", "(unassigned)"] = family == ""
    for c in spec.refusals.categories:
        out["refused", c.id] = refused & (category == c.id)
        out["answered", c.id] = answered & (category == c.id)
    out["refusal_share", "share"] = refusal == "refuse"
    out.update({("edge_case", e.id): family == e.family for e in spec.edge_cases})
    return out


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(pc.fill_null(column.cast(pa.string()), "").to_pylist(), object)


def effective_number(counts: Sequence[int] | np.ndarray) -> float:
    """Return exp of the Shannon entropy of `counts`: n equal kinds count as n, one kind as 1, nothing as 0."""
    p = np.asarray(counts, np.float64)
    p = p[p > 0] / p.sum() if len(p) and p.sum() else np.zeros(0)
    return float(np.exp(-(p * np.log(p)).sum())) if len(p) else 0.0


# ---- the report


@dataclass(frozen=True)
class Mix:
    """Counts of one kind of thing over the rows, largest first."""

    counts: dict[str, int]

    @property
    def effective(self) -> float:
        return effective_number(list(self.counts.values()))

    def share(self, name: str) -> float:
        return self.counts.get(name, 0) / max(1, sum(self.counts.values()))


@dataclass(frozen=True)
class Space:
    """What the embeddings of the prompts say about breadth; cosines are those of the model that made them."""

    rows: int                           # rows it was measured on: all, or a draw
    novelty: float                      # mean of `novelty`: how far rows are from those nearest to them
    nearest: dict[str, float]           # quantiles of the cosine to the nearest other row
    curve: tuple[tuple[float, float], ...]  # (share of the rows, best first; share of the coverage they reach)

    def last(self, share: float = 0.3) -> float:
        """Return the share of the coverage that the last `share` of the rows adds."""
        x, y = np.array(self.curve).T
        return float(1 - np.interp(1 - share, x, y))


@dataclass(frozen=True)
class Coverage:
    """The coverage report of one set. `mixes`: verb_noun, verb, format, language, turns, prompt_words, response_words."""

    rows: int
    lines: tuple[Line, ...]
    families: Mix
    mixes: Mapping[str, Mix]
    effective: Mapping[str, float]      # effective number of families, verb_nouns, formats and, where known, clusters
    quantiles: Mapping[str, Mapping[str, int]]  # words of prompts and responses
    space: Space | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def gaps(self) -> list[Line]:
        """Lines that are not met, the widest gap first."""
        return sorted((x for x in self.lines if not x.met), key=lambda x: (-x.gap, x.kind, x.id))

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "gaps": [x.as_dict() for x in self.gaps],
            "lines": [x.as_dict() for x in self.lines],
            "families": self.families.counts,
            "effective": dict(self.effective),
            "mixes": {name: mix.counts for name, mix in self.mixes.items()},
            "quantiles": {k: dict(v) for k, v in self.quantiles.items()},
            "space": None if self.space is None else {**asdict(self.space), "last_30_percent_add": self.space.last()},
            "notes": list(self.notes),
        }

    def frame(self) -> Any:
        """Return all counts as one DataFrame: mix, name, rows, share."""
        import pandas as pd

        parts = {"family": self.families, **self.mixes}
        return pd.DataFrame(
            [(kind, name, n, mix.share(name)) for kind, mix in parts.items() for name, n in mix.counts.items()],
            columns=["mix", "name", "rows", "share"],
        )


LENGTHS = (10, 25, 50, 100, 200, 400, 800)     # words: edges of the length mix
DRAWN = 20_000      # rows on which novelty and the redundancy curve are measured at most
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def report(
    rows: pa.Table, signals: pa.Table, spec: Spec, *, space: np.ndarray | None = None, progress: Progress | None = None
) -> Coverage:
    """Return the coverage report of `rows` with their `signals`; `space`: (n, dim) embeddings of the prompts, if asked for."""
    n = rows.num_rows
    asked, given, answers = (pc.fill_null(rows[c], "").to_pylist() for c in ("instruction", "input", "response"))
    pairs = [verb_noun(x) for x in asked]
    words = {"prompt_words": _words(asked, given), "response_words": _words(answers)}
    mixes = {
        "verb_noun": _mix(f"{v} {x}".strip() or "(none)" for v, x in pairs),
        "verb": _mix(v or "(none)" for v, _ in pairs),
        "format": _mix(form(x) for x in answers),
        "turns": _mix(_turns(rows)),
        **_language(rows, signals, asked),
        **{name: _buckets(count) for name, count in words.items()},
    }
    named = signals["family"] if spec.families else rows["family"]     # without a spec, what the data calls them
    families = _mix(x or "(unassigned)" for x in _plain(named).tolist())
    effective = {"families": families.effective, "verb_nouns": mixes["verb_noun"].effective, "formats": mixes["format"].effective}
    if "cluster" in signals.column_names and signals["cluster"].null_count < n:
        effective["clusters"] = _mix(map(str, signals["cluster"].drop_null().to_pylist())).effective
    quantiles = {
        name: {f"p{round(100 * q)}": int(x) for q, x in zip(_QUANTILES, np.quantile(count, _QUANTILES))} if n else {}
        for name, count in words.items()
    }
    found = measure(space, progress=progress) if space is not None and n else None
    notes = () if spec.families else ("the spec names no families: these are the data's own, held against no targets",)
    return Coverage(n, tuple(lines(signals, spec)), families, mixes, effective, quantiles, found, notes)


def _mix(names: Any) -> Mix:
    return Mix(dict(sorted(Counter(names).items(), key=lambda x: (-x[1], x[0]))))


def _words(*parts: Sequence[str]) -> np.ndarray:
    return np.sum([np.fromiter((len(x.split()) for x in part), np.int64, len(part)) for part in parts], axis=0)


def _buckets(count: np.ndarray) -> Mix:
    """Return how many rows have so many words, shortest first."""
    names = [f"under {LENGTHS[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(LENGTHS)), f"{LENGTHS[-1]} and more"]
    at = np.searchsorted(LENGTHS, count, side="right")
    return Mix({name: int((at == k).sum()) for k, name in enumerate(names)})


_FORMS = {"xempty": "empty", "xjson": "json", "xcode": "code", "xlist": "list", "xlabel": "label", "xshort": "short text",
          "xparagraph": "paragraph", "xlong": "long text"}


def form(response: str) -> str:
    """Return the form of an answer: empty, json, code, list, label, short text (to 20 words), paragraph (to 120), long text."""
    return _FORMS[form_of(response).split()[0]]


def _turns(rows: pa.Table) -> list[str]:
    counts = pc.fill_null(pc.list_value_length(rows["messages"]), 0).to_numpy()
    system = np.asarray(pc.not_equal(pc.fill_null(rows["system"], ""), ""))
    return [f"{t} turn{'s' if t > 1 else ''}{' with system' if s else ''}" for t, s in zip((counts - system + 1) // 2, system)]


_SCRIPTS = (("Latin", 0x41, 0x24F), ("Greek", 0x370, 0x3FF), ("Cyrillic", 0x400, 0x52F), ("Hebrew", 0x590, 0x5FF),
            ("Arabic", 0x600, 0x77F), ("Devanagari", 0x900, 0x97F), ("Thai", 0xE00, 0xE7F), ("Kana", 0x3040, 0x30FF),
            ("Han", 0x4E00, 0x9FFF), ("Hangul", 0xAC00, 0xD7AF))


def _language(rows: pa.Table, signals: pa.Table, prompts: Sequence[str]) -> dict[str, Mix]:
    """Return the mix of languages where the signal is there, else that of scripts, which costs nothing to tell."""
    if "language" in signals.column_names and signals["language"].null_count < signals.num_rows:
        return {"language": _mix(x or "(unknown)" for x in _plain(signals["language"]).tolist())}
    return {"script": _mix(script(x) for x in prompts)}


def script(text: str) -> str:
    """Return the script most letters of the first 200 characters are in, "other" or "(none)"."""
    head = text[:200]
    letters = [ord(c) for c in head if c.isalpha()]
    if not letters:
        return "(none)"
    if head.isascii():
        return "Latin"
    count = Counter(next((name for name, a, b in _SCRIPTS if a <= c <= b), "other") for c in letters)
    return max(count.items(), key=lambda x: (x[1], x[0]))[0]


# ---- embeddings


def measure(space: np.ndarray, *, seed: int = 0, progress: Progress | None = None) -> Space:
    """Return novelty, nearness and the redundancy curve of the rows of `space`, (n, dim) of unit length, n > 0."""
    n = len(space)
    draw = np.sort(np.random.default_rng(seed).permutation(n)[:DRAWN])
    some = np.asarray(space[draw], np.float32)
    reach = Reach(some, neighbours_for(len(draw), max(1, len(draw) // 10)), progress=progress)
    choice = choose(reach, len(draw), progress=progress)
    total = np.concatenate([[0.0], np.cumsum(choice.gain)])
    steps = np.unique(np.linspace(0, len(draw), 21).astype(int))
    curve = tuple((float(k / len(draw)), float(total[k] / total[-1])) for k in steps)
    near = nearest(some, 1)[1].ravel()
    quantiles = {f"p{round(100 * q)}": float(np.quantile(near, q)) for q in _QUANTILES} if len(near) else {}
    return Space(len(draw), float(novelty(some).mean()), quantiles, curve)


def novelty(space: np.ndarray, k: int = 10) -> np.ndarray:
    """Return (n,) how new each row is against the rest, after NovelSum (Yang et al. 2025), from its `k` nearest rows.

    The mean distance (1 - cosine) to the nearest rows, the j-th nearest with weight 1/j, each times the square root of the
    density around that row, so that a step away from a crowd counts more than one between rows that lie far apart. The
    original sums over all rows; the weights make the nearest decide. A single row has no neighbours: its novelty is 0.
    """
    index, cosine = nearest(space, k)
    if index.shape[1] == 0:
        return np.zeros(len(space))
    there = index >= 0
    far = np.where(there, 1 - cosine, 0).astype(np.float64)
    mean = far.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    density = 1 / np.maximum(mean, 0.01)        # a crowd of copies is not infinitely dense
    rank = there / np.arange(1, index.shape[1] + 1)
    return (rank * far * np.sqrt(density[index])).sum(axis=1) / np.maximum(rank.sum(axis=1), 1e-9)


# ---- two sets


@dataclass(frozen=True)
class Comparison:
    """What the second of two sets has that the first has not: before and after, and what the rows that came are like."""

    before: Coverage
    after: Coverage
    came: int
    gone: int
    stayed: int
    new_pairs: Mix                      # verb-noun pairs that the first set has not, by rows of the second
    came_near: Mapping[str, float] | None   # of the rows that came: cosine to the nearest row before
    filled: tuple[Line, ...]            # lines that are met now and were not
    opened: tuple[Line, ...]            # lines that were met and are not now

    def as_dict(self) -> dict[str, Any]:
        return {
            "came": self.came, "gone": self.gone, "stayed": self.stayed,
            "families": {f: [self.before.families.counts.get(f, 0), self.after.families.counts.get(f, 0)]
                         for f in sorted({*self.before.families.counts, *self.after.families.counts})},
            "effective": {k: [self.before.effective[k], self.after.effective[k]]
                          for k in self.after.effective if k in self.before.effective},
            "new_pairs": self.new_pairs.counts,
            "came_near": dict(self.came_near) if self.came_near else None,
            "filled": [x.as_dict() for x in self.filled], "opened": [x.as_dict() for x in self.opened],
            "before": self.before.as_dict(), "after": self.after.as_dict(),
        }


def compare(
    before: Coverage,
    after: Coverage,
    uids: tuple[Sequence[str], Sequence[str]],
    spaces: tuple[np.ndarray, np.ndarray] | None = None,
) -> Comparison:
    """Return what `after` adds to `before`; `uids` and `spaces` (embeddings) are those of the rows before and after."""
    old, new = set(uids[0]), set(uids[1])
    known = before.mixes["verb_noun"].counts
    pairs = Mix({k: n for k, n in after.mixes["verb_noun"].counts.items() if k not in known})
    met = {(x.kind, x.id): x.met for x in before.lines}
    came = np.flatnonzero([u not in old for u in uids[1]])
    near = None
    if spaces is not None and len(came) and len(spaces[0]):
        cosine = nearest(spaces[0], 1, spaces[1][came])[1].ravel()
        near = {
            "mean": float(cosine.mean()),
            "same (.95 and more)": float((cosine >= 0.95).mean()),
            "alike (.70 to .95)": float(((cosine >= 0.7) & (cosine < 0.95)).mean()),
            "new (under .70)": float((cosine < 0.7).mean()),
        }
    return Comparison(
        before, after, len(new - old), len(old - new), len(old & new), pairs, near,
        tuple(x for x in after.lines if x.met and met.get((x.kind, x.id)) is False),
        tuple(x for x in after.lines if not x.met and met.get((x.kind, x.id)) is True),
    )
