"""The gate: policy verdicts over flags, and whether the set that is left may leave, with reasons."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import coverage
from .checks import CHECKS, Unit
from .engine import run_table
from .errors import CurationError
from .model import FLAGS
from .sketch import components, distinct
from .spec import CheckSettings, Spec
from .store import Decision, Entry, Store, spelled_out

#: Checks whose flags join rows into clusters of which one row is kept.
CLUSTER_CHECKS = ("dup.exact", "dup.near")
_SEVERITY = {"error": 2, "warning": 1, "info": 0}
_ACTS = ("none", "review", "fix", "drop")
NONE, REVIEW, FIX, DROP = range(4)
_TURN = re.compile(r"messages\[(\d{1,6})\]")


def unit_of(check: str) -> Unit:
    """Return the declared check of this id; a CurationError for one that a folder has flags of and nothing here declares."""
    if check not in CHECKS:
        raise CurationError(f"the folder has flags of {check!r}, a check that is not declared here",
                            "import or install what declares it (README, \"In Python\"), or run curation check again without it")
    return CHECKS[check]


def action_of(check: str, spec: Spec) -> str:
    """Return what the policy does with a flag of `check`: drop, fix, review or none."""
    settings = spec.checks.get(check)
    if isinstance(settings, CheckSettings) and settings.action is not None:
        return settings.action
    return unit_of(check).action


def acting(flags: pa.Table, spec: Spec) -> np.ndarray:
    """Return what the policy does with each flag: (n,) int8, 0 none, 1 review, 2 fix, 3 drop.

    A check may give a flag a milder severity than its own to say "look at it": such a flag is never dropped but
    repaired if it carries a repair, else left to a person. An info flag, or one below the spec's `min_score`,
    triggers nothing.
    """
    code, checks = coded(flags["check"])
    severity = _severity(flags)
    action = np.array([_ACTS.index(action_of(c, spec)) for c in checks] or [0], np.int8)[code]
    own = np.array([_SEVERITY[_own_severity(c, spec)] for c in checks] or [0], np.int8)[code]
    floor = np.array([min_score(c, spec) for c in checks] or [0.0], np.float32)[code]
    milder = (action == DROP) & (severity < own)
    repair = np.asarray(flags["fix"].is_valid())
    action[milder & repair] = FIX
    action[milder & ~repair] = REVIEW
    action[(severity == 0) | (flags["score"].to_numpy() < floor)] = NONE
    return action


def _own_severity(check: str, spec: Spec) -> str:
    settings = spec.checks.get(check)
    return (settings.severity if isinstance(settings, CheckSettings) else None) or unit_of(check).severity


def _severity(flags: pa.Table) -> np.ndarray:
    code, names = coded(flags["severity"])
    return np.array([_SEVERITY[n] for n in names] or [0], np.int8)[code]


def coded(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return (codes, names) of a column of dictionary-encoded strings without nulls, whatever its chunks."""
    array = pa.chunked_array(column.cast(pa.string())).combine_chunks().dictionary_encode()
    return array.indices.to_numpy(), array.dictionary.to_pylist()


def min_score(check: str, spec: Spec) -> float:
    """Return the score below which a flag of `check` is kept but does not count."""
    settings = spec.checks.get(check)
    return settings.min_score if isinstance(settings, CheckSettings) else 0.0


@dataclass(frozen=True)
class Effective:
    """A folder's rows as they would be exported: edits applied, their flags renewed, verdicts joined."""

    rows: pa.Table  # all rows of the version, edits applied
    flags: pa.Table  # flags of these rows; those of edited rows are computed on the edited text
    signals: pa.Table
    decisions: Mapping[str, Decision]
    rejected: np.ndarray  # (n,) bool
    accepted: np.ndarray  # (n,) bool: accepted by a person; an edit alone does not settle what is still flagged
    person: np.ndarray  # (n,) bool: a person has decided
    edited: np.ndarray  # (n,) bool

    @property
    def kept(self) -> np.ndarray:
        """Row numbers that no verdict has rejected, ascending."""
        return np.flatnonzero(~self.rejected)


