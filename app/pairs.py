"""Copies and conflicts for the Duplicates page: stored pairs, groups at any threshold, what a decision stores, the component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow.compute as pc

from curation.clusters import FIELDS, word_diff
from curation.gate import DROP, Ranking, acting
from curation.model import SEVERITIES
from curation.sketch import components, distinct, similarity
from curation.spec import Spec
from curation.store import Entry, Store

from . import state
from .component import component

#: Kind of group and the checks whose flags join its rows.
KINDS: dict[str, tuple[str, ...]] = {
    "copies": ("dup.exact", "dup.near"), "conflicts": ("dup.conflict",), "meaning": ("dup.semantic",)}
ORDERS = ("largest first", "most alike first", "least alike first", "as imported")
SHOWN = 8           # rows of a group that the browser gets; the rest is a number
CUT = 3_000         # characters of a text that are shown and compared word by word
EDITABLE = 50_000   # characters of a text that can be merged in the browser
FLAGS = 4           # flags of other checks shown a row
BEFORE, AFTER = 8, 24       # groups that the browser holds around the place
NEAR = 1e-6         # similarities are stored as float32


# ---- pairs and groups


@dataclass(frozen=True)
class Links:
    """Pairs of rows that the last check run found alike or in conflict: row `one[i]`, row `two[i]`, `score[i]`."""

    one: np.ndarray     # (k,) int64
    two: np.ndarray     # (k,) int64
    score: np.ndarray   # (k,) float32 in [0, 1]
    n: int              # rows of the set
    low: float          # pairs below were not kept
    cut: float          # threshold of the check run


def links_of(index: state.Index, kind: str, options: Mapping[str, Mapping[str, Any]]) -> Links:
    """Return the pairs of a kind of group. `options`: those the checks ran with, as in flags/current.json.

    A flag names the row it resembles most first, and how much; that it belongs with the other rows it names holds
    from the threshold of the run down. So at that threshold the groups are those that the policy acts on.
    """
    checks = KINDS[kind]
    held = index.flag_check.mask(checks)
    flags, severity = index.flags.filter(held), index.flag_severity
    info = severity.mask(["info"])[held]
    exact = index.flag_check.mask(["dup.exact"])[held]
    ran = options.get(checks[-1], {})
    score = flags["score"].to_numpy().astype(np.float32)
    strong = score[~info & ~exact]
    cut = float(ran.get("threshold") or (strong.min() if len(strong) else 0.8))
    low = float(ran.get("floor") or cut)
    related = flags["related"]
    if kind == "copies":        # the row it resembles most and the first of its group: with them every row is joined
        related = pc.list_slice(related, 0, 2)
    size = pc.fill_null(pc.list_value_length(related), 0).to_numpy()
    two = pc.list_flatten(related).to_numpy().astype(np.int64)
    of = np.repeat(np.arange(len(size)), size)
    first = np.zeros(len(two), bool)
    first[(np.cumsum(size) - size)[size > 0]] = True
    value = np.where(first | exact[of] | (kind == "conflicts"), score[of], np.minimum(score[of], np.float32(cut)))
    value = np.where(info[of], np.minimum(value, np.float32(cut - 10 * NEAR)), value)      # below, whatever rounding says
    keep = first | ~info[of]
    one = flags["row"].to_numpy().astype(np.int64)[of]
    return Links(one[keep], two[keep], value[keep], index.n, min(low, cut), cut)


@dataclass(frozen=True)
class Groups:
    """Rows that belong together at a threshold: group g has the rows `rows[start[g]:start[g + 1]]`, ascending."""

    rows: np.ndarray    # (m,) int64
    start: np.ndarray   # (groups + 1,) int64
    weakest: np.ndarray     # (groups,) float32: the smallest similarity that joins it
    n: int              # rows of the set

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def left_out(self) -> int:
        """Rows that go when one row of each group is kept."""
        return len(self.rows) - len(self)

    def of(self, group: int) -> np.ndarray:
        return self.rows[self.start[group]: self.start[group + 1]]

    def holding(self, row: int) -> int | None:
        """Return the group that a row is in, None for none."""
        at = np.flatnonzero(self.rows == row)
        return int(np.searchsorted(self.start, at[0], side="right") - 1) if len(at) else None


def groups_at(links: Links, threshold: float) -> Groups:
    """Return the groups that pairs of at least this similarity make. No text is read: 1 M pairs take about 0.2 s."""
    held = links.score >= threshold - NEAR
    one, two, score = links.one[held], links.two[held], links.score[held]
    used = distinct(np.concatenate([one, two]))
    if not len(used):
        return Groups(used, np.zeros(1, np.int64), np.zeros(0, np.float32), links.n)
    left = np.searchsorted(used, one)
    root = components(left, np.searchsorted(used, two), len(used))
    order = np.argsort(root, kind="stable")
    edge = np.flatnonzero(np.diff(root[order])) + 1
    start = np.concatenate([[0], edge, [len(used)]])
    number = np.empty(len(used), np.int64)
    number[order] = np.repeat(np.arange(len(start) - 1), np.diff(start))
    weakest = np.ones(len(start) - 1, np.float32)
    np.minimum.at(weakest, number[left], score)
    return Groups(used[order], start, weakest, links.n)


def open_groups(groups: Groups, verdicts: state.Verdicts) -> np.ndarray:
    """Return (groups,) bool: those of which two rows or more are not rejected and not all of these are accepted."""
    if not len(groups):
        return np.zeros(0, bool)
    stays, settled = ~verdicts.rejected[groups.rows], verdicts.accepted[groups.rows]
    at = groups.start[:-1]
    return (np.add.reduceat(stays, at) >= 2) & (np.add.reduceat(stays & ~settled, at) > 0)


def ordered(groups: Groups, some: np.ndarray, order: str) -> np.ndarray:
    """Return the group numbers `some` in an order of ORDERS."""
    size = np.diff(groups.start)[some]
    by = {"largest first": -size, "most alike first": -groups.weakest[some], "least alike first": groups.weakest[some],
          "as imported": groups.rows[groups.start[:-1]][some]}[order]
    return some[np.argsort(by, kind="stable")]


def weights(index: state.Index, spec: Spec) -> np.ndarray:
    """Return (n,) float64, what speaks against keeping a row: 100 for a flag that drops it, 2 an error, 1 a warning.

    Flags that join copies do not count. The same weights as the gate's ranking, from the imported texts.
    """
    own = ~index.flag_check.mask(KINDS["copies"])
    rank = np.array([2 - SEVERITIES.index(s) for s in index.flag_severity.names] or [0], float)
    each = np.where(acting(index.flags, spec) == DROP, 100.0, rank[index.flag_severity.code])
    return np.bincount(index.flag_row[own], weights=each[own], minlength=index.n)


def ranking(index: state.Index, verdicts: state.Verdicts, store: Store, spec: Spec, weight: np.ndarray) -> Ranking:
    """Return the order in which the rows of a group are kept: the spec's `keep`, what is rejected last."""
    signals = store.signals()
    assert signals is not None, "groups are made from the flags of a check run"
    return Ranking(index.rows, signals, spec, weight, verdicts.accepted, verdicts.rejected)


