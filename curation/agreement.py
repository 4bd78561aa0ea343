"""Two readers: who is read a second time, how far both agree beyond chance, and where they do not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .contents import hashes
from .store import ASKING, READING, Store

VERDICTS = ("accept", "reject")     # an edit counts as accept: of the text as it then stands
DRAWS = 4000        # bootstrap draws of the interval of kappa
Z = 1.959964        # 97.5 % point of the normal distribution


@dataclass(frozen=True)
class Reading:
    """What one person said of a row."""

    actor: str
    verdict: str        # accept | reject
    reason: str
    action: int
    at: str


@dataclass(frozen=True)
class Pair:
    """Two readings of one row by two persons; `blind`: the second reader did not see the first verdict."""

    uid: str
    first: Reading
    second: Reading
    blind: bool
    drawn: bool                     # by chance; False: a person had put the row before a second reader
    settled: Reading | None = None  # the verdict that a person gave after both

    @property
    def same(self) -> bool:
        return self.first.verdict == self.second.verdict

    @property
    def words(self) -> str:
        """Both verdicts in a line."""
        one, two = (f"{r.actor}: {r.verdict}" + (f" ({r.reason})" if r.reason else "") for r in (self.first, self.second))
        return f"{one} · {two}"


@dataclass
class Readings:
    """The log as readings: which verdict of a person stands on a row, the pairs, and the rows that wait for a reader."""

    standing: dict[str, Reading] = field(default_factory=dict)      # given to this row alone
    by_uid: dict[str, dict[str, Pair]] = field(default_factory=dict)     # by uid and second reader
    asked: dict[str, Reading] = field(default_factory=dict)         # put before a second reader, and by whom

    @property
    def pairs(self) -> list[Pair]:
        """Every pair, in the order of the second readings."""
        return sorted((p for of in self.by_uid.values() for p in of.values()), key=lambda p: p.second.action)

    def waiting(self, reader: str) -> list[str]:
        """Return the uids that others have put before a second reader and nobody but them has read since."""
        return [uid for uid, by in self.asked.items() if by.actor != reader]

    def open(self) -> list[Pair]:
        """Return the pairs that disagree and are not settled, blind ones first, then the oldest."""
        return sorted((p for p in self.pairs if not p.same and p.settled is None), key=lambda p: not p.blind)


def readings(log: Iterable[Mapping[str, Any]]) -> Readings:
    """Return what the entries of `VerdictLog.readings` say, oldest first.

    Only actions about one row count as its reading: a verdict on a whole filter is none. Where a second person decides
    anew, differently and not to settle two readings, the two are a pair that is not blind.
    """
    out = Readings()
    ever: set[str] = set()
    for e in log:
        verdict = "accept" if e["verdict"] == "edit" else e["verdict"]
        uid, now = e["uid"], Reading(e["actor"], verdict, e["reason"], e["action"], e["at"])
        if e["kind"] == ASKING:
            out.asked[uid] = now
            ever.add(uid)
            continue
        if uid in out.asked and out.asked[uid].actor != now.actor:
            del out.asked[uid]
        if e["kind"] == READING:
            first = out.standing.get(uid)
            if first is not None and first.actor != now.actor:
                out.by_uid.setdefault(uid, {})[now.actor] = Pair(uid, first, now, True, uid not in ever)
        elif now.verdict == "clear":
            out.standing.pop(uid, None)
        elif e["alone"]:
            _decided(out, uid, now)
    return out


def _decided(out: Readings, uid: str, now: Reading) -> None:
    """Take in a person's verdict on one row: it settles what was open, or begins a pair."""
    pairs = out.by_uid.get(uid, {})
    waiting = [p for p in pairs.values() if not p.same and p.settled is None]
    for p in waiting:
        pairs[p.second.actor] = replace(p, settled=now)
    before = out.standing.get(uid)
    if before is not None and not waiting and before.actor != now.actor and before.verdict != now.verdict:
        out.by_uid.setdefault(uid, {})[now.actor] = Pair(uid, before, now, False, False)
    out.standing[uid] = now