def effective(store: Store, spec: Spec) -> Effective:
    """Return the state of a folder. Raises CurationError before the first check of these rows."""
    signals = store.signals()
    if signals is None:
        raise CurationError(f"{store.path}: rows {store.version} have not been checked", f"curation check {store.path}")
    rows, flags = store.rows(), store.flags()
    log = store.verdicts
    decisions, edits = log.decisions(), log.edits()
    n = rows.num_rows
    decided = list(decisions.items())
    at = _positions(rows, [uid for uid, _ in decided])
    here = at >= 0

    def mask(which: Callable[[Decision], bool]) -> np.ndarray:
        out = np.zeros(n, bool)
        out[at[here & np.fromiter((which(d) for _, d in decided), bool, len(decided))]] = True
        return out

    rejected = mask(lambda d: d.verdict == "reject")
    accepted = mask(lambda d: d.verdict == "accept" and d.kind == "person" and not d.by_edit)
    person = mask(lambda d: d.kind == "person")
    edited = np.zeros(n, bool)
    changed = {int(i): edits[uid] for uid, i in zip(edits, _positions(rows, list(edits)), strict=True) if i >= 0}
    if changed:
        edited[list(changed)] = True
        rows = apply_edits(rows, changed)
        flags, signals = _renew(rows, flags, signals, edited, spec)
    return Effective(rows, flags, signals, decisions, rejected, accepted, person, edited)


def _positions(rows: pa.Table, uids: list[str]) -> np.ndarray:
    """Return the row number of each uid, -1 for one that this version does not have."""
    found = pc.index_in(pa.array(uids, pa.string()), value_set=rows["uid"])
    return np.asarray(found.fill_null(-1))


def apply_edits(rows: pa.Table, edits: Mapping[int, Mapping[str, str]]) -> pa.Table:
    """Return the rows with the given {row: {field: text}} edits in both the views and the messages.

    A field is instruction, input or response, which also changes the last user or assistant turn, or messages[k], which
    also changes the view of that turn. Of several fields the last one given is written last. A turn that the row does
    not have is left out: the row's uid tells its content, so this is an edit of another release's making.
    """
    at = np.array(sorted(edits), np.int64)
    some = rows.take(pa.array(at))
    names = [n for n in ("system", "instruction", "input", "response", "messages") if n in some.schema.names]
    columns = {name: some[name].to_pylist() for name in names}
    for k, i in enumerate(at.tolist()):
        row = {name: columns[name][k] for name in names}
        for field, text in edits[i].items():
            _edit(row, field, text)
        for name in names:
            columns[name][k] = row[name]
    for name in names:
        index = some.schema.get_field_index(name)
        some = some.set_column(index, some.schema.field(index), pa.array(columns[name], some.schema.field(index).type))
    return _put(rows, some, at, names)


def turn_of(field: str) -> int | None:
    """Return k of the field messages[k], None for a field that is not a turn."""
    found = _TURN.fullmatch(field)
    return int(found[1]) if found else None


def _edit(row: dict[str, Any], field: str, text: str) -> None:
    """Write one field of a row, `{column: value}`, and what shows the same text."""
    k = turn_of(field)
    turns = [dict(m) for m in row["messages"]]
    if k is None:
        row[field] = text
        row["messages"] = with_views(turns, row["instruction"], row["input"], row["response"])
        return
    if k >= len(turns):
        return
    turns[k]["content"], row["messages"] = text, turns
    role = turns[k]["role"]
    if role == "system" and k == 0 and "system" in row:
        row["system"] = text
    elif role == "assistant" and k == _last(turns, role):
        row["response"] = text
    elif role == "user" and k == _last(turns, role):
        tail = f"\n{row['input']}" if row["input"] else ""
        kept = bool(tail) and text.endswith(tail) and len(text) > len(tail)
        row["instruction"], row["input"] = (text[: -len(tail)], row["input"]) if kept else (text, "")


def _last(turns: Sequence[Mapping[str, str]], role: str) -> int | None:
    return next((k for k in reversed(range(len(turns))) if turns[k]["role"] == role), None)


def _put(table: pa.Table, some: pa.Table, at: np.ndarray, names: Sequence[str]) -> pa.Table:
    """Return `table` with the columns `names` of the rows at `at` taken from `some`, in the same order."""
    index = np.arange(table.num_rows)
    index[at] = table.num_rows + np.arange(len(at))
    take = pa.array(index)
    for name in names:
        both = pa.chunked_array([*table[name].chunks, *some[name].cast(table[name].type).chunks], table[name].type)
        k = table.schema.get_field_index(name)
        table = table.set_column(k, table.schema.field(k), both.take(take))
    return table


