"""Which rows to keep when only some may stay: the spec's numbers first, then the rows that stand for most others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from pyarrow import csv

from . import coverage, gate, manner
from .errors import CurationError
from .facility import TINY, Choice, Group, Reach, choose, neighbours_for
from .gate import Effective, effective
from .spec import Spec
from .store import Entry, Store, atomic
from .vectors import Vectors

Progress = Callable[[str, int, int], None]

KIND = "selection"      # of the action in the verdict log; in a ledger, why a row that was not chosen is left out
GROUND = 200_000        # rows chosen from at most, or 4 for each row wanted when that is more; a draw of the others is left out
ASKED = 0.3             # weight of how a row asks and answers beside what it is about: docs/selection.md
FLAGGED = 0.5           # what a row with an open warning counts against a clean one
DRAWS = 5               # random choices of the same size that the choice is compared with
MEASURED = 10_000       # rows on which the exact nearest cosine is measured

COLUMNS = ("rank", "row", "uid", "family", "why", "gain", "covers", "stands_for", "reason")


@dataclass(frozen=True)
class Selection:
    """What was chosen, how good the choice is, and what stood in the way."""

    table: pa.Table                     # COLUMNS, best first
    size: int
    rows: int                           # in the folder
    eligible: int
    left_out: dict[str, int]            # why rows could not be chosen: reason and rows
    drawn: int                          # rows chosen from; less than `eligible` for very large sets
    neighbours: int                     # a row, in the objective
    objective: float
    bound: float
    random_objective: tuple[float, ...]     # of random choices of the same size from the same rows
    similarity: float                   # mean cosine of a row to the nearest chosen row, exactly
    random_similarity: tuple[float, ...]
    notes: tuple[str, ...]
    lines: tuple[coverage.Line, ...]    # the choice against the spec's numbers
    embedded: str = ""                  # what the prompts were embedded with, and why

    def frame(self) -> Any:
        """Return the table of the choice as a DataFrame."""
        return self.table.to_pandas()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, without the table."""
        names = ("size", "rows", "eligible", "left_out", "drawn", "neighbours", "objective", "bound", "similarity", "embedded")
        return {
            **{n: getattr(self, n) for n in names},
            "random_objective": list(self.random_objective),
            "random_similarity": list(self.random_similarity),
            "notes": list(self.notes),
            "coverage": [x.as_dict() for x in self.lines],
        }


# ---- a folder