def best(rank: Ranking, rows: np.ndarray) -> int:
    """Return the row of a group that would be kept."""
    return min(rows.tolist(), key=rank.key)


# ---- what a decision stores


def entries_for(did: str, kind: str, left: tuple[int, str], right: tuple[int, str], members: Sequence[tuple[int, str]],
                *, rejected: Sequence[str] = ()) -> tuple[list[Entry], str]:
    """Return what a decision stores and its words. `left`, `right`, `members`: (row number, uid); members: all that stay.

    did: left and right keep one of the pair, both keeps the two, neither none; only keeps the left one of the whole
    group, all every row of it. In a conflict the row that is kept is accepted: its answer is the right one. So is a row
    that is kept though it is `rejected` now, by the policy for instance.
    """
    right_one = kind == "conflicts"
    if did in ("left", "right", "only"):
        kept, others = (right, [left]) if did == "right" else (left, [right] if did == "left" else
                                                               [m for m in members if m != left])
        reason = f"row {kept[0]} has the right answer" if right_one else f"copy of row {kept[0]}"
        entries = [Entry(uid, "reject", reason) for _, uid in others]
        if right_one or kept[1] in rejected:
            entries.append(Entry(kept[1], "accept", "has the right answer" if right_one else "kept instead of its copy"))
        return entries, f"keep row {kept[0]:,}, reject {_rows([r for r, _ in others])}"
    if did in ("both", "all"):
        some = [left, right] if did == "both" else list(members)
        words = "each answer is right" if right_one else "not copies"
        return [Entry(uid, "accept", words) for _, uid in some], f"keep {_rows([r for r, _ in some])}"
    assert did == "neither", did
    return ([Entry(uid, "reject", "neither answer is right" if right_one else "neither is wanted") for _, uid in (left, right)],
            f"reject {_rows([left[0], right[0]])}")


def _rows(rows: Sequence[int]) -> str:
    return f"row {rows[0]:,}" if len(rows) == 1 else f"rows {rows[0]:,} and {rows[1]:,}" if len(rows) == 2 \
        else f"{len(rows):,} rows"