# ---- agreement


@dataclass(frozen=True)
class Agreement:
    """How far two blind readings of the same rows agree. Shares are in [0, 1], kappa in [-1, 1]."""

    n: int                              # rows drawn by chance and read twice
    same: int                           # of them: rows with the same verdict
    raw: tuple[float, float, float]     # share, low, high: 95 % Wilson interval
    kappa: tuple[float, float, float] | None    # value, low, high: 95 % bootstrap; None: only one verdict was ever given
    table: dict[str, int]               # "accept/reject": first accepted, second rejected
    readers: dict[str, int]             # "ann/bo": rows
    asked: int                          # rows read twice because a person asked: not drawn, so they do not count
    open: int                           # disagreements that wait for a decision, of every kind
    settled: int

    @property
    def sentence(self) -> str:
        if not self.n:
            return "No row has been read twice by chance yet: the queue 'second' draws some."
        raw = f"{self.same:,} of {self.n:,} rows read twice got the same verdict ({shown(self.raw)})"
        if self.kappa is None:
            return f"{raw}; kappa is not defined, because both readers gave one verdict only."
        return f"{raw}; Cohen's kappa {shown(self.kappa)}."

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "raw": list(self.raw), "kappa": list(self.kappa) if self.kappa else None, "sentence": self.sentence}


def shown(value: tuple[float, float, float]) -> str:
    """Return a value with its interval as text: .70 [.48, .86]."""
    a, low, high = (f"{x:.2f}".replace("0.", ".", 1) for x in value)
    return f"{a} [{low}, {high}]"


def agreement(store: Store, *, seed: int = 0, draws: int = DRAWS) -> Agreement:
    """Return how far the second readings of a folder agree with the first.

    Cohen's kappa (1960) over accept and reject of the rows that were drawn by chance, each row once (its newest second
    reading), with the 2.5 % and 97.5 % points of `draws` bootstrap draws of the rows; draws in which kappa is not defined
    are left out.
    """
    found = readings(store.verdicts.readings())
    newest: dict[str, Pair] = {}
    for p in found.pairs:
        if p.blind:
            newest[p.uid] = p
    drawn = [p for p in newest.values() if p.drawn]
    cells = {f"{a}/{b}": sum(p.first.verdict == a and p.second.verdict == b for p in drawn) for a in VERDICTS for b in VERDICTS}
    who: dict[str, int] = {}
    for p in drawn:
        name = f"{p.first.actor}/{p.second.actor}"
        who[name] = who.get(name, 0) + 1
    n, same = len(drawn), cells["accept/accept"] + cells["reject/reject"]
    table = np.array(list(cells.values()), float).reshape(2, 2)
    return Agreement(
        n, same, wilson(same, n), _with_interval(table, seed, draws), cells, dict(sorted(who.items())),
        len(newest) - n, len(found.open()), sum(p.settled is not None for p in found.pairs))