def select(
    store: Store,
    spec: Spec,
    size: int,
    *,
    seed: int = 0,
    vectors: Vectors | None = None,
    model: str = "",
    progress: Progress | None = None,
) -> Selection:
    """Return the choice of `size` rows of a folder by spec, flags, verdicts and diversity; nothing is written.

    Left out are rows with a rejecting verdict, rows that the policy would drop, and rows with an open error. An earlier
    selection does not count against a row. `seed` moves only the random choices for comparison. `vectors`: where
    embeddings of the prompts come from (default: the folder's own); `model`: as `Vectors.of` takes it.
    """
    if size < 1:
        raise CurationError(f"--size {size}: a choice has at least one row", "for example --size 1000")
    state, out, weight = _eligible(effective(store, spec), spec)
    at = np.flatnonzero(out == "")
    left_out = dict(sorted(Counter(out[out != ""].tolist()).items()))
    if size > len(at):
        why = "; ".join(f"{n:,} {reason}" for reason, n in left_out.items())
        raise CurationError(
            f"--size {size:,}: only {len(at):,} of {state.rows.num_rows:,} rows can be chosen" + (f" ({why})" if why else ""),
            f"ask for at most {len(at):,}" if len(at) else "curation review brings rows back",
        )
    groups, most, notes = _wanted(state.signals.take(pa.array(at)), spec, size)
    uids = state.rows["uid"].take(pa.array(at))
    accepted = state.person[at]
    if (many := int(accepted.sum())) > size:
        raise CurationError(
            f"--size {size:,}: persons accepted or edited {many:,} rows, and their verdicts outrank a selection",
            f"ask for at least {many:,}",
        )
    draw = _draw(uids.to_pylist(), size, groups, accepted)
    some = at[draw]
    view = state.rows.select(["uid", "instruction", "input", "response"]).take(pa.array(some))
    vectors = vectors or Vectors(store.path)
    space = task_space(view, space_of(store, view, vectors, model))
    reach = Reach(space, neighbours_for(len(draw), size), weight[some], progress)
    family = _family_codes(state, spec)[some]
    picked = choose(
        reach,
        size,
        family=family,
        most=most,
        groups=[replace(g, member=g.member[draw]) for g in groups],
        accepted=accepted[draw],
        progress=progress,
    )
    notes += _after(picked, groups, size)
    rng = np.random.default_rng(seed)
    others = [rng.permutation(len(draw))[:size] for _ in range(DRAWS)]
    measured = rng.permutation(len(draw))[:MEASURED]
    table = _table(state, some, picked, reach, groups)
    lines = coverage.lines(state.signals.take(pa.array(np.sort(some[picked.rows]))), spec)
    return Selection(
        table, size, state.rows.num_rows, len(at), left_out, len(draw), reach.k, picked.objective, picked.bound,
        tuple(reach.objective(x) for x in others),
        _similarity(space, picked.rows, measured),
        tuple(_similarity(space, x, measured) for x in others),
        tuple(notes), tuple(lines), vectors.why,
    )


def space_of(store: Store, rows: pa.Table, vectors: Vectors | None = None, model: str = "") -> np.ndarray:
    """Return (n, dim) embeddings of unit length of the prompts of `rows`, from the folder's cache where they are there."""
    asked, given = (pc.fill_null(rows[c], "").to_pylist() for c in ("instruction", "input"))
    return (vectors or Vectors(store.path)).of(rows["uid"].to_pylist(), prompts(asked, given), model)


def task_space(rows: pa.Table, space: np.ndarray) -> np.ndarray:
    """Return (n, dim) unit vectors in which rows are near that are about like things and ask in like ways.

    `space`: embeddings of the prompts, which go by topic. A row's task is carried by how it asks and answers, so that
    part, `manner.space`, stands beside them with a weight of .3.
    """
    asked, given, answers = (pc.fill_null(rows[c], "").to_pylist() for c in ("instruction", "input", "response"))
    ways = manner.space(asked, given, answers, keys=_keys(rows["uid"].to_pylist()))
    scale = np.float32(np.sqrt(1 - ASKED)), np.float32(np.sqrt(ASKED))
    return np.concatenate([scale[0] * np.asarray(space, np.float32), scale[1] * ways], axis=1)


def _keys(uids: Sequence[str]) -> np.ndarray:
    """Return (n,) uint64 hashes of uids, by which rows are drawn: a row more does not change the draw of the others."""
    return np.fromiter((xxhash.xxh3_64_intdigest(u.encode()) for u in uids), np.uint64, len(uids))