def with_views(messages: list[dict[str, str]], instruction: str, input: str, response: str) -> list[dict[str, str]]:
    """Return the turns with the last user turn and the last assistant turn replaced by these texts."""
    turns = [dict(m) for m in messages]
    prompt = f"{instruction}\n{input}" if input else instruction
    for role, text in (("user", prompt), ("assistant", response)):
        at = _last(turns, role)
        if at is not None:
            turns[at]["content"] = text
    return turns


def _renew(rows: pa.Table, flags: pa.Table, signals: pa.Table, edited: np.ndarray, spec: Spec) -> tuple[pa.Table, pa.Table]:
    """Return flags and signals with the row-scope part of the edited rows computed anew.

    Flags of dataset-scope checks stay: whether an edit mended a duplicate is seen at the next check run.
    """
    at = np.flatnonzero(edited)
    new, fresh = run_table(rows.take(pa.array(at)), spec, scopes=("row",))
    code, checks = coded(flags["check"])
    by_row = np.array([unit_of(c).scope == "row" for c in checks] or [False], bool)[code]
    stays = ~(edited[flags["row"].to_numpy()] & by_row)
    flags = pa.concat_tables([flags.filter(pa.array(stays)), new]).unify_dictionaries().sort_by([("row", "ascending")])
    names = [c for c in signals.column_names[2:] if c in fresh.column_names]
    return flags.cast(FLAGS), _put(signals, fresh, at, names)


# ---- policy verdicts


def policy_entries(state: Effective, spec: Spec) -> list[Entry]:
    """Return the verdicts that the spec's policy gives on rows no person has decided.

    `drop` rejects, `fix` takes the flag's text, `review` and `none` decide nothing. Of a duplicate cluster the
    best row by `spec.keep` stays (by default a person's accept, then fewer flags that drop, then first), and the verdict
    on the others says which of these decided.
    """
    acts = acting(state.flags, spec)
    rows = state.flags["row"].to_numpy()
    code, checks = coded(state.flags["check"])
    joins = np.array([c in CLUSTER_CHECKS for c in checks] or [False], bool)[code]
    free = ~state.person[rows]
    drops: dict[int, Entry] = {}
    for f in _some(state.flags, (acts == DROP) & ~joins & free):
        if f["row"] not in drops or f["check"] < (drops[f["row"]].check_id or ""):
            drops[f["row"]] = Entry(f["uid"], "reject", f["message"], check_id=f["check"], score=f["score"])
    links = [(f["row"], j, f["score"], f["check"]) for f in _some(state.flags, (acts == DROP) & joins) for j in f["related"]]
    _drop_copies(state, links, ranking(state, spec), drops)
    fixes: dict[tuple[int, str], Entry] = {}
    for f in _some(state.flags, (acts == FIX) & free & np.asarray(state.flags["fix"].is_valid())):
        key = (f["row"], f["field"])
        if f["row"] not in drops and key not in fixes:
            before = state.rows[f["field"]][f["row"]].as_py()
            fixes[key] = Entry(f["uid"], "edit", f["message"], f["field"], before, f["fix"], f["check"], f["score"])
    return [e for _, e in sorted(drops.items())] + [e for _, e in sorted(fixes.items(), key=lambda kv: kv[0])]


def _some(flags: pa.Table, mask: np.ndarray) -> list[dict[str, Any]]:
    return spelled_out(flags.filter(pa.array(mask))).to_pylist()


def _drop_copies(
    state: Effective, links: Iterable[tuple[int, int, float, str]], ranking: Ranking, drops: dict[int, Entry]
) -> None:
    """Reject every member of a duplicate cluster but the best; `drops` is filled in place."""
    links = list(links)
    if not links:
        return
    best: dict[int, tuple[float, str]] = {}
    for a, b, score, check in links:
        for x in (a, b):
            best[x] = max(best.get(x, (0.0, "")), (score, check))
    root = components(np.array([x[0] for x in links]), np.array([x[1] for x in links]), state.rows.num_rows)
    clusters: dict[int, list[int]] = defaultdict(list)
    for x in sorted(best):
        clusters[int(root[x])].append(x)
    for members in clusters.values():
        keep = min(members, key=ranking.key)
        for i in members:
            if i != keep and i not in drops and not state.person[i]:
                score, check = best[i]
                how = "same content as" if check == "dup.exact" else f"near-duplicate ({score:.2f}) of"
                reason = f"{how} row {keep}, which is kept because {ranking.why(keep, i)}"
                drops[i] = Entry(state.rows["uid"][i].as_py(), "reject", reason, check_id=check, score=score)