def merge_entries(kept: tuple[int, str], other: tuple[int, str], before: Mapping[str, str], fields: Mapping[str, str]
                  ) -> tuple[list[Entry], str]:
    """Return what a merge stores as one action: the kept row's new texts, and the reject of the other row.

    `before`: the kept row's texts as they are now; `fields`: those it shall have; unchanged ones are left out.
    """
    unknown = set(fields) - set(FIELDS)
    assert not unknown, f"fields {unknown} are not among {FIELDS}"
    edits = [Entry(kept[1], "edit", f"merged with row {other[0]}", name, before[name], text)
             for name, text in fields.items() if text != before[name]]
    return ([*edits, Entry(other[1], "reject", f"merged into row {kept[0]}")],
            f"merge row {other[0]:,} into row {kept[0]:,}")


# ---- one browser session's way through the groups


@dataclass
class Sitting:
    """One queue of groups being worked through; changed in place, so nothing falls between two steps."""

    id: str                     # differs for each filling
    kind: str
    groups: Groups
    queue: list[int]            # group numbers, in order
    rank: Ranking
    pos: int = 0
    actions: list[int | None] = field(default_factory=list)     # None for a skip
    decided: int = 0
    alike: dict[tuple[int, int], str] = field(default_factory=dict)     # of pairs of rows, as they were imported

    def one(self, entry: Mapping[str, Any], client: tuple[str, int], store: Store, index: state.Index, desk: state.Desk) -> None:
        """Store one decision of the browser. `client`: its name and the number of its message."""
        did = entry["did"]
        if did is None:
            self._undo(store, desk)
            return
        group = int(entry["group"])
        assert 0 <= group < len(self.groups), f"group {group} of {len(self.groups)}"
        if did == "skip":
            self.queue.append(group)
            self.actions.append(None)
            return
        rows = self.groups.of(group)
        uids = dict(zip(state.uids_at(index, rows.tolist()), rows.tolist(), strict=True))
        left, right = ((uids[entry[side]], entry[side]) for side in ("left", "right"))
        if did == "merge":
            kept, other = (left, right) if entry["keep"] == left[1] else (right, left)
            before = texts_of(index, kept[0], store.verdicts.edits().get(kept[1], {}))
            made = merge_entries(kept, other, before, entry["fields"])
        else:
            decisions = store.verdicts.decisions() if did in ("only", "all") else {}
            stay = [(row, uid) for uid, row in uids.items() if uid not in decisions or decisions[uid].verdict != "reject"]
            gone = [uid for _, uid in (left, right) if (d := store.verdicts.decision(uid)) and d.verdict == "reject"]
            made = entries_for(did, self.kind, left, right, stay, rejected=gone)
        self.actions.append(desk.decide(store, *made, client=client))
        self.decided += 1

    def _undo(self, store: Store, desk: state.Desk) -> None:
        if not self.actions:
            return
        action = self.actions.pop()
        if action is None:
            self.queue.pop()
            return
        self.decided -= 1
        if any(d[0] == action for d in desk.done):      # not taken back elsewhere meanwhile
            store.verdicts.undo(action, actor=desk.actor)
            desk.done = [d for d in desk.done if d[0] != action]
            desk.said = "undone"


@dataclass
class Way:
    """The queues that one browser session has been given, and how much of each browser tab's log is stored."""

    sittings: dict[str, Sitting] = field(default_factory=dict)
    acked: dict[str, int] = field(default_factory=dict)
    client: str = ""            # the tab that spoke last

    def add(self, sitting: Sitting) -> None:
        """Keep a queue; a few earlier ones stay, for what was decided on them while the new one was on its way."""
        self.sittings[sitting.id] = sitting
        for old in list(self.sittings)[:-4]:
            del self.sittings[old]

    def take(self, said: Mapping[str, Any], store: Store, index: state.Index, desk: state.Desk) -> None:
        """Store what the browser has decided and not yet been told of, in its order."""
        self.client = str(said.get("client", ""))
        for entry in sorted(said["log"], key=lambda e: e["seq"]):
            if entry["seq"] > self.acked.get(self.client, 0) and entry["queue"] in self.sittings:
                self.sittings[entry["queue"]].one(entry, (self.client, entry["seq"]), store, index, desk)
                self.acked[self.client] = entry["seq"]
        if (sitting := self.sittings.get(said["queue"])) is not None:
            sitting.pos = max(0, min(len(sitting.queue), int(said["pos"])))


# ---- what the browser draws


def texts_of(index: state.Index, row: int, edit: Mapping[str, str]) -> dict[str, str]:
    """Return the three texts of a row, edits applied."""
    one = index.rows.slice(row, 1)
    return {name: edit.get(name, one[name][0].as_py() or "") for name in FIELDS}