def prompts(instructions: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """Return what a user typed, instruction and input, as it is embedded."""
    return [f"{i}\n{x}" if x else i for i, x in zip(instructions, inputs, strict=True)]


def can_be_chosen(store: Store, spec: Spec) -> np.ndarray:
    """Return (n,) bool: the rows that a selection chooses from."""
    return _eligible(effective(store, spec), spec)[1] == ""


def _eligible(state: Effective, spec: Spec) -> tuple[Effective, np.ndarray, np.ndarray]:
    """Return the state without an earlier selection, (n,) why a row is left out ("" = it is not), (n,) weights."""
    uids = state.rows["uid"].to_pylist()
    rejected = state.rejected.copy()
    reason = np.full(len(uids), "", object)
    for i in np.flatnonzero(rejected).tolist():
        decision = state.decisions[uids[i]]
        if decision.kind == KIND:
            rejected[i] = False
        else:
            reason[i] = f"rejected ({decision.check_id or decision.kind})"
    state = replace(state, rejected=rejected)
    at = {uid: i for i, uid in enumerate(uids)}
    for entry in gate.policy_entries(state, spec):
        i = at[entry.uid]
        if entry.verdict == "reject" and not reason[i]:
            reason[i] = f"the policy drops them ({entry.check_id})"
    found = gate.open_flags(state, spec)
    row = found["row"].to_numpy()
    severe = np.asarray(pc.equal(found["severity"].cast("string"), "error"))
    to_person = gate.acting(found, spec) == gate.REVIEW
    weight = np.ones(len(uids), np.float32)
    weight[row] = FLAGGED
    for i in np.unique(row[severe & to_person & ~state.person[row]]).tolist():
        reason[i] = reason[i] or "with an open error flag"
    return state, reason, weight


def _family_codes(state: Effective, spec: Spec) -> np.ndarray:
    """Return (n,) the position of each row's family in the spec, -1 where it has none."""
    names = pa.array([f.id for f in spec.families], pa.string())
    return np.asarray(pc.fill_null(pc.index_in(state.signals["family"], value_set=names), -1)).astype(np.int64)


def _wanted(signals: pa.Table, spec: Spec, size: int) -> tuple[list[Group], np.ndarray, list[str]]:
    """Return what the spec wants of a choice of `size` rows: groups with a least, the most of each family, notes."""
    notes: list[str] = []
    members = coverage.members(signals, spec)
    found = [
        Group(f"{line.kind} {line.id}", members[line.kind, line.id], line.least or 0)
        for line in coverage.lines(signals, spec, size=size)
        if line.least and (line.kind, line.id) in members
    ]
    most = np.array([size if f.bounds is None else int(f.bounds[1] * size) + 1 for f in spec.families], np.int64)
    for group in found:
        have = int(group.member.sum())
        if have < group.least:
            notes.append(f"{group.name}: the spec wants {group.least:,} rows, only {have:,} can be chosen")
    asked = sum(g.least for g in found if g.name.startswith("family "))
    if asked > size:
        notes.append(
            f"the spec asks for at least {asked:,} rows of its families, more than --size {size:,}: its numbers are cut to "
            f"{size / asked:.0%}, families in proportion"
        )
        found = [replace(g, least=max(1, g.least * size // asked)) for g in found]
    found = [replace(g, least=min(g.least, int(g.member.sum()))) for g in found]
    return [g for g in found if g.least], most, notes


def _draw(uids: list[str], size: int, groups: Sequence[Group], accepted: np.ndarray) -> np.ndarray:
    """Return the positions chosen from: all, or for a very large set those with the smallest hashes of their uids.

    Rows that a person accepted and four times what each group needs are always among them.
    """
    n = len(uids)
    ground = max(GROUND, 4 * size)
    if n <= ground:
        return np.arange(n)
    order = np.argsort(_keys(uids), kind="stable")
    held = accepted.copy()
    held[order[:ground]] = True
    for group in groups:
        held[order[group.member[order]][: 4 * group.least]] = True
    return np.flatnonzero(held)


def _after(picked: Choice, groups: Sequence[Group], size: int) -> list[str]:
    """Return what the choice shows about the set."""
    notes = []
    beyond = picked.why.count("beyond")
    if beyond:
        notes.append(f"{beyond:,} rows go beyond the most that the spec wants of their family: nothing else was left")
    idle = int((picked.gain < TINY).sum())
    if idle:
        notes.append(f"{idle:,} rows add nothing that is not already there; --size {size - idle:,} covers as much")
    return notes


def _similarity(space: np.ndarray, chosen: np.ndarray, measured: np.ndarray) -> float:
    """Return the mean cosine of the rows at `measured` to their nearest row in `chosen`, 1 for a chosen row."""
    best = np.full(len(measured), -1, np.float32)
    for start in range(0, len(chosen), 4096):
        rows = np.asarray(space[np.sort(chosen[start : start + 4096])], np.float32)
        for low in range(0, len(measured), 4096):
            part = slice(low, low + 4096)
            best[part] = np.maximum(best[part], (np.asarray(space[measured[part]], np.float32) @ rows.T).max(axis=1))
    return float(np.clip(best, -1, 1).mean())


def _table(state: Effective, some: np.ndarray, picked: Choice, reach: Reach, groups: Sequence[Group]) -> pa.Table:
    """Return COLUMNS of the chosen rows, in the order in which they were taken."""
    rows = some[picked.rows]
    uids = state.rows["uid"].take(pa.array(rows))
    wanted = {g.name: g.least for g in groups}
    place: Counter[str] = Counter()
    reasons = []
    for k, uid in enumerate(uids.to_pylist()):
        why = picked.why[k]
        place[why] += 1
        reasons.append(_reason(why, place[why], wanted, picked, k, state.decisions.get(uid)))
    return pa.table(
        {
            "rank": pa.array(np.arange(1, len(rows) + 1)),
            "row": pa.array(rows),
            "uid": uids,
            "family": state.signals["family"].take(pa.array(rows)),
            "why": pa.array(list(picked.why), pa.string()),
            "gain": pa.array(picked.gain),
            "covers": pa.array(picked.covers),
            "stands_for": pa.array(picked.stands_for),
            "reason": pa.array(reasons, pa.string()),
        }
    )


def _reason(why: str, place: int, wanted: dict[str, int], picked: Choice, k: int, decision: Any) -> str:
    covers = int(picked.covers[k])
    if picked.gain[k] < TINY:
        what = "adds nothing, its like is already chosen"
    elif covers <= 1:
        what = "nothing chosen before is like it"
    else:
        what = f"nearer to {covers:,} rows than anything chosen before"
    if why == "accepted":
        return f"{'edited' if decision.by_edit else 'accepted'} by {decision.actor}"
    if why == "beyond":
        return f"{what}; beyond its family's most, because nothing else was left"
    return what if why == "covers" else f"{why}: {place:,} of {wanted[why]:,} still needed; {what}"


# ---- out of here


def write_table(table: pa.Table, path: Path) -> None:
    """Write the table of a choice as .csv, .jsonl or .parquet, by the name of the file."""
    assert path.suffix in (".csv", ".jsonl", ".parquet"), path
    with atomic(path) as f:
        if path.suffix == ".parquet":
            pq.write_table(table, f, compression="zstd")
        elif path.suffix == ".csv":
            csv.write_csv(table, f)
        else:
            f.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in table.to_pylist())


def write_verdicts(store: Store, spec: Spec, selection: Selection) -> int:
    """Reject the rows that could have been chosen and were not, as one undoable action; return its number.

    Rows chosen now and not chosen by a selection before are free again. A person's verdict outranks a selection, which
    outranks policy and accepted fixes. The table of the choice is kept as selections/<action>.parquet.
    """
    state, out, _ = _eligible(effective(store, spec), spec)
    chosen = set(selection.table["uid"].to_pylist())
    why = f"not among the {selection.size:,} rows chosen of {selection.eligible:,}"
    uids = state.rows["uid"].to_pylist()
    entries = [
        Entry(uids[i], "clear", "chosen") if uids[i] in chosen else Entry(uids[i], "reject", why)
        for i in np.flatnonzero((out == "") & ~state.person).tolist()
    ]
    note = f"selection of {selection.size:,} rows of {selection.eligible:,}"
    action = store.verdicts.append(entries, actor=f"selection:{spec.hash[:8]}", kind=KIND, note=note)
    write_table(selection.table, store.path / "selections" / f"{action}.parquet")
    return action