def ranking(state: Effective, spec: Spec) -> Ranking:
    """Return the order in which the rows of a duplicate cluster are kept."""
    acts = acting(state.flags, spec)
    code, checks = coded(state.flags["check"])
    own = ~np.array([c in CLUSTER_CHECKS for c in checks] or [False], bool)[code]
    weight = np.zeros(state.rows.num_rows)
    np.add.at(weight, state.flags["row"].to_numpy()[own], np.where(acts == DROP, 100.0, _severity(state.flags))[own])
    return Ranking(state.rows, state.signals, spec, weight, state.accepted, state.rejected & state.person)


class Ranking:
    """Which row of a duplicate cluster is kept, and why: what a person rejected last, then by `spec.keep`."""

    def __init__(
        self, rows: pa.Table, signals: pa.Table, spec: Spec, weight: np.ndarray, accepted: np.ndarray, refused: np.ndarray
    ) -> None:
        """`weight`: of each row's flags; `accepted`, `refused`: by a person. Raises CurationError for an absent signal."""
        self.rows, self.keep = rows, spec.keep
        self.known = {"verdict": np.where(accepted, 0.0, 1.0), "flags": weight, "refused": refused.astype(float)}
        self.known["first"] = np.arange(rows.num_rows, dtype=float)
        for rule in spec.keep:
            way, _, name = rule.partition(" ")
            if name:
                if name not in signals.column_names:
                    raise CurationError(
                        f"keep: {rule!r}: this folder has no signal {name}",
                        f"signals here: {', '.join(signals.column_names[2:])}",
                    )
                value = np.asarray(pc.fill_null(signals[name].cast(pa.float64()), np.nan))
                # A row without a value comes after those that have one.
                self.known[rule] = np.where(np.isnan(value), np.inf, -value if way == "most" else value)

    def key(self, i: int) -> tuple[float, ...]:
        """Return the sort key of a row: the smallest of a cluster is kept."""
        return (self._value("refused", i), *(self._value(rule, i) for rule in self.keep), float(i))

    def _value(self, rule: str, i: int) -> float:
        if rule not in ("longest", "shortest"):
            return float(self.known[rule][i])
        size = len(self.rows["response"][i].as_py() or "")
        return float(-size if rule == "longest" else size)

    def why(self, kept: int, other: int) -> str:
        """Return what made `kept` come before `other`, to be read after "because"."""
        rule = next((r for r in ("refused", *self.keep) if self._value(r, kept) != self._value(r, other)), "first")
        way, _, name = rule.partition(" ")
        if name:
            have, has = (abs(self._value(rule, i)) for i in (kept, other))
            return f"it has {way} {name} ({have:.4g}" + (f" against {has:.4g})" if np.isfinite(has) else ", this row has none)")
        return {
            "refused": "a person rejected this row",
            "verdict": "a person accepted it",
            "flags": "it has fewer flags",
            "longest": "its response is longer",
            "shortest": "its response is shorter",
            "first": "it comes first",
        }[rule]


def apply_policy(store: Store, spec: Spec) -> dict[str, int]:
    """Write the policy's verdicts as one undoable action and return {check: rows decided}.

    A second call on the same state writes nothing.
    """
    state = effective(store, spec)
    entries = [e for e in policy_entries(state, spec) if not _stands(e, state)]
    if entries:
        store.verdicts.append(
            entries, actor=f"policy:{spec.hash[:8]}", kind="policy", note=f"spec policy on rows {store.version}"
        )
    counts: dict[str, int] = defaultdict(int)
    for e in entries:
        counts[e.check_id or ""] += 1
    return dict(sorted(counts.items()))


def _stands(entry: Entry, state: Effective) -> bool:
    """Whether an equal policy verdict already holds."""
    old = state.decisions.get(entry.uid)
    return (
        entry.verdict == "reject"
        and old is not None
        and old.verdict == "reject"
        and old.check_id == entry.check_id
        and old.kind == "policy"
    )


# ---- the verdict of the gate


@dataclass(frozen=True)
class GateLine:
    rule: str
    have: float
    want: str
    met: bool
    message: str