def views(index: state.Index, verdicts: state.Verdicts, sitting: Sitting, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Return what the browser draws of some groups: rows by rank, rejected ones last, each compared with the first."""
    out, pairs = [], []
    for number in numbers:
        members = sitting.groups.of(number)
        if len(members) > 500:      # of a very large group the best of the first rows leads
            members = members[:500]
        order = sorted(members.tolist(), key=lambda r: (bool(verdicts.rejected[r]), *sitting.rank.key(r)))[:SHOWN]
        rows = [_row(index, verdicts, row, sitting.kind) for row in order]
        total = int(sitting.groups.start[number + 1] - sitting.groups.start[number])
        out.append({"group": number, "id": rows[0]["id"], "n": total, "weakest": f"{sitting.groups.weakest[number]:.2f}",
                    "why": sitting.rank.why(order[0], order[1]), "rows": rows, "pairs": {}})
        pairs += [(order[0], row) for row in order[1:]]
    sitting.alike.update(_alike(index, [p for p in pairs if p not in sitting.alike]))
    for view in out:
        head = view["rows"][0]
        for other in view["rows"][1:]:
            view["pairs"][other["id"]] = {
                "to": head["id"], "alike": sitting.alike[head["row"], other["row"]],
                "diff": {f: _diff(head["shown"][f], other["shown"][f]) for f in FIELDS}}
    for row in (r for view in out for r in view["rows"]):
        row["long"] = any(len(t) > EDITABLE for t in row["texts"].values())
        row["more"] = {f: len(t) - CUT for f, t in row["texts"].items() if len(t) > CUT}
        if row["long"]:
            row["texts"] = {}
    return out


def _row(index: state.Index, verdicts: state.Verdicts, row: int, kind: str) -> dict[str, Any]:
    uid = index.rows.slice(row, 1)["uid"][0].as_py()
    texts = texts_of(index, row, verdicts.edits.get(uid, {}))
    flags = [{"check": f["check"], "severity": f["severity"], "message": f["message"]}
             for f in index.flags_of(row) if f["check"] not in KINDS[kind] or kind == "conflicts"]
    turns = len(index.rows.slice(row, 1)["messages"][0])
    return {"id": uid, "row": row, "family": index.family.names[index.family.code[row]],
            "verdict": state.verdict_text(uid, verdicts), "rejected": bool(verdicts.rejected[row]),
            "flags": flags[:FLAGS], "more_flags": max(0, len(flags) - FLAGS), "turns": turns, "texts": texts,
            "shown": {f: t[:CUT] for f, t in texts.items()}}


def _alike(index: state.Index, pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Return how alike pairs of rows are, field by field, in words: Jaccard similarity of character 5-grams."""
    if not pairs:
        return {}
    rows = np.unique(np.array(pairs, np.int64))
    texts = [texts_at(index.rows[f], rows) for f in FIELDS]
    one, two = (np.searchsorted(rows, np.array([p[k] for p in pairs])) for k in (0, 1))
    whole, fields = similarity(texts, one, two, unit="char", threads=1)
    return {pair: f"letters {whole[k]:.2f} alike (" + ", ".join(f"{f} {fields[k, c]:.2f}" for c, f in enumerate(FIELDS)) + ")"
            for k, pair in enumerate(pairs)}


def texts_at(column: Any, rows: np.ndarray) -> Any:
    """Return the texts of some rows, ascending, as an Arrow array; chunk by chunk, so no chunk is copied."""
    import pyarrow as pa

    ends = np.cumsum([len(c) for c in column.chunks])
    parts = [c.take(pa.array(rows[lo:hi] - (end - len(c)))) for c, end, lo, hi in zip(
        column.chunks, ends, np.searchsorted(rows, ends - [len(c) for c in column.chunks]), np.searchsorted(rows, ends),
        strict=True) if hi > lo]
    return pc.fill_null(pa.concat_arrays(parts), "") if parts else pa.array([], pa.string())


@lru_cache(maxsize=2048)
def _diff(a: str, b: str) -> list[tuple[int, str]]:
    """Return a word diff as [(0 equal, 1 only left, 2 only right; text)]."""
    code = {"equal": 0, "delete": 1, "insert": 2}
    return [(code[op], text) for op, text in word_diff(a, b)]


def show(batch: Sequence[Mapping[str, Any]], sitting: Sitting, way: Way, *, start: int) -> None:
    """Draw the window of groups from place `start` of the queue on; the browser's answer lies in session_state["pairs"]."""
    component("pairs", "cp-pairs")(
        key="pairs", height="content", on_desk_change=lambda: None, default={"desk": None},
        data={"batch": list(batch), "kind": sitting.kind, "queue": sitting.id, "start": start, "pos": sitting.pos,
              "total": len(sitting.queue), "client": way.client, "acked": way.acked.get(way.client, 0)})