def kappa(table: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa of (..., k, k) tables of counts; NaN where both readers gave one and the same verdict only."""
    n = table.sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.trace(table, axis1=-2, axis2=-1) / n
        chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1) / n**2
        return np.where(chance < 1 - 1e-12, (seen - chance) / (1 - chance), np.nan)


def _with_interval(table: np.ndarray, seed: int, draws: int) -> tuple[float, float, float] | None:
    n = int(table.sum())
    value = float(kappa(table)) if n else math.nan
    if math.isnan(value):
        return None
    drawn = np.random.default_rng(seed).multinomial(n, table.ravel() / n, size=draws).reshape(draws, *table.shape)
    low, high = np.nanpercentile(kappa(drawn.astype(float)), [2.5, 97.5])
    return value, float(low), float(high)


def wilson(hits: int, n: int) -> tuple[float, float, float]:
    """Return (share, low, high): the 95 % Wilson score interval; of nothing (0, 0, 1)."""
    if not n:
        return 0.0, 0.0, 1.0
    p = hits / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))


# ---- draws


def chance_order(uids: pa.Array | pa.ChunkedArray, seed: int = 0) -> np.ndarray:
    """Return (n,) int64: positions in an order drawn by chance that a row keeps whatever rows come or go.

    The order goes by a hash of `seed` and the uid, so every part of it from the beginning is a random draw.
    """
    mixed = (hashes(uids) ^ np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    return np.argsort(mixed * np.uint64(0xBF58476D1CE4E5B9), kind="stable")


def to_read_again(store: Store, reader: str, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return the rows for a blind second reading by `reader`: those put before a second reader, then the drawn ones.

    Drawn are rows that another person decided alone and nobody has read a second time, in an order by chance.
    """
    found = readings(store.verdicts.readings())
    asked = found.waiting(reader)
    known = {*asked, *(uid for uid, pairs in found.by_uid.items() if any(p.blind for p in pairs.values()))}
    drawn = [uid for uid, r in found.standing.items() if r.actor != reader and uid not in known]
    drawn = [drawn[k] for k in chance_order(pa.array(drawn, pa.string()), seed).tolist()]
    why = [f"put before a second reader by {found.asked[u].actor}" for u in asked] + ["drawn for a second reading"] * len(drawn)
    return _listed(store, [*asked, *drawn], why)


def disagreements(store: Store) -> list[dict[str, Any]]:
    """Return the rows on which two readers disagree and nobody has decided since, blind readings first."""
    found = readings(store.verdicts.readings()).open()
    return _listed(store, [p.uid for p in found], [p.words + ("" if p.blind else " (seen)") for p in found])


def _listed(store: Store, uids: Sequence[str], why: Sequence[str]) -> list[dict[str, Any]]:
    """Return queue lines, each row once; uids that the newest version does not have are left out."""
    at = pc.index_in(pa.array(uids, pa.string()), value_set=store.rows(columns=["uid"])["uid"]).to_pylist()
    lines = {u: {"row": i, "uid": u, "score": 0.0, "reason": w, "check": ""}
             for u, i, w in zip(uids, at, why, strict=True) if i is not None}
    return list(lines.values())


# ---- how often a check is right


@dataclass(frozen=True)
class Precision:
    """How often a person agreed with the flags of a check, on rows drawn by chance."""

    check: str                          # "" = all checks together
    right: int                          # rejected or edited
    n: int                              # drawn rows that a person decided one by one
    share: tuple[float, float, float]   # share, low, high: 95 % Wilson interval

    @property
    def sentence(self) -> str:
        return f"{self.right:,} of {self.n:,} right, {shown(self.share)}" if self.n else "no drawn row is decided yet"

    def as_dict(self) -> dict[str, Any]:
        return {"check": self.check, "right": self.right, "n": self.n, "share": list(self.share), "sentence": self.sentence}


DECIDED = 0.9       # share of the drawn rows that must be decided: those left out might be the hard ones


def precision(uids: pa.ChunkedArray, flagged: np.ndarray, said: Mapping[str, Reading], check: str, seed: int = 0) -> Precision:
    """Return how often persons found the flags of a check right: rows they rejected or edited of those they decided.

    `flagged`: rows with such a flag; `said`: their verdicts, "edit" as such. The rows count from the beginning of
    `chance_order`, as far as nine of ten are decided, so that verdicts on other rows (the worst first, say) do not count.
    """
    mine = uids.take(pa.array(flagged))
    order = chance_order(mine, seed)
    known = pc.is_in(mine, value_set=pa.array(list(said), pa.string())).to_numpy()[order]
    far = np.flatnonzero(known & (np.cumsum(known) >= DECIDED * np.arange(1, len(known) + 1)))
    if not len(far):
        return Precision(check, 0, 0, wilson(0, 0))
    drawn = order[: far[-1] + 1][known[: far[-1] + 1]]
    right = sum(said[u].verdict != "accept" for u in mine.take(pa.array(drawn)).to_pylist())
    return Precision(check, right, len(drawn), wilson(right, len(drawn)))