@dataclass(frozen=True)
class GateResult:
    passed: bool
    lines: tuple[GateLine, ...]
    rows: int  # rows in the folder
    kept: int  # rows that would be exported
    rejected: dict[str, int]  # by check, or by actor kind
    open_flags: dict[str, int]  # rows with an undecided flag, by check
    coverage: tuple[coverage.Line, ...]

    @property
    def reasons(self) -> list[str]:
        """Why it failed: the message of every rule not met."""
        return [line.message for line in self.lines if not line.met]

    @property
    def sentence(self) -> str:
        head = f"Gate {'passed' if self.passed else 'failed'}: {self.kept:,} of {self.rows:,} rows would be exported"
        return head + ("." if self.passed else f"; {len(self.reasons)} of {len(self.lines)} rules are not met.")

    def as_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "rows": self.rows,
            "kept": self.kept,
            "rejected": self.rejected,
            "open_flags": self.open_flags,
            "reasons": self.reasons,
            "lines": [vars(x) for x in self.lines],
            "coverage": [x.as_dict() for x in self.coverage],
        }


def evaluate(store: Store, spec: Spec, state: Effective | None = None) -> GateResult:
    """Return whether the set may leave, rule by rule."""
    state = state or effective(store, spec)
    kept = ~state.rejected
    n = int(kept.sum())
    found = open_flags(state, spec)
    severities, counts = _rows_by(found, "severity"), _rows_by(found, "check")
    policy = spec.gate
    lines = [
        _rate("max_error_rate", severities.get("error", 0), n, policy.max_error_rate, "an open error flag"),
        _rate("max_warning_rate", severities.get("warning", 0), n, policy.max_warning_rate, "an open warning flag"),
        GateLine(
            "min_rows",
            n,
            f">= {policy.min_rows:,}",
            n >= policy.min_rows,
            f"{n:,} rows are left, the spec wants at least {policy.min_rows:,}",
        ),
    ]
    persons = int(state.person.sum())
    if policy.min_reviewed:
        lines.append(
            GateLine(
                "min_reviewed",
                persons,
                f">= {policy.min_reviewed:,}",
                persons >= policy.min_reviewed,
                f"persons have decided {persons:,} rows, the spec wants {policy.min_reviewed:,}",
            )
        )
    cover = coverage.lines(state.signals.filter(pa.array(kept)), spec)
    if policy.coverage:
        lines += [
            GateLine(f"coverage:{c.kind}:{c.id}", c.have, _bounds(c), c.met, c.message)
            for c in cover
            if c.least is not None or c.most is not None
        ]
    rejected: dict[str, int] = defaultdict(int)
    for uid in state.rows["uid"].filter(pa.array(state.rejected)).to_pylist():
        d = state.decisions[uid]
        rejected[d.check_id or d.kind] += 1
    return GateResult(
        all(x.met for x in lines),
        tuple(lines),
        state.rows.num_rows,
        n,
        dict(sorted(rejected.items())),
        dict(sorted(counts.items())),
        tuple(cover),
    )


def _rows_by(flags: pa.Table, column: str) -> dict[str, int]:
    """Return {value of a column: rows that have such a flag}."""
    rows = flags["row"].to_numpy()
    code, names = coded(flags[column])
    return {name: len(distinct(rows[code == k])) for k, name in enumerate(names)}


def open_flags(state: Effective, spec: Spec) -> pa.Table:
    """Return the flags that still ask for a decision: on rows neither rejected nor accepted, that the policy acts on.

    A flag of a duplicate whose other rows are all rejected is no longer open.
    """
    flags = state.flags
    rows = flags["row"].to_numpy()
    mask = (acting(flags, spec) != NONE) & ~state.rejected[rows] & ~state.accepted[rows]
    code, checks = coded(flags["check"])
    dup = np.array([c.startswith("dup.") for c in checks] or [False], bool)[code]
    size = np.asarray(pc.fill_null(pc.list_value_length(flags["related"]), 0))
    left = np.concatenate([[0], np.cumsum(~state.rejected[np.asarray(pc.list_flatten(flags["related"]))])])
    end = np.cumsum(size)
    settled = dup & (size > 0) & (left[end] == left[end - size])
    return flags.filter(pa.array(mask & ~settled))


def _rate(rule: str, bad: int, n: int, limit: float, what: str) -> GateLine:
    rate = bad / n if n else 0.0
    return GateLine(
        rule,
        rate,
        f"<= {limit:.2%}",
        rate <= limit,
        f"{bad:,} of {n:,} rows ({rate:.2%}) have {what}, the spec allows {limit:.2%}",
    )


def _bounds(line: coverage.Line) -> str:
    low = "" if line.least is None else f">= {line.least:,}"
    high = "" if line.most is None else f"<= {line.most:,}"
    return " and ".join(x for x in (low, high) if x)
